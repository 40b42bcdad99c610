"""Reductions, positions of extremes, sorting and running sums."""

from __future__ import annotations

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.items import Item
from edgecc.frontend.registry import converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, literal
from edgecc.ops.reduction import ArgReduce, CumProd, CumSum, Reduce, TopK

_KINDS = {"ReduceSum": "sum", "ReduceMean": "mean", "ReduceMax": "max", "ReduceMin": "min", "ReduceProd": "prod",
          "ReduceSumSquare": "sum_square", "ReduceL1": "l1", "ReduceL2": "l2"}


def _axes(call: Call, x: Value) -> tuple[int, ...] | None:
    """The axes to reduce, from attribute or operand; None where there is nothing to do."""
    axes = call.ints("axes")
    if axes is None and call.optional(1) is not None:
        axes = call.known_ints(1, "axes")
    if axes:
        return call.axes(axes, x.type.rank)
    return None if call.flag("noop_with_empty_axes") else tuple(range(x.type.rank))


@converter(*_KINDS)
def _reduce(call: Call) -> Value:
    x = call.input()
    axes = _axes(call, x)
    if axes is None:
        match call.node.op_type:  # the function is applied to every element, as over axes of size 1
            case "ReduceSumSquare":
                return call.map(lambda a: apply("mul", a, a), x)
            case "ReduceL1" | "ReduceL2":
                return call.map(lambda a: apply("abs", a), x)
        return x
    return call.add(Reduce(_KINDS[call.node.op_type], axes, call.flag("keepdims", True)), x)


@converter("ReduceLogSum")
def _log_sum(call: Call) -> Value:
    x = call.input()
    axes = _axes(call, x)
    total = x if axes is None else call.add(Reduce("sum", axes, call.flag("keepdims", True)), x)
    return call.map(lambda a: apply("log", a), total)


@converter("ReduceLogSumExp")
def _log_sum_exp(call: Call) -> Value:
    """m + log(sum exp(x - m)) with m the maximum, which cannot overflow; an infinite m is left out."""
    x = call.input()
    axes = _axes(call, x)
    if axes is None:
        return x
    zero = literal(0.0, x.type.dtype)
    largest = call.add(Reduce("max", axes), x)
    shift = call.map(lambda m: apply("select", apply("isinf", m), zero, m), largest)
    total = call.add(Reduce("sum", axes), call.map(lambda a, m: apply("exp", apply("sub", a, m)), x, shift))
    y = call.map(lambda t, m: apply("add", apply("log", t), m), total, shift)
    if call.flag("keepdims", True):
        return y
    return call.reshape(y, [size for axis, size in enumerate(y.type.shape) if axis not in axes])


@converter("ArgMax", "ArgMin")
def _arg(call: Call) -> Value:
    x = call.input()
    kind = "max" if call.node.op_type == "ArgMax" else "min"
    return call.add(ArgReduce(kind, call.axis(call.integer("axis", 0), x.type.rank), call.flag("keepdims", True),
                              call.flag("select_last_index")), x)


@converter("TopK")
def _top_k(call: Call) -> tuple[Item | None, ...]:
    x = call.input()
    k = call.integer("k") if call.version < 10 else call.known_int(1, "k")
    axis = call.axis(call.integer("axis", -1), x.type.rank)
    if not 0 <= k <= x.type.shape[axis]:
        raise EdgeccError("E110", f"k is {k}; axis {axis} of {x.type} has {x.type.shape[axis]} elements")
    return call.add_all(TopK(k, axis, call.flag("largest", True)), x)


@converter("CumSum", "CumProd")
def _cumulative(call: Call) -> Value:
    x = call.input()
    axis = call.axis(call.known_int(1, "axis"), x.type.rank)
    kind = CumSum if call.node.op_type == "CumSum" else CumProd
    return call.add(kind(axis, call.flag("exclusive"), call.flag("reverse")), x)
