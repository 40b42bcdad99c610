"""Schedules of stripes, executed row by row: what a step reads must be what its producer wrote there last."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgecc.ir.graph import Graph
from edgecc.ir.types import DType, Layout, TensorType
from edgecc.memory.placement import Placement, place_values
from edgecc.memory.stripes import Chain, ChainFinder, StripedChain, ringed, schedule
from edgecc.ops.convolution import Conv, Pool
from tests.support.images import bottleneck, image_networks

Slot = tuple[int, int]
"""A root and a row of the memory it has."""


def taps(placement: Placement, number: int, operand: int, row: int) -> list[int]:
    """The rows of an operand that one row of a result reads, straight from the operator's formula."""
    step = placement.steps[number]
    place = step.inputs[operand]
    assert place is not None
    height = place.view.dims[2]
    if operand or not isinstance(step.op, Conv | Pool):
        return [row]
    kernel = step.op.kernel[0] if isinstance(step.op, Pool) else step.inputs[1].view.dims[2]  # type: ignore[union-attr]
    found = [row * step.op.strides[0] - step.op.pads[0] + tap * step.op.dilations[0] for tap in range(kernel)]
    return [r for r in found if 0 <= r < height]


@dataclass
class Machine:
    """Memory by rows: which row of which step each slot holds, for each byte range that a step writes."""

    placement: Placement
    block: StripedChain
    rows: dict[tuple[Slot, int], int] = field(default_factory=dict)

    def slot(self, root: int, row: int) -> Slot:
        return root, row % self.block.rings.get(root, 1 << 30)

    def run(self) -> None:
        chain, steps = self.block.chain, self.placement.steps
        starts = (0,) * len(chain.numbers)
        done = [0] * len(chain.numbers)
        for ends in self.block.ends:
            for i, number in enumerate(chain.numbers):
                for row in range(starts[i], ends[i]):
                    self.read(number, row)
                    place = steps[number].outputs[0]
                    self.rows[self.slot(place.root, row), number] = row
                    done[i] += 1
            assert all(a <= b for a, b in zip(starts, ends, strict=True))
            starts = ends
        assert tuple(done) == chain.heights  # every row once

    def read(self, number: int, row: int) -> None:
        step = self.placement.steps[number]
        for operand, place in enumerate(step.inputs):
            if place is None or step.constants[operand] is not None:
                continue
            for writer in step.after:
                if writer in self.block.chain.numbers and self.placement.steps[writer].outputs[0].root == place.root:
                    for needed in taps(self.placement, number, operand, row):
                        assert self.rows.get((self.slot(place.root, needed), writer)) == needed


def chains(graph: Graph) -> tuple[Placement, list[Chain]]:
    """All chains of consecutive steps, in the graph's order."""
    placement = place_values(graph)
    finder = ChainFinder(placement)
    count = len(placement.steps)
    found = [finder.chain(tuple(range(a, b))) for a in range(count) for b in range(a + 2, count + 1)]
    return placement, [chain for chain in found if chain is not None]


@settings(max_examples=60)
@given(image_networks(), st.integers(1, 9), st.randoms(use_true_random=False))
def test_every_row_is_there_when_it_is_read(graph, rows, random):
    placement, found = chains(graph)
    assume(found)
    for chain in random.sample(found, min(4, len(found))):
        block = schedule(chain, rows)
        Machine(placement, block).run()
        for root, held in block.rings.items():
            assert 0 < held < chain.rings[root][0]
        assert block.ring_bytes <= block.whole_bytes or not block.rings


