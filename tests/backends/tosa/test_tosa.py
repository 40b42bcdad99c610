"""TOSA: every example of operators in the reference model, and integers bit for bit as LiteRT has them."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc import api
from edgecc.backends.discovery import create_backend
from edgecc.backends.ethosu.vela import run_vela
from edgecc.backends.testing import BackendTests
from edgecc.backends.tflite.backend import trace_model
from edgecc.backends.tflite.convert import convert
from edgecc.backends.tosa.rescale import multiplier_of
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.ir.graph import Graph
from edgecc.ir.types import DType, TensorType
from edgecc.pipeline import prepare_graph
from edgecc.targets.schema import load_target
from tests.support.assets import asset
from tests.support.quantized_models import Quantized, small_network

pytest.importorskip("tosa_serializer")
pytest.importorskip("tosa_reference_model")


class TestTosa(BackendTests):
    backend = "tosa"
    target = "generic-c"
    batch = 200
    least = 60


def differing(model, inputs):
    """How many integers inside of a network are not those of LiteRT's reference kernels, of how many."""
    pytest.importorskip("ai_edge_litert")
    made, target = create_backend("tosa"), load_target("generic-c")
    graph = prepare_graph(import_model(model), target, made).graph
    artifact = made.emit(graph, "net", target, "tosa")
    got = made.trace(graph, artifact, inputs).integers
    want = trace_model(convert(graph, integer_interface=True, images_last=True, products_as_convolutions=True), artifact, inputs).integers
    assert set(got) == set(want)
    return sum(int(np.count_nonzero(got[value] != array)) for value, array in want.items()), sum(array.size for array in want.values())


@pytest.mark.parametrize("codes", [np.int8, np.uint8])
def test_integers_are_those_of_litert(codes):
    x = np.random.default_rng(0).uniform(-2.5, 2.5, (1, 3, 17, 20)).astype(np.float32)
    count, total = differing(small_network(0, codes), {"x": x})
    assert count == 0 and total > 9000


def test_keywords_are_those_of_litert():
    with np.load(asset("fixtures/kws_dscnn_int8_qdq.in.npz")) as stored:
        count, total = differing(asset("models/kws_dscnn_int8_qdq.onnx"), dict(stored))
    assert count == 0 and total > 70000


def test_verify_compares_layer_by_layer():
    outcome = api.verify(small_network(1, np.int8), target="generic-c", backend="tosa")
    assert outcome.ok and outcome.layers is not None and outcome.layers.steps <= 1 and outcome.layers.layers > 8


def test_windows_that_end_before_the_image_does():
    net = Quantized(5)
    x = net.quantize("x", 0.05, 0)
    w, s = net.weights(4, 4, 3, 3)
    y = net.node("Conv", x, w, net.bias(4, s, 0.05), strides=[3, 2], pads=[1, 0, 0, 1])
    count, total = differing(net.model(net.quantize(y, 0.4, -3), (1, 4, 10, 12)), {"x": np.random.default_rng(0).normal(0, 2, (1, 4, 10, 12)).astype(np.float32)})
    assert count == 0 and total == 4 * 3 * 6 + 480


@pytest.mark.parametrize(("kernel", "attributes"), [
    (4, {"strides": [2, 2], "pads": [1, 1, 1, 1]}), (3, {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}), (2, {"strides": [2, 2]}),
    (3, {"strides": [1, 3], "pads": [2, 0, 0, 0]})])
def test_transposed_convolutions(kernel, attributes):
    net = Quantized(5)
    w, s = net.weights(4, 6, kernel, kernel, axis=1)
    y = net.node("Relu", net.node("ConvTranspose", net.quantize("x", 0.05, 3), w, net.bias(6, s, 0.05), **attributes))
    model = net.model(net.quantize(y, 0.2, -100), (1, 4, 5, 7))
    count, total = differing(model, {"x": np.random.default_rng(0).normal(0, 2, (1, 4, 5, 7)).astype(np.float32)})
    assert count == 0 and total > 400


def test_groups_steps_and_products_are_those_of_litert():
    net = Quantized(6)
    w, s = net.weights(6, 2, 3, 3)
    y = net.quantize(net.node("Conv", net.quantize("x", 0.05, 3), w, net.bias(6, s, 0.05), group=2, pads=[1, 1, 1, 1]), 0.2, -7)
    y = net.node("Slice", y, *(net.store(np.array(v, np.int64)) for v in ([8, 1], [-10, 10], [2, 3], [-2, 3])))
    one = net.quantize(net.node("Slice", y, *(net.store(np.array([v], np.int64)) for v in (0, 1, 1))), 0.2, -7)
    y = net.quantize(net.node("MatMul", y, net.quantize(net.node("Transpose", one, perm=[0, 1, 3, 2]), 0.2, -7)), 40.0, 5)
    count, total = differing(net.model(y, (1, 4, 9, 10)), {"x": np.random.default_rng(0).normal(0, 2, (1, 4, 9, 10)).astype(np.float32)})
    assert count == 0 and total > 1000


