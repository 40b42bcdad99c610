"""Movement in TOSA: reshape, transpose, slice, concatenate, pad; and products of computed matrices."""

from __future__ import annotations

import math

import numpy as np

from edgecc.backends.tflite.quantized import present
from edgecc.backends.tflite.recorder import Recorded
from edgecc.backends.tosa.lowering import Lowering
from edgecc.backends.tosa.rescale import multiplier_of, rescaled


def reshape(lowering: Lowering, op: Recorded) -> None:
    """RESHAPE."""
    lowering.reshaped(lowering.name(op.inputs[0]), lowering.tensor(op.outputs[0]).shape, lowering.name(op.outputs[0]))


def transpose(lowering: Lowering, op: Recorded) -> None:
    """TRANSPOSE."""
    order = [int(axis) for axis in lowering.numbers(op.inputs[1])]
    lowering.writer.operator("TRANSPOSE", [lowering.name(op.inputs[0])], lowering.name(op.outputs[0]), order)


def concatenate(lowering: Lowering, op: Recorded) -> None:
    """CONCATENATION."""
    lowering.writer.operator("CONCAT", [lowering.name(index) for index in op.inputs], lowering.name(op.outputs[0]), op.fields["axis"])


def strided_slice(lowering: Lowering, op: Recorded) -> None:
    """STRIDED_SLICE: axes with negative steps are turned around; of every so many elements the first is taken, one axis after the other."""
    starts, _, steps = ([int(number) for number in lowering.numbers(index)] for index in op.inputs[1:])
    source, results = lowering.name(op.inputs[0]), lowering.tensor(op.outputs[0]).shape
    for axis, step in enumerate(steps):
        if step < 0:
            source = lowering.writer.operator("REVERSE", [source], lowering.like(source), axis)
            starts[axis] = lowering.writer.shapes[source][axis] - 1 - starts[axis]
        if abs(step) > 1:
            source = _every(lowering, source, axis, starts[axis], abs(step), results[axis])
            starts[axis] = 0
    lowering.cut(source, starts, results, lowering.name(op.outputs[0]))


def _every(lowering: Lowering, source: str, axis: int, start: int, step: int, count: int) -> str:
    """`count` elements of an axis, `step` apart."""
    dims = list(lowering.writer.shapes[source])
    size = min(count * step, dims[axis] - start)
    source = lowering.cut(source, [start if place == axis else 0 for place in range(len(dims))], [*dims[:axis], size, *dims[axis + 1:]])
    if size < count * step:
        fill = lowering.writer.constant(np.zeros(1), lowering.writer.kinds[source])
        amounts = [count * step - size if place == 2 * axis + 1 else 0 for place in range(2 * len(dims))]
        whole = lowering.like(source, (*dims[:axis], count * step, *dims[axis + 1:]))
        source = lowering.writer.operator("PAD", [source, lowering.writer.shape(amounts), fill], whole)
    # [before, count, step, after]: of the third axis the first.
    before, after = math.prod(dims[:axis]), math.prod(dims[axis + 1:])
    apart = lowering.reshaped(source, (before, count, step, after))
    return lowering.reshaped(lowering.cut(apart, [0] * 4, (before, count, 1, after)), (*dims[:axis], count, *dims[axis + 1:]))


def pad(lowering: Lowering, op: Recorded) -> None:
    """PAD by zeros, which for integers are the zero point, and PADV2 by a number."""
    source = lowering.name(op.inputs[0])
    quantization = lowering.integers(op.inputs[0])
    number = lowering.numbers(op.inputs[2]).reshape(-1)[0] if op.code == "PADV2" else 0 if quantization is None else quantization.zero
    amounts = lowering.writer.shape([int(amount) for amount in lowering.numbers(op.inputs[1]).reshape(-1)])
    fill = lowering.writer.constant(np.array([number]), lowering.writer.kinds[source])
    lowering.writer.operator("PAD", [source, amounts, fill], lowering.name(op.outputs[0]))


def batch_matmul(lowering: Lowering, op: Recorded) -> None:
    """BATCH_MATMUL: MATMUL of one batch axis; sums of integers are rescaled."""
    writer = lowering.writer
    left, right = (_matrices(lowering, index, op.fields[key], op) for index, key in zip(op.inputs, ("adjX", "adjY"), strict=True))
    given, made = [lowering.integers(index) for index in op.inputs], lowering.integers(op.outputs[0])
    zeros = [writer.constant(np.array([0 if one is None else one.zero]), writer.kinds[left]) for one in given]
    dims, target = lowering.tensor(op.outputs[0]).shape, lowering.name(op.outputs[0])
    flat = (math.prod(dims[:-2]), *dims[-2:])
    product = writer.operator("MATMUL", [left, right, *zeros], lowering.like(left, flat, "FP32" if made is None else "INT32"))
    if made is not None:
        scales = [present(one).scale for one in given]
        product = rescaled(writer, product, lowering.like(target, flat), [multiplier_of(scales[0] * scales[1] / made.scale)], 0, made.zero)
    lowering.reshaped(product, dims, target)


def _matrices(lowering: Lowering, index: int, turned: bool, op: Recorded) -> str:
    """A factor as [batches, rows, columns], as many batches as the product has."""
    writer, name = lowering.writer, lowering.name(index)
    dims, batches = lowering.tensor(index).shape, lowering.tensor(op.outputs[0]).shape[:-2]
    own = (*[1] * (len(batches) + 2 - len(dims)), *dims)
    if own[:-2] != batches:
        times = [wanted // size for wanted, size in zip(batches, own[:-2], strict=True)]
        name = lowering.reshaped(name, own)
        name = writer.operator("TILE", [name, writer.shape([*times, 1, 1])], lowering.like(name, (*batches, *own[-2:])))
    name = lowering.reshaped(name, (math.prod(batches), *own[-2:]))
    if not turned:
        return name
    shape = writer.shapes[name]
    return writer.operator("TRANSPOSE", [name], lowering.like(name, (shape[0], shape[2], shape[1])), [0, 2, 1])
