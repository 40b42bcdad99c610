"""Elementwise arithmetic in TFLite: scalar expressions as operators on tensors.

Floats take an operator for each primitive. On integers only the forms that TFLite has as a whole are written; everything else is
dequantized, computed in floats and quantized again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from edgecc.backends.tflite import functions, quantized
from edgecc.backends.tflite.emitter import KINDS, Emitter, Order, Result, plain
from edgecc.backends.tflite.recorder import Quantization
from edgecc.errors import EdgeccError
from edgecc.ir.dims import numbers
from edgecc.ir.graph import Node, Value
from edgecc.ir.scalar import Apply, Arg, Bitcast, Convert, Literal, ScalarExpr, apply, literal, substitute
from edgecc.ir.types import DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.elementwise_table import ELEMENTWISE


@dataclass(frozen=True)
class Operator:
    """An operator of TFLite: its code, the table of its options, and its version for integers."""

    code: str
    options: str = ""
    integers: int = 0


_PRIMITIVES: Mapping[str, Operator] = MappingProxyType({
    "add": Operator("ADD", "AddOptions", 2), "sub": Operator("SUB", "SubOptions", 2), "mul": Operator("MUL", "MulOptions", 2),
    "div": Operator("DIV", "DivOptions"), "pow": Operator("POW", "PowOptions"),
    "min": Operator("MINIMUM", "MaximumMinimumOptions"), "max": Operator("MAXIMUM", "MaximumMinimumOptions"),
    "neg": Operator("NEG", "NegOptions"), "abs": Operator("ABS", "AbsOptions"), "floor": Operator("FLOOR"), "ceil": Operator("CEIL"),
    "round": Operator("ROUND"), "sqrt": Operator("SQRT"), "exp": Operator("EXP", "ExpOptions"), "log": Operator("LOG"),
    "sin": Operator("SIN"), "erf": Operator("ERF"), "cos": Operator("COS", "CosOptions"), "tanh": Operator("TANH", "", 2),
    "sigmoid": Operator("LOGISTIC", "", 2), "sign": Operator("SIGN", "SignOptions"),
})
_COMPARISONS: Mapping[str, Operator] = MappingProxyType({
    "lt": Operator("LESS", "LessOptions"), "le": Operator("LESS_EQUAL", "LessEqualOptions"), "eq": Operator("EQUAL", "EqualOptions"),
    "and": Operator("LOGICAL_AND", "LogicalAndOptions"), "or": Operator("LOGICAL_OR", "LogicalOrOptions"),
    "not": Operator("LOGICAL_NOT", "LogicalNotOptions"), "select": Operator("SELECT_V2", "SelectV2Options"),
})
_ALL = {**_PRIMITIVES, **_COMPARISONS}

_X = Arg(0, DType.F32)
_HARD_SWISH = ELEMENTWISE["HardSwish"].build((_X,), {})
_PRELU = ELEMENTWISE["PRelu"].build((_X, Arg(1, DType.F32)), {})
_FLOAT_FUNCTIONS = ("GELU", "LEAKY_RELU")
"""Operators of one operand that whole expressions on floats become."""


def _erf_of(x: ScalarExpr) -> ScalarExpr:
    """erf(x) by primitives, at most 1.5e-7 off. Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26."""
    def number(value: float) -> ScalarExpr:
        return literal(value, DType.F32)

    size = apply("abs", x)
    t = apply("div", number(1.0), apply("add", number(1.0), apply("mul", number(0.3275911), size)))
    sums: ScalarExpr = number(1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        sums = apply("add", apply("mul", sums, t), number(factor))
    tail = apply("mul", apply("mul", sums, t), apply("exp", apply("neg", apply("mul", x, x))))
    rest = apply("sub", number(1.0), tail)
    return apply("select", apply("lt", x, number(0.0)), apply("neg", rest), rest)


def with_primitives(expr: ScalarExpr) -> ScalarExpr:
    """An expression with functions in f32 that TFLite lacks written by those it has."""
    match expr:
        case Apply("erf", (inner,), DType.F32):
            return _erf_of(with_primitives(inner))
        case Apply(op, args, dtype):
            return Apply(op, tuple(with_primitives(argument) for argument in args), dtype)
        case Convert(inner, dtype):
            return Convert(with_primitives(inner), dtype)
    return expr


def binary(primitive: str) -> ScalarExpr:
    """A primitive applied to two operands of f32."""
    return Apply(primitive, (_X, Arg(1, DType.F32)), DType.F32)


SUMS = tuple(binary(name) for name in ("add", "sub", "mul"))
"""Expressions that an activation can be applied within."""


def activation(expr: ScalarExpr) -> str | None:
    """The activation of the schema that an expression over one operand is; None for every other expression."""
    match expr:
        case Apply("max", (Arg(0), Literal(value))) | Apply("max", (Literal(value), Arg(0))) if value == 0:
            return "RELU"
        case Apply("min", (Apply() as inner, Literal(value))) if value == 6 and activation(inner) == "RELU":
            return "RELU6"
        case Apply("max", (Apply("min", (Arg(0), Literal(high))), Literal(low))) if (low, high) == (0, 6):
            return "RELU6"
    return None


def own_form(node: Node) -> tuple[ScalarExpr, list[Value]]:
    """The expression of a node in which constants of one element are numbers, and the operands that are left."""
    op = node.op
    if not isinstance(op, Elementwise):
        raise EdgeccError("E900", f"{op.name} is not elementwise")
    arguments: list[ScalarExpr] = []
    left: list[Value] = []
    for value in node.inputs:
        known = value is not None and value.type.dtype is DType.F32 and value.type.elements == 1 and quantized.is_constant(value)
        if value is None or known:
            number = 0.0 if value is None else float(quantized.constant_floats(value).reshape(()))
            arguments.append(Literal(number, DType.F32))
        else:
            arguments.append(Arg(len(left), value.type.dtype))
            left.append(value)
    return substitute(op.expr, arguments), left


def takes_integers(node: Node, is_quantized: Callable[[Value], bool]) -> bool:
    """Whether TFLite computes a node on the integers of its operands; `is_quantized` tells who has some."""
    expr, values = own_form(node)
    if len(values) == 1:
        return is_quantized(values[0]) and (activation(expr) is not None or expr == _HARD_SWISH or functions.form_of(expr) is not None
                                            or _is_primitive(expr))
    if len(values) != 2 or not all(is_quantized(value) or _constant_integers(value) for value in values):
        return False
    if expr == _PRELU:
        return is_quantized(values[0])
    return any(is_quantized(value) for value in values) and _is_primitive(expr)


def uses_functions(node: Node) -> bool:
    """Whether the integers of a node are computed by a function (edgecc/backends/tflite/functions.py), or by PRELU."""
    if not isinstance(node.op, Elementwise):
        return False
    expr, values = own_form(node)
    return expr == _PRELU or (len(values) == 1 and activation(expr) is None and expr != _HARD_SWISH and not _is_primitive(expr))


def is_table(node: Node, is_quantized: Callable[[Value], bool]) -> bool:
    """Whether the integers of a node are a function of those of one operand that TFLite has no operator for, or only `functions`."""
    if not isinstance(node.op, Elementwise) or not uses_functions(node):
        return False
    _, values = own_form(node)
    return len(values) == 1 and is_quantized(values[0]) and values[0].type.rank == node.output.type.rank


def fuses_activation(node: Node) -> bool:
    """Whether an activation can be applied within a sum or product."""
    expr, values = own_form(node)
    return expr in SUMS or (len(values) == 1 and isinstance(functions.form_of(expr), functions.WithNumber))


def required_quantization(node: Node, source: Quantization | None) -> Quantization | None:
    """The quantization that TFLite demands of a node's result, where it does."""
    expr, values = own_form(node)
    match expr:
        case Apply("sigmoid", (Arg(),)):
            return functions.PROBABILITIES
        case Apply("tanh", (Arg(),)):
            return Quantization((1 / 128,), 0)
    form = functions.form_of(expr) if len(values) == 1 and activation(expr) is None else None
    return None if form is None else functions.required_quantization(form, source)


