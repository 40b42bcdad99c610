"""Scalar expressions as ONNX nodes.

A subtree that is one of ONNX's activations becomes that operator, so that other tools recognise it; what is left becomes
one node for each primitive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgecc.backends.onnx.writer import Attribute, Writer
from edgecc.ir.scalar import Apply, Arg, Bitcast, Convert, Literal, ScalarExpr
from edgecc.ir.types import DType
from edgecc.ops.elementwise_table import ELEMENTWISE
from edgecc.passes.expressions import simplify

PRIMITIVE_NODES: dict[str, tuple[str, dict[str, Attribute]]] = {
    "add": ("Add", {}), "sub": ("Sub", {}), "mul": ("Mul", {}), "div": ("Div", {}), "mod": ("Mod", {}), "fmod": ("Mod", {"fmod": 1}),
    "pow": ("Pow", {}), "min": ("Min", {}), "max": ("Max", {}), "neg": ("Neg", {}), "abs": ("Abs", {}), "sign": ("Sign", {}),
    "floor": ("Floor", {}), "ceil": ("Ceil", {}), "round": ("Round", {}), "sqrt": ("Sqrt", {}), "exp": ("Exp", {}), "log": ("Log", {}),
    "erf": ("Erf", {}), "tanh": ("Tanh", {}), "sigmoid": ("Sigmoid", {}), "sin": ("Sin", {}), "cos": ("Cos", {}), "tan": ("Tan", {}),
    "asin": ("Asin", {}), "acos": ("Acos", {}), "atan": ("Atan", {}), "sinh": ("Sinh", {}), "cosh": ("Cosh", {}),
    "asinh": ("Asinh", {}), "acosh": ("Acosh", {}), "atanh": ("Atanh", {}), "isnan": ("IsNaN", {}), "isinf": ("IsInf", {}),
    "lt": ("Less", {}), "le": ("LessOrEqual", {}), "eq": ("Equal", {}), "and": ("And", {}), "or": ("Or", {}), "xor": ("Xor", {}),
    "not": ("Not", {}), "select": ("Where", {}), "bit_and": ("BitwiseAnd", {}), "bit_or": ("BitwiseOr", {}),
    "bit_xor": ("BitwiseXor", {}), "bit_not": ("BitwiseNot", {}), "shift_left": ("BitShift", {"direction": "LEFT"}),
    "shift_right": ("BitShift", {"direction": "RIGHT"}),
}
"""The ONNX operator and attributes of each primitive."""

Match = tuple[str, tuple[ScalarExpr, ...], dict[str, Attribute]]


def missing_primitives(expr: ScalarExpr) -> tuple[str, ...]:
    """The primitives of an expression that ONNX has no operator for."""
    found: dict[str, None] = {}
    pending = [expr]
    while pending:
        node = pending.pop()
        if isinstance(node, Apply):
            if node.op not in PRIMITIVE_NODES:
                found[node.op] = None
            elif node.op.startswith("shift_") and node.dtype.is_signed:
                found[f"{node.op} of signed integers"] = None
            elif node.op == "mod" and node.dtype.is_float:
                found["mod of floats"] = None
            pending.extend(node.args)
        elif isinstance(node, Convert | Bitcast):
            pending.append(node.arg)
    return tuple(sorted(found))


def write_expression(writer: Writer, expr: ScalarExpr, operands: Sequence[str]) -> str:
    """Adds the nodes of an expression whose `Arg(i)` is the value called `operands[i]`; returns the result's name.

    Equal subtrees are computed once.
    """
    known: dict[ScalarExpr, str] = {}

    def written(node: ScalarExpr) -> str:
        if isinstance(node, Arg):
            return operands[node.index]
        if isinstance(node, Literal):
            return writer.scalar(node.value, node.dtype)
        name = known.get(node)
        if name is None:
            op, args, attributes = _as_node(node, writer.opset)
            inputs = [written(arg) for arg in args]
            if isinstance(node, Convert) and node.arg.dtype.is_float and node.dtype.is_integer and node.dtype.bits <= 16:
                # Conversions saturate; what Cast makes of numbers out of range is left open by ONNX.
                inputs[0] = writer.one("Clip", inputs[0], *(writer.scalar(limit, node.arg.dtype) for limit in node.dtype.limits))
            name = writer.one(op, *inputs, **attributes)
            known[node] = name
        return name

    result = written(expr)
    # A result must be a value of its own: an expression may be an operand or a constant as it is.
    return writer.one("Identity", result) if isinstance(expr, Arg | Literal) else result


def _as_node(node: Apply | Convert | Bitcast, opset: int) -> Match:
    """The ONNX operator of the root of an expression, its operands and attributes."""
    for since, recognise in _ACTIVATIONS:
        found = recognise(node) if opset >= since else None
        if found is not None:
            return found
    if isinstance(node, Convert):
        short = node.dtype.is_stored_only and node.dtype.is_float and node.dtype.bits == 8
        modes: dict[str, Attribute] = {"saturate": 0} if short else {}
        if node.dtype is DType.F8E8M0:
            modes["round_mode"] = "nearest"
        return "Cast", (node.arg,), {"to": node.dtype.code, **modes}
    if isinstance(node, Bitcast):
        return "BitCast", (node.arg,), {"to": node.dtype.code}
    op, attributes = PRIMITIVE_NODES[node.op]
    return op, node.args, attributes


# -- activations ------------------------------------------------------------------------------


def _literal(expr: ScalarExpr) -> float | None:
    return float(expr.value) if isinstance(expr, Literal) and expr.dtype is not DType.BOOL else None


def _limits(node: ScalarExpr) -> tuple[ScalarExpr, Literal, Literal] | None:
    """x, low and high of min(max(x, low), high)."""
    match node:
        case Apply("min", (Apply("max", (x, Literal() as low), _), Literal() as high), _):
            return x, low, high
    return None


def _clip(node: ScalarExpr) -> Match | None:
    found = _limits(node)
    return None if found is None else ("Clip", found, {})


def _relu(node: ScalarExpr) -> Match | None:
    match node:
        case Apply("max", (x, zero), _) if _literal(zero) == 0.0 and not isinstance(x, Literal):
            return "Relu", (x,), {}
    return None


def _leaky(node: ScalarExpr) -> Match | None:
    match node:
        case Apply("select", (Apply("lt", (x, zero), _), Apply("mul", (y, alpha), _), z), _) if x == y == z and _literal(zero) == 0.0:
            slope = _literal(alpha)
            return None if slope is None else ("LeakyRelu", (x,), {"alpha": slope})
    return None


def _hard_sigmoid(node: ScalarExpr) -> Match | None:
    found = _limits(node)
    if found is None or (_literal(found[1]), _literal(found[2])) != (0.0, 1.0):
        return None
    match found[0]:
        case Apply("add", (Apply("mul", (x, Literal() as alpha), _), Literal() as beta), dtype) if dtype.is_float:
            return "HardSigmoid", (x,), {"alpha": float(alpha.value), "beta": float(beta.value)}
    return None


def _elu(node: ScalarExpr) -> Match | None:
    match node:
        case Apply("select", (Apply("lt", (x, _), _), below, _), _) if x.dtype.is_float:
            factors = below.args if isinstance(below, Apply) and below.op == "mul" else ()
            alpha = next((float(factor.value) for factor in factors if isinstance(factor, Literal)), 1.0)
            built = ELEMENTWISE["Elu"].build((x,), {"alpha": alpha})
            if node in (built, simplify(built)):
                return "Elu", (x,), {"alpha": alpha}
    return None


def _row(name: str, **attributes: str) -> Callable[[ScalarExpr], Match | None]:
    """Recognises what the row `name` of the elementwise table builds by default or with attributes, of any operand, canonicalized or not."""
    def recognise(node: ScalarExpr) -> Match | None:
        if not node.dtype.is_float or isinstance(node, Arg | Literal):
            return None
        x = _first_operand(node)
        while x is not None and x.dtype is not DType.BOOL:
            built = ELEMENTWISE[name].build((x,), attributes)
            if node in (built, simplify(built)):
                return name, (x,), dict(attributes)
            x = _first_operand(x)
        return None
    return recognise


def _first_operand(expr: ScalarExpr) -> ScalarExpr | None:
    """The last operand that is no literal; following it leads to the argument in every row that is recognised here."""
    if not isinstance(expr, Apply):
        return None
    return next((arg for arg in reversed(expr.args) if not isinstance(arg, Literal)), None)


_ACTIVATIONS: tuple[tuple[int, Callable[[ScalarExpr], Match | None]], ...] = (
    (14, _row("HardSwish")), (18, _row("Mish")), (20, _row("Gelu")), (20, _row("Gelu", approximate="tanh")),
    (1, _row("Softplus")), (1, _row("Softsign")), (1, _elu), (1, _hard_sigmoid), (1, _leaky), (1, _clip), (1, _relu),
)
"""Since which opset, and the recogniser; the first one that fits is taken."""
