"""Placement: in which piece of memory every value of a graph lies, and which steps remain to be run.

A `Root` is a contiguous piece of memory: a network input, a network output, a constant, or a piece of
the arena. Every value gets a `Place`: a root, an offset in it, and strides. Movement operators are
resolved here as far as strides can express them:

    y = transpose/reshape/slice/expand(x)   y is a view of x, nothing runs
    y = bind_size(x)                        y is x; a step that only names the number
    y = concat(a, b)                        a and b are written into y's memory by their own kernels
    region operands and results         lie row-major without gaps, so that they are what the region's inputs are
    a, b = slices of x; y = concat(a, b, c) x is written into y's memory if it lies there as a whole
    network output y                        y, and what y is a view of, is written into the output

A backward sweep decides what lies inside the memory of a later result, a forward sweep what is a
view of an earlier one. What neither could resolve becomes a copy step. A value is not forced into a
place where the kernel that computes it would have to write single elements far apart, unless that
kernel is cheap (`HEAVY`), and not shown as a view to kernels that want dense operands (`wants_dense`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from edgecc.ir.dims import Dim, matching_runs, numbers, symbols_within
from edgecc.ir.graph import Graph, Node, Value, sizes_needed
from edgecc.ir.op import Op
from edgecc.kernels.view import View
from edgecc.memory import strides
from edgecc.memory.places import Place, Root, concat_places, is_ragged, open_shape, own_view, same_place
from edgecc.memory.row_gaps import with_gaps
from edgecc.ops.control import Loop
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Expand, Reshape, Slice, Transpose
from edgecc.ops.recurrent import Recurrent
from edgecc.ops.sizes import BindSize
from edgecc.ops.string_handles import ReadStrings, StringStep, WriteStrings

HEAVY: tuple[type[Op], ...] = (Conv, ConvTranspose, MatMul, Recurrent)
"""Operators whose kernels write whole vectors of the innermost axis: it must stay contiguous."""
MOVEMENT: tuple[type[Op], ...] = (Transpose, Reshape, Slice, Expand)
"""Operators whose result may be a view of the operand."""


@dataclass(frozen=True)
class Step:
    """One kernel call to be: an operator on places.

    Attributes:
        op: the operator; copies are a `Reshape` to the shape the data has already.
        inputs: where the operands lie (None: absent).
        constants: for each operand the constant value it is, else None.
        outputs: where the results go.
        after: numbers of the steps that write what this one reads.
        loc: names of the user's nodes this step stands for.
        name: a hint: the name of the first result.
        node: position in the graph of the node this step belongs to.
    """

    op: Op
    inputs: tuple[Place | None, ...]
    constants: tuple[Value | None, ...]
    outputs: tuple[Place, ...]
    after: tuple[int, ...]
    loc: tuple[str, ...]
    name: str
    node: int


@dataclass(frozen=True)
class Placement:
    """The result of `place_values`: pieces of memory, places by value, steps in a valid order."""

    roots: tuple[Root, ...]
    places: Mapping[Value, Place]
    steps: tuple[Step, ...]
    constants: tuple[Value, ...]


def wants_dense(op: Op, operand: int, view: View) -> bool:
    """Whether `op` should not read operand number `operand` through `view`, so that a copy pays.

    Convolutions read every element many times: channels or the last axis must be contiguous.
    """
    if isinstance(op, Conv | ConvTranspose) and operand == 0:
        return not any(stride == 1 and dim > 1 for stride, dim in
                       ((view.strides[1], view.dims[1]), (view.strides[-1], view.dims[-1]))) and view.elements > 1
    return False


def place_values(graph: Graph, *, dense: Iterable[Value] = (), unwritten: Iterable[int] = (),
                 refuses: Callable[[Op, int, View], bool] = wants_dense, is_region: bool = False, gap_period: int = 0) -> Placement:
    """Places every value of a graph.

    Inputs and outputs of a network are dense in the shape of the run, those of a region in the largest shape.

    Args:
        is_region: whether the graph is a region of a node.
        dense: values that must lie in memory of their own, in their own layout.
        unwritten: numbers of outputs that nobody reads, constants or inputs, so that nothing is written there.
        refuses: whether an operator refuses to read an operand through a view. gap_period: see edgecc/memory/row_gaps.py.
    """
    placer = _Placer(graph, frozenset(dense), refuses, frozenset(unwritten), is_region, gap_period)
    placer.backward()
    placer.forward()
    return Placement(tuple(placer.roots), placer.places, _after_sizes(graph, placer.steps), tuple(placer.constants))


@dataclass
class _Placer:
    graph: Graph
    dense: frozenset[Value]
    refuses: Callable[[Op, int, View], bool]
    unwritten: frozenset[int] = frozenset()
    is_region: bool = False
    gap_period: int = 0
    roots: list[Root] = field(default_factory=list)
    places: dict[Value, Place] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    constants: list[Value] = field(default_factory=list)
    writers: dict[Value, tuple[int, ...]] = field(default_factory=dict)

    # roots

    def new_root(self, kind: str, index: int, value: Value, elements: int | None = None) -> int:
        elements = value.type.capacity if elements is None else elements
        self.roots.append(Root(kind, index, elements * value.type.dtype.size, value.name))
        return len(self.roots) - 1

    def own(self, value: Value) -> Place:
        """A place in a new piece of the arena, in the value's layout."""
        view = with_gaps(own_view(value), value, 0 if value in self.dense else self.gap_period)
        return Place(self.new_root("arena", 0, value, max(view.span, math.prod(view.held_dims))), 0, view, open_shape(value))

    def plain(self, kind: str, index: int, value: Value) -> Place:
        """A place of its own outside the arena, row-major; packed where that are other strides than those of the largest shape."""
        dims, shape = value.type.max_dims, open_shape(value)
        is_packed = is_ragged(value) and not self.is_region
        view = View(value.type.dtype, dims, strides.row_major_strides(dims), packed=is_packed)
        return Place(self.new_root(kind, index, value), 0, view, shape)

    def of_region(self, value: Value) -> Place:
        """A place in a new piece of the arena as regions have their inputs and outputs: row-major in the largest shape."""
        view = View(value.type.dtype, value.type.max_dims, strides.row_major_strides(value.type.max_dims))
        return Place(self.new_root("arena", 0, value), 0, view, open_shape(value))

    def packed(self, value: Value) -> Place:
        """A place in a new piece of the arena without gaps in the shape of the run."""
        place = self.plain("arena", 0, value)
        return replace(place, view=replace(place.view, packed=True))

    # backward: what lies inside the memory of a later result

    def backward(self) -> None:
        for index, value in enumerate(self.graph.outputs):
            if value.producer is not None and value not in self.places and self.is_written_directly(value, value.producer):
                self.places[value] = self.plain("output", index, value)
        for node in reversed(self.graph.nodes):
            match node.op:
                case Concat(axis=axis):
                    result = node.output
                    if result not in self.places:
                        self.places[result] = self.own(result)
                    for operand, place in zip(node.inputs, concat_places(self.places[result], node, axis), strict=True):
                        self.settle(operand, place)
                case Transpose() | Reshape() if node.output in self.places and shows_operand(node):
                    operand = node.operand(0)
                    result_place = self.places[node.output]
                    view = strides.operand_view(node.op, result_place.view, operand.type.max_dims)
                    if view is not None:
                        self.settle(operand, Place(result_place.root, result_place.offset, replace(
                            view, padded=result_place.view.padded), open_shape(operand)))
                case Slice() if node.output in self.places:
                    operand = node.operand(0)
                    whole = self.around(node.op, node.output, operand)
                    parts = [use.node for use in operand.uses if isinstance(use.node.op, Slice)]
                    if whole is not None and _cover(operand, [
                            part.op for part in parts
                            if isinstance(part.op, Slice) and self.around(part.op, part.output, operand) == whole]):
                        self.settle(operand, whole)

    def is_written_directly(self, value: Value, writer: Node) -> bool:
        """Whether an output may be computed where the caller wants it: with constant strides, and by kernels.

        States of loops are copied in the largest shape, for which the caller's array need not have room.
        """
        if self.is_region:
            return value not in self.dense or value.type.is_static
        return isinstance(writer.op, WriteStrings) or (not is_ragged(value) and (value.type.is_static or not writer.regions))

    def around(self, op: Slice, part: Value, whole: Value) -> Place | None:
        """Where `whole` would lie if its slice `part` lay where it was decided; None where nothing was, or steps are not 1."""
        place = self.places.get(part)
        if place is None or any(step != 1 for step in op.steps) or place.shape or open_shape(whole):
            return None
        before = sum(start * stride for start, stride in zip(numbers(op.starts), place.view.strides, strict=True))
        return Place(place.root, place.offset - before, View(place.view.dtype, whole.type.max_dims, place.view.strides))

    def settle(self, value: Value | None, place: Place) -> None:
        """Decides that `value` lies at `place`, if it may and its kernel can write there well."""
        if value is None or value.producer is None or value in self.places or value in self.dense or not place.is_plain:
            return
        if (value.producer.regions or isinstance(value.producer.op, StringStep)) and not strides.is_row_major(place.view):
            return
        if isinstance(value.producer.op, HEAVY):
            axis = strides.innermost_axis(value.layout.order, value.type.max_dims)
            if axis is not None and place.view.strides[axis] != 1:
                return
        self.places[value] = place

    # forward: what is a view of an earlier value, and what must run

    def forward(self) -> None:
        for index, value in enumerate(self.graph.inputs):
            given = self.plain("input", index, value)
            self.writers[value] = ()
            is_text = any(isinstance(use.node.op, ReadStrings) for use in value.uses)
            if not is_text and (given.view.packed or (value in self.dense and not value.type.is_static)):  # for constant strides, or room
                self.places[value] = self.own(value)
                self.writers[value] = self.copy(value, given, self.places[value], (), (), 0)
            else:
                self.places[value] = given
        for position, node in enumerate(self.graph.nodes):
            if isinstance(node.op, MOVEMENT):
                self.movement(node, position)
            elif isinstance(node.op, BindSize):
                self.bind_size(node, node.op, position)
            elif isinstance(node.op, Concat):
                self.concat(node, node.op.axis, position)
            else:
                self.compute(node, position)
        for index, value in enumerate(self.graph.outputs):
            if index in self.unwritten:
                continue
            source = self.place(value)
            root = self.roots[source.root]
            if root.kind != "output" or root.index != index:
                self.copy(value, source, self.plain("output", index, value), self.writers[value],
                          () if value.producer is None else value.producer.loc, len(self.graph))

    def place(self, value: Value) -> Place:
        """Where an operand lies; constants get their root when they are first met."""
        if value.constant is not None and value not in self.places:
            self.places[value] = self.plain("constant", len(self.constants), value)
            self.constants.append(value)
            self.writers[value] = ()
        return self.places[value]

    def bind_size(self, node: Node, op: BindSize, position: int) -> None:
        """A step without results, after which all steps run that depend on the size."""
        operand = node.operand(0)
        place = self.place(operand)
        self.places[node.output], self.writers[node.output] = place, self.writers[operand]
        self.steps.append(Step(op, (place,), (operand if operand.constant is not None else None,), (), self.writers[operand],
                               node.loc, node.output.name, position))

    def compute(self, node: Node, position: int) -> None:
        inputs = tuple(None if v is None else self.place(v) for v in node.inputs)
        writers = [() if v is None else self.writers[v] for v in node.inputs]
        if node.regions or (isinstance(node.op, StringStep) and not any(place is not None and place.shape for place in inputs)):
            inputs, writers = self.gapless(node, inputs, writers, position)
        after = dict.fromkeys(s for steps in writers for s in steps)
        for value in node.outputs:
            if value not in self.places:
                self.places[value] = self.of_region(value) if node.regions else self.own(value)
            self.writers[value] = (len(self.steps),) if any(v.type.capacity for v in node.outputs) else ()
        if not any(v.type.capacity for v in node.outputs):
            return
        constants = tuple(v if v is not None and v.constant is not None else None for v in node.inputs)
        self.steps.append(Step(node.op, inputs, constants, tuple(self.places[v] for v in node.outputs), tuple(after),
                               node.loc, node.outputs[0].name, position))

    def gapless(self, node: Node, inputs: tuple[Place | None, ...], writers: list[tuple[int, ...]],
                position: int) -> tuple[tuple[Place | None, ...], list[tuple[int, ...]]]:
        """The operands of a node with regions, or on strings: those that are not row-major without gaps are copied, each once.

        So are initial states of open shape that are inputs: loops copy states in the largest shape.
        """
        copied: dict[Value, tuple[Place, tuple[int, ...]]] = {}
        places, steps = list(inputs), list(writers)
        for index, (value, place) in enumerate(zip(node.inputs, inputs, strict=True)):
            if value is None or place is None:
                continue
            is_state = isinstance(node.op, Loop) and 2 <= index < 2 + node.op.states
            is_given = is_state and bool(place.shape) and self.roots[place.root].kind == "input"
            if strides.is_row_major(place.view) and place.is_plain and not is_given:
                continue
            if value not in copied:
                target = self.of_region(value)
                copied[value] = target, self.copy(value, place, target, writers[index], node.loc, position)
            places[index], steps[index] = copied[value]
        return tuple(places), steps

    def movement(self, node: Node, position: int) -> None:
        operand, result = node.operand(0), node.output
        source = self.place(operand)
        found = strides.view_of(node.op, source.view, result.type.max_dims) if shows_operand(node) else None
        candidate = None
        if found is not None:
            offset, view = found
            view = replace(view, padded=_stays_padded(node.op, source.view))
            candidate = Place(source.root, source.offset + offset, view, open_shape(result), _moved(node.op, source.view))
        decided = self.places.get(result)
        if decided is None and candidate is not None and candidate.start == 0 and result not in self.dense and not any(
                self.refuses(use.node.op, use.index, candidate.view) for use in result.uses):
            decided = candidate
        if decided is None:
            decided = self.own(result)
        self.places[result] = decided
        if candidate is not None and same_place(candidate, decided):
            self.writers[result] = self.writers[operand]
        elif candidate is not None:
            self.writers[result] = self.copy(operand, candidate, decided, self.writers[operand], node.loc, position)
        else:
            self.writers[result] = self.reshape(node, source, decided, position)

    def reshape(self, node: Node, source: Place, target: Place, position: int) -> tuple[int, ...]:
        """A movement that is no view: as a plain copy if the target can be shown in the operand's shape."""
        operand = node.operand(0)
        if node.output.type.capacity == 0:
            return ()
        if isinstance(node.op, Reshape):
            view, result_view = strides.operand_view(node.op, target.view, operand.type.max_dims), target.view
            if view is not None and shows_operand(node):
                return self.copy(operand, source, Place(target.root, target.offset, view, open_shape(operand)), self.writers[operand],
                                 node.loc, position)
            if not operand.type.is_static:  # through memory without gaps, where both shapes look alike
                between = self.packed(operand)
                after = self.copy(operand, source, between, self.writers[operand], node.loc, position)
                packed = View(result_view.dtype, result_view.dims, strides.row_major_strides(result_view.dims), packed=True)
                return self.copy(node.output, Place(between.root, 0, packed, open_shape(node.output)), target, after, node.loc, position)
        self.steps.append(Step(node.op, (source,), (None,), (target,), self.writers[operand], node.loc,
                               node.output.name, position))
        return (len(self.steps) - 1,)

    def concat(self, node: Node, axis: int, position: int) -> None:
        writers: dict[int, None] = {}
        for value, target in zip(node.inputs, concat_places(self.places[node.output], node, axis), strict=True):
            if value is None:
                continue
            source = self.place(value)
            written = self.writers[value]
            if not same_place(source, target):
                written = self.copy(value, source, target, written, node.loc, position)
            writers.update(dict.fromkeys(written))
        self.writers[node.output] = tuple(writers)

    def copy(self, value: Value, source: Place, target: Place, after: Sequence[int], loc: tuple[str, ...],
             position: int) -> tuple[int, ...]:
        """A step that copies element by element, if there are any; `source` and `target` have one shape."""
        if value.type.capacity == 0:
            return ()
        self.steps.append(Step(Reshape(target.view.dims), (source,), (None,), (target,), tuple(after), loc, value.name, position))
        return (len(self.steps) - 1,)