def _is_primitive(expr: ScalarExpr) -> bool:
    """Whether an expression is an operator that takes integers, with its operands in order."""
    return isinstance(expr, Apply) and expr.op in _PRIMITIVES and _PRIMITIVES[expr.op].integers > 0 and all(
        argument == Arg(index, DType.F32) for index, argument in enumerate(expr.args))


def _constant_integers(value: Value) -> bool:
    """Whether a constant has integers of one scale."""
    codes = quantized.constant_codes(value)
    return codes is not None and codes.scales.size == 1 and codes.array.dtype == np.int8


def obstacle(op: Elementwise, node: Node) -> str | None:
    """Why an elementwise node cannot be written in TFLite."""
    expr = op.expr
    if quantized.states_quantization(node):
        return None
    if _float_function(own_form(node)[0]) is not None:
        return None
    missing = sorted(missing_primitives(with_primitives(expr)))
    return f"computes {', '.join(missing)}, which TFLite has no operator for" if missing else None


def missing_primitives(expr: ScalarExpr) -> set[str]:
    """What of an expression TFLite has no operator for."""
    match expr:
        case Apply(op, args):
            return set().union(*(missing_primitives(a) for a in args), set() if op in _ALL and expr.dtype in KINDS else {f"{op} of {expr.dtype.value}"})
        case Convert(arg, dtype):
            return missing_primitives(arg) | (set() if dtype in KINDS else {dtype.value})
        case Bitcast():
            return {"bits"}
    return set()


