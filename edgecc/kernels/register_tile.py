"""The register tile of a contraction: how many rows and how many vectors of channels a micro-kernel keeps in registers.

The model counts, for one step of the reduction, the cycles the multiply-adds need, the cycles the
loads need, and the latency of a chain when there are too few accumulators to hide it; the largest of
the three is what the step costs (Low, Igual, Smith and Quintana-Orti, "Analytical modeling is enough
for high-performance BLIS", ACM TOMS 43, 2016, gives the argument). A tile is judged by the sum over
all tiles it takes to cover the whole result, remainders included.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.targets.schema import Target

MAX_ROWS = 24
EPILOGUE_INSTRUCTIONS = 2.0
"""Start value and store of one accumulator, per vector."""


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
    """Lanes of type `dtype` in the narrowest vector width; 1 on a machine without vectors."""
    bits = 8 * dtype.size
    return max(1, min(target.vector.widths, default=bits) // bits)


def fits(rows: int, vectors: int, target: Target) -> bool:
    """Whether a tile and the operands it needs stay in the register file.

    By-lane machines hold a vector of the reduction for each row and two of weights; the others a
    vector of weights for each column and one broadcast.
    """
    operands = rows + min(2, vectors) if target.vector.fma_by_lane else vectors + 1
    return rows * vectors + operands <= target.vector.registers


def step_cycles(rows: int, vectors: int, lanes: int, target: Target) -> float:
    """Modelled cycles of one reduction step of a tile of vectors of `lanes` lanes."""
    core = target.core
    fma = rows * vectors / core.fma_per_cycle
    row_loads = rows / lanes if target.vector.fma_by_lane else float(rows)
    loads = (vectors + row_loads) / core.loads_per_cycle
    issue = (rows * vectors + vectors + row_loads) / core.issue_width
    return max(fma, loads, issue, float(core.fma_latency))


def choose_tile(rows: int, channels: int, reduction: int, target: Target, dtype: DType = DType.F32) -> RegisterTile:
    """The tile with the smallest modelled cost for a result of `rows` x `channels` with `reduction` terms each.

    `dtype` is the type of the sums.
    """
    lanes = vector_lanes(target, dtype)
    total_vectors = -(-channels // lanes)
    best: tuple[float, int, int] | None = None
    for vectors in range(1, min(8, total_vectors) + 1):
        for tile_rows in range(1, min(MAX_ROWS, rows) + 1):
            if not fits(tile_rows, vectors, target):
                break
            cost = _cover_cost(rows, total_vectors, tile_rows, vectors, lanes, reduction, target)
            key = (cost, -tile_rows * vectors, vectors)
            if best is None or key < best:
                best = key
                choice = RegisterTile(tile_rows, vectors, lanes)
    return choice


def cover_cycles(rows: int, channels: int, reduction: int, tile: RegisterTile, target: Target) -> float:
    """Modelled cycles of the arithmetic of a whole `rows` x `channels` result with `reduction` terms each."""
    return _cover_cost(rows, -(-channels // tile.lanes), tile.rows, tile.vectors, tile.lanes, reduction, target)


def _cover_cost(rows: int, total_vectors: int, tile_rows: int, tile_vectors: int, lanes: int, reduction: int,
                target: Target) -> float:
    def tile_cost(r: int, v: int) -> float:
        store = r * v * EPILOGUE_INSTRUCTIONS / target.core.stores_per_cycle / 2
        return reduction * step_cycles(r, v, lanes, target) + store + 10.0

    full_rows, rest_rows = divmod(rows, tile_rows)
    full_vectors, rest_vectors = divmod(total_vectors, tile_vectors)
    cost = 0.0
    for r, row_count in ((tile_rows, full_rows), (rest_rows, 1)):
        for v, vector_count in ((tile_vectors, full_vectors), (rest_vectors, 1)):
            if r and v:
                cost += row_count * vector_count * tile_cost(r, v)
    return cost


def cut_panels(channels: int, tile: RegisterTile, narrowest: int) -> tuple[Panel, ...]:
    """Cuts the channels into panels of the tile's width; what remains is a panel of its own.

    A remainder that a narrower vector holds gets one (24 channels at 16 lanes: a panel of 16 and one of 8).
    """
    out: list[Panel] = []
    count, rest = divmod(channels, tile.channels)
    if count:
        out.append(Panel(0, tile.channels, tile.channels, count))
    start = count * tile.channels
    whole = rest // tile.lanes * tile.lanes
    tail = rest - whole
    tail_lanes = min(tile.lanes, max(narrowest, 1 << max(0, tail - 1).bit_length()))
    if tail and tail_lanes == tile.lanes:
        whole, tail = rest, 0
    if whole:
        out.append(Panel(start, whole, -(-whole // tile.lanes) * tile.lanes, 1))
        start += whole
    if tail:
        out.append(Panel(start, tail, tail_lanes, 1))
    return tuple(out)
