"""Gradients of one tensor of the model towards others, by going back through the operators between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecc.errors import printable
from edgecc.frontend.call import Call
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import Apply, Arg, ScalarExpr, apply, literal, used_args
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.movement import Reshape
from edgecc.ops.reduction import Reduce


@converter("Gradient", domain="ai.onnx.preview.training")
def _gradient(call: Call) -> list[Value]:
    """The derivatives of attribute y towards the tensors named by xs, where those have the values they have in the model."""
    names, target = call.strings("xs") or (), call.scope.items.get(call.text("y"))
    if not isinstance(target, Value) or not target.type.dtype.is_float:
        raise Unsupported(f"'{printable(call.text('y'))}' is no float tensor that is computed before the node")
    sources = list(call.values())[:len(names)]
    if len(sources) != len(names) or any(call.scope.items.get(name) is not x for name, x in zip(names, sources, strict=True)):
        raise Unsupported("the gradient at other values than those of the model", "give the node the tensors that xs names")
    call.reserve(target.type.dims, "the gradient of the result")
    gradients: dict[Value, Value] = {target: call.constant(np.ones(target.type.dims, target.type.dtype.numpy))}
    for node in reversed(tuple(call.importer.emitter.graph.nodes)):
        upstream = gradients.get(node.outputs[0])
        if upstream is None or node.outputs[0] in sources:
            continue
        operands = [node.operand(index) for index in range(len(node.inputs))]
        match node.op:
            case Elementwise(expr=expr):
                for index in used_args(expr):
                    if operands[index].type.dtype.is_float and operands[index].constant is None:
                        _add(call, gradients, operands[index], _through(call, expr, index, operands, upstream))
            case Reshape():
                _add(call, gradients, operands[0], call.reshape(upstream, operands[0].type.dims))
            case _:
                raise Unsupported(f"the gradient of {node.op.name}", "compute the gradient in the training framework")
    return [gradients.get(x) or call.constant(np.zeros(x.type.dims, x.type.dtype.numpy)) for x in sources]


def _add(call: Call, gradients: dict[Value, Value], x: Value, part: Value) -> None:
    before = gradients.get(x)
    gradients[x] = part if before is None else call.map(lambda a, b: apply("add", a, b), before, part)


def _through(call: Call, expr: ScalarExpr, index: int, operands: Sequence[Value], upstream: Value) -> Value:
    """`upstream` times the derivative of an elementwise operator towards one operand, summed where that was broadcast."""
    slope = _derivative(expr, index)
    own = Arg(len(operands), upstream.type.dtype)
    factor = literal(0.0, upstream.type.dtype) if slope is None else slope
    y = call.add(Elementwise(apply("mul", own, factor)), *operands, upstream)
    wanted = operands[index].type.dims
    added = y.type.rank - len(wanted)
    repeated = (*range(added), *(added + a for a, size in enumerate(wanted) if size != y.type.dims[added + a]))
    return call.reshape(call.add(Reduce("sum", repeated), y) if repeated else y, wanted)


def _derivative(expr: ScalarExpr, index: int) -> ScalarExpr | None:
    """The derivative of an expression towards `Arg(index)`; None where it does not depend on it.

    Raises: Unsupported where a primitive has no rule here.
    """
    if index not in used_args(expr):
        return None
    match expr:
        case Arg(dtype=dtype):
            return literal(1.0, dtype)
        case Apply(op=op, args=args):
            inner = [_derivative(argument, index) for argument in args]
            terms = [apply("mul", outer, part) for outer, part in zip(_outer(op, args, expr), inner, strict=True) if part is not None]
            total = terms[0]
            for term in terms[1:]:
                total = apply("add", total, term)
            return total
    raise Unsupported("the gradient of a conversion between types", "compute the gradient in the training framework")


def _outer(op: str, args: Sequence[ScalarExpr], result: ScalarExpr) -> tuple[ScalarExpr, ...]:
    """The derivatives of a primitive towards its operands."""
    one, dtype = literal(1.0, result.dtype), result.dtype
    match op:
        case "add":
            return one, one
        case "sub":
            return one, literal(-1.0, dtype)
        case "mul":
            return args[1], args[0]
        case "div":
            return apply("div", one, args[1]), apply("neg", apply("div", result, args[1]))
        case "neg":
            return (literal(-1.0, dtype),)
        case "exp":
            return (result,)
        case "log":
            return (apply("div", one, args[0]),)
        case "sqrt":
            return (apply("div", literal(0.5, dtype), result),)
        case "tanh":
            return (apply("sub", one, apply("mul", result, result)),)
        case "sigmoid":
            return (apply("mul", result, apply("sub", one, result)),)
        case "sin":
            return (apply("cos", args[0]),)
        case "cos":
            return (apply("neg", apply("sin", args[0])),)
    raise Unsupported(f"the gradient of {op}", "compute the gradient in the training framework")
