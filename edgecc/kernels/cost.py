"""Modelled cycles of kernels: arithmetic from the core's ports, traffic from the bandwidth of each level of memory.

The model ranks algorithms and tiles of one kernel on one target; it is no clock. Arithmetic and traffic overlap on
cores that execute out of order and add up on those that do not (the roofline of Williams, Waterman and Patterson,
CACM 52(4), 2009, is the fully overlapped case).
"""

from __future__ import annotations

from edgecc.targets.schema import Target

OVERLAP = 0.5
"""Share of the smaller of arithmetic and traffic that an out-of-order core hides behind the larger."""

SIMILAR_LAYERS = 4
"""How many layers of a size a network is thought to have, where what stays in caches from run to run matters."""

CALL_CYCLES = 30.0
"""Call, prologue and epilogue of a kernel."""

FORK_CYCLES = 6000.0
"""Handing a part of a loop to a waiting thread and waiting for its end: one to two microseconds on the cores we know."""


def worthwhile_threads(cycles: float, threads: int) -> int:
    """How many of `threads` should share a kernel of `cycles` modelled cycles: all, or 1 where they would not gain a tenth."""
    divided = cycles / threads + FORK_CYCLES
    return threads if divided < 0.9 * cycles else 1


def read_cycles(size_bytes: float, footprint: float, target: Target, threads: int = 1) -> float:
    """Cycles to read `size_bytes` out of data of `footprint` bytes that is read again and again.

    The level that holds the footprint serves it; half of a level counts, the rest holds other data. `threads` that read as
    many other bytes each at the same time share what memory gives all cores.
    """
    rates = (target.bandwidth.level1, target.bandwidth.level2, target.bandwidth.level3)
    for cache, rate in zip(target.caches, rates, strict=False):
        if footprint <= cache.size / 2:
            return size_bytes / rate
    alone, shared = target.bandwidth.memory, target.bandwidth.memory_shared
    return size_bytes / (min(alone, shared / threads) if shared else alone)


def weight_cycles(size_bytes: float, target: Target, threads: int = 1) -> float:
    """Cycles to read the weights of one layer, once a run: those of the other layers have passed through the caches since.

    `threads` read a part of them each, at the same time; the cycles are what reading all of them costs one thread then.
    """
    return read_cycles(size_bytes, SIMILAR_LAYERS * size_bytes, target, threads)


def combine(arithmetic: float, traffic: float, target: Target) -> float:
    """Cycles of a kernel from those of its arithmetic and of its traffic beyond the first cache."""
    if target.core.in_order:
        return CALL_CYCLES + arithmetic + traffic
    larger, smaller = max(arithmetic, traffic), min(arithmetic, traffic)
    return CALL_CYCLES + larger + (1.0 - OVERLAP) * smaller
