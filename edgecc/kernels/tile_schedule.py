"""The schedule that makes micro-kernels of the plain nest of a contraction (edgecc/kernels/contraction.py)."""

from __future__ import annotations

from collections.abc import Sequence

from edgecc.ir.types import DType
from edgecc.kernels.contraction import CHANNEL, INNER, PIXEL
from edgecc.kernels.grouped import DSP
from edgecc.kernels.register_tile import RegisterTile, comes_in_halves, lane_sources, narrowest_lanes
from edgecc.targets.schema import Target

REST_ROWS = 4
"""Rows of the tile for what whole tiles leave where the run decides how many rows there are."""
UNROLL = 4
"""Steps of the innermost reduction a micro-kernel unrolls; one vector of lanes where it multiplies by lane."""
LEAST_ITERATIONS = 3
"""Compilers unroll shorter loops themselves, and then move loads of weights out of the loop around and spill them."""


def tile_schedule(tile: RegisterTile, target: Target, inner_extent: int, padded: Sequence[str],
                  dtype: DType = DType.F32, *, open_rows: bool = False, open_depth: bool = False,
                  groups: bool = False) -> tuple[str, ...]:
    """Loop passes that turn a plain nest into micro-kernels of the given tile; `dtype` is the type of the sums.

    `open_rows`, `open_depth`: the run decides how many rows, or terms of a sum, there are. `groups`: the first factor is read in
    groups of bytes that lie anywhere.
    """
    by_lane = target.vector.fma_by_lane and tile.lanes > 1
    vectorize = (f"vectorize{{loop={CHANNEL},lanes={tile.lanes},narrowest={narrowest_lanes(target, dtype)},"
                 f"padded={'+'.join(padded)}}}")
    jam = f"jam{{loop={PIXEL}_inner}}"
    # What is interleaved last runs innermost. A vector of lanes of x stays in a register while the weights pass
    # by one vector at a time; without multiplication by lane it is the weights that stay and each x that passes.
    rest = f",rest={REST_ROWS}" if open_rows and tile.rows > REST_ROWS else ""
    steps = [f"tile{{loop={PIXEL},factor={tile.rows},balanced=1{rest}}}", *((vectorize, jam) if by_lane else (jam, vectorize))]
    unroll = tile.lanes if by_lane else UNROLL
    tiled = open_depth or inner_extent > max(2 * UNROLL, unroll + unroll // 2)
    # Short sums of groups by lane are written out as a whole; compilers would load all of their weights first, and spill.
    scalars = tile.lanes == 1 and not (dtype is DType.I32 and target.has(DSP))
    loads_spread = by_lane and (tiled or dtype is not DType.I32 or comes_in_halves(target, dtype))
    fence = 0 if scalars or loads_spread else 1
    if by_lane and not target.core.in_order and inner_extent % (2 * unroll) == 0 and inner_extent >= LEAST_ITERATIONS * 2 * unroll:
        # Twice the lanes an iteration, for half of the counting and moving of pointers; a fence between keeps the
        # registers of the second group of rows those of the first. In order, loads are spread over an iteration as it is.
        steps += [f"tile{{loop={INNER},factor={2 * unroll}}}", f"tile{{loop={INNER}_inner,factor={unroll}}}",
                  f"unroll{{loop={INNER}_inner_inner}}", f"unroll{{loop={INNER}_inner_outer,fence=1}}"]
    else:
        if tiled:
            steps.append(f"tile{{loop={INNER},factor={unroll}}}")
        steps.append(f"unroll{{loop={INNER}{'_inner' if tiled else ''},fence={fence}}}")
    if by_lane and groups:
        steps += [f"groups-by-lane{{lanes={lanes}}}" for lanes in (tile.lanes, tile.lanes // 2)]
    elif by_lane:
        sources = lane_sources(tile, target, dtype)
        # Loads of half a vector start beside multiply-adds, broadcasts from memory do not.
        steps += [f"broadcast-by-lane{{lanes={lanes}{',alone=1' if sources[0] < tile.lanes else ''}}}" for lanes in sources]
    # Broadcasts may be kept for the next step where the accumulators leave half of the registers free.
    across = int(2 * tile.rows * tile.vectors <= target.vector.registers)
    steps += start_schedule(target, padded)
    steps.append(f"reuse-loads{{across={across}}}" if fence else "reuse-loads")
    if by_lane and dtype is DType.I32 and not target.core.in_order:
        steps.append("pair-loads{buffer=w}")
    if by_lane and target.core.in_order:
        in_one_piece = not open_depth and comes_in_halves(target, dtype) and inner_extent < LEAST_ITERATIONS * unroll
        steps.append(f"unroll{{loop={INNER}_outer,fence=0}}" if in_one_piece
                     else f"pipeline-loads{{loop={INNER}_outer,distance={max(target.core.load_latency, tile.rows)}}}")
    return tuple(steps)


def start_schedule(target: Target, packed: Sequence[str]) -> tuple[str, ...]:
    """The pass that loads the bias for every sum anew, where that is cheaper than to copy registers: by pairs, out of order."""
    return ("start-by-loads{buffer=b}",) if "b" in packed and target.vector.fma_by_lane and not target.core.in_order else ()