@pytest.mark.parametrize("attributes", [{"mode": "linear"}, {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
                                        {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}])
def test_resizes_that_interpolate(attributes):
    net = Quantized(2)
    y = net.node("Resize", net.quantize("x", 0.05, 3), "", "", net.store(np.array([1, 4, 20, 13], np.int64)), **attributes)
    outcome = api.verify(net.model(net.quantize(y, 0.05, 3), (1, 4, 9, 10)), "generic-c", backend="tosa")
    assert outcome.ok and outcome.layers is not None and outcome.layers.layers == 2


@pytest.mark.parametrize(("op", "axis", "keepdims"), [("ArgMax", 1, 0), ("ArgMin", 3, 1)])
def test_positions_of_extrema(op, axis, keepdims):
    net = Quantized(2)
    model = net.model(net.node(op, net.quantize("x", 0.05, 3), axis=axis, keepdims=keepdims), (1, 4, 9, 10))
    made, target = create_backend("tosa"), load_target("generic-c")
    artifact = api.export_model(model, target, api.Options(), made, "tosa").artifact
    (port,) = artifact.manifest.outputs
    assert artifact.manifest.report["outputs"][port.name]["type"] == "int32"
    x = np.random.default_rng(0).normal(0, 8, (1, 4, 9, 10)).astype(np.float32)  # some are limited to the first and the last integer
    x[..., :2] = -6.5, -20.0  # -127, whose negative is that of -128 where it is limited, and -128
    codes = np.clip(np.rint(x / np.float32(0.05)) + 3, -128, 127)
    (got,) = made.run(artifact, {"x": x}).values()
    want = (np.argmax if op == "ArgMax" else np.argmin)(codes, axis)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, np.expand_dims(want, axis) if keepdims else want)


def test_normalizations_and_functions_in_floats():
    net = Quantized(2)
    numbers = (net.store(net.random.uniform(0.5, 2, 10).astype(np.float32)) for _ in range(2))
    y = net.quantize(net.node("LayerNormalization", net.quantize("x", 0.05, 3), *numbers), 0.03, 5)
    y = net.quantize(net.node("Erf", net.node("Div", y, net.store(np.float32(1.414)))), 1 / 128, 0)
    outcome = api.verify(net.model(net.quantize(net.node("Sqrt", net.node("Abs", y)), 1 / 200, -100), (1, 4, 9, 10)), "generic-c", backend="tosa")
    assert outcome.ok and outcome.layers is not None and outcome.layers.layers == 4


def test_vela_leaves_nothing_for_the_cpu():
    pytest.importorskip("ethosu")
    made, target = create_backend("tosa"), load_target("ethos-u55-128")
    artifact = api.export_model(small_network(0, np.int8), target, api.Options(), made, "tosa").artifact
    compiled = run_vela(artifact.files[artifact.manifest.main], "ethos-u55-128", system="Ethos_U55_High_End_Embedded", memory="Shared_Sram",
                        optimise="Performance", suffix="tosa")
    assert compiled.npu_operators == 1 and compiled.cpu_operators == ()


@pytest.mark.parametrize("scale", [1.0, 0.5, 1e-3, 0.999999999, 3.7, 1e-12, 2.0**-40])
def test_multipliers_are_near_the_scale(scale):
    multiplier, shift = multiplier_of(scale)
    assert 0 <= multiplier < 1 << 31 and 2 <= shift <= 62
    assert multiplier / 2.0**shift == pytest.approx(scale, rel=2.0**-30, abs=2.0**-62)


def test_softmax_is_as_precise_as_that_of_litert():
    scale, random = 0.0634, np.random.default_rng(0)
    net = Quantized(0)
    model = net.model(net.quantize(net.node("Softmax", net.quantize("x", scale, -53), axis=1), 1 / 256, -128), (60, 1001))
    x = random.normal(0, random.uniform(1, 40, (60, 1)), (60, 1001)) * scale
    x[:, 0] = random.uniform(90, 110, 60) * scale
    x[:, 1] = x[:, 0] - random.uniform(0, 60, 60) * scale
    count, total = differing(model, {"x": x.astype(np.float32)})
    assert count == 0 and total > 120000


def test_functions_that_tosa_has_no_operator_for_are_tables():
    pytest.importorskip("ethosu")
    net = Quantized(2)
    y = net.quantize("x", 0.05, -3)
    for function, *operands in (("LeakyRelu",), ("Clip", -1.0, 2.0), ("Neg",), ("HardSigmoid",), ("Sub", 0.3)):
        y = net.quantize(net.node(function, y, *(net.store(np.float32(number)) for number in operands)), 0.017, -60)
    model = net.model(y, (1, 4, 9, 10))
    outcome = api.verify(model, "generic-c", backend="tosa")
    assert outcome.ok and outcome.layers is not None and (outcome.layers.layers, outcome.layers.share) == (6, 0)
    artifact = api.export_model(model, load_target("ethos-u55-128"), api.Options(), create_backend("tosa"), "tosa").artifact
    assert artifact.manifest.report["operators"] == {"TABLE": 5}
    compiled = run_vela(artifact.files[artifact.manifest.main], "ethos-u55-128", system="Ethos_U55_High_End_Embedded", memory="Shared_Sram",
                        optimise="Performance", suffix="tosa")
    assert compiled.npu_operators == 1 and compiled.cpu_operators == ()


def test_floats_between_quantized_layers():
    net = Quantized(2)
    y = net.node("Exp", net.node("LeakyRelu", net.quantize(net.node("Relu", net.quantize("x", 0.05, -3)), 0.04, 5)))
    assert api.verify(net.model(net.quantize(y, 0.041, -60), (1, 4, 9, 10)), "generic-c", backend="tosa").ok


def test_options_are_checked():
    with pytest.raises(EdgeccError) as raised:
        create_backend("tosa{images=sideways}")
    assert raised.value.code == "E009"


def test_an_output_of_a_type_that_tosa_lacks_is_refused():
    """A constant that no node reads, which nothing but the border of the file looks at."""
    graph = Graph("net")
    graph.add_input(TensorType(DType.F32, (4,)), "x")
    graph.set_outputs([graph.constant(np.zeros(4, np.int64), "c")], ["y"])
    with pytest.raises(EdgeccError) as caught:
        create_backend("tosa").emit(graph, "net", load_target("generic-c"), "tosa")
    assert caught.value.code == "E114" and "int64" in caught.value.message
