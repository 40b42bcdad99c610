"""Removes the channels between two layers that matter least, so that both become smaller.

    %a = conv(%x, %w1, %b1); %r = elementwise(%a); %y = conv(%r, %w2)     with 64 channels between them
        ->  the same with 32, of the rows of %w1 and the columns of %w2
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.types import Array
from edgecc.ops.convolution import Conv, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.passes.base import GraphPass
from edgecc.passes.rewrite import data, is_constant, sole_user


@dataclass(frozen=True)
class Chain:
    """A convolution, what lies behind it channel by channel (depthwise convolutions too), and the convolution that reads it."""

    first: Node
    between: tuple[Node, ...]
    last: Node


@dataclass(frozen=True)
class PruneChannels(GraphPass):
    """Structured pruning by the norm of filters (Li, Kadav, Durdanovic, Samet and Graf, "Pruning filters for efficient ConvNets", 2017).

    Changes what the network computes, so it runs only when asked for, and nothing retrains what is left: `edgecc prune` tells what
    it costs. Each chain is pruned once a run; a second run prunes what the first one left.

    Options: sparsity, the share of channels that are removed. multiple, how many are left is rounded up to a multiple of it. least,
    chains of fewer channels are left alone.

    Declines when:
    1. What the convolution computes is read by several, or by something that is not computed channel by channel.
    2. There are fewer channels than `least`, or rounding leaves all of them.
    """

    name: ClassVar[str] = "prune-channels"
    tolerance: ClassVar[float] = float("inf")  # nothing bounds what channels did that are gone

    sparsity: float = 0.5
    multiple: int = 8
    least: int = 16

    def run(self, graph: Graph) -> bool:
        """Prunes chain by chain; the end of one may be the beginning of the next."""
        seen: dict[int, Node] = {}  # holds the nodes, so that no other one gets their identity
        changed = False
        while (node := next((n for n in graph.nodes if id(n) not in seen), None)) is not None:
            seen[id(node)] = node
            pruned = self._prune(graph, node) if _is_dense(node) else None
            if pruned is not None:
                seen[id(pruned)] = pruned
                changed = True
        return changed

    def _prune(self, graph: Graph, node: Node) -> Node | None:
        """Prunes the chain that begins with a convolution; returns its new beginning."""
        chain = _chain(graph, node)
        if chain is None:
            self.decline(node, "its channels are read by several, or not one by one")
            return None
        channels = node.output.type.dims[1]
        left = -(-round(channels * (1 - min(max(self.sparsity, 0.0), 1.0))) // self.multiple) * self.multiple
        left = max(left, 1)
        if channels < self.least or left >= channels:
            self.decline(node, f"it has {channels} channels, of which {left} would be left")
            return None
        norms = np.abs(data(node.operand(1)).astype(np.float64)).reshape(channels, -1).sum(axis=1)
        kept = np.sort(np.argsort(-norms, kind="stable")[:left])
        return _rebuild(graph, chain, kept)


def _is_dense(node: Node) -> bool:
    """Whether a node is a convolution of one group with constant weights and bias, and without an epilogue."""
    return isinstance(node.op, Conv) and node.op.group == 1 and node.op.epilogue is None and all(is_constant(v) for v in node.inputs[1:] if v is not None)


def _chain(graph: Graph, first: Node) -> Chain | None:
    between: list[Node] = []
    node = first
    while True:
        reader = sole_user(graph, node.output)
        if reader is None:
            return None
        if _is_dense(reader) and reader.inputs.index(node.output) == 0:
            return Chain(first, tuple(between), reader)
        if not _is_by_channel(reader, node.output):
            return None
        between.append(reader)
        node = reader


def _is_by_channel(node: Node, value: Value) -> bool:
    """Whether a channel of the result comes from the same channel of `value` and constants alone."""
    others = [v for v in node.inputs if v is not None and v is not value]
    if not all(is_constant(v) for v in others):
        return False
    channels = value.type.dims[1] if value.type.rank >= 3 else 0
    match node.op:
        case Pool():
            return len(node.outputs) == 1
        case Elementwise():
            return node.output.type == value.type
        case Conv(group=group, epilogue=None):
            return group == channels == node.output.type.dims[1] > 1 and node.inputs[0] is value
    return False


def _rebuild(graph: Graph, chain: Chain, kept: Array) -> Node:
    """Puts a chain with the channels `kept` in the place of the old one; returns its first node."""
    def constant(value: Value | None, axis: int) -> Value | None:
        if value is None or value.constant is None:
            return value
        return graph.constant(np.ascontiguousarray(np.take(value.constant, kept, axis=axis)), value.name)

    first = chain.first
    before = chain.last
    value = graph.add(first.op, first.inputs[0], constant(first.inputs[1], 0), *(constant(v, 0) for v in first.inputs[2:]),
                      before=before, loc=first.loc, name=first.output.name)
    beginning, old = value.producer, first.output
    for node in chain.between:
        rank = old.type.rank
        op = replace(node.op, group=len(kept)) if isinstance(node.op, Conv) else node.op
        operands = [value if v is old else constant(v, 0) if isinstance(node.op, Conv) else _broadcast(graph, v, rank, kept) for v in node.inputs]
        value = graph.add(op, *operands, before=before, loc=node.loc, name=node.output.name)
        old = node.output
    last = chain.last
    y = graph.add(last.op, value, constant(last.inputs[1], 1), *last.inputs[2:], before=before, loc=last.loc, name=last.output.name)
    y.layout = last.output.layout
    graph.replace_all_uses(last.output, y)
    graph.erase_dead([last])
    if beginning is None:
        raise EdgeccError("E900", "a convolution is no result of a node")
    return beginning


def _broadcast(graph: Graph, value: Value | None, rank: int, kept: Array) -> Value | None:
    """A constant operand of an elementwise operator with the kept channels, where it has one element for each of them."""
    if value is None or value.constant is None:
        return value
    axis = 1 - (rank - value.type.rank)
    if axis < 0 or value.type.dims[axis] == 1:
        return value
    return graph.constant(np.ascontiguousarray(np.take(value.constant, kept, axis=axis)), value.name)
