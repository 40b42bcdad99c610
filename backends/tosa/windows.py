"""Convolutions, pools and products by constant matrices in TOSA: sums in 32 bits, and a RESCALE where they are integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgecc.backends.tflite.recorder import Recorded
from edgecc.backends.tosa.lowering import PROPAGATE, Lowering
from edgecc.backends.tosa.rescale import multiplier_of, rescaled
from edgecc.ir.types import Array


def conv(lowering: Lowering, op: Recorded) -> None:
    """CONV2D of NHWC by OHWI."""
    x, w, b = op.inputs
    dims, kernel, results = lowering.tensor(x).shape, lowering.tensor(w).shape[1:3], lowering.tensor(op.outputs[0]).shape
    source, pads = padded(lowering, lowering.name(x), dims, kernel, results, op)
    weights = lowering.numbers(w)
    _sums(lowering, op, "CONV2D", source, weights, b, results, [pads, _strides(op), _dilations(op)], dims[3] // weights.shape[3])


def depthwise(lowering: Lowering, op: Recorded) -> None:
    """DEPTHWISE_CONV2D by HWCM, where M results of each channel stand side by side."""
    x, w, b = op.inputs
    dims, kernel, results = lowering.tensor(x).shape, lowering.tensor(w).shape[1:3], lowering.tensor(op.outputs[0]).shape
    source, pads = padded(lowering, lowering.name(x), dims, kernel, results, op)
    weights = lowering.numbers(w).reshape(*kernel, dims[3], op.fields["depthMultiplier"])
    _sums(lowering, op, "DEPTHWISE_CONV2D", source, weights, b, results, [pads, _strides(op), _dilations(op)])


def fully_connected(lowering: Lowering, op: Recorded) -> None:
    """A pointwise convolution whose pixels are the rows of the product."""
    x, w, b = op.inputs
    weights = lowering.numbers(w)
    outputs, terms = weights.shape
    rows = int(np.prod(lowering.tensor(x).shape)) // terms
    source = lowering.reshaped(lowering.name(x), (rows, 1, 1, terms))
    _sums(lowering, op, "CONV2D", source, weights.reshape(outputs, 1, 1, terms), b, (rows, 1, 1, outputs), [[0, 0, 0, 0], [1, 1], [1, 1]])


def transposed(lowering: Lowering, op: Recorded) -> None:
    """TRANSPOSE_CONV2D of NHWC by OHWI, which adds rows and columns to the whole result, or takes some away."""
    _, w, x, b = op.inputs
    sizes, kernel, results = lowering.tensor(x).shape[1:3], lowering.tensor(w).shape[1:3], lowering.tensor(op.outputs[0]).shape
    edges = []
    for size, taps, stride, result in zip(sizes, kernel, _strides(op), results[1:3], strict=True):
        beyond = (size - 1) * stride + taps - result
        before = max(beyond, 0) // 2
        edges += [-before, before - beyond]
    _sums(lowering, replace(op, inputs=(x, w, b)), "TRANSPOSE_CONV2D", lowering.name(x), lowering.numbers(w), b, results, [edges, _strides(op)])


def _sums(lowering: Lowering, op: Recorded, code: str, source: str, weights: Array, bias: int, results: tuple[int, ...],
          window: list[list[int]], groups: int = 1) -> None:
    """The convolution, its activation, and the shape of the result; `op` has the operands x, weights and bias.

    Groups of several channels are a convolution each, whose results are put side by side.
    """
    writer, (x, w, _) = lowering.writer, op.inputs
    given, made, codes = lowering.integers(x), lowering.integers(op.outputs[0]), lowering.tensor(w).quantization
    target, finish = lowering.with_activation(op)
    shaped = writer.shapes[target] != results
    result = lowering.like(target, results) if shaped else target
    kind, zeros = ("FP32", "FP32") if made is None else ("INT32", "INT8")
    points = [writer.constant(np.array([given.zero if given is not None else 0]), zeros), writer.constant(np.zeros(1), zeros)]
    sums = result if made is None else writer.tensor(results, kind)
    if groups == 1:
        writer.operator(code, [source, writer.constant(weights, writer.kinds[source]), lowering.name(bias), *points], sums, *window, False, f"DType.{kind}")
    else:
        parts, dims = [], writer.shapes[source]
        for place, (part, added) in enumerate(zip(np.split(weights, groups), np.split(lowering.numbers(bias), groups), strict=True)):
            own = lowering.cut(source, [0, 0, 0, place * part.shape[3]], [*dims[:3], part.shape[3]])
            operands = [own, writer.constant(part, writer.kinds[source]), writer.constant(added, kind), *points]
            parts.append(writer.operator(code, operands, writer.tensor((*results[:3], part.shape[0]), kind), *window, False, f"DType.{kind}"))
        writer.operator("CONCAT", parts, sums, 3)
    if made is not None and given is not None and codes is not None:
        # In doubles of the rounded scales, as TFLite has it.
        factors = [multiplier_of(given.scale * scale / made.scale) for scale in map(_single, codes.scales)]
        rescaled(writer, sums, result, factors, 0, made.zero)
    if shaped:
        lowering.reshaped(result, writer.shapes[target], target)
    finish()


def _single(number: float) -> float:
    return float(np.float32(number))


def pool(lowering: Lowering, op: Recorded) -> None:
    """MAX_POOL2D or AVG_POOL2D; averages of integers are of the stored ones, which have the scale of the result."""
    writer, (x,) = lowering.writer, op.inputs
    kernel = (op.fields["filterHeight"], op.fields["filterWidth"])
    results = lowering.tensor(op.outputs[0]).shape
    source, pads = padded(lowering, lowering.name(x), lowering.tensor(x).shape, kernel, results, op)
    target, finish = lowering.with_activation(op)
    if op.code == "MAX_POOL_2D":
        writer.operator("MAX_POOL2D", [source], target, list(kernel), _strides(op), pads, PROPAGATE)
    else:
        zero = writer.constant(np.zeros(1), writer.kinds[source])
        kind = "INT32" if writer.kinds[source] == "INT8" else "FP32"
        writer.operator("AVG_POOL2D", [source, zero, zero], target, list(kernel), _strides(op), pads, f"DType.{kind}")
    finish()


def padded(lowering: Lowering, name: str, dims: tuple[int, ...], kernel: tuple[int, ...], results: tuple[int, ...],
           op: Recorded) -> tuple[str, list[int]]:
    """The operand and top, bottom, left, right: as much padding as the last window reaches; where it ends earlier, the rest is cut off."""
    same = lowering.record_name(op.fields["padding"]) == "SAME"
    pads, sizes = [], list(dims)
    for axis, (size, taps, stride, dilation) in enumerate(zip(dims[1:3], kernel, _strides(op), _dilations(op), strict=True), start=1):
        reach = (results[axis] - 1) * stride + (taps - 1) * dilation + 1
        before = max(reach - size, 0) // 2 if same else 0
        after = reach - size - before
        sizes[axis] = size + min(after, 0)
        pads += [before, max(after, 0)]
    return (name if tuple(sizes) == dims else lowering.cut(name, [0] * 4, sizes)), pads


def _strides(op: Recorded) -> list[int]:
    return [op.fields["strideH"], op.fields["strideW"]]


def _dilations(op: Recorded) -> list[int]:
    return [op.fields.get("dilationHFactor", 1), op.fields.get("dilationWFactor", 1)]
