"""Elementwise operators in TOSA: on floats one for one; on integers as TFLite's kernels compute them, or by a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from edgecc.backends.tflite.quantized import present
from edgecc.backends.tflite.recorder import Quantization, Recorded
from edgecc.backends.tosa.lowering import Lowering
from edgecc.backends.tosa.rescale import multiplier_of, rescaled, widened

BINARY: Mapping[str, str] = MappingProxyType({
    "ADD": "ADD", "SUB": "SUB", "MUL": "MUL", "MINIMUM": "MINIMUM", "MAXIMUM": "MAXIMUM", "EQUAL": "EQUAL",
    "LOGICAL_AND": "LOGICAL_AND", "LOGICAL_OR": "LOGICAL_OR",
})
"""TOSA's name of TFLite's operators on two tensors."""
SWAPPED: Mapping[str, str] = MappingProxyType({"LESS": "GREATER", "LESS_EQUAL": "GREATER_EQUAL"})
"""Those whose operands change places."""
UNARY: Mapping[str, str] = MappingProxyType({
    "NEG": "NEGATE", "ABS": "ABS", "FLOOR": "FLOOR", "CEIL": "CEIL", "EXP": "EXP", "LOG": "LOG", "SIN": "SIN", "COS": "COS", "TANH": "TANH",
    "LOGISTIC": "SIGMOID", "LOGICAL_NOT": "LOGICAL_NOT", "CAST": "CAST", "ERF": "ERF",
})
"""TOSA's name of TFLite's operators on one tensor."""
PRIMITIVES = frozenset({"add", "sub", "mul", "div", "min", "max", "neg", "abs", "floor", "ceil", "exp", "log", "sin", "cos", "tanh",
                        "sigmoid", "lt", "le", "eq", "and", "or", "not", "select", "erf", "sqrt"})
"""Primitives of scalar expressions that can be written; TOSA's POW takes no negative numbers."""

_BITS = 20
"""Sums of integers are computed with so many bits behind the point (TFLite kernels/add.cc)."""


def elementwise(lowering: Lowering, op: Recorded) -> None:
    """Any of them."""
    if op.code == "TABLE":
        lowering.writer.operator("TABLE", [lowering.name(index) for index in op.inputs], lowering.name(op.outputs[0]))
    elif op.code in _TABLES and lowering.integers(op.outputs[0]) is not None:
        _table(lowering, op)
    elif op.code in ("RELU", "RELU6"):
        _activation(lowering, op)
    elif lowering.integers(op.outputs[0]) is not None and op.code in ("ADD", "SUB"):
        _sum(lowering, op)
    elif lowering.integers(op.outputs[0]) is not None and op.code == "MUL":
        _product(lowering, op)
    else:
        _floats(lowering, op)


def _floats(lowering: Lowering, op: Recorded) -> None:
    names = [lowering.name(index) for index in op.inputs]
    if op.code == "CAST" or op.code in UNARY:
        lowering.unary(UNARY[op.code], names[0], lowering.name(op.outputs[0]))
        return
    target, finish = lowering.with_activation(op)
    if op.code in BINARY:
        lowering.binary(BINARY[op.code], names[0], names[1], target)
    elif op.code in SWAPPED:
        lowering.binary(SWAPPED[op.code], names[1], names[0], target)
    elif op.code == "DIV":
        lowering.binary("MUL", names[0], lowering.unary("RECIPROCAL", names[1]), into=target)
    elif op.code == "SQRT":
        lowering.unary("RECIPROCAL", lowering.unary("RSQRT", names[0]), target)
    elif op.code == "SELECT_V2":
        lowering.writer.operator("SELECT", lowering.aligned(names), target)
    else:  # HARD_SWISH: x * (limited x + 3) / 6
        moved = lowering.binary("ADD", names[0], lowering.scalar(3.0))
        limited = lowering.clamped(moved, 0.0, 6.0, lowering.like(moved))
        lowering.binary("MUL", names[0], lowering.binary("MUL", limited, lowering.scalar(1 / 6)), into=target)
    finish()


