"""Long reductions in parts, so that what a part reads stays in a cache until all of its sums are taken.

While rows pass over a panel of weights, the panel and the rows want to stay in a near cache. Where the reduction is too
long for that it is cut, and sums wait in scratch memory from one part to the next (K. Goto and R. van de Geijn, "Anatomy of
high-performance matrix multiplication", ACM TOMS 34(3), 2008, whose k_c this is).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.kernels import half_sums
from edgecc.kernels.ahead import MOST_STEPS
from edgecc.kernels.cost import read_cycles
from edgecc.kernels.kernel import KernelArgument, Workspace
from edgecc.kernels.register_tile import LINE_BYTES, Panel, RegisterTile, cache_block, packed_channels
from edgecc.kernels.request import Request
from edgecc.kernels.sum_types import sum_type
from edgecc.loop.ir import Buffer
from edgecc.targets.schema import Target

PARTIAL = "s"
"""The buffer of sums between two parts of a reduction."""

MOST_CUT_ROWS, LEAST_DEPTH = 256, 256
"""For the second cache: more rows come in blocks, and shorter parts would spend their time on loading and storing sums."""

ROW_SHARE = 4096
"""Bytes of the second cache for each row of a cut product, whose sums wait there too. More rows stay in one block and come from the third
cache (on Zen 3, with 512 KB: 192 rows of 1024 terms 3 % quicker than in 4 parts, 48 rows of 4608 terms 2 % slower than in 6)."""

LEAST_LANE_STEPS = 24
"""For the first cache: vectors of lanes in the shortest part; tiles begin and end with every part."""

RESIDENT, RESIDENT_TILE = 3 / 4, 7 / 8
"""Shares of the first cache that a panel, rows and a line of results for each may fill: all rows of a block, or those of a tile.
Many rows at distances of many lines meet in the same sets."""

TILE_CYCLES = 10.0
"""What a tile costs to begin and to end, beside its sums."""

WORTHWHILE = 0.1
"""The least gain from parts, as a share of the multiply-adds: loops that begin with sums from memory make compilers spill
where a tile takes all registers (6 x 4 vectors on AArch64, 5 to 10 % more instructions with clang)."""


@dataclass(frozen=True)
class DepthCut:
    """A reduction in `parts` parts of `depth` steps, or whole; `rows` rows pass over all panels of a part, then the next ones.

    Between two parts, sums of type `dtype` wait in scratch memory [rows of the result, packed channels]. In f32 the next part
    goes on from them, in f16 it is summed alone and added, which rounds less (edgecc/kernels/half_sums.py).
    """

    parts: int
    depth: int
    rows: int
    dtype: DType = DType.F32

    def workspace(self, rows: int, panels: Sequence[Panel]) -> tuple[tuple[Buffer, KernelArgument], ...]:
        """The scratch memory; none for a reduction in one part."""
        if self.parts == 1:
            return ()
        elements = rows * packed_channels(panels)
        return ((Buffer(PARTIAL, self.dtype, elements, "workspace"), Workspace(self.dtype.size * elements)),)


def cut_depth(rows: int, tile: RegisterTile, depth: int, channels: int, request: Request) -> DepthCut | None:
    """How to cut a reduction over packed weights; None: not at all, with the usual blocks of rows. Threads divide whole reductions.

    Machines that multiply by lane read weights as often as rows and are narrow enough to wait for the second cache: parts fit
    the first one. Others cut what leaves no room for a panel, the next one, which is being prefetched, and what is read
    of the rows in the second cache; cut, rows stay there for all panels. Sums of f16 are cut where they would be too long.
    """
    target = request.target
    second = target.cache(2)
    if second is None or request.threads > 1 or request.rows:
        return None
    if sum_type(request) is DType.F16:
        return _cut_half_sums(rows, tile, depth, channels, target)
    if sum_type(request) is not DType.F32:
        return None
    if target.vector.fma_by_lane:
        return _cut_for_first_cache(rows, tile, depth, channels, target)
    step_bytes = 4 * (2 * tile.channels + rows)
    if 4 * depth * channels <= second.size // 2 or depth * step_bytes <= second.size or rows > MOST_CUT_ROWS:
        return None
    third = target.cache(3)
    if rows * ROW_SHARE > second.size and third is not None and 4 * rows * depth <= third.size // 2:
        return DepthCut(1, depth, rows)
    for parts in range(2, depth // LEAST_DEPTH + 1):
        if depth % (parts * MOST_STEPS) == 0 and depth // parts * step_bytes <= second.size // 2:
            return DepthCut(parts, depth // parts, rows)
    return None


def _cut_half_sums(rows: int, tile: RegisterTile, depth: int, channels: int, target: Target) -> DepthCut | None:
    """Blocks of a sum in f16, for tiles that have no registers to spare for the sums of the blocks before."""
    blocks = half_sums.blocks_of(depth, multiple=2 * tile.lanes)
    if blocks is None or tile.lanes < 2 or 2 * tile.rows * tile.vectors <= target.vector.registers:
        return None
    block = cache_block(rows, tile, 2 * blocks.terms, 2 * depth * channels, target)
    return DepthCut(blocks.count, blocks.terms, block, DType.F16)


def cut_text(cut: DepthCut | None) -> str:
    """For `Kernel.choice`."""
    return "" if cut is None or cut.parts == 1 else f", sums in {cut.parts} parts"


def _cut_for_first_cache(rows: int, tile: RegisterTile, depth: int, channels: int, target: Target) -> DepthCut | None:
    if target.cache(1) is None or tile.lanes < 2:
        return None
    usual = DepthCut(1, depth, cache_block(rows, tile, 4 * depth, 4 * depth * channels, target))

    def cycles(cut: DepthCut) -> float:
        return _cycles(cut, rows, tile, channels, target)

    whole = min((usual, *_cuts(rows, tile, depth, 1)), key=cycles)
    longest = depth // (LEAST_LANE_STEPS * tile.lanes)
    best = min((cut for parts in range(2, longest + 1) for cut in _cuts(rows, tile, depth, parts)), default=whole, key=cycles)
    arithmetic = rows * channels * depth / (tile.lanes * target.core.fma_per_cycle)
    return best if cycles(whole) - cycles(best) > WORTHWHILE * arithmetic else whole


def _cuts(rows: int, tile: RegisterTile, depth: int, parts: int) -> Iterator[DepthCut]:
    tiles = -(-rows // tile.rows)
    if depth % (parts * 2 * tile.lanes) == 0 or parts == 1:  # an iteration of the innermost loop takes two vectors of lanes
        for blocks in range(1, tiles + 1):
            yield DepthCut(parts, depth // parts, min(rows, -(-tiles // blocks) * tile.rows))


def _cycles(cut: DepthCut, rows: int, tile: RegisterTile, channels: int, target: Target) -> float:
    """Modelled cycles of reading again what has been read, and of sums that wait."""
    first = target.cache(1)
    room = RESIDENT * (0 if first is None else first.size)
    panels, blocks, tiles = -(-channels // tile.channels), -(-rows // cut.rows), -(-rows // tile.rows)
    row, panel, depth = 4 * cut.depth, 4 * cut.depth * tile.channels, cut.parts * cut.depth
    if panel + cut.rows * (row + LINE_BYTES) <= room:
        reads_of_weights, reads_of_rows = blocks, 1
    elif panel + tile.rows * (row + LINE_BYTES) <= RESIDENT_TILE / RESIDENT * room:
        reads_of_weights, reads_of_rows = blocks, panels
    else:
        reads_of_weights, reads_of_rows = tiles, panels if tiles > 1 else 1
    part = row * channels
    again = (reads_of_weights - 1) * cut.parts * read_cycles(part, part, target)
    again += (reads_of_rows - 1) * read_cycles(4 * rows * depth, max(room, cut.rows * row), target)
    sums = rows * channels
    stores = read_cycles(8 * sums, max(room, 4 * sums), target) + 2 * sums / tile.lanes / target.core.stores_per_cycle
    return again + (cut.parts - 1) * (stores + TILE_CYCLES * panels * tiles)
