"""Schedules of depth-first blocks: which rows each step computes in which stripe, and how many rows its result must keep.

A block is a chain of steps that runs stripe by stripe: all steps compute a few rows, then all of them the
next rows. The last step sets the pace; every other one runs ahead of its readers just as far as these need:

    conv 3x3, rows ends:   5   9   13  16       a reader of the first needs one row more than it computes
    conv 3x3, rows ends:   4   8   12  16       stripes of 4 rows

Every row is computed once. A value that only the block uses need not be stored as a whole: it lies in a ring
of as many rows as are in use at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from edgecc.ir.types import Array
from edgecc.kernels.view import ROW_AXIS
from edgecc.memory.placement import Placement, Step
from edgecc.memory.places import Place
from edgecc.ops.rows import row_needs


@dataclass(frozen=True)
class _Read:
    """`RowNeeds` as arrays over 0..height of the result, to be indexed with many rows at once."""

    through: Array
    from_row: Array


@dataclass(frozen=True)
class Link:
    """A read of operand `operand`, which lies in root `root`, by step `reader` of a chain.

    `writers` are the steps of the chain that write what is read; both are places in the chain. `rows` tells which
    rows are needed (None: all of them, always).
    """

    reader: int
    operand: int
    root: int
    writers: tuple[int, ...]
    rows: _Read | None


@dataclass(frozen=True)
class Chain:
    """Consecutive steps that can run in stripes.

    Attributes:
        numbers: of the steps in the placement, in order.
        heights: rows of each result.
        links: every read of a value that is not a constant, by reader.
        rings: roots that only the chain uses and that hold one image row after the other: (height, bytes of a row).
    """

    numbers: tuple[int, ...]
    heights: tuple[int, ...]
    links: tuple[Link, ...]
    rings: Mapping[int, tuple[int, int]]


@dataclass(frozen=True)
class StripedChain:
    """A chain with its schedule: a depth-first block.

    Attributes:
        chain: its steps.
        stops: for each step, the row at which it stops in each stripe; the next stripe goes on there.
        rings: for each root that need not be stored as a whole the rows it keeps.
    """

    chain: Chain
    stops: tuple[Array, ...]
    rings: Mapping[int, int]

    @property
    def stripes(self) -> int:
        """Number of stripes."""
        return len(self.stops[0])

    @cached_property
    def ends(self) -> tuple[tuple[int, ...], ...]:
        """`stops` by stripe: for each one, for each step, the row at which it stops."""
        return tuple(zip(*(stop.tolist() for stop in self.stops), strict=True))

    @cached_property
    def overwritable(self) -> frozenset[tuple[int, int]]:
        """(step number, operand) of operands whose rows nothing needs any more once the step has computed the same rows of its result."""
        begins = _begins(self.stops)
        return frozenset((self.chain.numbers[link.reader], link.operand) for link in self.chain.links
                         if not link.writers and _may_overwrite(self.chain, link, self.stops, begins))

    @property
    def ring_bytes(self) -> int:
        """Bytes of all rings."""
        return sum(rows * self.chain.rings[root][1] for root, rows in self.rings.items())

    @property
    def whole_bytes(self) -> int:
        """Bytes of what lies in rings, as a whole."""
        return sum(math.prod(self.chain.rings[root]) for root in self.rings)


class ChainFinder:
    """Makes chains of a placement's steps; knows for each root who uses it."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        self.users: dict[int, set[int]] = {}
        self.reads: dict[tuple[int, int], _Read] = {}
        for number, step in enumerate(placement.steps):
            for place in (*step.inputs, *step.outputs):
                if place is not None:
                    self.users.setdefault(place.root, set()).add(number)

    def chain(self, numbers: Sequence[int]) -> Chain | None:
        """The chain of these steps, which run in this order; None where they cannot run in stripes together."""
        steps = [self.placement.steps[number] for number in numbers]
        if not all(_is_image(step) for step in steps):
            return None
        position = {number: i for i, number in enumerate(numbers)}
        links: list[Link] = []
        for reader, step in enumerate(steps):
            for operand, place in enumerate(step.inputs):
                if place is None or step.constants[operand] is not None:
                    continue
                writers = tuple(position[n] for n in step.after
                                if n in position and self.placement.steps[n].outputs[0].root == place.root)
                read = self._read(numbers[reader], operand)
                if writers and (read is None or not all(_same_rows(steps[w].outputs[0], place) for w in writers)):
                    return None
                links.append(Link(reader, operand, place.root, writers, read))
        written = {step.outputs[0].root for step in steps}
        rings = {}
        for root in sorted(written & {link.root for link in links}):
            found = self._ring(root, set(numbers))
            if found is not None:
                rings[root] = found
        return Chain(tuple(numbers), tuple(step.outputs[0].view.dims[ROW_AXIS] for step in steps), tuple(links), rings)

    def _read(self, number: int, operand: int) -> _Read | None:
        """Which rows a step needs of an operand; None where it needs the operand as a whole."""
        if (number, operand) not in self.reads:
            step = self.placement.steps[number]
            shapes = [None if place is None else place.view.dims for place in step.inputs]
            needs = row_needs(step.op, operand, shapes, step.outputs[0].view.dims)
            if needs is None:
                return None
            rows = range(len(needs.first) + 1)
            self.reads[number, operand] = _Read(np.array([needs.through(row) for row in rows]),
                                                np.array([needs.from_row(row) for row in rows]))
        return self.reads[number, operand]

    def _ring(self, root: int, numbers: set[int]) -> tuple[int, int] | None:
        """Height and bytes of a row of a root that only these steps use and that is a sequence of rows; else None."""
        if self.placement.roots[root].kind != "arena" or not self.users[root] <= numbers:
            return None
        shapes = set()
        for number in self.users[root]:
            step = self.placement.steps[number]
            for place in (*step.inputs, *step.outputs):
                if place is not None and place.root == root:
                    if len(place.view.dims) <= ROW_AXIS + 1 or not _lies_in_rows(place):
                        return None
                    shapes.add((place.view.dims[ROW_AXIS], place.view.strides[ROW_AXIS] * place.view.dtype.size))
        if len(shapes) != 1:
            return None
        ((height, row_bytes),) = shapes
        rows = -(-self.placement.roots[root].size_bytes // row_bytes)  # behind the last pixel a gap may be missing
        return (height, row_bytes) if height == rows else None


def schedule(chain: Chain, rows: int) -> StripedChain:
    """Cuts a chain into stripes of `rows` rows of its last result."""
    heights = chain.heights
    count = -(-heights[-1] // rows)
    stripe = np.arange(1, count + 1)
    ends: list[Array] = [np.zeros(0, np.int64)] * len(heights)
    readers: dict[int, list[Link]] = {}
    for link in chain.links:
        for writer in link.writers:
            readers.setdefault(writer, []).append(link)
    for step in reversed(range(len(heights))):
        if step == len(heights) - 1:
            end = stripe * rows
        elif step in readers:
            end = np.max([link.rows.through[ends[link.reader]] for link in readers[step] if link.rows is not None], axis=0)
        else:  # nothing in the chain waits for it: it keeps pace
            end = -(-heights[step] * stripe // count)
        end = np.minimum(end, heights[step])
        end[-1] = heights[step]
        ends[step] = end
    begins = _begins(ends)
    rings = {}
    for root, (height, _) in chain.rings.items():
        links = [link for link in chain.links if link.root == root]
        ahead = np.max([ends[writer] for link in links for writer in link.writers], axis=0)
        kept = np.min([link.rows.from_row[begins[link.reader]] for link in links if link.rows is not None], axis=0)
        held = max(1, int(np.max(ahead - kept)))
        if held < height:
            rings[root] = held
    return StripedChain(chain, tuple(ends), rings)


def _begins(ends: Sequence[Array]) -> list[Array]:
    """For each step, the row at which it begins in each stripe."""
    return [np.concatenate(([0], end[:-1])) for end in ends]


def _may_overwrite(chain: Chain, link: Link, ends: Sequence[Array], begins: Sequence[Array]) -> bool:
    """Whether nothing needs a row of the operand any more when the reader of `link` has computed that row of its result."""
    same_rows = np.arange(chain.heights[link.reader] + 1)
    if link.rows is None or not (np.array_equal(link.rows.through, same_rows) and np.array_equal(link.rows.from_row, same_rows)):
        return False
    for other in chain.links:
        if other.root != link.root or other is link:
            continue
        # A later step of the chain still reads in this stripe, an earlier one from the next stripe on.
        begin = begins[other.reader] if other.reader > link.reader else ends[other.reader]
        if other.rows is None or other.reader == link.reader or np.any(other.rows.from_row[begin] < ends[link.reader]):
            return False
    return True


def ringed(placement: Placement, blocks: Sequence[StripedChain]) -> Placement:
    """The placement with the rings of some blocks in the place of whole values."""
    rings = {root: rows for block in blocks for root, rows in block.rings.items()}
    row_bytes = {root: size for block in blocks for root, (_, size) in block.chain.rings.items()}

    def place(old: Place) -> Place:
        return old if old.root not in rings else replace(old, view=replace(old.view, ring=rings[old.root]))

    roots = tuple(replace(root, size_bytes=rings[index] * row_bytes[index]) if index in rings else root
                  for index, root in enumerate(placement.roots))
    steps = tuple(replace(step, inputs=tuple(None if p is None else place(p) for p in step.inputs),
                          outputs=tuple(place(p) for p in step.outputs)) for step in placement.steps)
    return replace(placement, roots=roots, steps=steps, places={value: place(old) for value, old in placement.places.items()})


def _is_image(step: Step) -> bool:
    """Whether a step computes one image, and so may run in stripes."""
    if len(step.outputs) != 1:
        return False
    dims = step.outputs[0].view.dims
    return len(dims) > ROW_AXIS + 1 and dims[0] == 1


def _same_rows(written: Place, read: Place) -> bool:
    """Whether row r of what a step writes is a part of row r of what another reads."""
    if len(written.view.dims) != len(read.view.dims) or written.view.dims[ROW_AXIS] != read.view.dims[ROW_AXIS]:
        return False
    if written.offset == read.offset and written.view.shows_same(read.view):
        return True
    return (_lies_in_rows(written) and _lies_in_rows(read)
            and written.view.strides[ROW_AXIS] == read.view.strides[ROW_AXIS])


def _lies_in_rows(place: Place) -> bool:
    """Whether all elements of row r of one image lie within the r-th run of `strides[ROW_AXIS]` elements of the root."""
    view = place.view
    others = [(d, s) for axis, (d, s) in enumerate(zip(view.dims, view.strides, strict=True)) if axis != ROW_AXIS and d != 1]
    if any(stride < 0 for _, stride in others):
        return False
    return place.offset + sum((d - 1) * s for d, s in others) < view.strides[ROW_AXIS]
