"""Reductions, positions of extremes, sorting and running sums."""

from __future__ import annotations

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.computed_sizes import size_of
from edgecc.frontend.items import Item
from edgecc.frontend.known import is_symbolic, known_data
from edgecc.frontend.registry import converter
from edgecc.ir.dims import lower_bound, upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, literal
from edgecc.ir.types import Dim, DType
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
    axis = call.axis(call.integer("axis", -1), x.type.rank)
    k, size = call.sizes([call.integer("k")]) if call.version < 10 else call.input(1), x.type.shape[axis]
    data = known_data(k)
    known: Dim | None = None if data is None or data.size != 1 else data.reshape(-1)[0] if is_symbolic(data) else int(data.reshape(-1)[0])
    if known is not None and (lower_bound(known) < 0 or lower_bound(known - size) > 0):
        raise EdgeccError("E110", f"k is {known}; axis {axis} of {x.type} has {size} elements")
    if not isinstance(size, int) and (known is None or upper_bound(known - size) > 0):
        # ONNX leaves it open what a run with fewer elements than k gives; here it gives them all.
        k = call.map(lambda a, b: apply("min", a, b), call.cast(call.reshape(k, (1,)), DType.I64), call.sizes([size]))
    return call.add_all(TopK(size_of(call, k, "k", upper_bound(size)), axis, call.flag("largest", True)), x)


@converter("CumSum", "CumProd")
def _cumulative(call: Call) -> Value:
    x = call.input()
    axis = call.axis(call.known_int(1, "axis"), x.type.rank)
    kind = CumSum if call.node.op_type == "CumSum" else CumProd
    return call.add(kind(axis, call.flag("exclusive"), call.flag("reverse")), x)
