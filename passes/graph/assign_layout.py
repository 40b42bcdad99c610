"""Chooses in which order the axes of each value lie in memory.

    %y = conv(%x, %w) : f32[1,8,32,32]                 ->  %y = conv(%x, %w) : f32[1,8,32,32]{0,2,3,1}
    %z = transpose(%y) {perm=(0,2,3,1)} : f32[...]     ->  row-major, and thus the same bytes as %y: a view
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgecc.ir.dims import Shape, matching_runs
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.op import RegionOp
from edgecc.ir.scalar import Arg
from edgecc.ir.types import Layout
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather, ScatterElements, ScatterND
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.ops.reduction import Cumulative, Normalize, Reduce, Softmax, TopK
from edgecc.ops.resize import Resize
from edgecc.ops.sampling import GridSample, RoiAlign
from edgecc.passes.base import GraphPass
from edgecc.passes.graph.fold_transpose import inverse_of

Order = tuple[int, ...]

MOST_LINES = 8
"""Channels that convolutions write to lines of their own: first-level caches keep as many lines of one set."""
LEAST_PIXELS = 64
"""Smaller maps are written wherever they are wanted."""


@dataclass(frozen=True)
class AssignLayout(GraphPass):
    """Channels last inside, views where possible, row-major where nothing speaks against it.

    Layouts do not change what is computed; any kernel reads and writes any of them, some faster than others.

    1. Inputs, outputs and constants of graphs are row-major; regions want row-major operands. Outputs of many channels that
       convolutions compute are copies of what these make channels last.
    2. Results of Conv, ConvTranspose, Pool and Resize lie channels last: kernels compute neighbouring channels together.
    3. A Transpose is a view: its result lies as its operand does, with the axes renamed.
    4. A Reshape is a view where the operand's order keeps the joined axes together; else its result lies as its
       readers want, and its operand row-major if that can be chosen.
    5. Operators that treat elements alike (Elementwise, Concat, Slice, Pad, ...) give the layout of their largest
       operand, unless all readers want another one; MatMul gives what its readers want if rows stay contiguous, Softmax
       and Normalize if the rows they run along do.
    6. Otherwise values are row-major.

    What readers want is found against the order of the graph: convolutions want channels last, a Reshape that would
    be no view wants a row-major operand, and Reshapes and Transposes hand on, renamed, what their own readers want.
    Axes of size 1 can lie anywhere; they are put where layouts of equal bytes are equal, and row-major if possible.
    """

    name: ClassVar[str] = "assign-layout"
    tolerance: ClassVar[float] = 0.0  # layouts have no meaning

    copy_outputs: bool = True
    """Whether 1 makes copies."""

    def run(self, graph: Graph) -> bool:
        """See the class."""
        changed = self.copy_outputs and _copy_outputs(graph)
        natural = _assigned(graph, _wishes(graph, {}))
        final = _assigned(graph, _wishes(graph, natural))
        for value, order in final.items():
            changed |= value.layout.order != order
            value.layout = Layout(order)
        return changed


def _copy_outputs(graph: Graph) -> bool:
    """Gives outputs that convolutions would write channel by channel copies of their own; whether there are any.

    A convolution computes many channels of a few pixels at a time. Each would go to a line of its own, and the lines of a
    large map share a few sets of the first cache: 255 channels of 80 x 80 pixels took seven times as long, on Zen 5.
    """
    copies: dict[Value, Value] = {}
    for value in graph.outputs:
        node = value.producer
        if (node is not None and isinstance(node.op, Conv | ConvTranspose) and value not in copies and value.type.is_static
                and value.type.dims[1] > MOST_LINES and math.prod(value.type.dims[2:]) >= LEAST_PIXELS):
            copies[value] = graph.add(Elementwise(Arg(0, value.type.dtype)), value, loc=node.loc, name=value.name)
    if copies:
        graph.set_outputs([copies.get(value, value) for value in graph.outputs], graph.output_names)
    return bool(copies)


def _assigned(graph: Graph, wishes: Mapping[Value, Order | None]) -> dict[Value, Order]:
    """The order of every result of a node."""
    orders: dict[Value, Order] = {}
    fixed = set(graph.outputs)
    for node in graph.nodes:
        for value in node.outputs:
            order = tuple(range(value.type.rank)) if value in fixed else _chosen(node, value, wishes.get(value), orders)
            orders[value] = canonical_order(order, value.type.shape)
    return orders


def _order_of(value: Value, orders: Mapping[Value, Order]) -> Order:
    return orders.get(value, tuple(range(value.type.rank)))


def _wishes(graph: Graph, natural: Mapping[Value, Order]) -> dict[Value, Order | None]:
    """For values whose readers all want one and the same order, that order. None marks readers that disagree.

    With `natural` orders, of an assignment without wishes of Reshapes, those wish for row-major operands that are
    no views there.
    """
    wishes: dict[Value, Order | None] = {}

    def wish(value: Value | None, order: Order | None) -> None:
        if value is not None and order is not None:
            order = canonical_order(order, value.type.shape)
            wishes[value] = order if wishes.get(value, order) == order else None

    for value in graph.outputs:
        wish(value, tuple(range(value.type.rank)))
    for node in reversed(graph.nodes):
        result = node.outputs[0]
        wanted = wishes.get(result)
        match node.op:
            case Conv() | ConvTranspose() | Pool() | Resize() | GridSample() | RoiAlign():
                wish(node.inputs[0], _channels_last(node.operand(0)))
            case Reshape():
                source = node.operand(0)
                passed_on = None if wanted is None else reshaped_order(result, wanted, source.type.shape)
                if passed_on is not None:
                    wish(source, passed_on)
                elif source in natural and reshaped_order(source, natural[source], result.type.shape) is None:
                    wish(source, tuple(range(source.type.rank)))
            case Transpose(perm=perm) if wanted is not None:
                # Axis j of the result is axis perm[j] of the operand.
                wish(node.inputs[0], tuple(perm[axis] for axis in wanted))
            case Elementwise() | Concat() | Slice() | Pad() | Softmax() | Cumulative():
                for operand in node.inputs:
                    if operand is not None and operand.type.rank == result.type.rank:
                        wish(operand, wanted)
            case Gather() if _is_lookup(node):
                wish(node.inputs[1], wanted)
            case RegionOp():
                for operand in node.inputs:
                    if operand is not None:
                        wish(operand, tuple(range(operand.type.rank)))
    return wishes


def _channels_last(value: Value) -> Order:
    return Layout.channels_last(value.type.rank).order


def _chosen(node: Node, value: Value, wish: Order | None, orders: Mapping[Value, Order]) -> Order:
    """The order for one result of a node, whose operands have theirs in `orders`."""
    row_major = tuple(range(value.type.rank))
    first = node.inputs[0] if node.inputs else None
    match node.op:
        case Conv() | ConvTranspose() | Pool():
            return _channels_last(value)
        case GridSample() | RoiAlign():
            return wish or _channels_last(value)
        case Resize():
            return _channels_last(value) if value.type.rank >= 3 else row_major
        case Transpose(perm=perm):
            inverse = inverse_of(perm)
            return tuple(inverse[axis] for axis in _order_of(node.operand(0), orders))
        case Reshape():
            operand = node.operand(0)
            return reshaped_order(operand, _order_of(operand, orders), value.type.shape) or wish or row_major
        case MatMul():
            return wish if wish is not None and wish[-1] == value.type.rank - 1 else row_major
        case (Softmax() | Normalize()) if wish is not None and _scatters_rows(node, wish, orders):
            return _order_of(node.operand(0), orders)
        case Elementwise() | Concat() | Slice() | Pad() | Softmax() | Cumulative() | TopK() | Normalize() | ScatterND() | ScatterElements():
            return wish or _largest_order(node.inputs, value, orders) or row_major
        case Reduce(axes=axes, keepdims=keepdims):
            order = _order_of(node.operand(0), orders)
            return order if keepdims else _without(order, axes)
        case Expand() if first is not None and first.type.rank == value.type.rank:
            return wish or _order_of(first, orders)
        case Gather() if _is_lookup(node):
            return wish or _order_of(node.operand(1), orders)
        case Gather() if wish is not None:
            return wish
    return row_major


def _scatters_rows(node: Node, wish: Order, orders: Mapping[Value, Order]) -> bool:
    """Whether rows that a node reads one element after the other would lie apart in a result of the order `wish`."""
    innermost = _order_of(node.operand(0), orders)[-1]
    along = node.op.axes if isinstance(node.op, Normalize) else (node.op.axis,) if isinstance(node.op, Softmax) else ()
    return innermost in along and wish[-1] not in along


def _is_lookup(node: Node) -> bool:
    """Whether a gather replaces each index by an element: the result has the shape of the indices."""
    return node.operand(0).type.rank == 1


def _largest_order(operands: Sequence[Value | None], value: Value, orders: Mapping[Value, Order]) -> Order | None:
    """The order of the largest operand of the result's rank that is not constant; of equals the first."""
    candidates = [v for v in operands if v is not None and v.type.rank == value.type.rank and v.constant is None]
    return _order_of(max(candidates, key=lambda v: v.type.capacity), orders) if candidates else None


