"""Sums, means, extremes, their positions, and softmax over axes in TOSA, which reduces one axis at a time and keeps it."""

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


def position(lowering: Lowering, op: Recorded) -> None:
    """ARG_MAX and ARG_MIN, the position of the largest negative."""
    source = lowering.name(op.inputs[0])
    if op.code == "ARG_MIN":
        # The negative of -128 has no room in i8; what has all bits turned around is in the same order.
        source = lowering.unary("BITWISE_NOT" if lowering.writer.kinds[source] == "INT8" else "NEGATE", source)
    lowering.writer.operator("ARGMAX", [source], lowering.name(op.outputs[0]), int(lowering.numbers(op.inputs[1])), PROPAGATE)


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
    """Softmax of i8 with results in steps of 1/256 from -128, as precise as TFLite's (kernels/internal/reference/softmax.h).

    Powers of the distance to the largest element have 30 bits, the upper half from one table, the lower half from another one. Their sum
    has 19 bits behind the point, as TFLite's has, and is shifted so that its first bit is the 31st. Its reciprocal starts from a table that
    is interpolated, and a step of Newton's method makes 30 bits of it. The product, shifted back and rounded, is the result.
    """
    writer = lowering.writer
    source, target = lowering.name(op.inputs[0]), lowering.name(op.outputs[0])
    dims = writer.shapes[source]
    axis = len(dims) - 1
    if dims[axis] > LONGEST_SOFTMAX:
        raise EdgeccError("E114", f"a softmax of integers over {dims[axis]} elements has no form in TOSA", hint=f"up to {LONGEST_SOFTMAX} have")

    def number(value: int) -> str:
        return writer.constant(np.full([1] * len(dims), value), "INT32")

    distance = lowering.binary("SUB", widened(writer, source, 0), widened(writer, _over(lowering, "REDUCE_MAX", source, axis), 0))
    # Entries of a table of i16 stand 128 apart, so that each distance of -255 to 0 is an entry; what is looked up is the entry times 128.
    index = rescaled(writer, distance, lowering.like(distance, kind="INT16"), [(1 << 30, 23)], twice=False)
    powers = np.minimum(np.floor(np.exp(np.minimum(np.arange(513) - 256, 0) * scale) * (1 << 30) + 0.5), (1 << 30) - 1).astype(np.int64)
    upper, lower = (writer.operator("TABLE", [index, writer.constant(half, "INT16")], lowering.like(distance))
                    for half in (powers >> 15, powers & 0x7fff))
    power = lowering.binary("ADD", lowering.binary("LOGICAL_LEFT_SHIFT", upper, number(8)), _shifted(lowering, lower, number(7)))
    total = _over(lowering, "REDUCE_SUM", _shifted(lowering, power, number(11)), axis)
    zeros = writer.operator("CLZ", [total], lowering.like(total))
    normal = lowering.binary("LOGICAL_LEFT_SHIFT", total, lowering.binary("SUB", zeros, number(1)))
    # 2^30 to 2^31 becomes the whole range of i16.
    place = rescaled(writer, lowering.binary("SUB", normal, number(3 << 29)), lowering.like(total, kind="INT16"), [(1 << 30, 44)], twice=False)
    reciprocals = writer.constant(np.minimum(np.floor(32768 / (1 + np.arange(513) / 512) + 0.5), 32767), "INT16")
    first = lowering.binary("LOGICAL_LEFT_SHIFT", writer.operator("TABLE", [place, reciprocals], lowering.like(total)), number(8))
    error = lowering.binary("SUB", number(1 << 30), lowering.product(normal, first, 30))
    factor = lowering.binary("ADD", first, lowering.product(first, error, 30))
    result = _shifted(lowering, lowering.product(power, factor, 31), lowering.binary("SUB", number(33), zeros))
    rescaled(writer, result, target, [(1 << 30, 30)], 0, -128, twice=False)


def _shifted(lowering: Lowering, name: str, by: str) -> str:
    """A tensor shifted to the right and rounded."""
    return lowering.writer.operator("ARITHMETIC_RIGHT_SHIFT", [name, by], lowering.like(name), True)