def emit(emitter: Emitter, op: Elementwise, node: Node, result: Result) -> None:
    """Writes an elementwise node."""
    expr = op.expr
    values = [value for value in node.inputs if value is not None]
    rank = node.output.type.rank
    full = [value for value in values if value.type.rank == rank and not quantized.is_constant(value)]
    order = emitter.order_of(full[0]) if full else plain(rank)
    target = emitter.new(result, order)
    if result.quantization is not None:
        _on_integers(emitter, node, order, target, result)
    else:
        built = _Expression(emitter, values, order)
        whole = _float_function(expr) is not None and emitter.writer.functions
        built.write(expr if whole or not emitter.writer.functions else with_primitives(expr), target)
    emitter.place(result.value, target, order, result.quantization)


def _table(emitter: Emitter, node: Node, value: Value, made: Quantization) -> int:
    """A constant with what a function of one quantized operand gives for each of its 256 integers."""
    given = quantized.present(emitter.held(value).quantization)
    numbers_ = ((np.arange(-128, 128) - given.zero).astype(np.float32) * np.float32(given.scale)).astype(np.float32)
    operands = [numbers_ if operand is value else None if operand is None else quantized.constant_floats(operand).reshape(())
                for operand in node.inputs]
    with np.errstate(all="ignore"):
        (results,) = node.op.reference(operands)
        steps = np.nan_to_num(np.rint(results / np.float32(made.scale)) + made.zero)
    return emitter.writer.constant("table", np.clip(steps, -128, 127).astype(np.int8))


def _on_integers(emitter: Emitter, node: Node, order: Order, target: int, result: Result) -> None:
    expr, values = own_form(node)
    sources = [_aligned(emitter, value, order, integers=True) for value in values]
    if emitter.writer.tables and is_table(node, emitter.is_quantized):
        emitter.writer.operator("TABLE", [sources[0], _table(emitter, node, values[0], quantized.present(result.quantization))], [target])
        return
    name, form = activation(expr), functions.form_of(expr) if len(values) == 1 else None
    if name is not None:
        emitter.writer.operator(name, sources, [target], version=2)
    elif expr == _HARD_SWISH:
        emitter.writer.operator("HARD_SWISH", sources, [target], "HardSwishOptions")
    elif expr == _PRELU:
        emitter.writer.operator("PRELU", sources, [target])
    elif form is not None:
        functions.write(emitter, form, sources[0], target, result.activation)
    elif isinstance(expr, Apply):
        operator = _PRIMITIVES[expr.op]
        fused = {} if len(sources) == 1 else {"fusedActivationFunction": emitter.writer.value("ActivationFunctionType", result.activation)}
        emitter.writer.operator(operator.code, sources, [target], operator.options, operator.integers, **fused)