@settings(max_examples=60)
@given(image_networks(), st.integers(1, 9))
def test_what_may_be_overwritten_is_read_no_more(graph, rows):
    """Results written over an operand, row by row, destroy nothing that is still needed."""
    placement, found = chains(graph)
    for chain in found[-3:]:
        block = schedule(chain, rows)
        for number, operand in sorted(block.overwritable):
            place = placement.steps[number].inputs[operand]
            assert place is not None
            destroyed: set[int] = set()
            starts = (0,) * len(chain.numbers)
            for ends in block.ends:
                for i, other in enumerate(chain.numbers):
                    for row in range(starts[i], ends[i]):
                        for index, read in enumerate(placement.steps[other].inputs):
                            if read is not None and read.root == place.root:
                                assert not destroyed & set(taps(placement, other, index, row))
                        if other == number:
                            destroyed.add(row)
                starts = ends


def test_the_schedule_of_an_inverted_residual():
    placement = place_values(bottleneck(blocks=2))
    chain = ChainFinder(placement).chain((1, 2, 3))
    assert chain is not None
    block = schedule(chain, 2)
    assert block.ends == ((3, 2, 2), (5, 4, 4), (7, 6, 6), (9, 8, 8), (9, 9, 9))
    assert sorted(block.rings.values()) == [2, 4]
    assert block.overwritable == {(3, 3)}  # the residual, which the expansion has read by then
    changed = ringed(placement, [block])
    assert [changed.roots[r].size_bytes for r in sorted(block.rings)] == [4 * 7 * 32 * 4, 2 * 7 * 32 * 4]
    assert changed.steps[2].inputs[0].view.ring == 4
    assert changed.steps[0] == placement.steps[0]


def test_steps_of_several_images_or_of_other_shapes_make_no_chain():
    graph = bottleneck()
    placement = place_values(graph)
    finder = ChainFinder(placement)
    assert finder.chain(range(len(placement.steps))) is not None
    batch = Graph("batch")
    x = batch.add_input(type(graph.inputs[0].type)(graph.inputs[0].type.dtype, (2, 3, 9, 9)), "x")
    w = batch.constant(np.ones((3, 3, 1, 1), np.float32))
    y = batch.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), batch.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), x, w), w)
    batch.set_outputs([y], ["y"])
    assert ChainFinder(place_values(batch)).chain((0, 1)) is None


@pytest.mark.parametrize("rows", [1, 3, 16, 99])
def test_the_last_stripe_ends_everywhere(rows):
    placement = place_values(bottleneck())
    chain = ChainFinder(placement).chain(tuple(range(len(placement.steps))))
    assert chain is not None
    block = schedule(chain, rows)
    assert block.ends[-1] == chain.heights
    assert block.stripes == -(-9 // rows)


def test_a_window_over_earlier_rows_does_not_let_go_of_its_operand():
    """Row r needs rows r-1 and r: as many rows as it has results, but not the same ones."""
    graph = Graph("window")
    x = graph.add_input(TensorType(DType.F32, (1, 2, 8, 4)), "x")
    w = graph.constant(np.ones((2, 2, 2, 1), np.float32))
    for _ in range(2):
        x = graph.add(Conv((1, 1), (1, 0, 0, 0), (1, 1)), x, w)
    graph.set_outputs([x], ["y"])
    chain = ChainFinder(place_values(graph)).chain((0, 1))
    assert chain is not None
    assert schedule(chain, 2).overwritable == frozenset()


def test_rows_with_gaps_between_their_pixels_are_rings_too():
    graph = Graph("net")
    x = graph.add_input(TensorType(DType.F32, (1, 128, 16, 5)), "x")
    taps = graph.constant(np.ones((128, 1, 3, 3), np.float32))
    for _ in range(3):
        x = graph.add(Conv((1, 1), (1, 1, 1, 1), (1, 1), 128), x, taps)
        x.layout = Layout.channels_last(4)
    graph.set_outputs([x], ["y"])
    placement = place_values(graph, gap_period=4096)
    chain = ChainFinder(placement).chain((0, 1, 2))
    assert chain is not None
    pitch = (128 + 8) * 4
    assert sorted(chain.rings.values()) == [(16, 5 * pitch)] * 2
    block = schedule(chain, 1)
    assert {ringed(placement, [block]).roots[root].size_bytes for root in block.rings} == {3 * 5 * pitch}
