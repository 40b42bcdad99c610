"""Weights that come from far away: while the rows of one panel are computed, the next panel is prefetched.

Weights too large for the second-level cache come from memory, once, while the first rows of their panel wait. Read
during the rows of the panel before, some lines in front of every few steps, they are there when their turn comes
(on Zen 5: 7 x 7 pixels, 512 to 2048 channels from 71 to 95 % of the peak; Winograd products of 14 x 14 pixels with 256
channels in three quarters of the time).
"""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.kernels.cost import weight_cycles
from edgecc.kernels.register_tile import LINE_BYTES
from edgecc.kernels.tile_schedule import UNROLL
from edgecc.loop.index import Index
from edgecc.loop.ir import Body, Prefetch
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


@dataclass(frozen=True)
class RowAhead:
    """A single row prefetches, in front of every `steps` steps, what it reads `distance` bytes later: weights are one stream."""

    steps: int
    distance: int

    def prefetches(self, buffer: str, place: Index, width: int, element_bytes: int) -> Body:
        """The prefetches in front of the steps that begin at `place`, of `width` elements each."""
        return _lines(buffer, place + self.distance // element_bytes, -(-self.steps * width * element_bytes // LINE_BYTES), element_bytes)


def row_ahead(rows: int, depth: int, weights_bytes: int, target: Target) -> RowAhead | None:
    """How a product of one row and weights in groups of bytes prefetches these; None where it would not pay.

    On Zen 3 2048 x 2048 weights out of memory take 193 us with it and 220 without, out of the second cache the same. Products of floats,
    which are no slower than memory, would take 1.25 times as long.
    """
    if rows != 1 or depth % UNROLL or not _come_from_far(weights_bytes, target):
        return None
    return RowAhead(UNROLL, target.stream.ahead)


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


STREAM_FAR = 20480
"""Bytes by which the pages of weights that are read once, in one stream, are touched: translating their addresses, and beginning with their
lines, takes longer than `Stream.ahead` bytes."""

PAGE_BYTES = 4096
"""Of a page. Nothing is touched more often than twice in one, however small blocks are: lines from far away then come in the way of near ones."""

STREAM_BEGIN, MOST_BEGIN_LINES = 32768, 16
"""Bytes that are prefetched while a kernel has other things to do before it reads weights, and most lines at a time."""


def stream_ahead(buffer: str, place: Index, elements: int, element_bytes: int, weights_bytes: float, target: Target) -> Body:
    """Prefetches in front of reading `elements` elements from `place` on, for what will be read `Stream.ahead` bytes later."""
    if not _come_from_far(weights_bytes, target):
        return ()
    return _lines(buffer, place + target.stream.ahead // element_bytes, -(-elements * element_bytes // LINE_BYTES), element_bytes)


def stream_far(buffer: str, first: Index, block: Index, elements: int, element_bytes: int, weights_bytes: float, target: Target) -> Body:
    """Prefetches of `Stream.page_lines` lines of each page, or part of one, that will be read `STREAM_FAR` bytes behind block number `block`.

    Blocks of less than half a page, `elements` elements each from `first` on, ask for what the first one of a few has asked for.

    On Zen 5, out of memory, products of one row with 2 MB of 4-bit weights take 1.00 to 1.02 times as long as reading these with it, 1.03 to
    1.06 without; on Zen 3 in blocks of 32 0.90 times, 1.15 without, and 1.4 with two lines for each block.
    """
    if not _come_from_far(weights_bytes, target):
        return ()
    few = -(-PAGE_BYTES // (2 * elements * element_bytes))
    place = first + block.floordiv(few) * (few * elements)
    pages = range(STREAM_FAR // element_bytes, STREAM_FAR // element_bytes + elements, PAGE_BYTES // element_bytes)
    return tuple(line for page in pages for line in _lines(buffer, place + page, target.stream.page_lines, element_bytes))


def stream_begin(buffer: str, step: Index, steps: int, element_bytes: int, weights_bytes: float, target: Target) -> Body:
    """Prefetches of the beginning of such weights, beside step number `step` of the `steps` that a kernel has to do before it reads them."""
    if not _come_from_far(weights_bytes, target):
        return ()
    lines = min(MOST_BEGIN_LINES, -(-STREAM_BEGIN // LINE_BYTES // max(1, steps)))
    return _lines(buffer, step * (lines * LINE_BYTES // element_bytes), lines, element_bytes)


def _lines(buffer: str, place: Index, count: int, element_bytes: int) -> Body:
    return tuple(Prefetch(buffer, place + line * (LINE_BYTES // element_bytes)) for line in range(count))


def _come_from_far(weights_bytes: float, target: Target) -> bool:
    second = target.cache(2)
    return second is not None and weights_bytes > second.size // 2 and not target.vector.fma_by_lane
