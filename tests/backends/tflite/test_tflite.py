"""TFLite models: under the kit of back ends, and quantized ones in LiteRT's reference kernels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx
import pytest

from edgecc import api
from edgecc.backends.discovery import create_backend
from edgecc.backends.testing import BackendTests
from edgecc.backends.tflite import functions
from edgecc.backends.tflite.backend import TfliteBackend
from edgecc.backends.tflite.windows import Padding, choose_padding
from edgecc.errors import EdgeccError
from edgecc.ir.scalar import Apply, Arg, Convert, Literal
from edgecc.ir.types import DType
from edgecc.ops.elementwise_table import ELEMENTWISE
from edgecc.ops.requantize import as_quantized
from edgecc.targets.schema import load_target
from tests.support.onnxruntime_sessions import run
from tests.support.quantized_models import Quantized, product, small_network

pytest.importorskip("ai_edge_litert")

DIGITS = ("examples/digits/digits.onnx", {"image": (2, 1, 8, 8)})


class TestTflite(BackendTests):
    backend = "tflite"
    batch = 200
    least = 70
    models = (DIGITS,)


def written(model: onnx.ModelProto, backend: str = "tflite"):
    made = create_backend(backend)
    assert made.takes == "graph"
    done = api.export_model(model, load_target("generic-c"), api.Options(), made, "tflite")
    return made, api.finish(done, "tflite")


def convolution(net: Quantized, x: str, kernel: tuple[int, ...], **attributes: object) -> str:
    w, s = net.weights(*kernel)
    return net.node("Conv", x, w, net.bias(kernel[0], s, 0.05), **attributes)


def transposed(net: Quantized, x: str, kernel: tuple[int, ...], **attributes: object) -> str:
    w, s = net.weights(*kernel, axis=None if "group" in attributes else 1)
    return net.node("ConvTranspose", x, w, net.bias(kernel[1] * attributes.get("group", 1), s, 0.05), **attributes)


def normalized(net: Quantized, x: str, channels: int) -> str:
    stored = (net.store(net.random.uniform(low, high, channels).astype(np.float32)) for low, high in ((-2, 2), (-1, 1), (-3, 3), (0.5, 4)))
    return net.node("BatchNormalization", x, *stored)


LAYERS = {
    "conv": lambda net, x: (convolution(net, x, (7, 4, 3, 3), pads=[1, 1, 1, 1]), 0.5),
    "conv, uneven padding": lambda net, x: (convolution(net, x, (7, 4, 3, 3), pads=[2, 0, 1, 1], strides=[2, 3]), 0.5),
    "conv, dilations": lambda net, x: (convolution(net, x, (7, 4, 3, 3), dilations=[2, 2]), 0.5),
    "groups": lambda net, x: (convolution(net, x, (6, 2, 1, 1), group=2), 0.2),
    "depthwise": lambda net, x: (convolution(net, x, (4, 1, 5, 5), group=4, pads=[2, 2, 2, 2]), 0.2),
    "depthwise, two results a channel": lambda net, x: (convolution(net, x, (8, 1, 3, 3), group=4), 0.2),
    "average pool": lambda net, x: (net.node("AveragePool", x, kernel_shape=[3, 2], strides=[2, 1]), 0.05),
    "max pool": lambda net, x: (net.node("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]), 0.05),
    "mean": lambda net, x: (net.node("GlobalAveragePool", x), 0.02),
    "sub": lambda net, x: (net.node("Sub", x, net.quantize("x", 0.03, 7)), 0.06),
    "mul": lambda net, x: (net.node("Mul", x, net.quantize("x", 0.03, 7)), 0.3),
    "sigmoid": lambda net, x: (net.node("Sigmoid", x), 1 / 200),
    "tanh": lambda net, x: (net.node("Tanh", x), 1 / 128),
    "relu": lambda net, x: (net.node("Relu", x), 0.03),
    "softmax": lambda net, x: (net.node("Softmax", x, axis=1), 1 / 256),
    "resize": lambda net, x: (net.node("Resize", x, "", net.store(np.array([1, 1, 2, 2], np.float32)), mode="nearest",
                                       coordinate_transformation_mode="asymmetric", nearest_mode="floor"), 0.05),
    "slice": lambda net, x: (net.node("Slice", x, *(net.store(np.array(v, np.int64)) for v in ([8, 1], [-9, 9], [2, 1], [-2, 3]))), 0.05),
    "gather": lambda net, x: (net.node("Gather", x, net.store(np.array([3, 0, 1, -2, 2], np.int64)), axis=1), 0.05),
    "gather of neighbours": lambda net, x: (net.node("Gather", x, net.store(np.array([4, 5, 6], np.int64)), axis=3), 0.05),
    "gather of one": lambda net, x: (net.node("Gather", x, net.store(np.array(-1, np.int64)), axis=2), 0.05),
    "pad": lambda net, x: (net.node("Pad", x, net.store(np.array([0, 0, 1, 2, 0, 0, 3, 0], np.int64))), 0.05),
    "transpose": lambda net, x: (net.node("Transpose", x, perm=[0, 2, 1, 3]), 0.05),
    "transposed conv": lambda net, x: (transposed(net, x, (4, 6, 4, 4), strides=[2, 2], pads=[1, 1, 1, 1]), 0.5),
    "transposed conv, a slice": lambda net, x: (transposed(net, x, (4, 6, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]), 0.5),
    "transposed conv, relu": lambda net, x: (net.node("Relu", transposed(net, x, (4, 6, 2, 2), strides=[2, 2])), 0.5),
    "average pool over padding": lambda net, x: (net.node("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1), 0.05),
    "leaky relu": lambda net, x: (net.node("LeakyRelu", x, alpha=0.2), 0.0413),
    "prelu": lambda net, x: (net.node("PRelu", x, net.weights(4, 1, 1, axis=None)[0]), 0.05),
    "swish": lambda net, x: (net.node("Mul", x, net.quantize(net.node("Sigmoid", x), 1 / 256, -128)), 0.05),
    "hard sigmoid": lambda net, x: (net.node("HardSigmoid", x, alpha=1 / 6), 1 / 256),
    "keras hard sigmoid": lambda net, x: (net.node("HardSigmoid", x), 1 / 256),
    "clip": lambda net, x: (net.node("Clip", x, net.store(np.float32(-1.3)), net.store(np.float32(2.2))), 0.02),
    "clip to 1": lambda net, x: (net.node("Clip", x, net.store(np.float32(-1)), net.store(np.float32(1))), 0.02),
    "exp": lambda net, x: (net.node("Exp", x), 2.5),
    "abs": lambda net, x: (net.node("Abs", x), 0.0613),
    "neg": lambda net, x: (net.node("Neg", x), 0.0613),
    "times a number": lambda net, x: (net.node("Mul", x, net.store(np.float32(0.37))), 0.03),
    "over a number": lambda net, x: (net.node("Div", x, net.store(np.float32(3))), 0.03),
    "a number less": lambda net, x: (net.node("Sub", net.store(np.float32(1)), x), 0.0613),
    "plus constants": lambda net, x: (net.node("Add", x, net.weights(4, 1, 1, axis=None)[0]), 0.06),
    "plus constants that have a zero point": lambda net, x: (net.node("Add", x, net.constant((4, 1, 1), 0.023, 40)), 0.0613),
    "times a quantized number": lambda net, x: (net.node("Mul", x, net.constant((), 0.03, -100)), 0.1),
    "concat of other scales": lambda net, x: (net.node("Concat", x, net.quantize(net.node("Relu", x), 0.031, -90), net.quantize("x", 0.03, 7),
                                                       net.weights(1, 2, 9, 10, axis=None)[0], axis=1), 0.05),
    "product of columns": lambda net, x: (net.node("MatMul", net.node("Transpose", x, perm=[0, 1, 3, 2]), net.weights(9, 5, axis=1)[0]), 0.4),
    "product": lambda net, x: (net.node("MatMul", x, net.weights(10, 5, axis=1)[0]), 0.4),
    "product of two results": lambda net, x: (net.node("MatMul", x, net.quantize(net.node("Transpose", x, perm=[0, 1, 3, 2]), 0.05, -3)), 1.0),
    "product of batches that broadcast": lambda net, x: (net.node("MatMul", x, net.quantize(net.node("Reshape", net.node("Slice", x, *(
        net.store(np.array([v], np.int64)) for v in (0, 1, 1))), net.store(np.array([10, 9], np.int64))), 0.05, -3)), 1.0),
    "transposed conv, groups": lambda net, x: (transposed(net, x, (4, 3, 5, 4), strides=[3, 3], group=2, pads=[1, 2, 0, 1]), 0.3),
    "transposed conv, single channels": lambda net, x: (transposed(net, x, (4, 1, 3, 3), strides=[2, 2], group=4), 0.2),
    "transposed conv, dilations": lambda net, x: (transposed(net, x, (4, 6, 3, 2), strides=[2, 3], dilations=[2, 3], pads=[1, 0, 2, 0]), 0.3),
    "transposed conv, gaps": lambda net, x: (transposed(net, x, (4, 6, 2, 2), strides=[3, 4]), 0.3),
    "transposed conv, rows at the end": lambda net, x: (transposed(net, x, (4, 6, 3, 3), strides=[2, 3], output_padding=[1, 2]), 0.3),
    "batch norm": lambda net, x: (normalized(net, x, 4), 0.04),
    "batch norm of rows": lambda net, x: (normalized(net, net.node("Reshape", x, net.store(np.array([36, 10], np.int64))), 10), 0.04),
    "times floats, the last axis": lambda net, x: (net.node("Relu", net.node("Mul", x, net.store(np.linspace(-1, 3, 10, dtype=np.float32)))), 0.06),
    "plus floats, an axis in between": lambda net, x: (net.node("Add", x, net.store(np.linspace(-3, 3, 9, dtype=np.float32)[:, None])), 0.05),
    "conv, moved before it is quantized": lambda net, x: (net.node("Concat", net.quantize("x", 0.2, -7), net.node("Reshape", net.node("Transpose", convolution(
        net, x, (4, 4, 1, 1)), perm=[0, 1, 3, 2]), net.store(np.array([1, 4, 9, 10], np.int64))), axis=1), 0.2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_differs_by_a_step_at_the_most(name):
    pytest.importorskip("onnxruntime")
    net = Quantized(5)
    y, scale = LAYERS[name](net, net.quantize("x", 0.05, -3))
    model = net.model(net.quantize(y, scale, -7), (1, 4, 9, 10))
    made, artifact = written(model)
    assert artifact.manifest.report["operators"]["DEQUANTIZE"] == 1, "the layer is computed in floats"
    x = np.random.default_rng(1).uniform(-6, 6, (1, 4, 9, 10)).astype(np.float32)
    (got,) = made.run(artifact, {"x": x}).values()
    (want,) = run(model, {"x": x})
    steps = np.abs(np.rint((got - want) / scale))
    # Averages of six lie at ties, the functions are quantized twice, since TFLite wants a scale of its own of them, and so are numbers
    # below 0 by LEAKY_RELU, which scales to its own result first.
    often = name.startswith("average pool") or name in ("sigmoid", "tanh", "leaky relu")
    assert steps.max() <= 1 and np.mean(steps) < (0.25 if often else 0.05) and np.ptp(want) > 20 * scale


def test_functions_are_recognized_as_a_whole():
    def form(name: str, **attributes: object) -> functions.Form | None:
        return functions.form_of(ELEMENTWISE[name].build((Arg(0, DType.F32),), attributes))

    assert form("Gelu") == functions.Single("GELU", "GeluOptions", 2, {"approximate": False})
    assert form("Gelu", approximate="tanh") == functions.Single("GELU", "GeluOptions", 2, {"approximate": True})
    assert form("LeakyRelu", alpha=0.5) == functions.Single("LEAKY_RELU", "LeakyReluOptions", 2, {"alpha": 0.5})
    assert form("HardSigmoid", alpha=0.25, beta=0.5) == functions.HardSigmoid(0.25, 0.5)
    assert form("Swish") == functions.Swish() and form("Neg") == functions.WithNumber("MUL", -1.0)
    assert form("Clip", min=-1.0, max=1.0) == functions.Single("RELU_N1_TO_1") and form("Clip", min=-2.0, max=1.0) == functions.Limits(-2, 1)
    assert form("Clip", max=3.0) == functions.Limits(-math.inf, 3) and form("Mish") is None and form("Sqrt") is None and form("Clip") is None


@pytest.mark.parametrize("codes", [np.int8, np.uint8])
@pytest.mark.parametrize("interface", ["float", "integer"])
def test_a_quantized_network_stays_on_integers(codes, interface):
    pytest.importorskip("onnxruntime")
    for seed in range(3):
        model = small_network(seed, codes)
        made, artifact = written(model, f"tflite{{interface={interface}}}")
        counts = artifact.manifest.report["operators"]
        border = {name: counts.pop(name, 0) for name in ("QUANTIZE", "DEQUANTIZE")}
        assert counts == {"ADD": 1, "CONCATENATION": 1, "CONV_2D": 2, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "HARD_SWISH": 1,
                          "LOGISTIC": 1, "MAX_POOL_2D": 1, "MEAN": 1, "MUL": 1, "PAD": 1, "RESHAPE": 1, "SOFTMAX": 1}
        # Between the layers the only quantization left is the one to the scale that the concatenation wants.
        assert border == ({"QUANTIZE": 2, "DEQUANTIZE": 1} if interface == "float" else {"QUANTIZE": 1, "DEQUANTIZE": 0})
        x = np.random.default_rng(seed).uniform(-2.5, 2.5, (1, 3, 17, 20)).astype(np.float32)
        (want,) = run(model, {"x": x})
        (got,) = made.run(artifact, {"x": x}).values()
        assert got.dtype == want.dtype and want.max() > 0.12
        # A step now and then in each of eleven layers, in front of an exponential; the test below looks at each of them.
        assert np.abs(got - want).max() <= 0.03


def test_verify_finds_a_layer_that_is_wrong(monkeypatch):
    def wrong(self, graph, artifact, inputs):
        found = original(self, graph, artifact, inputs)
        value = list(found.integers)[5]
        where.append(value.producer.loc)
        return replace(found, integers=found.integers | {value: found.integers[value] ^ 4})

    where: list[tuple[str, ...]] = []
    right = api.verify(small_network(0, np.int8), "generic-c", backend="tflite")
    assert right.ok and right.layers.layers > 10 and right.layers.steps == 1 and 0 < right.layers.share < 0.05
    original = TfliteBackend.trace
    monkeypatch.setattr(TfliteBackend, "trace", wrong)
    outcome = api.verify(small_network(0, np.int8), "generic-c", backend="tflite")
    assert not outcome.ok and outcome.layers.steps >= 3 and outcome.layers.where == where[0]


def test_expected_outputs_may_be_a_step_off():
    pytest.importorskip("onnxruntime")
    model = product(1)
    x = np.random.default_rng(0).uniform(-6, 6, (40, 30)).astype(np.float32)
    (want,), name = run(model, {"x": x}), model.graph.output[0].name
    found = [api.verify(model, "generic-c", backend="tflite", inputs={"x": x}, expected={name: want + np.float32(steps * 0.4)})
             for steps in (0, 1, 3)]
    assert [outcome.ok for outcome in found] == [True, found[1].outputs[0].max_abs_err < 0.41, False]


def test_an_activation_becomes_part_of_a_layer_of_floats():
    net = Quantized(0)
    w = net.store(net.random.standard_normal((4, 3, 3, 3)).astype(np.float32))
    y = net.node("Clip", net.node("Conv", "x", w), net.store(np.float32(0)), net.store(np.float32(6)))
    _, artifact = written(net.model(y, (1, 3, 8, 8)))
    assert artifact.manifest.report["operators"] == {"CONV_2D": 1}


def test_integers_without_a_form_are_computed_in_floats():
    net = Quantized(0)
    y = net.quantize(net.node("Sqrt", net.quantize("x", 0.02, 0)), 0.01, -128)
    made, artifact = written(net.model(y, (1, 7)))
    assert artifact.manifest.report["operators"] == {"DEQUANTIZE": 2, "SQRT": 1, "QUANTIZE": 2}
    x = np.linspace(0.1, 2.5, 7, dtype=np.float32)[None]
    (got,) = made.run(artifact, {"x": x}).values()
    np.testing.assert_allclose(got, np.sqrt(x), atol=0.03)


def test_normalizations_error_functions_and_extrema():
    net = Quantized(2)
    numbers = (net.store(net.random.uniform(0.5, 2, 10).astype(np.float32)) for _ in range(2))
    y = net.quantize(net.node("LayerNormalization", net.quantize("x", 0.05, 3), *numbers), 0.03, 5)
    y = net.quantize(net.node("Erf", net.node("Div", y, net.store(np.float32(1.414)))), 1 / 128, 0)
    model = net.model(net.node("ArgMax", y, axis=2, keepdims=0), (1, 4, 9, 10))
    assert written(model)[1].manifest.report["operators"]["ARG_MAX"] == 1
    assert api.verify(model, "generic-c", backend="tflite").ok


@pytest.mark.parametrize(("sizes", "results", "extents", "strides", "pads", "want"), [
    ((8, 8), (8, 8), (3, 3), (1, 1), (1, 1, 1, 1), Padding("SAME")),
    ((8, 8), (4, 4), (3, 3), (2, 2), (0, 0, 1, 1), Padding("SAME")),
    ((8, 8), (4, 4), (3, 3), (2, 2), (1, 1, 1, 1), Padding("VALID", (1, 1), (0, 0))),
    ((8, 8), (6, 6), (3, 3), (1, 1), (0, 0, 0, 0), Padding("VALID")),
    ((7, 7), (4, 4), (3, 3), (2, 2), (1, 1, 1, 1), Padding("SAME")),
    ((5,), (7,), (3,), (1,), (2, 2), Padding("VALID", (2,), (2,))),
])
def test_padding_gets_a_name_where_it_has_one(sizes, results, extents, strides, pads, want):
    assert choose_padding(sizes, results, extents, strides, pads) == want


def test_a_product_with_a_power_of_two_quantizes_as_well():
    def rounded(factor: float) -> Convert:
        return Convert(Apply("round", (Apply("mul", (Arg(0, DType.F32), Literal(factor, DType.F32)), DType.F32),), DType.F32), DType.I8)

    found = as_quantized(rounded(256.0))
    assert found is not None and found.scale == Literal(1 / 256, DType.F32) and found.zero is None
    assert as_quantized(rounded(255.0)) is None and as_quantized(rounded(-2.0)) is None


def test_options_are_checked():
    with pytest.raises(EdgeccError) as raised:
        create_backend("tflite{interface=half}")
    assert raised.value.code == "E009"
