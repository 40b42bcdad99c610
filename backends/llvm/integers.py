"""Primitives of integers and truth values, on scalars and vectors.

Integers wrap, division by zero gives zero, and shifts by more than the width give what is left of the number: the
meaning of edgecc/ir/scalar.py. LLVM leaves the result of such divisions and shifts open, so that operands are made safe first.
"""

from __future__ import annotations

from edgecc.backends.llvm.types import vector_of
from edgecc.backends.llvm.writer import Writer
from edgecc.ir.types import DType

_PLAIN = {"add": "add", "sub": "sub", "mul": "mul", "bit_and": "and", "bit_or": "or", "bit_xor": "xor"}
_COMPARE = {"lt": "lt", "le": "le"}
_BOOL = {"and": "and", "or": "or", "xor": "xor"}


def boolean(w: Writer, op: str, lanes: int, args: list[str]) -> str | None:
    """A primitive on truth values."""
    kind = vector_of("i1", lanes)
    if op in _BOOL:
        return w.op(_BOOL[op], kind, *args)
    if op == "not":
        return w.op("xor", kind, args[0], "true" if lanes == 1 else "splat (i1 true)")
    if op == "eq":
        return w.op("icmp eq", kind, *args)
    if op in _COMPARE:
        return w.op(f"icmp u{_COMPARE[op]}", kind, *args)
    if op == "select":
        return w.select(kind, args[0], kind, args[1], args[2])
    return None


def integer(w: Writer, op: str, dtype: DType, lanes: int, args: list[str]) -> str | None:
    """A primitive on integers; None where there is none of this name."""
    bits = 8 * dtype.size
    kind, mask, sign = vector_of(f"i{bits}", lanes), vector_of("i1", lanes), "s" if dtype.is_signed else "u"

    def number(value: int) -> str:
        return str(value) if lanes == 1 else f"splat (i{bits} {value})"

    if op in _PLAIN:
        return w.op(_PLAIN[op], kind, *args)
    if op in _COMPARE:
        return w.op(f"icmp {sign}{_COMPARE[op]}", kind, *args)
    if op in ("min", "max"):
        return w.intrinsic(f"{sign}{op}", kind, *args)
    if op in ("div", "fmod", "mod"):
        return _division(w, op, dtype, lanes, args)
    match op:
        case "fma":
            return w.op("add", kind, w.op("mul", kind, args[0], args[1]), args[2])
        case "eq":
            return w.op("icmp eq", kind, *args)
        case "select":
            return w.select(mask, args[0], kind, args[1], args[2])
        case "neg":
            return w.op("sub", kind, number(0), args[0])
        case "bit_not":
            return w.op("xor", kind, args[0], number(-1))
        case "abs":
            return w.intrinsic("abs", kind, args[0], flags=("false",)) if dtype.is_signed else args[0]
        case "sign" if dtype.is_signed:
            return w.intrinsic("smax", kind, w.intrinsic("smin", kind, args[0], number(1)), number(-1))
        case "sign":
            return w.intrinsic("umin", kind, args[0], number(1))
        case "shift_left":
            inside = w.op("icmp ult", kind, args[1], number(bits))
            return w.select(mask, inside, kind, w.op("shl", kind, *args), number(0))
        case "shift_right":
            inside = w.op("icmp ult", kind, args[1], number(bits))
            if dtype.is_signed:
                return w.op("ashr", kind, args[0], w.select(mask, inside, kind, args[1], number(bits - 1)))
            return w.select(mask, inside, kind, w.op("lshr", kind, *args), number(0))
        case "pow":
            return _power(w, dtype, lanes, args)
    return None


def shift_by(w: Writer, op: str, dtype: DType, lanes: int, value: str, count: int) -> str:
    """A shift by a number of bits that is known and less than the width."""
    kind = vector_of(f"i{8 * dtype.size}", lanes)
    name = "shl" if op == "shift_left" else "ashr" if dtype.is_signed else "lshr"
    return w.op(name, kind, value, str(count) if lanes == 1 else f"splat (i{8 * dtype.size} {count})")


