"""Movement in TOSA: reshape, transpose, slice, concatenate, pad, repeat pixels; and products of computed matrices."""

from __future__ import annotations

import math

import numpy as np

from edgecc.backends.tflite.recorder import Recorded
from edgecc.backends.tosa.lowering import Lowering
from edgecc.errors import EdgeccError


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
    """STRIDED_SLICE of steps 1."""
    starts, _, steps = (lowering.numbers(index) for index in op.inputs[1:])
    if any(step != 1 for step in steps):
        raise EdgeccError("E114", "a slice with steps has no form in TOSA")
    lowering.cut(lowering.name(op.inputs[0]), [int(start) for start in starts], lowering.tensor(op.outputs[0]).shape, lowering.name(op.outputs[0]))


def pad(lowering: Lowering, op: Recorded) -> None:
    """PAD by zeros, which for integers are the zero point, and PADV2 by a number."""
    source = lowering.name(op.inputs[0])
    quantization = lowering.integers(op.inputs[0])
    number = lowering.numbers(op.inputs[2]).reshape(-1)[0] if op.code == "PADV2" else 0 if quantization is None else quantization.zero
    amounts = lowering.writer.shape([int(amount) for amount in lowering.numbers(op.inputs[1]).reshape(-1)])
    fill = lowering.writer.constant(np.array([number]), lowering.writer.kinds[source])
    lowering.writer.operator("PAD", [source, amounts, fill], lowering.name(op.outputs[0]))


def resize(lowering: Lowering, op: Recorded) -> None:
    """RESIZE_NEAREST_NEIGHBOR by whole factors: positions are moved by half a pixel, so that rounding to the nearest one rounds down."""
    dims, results = lowering.tensor(op.inputs[0]).shape, lowering.tensor(op.outputs[0]).shape
    factors = [results[axis] // dims[axis] for axis in (1, 2)]
    if any(results[axis] % dims[axis] for axis in (1, 2)):
        raise EdgeccError("E114", "a resize by factors that are not whole has no form in TOSA")
    scale = lowering.writer.shape([2 * factors[0], 2, 2 * factors[1], 2])
    offset, border = (lowering.writer.shape([sign * (factor - 1) for factor in factors]) for sign in (-1, 1))
    lowering.writer.operator("RESIZE", [lowering.name(op.inputs[0]), scale, offset, border], lowering.name(op.outputs[0]), "ResizeMode.NEAREST")


def batch_matmul(lowering: Lowering, op: Recorded) -> None:
    """BATCH_MATMUL of floats: MATMUL of one batch axis."""
    left, right = (_matrices(lowering, index, op.fields[key], op) for index, key in zip(op.inputs, ("adjX", "adjY"), strict=True))
    zeros = [lowering.scalar(0.0)] * 2
    dims = lowering.tensor(op.outputs[0]).shape
    product = lowering.like(left, (math.prod(dims[:-2]), *dims[-2:]))
    lowering.writer.operator("MATMUL", [left, right, *zeros], product)
    lowering.reshaped(product, dims, lowering.name(op.outputs[0]))


def _matrices(lowering: Lowering, index: int, turned: bool, op: Recorded) -> str:
    dims = lowering.tensor(index).shape
    if dims[:-2] != lowering.tensor(op.outputs[0]).shape[:-2]:
        raise EdgeccError("E114", "a product whose batches broadcast has no form in TOSA")
    name = lowering.reshaped(lowering.name(index), (math.prod(dims[:-2]), *dims[-2:]))
    if not turned:
        return name
    shape = lowering.writer.shapes[name]
    return lowering.writer.operator("TRANSPOSE", [name], lowering.like(name, (shape[0], shape[2], shape[1])), [0, 2, 1])
