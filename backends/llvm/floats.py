"""Primitives of floats, on scalars and vectors, and of floats that are held in wider ones.

The bits are those of the C back end (backends/c): each operation rounds on its own, only `fma` is one rounding, and NaN
wins in `min` and `max`. Mathematical functions of f32 are the definitions of edgecc/loop/math.py, those of f64 are
calls of the C library.
"""

from __future__ import annotations

from collections.abc import Callable

from edgecc.backends.llvm import halves
from edgecc.backends.llvm.extrema import extremum
from edgecc.backends.llvm.types import element_type, float_text, held_type, vector_of
from edgecc.backends.llvm.writer import Writer
from edgecc.errors import EdgeccError
from edgecc.ir.scalar import PRIMITIVES
from edgecc.ir.types import DType
from edgecc.loop.math import DEFINED

F16, F32, F64 = DType.F16, DType.F32, DType.F64

_PLAIN = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_COMPARE = {"lt": "fcmp olt", "le": "fcmp ole", "eq": "fcmp oeq"}
_UNARY = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "abs": "fabs"}
_LIBRARY = frozenset({"exp", "log", "erf", "tanh", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh",
                      "acosh", "atanh", "pow", "fmod"})
_NATIVE_HALF = frozenset({*_PLAIN, *_COMPARE, *_UNARY, "round", "fma", "min", "max", "neg", "select"})
_COMPARISONS = frozenset(name for name, primitive in PRIMITIVES.items() if primitive.result == "bool")
_STAYS_ROUNDED = _COMPARISONS | {"min", "max", "min_const", "max_const", "select", "abs", "neg", "floor", "ceil", "round",
                                 "sign"}
"""Operations whose results are numbers of the short type where the operands are."""

MathHelper = Callable[[str, int], str]
"""Gives the name of the helper function of a mathematical function on so many lanes of f32."""


def floating(w: Writer, op: str, dtype: DType, lanes: int, args: list[str], helper: MathHelper) -> str | None:
    """A primitive on floats; None where there is none of this name.

    `min_const` and `max_const` are those whose operand 1 is a constant other than NaN.
    """
    held = held_type(w.machine.isa, dtype, lanes)
    if dtype is F32 and op in DEFINED:
        kind = vector_of("float", lanes)
        return w.call(helper(op, lanes), kind, *((kind, arg) for arg in args), internal=True)
    if held is F16:
        if op.removesuffix("_const") in _NATIVE_HALF:
            return _on(w, op, F16, lanes, args)
        wide = [arg if position == 0 and op == "select" else halves.extend(w, arg, lanes) for position, arg in enumerate(args)]
        done = floating(w, op, F32, lanes, wide, helper)
        return done if done is None or op in _COMPARISONS else halves.truncate(w, done, lanes)
    if held is not dtype:
        if op == "fma" and dtype is F16 and lanes == 1:
            return _half_fma(w, args)
        done = floating(w, op, F32, lanes, args, helper)
        return done if done is None or op in _STAYS_ROUNDED else halves.normalize(w, dtype, done, lanes)
    if dtype is F64 and (op in _LIBRARY or op in ("sigmoid", "mod")):
        return _lanes_of_library(w, op, lanes, args)
    return _on(w, op, held, lanes, args)