def _division(w: Writer, op: str, dtype: DType, lanes: int, args: list[str]) -> str:
    bits = 8 * dtype.size
    kind, mask = vector_of(f"i{bits}", lanes), vector_of("i1", lanes)
    zero, one, minus = ("0", "1", "-1") if lanes == 1 else ("zeroinitializer", f"splat (i{bits} 1)", f"splat (i{bits} -1)")
    a, b = args
    by_zero = w.op("icmp eq", kind, b, zero)
    if not dtype.is_signed:
        safe = w.select(mask, by_zero, kind, one, b)
        return w.select(mask, by_zero, kind, zero, w.op("udiv" if op == "div" else "urem", kind, a, safe))
    by_minus = w.op("icmp eq", kind, b, minus)  # the least number divided by -1 has no result
    safe = w.select(mask, w.op("or", mask, by_zero, by_minus), kind, one, b)
    if op == "div":
        quotient = w.select(mask, by_minus, kind, w.op("sub", kind, zero, a), w.op("sdiv", kind, a, safe))
        return w.select(mask, by_zero, kind, zero, quotient)
    rest = w.op("srem", kind, a, safe)  # of a division by 1: zero
    if op == "fmod":
        return rest
    differs = w.op("icmp slt", kind, w.op("xor", kind, rest, safe), zero)
    adjust = w.op("and", mask, w.op("icmp ne", kind, rest, zero), differs)
    return w.select(mask, adjust, kind, w.op("add", kind, rest, safe), rest)


def _power(w: Writer, dtype: DType, lanes: int, args: list[str]) -> str:
    """Lane by lane, since the number of steps differs."""
    element = f"i{8 * dtype.size}"
    kind = vector_of(element, lanes)
    name = w.shared.helper(f"edgecc_pow_{dtype.value}", lambda: _power_text(f"edgecc_pow_{dtype.value}", dtype))
    if lanes == 1:
        return w.call(name, element, (element, args[0]), (element, args[1]), internal=True)
    result = "poison"
    for lane in range(lanes):
        pair = [w.let(f"extractelement {kind} {arg}, i64 {lane}") for arg in args]
        power = w.call(name, element, (element, pair[0]), (element, pair[1]), internal=True)
        result = w.let(f"insertelement {kind} {result}, {element} {power}, i64 {lane}")
    return result


def _power_text(name: str, dtype: DType) -> str:
    """a^b by repeated squaring; of negative b the reciprocal, truncated."""
    kind = f"i{8 * dtype.size}"
    shift, entry = ("ashr" if dtype.is_signed else "lshr"), "  br label %loop\n"
    if dtype.is_signed:
        entry = (f"  %negative = icmp slt {kind} %b, 0\n  br i1 %negative, label %reciprocal, label %loop\nreciprocal:\n"
                 f"  %odd = and {kind} %b, 1\n  %is_odd = icmp ne {kind} %odd, 0\n"
                 f"  %of_minus = select i1 %is_odd, {kind} -1, {kind} 1\n  %is_one = icmp eq {kind} %a, 1\n"
                 f"  %is_minus = icmp eq {kind} %a, -1\n  %else = select i1 %is_minus, {kind} %of_minus, {kind} 0\n"
                 f"  %inverse = select i1 %is_one, {kind} 1, {kind} %else\n  ret {kind} %inverse\n")
    return (f"; a^b of integers that wrap\ndefine internal {kind} @{name}({kind} %a, {kind} %b) nounwind {{\nentry:\n{entry}"
            f"loop:\n  %n = phi {kind} [ %b, %entry ], [ %half, %body ]\n  %base = phi {kind} [ %a, %entry ], [ %square, %body ]\n"
            f"  %result = phi {kind} [ 1, %entry ], [ %next, %body ]\n  %more = icmp ne {kind} %n, 0\n"
            f"  br i1 %more, label %body, label %done\nbody:\n  %bit = and {kind} %n, 1\n  %set = icmp ne {kind} %bit, 0\n"
            f"  %product = mul {kind} %result, %base\n  %next = select i1 %set, {kind} %product, {kind} %result\n"
            f"  %square = mul {kind} %base, %base\n  %half = {shift} {kind} %n, 1\n  br label %loop\ndone:\n"
            f"  ret {kind} %result\n}}\n")
