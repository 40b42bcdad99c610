"""Scalar expressions: what an elementwise kernel computes for one element.

`Elementwise` nodes and the epilogues of convolutions, matrix products and reductions hold a tree of
these. Fusing a chain of elementwise operators is substituting expressions into one another, and a
backend that can print the primitives below gets every elementwise operator.

Every expression has an element type. Arithmetic is done in that type; integers wrap. The primitives
and their meaning are the rows of `PRIMITIVES`: numpy decides, evaluated in float64 for floats and
rounded once when an expression leaves a node (`evaluate`). What is rounded to an integer or to a short type is
computed in the type it states first, operation by operation, because rounding jumps: the last bit of a quotient
decides about a tie, and every machine must decide alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array, DType, is_float_array


@dataclass(frozen=True)
class Arg:
    """The element of operand `index` at this position (after broadcasting)."""

    index: int
    dtype: DType


@dataclass(frozen=True)
class Literal:
    """A constant. Floats print with repr, which round-trips; NaN equals NaN here."""

    value: float | int | bool
    dtype: DType

    def _key(self) -> tuple[str, DType]:
        return (repr(self.value), self.dtype)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


@dataclass(frozen=True)
class Apply:
    """A primitive applied to operands; `dtype` is the type of the result."""

    op: str
    args: tuple[ScalarExpr, ...]
    dtype: DType


@dataclass(frozen=True)
class Convert:
    """`arg` converted to `dtype`: floats round to nearest even, float to integer truncates towards zero
    and saturates, integers wrap, anything to bool is `!= 0`.

    Floats beyond the range of a float type become infinite, or NaN where it has no infinity, or the largest number
    where it has neither; NaN becomes zero where there is none. Numbers that f8e8m0 lacks, zero and negative ones,
    become NaN there, and others round to the nearest power of two, halves up (below 2^-126 everything up).
    """

    arg: ScalarExpr
    dtype: DType


@dataclass(frozen=True)
class Bitcast:
    """The bits of `arg`, rounded to its type, read as a type of equal size."""

    arg: ScalarExpr
    dtype: DType


ScalarExpr = Arg | Literal | Apply | Convert | Bitcast


@dataclass(frozen=True)
class Primitive:
    """A row of the primitive table: arity, meaning, and which types it takes.

    `result` is "same" (type of the operands), "bool" (comparisons) or "select" (type of operand 1).
    `takes` is "number", "float", "integer", "bool" or "any".
    """

    name: str
    arity: int
    meaning: Callable[..., Array]
    takes: str = "number"
    result: str = "same"


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def _sigmoid(x: Array) -> Array:
    return np.asarray(np.where(x >= 0, 1.0, np.exp(np.minimum(x, 0.0))) / (1.0 + np.exp(-np.abs(x))))


def _div(a: Array, b: Array) -> Array:
    """Floats divide; integers truncate towards zero, as C does; division by zero gives zero."""
    if a.dtype.kind not in "iu":  # bfloat16 is no subtype of numpy.floating
        return np.asarray(a / b)
    b_safe = np.where(b == 0, np.ones_like(b), b)
    quotient = a // b_safe
    inexact = (a % b_safe != 0) & ((a < 0) != (b_safe < 0))
    return np.asarray(np.where(b == 0, np.zeros_like(a), quotient + inexact.astype(a.dtype))).astype(a.dtype)


def _mod(a: Array, b: Array) -> Array:
    """Remainder with the sign of the divisor (Python's %); by zero gives zero for integers."""
    if a.dtype.kind not in "iu":  # bfloat16 is no subtype of numpy.floating
        return np.asarray(np.mod(a, b))
    return np.asarray(np.where(b == 0, np.zeros_like(a), np.mod(a, np.where(b == 0, np.ones_like(b), b))))


def _fmod(a: Array, b: Array) -> Array:
    """Remainder with the sign of the dividend (C's fmod and %); by zero gives zero for integers."""
    if a.dtype.kind not in "iu":  # bfloat16 is no subtype of numpy.floating
        return np.asarray(np.fmod(a, b))
    return np.asarray(np.where(b == 0, np.zeros_like(a), np.fmod(a, np.where(b == 0, np.ones_like(b), b))))


def _pow(a: Array, b: Array) -> Array:
    if a.dtype.kind not in "iu":  # bfloat16 is no subtype of numpy.floating
        return np.asarray(np.power(a, b.astype(a.dtype)))
    return np.asarray(np.power(a.astype(np.float64), b.astype(np.float64))).astype(a.dtype)


def _shift_left(a: Array, b: Array) -> Array:
    bits = a.dtype.itemsize * 8
    return np.asarray(np.where(b < bits, np.left_shift(a, np.minimum(b, bits - 1)), np.zeros_like(a)))


def _shift_right(a: Array, b: Array) -> Array:
    """The sign moves in from the left, so that large shifts of negative numbers give -1; so do shifts by less than 0."""
    bits = a.dtype.itemsize * 8
    count = np.where((b < 0) | (b >= bits), np.asarray(bits - 1, b.dtype), b)
    moved = np.right_shift(a, count)
    return np.asarray(moved if a.dtype.kind == "i" else np.where(b < bits, moved, np.zeros_like(a)))


PRIMITIVES: Mapping[str, Primitive] = {
    row.name: row
    for row in (
        Primitive("add", 2, np.add),
        Primitive("sub", 2, np.subtract),
        Primitive("mul", 2, np.multiply),
        Primitive("div", 2, _div),
        Primitive("mod", 2, _mod),
        Primitive("fmod", 2, _fmod),
        Primitive("pow", 2, _pow),
        Primitive("min", 2, np.minimum),
        Primitive("max", 2, np.maximum),
        Primitive("neg", 1, np.negative),
        Primitive("abs", 1, np.abs),
        Primitive("sign", 1, np.sign),
        Primitive("floor", 1, np.floor, "float"),
        Primitive("ceil", 1, np.ceil, "float"),
        Primitive("round", 1, np.rint, "float"),
        Primitive("sqrt", 1, np.sqrt, "float"),
        Primitive("exp", 1, np.exp, "float"),
        Primitive("log", 1, np.log, "float"),
        Primitive("erf", 1, _erf, "float"),
        Primitive("tanh", 1, np.tanh, "float"),
        Primitive("sigmoid", 1, _sigmoid, "float"),
        Primitive("sin", 1, np.sin, "float"),
        Primitive("cos", 1, np.cos, "float"),
        Primitive("tan", 1, np.tan, "float"),
        Primitive("asin", 1, np.arcsin, "float"),
        Primitive("acos", 1, np.arccos, "float"),
        Primitive("atan", 1, np.arctan, "float"),
        Primitive("sinh", 1, np.sinh, "float"),
        Primitive("cosh", 1, np.cosh, "float"),
        Primitive("asinh", 1, np.arcsinh, "float"),
        Primitive("acosh", 1, np.arccosh, "float"),
        Primitive("atanh", 1, np.arctanh, "float"),
        Primitive("isnan", 1, np.isnan, "float", "bool"),
        Primitive("isinf", 1, np.isinf, "float", "bool"),
        Primitive("lt", 2, np.less, "any", "bool"),
        Primitive("le", 2, np.less_equal, "any", "bool"),
        Primitive("eq", 2, np.equal, "any", "bool"),
        Primitive("and", 2, np.logical_and, "bool"),
        Primitive("or", 2, np.logical_or, "bool"),
        Primitive("xor", 2, np.logical_xor, "bool"),
        Primitive("not", 1, np.logical_not, "bool"),
        Primitive("bit_and", 2, np.bitwise_and, "integer"),
        Primitive("bit_or", 2, np.bitwise_or, "integer"),
        Primitive("bit_xor", 2, np.bitwise_xor, "integer"),
        Primitive("bit_not", 1, np.bitwise_not, "integer"),
        Primitive("shift_left", 2, _shift_left, "integer"),
        Primitive("shift_right", 2, _shift_right, "integer"),
        Primitive("select", 3, np.where, "any", "select"),
    )
}


def accepts(takes: str, dtype: DType) -> bool:
    """Whether a primitive that takes `takes` (see `Primitive`) takes operands of this type.

    Types that are only stored can be compared and selected, nothing else; strings can only be compared for equality.
    """
    if dtype.is_stored_only:
        return takes == "any"
    match takes:
        case "number":
            return dtype is not DType.BOOL
        case "float":
            return dtype.is_float
        case "integer":
            return dtype.is_integer
        case "bool":
            return dtype is DType.BOOL
    return True


def apply(op: str, *args: ScalarExpr) -> Apply:
    """Builds an application of a primitive and derives its type.

    Raises: EdgeccError E110 for an unknown primitive, a wrong number of operands, operands of
    unequal type, or a type the primitive does not take.
    """
    row = PRIMITIVES.get(op)
    if row is None or len(args) != row.arity:
        raise EdgeccError("E110", f"no scalar primitive {op!r} with {len(args)} operands")
    operands = args[1:] if row.result == "select" else args
    dtype = operands[0].dtype
    if any(a.dtype is not dtype for a in operands) or (row.result == "select" and args[0].dtype is not DType.BOOL):
        raise EdgeccError("E110", f"operands of {op} have types {', '.join(a.dtype.value for a in args)}")
    if not accepts(row.takes, dtype) or (dtype is DType.STRING and op not in ("eq", "select")):
        raise EdgeccError("E110", f"{op} does not take {dtype.value}")
    return Apply(op, args, DType.BOOL if row.result == "bool" else dtype)


def literal(value: float | int | bool, dtype: DType) -> Literal:
    """A constant of type `dtype`; the value is rounded to what that type can hold.

    Raises: EdgeccError E110 for strings.
    """
    if dtype is DType.STRING:
        raise EdgeccError("E110", "scalar expressions have no constant strings")
    with np.errstate(over="ignore"):
        held = np.asarray(value).astype(dtype.numpy)
    if dtype.is_float:
        return Literal(float(held), dtype)
    return Literal(bool(held) if dtype is DType.BOOL else int(held), dtype)


def convert(arg: ScalarExpr, dtype: DType) -> ScalarExpr:
    """`arg` as `dtype`; nothing is added where it has that type already.

    Raises: EdgeccError E110 for strings, which are made and read by operators of their own.
    """
    if DType.STRING in (arg.dtype, dtype) and arg.dtype is not dtype:
        raise EdgeccError("E110", f"elements of type {arg.dtype.value} are not converted to {dtype.value}")
    return arg if arg.dtype is dtype else Convert(arg, dtype)


def bitcast(arg: ScalarExpr, dtype: DType) -> ScalarExpr:
    """The bits of `arg` as `dtype`; nothing is added where it has that type already.

    Raises: EdgeccError E110 where the types have different sizes.
    """
    if arg.dtype is dtype:
        return arg
    if arg.dtype.bits != dtype.bits:
        raise EdgeccError("E110", f"the bits of {arg.dtype.value} are not those of {dtype.value}")
    return Bitcast(arg, dtype)


def children(expr: ScalarExpr) -> tuple[ScalarExpr, ...]:
    """The direct operands of an expression."""
    match expr:
        case Apply(args=args):
            return args
        case Convert(arg=arg) | Bitcast(arg=arg):
            return (arg,)
    return ()


def substitute(expr: ScalarExpr, args: Sequence[ScalarExpr]) -> ScalarExpr:
    """Replaces every `Arg(i)` in `expr` by `args[i]`: the heart of elementwise fusion. Parts that stay as they are are the same objects."""
    match expr:
        case Arg(index=index):
            return expr if args[index] == expr else args[index]
        case Apply(op=op, args=operands, dtype=dtype):
            replaced = [substitute(a, args) for a in operands]
            return expr if all(a is b for a, b in zip(replaced, operands, strict=True)) else Apply(op, tuple(replaced), dtype)
        case Convert(arg=arg, dtype=dtype):
            return convert(substitute(arg, args), dtype)
        case Bitcast(arg=arg, dtype=dtype):
            return bitcast(substitute(arg, args), dtype)
    return expr


def retype(expr: ScalarExpr, change: Callable[[DType], DType]) -> ScalarExpr:
    """The same expression with every type replaced by what `change` gives for it; literals are rounded to theirs.

    Bits are still taken of, and read as, the types they were.
    """
    match expr:
        case Arg(index=index, dtype=dtype):
            return Arg(index, change(dtype))
        case Literal(value=value, dtype=dtype):
            return literal(value, change(dtype))
        case Apply(op=op, args=operands, dtype=dtype):
            return Apply(op, tuple(retype(a, change) for a in operands), change(dtype))
        case Convert(arg=arg, dtype=dtype):
            return convert(retype(arg, change), change(dtype))
        case Bitcast(arg=arg, dtype=dtype):
            return convert(bitcast(convert(retype(arg, change), arg.dtype), dtype), change(dtype))


def widen(expr: ScalarExpr) -> ScalarExpr:
    """The same expression with every float type replaced by f64; literals keep their (rounded) values."""
    return retype(expr, lambda dtype: DType.F64 if dtype.is_float else dtype)


def reads(expr: ScalarExpr) -> tuple[Arg, ...]:
    """The operands that occur in `expr`, each once, by number.

    An expression keeps what was found, and so does `size`: what is fused piece by piece is asked with each piece.
    """
    known: tuple[Arg, ...] | None = vars(expr).get("_reads")
    if known is None:
        found: set[Arg] = set()
        pending = [expr]
        while pending:
            node = pending.pop()
            if isinstance(node, Arg):
                found.add(node)
            elif (inside := vars(node).get("_reads")) is not None:
                found.update(inside)
            else:
                pending.extend(children(node))
        known = vars(expr)["_reads"] = tuple(sorted(found, key=lambda arg: (arg.index, arg.dtype.value)))
    return known


def used_args(expr: ScalarExpr) -> tuple[int, ...]:
    """Indices of the operands that occur in `expr`, ascending, each once."""
    return tuple(dict.fromkeys([arg.index for arg in reads(expr)]))


def arg_counts(expr: ScalarExpr) -> Mapping[int, int]:
    """How often each operand that occurs in `expr` is read; kept like `reads`."""
    known: dict[int, int] | None = vars(expr).get("_counts")
    if known is None:
        known, pending = {}, [expr]
        while pending:
            node = pending.pop()
            if isinstance(node, Arg):
                known[node.index] = known.get(node.index, 0) + 1
            elif (inside := vars(node).get("_counts")) is not None:
                for index, count in inside.items():
                    known[index] = known.get(index, 0) + count
            else:
                pending.extend(children(node))
        vars(expr)["_counts"] = known
    return known


def size(expr: ScalarExpr) -> int:
    """Number of primitive applications and conversions in the tree."""
    known: int | None = vars(expr).get("_size")
    if known is None:
        known, pending = 0, [expr]
        while pending:
            node = pending.pop()
            inside = vars(node).get("_size")
            if inside is None:
                operands = children(node)
                known += bool(operands)
                pending.extend(operands)
            else:
                known += inside
        vars(expr)["_size"] = known
    return known


def convert_array(array: Array, dtype: DType) -> Array:
    """numpy conversion with the rules of `Convert` (saturating, NaN to zero for integers)."""
    if dtype is DType.BOOL:
        return np.asarray(array != 0)
    if dtype.is_integer and is_float_array(array):
        wide = np.nan_to_num(np.trunc(array.astype(np.float64)), nan=0.0, posinf=np.inf, neginf=-np.inf)
        least, most = dtype.limits
        inside = np.clip(wide, float(least), np.nextafter(float(most) + 1.0, 0.0))
        if dtype.is_stored_only:
            return np.asarray(np.trunc(inside).astype(np.int8).astype(dtype.numpy))
        out = inside.astype(dtype.numpy)
        return np.asarray(np.where(wide >= float(most), np.asarray(most).astype(dtype.numpy), out)).astype(dtype.numpy)
    if dtype.is_stored_only and dtype.is_float:
        array = _narrowed_to_odd(array.astype(np.float64))
        array = np.where(np.isnan(array), np.float32(0), array) if dtype is DType.F4E2M1 else array
    with np.errstate(over="ignore"):
        return np.asarray(array.astype(dtype.numpy))


def _narrowed_to_odd(array: Array) -> Array:
    """float64 as float32 whose last bit says whether it is exact, so that rounding it again is as if rounded once.

    Source: S. Boldo and G. Melquiond, Emulation of FMA and correctly rounded sums, 2008.
    """
    with np.errstate(over="ignore", under="ignore"):
        near = array.astype(np.float32)
    inexact = np.isfinite(array) & np.isfinite(near) & (near.astype(np.float64) != array)
    towards_zero = np.where(inexact & (np.abs(near.astype(np.float64)) > np.abs(array)), near.view(np.int32) - 1, near.view(np.int32))
    return np.asarray(np.where(inexact, towards_zero | 1, towards_zero)).astype(np.int32).view(np.float32)


JUMPS = frozenset({"floor", "ceil", "round"})
"""Primitives whose operands `evaluate` rounds as the types they state; see this module's docstring."""

_AS_STATED = "as stated"
_WIDE = "wide"
_EACH = "each"


def evaluate(expr: ScalarExpr, args: Sequence[Array], *, wide: bool = True) -> Array:
    """Evaluates `expr` over numpy arrays (broadcast by numpy's rules).

    Floats are computed in float64 and rounded to the expression's type once at the end, unless
    `wide` is false: then every primitive rounds. Integers wrap in their own type. Below `JUMPS` and conversions to
    integers and short types every primitive rounds to f32 for the types up to that, as kernels do.
    """

    def width(dtype: DType, mode: str) -> np.dtype[np.generic]:
        if not dtype.is_float or mode == _EACH:
            return dtype.numpy
        return np.dtype(np.float64 if mode == _WIDE or dtype is DType.F64 else np.float32)

    def below(mode: str, jumps: bool) -> str:
        return _AS_STATED if jumps and mode == _WIDE else mode

    def run(node: ScalarExpr, mode: str) -> Array:
        out = width(node.dtype, mode)
        match node:
            case Arg(index=index):
                return np.asarray(args[index]).astype(out)
            case Literal(value=value):
                return np.asarray(value).astype(out)
            case Bitcast(arg=arg, dtype=dtype):
                return run(arg, mode).astype(arg.dtype.numpy).view(dtype.numpy).astype(out)
            case Convert(arg=arg, dtype=dtype):
                both = dtype.is_float and arg.dtype.is_float
                source = run(arg, below(mode, arg.dtype.is_float and (not both or dtype.is_stored_only)))
                if both and dtype.size > arg.dtype.size and (arg.dtype, dtype) != (DType.F8E8M0, DType.F16):
                    return np.asarray(source.astype(out))
                return np.asarray(convert_array(source, dtype).astype(out))
            case Apply(op=op, args=operands):
                values = [run(a, below(mode, op in JUMPS)) for a in operands]
                return np.asarray(PRIMITIVES[op].meaning(*values)).astype(out)

    with np.errstate(all="ignore"):
        return np.asarray(run(expr, _WIDE if wide else _EACH)).astype(expr.dtype.numpy)