def _activation(lowering: Lowering, op: Recorded) -> None:
    """RELU and RELU6: limits; integers are rescaled first where the quantization changes."""
    source, target = lowering.name(op.inputs[0]), lowering.name(op.outputs[0])
    given, made = lowering.integers(op.inputs[0]), lowering.integers(op.outputs[0])
    if given is not None and made is not None and given != made:
        source = rescaled(lowering.writer, source, lowering.like(source), [multiplier_of(given.scale / made.scale)], given.zero, made.zero)
    low, high = lowering.limits(op.code, made) or (0.0, 0.0)
    lowering.clamped(source, low, high, target)


def _operand(lowering: Lowering, index: int) -> tuple[str, Quantization]:
    return lowering.name(index), present(lowering.integers(index))


def _sum(lowering: Lowering, op: Recorded) -> None:
    """ADD and SUB: both operands in units of twice the larger scale, with bits behind the point, then as the result wants them."""
    operands = [_operand(lowering, index) for index in op.inputs]
    _, made = _operand(lowering, op.outputs[0])
    twice = 2.0 * max(quantization.scale for _, quantization in operands)
    wide = []
    for name, quantization in operands:
        raised = widened(lowering.writer, name, quantization.zero, _BITS)
        wide.append(rescaled(lowering.writer, raised, lowering.like(raised), [multiplier_of(quantization.scale / twice)]))
    total = lowering.binary(op.code, *wide)
    target, finish = lowering.with_activation(op)
    rescaled(lowering.writer, total, target, [multiplier_of(twice / ((1 << _BITS) * made.scale))], 0, made.zero)
    finish()


def _product(lowering: Lowering, op: Recorded) -> None:
    (left, a), (right, b) = (_operand(lowering, index) for index in op.inputs)
    _, made = _operand(lowering, op.outputs[0])
    product = lowering.binary("MUL", widened(lowering.writer, left, a.zero), widened(lowering.writer, right, b.zero))
    target, finish = lowering.with_activation(op)
    rescaled(lowering.writer, product, target, [multiplier_of(a.scale * b.scale / made.scale)], 0, made.zero)
    finish()


def _hard_swish(x: float) -> float:
    return x * min(max(x + 3.0, 0.0), 6.0) / 6.0


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x > -700.0 else 0.0


_TABLES: Mapping[str, Callable[[float], float]] = MappingProxyType({"LOGISTIC": _sigmoid, "TANH": math.tanh, "HARD_SWISH": _hard_swish})


def _table(lowering: Lowering, op: Recorded) -> None:
    """A function of one operand: TABLE with the result for each of its 256 integers."""
    source, given = _operand(lowering, op.inputs[0])
    _, made = _operand(lowering, op.outputs[0])
    function = _TABLES[op.code]
    numbers = [function((q - given.zero) * given.scale) / made.scale + made.zero for q in range(-128, 128)]
    codes = np.clip([math.floor(number + 0.5) for number in numbers], -128, 127)
    lowering.writer.operator("TABLE", [source, lowering.writer.constant(codes, "INT8")], lowering.name(op.outputs[0]))


def quantize(lowering: Lowering, op: Recorded) -> None:
    """QUANTIZE: floats are scaled and rounded half to even, integers rescaled."""
    source, target = lowering.name(op.inputs[0]), lowering.name(op.outputs[0])
    given, (_, made) = lowering.integers(op.inputs[0]), _operand(lowering, op.outputs[0])
    if given is not None:
        rescaled(lowering.writer, source, target, [multiplier_of(given.scale / made.scale)], given.zero, made.zero)
        return
    steps = lowering.binary("MUL", source, lowering.scalar(1.0 / made.scale))
    whole = lowering.unary("CAST", steps, lowering.like(steps, kind="INT32"))
    rescaled(lowering.writer, whole, target, [(1 << 30, 30)], 0, made.zero, twice=False)


def dequantize(lowering: Lowering, op: Recorded) -> None:
    """DEQUANTIZE: (q - zero) * scale."""
    source, given = _operand(lowering, op.inputs[0])
    floats = lowering.unary("CAST", source, lowering.like(source, kind="FP32"))
    moved = lowering.binary("SUB", floats, lowering.scalar(given.zero)) if given.zero else floats
    lowering.binary("MUL", moved, lowering.scalar(given.scale), into=lowering.name(op.outputs[0]))
