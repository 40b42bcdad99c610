"""Functions of one quantized operand that TFLite computes on integers: as one operator, or as a few that lose nothing.

    LeakyRelu, Gelu, Abs, Exp, Log, Clip to -1..1     one operator, which looks results up in a table of 256
    -x, x * c, x + c, x - c, c - x, x / c             an operator with a constant; a number alone is exact as an integer
    Clip                                              MAXIMUM and MINIMUM with the integers of the limits
    HardSigmoid                                       ADD, RELU, MINIMUM, and a MUL that only states another scale
    Swish                                             LOGISTIC and MUL
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgecc.backends.tflite.emitter import Emitter
from edgecc.backends.tflite.recorder import Quantization
from edgecc.ir.scalar import Apply, Arg, Literal, ScalarExpr
from edgecc.ir.types import DType
from edgecc.ops.elementwise_table import ELEMENTWISE
from edgecc.passes.expressions import simplify

PROBABILITIES = Quantization((1 / 256,), -128)
"""The quantization that TFLite demands of what LOGISTIC and SOFTMAX give."""

_X = Arg(0, DType.F32)


@dataclass(frozen=True)
class Single:
    """One operator of one operand; `fields` are its options."""

    code: str
    options: str = ""
    version: int = 1
    fields: Mapping[str, float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class WithNumber:
    """ADD, SUB or MUL of the operand and a number; `first`: the number stands in front."""

    code: str
    number: float
    first: bool = False


@dataclass(frozen=True)
class Limits:
    """The operand within limits, of which one may be infinite."""

    low: float
    high: float


@dataclass(frozen=True)
class HardSigmoid:
    """alpha * x + beta within 0 and 1."""

    alpha: float
    beta: float


@dataclass(frozen=True)
class Swish:
    """x * sigmoid(x)."""


Form = Single | WithNumber | Limits | HardSigmoid | Swish

_WHOLE: Mapping[ScalarExpr, Form] = {
    simplify(ELEMENTWISE[name].build((_X,), dict(attributes))): form for name, attributes, form in (
        ("Gelu", (), Single("GELU", "GeluOptions", 2, {"approximate": False})),
        ("Gelu", (("approximate", "tanh"),), Single("GELU", "GeluOptions", 2, {"approximate": True})),
        ("Abs", (), Single("ABS", "AbsOptions", 2)), ("Exp", (), Single("EXP", "ExpOptions", 2)), ("Log", (), Single("LOG", "", 2)),
        ("Neg", (), WithNumber("MUL", -1.0)), ("Swish", (), Swish()),
    )}


def form_of(expr: ScalarExpr) -> Form | None:
    """What an expression over one operand is; None for all that TFLite does not compute on integers."""
    expr = simplify(expr)
    if expr in _WHOLE:
        return _WHOLE[expr]
    match expr:
        case Apply("select", (Apply("lt", (Arg(0), Literal(zero))), Apply("mul", (Arg(0), Literal(alpha)) | (Literal(alpha), Arg(0))), Arg(0))) if (
                zero == 0):
            return Single("LEAKY_RELU", "LeakyReluOptions", 2, {"alpha": float(alpha)})
        case Apply("mul", (Arg(0), Literal(number)) | (Literal(number), Arg(0))) if _usable(number):
            return WithNumber("MUL", float(number))
        case Apply("div", (Arg(0), Literal(number))) if _usable(number):
            return WithNumber("MUL", 1.0 / float(number))
        case Apply("add", (Arg(0), Literal(number)) | (Literal(number), Arg(0))) if _usable(number):
            return WithNumber("ADD", float(number))
        case Apply("sub", (Arg(0), Literal(number))) if _usable(number):
            return WithNumber("SUB", float(number))
        case Apply("sub", (Literal(number), Arg(0))) if _usable(number):
            return WithNumber("SUB", float(number), first=True)
        case Apply("min", (Apply("max", (Apply("add", (Apply("mul", (Arg(0), Literal(alpha))), Literal(beta))), Literal(low))), Literal(high))) if (
                (low, high) == (0, 1) and float(alpha) > 0 and _usable(beta)):
            return HardSigmoid(float(alpha), float(beta))
    return _limits(expr)


def _usable(number: float) -> bool:
    return math.isfinite(number) and number != 0


def _limits(expr: ScalarExpr) -> Form | None:
    low, high, inner = -math.inf, math.inf, expr
    while isinstance(inner, Apply) and inner.op in ("min", "max"):
        a, b = inner.args
        literal, rest = (a, b) if isinstance(a, Literal) else (b, a)
        if not isinstance(literal, Literal):
            return None
        # The outer limit wins.
        value = float(literal.value)
        if inner.op == "min":
            low, high = min(low, value), min(high, value)
        else:
            low, high = max(low, value), max(high, value)
        inner = rest
    if inner != _X or expr == _X:
        return None
    return Single("RELU_N1_TO_1") if (low, high) == (-1, 1) else Limits(low, high)


def required_quantization(form: Form, source: Quantization | None) -> Quantization | None:
    """The quantization that a form demands of its result; None where it may be any."""
    return source if isinstance(form, Limits) else None


def number_tensor(emitter: Emitter, number: float, rank: int) -> int:
    """A number as a tensor of one int8, which says it exactly."""
    code = 127 if number > 0 else -127
    return emitter.writer.constant("number", np.full((1,) * rank, code, np.int8), Quantization((float(np.float32(number / code)),)))


def write(emitter: Emitter, form: Form, source: int, target: int, activation: str) -> None:
    """Writes a form whose operand and result are the tensors of integers `source` and `target`."""
    writer = emitter.writer
    x, y = writer.tensors[source], writer.tensors[target]
    rank, plain = len(y.shape), {"fusedActivationFunction": writer.value("ActivationFunctionType", "NONE")}
    if x.quantization is None or y.quantization is None:
        return
    match form:
        case Single(code, options, version, fields):
            writer.operator(code, [source], [target], options, version, **fields)
        case WithNumber(code, number, first):
            constant = number_tensor(emitter, number, rank)
            writer.operator(code, [constant, source] if first else [source, constant], [target], f"{code.capitalize()}Options", 2,
                            fusedActivationFunction=writer.value("ActivationFunctionType", activation))
        case Limits(low, high):
            ends = [(code, limit) for code, limit in (("MAXIMUM", low), ("MINIMUM", high)) if math.isfinite(limit)]
            for place, (code, limit) in enumerate(ends):
                into = target if place == len(ends) - 1 else writer.tensor("limited", y.shape, "INT8", y.quantization)
                writer.operator(code, [source, _code_tensor(emitter, limit, y.quantization, rank)], [into], "MaximumMinimumOptions", 2)
                source = into
        case HardSigmoid(alpha, beta):
            # x + beta/alpha within 0 and 1/alpha; the last product has the same integers, and says that they are alpha of that.
            wide = Quantization((float(np.float32(y.quantization.scale / alpha)),), y.quantization.zero)
            line, limited = (writer.tensor("line", y.shape, "INT8", wide) for _ in range(2))
            writer.operator("ADD", [source, number_tensor(emitter, beta / alpha, rank)], [line], "AddOptions", 2,
                            fusedActivationFunction=writer.value("ActivationFunctionType", "RELU"))
            writer.operator("MINIMUM", [line, _code_tensor(emitter, 1 / alpha, wide, rank)], [limited], "MaximumMinimumOptions", 2)
            writer.operator("MUL", [limited, number_tensor(emitter, alpha, rank)], [target], "MulOptions", 2, **plain)
        case Swish():
            gate = writer.tensor("gate", x.shape, "INT8", PROBABILITIES)
            writer.operator("LOGISTIC", [source], [gate], "", 2)
            writer.operator("MUL", [source, gate], [target], "MulOptions", 2, **plain)


def _code_tensor(emitter: Emitter, number: float, quantization: Quantization, rank: int) -> int:
    """The integer nearest to a number as a tensor of the same quantization."""
    code = min(max(round(number / quantization.scale) + quantization.zero, -128), 127)
    return emitter.writer.constant("limit", np.full((1,) * rank, code, np.int8), quantization)
