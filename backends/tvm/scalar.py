"""Expressions over scalars as operators of Relax on whole tensors, which TVM fuses again.

Floats of 16 bits are computed in 32 bits and rounded where the expression says so: as elsewhere, an expression rounds when it
leaves a node, and TVM has few of the functions in 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from edgecc.backends.tvm.emitter import TYPES, Emitter, Expr, type_name
from edgecc.ir.scalar import Apply, Arg, Bitcast, Convert, Literal, ScalarExpr, children
from edgecc.ir.types import DType

OPERATORS: Mapping[str, str] = MappingProxyType({
    "add": "add", "sub": "subtract", "mul": "multiply", "min": "minimum", "max": "maximum", "neg": "negative", "abs": "abs", "sign": "sign",
    "floor": "floor", "ceil": "ceil", "round": "round", "sqrt": "sqrt", "exp": "exp", "log": "log", "erf": "erf", "tanh": "tanh",
    "sigmoid": "sigmoid", "sin": "sin", "cos": "cos", "tan": "tan", "asin": "asin", "acos": "acos", "atan": "atan", "sinh": "sinh",
    "cosh": "cosh", "asinh": "asinh", "acosh": "acosh", "atanh": "atanh", "isnan": "isnan", "isinf": "isinf", "lt": "less", "le": "less_equal",
    "eq": "equal", "and": "logical_and", "or": "logical_or", "xor": "logical_xor", "not": "logical_not", "bit_and": "bitwise_and",
    "bit_or": "bitwise_or", "bit_xor": "bitwise_xor", "bit_not": "bitwise_not", "select": "where",
})
"""Primitives whose meaning an operator of Relax has."""


def obstacle(expr: ScalarExpr) -> str | None:
    """Why an expression cannot be written; None where it can."""
    pending = [expr]
    while pending:
        node = pending.pop()
        if node.dtype not in TYPES:
            return f"TVM is given no numbers of type {node.dtype.value}"
        if isinstance(node, Bitcast) and DType.BOOL in (node.dtype, node.arg.dtype):
            return "truth values have no bits"
        pending.extend(children(node))
    return None


def write(emitter: Emitter, expr: ScalarExpr, operands: Sequence[Expr], dims: Sequence[int]) -> Expr:
    """Writes an expression.

    Args:
        operands: what each `Arg` stands for, in the types that the expression states.
        dims: the shape of the result, to which the operands broadcast.
    Returns: the result, of the expression's type, in the shape that the operands which are read broadcast to.
    """
    return _Writer(emitter, operands, tuple(dims)).rounded(expr)


def _held(dtype: DType) -> DType:
    """The type in which numbers of a type are computed."""
    return DType.F32 if dtype is DType.F16 else dtype


class _Writer:
    """One expression: parts that occur in it several times are computed once."""

    def __init__(self, emitter: Emitter, operands: Sequence[Expr], dims: tuple[int, ...]) -> None:
        self.emitter, self.operands, self.dims = emitter, operands, dims
        self.known: dict[ScalarExpr, Expr] = {}

    def rounded(self, expr: ScalarExpr) -> Expr:
        """The value of an expression in its own type."""
        return self.emitter.convert(self.value(expr), _held(expr.dtype), expr.dtype)

    def value(self, expr: ScalarExpr) -> Expr:
        """The value of an expression in the type it is computed in."""
        if expr not in self.known:
            self.known[expr] = self._value(expr)
        return self.known[expr]

    def _value(self, expr: ScalarExpr) -> Expr:
        match expr:
            case Arg():
                return self.emitter.convert(self.operands[expr.index], expr.dtype, _held(expr.dtype))
            case Literal():
                return self.emitter.scalar(expr.value, _held(expr.dtype))
            case Convert():
                return self._converted(expr)
            case Bitcast():
                return self._bits(expr)
        if expr.op in OPERATORS:
            write_operator = getattr(self.emitter.op, OPERATORS[expr.op])
            return self.emitter.emit(write_operator(*(self.value(arg) for arg in expr.args)))
        if expr.op == "div" and expr.dtype.is_float:
            return self.emitter.emit(self.emitter.op.divide(*(self.value(arg) for arg in expr.args)))
        if expr.op == "pow":
            return self._power(expr)
        return self._elements(_FUNCTIONS[expr.op](self.emitter.tirx, expr.dtype), expr.args)

    def _elements(self, function: Callable[..., Any], args: Sequence[ScalarExpr]) -> Expr:
        """A function that no operator computes, of whole tensors."""
        return self.emitter.computed(function, *(self.emitter.broadcast(self.value(arg), self.dims) for arg in args))

    def _power(self, expr: Apply) -> Expr:
        """Powers of integers are computed in 64-bit floats."""
        between = expr.dtype if expr.dtype.is_float else DType.F64
        args = [self.emitter.convert(self.value(arg), _held(arg.dtype), _held(between)) for arg in expr.args]
        power = self.emitter.emit(self.emitter.op.power(*args))
        return self.emitter.convert(power, _held(between), _held(expr.dtype))

    def _converted(self, expr: Convert) -> Expr:
        source, wanted, op = expr.arg.dtype, expr.dtype, self.emitter.op
        x = self.value(expr.arg)
        if wanted is DType.BOOL:
            return self.emitter.emit(op.not_equal(x, self.emitter.scalar(0, _held(source))))
        if source.is_float and wanted.is_integer:
            return self._saturated(x, _held(source), wanted)
        if wanted is DType.F16:
            return self.emitter.convert(self.emitter.convert(x, _held(source), wanted), wanted, DType.F32)
        return self.emitter.convert(x, _held(source), wanted)

    def _saturated(self, x: Expr, source: DType, wanted: DType) -> Expr:
        """A float as an integer: truncated, as near as the type has numbers, 0 for NaN."""
        op, emit = self.emitter.op, self.emitter.emit
        least, most = (int(limit) for limit in wanted.limits)
        number = source.numpy.type
        below = number(most) if int(number(most)) == most else np.nextafter(number(most), number(0))
        known = emit(op.where(emit(op.isnan(x)), self.emitter.scalar(0, source), x))
        inside = emit(op.minimum(emit(op.maximum(known, self.emitter.scalar(least, source))), self.emitter.scalar(below, source)))
        result = emit(op.astype(inside, type_name(wanted)))
        if int(below) == most:
            return result
        beyond = emit(op.less(self.emitter.scalar(below, source), x))
        return emit(op.where(beyond, self.emitter.scalar(most, wanted), result))

    def _bits(self, expr: Bitcast) -> Expr:
        args, wanted = self.emitter.broadcast(self.rounded(expr.arg), self.dims), expr.dtype
        bits = self.emitter.computed(lambda x: self.emitter.tirx.reinterpret(type_name(wanted), x), args)
        return self.emitter.convert(bits, wanted, _held(wanted))


# -- functions of scalars -----------------------------------------------------------------------
# Integers divided by 0 give 0. The processor must not see that, nor the least number over -1, which it cannot hold.


def _safe(tirx: Any, b: Any, dtype: DType) -> Any:
    wrong = b == 0 if dtype.limits[0] == 0 else tirx.any(b == 0, b == -1)
    return tirx.Select(wrong, tirx.const(1, type_name(dtype)), b)


def _by_zero_or_minus_one(tirx: Any, dtype: DType, a: Any, b: Any, minus_one: Any, other: Any) -> Any:
    zero = tirx.const(0, type_name(dtype))
    signed = other if dtype.limits[0] == 0 else tirx.Select(b == -1, minus_one, other)
    return tirx.Select(b == 0, zero, signed)


def _div(tirx: Any, dtype: DType) -> Callable[..., Any]:
    zero = tirx.const(0, type_name(dtype))
    return lambda a, b: _by_zero_or_minus_one(tirx, dtype, a, b, zero - a, tirx.truncdiv(a, _safe(tirx, b, dtype)))


def _remainder(tirx: Any, dtype: DType, of: Callable[..., Any]) -> Callable[..., Any]:
    zero = tirx.const(0, type_name(dtype))
    return lambda a, b: _by_zero_or_minus_one(tirx, dtype, a, b, zero, of(a, _safe(tirx, b, dtype)))


def _fmod(tirx: Any, dtype: DType) -> Callable[..., Any]:
    if not dtype.is_float:
        return _remainder(tirx, dtype, tirx.truncmod)
    return lambda a, b: _c_fmod(tirx, dtype, a, b)


def _c_fmod(tirx: Any, dtype: DType, a: Any, b: Any) -> Any:
    """C's own function: TVM translates none of its own for processors."""
    kind = DType.F64 if dtype is DType.F64 else DType.F32
    return tirx.call_pure_extern(type_name(kind), "fmod" if kind is DType.F64 else "fmodf", a, b)