def _float_function(expr: ScalarExpr) -> functions.Single | None:
    """The operator that an expression of one operand is as a whole, on floats."""
    form = functions.form_of(expr)
    return form if isinstance(form, functions.Single) and form.code in _FLOAT_FUNCTIONS else None


def _aligned(emitter: Emitter, value: Value, order: Order, *, integers: bool = False) -> int:
    """An operand with as many axes as `order` has, so that it broadcasts, in that order."""
    rank, own = len(order), value.type.rank
    if integers and _constant_integers(value):
        codes = quantized.present(quantized.constant_codes(value))
        return emitter.constant(codes.array.reshape((1,) * (rank - own) + codes.array.shape), order, value.name,
                                Quantization((float(codes.scales[0]),), codes.zero))
    if own == rank:
        return emitter.integers(value, order) if integers else emitter.floats(value, order)
    index = emitter.integers(value, plain(own)) if integers else emitter.floats(value, plain(own))
    dims = (*[1] * (rank - own), *numbers(value.type.dims))
    return emitter.transposed(emitter.reshaped(index, dims, value.name), order, value.name)


class _Expression:
    """Writes an expression of floats, an operator for each primitive; what stands in it twice is written once."""

    def __init__(self, emitter: Emitter, values: list[Value], order: Order) -> None:
        self._emitter, self._values, self._order = emitter, values, order
        self._known: dict[ScalarExpr, int] = {}

    def write(self, expr: ScalarExpr, target: int | None = None) -> int:
        """The tensor of an expression; the last one is `target`."""
        if target is None and expr in self._known:
            return self._known[expr]
        index = self._written(expr, target)
        self._known[expr] = index
        return index

    def _written(self, expr: ScalarExpr, target: int | None) -> int:
        writer = self._emitter.writer
        match expr:
            case Arg(index):
                source = _aligned(self._emitter, self._values[index], self._order)
                if target is None:
                    return source
                # A value that only broadcasts.
                writer.operator("ADD", [source, writer.constant("zero", np.zeros((), np.float32))], [target], "AddOptions")
                return target
            case Literal(value, dtype):
                return writer.constant("number", np.asarray(value, dtype.numpy))
            case Convert(argument, dtype):
                return self._apply(Operator("CAST", "CastOptions"), [self.write(argument)], dtype, target,
                                   outDataType=writer.value("TensorType", KINDS[dtype]))
            case Apply(op, args, dtype):
                whole = _float_function(expr) if writer.functions else None
                if whole is not None:
                    return self._apply(Operator(whole.code, whole.options), [self.write(_X)], dtype, target, **whole.fields)
                if expr == _HARD_SWISH:
                    return self._apply(Operator("HARD_SWISH", "HardSwishOptions"), [self.write(_X)], dtype, target)
                name = activation(expr)
                if name is not None:
                    return self._apply(Operator(name), [self.write(_X)], dtype, target)
                return self._apply(_ALL[op], [self.write(argument) for argument in args], dtype, target)
        raise EdgeccError("E900", f"{expr} has no form in TFLite")

    def _apply(self, operator: Operator, sources: list[int], dtype: DType, target: int | None, **fields: Any) -> int:
        writer = self._emitter.writer
        if target is None:
            shape = np.broadcast_shapes(*(writer.tensors[index].shape for index in sources))
            target = writer.tensor("value", shape, KINDS[dtype])
        writer.operator(operator.code, sources, [target], operator.options, **fields)
        return target


