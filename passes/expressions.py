"""Simplification of scalar expressions, and questions passes ask about them.

`simplify` only goes to forms that are no more expensive; it knows no commutativity beyond moving
constants to the right, after which every other rule needs to look in one place. All rules give the
same value for the same operands bit for bit, except the two that are marked and round differently, and
that min and max may choose the other of two zeros.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

from edgecc.ir.dims import Shape
from edgecc.ir.graph import Value
from edgecc.ir.scalar import (
    Apply,
    Arg,
    Bitcast,
    Convert,
    Literal,
    ScalarExpr,
    apply,
    bitcast,
    children,
    convert,
    evaluate,
    literal,
    size,
    substitute,
    used_args,
)
from edgecc.ir.types import DType
from edgecc.passes.rewrite import broadcast_shape, is_constant, is_power_of_two

COMMUTATIVE = frozenset({"add", "mul", "min", "max", "eq", "and", "or", "xor", "bit_and", "bit_or", "bit_xor"})
DISCONTINUOUS = frozenset({"lt", "le", "eq", "floor", "ceil", "round", "sign", "mod", "fmod"})
EXACT = frozenset({"min", "max", "neg", "abs", "sign", "floor", "ceil", "round", "select"})  # of floats
CHEAP = frozenset({
    "add", "sub", "mul", "min", "max", "neg", "abs", "lt", "le", "eq", "and", "or", "xor", "not",
    "bit_and", "bit_or", "bit_xor", "bit_not", "shift_left", "shift_right", "select",
})  # one or two instructions on every target; the rest divides, iterates or calls an approximation

_REMEMBERED = 4096
"""Expressions whose simple form is remembered, so that what is fused piece by piece is not walked over with each piece."""


def simplify(expr: ScalarExpr) -> ScalarExpr:
    """Rewrites an expression into its canonical form, operands first.

    1. Operations on literals alone are computed.
    2. Of the operands of a commutative operation, literals stand on the right, and operand 0 left of operand 1.
    3. x*1, x/1, x-0, x+(-0), x**1, --x, not not x, select of a known condition or of equal branches, and
       conversions to a wider type and back are x. (x+0 is not x for x = -0.) For integers x*0 is 0.
    4. x - c is x + (-c) for floats; x / c is x * (1/c) where c is a power of two and 1/c is a normal number.
    5. x**2, x**3, x**-1, x**-2 are products and quotients, x**0.5 and x**-0.5 use the square root, if x is at
       most one operation. Rounds differently; and (-inf)**0.5 becomes NaN, (-0)**0.5 becomes -0.
    6. Two limits of one kind are one: max(max(x, c), d) is max(x, max(c, d)), and so for min.
    7. 1 / (1 + exp(-x)) is sigmoid(x). Rounds differently.
    """
    return expr if isinstance(expr, Arg | Literal) else _simplified(_Identical(expr))


class _Identical:
    """An expression that equals itself alone: to compare two means to walk over both."""

    __slots__ = ("expr",)

    def __init__(self, expr: ScalarExpr) -> None:
        self.expr = expr

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identical) and other.expr is self.expr

    def __hash__(self) -> int:
        return id(self.expr)


@functools.lru_cache(_REMEMBERED)
def _simplified(item: _Identical) -> ScalarExpr:
    match item.expr:
        case Apply(op=op, args=args, dtype=dtype) as expr:
            simple = _simplify_apply(op, tuple([simplify(arg) for arg in args]), dtype)
            stays = isinstance(simple, Apply) and simple.op == op and len(simple.args) == len(args) and all(a is b for a, b in zip(simple.args, args, strict=True))
            return expr if stays else simple
        case Convert(arg=arg, dtype=dtype):
            return _simplify_convert(simplify(arg), dtype)
        case Bitcast(arg=arg, dtype=dtype):
            inner = simplify(arg)
            whole = bitcast(inner, dtype)
            return _computed(whole) if isinstance(inner, Literal) else whole
    return item.expr


def _simplify_apply(op: str, args: tuple[ScalarExpr, ...], dtype: DType) -> ScalarExpr:
    if op in COMMUTATIVE and _in_wrong_order(*args):
        args = (args[1], args[0])
    whole = Apply(op, args, dtype)
    if all(isinstance(arg, Literal) for arg in args):
        return _computed(whole)
    first, last = args[0], args[-1]
    match op:
        case "neg" | "not" if isinstance(first, Apply) and first.op == op:
            return first.args[0]
        case "select" if isinstance(first, Literal):
            return args[1] if first.value else args[2]
        case "select" if args[1] == args[2]:
            return args[1]
        case "and" | "or" if isinstance(last, Literal):
            absorbs = bool(last.value) == (op == "or")
            return last if absorbs else first
        case "mul" | "div" if _is(last, 1):
            return first
        case "mul" if dtype.is_integer and _is(last, 0):
            return last
        case "pow" if isinstance(last, Literal):
            return _power(whole, first, last.value)
        case "max" | "min" if isinstance(last, Literal):
            match first:
                case Apply(op=inner, args=(x, Literal() as limit)) if inner == op:
                    return Apply(op, (x, _computed(Apply(op, (limit, last), dtype))), dtype)
        case "add" if _is_negative_zero(last) or (dtype.is_integer and _is(last, 0)):
            return first
        case "sub" if _is_positive_zero(last) or (dtype.is_integer and _is(last, 0)):
            return first
        case "sub" if isinstance(last, Literal) and dtype.is_float:
            return Apply("add", (first, Literal(-float(last.value), dtype)), dtype)
        case "div" if isinstance(last, Literal) and dtype.is_float and _has_exact_reciprocal(last):
            return Apply("mul", (first, literal(1.0 / float(last.value), dtype)), dtype)
        case "div" if _is(first, 1) and dtype.is_float:
            return _sigmoid_of(last) or whole
    return whole


def _in_wrong_order(first: ScalarExpr, second: ScalarExpr) -> bool:
    match first, second:
        case Arg(index=a), Arg(index=b):
            return a > b
    return isinstance(first, Literal) and not isinstance(second, Literal)


def _simplify_convert(arg: ScalarExpr, dtype: DType) -> ScalarExpr:
    if arg.dtype is dtype:
        return arg
    if isinstance(arg, Literal):
        return _computed(Convert(arg, dtype))
    if isinstance(arg, Convert) and arg.arg.dtype is dtype and _holds(arg.dtype, dtype):
        return arg.arg
    return Convert(arg, dtype)


def _computed(expr: ScalarExpr) -> ScalarExpr:
    value = evaluate(expr, ())
    if expr.dtype.is_float:
        return Literal(float(value), expr.dtype)
    return Literal(bool(value) if expr.dtype is DType.BOOL else int(value), expr.dtype)


def _holds(wide: DType, narrow: DType) -> bool:
    """Whether every number of type `narrow` is one of type `wide`."""
    if wide.is_stored_only or narrow.is_stored_only:
        return False
    if wide.is_float and narrow.is_float:
        return wide.unit_roundoff <= narrow.unit_roundoff and (wide, narrow) not in ((DType.F16, DType.BF16),)
    if wide.is_float:
        bits = 1 if narrow is DType.BOOL else narrow.size * 8
        return 2.0**-bits >= wide.unit_roundoff / 2
    if narrow is DType.BOOL:
        return wide.is_integer
    return wide.is_integer and narrow.is_integer and wide.size > narrow.size and (wide.is_signed or not narrow.is_signed)


def _is(expr: ScalarExpr, value: float) -> bool:
    return isinstance(expr, Literal) and expr.dtype is not DType.BOOL and expr.value == value


def _is_positive_zero(expr: ScalarExpr) -> bool:
    return _is(expr, 0) and isinstance(expr, Literal) and math.copysign(1.0, float(expr.value)) > 0


def _is_negative_zero(expr: ScalarExpr) -> bool:
    return _is(expr, 0) and isinstance(expr, Literal) and math.copysign(1.0, float(expr.value)) < 0


_SMALLEST_NORMAL = {DType.F64: 2.0**-1022, DType.F32: 2.0**-126, DType.BF16: 2.0**-126, DType.F16: 2.0**-14}


def _has_exact_reciprocal(divisor: Literal) -> bool:
    value, least = abs(float(divisor.value)), _SMALLEST_NORMAL[divisor.dtype]
    return is_power_of_two(value) and value >= least and 1.0 / value >= least and math.isfinite(1.0 / value)


def _power(whole: Apply, base: ScalarExpr, exponent: float) -> ScalarExpr:
    if exponent == 1:
        return base
    if not whole.dtype.is_float or size(base) > 1:
        return whole
    one = literal(1.0, whole.dtype)
    match exponent:
        case 2.0:
            return apply("mul", base, base)
        case 3.0:
            return apply("mul", apply("mul", base, base), base)
        case 0.5:
            return apply("sqrt", base)
        case -1.0:
            return apply("div", one, base)
        case -2.0:
            return apply("div", one, apply("mul", base, base))
        case -0.5:
            return apply("div", one, apply("sqrt", base))
    return whole


def _sigmoid_of(denominator: ScalarExpr) -> ScalarExpr | None:
    """sigmoid(x) for a denominator exp(-x) + 1."""
    match denominator:
        case Apply("add", (Apply("exp", (Apply("neg", (x,)),)), last)) if _is(last, 1):
            return apply("sigmoid", x)
    return None


def is_cheap(expr: ScalarExpr) -> bool:
    """Whether computing the expression again costs no more than a few instructions."""
    if isinstance(expr, Apply) and expr.op not in CHEAP:
        return False
    return all(is_cheap(child) for child in children(expr))


def rounds(expr: ScalarExpr) -> bool:
    """Whether the float value of `expr` can differ from its exact value by rounding."""
    if isinstance(expr, Apply) and expr.dtype.is_float and expr.op not in EXACT:
        return True
    return any(rounds(child) for child in children(expr))


def reads_discontinuously(expr: ScalarExpr) -> frozenset[int]:
    """The operands of which a change in the last bit can make the value of `expr` jump.

    That is so under comparisons, roundings to integers and remainders. A comparison with zero is
    excepted: one rounding does not change the sign of a sum, difference or product.
    An expression keeps what was found, as for `reads`.
    """
    known: frozenset[int] | None = vars(expr).get("_jumps")
    if known is None:
        operands = children(expr)
        if operands and _jumps(expr):
            known = frozenset(used_args(expr))
        else:
            known = frozenset().union(*[reads_discontinuously(child) for child in operands])
        vars(expr)["_jumps"] = known
    return known


def _jumps(expr: ScalarExpr) -> bool:
    """Whether the operation at the root is not continuous in its operands."""
    match expr:
        case Apply(op=op, args=args):
            return op in DISCONTINUOUS and not (op in ("lt", "le", "eq") and any(_is(a, 0) for a in args))
        case Convert(arg=arg, dtype=dtype):
            return arg.dtype.is_float and (not dtype.is_float or dtype.is_stored_only)
        case Bitcast(arg=arg):
            return arg.dtype.is_float
    return False


def renumbered(expr: ScalarExpr, numbers: Mapping[int, int]) -> ScalarExpr:
    """`expr` with operand i read as operand numbers[i]."""
    match expr:
        case Arg(index=index, dtype=dtype):
            return Arg(numbers[index], dtype)
        case Apply(op=op, args=args, dtype=dtype):
            return Apply(op, tuple(renumbered(arg, numbers) for arg in args), dtype)
        case Convert(arg=arg, dtype=dtype):
            return convert(renumbered(arg, numbers), dtype)
        case Bitcast(arg=arg, dtype=dtype):
            return bitcast(renumbered(arg, numbers), dtype)
    return expr


def compact(operands: Sequence[Value], expr: ScalarExpr, shape: Shape) -> tuple[list[Value], ScalarExpr]:
    """Operands of an elementwise result of this shape in canonical form, and the expression over them.

    Each operand stands there once, constants last, none that is not read unless the shape comes from it.
    """
    used = used_args(expr)
    distinct = list(dict.fromkeys(operands[i] for i in used))
    for index, value in enumerate(operands):
        if index not in used and value not in distinct and broadcast_shape(v.type.shape for v in distinct) != shape:
            distinct.append(value)
    ordered = [v for v in distinct if not is_constant(v)] + [v for v in distinct if is_constant(v)]
    if len(ordered) == len(operands) and all(a is b for a, b in zip(ordered, operands, strict=True)):
        return ordered, expr
    position = {id(v): i for i, v in enumerate(ordered)}
    args = [Arg(position.get(id(v), 0), v.type.dtype) for v in operands]
    return ordered, substitute(expr, args)


def canonical(operands: Sequence[Value], expr: ScalarExpr, shape: Shape) -> tuple[list[Value], ScalarExpr]:
    """`compact` operands and the `simplify`-ed expression over them: equal computations become equal."""
    simple = simplify(expr)
    kept, compacted = compact(operands, simple, shape)
    return kept, simple if compacted is simple else simplify(compacted)
