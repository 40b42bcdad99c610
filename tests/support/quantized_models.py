"""Models of quantized values, written node by node as quantizers write them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Quantized:
    """A model that is being written. Every value is dequantized for whoever reads it."""

    def __init__(self, seed: int, codes: type = np.int8) -> None:
        self.random, self.codes = np.random.default_rng(seed), codes
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def store(self, array: np.ndarray) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], f"node{len(self.nodes)}", **attributes))
        return name

    def quantize(self, value: str, scale: float, zero: int) -> str:
        parameters = self.store(np.float32(scale)), self.store(self.codes(zero))
        return self.node("DequantizeLinear", self.node("QuantizeLinear", value, *parameters), *parameters)

    def weights(self, *shape: int, axis: int | None = 0) -> tuple[str, np.ndarray]:
        codes = self.random.integers(-127, 128, shape).astype(np.int8)
        scales = self.random.uniform(0.002, 0.01, () if axis is None else shape[axis]).astype(np.float32)
        attributes = {} if axis is None else {"axis": axis}
        return self.node("DequantizeLinear", self.store(codes), self.store(scales), **attributes), scales

    def constant(self, shape: tuple[int, ...], scale: float, zero: int) -> str:
        """Constants with a zero point, as quantizers write operands of sums and products."""
        codes = self.store(self.random.integers(-128, 128, shape).astype(np.int8))
        return self.node("DequantizeLinear", codes, self.store(np.float32(scale)), self.store(np.int8(zero)))

    def bias(self, size: int, scales: np.ndarray, scale: float) -> str:
        codes = self.random.integers(-3000, 3000, size).astype(np.int32)
        units = np.broadcast_to(scales * np.float32(scale), (size,)).astype(np.float32)
        return self.node("DequantizeLinear", self.store(codes), self.store(units), axis=0)

    def model(self, output: str, shape: tuple[int, ...]) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "quantized", [x], [y], self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def small_network(seed: int, codes: type) -> onnx.ModelProto:
    """Every operator that int8 networks for pictures are made of."""
    offset = 128 if codes is np.uint8 else 0
    net = Quantized(seed, codes)
    x = net.quantize("x", 0.02, 3 + offset)
    w, s = net.weights(16, 3, 3, 3)
    a = net.node("Relu", net.node("Conv", x, w, net.bias(16, s, 0.02), pads=[1, 1, 1, 1], strides=[2, 2]))
    a = net.quantize(a, 0.05, offset - 128)
    w, s = net.weights(16, 1, 3, 3)
    b = net.quantize(net.node("Conv", a, w, net.bias(16, s, 0.05), pads=[1, 1, 1, 1], group=16), 0.04, offset - 5)
    w, s = net.weights(16, 16, 1, 1)
    b = net.quantize(net.node("Conv", b, w, net.bias(16, s, 0.04)), 0.3, offset + 4)
    a = net.quantize(net.node("Add", a, b), 0.31, offset - 7)
    p = net.node("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2])
    g = net.quantize(net.node("Sigmoid", p), 1 / 256, offset - 128)
    m = net.quantize(net.node("Mul", p, g), 0.2, offset)
    c = net.quantize(net.node("Concat", m, net.quantize(p, 0.2, offset), axis=1), 0.2, offset)
    h = net.quantize(net.node("HardSwish", c), 0.15, offset - 20)
    v = net.quantize(net.node("GlobalAveragePool", h), 0.1, offset + 1)
    v = net.node("Reshape", v, net.store(np.array([1, 32], np.int64)))
    w, s = net.weights(10, 32, axis=None)
    y = net.quantize(net.node("Gemm", v, w, net.bias(10, s, 0.1), transB=1), 0.2, offset)
    y = net.quantize(net.node("Softmax", y), 1 / 256, offset - 128)
    return net.model(y, (1, 3, 17, 20))


def product(seed: int) -> onnx.ModelProto:
    """Forty rows times a matrix, and an activation."""
    net = Quantized(seed)
    w, s = net.weights(60, 30, axis=None)
    y = net.node("Relu", net.node("Gemm", net.quantize("x", 0.05, -3), w, net.bias(60, s, 0.05), transB=1))
    return net.model(net.quantize(y, 0.4, -128), (40, 30))
