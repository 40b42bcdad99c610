"""Random layers of TFLite on integers, each with inputs and an output of its own, so that one model holds many of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from edgecc.backends.tflite.recorder import Quantization
from edgecc.backends.tflite.schema import ModelWriter

Array = np.ndarray[Any, Any]

KINDS: Mapping[str, tuple[int, int]] = MappingProxyType({"INT8": (-128, 127), "INT16": (-32768, 32767)})


@dataclass
class Bundle:
    """A model that is being written: independent layers."""

    random: np.random.Generator
    kind: str = "INT8"
    writer: ModelWriter = field(default_factory=ModelWriter)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def quantization(self, low: float = 0.01, high: float = 0.1) -> Quantization:
        """A scale between the limits; the zero point is 0 for 16 bits."""
        zero = int(self.random.integers(-128, 128)) if self.kind == "INT8" else 0
        scale = float(np.float32(self.random.uniform(low, high)))
        return Quantization((scale if self.kind == "INT8" else scale / 256,), zero)

    def input(self, *shape: int, quantization: Quantization | None = None) -> int:
        """A new input."""
        index = self.writer.tensor("input", shape, self.kind, quantization or self.quantization())
        self.inputs.append(index)
        return index

    def output(self, *shape: int, quantization: Quantization | None = None, kind: str = "") -> int:
        """A new output."""
        index = self.writer.tensor("output", shape, kind or self.kind, quantization or self.quantization(0.05, 0.3))
        self.outputs.append(index)
        return index

    def sizes(self, *limits: int) -> list[int]:
        """A number from 1 to each limit."""
        return [int(self.random.integers(1, limit + 1)) for limit in limits]

    def weights(self, shape: tuple[int, ...], axis: int, source: int, *, alike: bool = False) -> tuple[int, int, Quantization]:
        """int8 weights with a scale for each channel of `axis` or one for all, their bias, and a quantization that holds the sums."""
        channels = shape[axis]
        scales = self.random.uniform(0.002, 0.01, 1 if alike else channels).astype(np.float32)
        codes = self.random.integers(-127, 128, shape).astype(np.int8)
        units = np.float32(self.quantization_of(source).scale) * scales
        bias = self.random.integers(-3000, 3000, channels).astype(np.int32 if self.kind == "INT8" else np.int64)
        spread = 74.0 * 74.0 * float(np.sqrt(codes.size // channels)) * float(np.mean(units)) * (1 if self.kind == "INT8" else 256)
        scale = float(np.float32(spread / 40 * self.random.uniform(0.5, 2.0))) / (1 if self.kind == "INT8" else 256)
        zero = int(self.random.integers(-128, 128)) if self.kind == "INT8" else 0
        writer = self.writer
        return (writer.constant("weights", codes, Quantization(tuple(float(s) for s in scales), 0, axis)),
                writer.constant("bias", bias, Quantization(tuple(float(u) for u in units))), Quantization((scale,), zero))

    def activation(self) -> int:
        """One that can be applied within a layer."""
        return self.writer.value("ActivationFunctionType", str(self.random.choice(["NONE", "NONE", "RELU", "RELU6"])))

    def finish(self) -> bytes:
        """The model."""
        return self.writer.finish(self.inputs, self.outputs, "layers")

    def feed(self) -> list[Array]:
        """Random inputs of every integer there is."""
        low, high = KINDS[self.kind]
        return [self.random.integers(low, high + 1, self.writer.tensors[index].shape).astype(self.kind.lower()) for index in self.inputs]

    def quantization_of(self, index: int) -> Quantization:
        """What a tensor states."""
        found = self.writer.tensors[index].quantization
        assert found is not None
        return found


def _window(bundle: Bundle, height: int, width: int, kernel: list[int], strides: list[int], dilations: list[int]) -> tuple[str, list[int]]:
    """A padding that leaves results, and how many."""
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if bundle.random.random() < 0.5 and height >= extents[0] and width >= extents[1]:
        return "VALID", [(size - e) // s + 1 for size, e, s in zip((height, width), extents, strides, strict=True)]
    return "SAME", [-(-size // s) for size, s in zip((height, width), strides, strict=True)]


def conv(bundle: Bundle) -> None:
    """CONV_2D, also dilated, and also with so many channels that they are divided in blocks."""
    h, w, c, o, kh, kw, sh, sw = bundle.sizes(14, 14, 40, 70, 5, 5, 3, 3)
    dilations = [int(bundle.random.integers(1, 3)) for _ in range(2)] if sh == sw == 1 else [1, 1]
    x = bundle.input(1, h, w, c)
    weights, bias, result = bundle.weights((o, kh, kw, c), 0, x)
    padding, (rows, columns) = _window(bundle, h, w, [kh, kw], [sh, sw], dilations)
    bundle.writer.operator("CONV_2D", [x, weights, bias], [bundle.output(1, rows, columns, o, quantization=result)], "Conv2DOptions", 3,
                           padding=bundle.writer.value("Padding", padding), strideH=sh, strideW=sw, dilationHFactor=dilations[0],
                           dilationWFactor=dilations[1], fusedActivationFunction=bundle.activation())


def depthwise(bundle: Bundle) -> None:
    """DEPTHWISE_CONV_2D with one result a channel."""
    h, w, c, kh, kw, s = bundle.sizes(14, 14, 40, 5, 5, 3)
    x = bundle.input(1, h, w, c)
    weights, bias, result = bundle.weights((1, kh, kw, c), 3, x)
    padding, (rows, columns) = _window(bundle, h, w, [kh, kw], [s, s], [1, 1])
    bundle.writer.operator("DEPTHWISE_CONV_2D", [x, weights, bias], [bundle.output(1, rows, columns, c, quantization=result)],
                           "DepthwiseConv2DOptions", 3, padding=bundle.writer.value("Padding", padding), strideH=s, strideW=s,
                           depthMultiplier=1, dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=bundle.activation())


def transpose_conv(bundle: Bundle) -> None:
    """TRANSPOSE_CONV that doubles rows and columns."""
    h, w, c, o = bundle.sizes(7, 7, 20, 20)
    k = int(bundle.random.integers(2, 5))
    x = bundle.input(1, h, w, c)
    weights, bias, result = bundle.weights((o, k, k, c), 0, x)
    padding = "SAME" if bundle.random.random() < 0.5 else "VALID"
    rows, columns = (2 * n if padding == "SAME" else 2 * n + max(k - 2, 0) for n in (h, w))
    shape = bundle.writer.constant("shape", np.array([1, rows, columns, o], np.int32))
    bundle.writer.operator("TRANSPOSE_CONV", [shape, weights, x, bias], [bundle.output(1, rows, columns, o, quantization=result)],
                           "TransposeConvOptions", 3, padding=bundle.writer.value("Padding", padding), strideH=2, strideW=2,
                           fusedActivationFunction=0)


def fully_connected(bundle: Bundle) -> None:
    """FULLY_CONNECTED of one or several rows."""
    rows, c, o = bundle.sizes(3, 200, 100)
    x = bundle.input(rows, c)
    weights, bias, result = bundle.weights((o, c), 0, x, alike=True)
    bundle.writer.operator("FULLY_CONNECTED", [x, weights, bias], [bundle.output(rows, o, quantization=result)], "FullyConnectedOptions", 4,
                           keepNumDims=False, fusedActivationFunction=bundle.activation())


def _pool(bundle: Bundle, code: str) -> None:
    h, w, c, kh, kw, s = bundle.sizes(14, 14, 40, 6, 6, 3)
    x = bundle.input(1, h, w, c)
    padding, (rows, columns) = _window(bundle, h, w, [kh, kw], [s, s], [1, 1])
    bundle.writer.operator(code, [x], [bundle.output(1, rows, columns, c, quantization=bundle.quantization_of(x))], "Pool2DOptions", 2,
                           padding=bundle.writer.value("Padding", padding), strideH=s, strideW=s, filterHeight=kh, filterWidth=kw,
                           fusedActivationFunction=bundle.activation())


def max_pool(bundle: Bundle) -> None:
    """MAX_POOL_2D."""
    _pool(bundle, "MAX_POOL_2D")


def average_pool(bundle: Bundle) -> None:
    """AVERAGE_POOL_2D."""
    _pool(bundle, "AVERAGE_POOL_2D")


def mean(bundle: Bundle) -> None:
    """MEAN over rows and columns."""
    h, w, c = bundle.sizes(14, 14, 70)
    axes = bundle.writer.constant("axes", np.array([1, 2], np.int32))
    bundle.writer.operator("MEAN", [bundle.input(1, h, w, c), axes], [bundle.output(1, 1, 1, c, quantization=bundle.quantization())],
                           "ReducerOptions", 2, keepDims=True)


def _sum(bundle: Bundle, code: str, options: str, result: Quantization | None = None, same: bool = False, **fields: int) -> None:
    h, w, c = bundle.sizes(7, 7, 40)
    kept = Quantization((0.05,), 3) if bundle.kind == "INT8" else Quantization((0.0005,), 0)
    given = kept if same else None
    x = bundle.input(1, h, w, c, quantization=given)
    other = [(1, h, w, c), (1, 1, 1, c), (1, h, w, 1), (1, 1, 1, 1)][int(bundle.random.integers(4))]
    if bundle.random.random() < 0.3:
        low, high = KINDS[bundle.kind]
        y = bundle.writer.constant("constant", bundle.random.integers(low, high, other).astype(bundle.kind.lower()), given or bundle.quantization())
    else:
        y = bundle.input(*other, quantization=given)
    operands = [x, y] if bundle.random.random() < 0.5 else [y, x]
    if same and code not in ("MINIMUM", "MAXIMUM"):
        given = None
    bundle.writer.operator(code, operands, [bundle.output(1, h, w, c, quantization=result or given)], options, 2, **fields)


def add(bundle: Bundle) -> None:
    """ADD, broadcasting or not, of equal scales or not."""
    _sum(bundle, "ADD", "AddOptions", same=bundle.random.random() < 0.3, fusedActivationFunction=bundle.activation())


def sub(bundle: Bundle) -> None:
    """SUB, in either order."""
    _sum(bundle, "SUB", "SubOptions", same=bundle.random.random() < 0.3, fusedActivationFunction=bundle.activation())


def mul(bundle: Bundle) -> None:
    """MUL."""
    _sum(bundle, "MUL", "MulOptions", fusedActivationFunction=bundle.activation())


def minimum(bundle: Bundle) -> None:
    """MINIMUM."""
    _sum(bundle, "MINIMUM", "MaximumMinimumOptions", same=True)


def maximum(bundle: Bundle) -> None:
    """MAXIMUM."""
    _sum(bundle, "MAXIMUM", "MaximumMinimumOptions", same=True)


def _unary(bundle: Bundle, code: str, options: str = "", result: Quantization | None = None, version: int = 2, **fields: Any) -> None:
    h, w, c = bundle.sizes(7, 7, 40)
    bundle.writer.operator(code, [bundle.input(1, h, w, c)], [bundle.output(1, h, w, c, quantization=result)], options, version, **fields)


def logistic(bundle: Bundle) -> None:
    """LOGISTIC."""
    _unary(bundle, "LOGISTIC", result=Quantization((1 / 256,), -128) if bundle.kind == "INT8" else Quantization((1 / 32768,), 0))


def tanh(bundle: Bundle) -> None:
    """TANH."""
    _unary(bundle, "TANH", result=Quantization((1 / 128,), 0) if bundle.kind == "INT8" else Quantization((1 / 32768,), 0))


def hard_swish(bundle: Bundle) -> None:
    """HARD_SWISH."""
    _unary(bundle, "HARD_SWISH", "HardSwishOptions", version=1)


def leaky_relu(bundle: Bundle) -> None:
    """LEAKY_RELU."""
    _unary(bundle, "LEAKY_RELU", "LeakyReluOptions", alpha=float(np.float32(bundle.random.uniform(0.01, 0.9))))


def relu(bundle: Bundle) -> None:
    """RELU of its own."""
    _unary(bundle, "RELU")


def requantize(bundle: Bundle) -> None:
    """QUANTIZE between two scales."""
    _unary(bundle, "QUANTIZE", "QuantizeOptions")


def softmax(bundle: Bundle) -> None:
    """SOFTMAX over channels."""
    rows, c = bundle.sizes(5, 40)
    result = Quantization((1 / 256,), -128) if bundle.kind == "INT8" else Quantization((1 / 32768,), 0)
    bundle.writer.operator("SOFTMAX", [bundle.input(rows, c)], [bundle.output(rows, c, quantization=result)], "SoftmaxOptions", 2, beta=1.0)


def _resize(bundle: Bundle, code: str, options: str) -> None:
    h, w, c = (int(n) + 1 for n in bundle.sizes(6, 6, 20))
    align, half = ((False, False), (True, False), (False, True))[int(bundle.random.integers(3))]
    factor = 2 if half else int(2 ** bundle.random.integers(1, 4))
    rows, columns = ((n - 1) * factor + 1 if align else n * factor for n in (h, w))
    x = bundle.input(1, h, w, c)
    size = bundle.writer.constant("size", np.array([rows, columns], np.int32))
    bundle.writer.operator(code, [x, size], [bundle.output(1, rows, columns, c, quantization=bundle.quantization_of(x))], options, 3,
                           alignCorners=align, halfPixelCenters=half)


def nearest(bundle: Bundle) -> None:
    """RESIZE_NEAREST_NEIGHBOR."""
    _resize(bundle, "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions")


def bilinear(bundle: Bundle) -> None:
    """RESIZE_BILINEAR."""
    _resize(bundle, "RESIZE_BILINEAR", "ResizeBilinearOptions")


def concatenation(bundle: Bundle) -> None:
    """CONCATENATION along any axis."""
    dims = bundle.sizes(5, 5, 40)
    axis = int(bundle.random.integers(1, 4))
    given = bundle.quantization()
    parts = []
    for size in bundle.sizes(20, 20, 20):
        shape = [1, *dims]
        shape[axis] = size
        parts.append((bundle.input(*shape, quantization=given), shape))
    shape = [1, *dims]
    shape[axis] = sum(part[axis] for _, part in parts)
    bundle.writer.operator("CONCATENATION", [index for index, _ in parts], [bundle.output(*shape, quantization=given)], "ConcatenationOptions", 2,
                           axis=axis, fusedActivationFunction=0)


def pad(bundle: Bundle) -> None:
    """PAD of rows, columns and channels."""
    h, w, c = bundle.sizes(7, 7, 20)
    x = bundle.input(1, h, w, c)
    amounts = bundle.random.integers(0, 4, (4, 2)).astype(np.int32)
    amounts[0] = 0
    shape = [size + int(a + b) for size, (a, b) in zip((1, h, w, c), amounts, strict=True)]
    bundle.writer.operator("PAD", [x, bundle.writer.constant("pads", amounts)], [bundle.output(*shape, quantization=bundle.quantization_of(x))],
                           "PadOptions", 2)


def strided_slice(bundle: Bundle) -> None:
    """STRIDED_SLICE."""
    h, w, c = (int(n) + 2 for n in bundle.random.integers(1, 20, 3))
    x = bundle.input(1, h, w, c)
    begin = [0, *(int(bundle.random.integers(0, size)) for size in (h, w, c))]
    end = [1, *(int(bundle.random.integers(first + 1, size + 1)) for first, size in zip(begin[1:], (h, w, c), strict=True))]
    vectors = [bundle.writer.constant("slice", np.array(v, np.int32)) for v in (begin, end, [1, 1, 1, 1])]
    shape = [last - first for first, last in zip(begin, end, strict=True)]
    bundle.writer.operator("STRIDED_SLICE", [x, *vectors], [bundle.output(*shape, quantization=bundle.quantization_of(x))], "StridedSliceOptions", 2,
                           beginMask=0, endMask=0, ellipsisMask=0, newAxisMask=0, shrinkAxisMask=0)


def transpose(bundle: Bundle) -> None:
    """TRANSPOSE."""
    h, w, c = bundle.sizes(9, 9, 20)
    order = [0, *(int(n) + 1 for n in bundle.random.permutation(3))]
    x = bundle.input(1, h, w, c)
    bundle.writer.operator("TRANSPOSE", [x, bundle.writer.constant("order", np.array(order, np.int32))],
                           [bundle.output(*((1, h, w, c)[axis] for axis in order), quantization=bundle.quantization_of(x))],
                           "TransposeOptions", 2)


def batch_matmul(bundle: Bundle) -> None:
    """BATCH_MATMUL of two computed factors."""
    b, m, k, n = bundle.sizes(2, 9, 30, 20)
    y = int(bundle.random.integers(2))
    bundle.writer.operator("BATCH_MATMUL", [bundle.input(b, m, k), bundle.input(b, *((n, k) if y else (k, n)))],
                           [bundle.output(b, m, n)], "BatchMatMulOptions", 4, adjX=False, adjY=bool(y))


def reduce_max(bundle: Bundle) -> None:
    """REDUCE_MAX over rows and columns."""
    h, w, c = bundle.sizes(9, 9, 40)
    x = bundle.input(1, h, w, c)
    axes = bundle.writer.constant("axes", np.array([1, 2], np.int32))
    bundle.writer.operator("REDUCE_MAX", [x, axes], [bundle.output(1, 1, 1, c, quantization=bundle.quantization_of(x))], "ReducerOptions", 2,
                           keepDims=True)


LAYERS: Mapping[str, Callable[[Bundle], None]] = MappingProxyType({f.__name__: f for f in (
    conv, depthwise, transpose_conv, fully_connected, max_pool, average_pool, mean, add, sub, mul, minimum, maximum, logistic, tanh, hard_swish,
    leaky_relu, relu, requantize, softmax, nearest, bilinear, concatenation, pad, strided_slice, transpose, batch_matmul, reduce_max)})
"""Every layer, by its name."""
