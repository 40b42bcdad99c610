"""Resize where the run decides on sizes or factors: agrees with onnxruntime at all corners."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.frontend.bind import Range
from edgecc.frontend.limits import Limits
from edgecc.reference.executor import execute
from tests.frontend.test_open_dims import agrees
from tests.support.onnx_models import model

N, M = {"n": (Range(2, 9),)}, {"m": (Range(1, 6),)}
TO_SIZES = [("Resize", "x   sizes", "y")]
LIKE = [("Shape", "like", "sizes", {}), ("Resize", "x   sizes", "y")]


def with_attributes(nodes, attributes):
    return [*nodes[:-1], (*nodes[-1], attributes)]


def same(proto, graph, cases):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for inputs in cases:
        np.testing.assert_allclose(execute(graph, inputs)["y"], session.run(None, inputs)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attributes", [
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"mode": "nearest"},
    {"mode": "nearest", "nearest_mode": "ceil", "coordinate_transformation_mode": "pytorch_half_pixel"},
    {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
    {"mode": "linear"},
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    {"mode": "cubic", "coordinate_transformation_mode": "pytorch_half_pixel"},
    {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5},
], ids=lambda a: "-".join(map(str, a.values())))
def test_modes(attributes):
    agrees(model(with_attributes(TO_SIZES, attributes), {"x": [1, 2, "n", 3]}, constants={"sizes": np.array([1, 2, 5, 7])}), N)
    agrees(model(with_attributes(LIKE, attributes), {"x": [1, 1, 4, "m"], "like": [1, 1, "n", 5]}), N | M)


def test_a_product_of_size_and_factor_is_rounded_to_f32():
    resize = model([("Resize", "x  scales", "y", {})], {"x": [10]}, constants={"scales": np.array([0.7], np.float32)})
    assert import_model(resize).outputs[0].type.shape == (7,)


def test_factors_and_sizes_of_the_run():
    data = np.arange(20, dtype=np.float32).reshape(1, 1, 4, 5)
    by_factors = model([("Resize", "x  scales", "y", {"mode": "linear"})], {"x": [1, 1, 4, 5], "scales": [4]})
    sizes = model([("Cast", "wanted", "sizes", {"to": 7}), ("Resize", "x   sizes", "y", {"mode": "cubic"})], {"x": [1, 1, 4, 5], "wanted": [4]})
    for proto, name, cases in ((by_factors, "scales", ([1, 1, 0.5, 2], [1, 1, 1, 1.7])), (sizes, "wanted", ([1, 1, 9, 3], [1, 1, 1, 8]))):
        with pytest.raises(EdgeccError, match="nothing says how large"):
            import_model(proto)
        same(proto, import_model(proto, limits=Limits(computed_size=12)), [{"x": data, name: np.array(case, np.float32)} for case in cases])


def test_factors_that_are_not_whole():
    proto = model([("Resize", "x  scales", "y", {"mode": "linear"})], {"x": [1, 1, "n", 5]}, constants={"scales": np.float32([1, 1, 0.7, 1.3])})
    graph = import_model(proto, shapes={"n": (Range(2, 10),)})
    same(proto, graph, [{"x": np.arange(size * 5, dtype=np.float32).reshape(1, 1, size, 5)} for size in (2, 3, 10)])
    assert graph.outputs[0].type.max_dims == (1, 1, 7, 6)


@pytest.mark.parametrize(("attributes", "message"), [
    ({"mode": "linear", "antialias": 1}, "with antialias"),
    ({"mode": "linear", "keep_aspect_ratio_policy": "not_larger"}, "keeps the aspect"),
])
def test_what_needs_the_sizes_is_refused(attributes, message):
    proto = model(with_attributes(TO_SIZES, attributes), {"x": [1, 2, "n", 3]}, constants={"sizes": np.array([1, 2, 5, 7])})
    with pytest.raises(EdgeccError, match=message) as raised:
        import_model(proto, shapes=N)
    assert raised.value.code == "E104"
