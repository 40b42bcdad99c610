"""Depthwise convolution by blocks of rows: a tile of several rows by several columns, a vector of channels wide.

    for image, block of rows: for channel vector: for tile of columns:
        acc[r, c] = bias;  w = weights;  for each input element of the tile: x = load; for each window it lies in: acc += x * w
        y[r, c] = epilogue(acc[r, c])

Every input element of a tile is loaded once and serves up to all taps; every weight is loaded once a tile.
Which taps fall into the padding is known for every accumulator, so borders need no code of their own:
tiles at the border just have fewer multiply-adds. Rows below and above those blocks, and rows of a
range that fills no block, are left to the kernel that goes row by row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.kernels.contraction import centred, multiply_add
from edgecc.kernels.contraction_weights import Weights
from edgecc.kernels.cost import OVERLAP
from edgecc.kernels.epilogue import Epilogue
from edgecc.kernels.register_tile import EPILOGUE_INSTRUCTIONS, Panel
from edgecc.kernels.spatial import Axis
from edgecc.kernels.view import View
from edgecc.loop.index import ZERO, Index, const, var
from edgecc.loop.ir import Assign, Barrier, Body, Declare, For, Let, Load, Ref, Stmt
from edgecc.loop.split import balanced_parts
from edgecc.targets.schema import Target

MAX_TAPS = 25
"""Largest window; the taps of all accumulators of a tile are written out."""

KEPT_WEIGHTS = 9
"""So many weights stay in registers during a tile; of larger windows those a row of input needs come with it."""

MAX_ROWS = 4
"""Most rows of a block: each row of input is one more stream to follow (Zen 5 is slower with 10 x 2 than with 4 x 5)."""

MAX_COLUMNS = 10
"""Most columns of a block."""

SPARE_REGISTERS = 3
"""Registers for input elements on their way."""

HALVED_REGISTERS = 6
"""As many where they come in halves, which are on their way for longer."""


@dataclass(frozen=True)
class Block:
    """`rows` x `columns` results whose sums are in registers together."""

    rows: int
    columns: int


@dataclass(frozen=True)
class Window:
    """The window of a depthwise convolution over two spatial axes."""

    high: Axis
    wide: Axis

    @property
    def taps(self) -> int:
        """Elements of the window."""
        return self.high.kernel * self.wide.kernel

    @property
    def weights_kept(self) -> int:
        """Weights in registers at a time: all of a small window, a row of a larger one (others are read where they are used)."""
        return self.taps if self.taps <= KEPT_WEIGHTS else self.wide.kernel

    def inputs(self, block: Block) -> tuple[int, int]:
        """Rows and columns of input a block without padding reads."""
        return ((block.rows - 1) * self.high.stride + (self.high.kernel - 1) * self.high.dilation + 1,
                (block.columns - 1) * self.wide.stride + (self.wide.kernel - 1) * self.wide.dilation + 1)

    def interior(self) -> tuple[int, int]:
        """The rows of the result whose windows lie inside the input, from the first to the one after the last."""
        rows = self.high.full_run()
        return (rows.start, rows.stop) if rows.extent else (0, 0)


def choose_block(window: Window, rows: int, target: Target) -> Block:
    """The block of at most `rows` rows with the least modelled cycles among those whose sums fit into registers."""
    spare = HALVED_REGISTERS if target.core.half_loads else SPARE_REGISTERS
    room = target.vector.registers - window.weights_kept - spare
    blocks = [Block(high, wide) for high in range(1, max(1, min(rows, MAX_ROWS, window.high.out)) + 1)
              for wide in range(1, min(MAX_COLUMNS, max(1, window.wide.out)) + 1) if high * wide <= max(1, room)]
    return min(blocks, key=lambda block: block_cycles(window, block, target))


def block_cycles(window: Window, block: Block, target: Target) -> float:
    """Modelled cycles for a vector of channels of all results.

    Input comes from the second-level cache each time: what one row of blocks leaves in the first, the next finds gone.
    """
    core, cost = target.core, 0.0
    # Start values hide behind the tile before on Zen 5, but not where all registers are taken and clamps share the
    # units of multiply-adds (llvm-mca for Neoverse N1: 4 x 5 results take 1.8 times what their multiply-adds do).
    closing = EPILOGUE_INSTRUCTIONS if target.vector.fma_by_lane else 1.0
    for columns, count in balanced_parts(window.wide.out, block.columns):
        rows_read, columns_read = window.inputs(Block(block.rows, columns))
        adds, loads = block.rows * columns * window.taps, rows_read * columns_read + window.taps
        moved, instructions = loads / core.loads_per_cycle, adds + loads
        if core.half_loads:  # two halves and an insertion; what does not start beside a multiply-add takes a cycle
            moved, instructions = (adds / core.fma_per_cycle + loads if core.paired_halves else 0.0), adds + 3 * loads
        arithmetic = max(adds / core.fma_per_cycle, moved, instructions / core.issue_width, float(window.taps * core.fma_latency))
        lines = rows_read * columns * window.wide.stride * (target.vector.bits / 8) / target.bandwidth.level2
        cost += count * (arithmetic + (1.0 - OVERLAP) * lines + closing * block.rows * columns / core.stores_per_cycle + 10.0)
    return cost * window.high.out / block.rows


@dataclass(frozen=True)
class BlockNest:
    """What the tiles of a depthwise convolution are made of; see the kernel that uses it for the meaning of the fields."""

    x: View
    w: DType
    window: Window
    weights: Weights
    epilogue: Epilogue
    image: Index
    zero: int = 0
    in_order: bool = False

    def rows(self, first: Index, count: int, taps: tuple[int, int], columns: int, panel: Panel, channel0: Index,
             w_start: Index, b_start: Index) -> Body:
        """All columns of `count` rows from row `first` on, in tiles of `columns`; rows [taps) of their windows lie in the input."""
        wide = self.window.wide
        tiles = [(start, size) for start, size in _spans(wide.out, columns)]
        out: list[Stmt] = []
        position = 0
        while position < len(tiles):
            start, size = tiles[position]
            alike = 1
            while self._is_inside(start, size) and position + alike < len(tiles) and tiles[position + alike][1] == size \
                    and self._is_inside(*tiles[position + alike]):
                alike += 1
            column = const(start) + var("tile") * size if alike > 1 else const(start)
            bounds = [wide.static_bounds(start + i) for i in range(size)]
            body = self._tile(first, count, taps, column, bounds, panel, channel0, w_start, b_start)
            out.append(For("tile", ZERO, const(alike), (body,)) if alike > 1 else body)
            position += alike
        return tuple(out)

    def _is_inside(self, start: int, size: int) -> bool:
        return all(self.window.wide.static_bounds(start + i) == (0, self.window.wide.kernel) for i in range(size))

    def _tile(self, first: Index, count: int, taps: tuple[int, int], column: Index, bounds: list[tuple[int, int]], panel: Panel,
              channel0: Index, w_start: Index, b_start: Index) -> For:
        high, wide = self.window.high, self.window.wide
        lane = var("channel")
        channel = channel0 + lane
        kept = self.window.taps <= KEPT_WEIGHTS
        # Which results an input element serves: by its row in the tile, then by its column, (row, tap), (column, tap).
        by_row: dict[int, list[tuple[int, int]]] = {}
        for row in range(count):
            for tap in range(*taps):
                by_row.setdefault(row * high.stride + tap * high.dilation, []).append((row, tap))
        by_column: dict[int, list[tuple[int, int]]] = {}
        for place, (start, stop) in enumerate(bounds):
            for tap in range(start, stop):
                by_column.setdefault(place * wide.stride + tap * wide.dilation, []).append((place, tap))

        def address(row: int, place: int) -> Callable[[View], Index]:
            return lambda view: view.at([self.image, channel, first + row, column + place])

        def weight(tap: int, across: int, name: str) -> Let:
            place = w_start + (tap * wide.kernel + across) * panel.padded + lane
            return Let(name, Load("w", place, self.w))

        body: list[Stmt] = []
        sums: dict[tuple[int, int], Ref] = {}
        for row in range(count):
            for place in range(len(bounds)):
                bias = self.weights.bias(b_start + lane, address(row, place))
                sums[row, place] = Ref(f"acc{row}_{place}", bias.dtype)
                body.append(Declare(sums[row, place].name, bias))
        used = sorted({tap for _, pairs in by_column.items() for _, tap in pairs})
        if kept:
            body += [weight(tap, across, f"w{tap}_{across}") for tap in range(*taps) for across in used]
        loaded = -1
        last_added: dict[str, int] = {}
        for line, step in self._order(sorted(by_row), sorted(by_column)):
            if not kept and line != loaded:
                if loaded >= 0:
                    body.append(Barrier())
                body += [weight(tap, across, f"w{tap}_{across}_{line}") for _, tap in by_row[line] for across in used]
                loaded = line
            source = self.x.at([self.image, channel, high.first(first) + line, wide.first(column) + step])
            name = f"x{line}_{step}"
            element = centred(Load("x", source, self.x.dtype), self.zero)
            body.append(Let(name, element))
            served = [(sums[row, place], tap, across) for (row, tap), (place, across) in itertools.product(by_row[line], by_column[step])]
            if self.in_order:  # first the sums that have waited longest, so that none waits for itself
                served.sort(key=lambda item: last_added.get(item[0].name, -1))
            for total, tap, across in served:
                factor = Ref(f"w{tap}_{across}" if kept else f"w{tap}_{across}_{line}", self.w)
                body.append(Assign(total.name, multiply_add(Ref(name, element.dtype), factor, total)))
                last_added[total.name] = len(body)
        body += [self.epilogue.store(total, address(row, place)) for (row, place), total in sums.items()]
        return For("channel", ZERO, const(panel.size), tuple(body))


    def _order(self, lines: Sequence[int], steps: Sequence[int]) -> list[tuple[int, int]]:
        """Rows and columns of the input elements of a tile, in the order in which they are read.

        Row by row; in program order, rows side by side, each behind the one above by as much as a window is wide. Each sum
        has the same order of terms, but more sums take turns, and elements that serve few are among those that serve many.
        """
        order = list(itertools.product(lines, steps))
        if self.in_order and self.window.taps <= KEPT_WEIGHTS:
            behind = (self.window.wide.kernel - 1) * self.window.wide.dilation + 1
            order.sort(key=lambda item: (item[1] + behind * item[0], item[0]))
        return order


def _spans(extent: int, most: int) -> Iterator[tuple[int, int]]:
    """(start, size) of balanced parts, those of the larger size first."""
    position = 0
    for size, count in balanced_parts(extent, most):
        for _ in range(count):
            yield position, size
            position += size
