"""The elementwise operators of ONNX as rows: name -> builder of a scalar expression.

A builder takes the operand expressions (None where an optional operand is absent), whose types are the
element types of the operands, and the operator's attributes by their ONNX names, as plain Python values
(int, float, str). Formulas follow the operator's text in the ONNX specification; where two forms are equal
in exact arithmetic, the one that neither overflows nor cancels is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType

from edgecc.errors import EdgeccError
from edgecc.ir.scalar import ScalarExpr, apply, bitcast, convert, literal
from edgecc.ir.types import DType
from edgecc.ops.casts import ROUND_MODES, cast_expression

Operands = Sequence[ScalarExpr | None]
Attributes = Mapping[str, object]


@dataclass(frozen=True)
class ElementwiseRow:
    """One elementwise operator.

    Attributes:
        onnx_name: the operator's name in the domain ai.onnx.
        build: makes the expression from operand expressions and attributes. Raises EdgeccError E102 for operands
            or attributes the operator does not have, E105 for ones that edgecc does not support.
        doc: the formula.
    """

    onnx_name: str
    build: Callable[[Operands, Attributes], ScalarExpr]
    doc: str


# -- reading operands and attributes ----------------------------------------------------------------------


def _operands(operands: Operands, count: int) -> tuple[ScalarExpr, ...]:
    given = tuple(x for x in operands if x is not None)
    if len(given) != count or len(operands) != count:
        raise EdgeccError("E102", f"{len(given)} operands are given, wanted {count}")
    return given


def _number(attributes: Attributes, name: str, default: float) -> float:
    value = attributes.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EdgeccError("E102", f"attribute {name} is {value!r}, wanted a number")
    return float(value)


def _integer(attributes: Attributes, name: str, default: int) -> int:
    value = attributes.get(name, default)
    if not isinstance(value, int):
        raise EdgeccError("E102", f"attribute {name} is {value!r}, wanted an integer")
    return int(value)


def _text(attributes: Attributes, name: str, default: str, known: Sequence[str]) -> str:
    value = attributes.get(name, default)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str) or value not in known:
        raise EdgeccError("E102", f"attribute {name} is {value!r}, wanted one of {', '.join(known)}")
    return value


# -- pieces of formulas -----------------------------------------------------------------------------------


def _like(x: ScalarExpr, value: float) -> ScalarExpr:
    return literal(value, x.dtype)


def _add(a: ScalarExpr, b: ScalarExpr) -> ScalarExpr:
    return apply("add", a, b)


def _mul(a: ScalarExpr, b: ScalarExpr) -> ScalarExpr:
    return apply("mul", a, b)


def _exp_minus_1(x: ScalarExpr) -> ScalarExpr:
    return apply("sub", apply("exp", x), _like(x, 1.0))


def _is_negative(x: ScalarExpr) -> ScalarExpr:
    return apply("lt", x, _like(x, 0))


def _softplus(x: ScalarExpr) -> ScalarExpr:
    """max(x, 0) + log(1 + exp(-|x|)), which does not overflow."""
    tail = apply("log", _add(_like(x, 1.0), apply("exp", apply("neg", apply("abs", x)))))
    return _add(apply("max", x, _like(x, 0.0)), tail)


# -- builders ---------------------------------------------------------------------------------------------


def _unary(primitive: str) -> Callable[[Operands, Attributes], ScalarExpr]:
    def build(operands: Operands, attributes: Attributes) -> ScalarExpr:
        return apply(primitive, *_operands(operands, 1))
    return build


def _binary(primitive: str, *, swap: bool = False) -> Callable[[Operands, Attributes], ScalarExpr]:
    def build(operands: Operands, attributes: Attributes) -> ScalarExpr:
        a, b = _operands(operands, 2)
        return apply(primitive, b, a) if swap else apply(primitive, a, b)
    return build


def _variadic(primitive: str) -> Callable[[Operands, Attributes], ScalarExpr]:
    def build(operands: Operands, attributes: Attributes) -> ScalarExpr:
        if not operands:
            raise EdgeccError("E102", "no operand is given, wanted at least one")
        return reduce(lambda a, b: apply(primitive, a, b), _operands(operands, len(operands)))
    return build


def _of_x(formula: Callable[[ScalarExpr], ScalarExpr]) -> Callable[[Operands, Attributes], ScalarExpr]:
    def build(operands: Operands, attributes: Attributes) -> ScalarExpr:
        return formula(*_operands(operands, 1))
    return build


def _with_alpha(default: float, formula: Callable[[ScalarExpr, float], ScalarExpr],
                ) -> Callable[[Operands, Attributes], ScalarExpr]:
    def build(operands: Operands, attributes: Attributes) -> ScalarExpr:
        (x,) = _operands(operands, 1)
        return formula(x, _number(attributes, "alpha", default))
    return build


def _mean(operands: Operands, attributes: Attributes) -> ScalarExpr:
    total = _variadic("add")(operands, attributes)
    return apply("div", total, _like(total, len(operands))) if len(operands) > 1 else total


def _mod(operands: Operands, attributes: Attributes) -> ScalarExpr:
    return apply("fmod" if _integer(attributes, "fmod", 0) else "mod", *_operands(operands, 2))


def _pow(operands: Operands, attributes: Attributes) -> ScalarExpr:
    base, exponent = _operands(operands, 2)
    if base.dtype.is_integer and exponent.dtype.is_float:
        power = apply("pow", convert(base, DType.F64), convert(exponent, DType.F64))
        return convert(power, base.dtype)
    return apply("pow", base, convert(exponent, base.dtype))


def _clip(operands: Operands, attributes: Attributes) -> ScalarExpr:
    given = (*operands, None, None, None)
    x, low, high = given[:3]
    if x is None or len(operands) > 3:
        raise EdgeccError("E102", f"{len(operands)} operands are given, wanted x and up to two limits")
    if low is None and "min" in attributes:
        low = _like(x, _number(attributes, "min", 0.0))
    if high is None and "max" in attributes:
        high = _like(x, _number(attributes, "max", 0.0))
    if low is not None:
        x = apply("max", x, low)
    return apply("min", x, high) if high is not None else x


def _leaky(x: ScalarExpr, alpha: float) -> ScalarExpr:
    return apply("select", _is_negative(x), _mul(x, _like(x, alpha)), x)


def _prelu(operands: Operands, attributes: Attributes) -> ScalarExpr:
    x, slope = _operands(operands, 2)
    return apply("select", _is_negative(x), _mul(x, slope), x)


def _elu(x: ScalarExpr, alpha: float) -> ScalarExpr:
    return apply("select", _is_negative(x), _mul(_like(x, alpha), _exp_minus_1(x)), x)


def _selu(operands: Operands, attributes: Attributes) -> ScalarExpr:
    (x,) = _operands(operands, 1)
    alpha = _number(attributes, "alpha", 1.67326319217681884765625)
    gamma = _number(attributes, "gamma", 1.05070102214813232421875)
    negative = _mul(_like(x, gamma * alpha), _exp_minus_1(x))
    return apply("select", apply("le", x, _like(x, 0.0)), negative, _mul(_like(x, gamma), x))


def _celu(x: ScalarExpr, alpha: float) -> ScalarExpr:
    negative = _mul(_like(x, alpha), _exp_minus_1(apply("div", x, _like(x, alpha))))
    return apply("select", _is_negative(x), negative, x)


def _thresholded(x: ScalarExpr, alpha: float) -> ScalarExpr:
    return apply("select", apply("lt", _like(x, alpha), x), x, _like(x, 0.0))


def _hard_sigmoid(x: ScalarExpr, alpha: float, beta: float) -> ScalarExpr:
    line = _add(_mul(x, _like(x, alpha)), _like(x, beta))
    return apply("min", apply("max", line, _like(x, 0.0)), _like(x, 1.0))


def _hard_sigmoid_row(operands: Operands, attributes: Attributes) -> ScalarExpr:
    (x,) = _operands(operands, 1)
    return _hard_sigmoid(x, _number(attributes, "alpha", 0.2), _number(attributes, "beta", 0.5))


def _gelu(operands: Operands, attributes: Attributes) -> ScalarExpr:
    (x,) = _operands(operands, 1)
    if _text(attributes, "approximate", "none", ("none", "tanh")) == "tanh":
        cube = _mul(_mul(_like(x, 0.044715), x), _mul(x, x))
        inner = apply("tanh", _mul(_like(x, math.sqrt(2.0 / math.pi)), _add(x, cube)))
    else:
        inner = apply("erf", _mul(x, _like(x, math.sqrt(0.5))))
    return _mul(_mul(_like(x, 0.5), x), _add(_like(x, 1.0), inner))


def _shrink(operands: Operands, attributes: Attributes) -> ScalarExpr:
    (given,) = _operands(operands, 1)
    # The attributes are floats: onnxruntime computes with those on integers too, and cuts off the fraction of the result.
    x = convert(given, DType.F32) if given.dtype.is_integer else given
    limit, bias = _number(attributes, "lambd", 0.5), _number(attributes, "bias", 0.0)
    above = apply("select", apply("lt", _like(x, limit), x), apply("sub", x, _like(x, bias)), _like(x, 0))
    return convert(apply("select", apply("lt", x, _like(x, -limit)), _add(x, _like(x, bias)), above), given.dtype)


def _bit_shift(operands: Operands, attributes: Attributes) -> ScalarExpr:
    left = _text(attributes, "direction", "", ("LEFT", "RIGHT")) == "LEFT"
    return apply("shift_left" if left else "shift_right", *_operands(operands, 2))


def _is_inf(operands: Operands, attributes: Attributes) -> ScalarExpr:
    (x,) = _operands(operands, 1)
    positive, negative = (_integer(attributes, f"detect_{sign}", 1) for sign in ("positive", "negative"))
    if positive and negative:
        return apply("isinf", x)
    if not positive and not negative:
        return apply("and", apply("isinf", x), literal(False, DType.BOOL))
    return apply("eq", x, _like(x, math.inf if positive else -math.inf))


def _cast(operands: Operands, attributes: Attributes) -> ScalarExpr:
    (x,) = _operands(operands, 1)
    dtype = DType.from_code(_integer(attributes, "to", 0))
    if dtype is None:
        raise EdgeccError("E105", f"conversion to the ONNX type {attributes.get('to')} is not supported")
    return _cast_to(x, dtype, attributes)


def _cast_to(x: ScalarExpr, dtype: DType, attributes: Attributes) -> ScalarExpr:
    return cast_expression(x, dtype, saturate=_integer(attributes, "saturate", 1) != 0,
                           round_mode=_text(attributes, "round_mode", "up", ROUND_MODES))


def _bit_cast(operands: Operands, attributes: Attributes) -> ScalarExpr:
    (x,) = _operands(operands, 1)
    dtype = DType.from_code(_integer(attributes, "to", 0))
    if dtype is None:
        raise EdgeccError("E105", f"conversion to the ONNX type {attributes.get('to')} is not supported")
    if x.dtype is DType.BOOL:
        x = convert(x, DType.U8)
    return convert(bitcast(x, DType.U8), dtype) if dtype is DType.BOOL else bitcast(x, dtype)


def _cast_like(operands: Operands, attributes: Attributes) -> ScalarExpr:
    x, like = _operands(operands, 2)
    return _cast_to(x, like.dtype, attributes)


_ROWS = (
    # arithmetic
    ElementwiseRow("Add", _binary("add"), "a + b"),
    ElementwiseRow("Sub", _binary("sub"), "a - b"),
    ElementwiseRow("Mul", _binary("mul"), "a * b"),
    ElementwiseRow("Div", _binary("div"), "a / b; integers truncate towards zero"),
    ElementwiseRow("Mod", _mod, "a mod b with the sign of b; with fmod=1 the sign of a"),
    ElementwiseRow("Pow", _pow, "a to the power b, of a's type"),
    ElementwiseRow("Min", _variadic("min"), "smallest operand; NaN if one is NaN"),
    ElementwiseRow("Max", _variadic("max"), "largest operand; NaN if one is NaN"),
    ElementwiseRow("Sum", _variadic("add"), "a + b + ..."),
    ElementwiseRow("Mean", _mean, "(a + b + ...) / count"),
    ElementwiseRow("Neg", _unary("neg"), "-x"),
    ElementwiseRow("Abs", _unary("abs"), "|x|"),
    ElementwiseRow("Sign", _unary("sign"), "-1, 0 or 1"),
    ElementwiseRow("Floor", _unary("floor"), "largest integer <= x"),
    ElementwiseRow("Ceil", _unary("ceil"), "smallest integer >= x"),
    ElementwiseRow("Round", _unary("round"), "nearest integer, halves to even"),
    ElementwiseRow("Sqrt", _unary("sqrt"), "square root"),
    ElementwiseRow("Reciprocal", _of_x(lambda x: apply("div", _like(x, 1.0), x)), "1 / x"),
    ElementwiseRow("Exp", _unary("exp"), "e^x"),
    ElementwiseRow("Log", _unary("log"), "natural logarithm"),
    ElementwiseRow("Erf", _unary("erf"), "error function"),
    # trigonometric and hyperbolic functions
    ElementwiseRow("Sin", _unary("sin"), "sine"),
    ElementwiseRow("Cos", _unary("cos"), "cosine"),
    ElementwiseRow("Tan", _unary("tan"), "tangent"),
    ElementwiseRow("Asin", _unary("asin"), "inverse sine"),
    ElementwiseRow("Acos", _unary("acos"), "inverse cosine"),
    ElementwiseRow("Atan", _unary("atan"), "inverse tangent"),
    ElementwiseRow("Sinh", _unary("sinh"), "hyperbolic sine"),
    ElementwiseRow("Cosh", _unary("cosh"), "hyperbolic cosine"),
    ElementwiseRow("Tanh", _unary("tanh"), "hyperbolic tangent"),
    ElementwiseRow("Asinh", _unary("asinh"), "inverse hyperbolic sine"),
    ElementwiseRow("Acosh", _unary("acosh"), "inverse hyperbolic cosine"),
    ElementwiseRow("Atanh", _unary("atanh"), "inverse hyperbolic tangent"),
    # activations
    ElementwiseRow("Relu", _of_x(lambda x: apply("max", x, _like(x, 0))), "max(x, 0)"),
    ElementwiseRow("LeakyRelu", _with_alpha(0.01, _leaky), "x, or alpha*x below 0"),
    ElementwiseRow("PRelu", _prelu, "x, or slope*x below 0"),
    ElementwiseRow("Elu", _with_alpha(1.0, _elu), "x, or alpha*(e^x - 1) below 0"),
    ElementwiseRow("Selu", _selu, "gamma*x, or gamma*alpha*(e^x - 1) up to 0"),
    ElementwiseRow("Celu", _with_alpha(1.0, _celu), "x, or alpha*(e^(x/alpha) - 1) below 0"),
    ElementwiseRow("ThresholdedRelu", _with_alpha(1.0, _thresholded), "x above alpha, else 0"),
    ElementwiseRow("HardSigmoid", _hard_sigmoid_row, "alpha*x + beta, limited to 0..1"),
    ElementwiseRow("HardSwish", _of_x(lambda x: _mul(x, _hard_sigmoid(x, 1.0 / 6.0, 0.5))),
                   "x * (x/6 + 1/2 limited to 0..1)"),
    ElementwiseRow("Sigmoid", _unary("sigmoid"), "1 / (1 + e^-x)"),
    ElementwiseRow("Softplus", _of_x(_softplus), "log(1 + e^x)"),
    ElementwiseRow("Softsign", _of_x(lambda x: apply("div", x, _add(_like(x, 1.0), apply("abs", x)))), "x / (1 + |x|)"),
    ElementwiseRow("Mish", _of_x(lambda x: _mul(x, apply("tanh", _softplus(x)))), "x * tanh(log(1 + e^x))"),
    ElementwiseRow("Gelu", _gelu, "x/2 * (1 + erf(x/sqrt 2)), or with approximate=tanh "
                                  "x/2 * (1 + tanh(sqrt(2/pi)*(x + 0.044715*x^3)))"),
    ElementwiseRow("Swish", _with_alpha(1.0, lambda x, alpha: _mul(x, apply("sigmoid", _mul(x, _like(x, alpha))))),
                   "x / (1 + e^(-alpha*x))"),
    ElementwiseRow("Clip", _clip, "x limited to min..max, max winning; limits are attributes or operands"),
    ElementwiseRow("Shrink", _shrink, "x + bias below -lambd, x - bias above lambd, else 0"),
    # logic, bits, comparisons
    ElementwiseRow("Not", _unary("not"), "not x"),
    ElementwiseRow("And", _binary("and"), "a and b"),
    ElementwiseRow("Or", _binary("or"), "a or b"),
    ElementwiseRow("Xor", _binary("xor"), "a unequal b"),
    ElementwiseRow("BitwiseNot", _unary("bit_not"), "bits inverted"),
    ElementwiseRow("BitwiseAnd", _binary("bit_and"), "bits of a and b"),
    ElementwiseRow("BitwiseOr", _binary("bit_or"), "bits of a or b"),
    ElementwiseRow("BitwiseXor", _binary("bit_xor"), "bits of a unequal b"),
    ElementwiseRow("BitShift", _bit_shift, "a shifted by b bits; by the width or more: 0, or -1 for negative a to the right"),
    ElementwiseRow("Equal", _binary("eq"), "a = b"),
    ElementwiseRow("Less", _binary("lt"), "a < b"),
    ElementwiseRow("LessOrEqual", _binary("le"), "a <= b"),
    ElementwiseRow("Greater", _binary("lt", swap=True), "a > b"),
    ElementwiseRow("GreaterOrEqual", _binary("le", swap=True), "a >= b"),
    ElementwiseRow("IsNaN", _unary("isnan"), "whether x is NaN"),
    ElementwiseRow("IsInf", _is_inf, "whether x is infinite, of the detected signs"),
    # selection and conversion
    ElementwiseRow("Where", lambda operands, attributes: apply("select", *_operands(operands, 3)), "b where a, else c"),
    ElementwiseRow("Cast", _cast, "x as another type; to integers truncating and saturating"),
    ElementwiseRow("BitCast", _bit_cast, "the bits of x as another type of equal size"),
    ElementwiseRow("CastLike", _cast_like, "x as the type of the second operand"),
)

ELEMENTWISE: Mapping[str, ElementwiseRow] = MappingProxyType({row.onnx_name: row for row in _ROWS})
"""Every elementwise operator of ONNX by name, read-only."""
