"""Offsets: valid for any blocks, never worse than side by side, exact where small."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.memory.lifetime import Block
from edgecc.memory.offsets import ALIGN, aligned, assign_offsets, lower_bound


@st.composite
def block_lists(draw: st.DrawFn, most: int) -> list[Block]:
    blocks = []
    for number in range(draw(st.integers(0, most))):
        first = draw(st.integers(0, 12))
        size = draw(st.one_of(st.integers(1, 300), st.sampled_from((64, 640, 6400))))
        blocks.append(Block(f"b{number}", size, first, first + draw(st.integers(0, 5)), number))
    return blocks


@settings(max_examples=200)
@given(block_lists(30))
def test_plans_are_valid(blocks: list[Block]) -> None:
    plan = assign_offsets(blocks)
    for (a, at), (b, bt) in itertools.combinations(zip(blocks, plan.offsets, strict=True), 2):
        if a.first <= b.last and b.first <= a.last:
            assert at + a.size_bytes <= bt or bt + b.size_bytes <= at
    assert all(offset >= 0 and offset % ALIGN == 0 for offset in plan.offsets)
    assert plan.arena_bytes == max((o + aligned(b.size_bytes) for b, o in zip(blocks, plan.offsets, strict=True)), default=0)
    assert lower_bound(blocks) == plan.lower_bound <= plan.arena_bytes <= sum(aligned(b.size_bytes) for b in blocks)


@settings(max_examples=100)
@given(block_lists(12))
def test_the_lower_bound_is_the_fullest_step(blocks: list[Block]) -> None:
    fullest = max((sum(aligned(b.size_bytes) for b in blocks if b.first <= step <= b.last) for step in range(20)), default=0)
    assert lower_bound(blocks) == fullest


def brute_force(blocks: list[Block]) -> int:
    """The smallest arena: every order, each block on top of all it meets."""
    best = sum(aligned(b.size_bytes) for b in blocks)
    for order in itertools.permutations(blocks):
        tops: list[tuple[Block, int]] = []
        for block in order:
            at = max((top for other, top in tops if other.first <= block.last and block.first <= other.last), default=0)
            tops.append((block, at + aligned(block.size_bytes)))
        best = min(best, max((top for _, top in tops), default=0))
    return best


@settings(max_examples=60)
@given(block_lists(6))
def test_small_problems_are_solved_exactly(blocks: list[Block]) -> None:
    assert assign_offsets(blocks).arena_bytes == brute_force(blocks)


def test_fragmentation_that_greedy_orders_run_into() -> None:
    """A case where the fullest step does not decide and largest-first leaves a hole."""
    blocks = [Block("a", 64 * 3, 0, 1), Block("b", 64 * 2, 1, 2), Block("c", 64 * 3, 2, 3), Block("d", 64 * 2, 3, 4),
              Block("e", 64 * 4, 4, 5), Block("f", 64, 0, 5)]
    plan = assign_offsets(blocks)
    assert plan.arena_bytes == brute_force(blocks)


def test_ten_thousand_blocks_are_placed() -> None:
    blocks = [Block(f"b{i}", 64 * (1 + i * 7919 % 53), i, i + 1 + i * 31 % 3) for i in range(10_000)]
    plan = assign_offsets(blocks)
    assert plan.arena_bytes <= 2 * plan.lower_bound
