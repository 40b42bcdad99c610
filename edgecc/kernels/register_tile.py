"""The register tile of a contraction: how many rows and how many vectors of channels a micro-kernel keeps in registers.

The model counts, for one step of the reduction, the cycles the multiply-adds need, the cycles the
loads need, and the latency of a chain when there are too few accumulators to hide it; the largest of
the three is what the step costs (Low, Igual, Smith and Quintana-Orti, "Analytical modeling is enough
for high-performance BLIS", ACM TOMS 43, 2016, gives the argument). A tile is judged by the sum over
all tiles it takes to cover the whole result, remainders included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels.cost import read_cycles
from edgecc.loop.dot import VNNI
from edgecc.loop.split import balanced_parts
from edgecc.targets.schema import Target

MAX_ROWS = 24
EPILOGUE_INSTRUCTIONS = 2.0
"""Start value and store of one accumulator, per vector."""

CANDIDATES = 6
"""How many tiles are worth measuring: the model's first choice was among the best six of every layer looked at."""

LINE_BYTES = 64
"""Bytes a prefetch brings: a cache line of every machine prefetches are made for."""

MISSED_LOADS = 0.15
"""Share of the cycles of loads that nothing hides."""


@dataclass(frozen=True)
class RegisterTile:
    """`rows` x `vectors` accumulators of `lanes` lanes each."""

    rows: int
    vectors: int
    lanes: int

    @property
    def channels(self) -> int:
        """Channels one tile covers."""
        return self.vectors * self.lanes


@dataclass(frozen=True)
class Panel:
    """`count` equal groups of `size` channels from channel `start` on; in packed weights each takes `padded` lanes."""

    start: int
    size: int
    padded: int
    count: int


def vector_lanes(target: Target, dtype: DType = DType.F32) -> int:
    """Lanes of the preferred vector width that sums of type `dtype` are kept in; 1 on a machine without vectors."""
    return target.vector.lanes(dtype.size)