def _on(w: Writer, op: str, held: DType, lanes: int, args: list[str]) -> str | None:
    """A primitive on numbers of a type that the machine computes with."""
    kind, mask = vector_of(element_type(held), lanes), vector_of("i1", lanes)
    is_vector_of_arm = w.machine.architecture == "aarch64" and lanes > 1

    def number(value: float) -> str:
        text = float_text(value, held)
        return text if lanes == 1 else f"splat ({element_type(held)} {text})"

    if op in _PLAIN:
        return w.op(_PLAIN[op], kind, *args)
    if op in _COMPARE:
        return w.op(_COMPARE[op], kind, *args)
    if op in _UNARY:
        return w.intrinsic(_UNARY[op], kind, *args)
    if op.partition("_")[0] in ("min", "max"):
        name = op[:3]
        if is_vector_of_arm:
            return w.intrinsic(f"{name}imum", kind, *args)
        first, second = args[::-1] if op.endswith("_const") else args
        found = extremum(w, name, kind, first, second)
        if op.endswith("_const"):
            return found
        return w.select(mask, w.op("fcmp uno", kind, first, first), kind, first, found)
    match op:
        case "neg":
            return w.let(f"fneg {kind} {args[0]}")
        case "round":
            # Both round to nearest even; the first is what the C library has under any rounding mode of its own.
            return w.intrinsic("roundeven" if w.machine.has_vectors else "rint", kind, *args)
        case "fma" if w.machine.has_fma:
            return w.intrinsic("fma", kind, *args)
        case "fma":
            return w.op("fadd", kind, w.op("fmul", kind, args[0], args[1]), args[2])
        case "select":
            return w.select(mask, args[0], kind, args[1], args[2])
        case "isnan":
            return w.op("fcmp uno", kind, args[0], args[0])
        case "isinf":
            return w.op("fcmp oeq", kind, w.intrinsic("fabs", kind, args[0]), number(float("inf")))
        case "sign":
            rest = args[0]  # NaN stays, and zero with its sign
            if not is_vector_of_arm:
                rest = w.select(mask, w.op("fcmp uno", kind, args[0], args[0]), kind, args[0], number(0.0))
            below = w.select(mask, w.op("fcmp olt", kind, args[0], number(0.0)), kind, number(-1.0), rest)
            return w.select(mask, w.op("fcmp ogt", kind, args[0], number(0.0)), kind, number(1.0), below)
    return None


def _half_fma(w: Writer, args: list[str]) -> str:
    """Rounded once: the product of halves is exact in double, and the sum is rounded to odd on the way to f16."""
    a, b, c = (w.convert("fpext", "float", arg, "double") for arg in args)
    total = w.op("fadd", "double", w.op("fmul", "double", a, b), c)
    return halves.normalize(w, F16, halves.round_odd(w, total, 1), 1)


def _lanes_of_library(w: Writer, op: str, lanes: int, args: list[str]) -> str:
    """A function of the C library on each lane."""
    if lanes == 1:
        return _library(w, op, args)
    kind, result = vector_of("double", lanes), "poison"
    for lane in range(lanes):
        value = _library(w, op, [w.let(f"extractelement {kind} {arg}, i64 {lane}") for arg in args])
        result = w.let(f"insertelement {kind} {result}, double {value}, i64 {lane}")
    return result


def _library(w: Writer, op: str, args: list[str]) -> str:
    kind = "double"
    match op:
        case "acosh":  # some libraries give numbers below 1
            outside = w.op("fcmp olt", kind, args[0], float_text(1.0, F64))
            return w.select("i1", outside, kind, float_text(float("nan"), F64), w.call("acosh", kind, (kind, args[0])))
        case "sigmoid":
            one = float_text(1.0, F64)
            e = w.call("exp", kind, (kind, w.let(f"fneg double {w.intrinsic('fabs', kind, args[0])}")))
            above = w.select("i1", w.op("fcmp oge", kind, args[0], float_text(0.0, F64)), kind, one, e)
            return w.op("fdiv", kind, above, w.op("fadd", kind, one, e))
        case "mod":
            zero = float_text(0.0, F64)
            rest = w.call("fmod", kind, (kind, args[0]), (kind, args[1]))
            differs = w.op("xor", "i1", w.op("fcmp olt", kind, rest, zero), w.op("fcmp olt", kind, args[1], zero))
            adjust = w.op("and", "i1", w.op("fcmp une", kind, rest, zero), differs)
            found = w.select("i1", adjust, kind, w.op("fadd", kind, rest, args[1]), rest)
            signed = w.intrinsic("copysign", kind, zero, args[1])
            return w.select("i1", w.op("fcmp oeq", kind, found, zero), kind, signed, found)
    if op not in _LIBRARY:
        raise EdgeccError("E900", f"LLVM back end: no operation {op} on f64")
    return w.call(op, kind, *((kind, arg) for arg in args))