def _after_sizes(graph: Graph, steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps, each after those that bind the sizes it depends on."""
    binding = {step.op.binds: number for number, step in enumerate(steps) if step.op.binds is not None}
    if not binding:
        return tuple(steps)
    nodes = graph.nodes
    out = []
    for number, step in enumerate(steps):
        places = [place for place in (*step.inputs, *step.outputs) if place is not None]
        used = symbols_within(tuple(dim for place in places for dim in (*place.shape, place.start)))
        if step.node < len(nodes):
            used |= sizes_needed(nodes[step.node])
        after = dict.fromkeys((*step.after, *(binding[s] for s in sorted(used, key=str) if s in binding and binding[s] != number)))
        out.append(replace(step, after=tuple(after)))
    return tuple(out)


def _cover(whole: Value, slices: Sequence[Slice]) -> bool:
    """Whether these slices, along one axis, are all of a value. Steps are 1."""
    dims = whole.type.max_dims
    for axis, size in enumerate(dims):
        along = [numbers((s.starts[axis], s.starts[axis] + s.sizes[axis])) for s in slices
                 if all(s.sizes[a] == dims[a] for a in range(len(dims)) if a != axis)]
        reached = 0
        for start, end in sorted(along):
            reached = max(reached, end) if start <= reached else reached
        if reached == size:
            return True
    return False


def _stays_padded(op: Op, source: View) -> bool:
    """Whether rows of a movement's result, shown on its operand, end where the operand's padding begins, or before."""
    if not isinstance(op, Slice):
        return source.padded
    return source.padded and all(start == 0 and step == 1 for start, step, stride in zip(op.starts, op.steps, source.strides, strict=True)
                                 if stride == 1)


def _moved(op: Op, source: View) -> Dim:
    """How far on the first element of a slice lies beyond what is known at compile time."""
    if not isinstance(op, Slice):
        return 0
    return sum((start * stride for start, stride in zip(op.starts, source.strides, strict=True) if not isinstance(start, int)),
               start=cast("Dim", 0))


def shows_operand(node: Node) -> bool:
    """Whether strides that show the result of a movement on its operand at the largest shape do so at every shape.

    Reshapes must cut both shapes into runs of axes of equal sizes, in which only the first axes are open.
    """
    operand, result = node.operand(0).type, node.output.type
    if not isinstance(node.op, Reshape) or (operand.is_static and result.is_static):
        return True
    runs = matching_runs(operand.shape, result.shape)
    return runs is not None and all(isinstance(shape[axis], int) for own, other in runs
                                    for shape, axes in ((operand.shape, own), (result.shape, other)) for axis in axes[1:])