def _mod(tirx: Any, dtype: DType) -> Callable[..., Any]:
    if not dtype.is_float:
        return _remainder(tirx, dtype, tirx.floormod)

    def mod(a: Any, b: Any) -> Any:
        rest = _c_fmod(tirx, dtype, a, b)
        return tirx.Select(tirx.any(tirx.all(rest < 0, b > 0), tirx.all(rest > 0, b < 0)), rest + b, rest)

    return mod


def _shift_left(tirx: Any, dtype: DType) -> Callable[..., Any]:
    bits, kind = dtype.bits, type_name(dtype)
    return lambda a, b: tirx.Select(b < bits, tirx.shift_left(a, tirx.min(b, tirx.const(bits - 1, kind))), tirx.const(0, kind))


def _shift_right(tirx: Any, dtype: DType) -> Callable[..., Any]:
    bits, kind, signed = dtype.bits, type_name(dtype), dtype.limits[0] != 0
    last, zero = tirx.const(bits - 1, kind), tirx.const(0, kind)

    def shift(a: Any, b: Any) -> Any:
        if signed:
            return tirx.shift_right(a, tirx.Select(tirx.any(b < 0, b >= bits), last, b))
        return tirx.Select(b < bits, tirx.shift_right(a, tirx.min(b, last)), zero)

    return shift


_FUNCTIONS: Mapping[str, Callable[[Any, DType], Callable[..., Any]]] = MappingProxyType({
    "div": _div, "mod": _mod, "fmod": _fmod, "shift_left": _shift_left, "shift_right": _shift_right})
"""Primitives that no operator of Relax computes with the same meaning, as functions of scalars."""
