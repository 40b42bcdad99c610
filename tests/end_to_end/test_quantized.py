"""Quantized networks give the same bytes on every target, those of the reference, and stay on integers all the way."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgecc
from edgecc.frontend import import_model
from edgecc.ir.types import DType
from edgecc.pipeline import default_graph_passes, run_passes
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target
from tests.support.assets import fixture
from tests.support.ccompile import distinct, require
from tests.support.quantized_models import small_network

TARGETS = distinct("host", "x86-64-v3", "generic-c", "cortex-a76", "cortex-a53")
STEP = 1 / 256
"""One step of the outputs of the networks of the fixtures."""


class Builder:
    """An ONNX model in which every value is quantized and dequantized."""

    def __init__(self):
        self.nodes, self.initializers, self.random, self.count = [], [], np.random.default_rng(3), 0

    def constant(self, array):
        self.count += 1
        self.initializers.append(numpy_helper.from_array(array, f"c{self.count}"))
        return f"c{self.count}"

    def node(self, op, *inputs, **attributes):
        self.count += 1
        self.nodes.append(helper.make_node(op, list(inputs), [f"v{self.count}"], name=f"{op}_{self.count}", **attributes))
        return f"v{self.count}"

    def quantized(self, x, scale, zero, dtype=np.int8):
        parameters = self.constant(np.float32(scale)), self.constant(np.asarray(zero, dtype))
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, *parameters), *parameters)

    def weights(self, shape, scale, bits=127):
        integers = self.random.integers(-bits, bits + 1, shape).astype(np.int8)
        scales = (scale * self.random.uniform(0.5, 1.5, shape[0])).astype(np.float32)
        return self.node("DequantizeLinear", self.constant(integers), self.constant(scales), axis=0), scales

    def bias(self, scales, x_scale):
        integers = self.random.integers(-2000, 2000, len(scales)).astype(np.int32)
        return self.node("DequantizeLinear", self.constant(integers), self.constant(np.float32(x_scale) * scales), axis=0)

    def convolved(self, x, x_scale, channels, *, group=1, kernel=3, of=4, **attributes):
        w, scales = self.weights((channels, of // group, kernel, kernel), 0.004)
        return self.node("Conv", x, w, self.bias(scales, x_scale), group=group, pads=[kernel // 2] * 4, **attributes)


def network():
    """Convolutions, sums, pools, functions, joins, a product and a softmax."""
    b = Builder()
    x = b.quantized("x", 1 / 37, -3)
    first = b.quantized(b.node("Relu", b.convolved(x, 1 / 37, 16)), 0.021, -128)
    depthwise = b.quantized(b.convolved(first, 0.021, 16, group=16, of=16, strides=[2, 2]), 0.033, 5)
    function = b.quantized(b.node("HardSwish", depthwise), 0.03, -60)
    pointwise = b.quantized(b.convolved(function, 0.03, 16, kernel=1, of=16), 0.05, 12)
    total = b.quantized(b.node("Relu", b.node("Add", pointwise, depthwise)), 0.04, -128)
    largest = b.node("MaxPool", total, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    mean = b.quantized(b.node("AveragePool", total, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1]), 0.035, -128)
    joined = b.quantized(b.node("Concat", largest, mean, axis=1), 0.041, -120)
    pooled = b.quantized(b.node("GlobalAveragePool", joined), 0.02, -128)
    gate = b.quantized(b.node("Sigmoid", pooled), STEP, -128)
    gated = b.quantized(b.node("Mul", joined, gate), 0.03, -90, np.int8)
    flat = b.node("Flatten", b.node("GlobalMaxPool", gated))
    w, scales = b.weights((10, 32), 0.005)
    scores = b.quantized(b.node("Gemm", flat, w, b.bias(scales, 0.03), transB=1), 0.08, 3)
    y = b.quantized(b.node("Softmax", scores, axis=1), STEP, -128)
    b.nodes[-1].output[0] = "y"
    assert y.startswith("v")
    graph = helper.make_graph(b.nodes, "quantized", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 13, 13])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])], b.initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def on_integers(model, inputs):
    """The graph after all passes, each of them checked, and what it computes."""
    graph = import_model(model)
    run_passes(graph, default_graph_passes(), verify_each=inputs)
    return graph, execute(graph, inputs)


def assert_same_bytes(model, inputs, expected, folder):
    for name in TARGETS:
        require(load_target(name))
        edgecc.compile(model, target=name, output=folder / name)
        for output, result in edgecc.load(folder / name).run(inputs).items():
            assert result.tobytes() == expected[output].tobytes(), (name, output)


def test_every_family_on_every_target(tmp_path):
    model = network()
    inputs = {"x": np.random.default_rng(4).standard_normal((1, 4, 13, 13)).astype(np.float32)}
    graph, expected = on_integers(model, inputs)
    floats = [node for node in graph.nodes if node.output.type.dtype is DType.F32 and node.output.type.elements > 1]
    assert [graph.is_output(node.output) for node in floats] == [True]
    assert len(set(expected["y"].reshape(-1).tolist())) > 2
    assert_same_bytes(model, inputs, expected, tmp_path)


@pytest.mark.parametrize("name", ["kws_dscnn_int8_qdq"])
def test_real_networks(name, tmp_path):
    model, inputs, fixed = fixture(name)
    _, expected = on_integers(model, inputs)
    for output, result in expected.items():
        assert np.abs(result - fixed.get(f"noopt__{output}", fixed[output])).max() <= STEP
    assert_same_bytes(model, inputs, expected, tmp_path)


@pytest.mark.parametrize("codes", [np.int8, np.uint8])
def test_verify_compares_with_the_integers_that_the_graph_means(codes):
    # On inputs that no quantizer has seen, sums lie at ties often, and a softmax behind them tells every one.
    outcome = edgecc.verify(small_network(1, codes), "generic-c", seed=2)
    assert outcome.ok and [output.max_abs_err for output in outcome.outputs] == [0.0]
