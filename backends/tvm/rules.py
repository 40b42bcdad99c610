"""How each operator of the Graph IR is written in Relax: one rule an operator, gathered from the files of the groups.

A rule gets the emitter, the operator and the node, and returns what stands for the node's results. `obstacle` tells why a node
cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from edgecc.backends.tvm import movement, products, reductions, scalar, windows
from edgecc.backends.tvm.emitter import TYPES, Emitter, Expr, dims_of
from edgecc.ir.graph import Node
from edgecc.ir.op import Op
from edgecc.ir.scalar import used_args
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather, GatherElements, GatherND, ScatterElements, ScatterND
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.ops.reduction import ArgReduce, BatchNorm, CumProd, CumSum, Normalize, Reduce, Softmax, TopK
from edgecc.ops.resize import Resize

Rule = Callable[[Emitter, Any, Node], list[Expr]]
Check = Callable[[Any, Node], str | None]


def _always(op: Op, node: Node) -> str | None:
    return None


def _elementwise_obstacle(op: Elementwise, node: Node) -> str | None:
    return scalar.obstacle(op.expr)


def _elementwise(emitter: Emitter, op: Elementwise, node: Node) -> list[Expr]:
    """The operators of the expression."""
    dims = dims_of(node.output)
    result = scalar.write(emitter, op.expr, [None if value is None else emitter.expr(value) for value in node.inputs], dims)
    read = [node.inputs[index] for index in used_args(op.expr)]
    if not any(value is not None and dims_of(value) == dims for value in read):
        # An operand that is not read still takes part in broadcasting.
        result = emitter.broadcast(result, dims)
    return [result]


RULES: Mapping[type[Op], tuple[Rule, Check]] = MappingProxyType({
    Elementwise: (_elementwise, _elementwise_obstacle),
    Conv: (products.conv, products.conv_obstacle),
    ConvTranspose: (products.conv_transpose, products.conv_obstacle),
    MatMul: (products.matmul, products.epilogue_obstacle),
    Pool: (windows.pool, windows.pool_obstacle),
    Resize: (windows.resize, windows.resize_obstacle),
    Reduce: (reductions.reduce, reductions.reduce_obstacle),
    ArgReduce: (reductions.arg_reduce, reductions.arg_reduce_obstacle),
    Softmax: (reductions.softmax, _always),
    Normalize: (reductions.normalize, _always),
    BatchNorm: (reductions.batch_norm, _always),
    CumSum: (reductions.cumulative, _always),
    CumProd: (reductions.cumulative, _always),
    TopK: (reductions.top_k, reductions.top_k_obstacle),
    Transpose: (movement.transpose, _always),
    Reshape: (movement.reshape, _always),
    Expand: (movement.expand, _always),
    Concat: (movement.concat, _always),
    Slice: (movement.slice_, _always),
    Pad: (movement.pad, movement.pad_obstacle),
    Gather: (movement.gather, movement.indices_obstacle),
    GatherElements: (movement.gather_elements, movement.indices_obstacle),
    GatherND: (movement.gather_nd, movement.indices_obstacle),
    ScatterElements: (movement.scatter_elements, _always),
    ScatterND: (movement.scatter_nd, _always),
})
"""The rule of each operator, and what asks whether it fits a node."""


def obstacle(node: Node) -> str | None:
    """Why a node cannot be written in Relax; None where it can. Does not import TVM."""
    op = node.op
    if type(op) not in RULES:
        return f"{op.name} has no form in TVM"
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.type.dtype not in TYPES:
            return f"TVM is given no tensors of {value.type.dtype.value}"
        if value is not None and not all(isinstance(dim, int) for dim in value.type.dims):
            return "dimensions have to be numbers"
    if any(0 in dims_of(value) for value in node.outputs):
        return "TVM computes no empty tensors"
    _, check = RULES[type(op)]
    return check(op, node)


def write(emitter: Emitter, node: Node) -> None:
    """Writes a node for which `obstacle` is None, and binds its results."""
    rule, _ = RULES[type(node.op)]
    for value, expr in zip(node.outputs, rule(emitter, node.op, node), strict=True):
        emitter.bind(value, expr)
