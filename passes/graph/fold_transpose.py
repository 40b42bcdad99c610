"""Moves transposes towards the end of the graph, where they meet and cancel, and into matrix products.

    %t = transpose(%x) {perm=p}; %y = elementwise(%t, %c)     ->  %e = elementwise(%x, %c'); %y = transpose(%e) {perm=p}
    %t = transpose(%x) {perm=p}; %y = reduce(%t) {axes=(3,)}  ->  %e = reduce(%x) {axes=(p[3],)}; %y = transpose(%e)
    %t = transpose(%b) {perm=(0,2,1)}; %y = matmul(%a, %t)    ->  %y = matmul(%a, %b) {transpose_b=true}

simplify-movement joins the transposes that meet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.op import Op
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Pad, Slice, Transpose
from edgecc.ops.reduction import Reduce, Softmax
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import replace, sole_user

Perm = tuple[int, ...]
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class FoldTranspose(NodePass):
    """Applies an operator before the Transpose in front of it instead of after it.

    1. Elementwise and Concat: every operand is transposed alike, or is a constant (then transposed back), or (for
       Elementwise) has one element.
    2. Reduce, Softmax, Slice, Pad: axes and per-axis attributes are renamed.
    3. MatMul: a transpose of the last two axes of an operand becomes transpose_a or transpose_b.

    Declines when:
    4. Something else reads the transposed value too: there would be two transposes where there was one. Slices of
       one value are excepted, since together they move no more.
    5. Another operand is not transposed alike.
    6. The result would be larger than what is transposed now.
    7. MatMul: the transpose moves batch axes (assign-layout makes that one a view).
    """

    name: ClassVar[str] = "fold-transpose"
    tolerance: ClassVar[float] = 0.0  # the same arithmetic on the same elements

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one reader of transposes."""
        transposes = {value: value.producer for value in node.inputs
                      if value is not None and value.producer is not None and isinstance(value.producer.op, Transpose)}
        if not transposes:
            return False
        match node.op:
            case MatMul():
                return self._matmul(graph, node, node.op)
            case Elementwise() | Concat() | Reduce() | Softmax() | Slice() | Pad():
                pass
            case _:
                return False
        for value in transposes:
            if sole_user(graph, value) is not node and not _only_slices(graph, value):
                return self.decline(node, f"%{value.name} has another reader or is returned")
        moved = {value: _moved(graph, source) for value, source in transposes.items()}
        perms = {one.perm for one in moved.values()}
        perm = next(iter(perms))
        if len(perms) > 1:
            return self.decline(node, "its operands are transposed differently")
        if isinstance(node.op, Elementwise | Concat):
            return self._pointwise(graph, node, perm, moved)
        op, after = _renamed(node.op, perm)
        only = next(iter(moved.values()))
        self._replace(graph, node, op, [only.value, *node.inputs[1:]], after, only.nodes)
        return True

    def _pointwise(self, graph: Graph, node: Node, perm: Perm, moved: Mapping[Value, _Moved]) -> bool:
        dims = node.output.type.shape
        if len(dims) != len(perm):
            return self.decline(node, "the result has another rank than what is transposed")
        operands: list[Value] = []
        absorbed: list[Node] = []
        inverse = inverse_of(perm)
        for value in (v for v in node.inputs if v is not None):
            if value in moved:
                operands.append(moved[value].value)
                absorbed += moved[value].nodes
            elif isinstance(node.op, Elementwise) and value.type.count == 1:
                operands.append(value)
            elif value.constant is not None:
                full = value.constant.reshape((1,) * (len(perm) - value.type.rank) + value.type.dims)
                operands.append(graph.constant(np.ascontiguousarray(full.transpose(inverse)), value.name))
            else:
                return self.decline(node, f"%{value.name} is not transposed")
        if isinstance(node.op, Elementwise) and all(value.type.shape != dims for value in moved):
            return self.decline(node, "the result is larger than what is transposed")
        op = Concat(perm[node.op.axis]) if isinstance(node.op, Concat) else node.op
        self._replace(graph, node, op, operands, perm, absorbed)
        return True

    @staticmethod
    def _replace(graph: Graph, node: Node, op: Op, operands: Sequence[Value | None], perm: Perm, absorbed: Sequence[Node]) -> None:
        loc = [name for one in (*absorbed, node) for name in one.loc]
        inner = graph.add(op, *operands, before=node, loc=loc, name=node.output.name)
        replace(graph, node, Transpose(perm), inner, absorbed=absorbed)

    def _matmul(self, graph: Graph, node: Node, op: MatMul) -> bool:
        operands, absorbed = list(node.inputs), []
        flags = [op.transpose_a, op.transpose_b]
        for index in (0, 1):
            value = node.operand(index)
            source = value.producer
            if source is None or not isinstance(source.op, Transpose):
                continue
            rank = value.type.rank
            if source.op.perm != (*range(rank - 2), rank - 1, rank - 2):
                self.decline(node, f"the transpose of operand {index} moves batch axes")
                continue
            operands[index], flags[index] = source.operand(0), not flags[index]
            absorbed.append(source)
        if not absorbed:
            return False
        replace(graph, node, dataclasses.replace(op, transpose_a=flags[0], transpose_b=flags[1]), *operands, absorbed=absorbed)
        return True


@dataclass(frozen=True)
class _Moved:
    """A value before the transposes that one follows upon another, which together are `perm`; the first of `nodes` is the first of them."""

    value: Value
    perm: Perm
    nodes: tuple[Node, ...]


def _moved(graph: Graph, last: Node) -> _Moved:
    """What `last`, a Transpose, moves: through all that nothing else reads, or each sweep over a long chain would bring them one step further."""
    if not isinstance(last.op, Transpose):
        raise TypeError(last.op)
    value, perm, nodes = last.operand(0), last.op.perm, [last]
    while value.producer is not None and isinstance(value.producer.op, Transpose) and sole_user(graph, value) is nodes[-1]:
        before = value.producer.op.perm
        perm = tuple(before[axis] for axis in perm)
        nodes.append(value.producer)
        value = value.producer.operand(0)
    return _Moved(value, perm, tuple(reversed(nodes)))


def _only_slices(graph: Graph, value: Value) -> bool:
    return not graph.is_output(value) and all(isinstance(user.op, Slice) for user in value.users)


def inverse_of(perm: Perm) -> Perm:
    """The permutation that undoes `perm`."""
    inverse = [0] * len(perm)
    for position, axis in enumerate(perm):
        inverse[axis] = position
    return tuple(inverse)


def _renamed(op: Op, perm: Perm) -> tuple[Op, Perm]:
    """The operator on the untransposed operand, and the transpose its result needs."""
    inverse = inverse_of(perm)

    def moved(entries: Sequence[Entry]) -> tuple[Entry, ...]:
        return tuple(entries[inverse[axis]] for axis in range(len(perm)))

    match op:
        case Softmax(axis=axis):
            return dataclasses.replace(op, axis=perm[axis]), perm
        case Slice():
            return Slice(moved(op.starts), moved(op.sizes), moved(op.steps)), perm
        case Pad():
            return dataclasses.replace(op, before=moved(op.before), after=moved(op.after)), perm
        case Reduce(axes=axes, keepdims=keepdims):
            reduced = dataclasses.replace(op, axes=tuple(sorted(perm[a] for a in axes)))
            if keepdims:
                return reduced, perm
            left = sorted(perm[a] for a in range(len(perm)) if a not in axes)
            return reduced, tuple(left.index(perm[a]) for a in range(len(perm)) if a not in axes)
    raise TypeError(f"{op.name} has no axes to rename")
