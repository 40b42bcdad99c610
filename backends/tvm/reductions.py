"""Reductions, normalizations and sorting in Relax. Floats of 16 bits are summed in 32 bits."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgecc.backends.tvm.emitter import Emitter, Expr, dims_of
from edgecc.ir.graph import Node, Value
from edgecc.ir.types import DType
from edgecc.ops.reduction import ArgReduce, BatchNorm, CumProd, CumSum, Normalize, Reduce, Softmax, TopK

REDUCTIONS: Mapping[str, str] = MappingProxyType({
    "sum": "sum", "wide_sum": "sum", "mean": "mean", "max": "max", "min": "min", "prod": "prod", "l1": "sum", "l2": "sum", "sum_square": "sum"})
"""The operator of Relax that reduces, for each kind."""


def _between(value: Value) -> DType:
    """The type in which a value is computed with."""
    return DType.F32 if value.type.dtype is DType.F16 else value.type.dtype


def _given(emitter: Emitter, value: Value) -> Expr:
    return emitter.operand(value, _between(value))


def _returned(emitter: Emitter, result: Expr, node: Node) -> list[Expr]:
    return [emitter.convert(result, _between(node.output), node.output.type.dtype)]


def reduce_obstacle(op: Reduce, node: Node) -> str | None:
    """Why a reduction cannot be written; None where it can."""
    if op.kind not in REDUCTIONS:
        return f"TVM has no reduction by {op.kind}"
    if 0 in dims_of(node.operand(0)):
        return "TVM does not reduce nothing"
    return "TVM does not reduce truth values" if node.operand(0).type.dtype is DType.BOOL else None


def reduce(emitter: Emitter, op: Reduce, node: Node) -> list[Expr]:
    """sum, mean, max, min or prod, of magnitudes or squares where the kind says so."""
    x = _given(emitter, node.operand(0))
    if op.kind == "wide_sum":
        x = emitter.convert(x, _between(node.operand(0)), _between(node.output))
    if op.kind == "l1":
        x = emitter.emit(emitter.op.abs(x))
    if op.kind in ("l2", "sum_square"):
        x = emitter.emit(emitter.op.multiply(x, x))
    result = x
    if op.axes:
        result = emitter.emit(getattr(emitter.op, REDUCTIONS[op.kind])(x, axis=list(op.axes), keepdims=op.keepdims))
    if op.kind == "l2":
        result = emitter.emit(emitter.op.sqrt(result))
    return _returned(emitter, result, node)


def arg_reduce_obstacle(op: ArgReduce, node: Node) -> str | None:
    """Why a search cannot be written; None where it can."""
    return "TVM finds the first of equal elements, not the last" if op.select_last else None


def arg_reduce(emitter: Emitter, op: ArgReduce, node: Node) -> list[Expr]:
    """argmax or argmin."""
    function = emitter.op.argmax if op.kind == "max" else emitter.op.argmin
    return [emitter.emit(function(emitter.expr(node.operand(0)), axis=op.axis, keepdims=op.keepdims))]


def softmax(emitter: Emitter, op: Softmax, node: Node) -> list[Expr]:
    """softmax or log_softmax."""
    function = emitter.nn.log_softmax if op.log else emitter.nn.softmax
    return _returned(emitter, emitter.emit(function(_given(emitter, node.operand(0)), axis=op.axis)), node)


def normalize(emitter: Emitter, op: Normalize, node: Node) -> list[Expr]:
    """In single steps: TVM's own operator subtracts the square of the mean from the mean of squares, which loses digits."""
    o, emit, axes = emitter.op, emitter.emit, list(op.axes)
    value = node.operand(0)
    x = _given(emitter, value)
    if not op.rms:
        x = emit(o.subtract(x, emit(o.mean(x, axis=axes, keepdims=True))))
    variance = emit(o.mean(emit(o.multiply(x, x)), axis=axes, keepdims=True))
    x = emit(o.divide(x, _spread(emitter, variance, op.epsilon, _between(value))))
    for operand, function in zip(node.inputs[1:3], (o.multiply, o.add), strict=False):
        if operand is not None:
            x = emit(function(x, _given(emitter, operand)))
    return _returned(emitter, x, node)


def batch_norm(emitter: Emitter, op: BatchNorm, node: Node) -> list[Expr]:
    """In single steps."""
    o, emit = emitter.op, emitter.emit
    dims = dims_of(node.output)
    shape = [dims[1], *[1] * (len(dims) - 2)]
    x = _given(emitter, node.operand(0))
    scale, bias, mean, variance = (emitter.operand(node.operand(i), _between(node.operand(i)), shape) for i in range(1, 5))
    x = emit(o.divide(emit(o.subtract(x, mean)), _spread(emitter, variance, op.epsilon, _between(node.output))))
    return _returned(emitter, emit(o.add(emit(o.multiply(x, scale)), bias)), node)


def _spread(emitter: Emitter, variance: Expr, epsilon: float, dtype: DType) -> Expr:
    return emitter.emit(emitter.op.sqrt(emitter.emit(emitter.op.add(variance, emitter.scalar(epsilon, dtype)))))


def cumulative(emitter: Emitter, op: CumSum | CumProd, node: Node) -> list[Expr]:
    """cumsum or cumprod, of what is flipped where it runs from the end."""
    function = emitter.op.cumsum if isinstance(op, CumSum) else emitter.op.cumprod
    x = _given(emitter, node.operand(0))
    x = emitter.emit(emitter.op.flip(x, axis=op.axis)) if op.reverse else x
    result = emitter.emit(function(x, axis=op.axis, dtype=str(_between(node.output).numpy), exclusive=op.exclusive))
    result = emitter.emit(emitter.op.flip(result, axis=op.axis)) if op.reverse else result
    return _returned(emitter, result, node)


def top_k(emitter: Emitter, op: TopK, node: Node) -> list[Expr]:
    """topk, of k best ones."""
    x = emitter.expr(node.operand(0))
    both = emitter.emit(emitter.op.topk(x, k=int(op.k), axis=op.axis, ret_type="both", largest=op.largest, dtype="int64"))
    return [emitter.emit(both[0]), emitter.emit(both[1])]


def top_k_obstacle(op: TopK, node: Node) -> str | None:
    """Why a selection cannot be written; None where it can."""
    return "TVM wants to select at least one element" if not isinstance(op.k, int) or op.k < 1 else None


