"""Sums, differences and products of scalar integers, which wrap around as the Loop IR says, in as few conversions as C asks for.

Signed overflow has no meaning in C, and narrow operands become `int`. So an expression whose values are known to fit into `int` (or
int64_t) is printed as it is, and others in unsigned arithmetic, converted once around the whole: 6.3.1.1, 6.3.1.8 and 6.5 of ISO/IEC 9899:2011.
Converting back to a signed type keeps the bits: gcc and clang define it so.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType

from edgecc.backends.c.table import STORAGE
from edgecc.ir.types import DType
from edgecc.loop.ir import Cast, Const, Expr, Load, Op, Ref

SIGNS: Mapping[str, str] = MappingProxyType({"add": "+", "sub": "-", "mul": "*"})
TYPES = frozenset({DType.I8, DType.I16, DType.I32, DType.I64, DType.U8, DType.U16, DType.U32, DType.U64})

Printer = Callable[[Expr], str]
Interval = tuple[int, int]


def wraps(op: Op) -> bool:
    """Whether `arithmetic` prints an operation."""
    return (op.op in SIGNS or op.op in ("neg", "fma")) and op.lanes == 1 and op.dtype in TYPES


def arithmetic(op: Op, print_operand: Printer) -> str:
    """An operation for which `wraps` holds; `print_operand` prints what is not arithmetic. It can stand as an operand of anything."""
    if _is_signed(op):
        text = _text(op, lambda operand: _signed(operand, print_operand))
        return text if op.dtype in (DType.I32, DType.I64) else f"({STORAGE[op.dtype]}){text}"
    text = _text(op, lambda operand: _unsigned(operand, _wide(op.dtype), print_operand))
    return text if op.dtype is _wide(op.dtype) else f"({STORAGE[op.dtype]}){text}"


def interval(expr: Expr) -> Interval:
    """The least and the greatest number that an expression of integers may have."""
    every = _limits(expr.dtype)
    match expr:
        case Const(value=value):
            return int(value), int(value)
        case Cast(arg=arg) if arg.dtype in TYPES:
            return _within(interval(arg), every)
        case Op() if wraps(expr):
            return _within(_exact(expr), every)
    return every


@functools.cache
def _limits(dtype: DType) -> Interval:
    low, high = dtype.limits
    return int(low), int(high)


def _within(found: Interval, every: Interval) -> Interval:
    return found if every[0] <= found[0] and found[1] <= every[1] else every


def _exact(op: Op) -> Interval:
    """Where the result lies before it wraps around."""
    if op.op == "fma":
        return _exact(_two_steps(op))
    operands = [interval(arg) for arg in op.args]
    if op.op == "neg":
        return -operands[0][1], -operands[0][0]
    (low, high), (least, greatest) = operands[:2]
    if op.op == "add":
        return low + least, high + greatest
    if op.op == "sub":
        return low - greatest, high - least
    products = [a * b for a, b in itertools.product((low, high), (least, greatest))]
    return min(products), max(products)


def _two_steps(op: Op) -> Op:
    """a * b + c of integers as a sum."""
    return Op("add", (Op("mul", op.args[:2], op.dtype), op.args[2]), op.dtype)


def _is_signed(op: Op) -> bool:
    """Whether `int`, or int64_t, holds the exact result and all on the way to it."""
    if op.dtype in (DType.U32, DType.U64):
        return False
    held = _limits(DType.I64 if op.dtype is DType.I64 else DType.I32)
    found = _exact(op)
    return _within(found, held) is found


def _wide(dtype: DType) -> DType:
    """The unsigned type to compute in."""
    return DType.U64 if dtype.size == 8 else DType.U32


def _text(op: Op, text_of: Printer) -> str:
    match op:
        case Op(op="add" | "sub" as name, args=(first, Const(value=value) as second)) if _limits(op.dtype)[0] < value < 0:
            return _text(Op("sub" if name == "add" else "add", (first, Const(-int(value), second.dtype)), op.dtype), text_of)
    if op.op == "fma":
        return _text(_two_steps(op), text_of)
    texts = [text_of(arg) for arg in op.args]
    if op.op == "neg":
        return f"(-{texts[0]})" if _is_signed(op) else f"(0u - {texts[0]})"
    return f"({texts[0]} {SIGNS[op.op]} {texts[1]})"


def _signed(operand: Expr, print_operand: Printer) -> str:
    """An operand whose value C converts by itself: an expression of any integer type no wider than what is computed in, but for u32."""
    match operand:
        case Cast(arg=Const(value=value) as constant, dtype=DType.I32) if constant.dtype in TYPES and constant.dtype.size < 4:
            return print_operand(Const(int(value), DType.I32))  # constants of unsigned types are unsigned in C, however narrow
        case Cast(arg=Load() | Ref() | Cast() as arg, dtype=DType.I32) if arg.dtype in TYPES and arg.dtype.size < 4:
            return print_operand(arg)
        case Const(value=value) if operand.dtype.size < 4:
            return print_operand(Const(int(value), DType.I32))
    return print_operand(operand)


def _unsigned(operand: Expr, wide: DType, print_operand: Printer) -> str:
    """An operand in the unsigned type `wide`."""
    ctype = STORAGE[wide]
    match operand:
        case Const(value=value) if value >= 0 and wide is DType.U32:
            return f"{int(value)}u"
        case Op() if wraps(operand) and operand.dtype.size == wide.size and not _is_signed(operand):
            return _text(operand, lambda arg: _unsigned(arg, wide, print_operand))
        case Cast(arg=arg) if arg.dtype in TYPES and operand.dtype.size == wide.size:  # extends by the sign of what is converted
            return _unsigned(arg, wide, print_operand) if arg.dtype.size == wide.size else f"({ctype}){print_operand(arg)}"
    text = print_operand(operand)
    return text if operand.dtype is wide else f"({ctype}){text}"
