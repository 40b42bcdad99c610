"""Where scratch buffers with a part for each thread lie: always at the same place, so that a thread finds its part in its own cache.

A core that writes lines which another core has written last waits until they have moved (on Zen 5: 8 GB/s, a tenth of what it
does otherwise). Buffers of kernels that run one after the other would overlap in any way, and one thread's part with another's. So the
largest such buffer of every kernel lies in one block of the arena, the second largest in another, and so on, and the blocks live from the first
of these kernels to the last one. Buffers are put in the middle of their block: with two threads the border between their parts
is then at one address for all kernels; with more it is at least so for the border in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

ALIGNMENT = 64
"""Buffers start on multiples of so many bytes, a cache line."""


@dataclass(frozen=True)
class SharedBlock:
    """`size_bytes` bytes that are in use from position `first` to position `last`, inclusive."""

    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class ThreadScratch:
    """The blocks, and for each (step, number of a buffer) its block and its byte offset there."""

    blocks: tuple[SharedBlock, ...]
    places: Mapping[tuple[int, int], tuple[int, int]]


def thread_scratch(steps: Sequence[tuple[int, int, Mapping[int, int]]]) -> ThreadScratch:
    """Places the buffers of all steps; `steps` are (position, number, {number of the buffer: its size in bytes})."""
    ranked = [(position, number, sorted(((slot, size) for slot, size in sizes.items() if size), key=lambda item: (-item[1], item[0])))
              for position, number, sizes in steps]
    blocks: list[SharedBlock] = []
    for rank in range(max((len(sizes) for _, _, sizes in ranked), default=0)):
        users = [(position, sizes[rank][1]) for position, _, sizes in ranked if rank < len(sizes)]
        blocks.append(SharedBlock(max(size for _, size in users), min(p for p, _ in users), max(p for p, _ in users)))
    places = {(number, slot): (rank, (blocks[rank].size_bytes - size) // 2 // ALIGNMENT * ALIGNMENT)
              for _, number, sizes in ranked for rank, (slot, size) in enumerate(sizes)}
    return ThreadScratch(tuple(blocks), MappingProxyType(places))