def narrowest_lanes(target: Target, dtype: DType = DType.F32) -> int:
    """Lanes of type `dtype` in the narrowest vector width that is of use; 1 on a machine without vectors.

    Products of bytes take registers for their factors. One that is broadcast to vectors of two widths would be broadcast twice,
    which costs more than idle lanes (measured on Zen 5: 24 channels in 16 + 8 lanes take twice the time of 32).
    """
    bits = 8 * dtype.size
    if dtype is DType.I32 and target.has("avx512f"):
        return vector_lanes(target, dtype)
    return max(1, min(target.vector.widths, default=bits) // bits)


def lane_sources(tile: RegisterTile, target: Target, dtype: DType) -> tuple[int, ...]:
    """Lengths of the vectors whose lanes are factors, longest first: whole ones, or halves where those load beside multiply-adds."""
    if comes_in_halves(target, dtype) and tile.lanes == vector_lanes(target, dtype):
        return (tile.lanes // 2,)
    return (tile.lanes, tile.lanes // 2) if tile.lanes > 4 else (tile.lanes,)


def comes_in_halves(target: Target, dtype: DType) -> bool:
    """Whether factors of sums of type `dtype` are loaded in halves: where such loads and instructions for the products exist."""
    return target.core.half_loads and (dtype.is_float or (dtype is DType.I32 and target.has("dotprod")))


HALVED = 4
"""Registers for vectors of weights that come in halves: one in use, one ahead, halves of the next, and one between rows of two
steps; tiles of one or two vectors, whose rows come closer together, and of few rows, which need vectors more often, take two more."""


def widens_bytes(target: Target) -> bool:
    """Whether products of four bytes are several instructions in vectors of x86-64."""
    return target.has("avx2") and not target.has(VNNI)


def fits(rows: int, vectors: int, target: Target, dtype: DType = DType.F32) -> bool:
    """Whether a tile with sums of type `dtype` and the operands it needs stay in the register file.

    By-lane machines hold a vector of the reduction for each row and two of weights; the others a vector of weights for
    each column and one broadcast. Lanes of 16 bits can be taken of the lower half of the registers only (FMLA by
    element), for which compilers find no assignment without moves where every register is in use. Bytes whose sign is turned
    around take a register for that.
    """
    by_lane = target.vector.fma_by_lane
    if dtype is DType.I32 and widens_bytes(target):
        return rows * vectors + 2 * vectors + 2 <= target.vector.registers  # words of even and of odd bytes
    if by_lane and dtype is DType.I32 and target.has("i8mm") and rows > 1 and rows % 2:
        return False  # products of matrices take two rows
    if by_lane and comes_in_halves(target, dtype):
        return rows * vectors + rows + HALVED + 2 * (vectors < 3 or rows < 5) <= target.vector.registers
    operands = rows + min(2, vectors) + (dtype is not DType.F32) if by_lane else vectors + 1
    return rows * vectors + operands <= target.vector.registers


def step_cycles(rows: int, vectors: int, lanes: int, target: Target, dtype: DType = DType.F32) -> float:
    """Modelled cycles of one reduction step of a tile of vectors of `lanes` lanes.

    Loads cost a little even where multiply-adds hide them: some miss the first cache, more the more rows there
    are, whose lines are spread (14 x 2 runs at 84 to 94 % of 6 x 4 on Zen 5 once rows come from the second cache).
    Where multiply-adds take a lane, one load brings `lanes` terms of a row, and a pair of weight vectors. Cores that
    issue in order and take two cycles for a vector load (Cortex-A53, A55) start no vector multiply-add in these
    cycles: there loads and multiply-adds add up, but for floats on those that load halves beside multiply-adds.
    """
    core = target.core
    fma = rows * vectors / core.fma_per_cycle
    row_loads, weight_loads = (rows / lanes, vectors / 2) if target.vector.fma_by_lane else (float(rows), float(vectors))
    loads = (weight_loads + row_loads) / core.loads_per_cycle
    issue = (rows * vectors + weight_loads + row_loads) / core.issue_width
    work = max(fma, loads)
    if comes_in_halves(target, dtype) and lanes >= vector_lanes(target):
        if core.paired_halves:  # every load of half a vector takes a cycle, insertions start beside it
            return max(fma + 2 * rows / lanes + vectors, float(core.fma_latency)) + MISSED_LOADS * loads
        # Half a vector of a row has half as many terms as there are lanes; one of weights is two halves and an insertion.
        return max(fma, 2 * rows / lanes + 3 * vectors, float(core.fma_latency)) + MISSED_LOADS * loads
    if core.in_order and core.loads_per_cycle < 1:
        work = fma + (vectors + row_loads) / core.loads_per_cycle
    return max(work, issue, float(core.fma_latency)) + MISSED_LOADS * loads


def tiles(rows: int, channels: int, target: Target, dtype: DType = DType.F32) -> tuple[RegisterTile, ...]:
    """Every tile that fits, for a result of `rows` x `channels` with sums of type `dtype`."""
    lanes = vector_lanes(target, dtype)
    total_vectors = -(-channels // lanes)
    return tuple(RegisterTile(tile_rows, vectors, lanes) for vectors in range(1, min(8, total_vectors) + 1)
                 for tile_rows in range(1, min(MAX_ROWS, max(1, rows)) + 1) if fits(tile_rows, vectors, target, dtype))


def choose_tile(rows: int, channels: int, reduction: int, target: Target, dtype: DType = DType.F32) -> RegisterTile:
    """The tile with the smallest modelled cost for a result of `rows` x `channels` with `reduction` terms each.

    `dtype` is the type of the sums.
    """
    return best_tiles(rows, channels, target, dtype, lambda tile: cover_cycles(rows, channels, reduction, tile, target, dtype))[0][0]


def best_tiles(rows: int, channels: int, target: Target, dtype: DType,
               cycles: Callable[[RegisterTile], float]) -> tuple[tuple[RegisterTile, float], ...]:
    """The tiles with the least modelled `cycles`, and those, best first: at most `CANDIDATES`."""
    judged = [(tile, cycles(tile)) for tile in tiles(rows, channels, target, dtype)]
    judged.sort(key=lambda pair: (pair[1], -pair[0].rows * pair[0].vectors, pair[0].vectors))
    return tuple(judged[:CANDIDATES])


def cover_cycles(rows: int, channels: int, reduction: int, tile: RegisterTile, target: Target, dtype: DType = DType.F32, *,
                 shared: bool = True) -> float:
    """Modelled cycles of the arithmetic of a whole `rows` x `channels` result with `reduction` terms each.

    A panel of weights comes from the cache that holds it, once a tile; `shared`: its rows use the same weights.
    """
    cost = 0.0
    for v, vector_count in balanced_parts(-(-channels // tile.lanes), tile.vectors):
        step_bytes = v * max(4, target.vector.bits // 8)  # vectors of weights are as wide as those of sums
        weights = read_cycles(step_bytes, step_bytes * reduction, target)
        for r, row_count in balanced_parts(rows, tile.rows):
            cycles = tile_cycles(r, v, tile.lanes, reduction, target, dtype)
            cost += row_count * vector_count * max(cycles, reduction * weights * (1 if shared else r))
    return cost


def tile_cycles(rows: int, vectors: int, lanes: int, reduction: int, target: Target, dtype: DType = DType.F32) -> float:
    """Modelled cycles of one tile: its reduction, then start values and stores.

    Start values and stores overlap with the multiply-adds of neighbouring tiles as far as registers are free:
    28 accumulators out of 32 leave the next tile none to begin with. Measured on Zen 5 with 32 terms a sum:
    6 x 2 vectors 10 cycles a tile, 6 x 4 about 35, 14 x 2 about 60. Where a multiply-add takes a lane, rows of the
    next tile need registers too, and nothing overlaps.
    """
    accumulators = rows * vectors
    alone = target.core.in_order or target.vector.fma_by_lane
    exposed = 1.0 if alone else min(1.0, accumulators / target.vector.registers)
    store = accumulators * EPILOGUE_INSTRUCTIONS / target.core.stores_per_cycle * exposed
    return reduction * step_cycles(rows, vectors, lanes, target, dtype) + store + 10.0


def cut_panels(channels: int, tile: RegisterTile, narrowest: int) -> tuple[Panel, ...]:
    """Cuts the channels into panels of at most the tile's width, as equal as whole vectors allow.

    The last panel takes what does not fill a vector; where a narrower vector holds that, it is padded to it only.
    """
    out: list[Panel] = []
    start = 0
    for vectors, count in balanced_parts(-(-channels // tile.lanes), tile.vectors):
        size = vectors * tile.lanes
        full = min(count, (channels - start) // size)
        if full:
            out.append(Panel(start, size, size, full))
            start += full * size
        if full < count:
            rest = channels - start
            whole, tail = divmod(rest, tile.lanes)
            tail_lanes = min(tile.lanes, max(narrowest, 1 << max(0, tail - 1).bit_length())) if tail else 0
            out.append(Panel(start, rest, whole * tile.lanes + tail_lanes, 1))
            start = channels
    return tuple(out)


def cache_block(rows: int, tile: RegisterTile, row_bytes: int, weights_bytes: int, target: Target, *, result_bytes: int = LINE_BYTES) -> int:
    """Rows of the first factor that all panels pass over before the next rows come.

    They stay in half of the first-level cache if the weights, which are then read once a block, stay in half of the
    second-level one. Larger weights are worth reading less often: the rows take half of the second-level cache.
    `result_bytes`: what a panel makes of a row. Of less than a line the line stays as well, for the panels that fill the rest of it.
    """
    row_bytes += LINE_BYTES if result_bytes < LINE_BYTES else 0
    first, second = (next((cache.size for cache in target.caches if cache.level == level), default) // 2
                     for level, default in ((1, 32 * 1024), (2, 0)))
    room = first if weights_bytes <= second else max(first, second)
    most = max(1, room // max(1, row_bytes * tile.rows)) * tile.rows
    blocks = -(-rows // most)
    return min(rows, -(-rows // (blocks * tile.rows)) * tile.rows)


def packed_channels(panels: Sequence[Panel]) -> int:
    """Lanes all panels take together."""
    return sum(panel.padded * panel.count for panel in panels)


def pack_panels(weights: Array, panels: Sequence[Panel]) -> Array:
    """Rearranges weights [channels, reduction] as [panel][reduction][lanes of the panel], zeros beyond the channels."""
    flat = weights.reshape(weights.shape[0], -1)
    parts = []
    for panel in panels:
        for number in range(panel.count):
            first = panel.start + number * panel.size
            block = np.zeros((flat.shape[1], panel.padded), flat.dtype)
            block[:, :panel.size] = flat[first:first + panel.size].T
            parts.append(block.reshape(-1))
    return np.concatenate(parts) if parts else np.zeros(0, weights.dtype)
