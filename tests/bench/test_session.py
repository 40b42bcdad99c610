"""Differences of outputs, the sum of a comparison's parts, and figures of calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecc import api
from edgecc.bench.layers import kernels_of, layers_of
from edgecc.bench.session import PROFILED, Request, compare, largest_difference
from edgecc.bench.worker import Job
from edgecc.errors import EXIT_USAGE, EdgeccError
from edgecc.kernels.kernel import Kernel
from edgecc.loop.ir import Function
from edgecc.lowering.report import CallReport
from edgecc.ops.work import graph_multiply_adds
from edgecc.targets.schema import load_target

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"
OPTIONS = api.Options(shapes={"batch": (1,)})


def request(**changes: object) -> Request:
    values = {"model": DIGITS, "target": load_target("host"), "options": OPTIONS, "rounds": 1, "turn_seconds": 0.01,
              "limit_seconds": 0.0, **changes}
    return Request(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(("got", "want", "difference"), [
    ([1.0, -4.0], [1.0, -4.0], 0.0),
    ([1.0, -3.0], [1.0, -4.0], 0.25),
    ([[1.0], [-4.0]], [1.0, -4.0], 0.0),
    ([1.0], [1.0, 2.0], np.inf),
    ([np.nan, 1.0], [np.nan, 1.0], 0.0),
    ([np.nan, 1.0], [0.5, 1.0], np.inf),
    ([np.inf, 1.0], [np.inf, 1.0], 0.0),
    ([1e-9], [0.0], np.inf),
    ([], [], 0.0),
])
def test_largest_difference(got: list[float], want: list[float], difference: float):
    assert largest_difference([np.zeros(1), np.array(got)], [np.zeros(1), np.array(want)]) == difference


def test_a_comparison():
    pytest.importorskip("onnxruntime")
    found = compare(request(peers=("onnxruntime",), per_layer=True))
    assert [row.engine for row in found.rows] == ["edgecc", PROFILED, "onnxruntime"]
    for row in found.rows:
        assert not row.error and not row.wrong and row.difference < 1e-5
        assert 0 < row.minimum <= row.median and row.runs >= 2 and row.turns == 1
    done = api.compile_model(DIGITS, load_target("host"), OPTIONS)
    assert found.multiply_adds == graph_multiply_adds(done.graph)
    calls = done.compiled.lowered.calls
    assert [(layer.op, layer.kernel, layer.nodes) for layer in found.layers] == [(c.op, c.function, c.loc) for c in calls]
    assert sum(layer.multiply_adds for layer in found.layers) == found.multiply_adds
    assert sum(layer.share for layer in found.layers) == pytest.approx(1.0)
    assert found.machine.peak_flops > 1e8 and found.machine.cores >= 1


def test_products_of_the_other_do_not_saturate(tmp_path: Path):
    """Two products of 255 * 127 are more than 16 bits hold, where onnxruntime sums them without VNNI."""
    pytest.importorskip("onnxruntime")
    from edgecc.bench.engines.onnxruntime import open_engine

    graph = helper.make_graph([helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "g", [helper.make_tensor_value_info("a", TensorProto.UINT8, [4, 8])],
                              [helper.make_tensor_value_info("y", TensorProto.INT32, [4, 6])], [numpy_helper.from_array(np.full((8, 6), 127, np.int8), "b")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "product.onnx")
    engine = open_engine(Job(tmp_path / "product.onnx", ["a"], [np.full((4, 8), 255, np.uint8)], ["y"], 1, tmp_path))
    engine.run()
    np.testing.assert_array_equal(engine.outputs()[0], np.full((4, 6), 8 * 255 * 127, np.int32))


def test_networks_on_integers_are_compared_with_their_integers(tmp_path: Path):
    """Half of these products lie at ties, which every engine decides by the roundings of its own floats."""
    pytest.importorskip("onnxruntime")
    constants = [numpy_helper.from_array(np.array(value, dtype), name) for name, value, dtype in (
        ("fine", 0.1, np.float32), ("coarse", 0.02, np.float32), ("zero", 0, np.int8))]
    nodes = [helper.make_node(op, inputs, [output]) for op, inputs, output in (
        ("QuantizeLinear", ["a", "fine", "zero"], "qa"), ("DequantizeLinear", ["qa", "fine", "zero"], "da"),
        ("QuantizeLinear", ["b", "fine", "zero"], "qb"), ("DequantizeLinear", ["qb", "fine", "zero"], "db"),
        ("Mul", ["da", "db"], "ab"), ("QuantizeLinear", ["ab", "coarse", "zero"], "qy"), ("DequantizeLinear", ["qy", "coarse", "zero"], "y"))]
    a, b, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4096]) for name in "aby")
    model = helper.make_model(helper.make_graph(nodes, "g", [a, b], [y], constants), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "products.onnx")
    own, other = compare(request(model=tmp_path / "products.onnx", options=api.Options(), peers=("onnxruntime",), tolerance=0.0)).rows
    assert own.difference == 0.0 and not own.wrong
    assert not other.wrong  # whatever it came to


def test_a_folder_is_compared_with_itself(tmp_path: Path):
    folder = api.compile(DIGITS, output=tmp_path / "digits", shapes={"batch": (1,)}, threads=2)
    found = compare(request(model=tmp_path / "digits"))
    assert folder.name == "digits" and found.threads == 2 and found.multiply_adds is None
    assert found.expected_from == "edgecc" and found.rows[0].difference == 0.0


@pytest.mark.parametrize("changes", [
    {"target": load_target("cortex-a76")}, {"peers": ("other",)}, {"model": ROOT, "per_layer": True},
    {"model": ROOT, "peers": ("onnxruntime",)},
])
def test_what_cannot_be_measured_is_refused(changes: dict[str, object]):
    with pytest.raises(EdgeccError) as error:
        compare(request(**changes))
    assert error.value.exit_status == EXIT_USAGE and error.value.hint


def test_a_folder_for_another_machine_is_refused(tmp_path: Path):
    api.compile(DIGITS, "cortex-a76", tmp_path / "digits", shapes={"batch": (1,)})
    with pytest.raises(EdgeccError, match="an emulator's time says nothing"):
        compare(request(model=tmp_path / "digits"))


def test_kernels_sum_up_their_calls():
    kernel = Kernel(Function("f", (), ()), ())
    calls = [CallReport(name, (), "conv", function, "", work, 64, 32, 1, kernel)
             for name, function, work in (("a", "f", 100), ("b", "g", 7), ("c", "f", 100))]
    layers = layers_of(calls, [1.0, 6.0, 3.0], [2.0, 7.0, 4.0])
    assert [(layer.nodes, layer.share, layer.flops, layer.bytes_moved) for layer in layers] == [
        (("a",), 0.1, 200.0, 96), (("b",), 0.6, 14 / 6, 96), (("c",), 0.3, 200 / 3, 96)]
    assert [(k.kernel, k.calls, k.seconds, k.multiply_adds) for k in kernels_of(layers)] == [("g", 1, 6.0, 7), ("f", 2, 4.0, 200)]
