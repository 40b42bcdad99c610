"""Sums, means, extremes and softmax over axes in TOSA, which reduces one axis at a time and keeps it."""

from __future__ import annotations

import math

import numpy as np

from edgecc.backends.tflite.recorder import Recorded
from edgecc.backends.tosa.lowering import PROPAGATE, Lowering
from edgecc.backends.tosa.rescale import multiplier_of, rescaled, widened
from edgecc.errors import EdgeccError

_CODES = {"MEAN": "REDUCE_SUM", "SUM": "REDUCE_SUM", "REDUCE_MAX": "REDUCE_MAX", "REDUCE_MIN": "REDUCE_MIN", "REDUCE_PROD": "REDUCE_PRODUCT"}
LONGEST_SOFTMAX = 1024
"""Terms of a softmax of integers, whose sum must have room in 25 bits."""


def reduce(lowering: Lowering, op: Recorded) -> None:
    """MEAN, SUM, REDUCE_MAX, REDUCE_MIN, REDUCE_PROD."""
    x, axes = op.inputs[0], [int(axis) for axis in lowering.numbers(op.inputs[1]).reshape(-1)]
    dims, target = lowering.tensor(x).shape, lowering.name(op.outputs[0])
    given, made = lowering.integers(x), lowering.integers(op.outputs[0])
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(dims))
    terms = math.prod(dims[axis] for axis in axes)
    extreme = op.code in ("REDUCE_MAX", "REDUCE_MIN")
    source = lowering.name(x)
    if given is not None and not extreme:
        source = widened(lowering.writer, source, given.zero)
    for axis in axes:
        source = _over(lowering, _CODES[op.code], source, axis)
    if given is not None and made is not None:
        factor = multiplier_of(given.scale / made.scale)
        if op.code == "MEAN":
            factor = _divided(factor, terms)
        source = rescaled(lowering.writer, source, lowering.like(target, kept), [factor], given.zero if extreme else 0, made.zero)
    elif op.code == "MEAN":
        source = lowering.binary("MUL", source, lowering.scalar(1.0 / terms))
    lowering.reshaped(source, lowering.tensor(op.outputs[0]).shape, target)


def _divided(factor: tuple[int, int], terms: int) -> tuple[int, int]:
    """A factor over a number of terms, as TFLite divides it (kernels/internal/reference/reduce.h, QuantizedMeanOrSum)."""
    multiplier, shift = factor
    more = min(terms.bit_length() - 1, 62 - shift)
    return (multiplier << more) // terms, shift + more


def _over(lowering: Lowering, code: str, source: str, axis: int) -> str:
    dims = list(lowering.writer.shapes[source])
    dims[axis] = 1
    extra = [PROPAGATE] if code in ("REDUCE_MAX", "REDUCE_MIN") else []
    return lowering.writer.operator(code, [source], lowering.like(source, dims), axis, *extra)


def softmax(lowering: Lowering, op: Recorded) -> None:
    """SOFTMAX and LOG_SOFTMAX over the last axis."""
    given, made = lowering.integers(op.inputs[0]), lowering.integers(op.outputs[0])
    if given is not None and made is not None:
        _integer_softmax(lowering, op, given.scale)
        return
    source, target = lowering.name(op.inputs[0]), lowering.name(op.outputs[0])
    axis = len(lowering.writer.shapes[source]) - 1
    moved = lowering.binary("SUB", source, _over(lowering, "REDUCE_MAX", source, axis))
    powers = lowering.unary("EXP", moved)
    total = _over(lowering, "REDUCE_SUM", powers, axis)
    if op.code == "LOG_SOFTMAX":
        lowering.binary("SUB", moved, lowering.unary("LOG", total), into=target)
    else:
        lowering.binary("MUL", powers, lowering.unary("RECIPROCAL", total), into=target)


def _integer_softmax(lowering: Lowering, op: Recorded, scale: float) -> None:
    """Softmax of i8 with results in steps of 1/256 from -128, within a step of the exact one.

    Powers of the distance to the largest element have 15 bits, from a table. Their sum, shifted so that its first bit is the 31st, has
    a reciprocal of 15 bits, from another table that is interpolated. The product, shifted back and rounded, is the result.
    """
    writer = lowering.writer
    source, target = lowering.name(op.inputs[0]), lowering.name(op.outputs[0])
    dims = writer.shapes[source]
    axis = len(dims) - 1
    if dims[axis] > LONGEST_SOFTMAX:
        raise EdgeccError("E114", f"a softmax of integers over {dims[axis]} elements has no form in TOSA", hint=f"up to {LONGEST_SOFTMAX} have")
    distance = lowering.binary("SUB", widened(writer, source, 0), widened(writer, _over(lowering, "REDUCE_MAX", source, axis), 0))
    # Entries of a table of i16 stand 128 apart, so that each distance of -255 to 0 is an entry.
    index = rescaled(writer, distance, lowering.like(distance, kind="INT16"), [(1 << 30, 23)], twice=False)
    steps = np.minimum(np.arange(513) - 256, 0)
    powers = writer.constant(np.floor(np.exp(steps * scale) * 32767 + 0.5), "INT16")
    looked = writer.operator("TABLE", [index, powers], lowering.like(distance))
    power = _shifted(lowering, looked, writer.constant(np.full([1] * len(dims), 7), "INT32"))
    total = _over(lowering, "REDUCE_SUM", power, axis)
    zeros = writer.operator("CLZ", [total], lowering.like(total))
    one = writer.constant(np.ones([1] * len(dims)), "INT32")
    normal = writer.operator("LOGICAL_LEFT_SHIFT", [total, lowering.binary("SUB", zeros, one)], lowering.like(total))
    # 2^30 to 2^31 becomes the whole range of i16.
    place = rescaled(writer, lowering.binary("SUB", normal, writer.constant(np.full([1] * len(dims), 3 << 29), "INT32")),
                     lowering.like(total, kind="INT16"), [(1 << 30, 44)], twice=False)
    reciprocals = writer.constant(np.minimum(np.floor(32768 / (1 + np.arange(513) / 512) + 0.5), 32767), "INT16")
    factor = _shifted(lowering, writer.operator("TABLE", [place, reciprocals], lowering.like(total)),
                      writer.constant(np.full([1] * len(dims), 7), "INT32"))
    product = lowering.binary("MUL", power, factor)
    back = lowering.binary("SUB", writer.constant(np.full([1] * len(dims), 38), "INT32"), zeros)
    rescaled(writer, _shifted(lowering, product, back), target, [(1 << 30, 30)], 0, -128, twice=False)


def _shifted(lowering: Lowering, name: str, by: str) -> str:
    """A tensor shifted to the right and rounded."""
    return lowering.writer.operator("ARITHMETIC_RIGHT_SHIFT", [name, by], lowering.like(name), True)