def _without(order: Order, axes: Sequence[int]) -> Order:
    left = sorted(set(order) - set(axes))
    return tuple(left.index(axis) for axis in order if axis not in axes)


def reshaped_order(operand: Value, order: Order, dims: Shape) -> Order | None:
    """The order in which the operand, lying in `order`, is its Reshape to `dims` without a copy; None if there is none.

    Both shapes are cut into the smallest runs of axes with equal element counts. The reshape is a view if each run
    of the operand's axes lies together and in order; the runs of the result then lie in the same order.
    """
    runs = matching_runs(operand.type.shape, dims)
    if runs is None:
        return None
    memory = [axis for axis in order if operand.type.shape[axis] != 1]
    out: list[int] = []
    position = 0
    by_first = {own[0]: (own, new) for own, new in runs if own}
    while position < len(memory):
        run = by_first.get(memory[position])
        if run is None or tuple(memory[position:position + len(run[0])]) != run[0]:
            return None
        out += run[1]
        position += len(run[0])
    return canonical_order((*out, *(axis for axis, size in enumerate(dims) if size == 1)), dims)


def canonical_order(order: Order, dims: Shape) -> Order:
    """The order with each axis of size 1 right behind the axis before it, or in front: same bytes, one form."""
    out = [axis for axis in order if dims[axis] != 1]
    for axis, size in enumerate(dims):
        if size == 1:
            out.insert(out.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(out)
