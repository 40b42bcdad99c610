"""Weights that come from far away: while the rows of one panel are computed, the next panel is prefetched.

Weights too large for the second-level cache come from memory, once, while the first rows of their panel wait. Read
during the rows of the panel before, some lines in front of every few steps, they are there when their turn comes
(on Zen 5: 7 x 7 pixels, 512 to 2048 channels from 71 to 95 % of the peak; Winograd products of 14 x 14 pixels with 256
channels in three quarters of the time).
"""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.kernels.contraction import UNROLL
from edgecc.kernels.cost import weight_cycles
from edgecc.kernels.register_tile import LINE_BYTES
from edgecc.loop.index import Index, const, var
from edgecc.loop.ir import Body, For, Prefetch
from edgecc.targets.schema import Target

MOST_STEPS = 16
"""Steps of the reduction between prefetches: with more, each time too many lines are asked for at once."""

MOST_LINES = 24
"""Most lines a tile asks for at once: about as many as a core keeps track of."""


WAITED_SHARE = 0.2
"""Share of the time to read weights that rows wait for where nothing prefetches them; measured on Zen 5."""


@dataclass(frozen=True)
class Ahead:
    """Each row prefetches `lines` lines of the next panel in front of every `steps` steps of the reduction."""

    steps: int
    lines: int

    def for_rows(self, rows: int, tile_rows: int, step_bytes: int) -> Ahead:
        """The same for fewer rows, which prefetch more each, as far as a tile of them may ask for at once; there may be none."""
        rows = max(1, rows)
        lines = -(-self.steps * step_bytes // (LINE_BYTES * rows))
        return Ahead(self.steps, min(lines, max(self.lines, MOST_LINES // min(rows, tile_rows))))

    def share(self, rows: int, step_bytes: int) -> float:
        """The share of a panel that `rows` rows prefetch."""
        return min(1.0, self.lines * LINE_BYTES * rows / (self.steps * step_bytes))

    def prefetches(self, buffer: str, next_panel: Index, row: Index, chunk: Index, depth: int, element_bytes: int) -> Body:
        """The prefetches of `row` in front of its `chunk`-th group of steps; the next panel starts at element `next_panel`."""
        line = LINE_BYTES // element_bytes
        first = next_panel + (row * (depth // self.steps) + chunk) * (self.lines * line)
        return tuple(Prefetch(buffer, first + i * line) for i in range(self.lines))


def panels_ahead(rows: int, tile_rows: int, depth: int, step_bytes: int, weights_bytes: int, target: Target) -> Ahead | None:
    """How to prefetch panels of weights that `rows` rows pass over, `tile_rows` at a time; None where it would not pay.

    Left to the machine where multiply-adds take lanes: such cores are narrow, and the instructions would cost more than
    was ever shown to be gained.

    Args:
        depth: steps of the reduction.
        step_bytes: bytes of a panel that a step reads.
        weights_bytes: of all panels.
    """
    if rows < 2 or not _come_from_far(weights_bytes, target):
        return None
    steps = next((steps for steps in range(MOST_STEPS, 0, -UNROLL) if depth % steps == 0), 0)
    lines = -(-steps * step_bytes // (LINE_BYTES * rows))
    return Ahead(steps, lines) if steps and lines * min(rows, tile_rows) <= MOST_LINES else None


def waited_cycles(weights_bytes: int, target: Target) -> float:
    """Modelled cycles that kernels which could prefetch their weights, but do not, wait for them."""
    return WAITED_SHARE * weight_cycles(weights_bytes, target) if _come_from_far(weights_bytes, target) else 0.0


STREAM_AHEAD = 5120
"""Bytes by which weights that are read once, in one stream, are prefetched: more lies too long in the first-level cache, less comes too late
from memory."""

STREAM_FAR = 20480
"""Bytes by which the pages of such a stream are touched: translating their addresses, and beginning with their lines, takes longer than that."""

PAGE_BYTES = 4096


def stream_ahead(buffer: str, place: Index, elements: int, element_bytes: int, weights_bytes: float, target: Target) -> Body:
    """Prefetches in front of reading `elements` elements from `place` on, for what will be read `STREAM_AHEAD` bytes later."""
    return _prefetches(buffer, place, STREAM_AHEAD, LINE_BYTES, elements, element_bytes, weights_bytes, target)


def stream_far(buffer: str, place: Index, elements: int, element_bytes: int, weights_bytes: float, target: Target) -> Body:
    """A prefetch for each page, or part of one, of `elements` elements that will be read `STREAM_FAR` bytes behind `place`.

    On Zen 5, out of memory, products of one row with 2 MB of 4-bit weights take 1.01 to 1.04 times as long as reading these with it, 1.03 to
    1.06 without.
    """
    return _prefetches(buffer, place, STREAM_FAR, PAGE_BYTES, elements, element_bytes, weights_bytes, target)


def _prefetches(buffer: str, place: Index, ahead: int, step: int, elements: int, element_bytes: int, weights_bytes: float, target: Target) -> Body:
    if not _come_from_far(weights_bytes, target):
        return ()
    return tuple(Prefetch(buffer, place + (ahead // element_bytes + first)) for first in range(0, elements, step // element_bytes))


def stream_begin(buffer: str, element_bytes: int, weights_bytes: float, target: Target) -> Body:
    """Prefetches of what `stream_ahead` and `stream_far` do not reach any more, for kernels that have something to do before they read weights."""
    if not _come_from_far(weights_bytes, target):
        return ()
    line, page = LINE_BYTES // element_bytes, PAGE_BYTES // element_bytes
    return (For("page_ahead", const(0), const(STREAM_FAR // PAGE_BYTES), (Prefetch(buffer, var("page_ahead") * page),)),
            For("ahead", const(0), const(STREAM_AHEAD // LINE_BYTES), (Prefetch(buffer, var("ahead") * line),)))


def _come_from_far(weights_bytes: float, target: Target) -> bool:
    second = target.cache(2)
    return second is not None and weights_bytes > second.size // 2 and not target.vector.fma_by_lane
