"""Loops that collect rows by appending them to a state: the rows become results that the loop stacks.

    state = Concat(state, row)           in every iteration, and nowhere else read   →   Concat(initial state, all rows)
    state = SequenceInsert(state, row)   of a sequence that is empty at first        →   a sequence of all rows

Scripted models are exported so. A state must keep its type while a loop runs; a stacked result has room for all rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from edgecc.frontend.call import Call
from edgecc.frontend.converters.movement import concat
from edgecc.frontend.items import Item, StackedSequence, TensorSequence, Unknown
from edgecc.frontend.limits import subgraphs
from edgecc.ir.graph import Value
from edgecc.ir.types import Dim


@dataclass(frozen=True)
class Growing:
    """A state of a Loop that grows: its position among the states, the axis, the name of the row in the body, and its first value.

    A sequence, which is empty at first, has no axis and no value.
    """

    position: int
    axis: int
    row: str
    initial: Value | None


@dataclass(frozen=True)
class Stacking:
    """A Loop whose growing states have become stacked results, its last ones.

    Attributes: call, the rewritten node; growing, the states that it lacks; rows, the sizes of the body's results, by position, that
        are appended to them, which all but the size along the axis follow from.
    """

    call: Call
    growing: tuple[Growing, ...]
    rows: Mapping[int, Sequence[Dim]]

    def results(self, found: list[Item | None]) -> list[Item | None]:
        """The results of the node before it was rewritten, from those of the rewritten one."""
        if any(isinstance(item, Unknown) for item in found):
            return [Unknown()] * len(self.call.node.output)
        rest = found[:len(found) - len(self.growing)]
        for growing, rows in zip(self.growing, found[len(rest):], strict=True):
            rest.insert(growing.position, self._appended(growing, rows) if isinstance(rows, Value) else rows)
        return rest

    def _appended(self, growing: Growing, rows: Value) -> Item:
        """[count, .., d, ..] to [.., initial + count * d, ..]."""
        if growing.initial is None:
            return StackedSequence(rows)
        row = joined_rows(self.call, rows, growing.axis)
        return row if growing.initial.type.shape[growing.axis] == 0 else concat(self.call, [growing.initial, row], growing.axis)


def joined_rows(call: Call, rows: Value, axis: int) -> Value:
    """Stacked tensors [count, .., d, ..] one after the other along an axis of theirs, [.., count * d, ..]."""
    shape = rows.type.shape
    order = [*range(1, axis + 1), 0, *range(axis + 1, rows.type.rank)]
    return call.reshape(call.transpose(rows, order), (*shape[1:axis + 1], shape[0] * shape[axis + 1], *shape[axis + 2:]))


def without_growing_states(call: Call, body: onnx.GraphProto, *, sequences: bool = False) -> Stacking | None:
    """The Loop with stacked results instead of growing states; None where there are none.

    With `sequences` these are stacked too: all of their tensors then must have one type.
    """
    reads = Counter(_reads(body.node))
    reads.update(output.name for output in body.output)
    producers = {name: node for node in body.node for name in node.output}
    found = []
    for position, item in enumerate(call.inputs[2:]):
        growing = None
        if isinstance(item, Value):
            growing = _growing(body, position, item, producers, reads)
        elif sequences and item == TensorSequence(()):
            growing = _growing_sequence(body, position, producers, reads)
        if growing is not None:
            found.append(growing)
    if not found:
        return None
    gone = {growing.position for growing in found}
    stacking, loop = onnx.GraphProto(), onnx.NodeProto()
    stacking.CopyFrom(body)
    loop.CopyFrom(call.node)
    for position in sorted(gone, reverse=True):
        del stacking.input[2 + position], stacking.output[1 + position], loop.output[position]
    appended = {body.output[1 + position].name for position in gone}
    for node in [node for node in stacking.node if not appended.isdisjoint(node.output)]:
        stacking.node.remove(node)
    rows = {}
    for growing in found:
        if growing.initial is not None:
            rows[len(stacking.output)] = tuple(1 if a == growing.axis else size for a, size in enumerate(growing.initial.type.shape))
        stacking.output.add(name=growing.row)
        loop.output.append(call.node.output[growing.position])
    attribute = onnx.AttributeProto(name="body", type=onnx.AttributeProto.GRAPH, g=stacking)
    inputs = [item for position, item in enumerate(call.inputs) if position - 2 not in gone]
    rewritten = Call(call.importer, call.scope, loop, call.version, call.loc, inputs, {**call.attributes, "body": attribute})
    return Stacking(rewritten, tuple(found), rows)


def _growing(body: onnx.GraphProto, position: int, initial: Value, producers: dict[str, onnx.NodeProto], reads: Counter[str]) -> Growing | None:
    name, result = body.input[2 + position].name, body.output[1 + position].name
    append = producers.get(result)
    if append is None or append.op_type != "Concat" or append.domain not in ("", "ai.onnx") or len(append.input) != 2 or reads[result] != 1:
        return None
    before, row = append.input
    while before != name:  # conversions to the type it has
        node = producers.get(before)
        if node is None or node.op_type not in ("Identity", "Cast") or reads[before] != 1:
            return None
        if any(a.name == "to" and a.i != initial.type.dtype.code for a in node.attribute):
            return None
        before = node.input[0]
    axis = next((a.i for a in append.attribute if a.name == "axis"), 0)
    if reads[name] != 1 or row == name or not -initial.type.rank <= axis < initial.type.rank:
        return None
    return Growing(position, axis % initial.type.rank, row, initial)


def _growing_sequence(body: onnx.GraphProto, position: int, producers: dict[str, onnx.NodeProto], reads: Counter[str]) -> Growing | None:
    name, result = body.input[2 + position].name, body.output[1 + position].name
    append = producers.get(result)
    if append is None or append.op_type != "SequenceInsert" or any(append.input[2:]) or append.input[0] != name or reads[name] != 1 or reads[result] != 1:
        return None
    return Growing(position, 0, append.input[1], None)


def _reads(nodes: Iterable[onnx.NodeProto]) -> Iterable[str]:
    """Every name that nodes read, and those inside of them, as often as they do."""
    for node in nodes:
        yield from node.input
        for graph in subgraphs(node):
            yield from _reads(graph.node)
            yield from (output.name for output in graph.output)
