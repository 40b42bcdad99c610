"""Winograd convolution: windows of 3 x 3 with up to 5.06 times fewer multiplications, with stride 2 up to 1.78 times fewer.

F(m x m, 3 x 3) computes tiles of m x m results from (m + 2)^2 products instead of 9 m^2 (A. Lavin, S. Gray, "Fast
Algorithms for Convolutional Neural Networks", CVPR 2016; the transforms are in winograd_transform.py, tiles and strides in
winograd_tiles.py, the loops in winograd_nest.py). With stride 2 there are (2 m + 1)^2 products. Weights are transformed at
compile time in float64 and rounded once, so they take (m + 2)^2 / 9 times the memory.

Where arithmetic in f16 is allowed, tiles of 2 and 4 results are computed in f16 as a whole, in sums of at most `HALF_TERMS`
terms (edgecc/kernels/half_sums.py) that are added up in f16. Random sums are then off by 0.2 % (m = 2) and 0.65 % (m = 4)
of what they come to, where direct ones in f16 are by 0.2 to 0.4 %; with transforms in f32 it would be 0.2 and 0.6 %. Inputs
are scaled down, and weights up, so that factors are at most four times as large as inputs. Tiles of 6 results are computed in f32.

Integers of 8 bits are computed exactly, in words (edgecc/kernels/winograd_words.py). Floats are not:
rounding errors are larger than those of a plain sum, and the elements of a tile share them. Relative to the largest
magnitude of the summed terms (`Conv.magnitude`) they stay below 2e-6 (m = 2), 8e-6 (m = 4) and 6.2e-5 (m = 6); typical
are a tenth of that (`ERROR_UNITS`, measured against float64 on random tiles of values of very different sizes). An
infinity or NaN in the input makes NaN of every result of the tiles it lies under, not only of those it is a term of.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from types import MappingProxyType

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array, DType
from edgecc.kernels import winograd_words
from edgecc.kernels.ahead import Ahead, panels_ahead
from edgecc.kernels.contraction import assemble
from edgecc.kernels.contraction_weights import with_bias
from edgecc.kernels.cost import combine, read_cycles, weight_cycles
from edgecc.kernels.epilogue import epilogue_of
from edgecc.kernels.kernel import Candidate, Kernel, KernelArgument, Packed, Workspace
from edgecc.kernels.register_tile import (
    MAX_ROWS,
    Panel,
    RegisterTile,
    cover_cycles,
    cut_panels,
    fits,
    narrowest_lanes,
    pack_panels,
    vector_lanes,
)
from edgecc.kernels.request import Request
from edgecc.kernels.spatial import Axis
from edgecc.kernels.sum_types import compute_target, sum_type
from edgecc.kernels.tile_schedule import tile_schedule
from edgecc.kernels.winograd_nest import LANE, Winograd
from edgecc.kernels.winograd_numbers import FLOATS, Numbers
from edgecc.kernels.winograd_tiles import ALONE, Blocking, Division, Group, Pair, Scratch, Tiling, pairs_of
from edgecc.loop.ir import Buffer, Expr, Op, Ref, subexpressions
from edgecc.ops.convolution import Conv
from edgecc.targets.schema import Target

ERROR_UNITS: Mapping[int, float] = MappingProxyType({2: 32.0, 3: 96.0, 4: 128.0, 6: 1024.0})
"""For each m, a bound on the error in units of roundoff times the largest magnitude of the result's elements."""

TAPS = 3
"""Taps of the windows along each axis."""

HALF_TERMS: Mapping[int, int] = MappingProxyType({2: 256, 4: 64})
"""For each m the most terms of a sum in f16; other m are computed in f32. Errors of longer sums grow with the square root:
1.2 % of what random ones come to for m = 4 and 256 terms."""

HALF_ERROR_UNITS: Mapping[int, float] = MappingProxyType({2: 8.0, 4: 24.0})
"""`ERROR_UNITS` of sums in f16, in roundoffs of f16."""

FLUSH_CYCLES = 1.0
"""What it takes to add a vector of sums to those of the terms before: an addition, a load and a store."""

LARGEST_PAD = TAPS - 1
"""With wider padding there would be tiles that no input lies under."""


RESERVED_REGISTERS = 2
"""Vector registers that the products leave to factors of the transforms."""

MAX_VECTORS = 6
"""Wider tiles have so few rows that they wait for weights."""

NEAR = 0.5
"""Share of the time to read panels of weights for the next rows of a block that hardware does not hide by fetching ahead."""

LEAST_STREAM, STREAM_ROWS = 0.2, 20.0
"""The same for weights that come from far away, or again for another block: with few rows, and the number of rows that adds
the whole time. Measured on Zen 5: maps of 14 and 7 rows, weights in the third cache and in memory; maps of 56 rows, where
blocks of 1 x 14 tiles of 4 take 1.08 times as long with 5 x 4 vectors, and 1.23 with 14 x 2, as without this."""

MOST_ROWS_AHEAD = 8
"""Rows of a tile from which on reading prefetched weights less often gains nothing: 14 x 2 vectors take 1.1 to 1.2 times as
long as 7 x 3 and 8 x 3 on Zen 5."""

NEARLY_EQUAL = 0.04
"""Among plans for several threads whose modelled cycles differ by less, the one with the largest blocks is taken: it reads weights least
often, for which small blocks are charged too little then (Zen 5, 64 to 128 channels, stride 2, to 28 x 28: with two threads 1.19 times as
quick by all 7 x 7 tiles as by 1 x 7, with one thread equally quick). For one thread and integers it is the one with the smallest blocks, for
its scratch memory (Zen 3, 64 to 64 channels, 56 x 56: 500 us by 2 x 14 tiles, 514 by 7 x 14)."""

PAYING_TILES: Mapping[int, int] = MappingProxyType({6: 25})
"""Tiles a map must have for large ones with shorter last ones: 3 x 3 tiles for maps of 13 x 13 take 1.3 times as long as those of
4 on Zen 5, since few products share a weight, and 5 x 5 tiles for 27 x 27 take 0.86 times."""

EARLY_SHARE = 0.25
"""Share of the second-level cache for weights that are fetched while the inputs are transformed: the transformed inputs need room too."""

LINE_CYCLES, LINE_SHARE = 2.0, 1.5
"""Cycles around the transform of a line, and what it takes over what ports and issue width allow; measured on Zen 5."""

ACCURACY_MARGIN: Mapping[int, float] = MappingProxyType({2: 1.0, 3: 1.0, 4: 1.0, 6: 1.05})
"""How much faster a tile size must be to be chosen, because its errors are much larger than those of the next smaller one."""


SIZES: Mapping[int, tuple[int, ...]] = MappingProxyType({1: (2, 3, 4, 6), 2: (2, 4)})
"""The results of a tile along each axis, for each stride."""


@dataclass(frozen=True)
class _Plan:
    """A blocking and its modelled cycles."""

    blocking: Blocking
    cycles: float


def winograd_candidates(request: Request, op: Conv, axes: Sequence[Axis]) -> tuple[Candidate, ...]:
    """One candidate for each tile size; none where the convolution is not of the kind named in the module's docstring."""
    if not _applies(request, op, axes):
        return ()
    vertical, horizontal = axes
    out = []
    for m in winograd_words.sizes(request, op) if _in_words(request) else SIZES[vertical.stride]:
        plan = _best_plan(request, (vertical, horizontal), m)
        cycles = plan.cycles if plan.blocking.integers else ACCURACY_MARGIN[m] * plan.cycles
        out.append(Candidate(f"winograd {m}x{m}", cycles, partial(lower_winograd, request, op, (vertical, horizontal), plan.blocking)))
    return tuple(out)


def _applies(request: Request, op: Conv, axes: Sequence[Axis]) -> bool:
    x, w, y = request.operand(0).view, request.operand(1), request.outputs[0]
    if not request.winograd or request.rows or op.exact:
        return False
    if len(axes) != 2 or op.group != 1 or not w.is_constant:
        return False
    if any((a.kernel, a.dilation) != (TAPS, 1) or a.pad > LARGEST_PAD for a in axes):
        return False
    if axes[0].stride != axes[1].stride or axes[0].stride not in SIZES:
        return False
    if max(op.pads) > LARGEST_PAD or 0 in x.dims or 0 in y.dims:
        return False
    if _in_words(request):
        if not winograd_words.applies(request, op):
            return False
    elif not (x.dtype is DType.F32 or request.computes_in(x.dtype)) or compute_target(request, op.epilogue) is not request.target:
        return False
    return all(view.strides[1] == 1 or view.dims[1] == 1 for view in (x, y))


# -- cost -------------------------------------------------------------------------------------


def _in_words(request: Request) -> bool:
    """Whether products are those of integers."""
    return sum_type(request) is DType.I32


def _numbers(request: Request, m: int) -> Numbers:
    """What is computed with."""
    if _in_words(request):
        return winograd_words.numbers_of(request, m)
    return Numbers(DType.F16, block=HALF_TERMS[m]) if sum_type(request) is DType.F16 and m in HALF_TERMS else FLOATS


def _best_plan(request: Request, axes: tuple[Axis, Axis], m: int) -> _Plan:
    plans = [_plan(request, axes, replace(blocking, division=division)) for blocking in _blockings(request, axes, m)
             for division in _divisions(request, blocking)]
    plans += [_plan(request, axes, replace(blocking, division=division)) for division in _even_divisions(request, axes[0])
              for blocking in _blockings(request, (division.axis(axes[0], 0), axes[1]), m)]
    best, small = min(plan.cycles for plan in plans), _in_words(request) and request.threads == 1
    near = [plan for plan in plans if plan.cycles <= (1.0 + NEARLY_EQUAL * (small or request.threads > 1)) * best]
    return min(near, key=lambda plan: (plan.blocking.tiles * (1 if small else -1), plan.cycles, plan.blocking.exact))


def _blockings(request: Request, axes: tuple[Axis, Axis], m: int) -> Iterator[Blocking]:
    """All tiles at once, fewer whole rows of tiles, parts of one row; then the same with last tiles of their own size."""
    rows, columns = (-(-axis.out // m) for axis in axes)
    enough = m < max(PAYING_TILES) or rows * columns >= PAYING_TILES[m]
    integers = _in_words(request)
    for exact in (False, True)[:1 + (enough and any(axis.out % m for axis in axes))]:
        for size in dict.fromkeys(-(-rows // parts) for parts in range(1, rows + 1)):
            yield Blocking(m, rows, columns, size, columns, exact, integers=integers)
        for size in dict.fromkeys(-(-columns // parts) for parts in range(2, columns + 1)):
            yield Blocking(m, rows, columns, 1, size, exact, integers=integers)


def _divisions(request: Request, b: Blocking) -> Iterator[Division]:
    """How threads can divide the work; also not at all, for maps and channels too few."""
    yield ALONE
    for rows in range(1, min(request.threads, -(-b.rows // b.block_rows)) + 1):
        channels = _channel_ranges(request, rows, _numbers(request, b.m).dtype)
        if channels:
            yield Division(rows, channels)


def _even_divisions(request: Request, vertical: Axis) -> Iterator[Division]:
    """How threads can divide the work into ranges of rows with tiles of their own."""
    for rows in range(2, min(request.threads, vertical.out) + 1):
        channels = _channel_ranges(request, rows, sum_type(request))
        if channels and vertical.out % rows == 0:
            yield Division(rows, channels, even=True)


def _channel_ranges(request: Request, rows: int, factors: DType) -> int:
    """Ranges of result channels, whole vectors each, where there are so many of rows; 0 where threads or channels do not divide."""
    channels, rest = divmod(request.threads, rows)
    whole = channels == 1 or request.outputs[0].dims[1] % (channels * vector_lanes(request.target, factors)) == 0
    return channels if request.threads > 1 and not rest and whole else 0


def _plan(request: Request, axes: tuple[Axis, Axis], b: Blocking) -> _Plan:
    """The modelled cycles are those of the busiest thread times the number of threads."""
    target, x, y, numbers = request.target, request.operand(0).view, request.outputs[0], _numbers(request, b.m)
    factors, depth = numbers.dtype, x.dims[1] // numbers.group  # words have the size of their sums in pairs, too
    lanes, images, outputs = vector_lanes(target, factors), x.dims[0], y.dims[1]
    high, wide = b.tilings(axes)
    reading, moving, finishing = numbers.operations
    again = b.division.channels  # inputs are transformed for each range of result channels
    column_blocks = -(-b.columns // b.block_columns)
    parts = images * b.division.tiled_ranges
    vectors_in, vectors_out = -(-depth // lanes), -(-outputs // lanes)
    extras = sum(operand is not None for operand in request.inputs[3:])
    stride, products = axes[0].stride, sum(pair.points * pair.rows for pair in pairs_of((high, wide), b))
    columns = parts * (b.columns * b.m * stride + column_blocks * (TAPS - stride))
    arithmetic = 0.0
    for down, strips in _sizes(high):
        ops_in, ops_down = _operations(high, down)
        arithmetic += again * strips * vectors_in * columns * _line_cycles(
            ops_in + reading * high.inputs(down), high.inputs(down), high.lines(down), target)
        for across, tiles in _sizes(wide):
            number = parts * strips * tiles
            ops_in, ops_out = _operations(wide, across)
            arithmetic += again * vectors_in * number * high.lines(down) * _line_cycles(
                ops_in + moving * wide.lines(across), wide.inputs(across), wide.lines(across), target)
            arithmetic += vectors_out * number * wide.lines(across) * _line_cycles(ops_down, high.lines(down), down, target)
            arithmetic += vectors_out * number * down * _line_cycles(
                ops_out + across * (1 + finishing + extras), wide.lines(across) + across * extras, across, target)
    multiply = b.division.shares * _product_tile(b, axes, depth, outputs // again, _own_blocks(images, b), target, factors)[1]
    scratch = factors.size * products * (depth + outputs / again)
    outside = x.dtype.size * x.elements + y.dtype.size * y.elements * (1 + extras)
    strip = x.dtype.size * high.inputs(b.m) * wide.inputs(b.block_columns * b.m) * lanes
    used = parts * _products_of(high, b.rows) * _products_of(wide, b.columns)
    traffic = 3 * read_cycles(factors.size * used * (again * depth + outputs), scratch, target)  # fetched, written back, read
    traffic += read_cycles(outside, outside, target)
    traffic += again * 2 * read_cycles(x.dtype.size * high.inputs(b.m) * b.rows * columns * depth, 2 * strip, target)
    idle = request.threads / b.division.shares * b.division.unevenness(high, b.block_rows)
    return _Plan(b, idle * combine(arithmetic + multiply, traffic, target))


def _own_blocks(images: int, b: Blocking) -> float:
    """Blocks that a thread computes, on average."""
    return images * -(-b.rows // b.block_rows) * -(-b.columns // b.block_columns) * b.division.tiled_ranges / b.division.rows


def _products_of(tiling: Tiling, tiles: int) -> int:
    """Products along an axis of so many tiles, the last one short if there is one."""
    return sum(group.points * tiling.rows(group, tiles, tiling.rest < tiling.m) for group in tiling.groups)


def _sizes(tiling: Tiling) -> list[tuple[int, int]]:
    """The sizes of tiles along an axis, and how many tiles have them."""
    short = int(tiling.rest < tiling.m)
    return [(m, count) for m, count in ((tiling.m, tiling.count - short), (tiling.rest, short)) if count]


def _product_tile(b: Blocking, axes: tuple[Axis, Axis], depth: int, outputs: int, blocks: float, target: Target,
                  factors: DType = DType.F32) -> tuple[RegisterTile, float]:
    """The best register tile of a thread's products, and modelled cycles of all of them: `blocks` blocks, `outputs` channels.

    Panels of weights come from far away for the first rows of a block, unless they are prefetched: the more rows are read
    side by side, the less hardware does that by itself. For the other rows they come from the cache that holds a panel.
    """
    lanes, vector = vector_lanes(target, factors), target.vector
    # Compilers keep factors of the transforms in registers all the time.
    reserved = int(b.integers) if vector.fma_by_lane or b.m < 6 else RESERVED_REGISTERS  # products of words take one themselves
    narrower = replace(target, vector=replace(vector, registers=vector.registers - reserved))
    pairs = pairs_of(b.tilings(axes), b)
    most = max(pair.rows for pair in pairs)
    points = sum(pair.points for pair in pairs)
    weights = factors.size * points * depth * outputs
    stream = weight_cycles(b.division.channels * weights, target, b.division.channels) / b.division.channels
    sums = factors.size * sum(pair.points * pair.rows for pair in pairs) * (depth + outputs)
    parts = -(-depth // HALF_TERMS[b.m]) if factors is DType.F16 else 1
    flushes = FLUSH_CYCLES * -(-outputs // lanes) * (parts if parts > 1 else 0)
    again = read_cycles(weights, (weights + sums) / 2, target)
    best: tuple[float, int, RegisterTile] | None = None
    for vectors in range(1, min(MAX_VECTORS, -(-outputs // lanes)) + 1):
        for rows in range(1, min(MAX_ROWS, most) + 1):
            if not fits(rows, vectors, narrower, DType.F32 if b.integers else factors):
                break
            tile = RegisterTile(rows, vectors, lanes)
            ahead = _ahead(pairs, blocks, depth, outputs, tile, target, factors)
            prefetched = bool(ahead)
            if prefetched and rows > MOST_ROWS_AHEAD:
                break
            cycles = 0.0
            for number, pair in enumerate(pairs):  # each pair of groups waits for its own weights
                share = pair.points / points
                fetched = ahead[number].share(pair.rows, factors.size * tile.channels) if prefetched else 0.0
                arithmetic = pair.points * (cover_cycles(pair.rows, outputs, depth, tile, target) + pair.rows * flushes)
                reloads = blocks * (-(-pair.rows // rows) - 1) * read_cycles(share * weights, factors.size * depth * tile.channels, target)
                returns = max(0.0, blocks - 1) * share * again
                near = combine(blocks * arithmetic, reloads + returns if prefetched else NEAR * reloads, target)
                waited = (1.0 - fetched) * share * stream + (0.0 if prefetched else returns)
                cycles += max(near + (LEAST_STREAM + rows / STREAM_ROWS) * waited, share * stream)
            if best is None or (cycles, -rows * vectors) < best[:2]:
                best = (cycles, -rows * vectors, tile)
    if best is None:
        raise EdgeccError("E900", f"no register tile for {outputs} channels on {target.name}")
    return best[2], best[0]


def _ahead(pairs: Sequence[Pair], blocks: float, depth: int, outputs: int, tile: RegisterTile, target: Target,
           factors: DType) -> tuple[Ahead, ...]:
    """How the products of each pair prefetch weights, if they do. Those that stay in the second-level cache from one block to the next need not be."""
    weights, second = factors.size * sum(pair.points for pair in pairs) * depth * outputs, target.cache(2)
    if blocks > 1 and second is not None and weights <= second.size:
        return ()
    step_bytes = factors.size * tile.channels
    ahead = panels_ahead(max(pair.rows for pair in pairs), tile.rows, depth, step_bytes, weights, target)
    return () if ahead is None else tuple(ahead.for_rows(pair.rows, tile.rows, step_bytes) for pair in pairs)


def _early_bytes(weights: int, target: Target) -> int:
    """How many of so many bytes of weights the transforms of the inputs prefetch."""
    second = target.cache(2)
    return 0 if second is None else min(weights, int(EARLY_SHARE * second.size))


def _line_cycles(operations: float, loads: int, stores: int, target: Target) -> float:
    core = target.core
    bound = max(operations / core.fma_per_cycle, loads / core.loads_per_cycle, stores / core.stores_per_cycle,
                (operations + loads + stores) / core.issue_width)
    return LINE_CYCLES + LINE_SHARE * bound


@cache
def _operations(tiling: Tiling, m: int) -> tuple[int, int]:
    """Arithmetic operations of one transform of the inputs of a tile of `m` results, and of its products."""
    bound: list[Expr] = []

    def bind(value: Expr) -> Expr:
        bound.append(value)
        return Ref(f"d{len(bound)}", dtype)

    counts, dtype = [], DType.I32 if tiling.integers else DType.F32
    for transform, count in ((tiling.transform_input, tiling.inputs(m)), (partial(tiling.transform_output, bias=None), tiling.lines(m))):
        bound.clear()
        results = transform(m, [Ref(f"x{i}", dtype) for i in range(count)], bind=bind)
        counts.append(sum(isinstance(part, Op) for value in (*bound, *results) if value is not None
                          for part in subexpressions(value)))
    return counts[0], counts[1]


# -- kernel -----------------------------------------------------------------------------------


def lower_winograd(request: Request, op: Conv, axes: tuple[Axis, Axis], b: Blocking) -> Kernel:
    """The kernel that works on blocks of tiles as `b` says."""
    request = replace(request, threads=1)  # the shares are all that threads divide
    target, x, y = request.target, request.operand(0).view, request.outputs[0]
    numbers, blocks = _numbers(request, b.m), _own_blocks(x.dims[0], b)
    factors, depth, outputs, own = numbers.dtype, x.dims[1] // numbers.group, y.dims[1], y.dims[1] // b.division.channels
    lanes = vector_lanes(target, factors)
    tile, _ = _product_tile(b, axes, depth, own, blocks, target, factors)
    panels = cut_panels(own, tile, narrowest_lanes(target, factors))
    padded = sum(panel.padded * panel.count for panel in panels)
    tilings = b.tilings(axes)
    pairs = pairs_of(tilings, b)
    v, sums = (_scratch(pairs, _spread(row, factors, target), factors, target)
               for row in (depth, -(-max(padded, own) // lanes) * lanes))
    half = factors is DType.F16
    numbers = replace(numbers, scale=_scale(tilings)) if half else numbers
    terms = winograd_words.terms_of(request) if b.integers else None
    points = sum(pair.points for pair in pairs)
    ahead = _ahead(pairs, blocks, depth, own, tile, target, factors)
    winograd = Winograd(x if terms is None else terms.x, outputs, tilings, b, pairs, lanes, v, sums, ahead, numbers, points * padded * depth, _early_bytes(factors.size * points * padded * depth, target) if ahead else 0,
                        tuple(b.tilings(axes, part)[0] for part in range(b.division.tiled_ranges)))
    w: tuple[Buffer, KernelArgument] = (Buffer("w", numbers.factors, b.division.channels * points * padded * depth, "input"),
                                        Packed((1,), partial(_pack, tilings, panels, numbers, lanes, b.division.channels)))
    weights = with_bias(request if half else replace(request, precision=DType.F32), w, outputs, (Panel(0, outputs, -(-outputs // lanes) * lanes, 1),), packed=True, bias_axis=1)
    epilogue = epilogue_of(request, op.epilogue, 3)
    whole = "+".join(("s", *(name for name in weights.padded if name == "b")))
    schedule = (*tile_schedule(tile, target, winograd.inner, ("w",), factors),
                f"vectorize{{loop={LANE},lanes={lanes},narrowest={narrowest_lanes(target, factors)},padded={whole}}}")
    workspace = [(Buffer(name, dtype, count, "workspace"), Workspace(dtype.size * count, b.division.shares > 1))
                 for name, dtype, count in winograd.scratch]
    strided = "" if axes[0].stride == 1 else f" with stride {axes[0].stride}"
    rest = " and ".join(f"{t.rest}" for t in tilings if t.rest < b.m)
    name = f"conv_winograd{b.m}_{depth}_{outputs}"
    kernel = assemble(request, name, winograd.nest(panels, weights, epilogue), schedule, weights, epilogue, 3,
                      doc=f"3x3 convolution, {depth} to {outputs} channels, {axes[0].out}x{axes[1].out} pixels, "
                          f"by Winograd's F({b.m}x{b.m}, 3x3){strided}{', in f16' if half else ', in words' if b.integers else ''}",
                      choice=f"winograd {b.m}x{b.m}: tile {tile.rows} x {tile.vectors} vectors of {tile.lanes}, "
                             f"blocks of {b.block_rows} x {b.block_columns} tiles{', the last ones of ' + rest if rest else ''}{b.division.text}",
                      workspace=workspace, terms=terms)
    if b.integers:
        return kernel
    return replace(kernel, error_units=HALF_ERROR_UNITS[b.m] if half else ERROR_UNITS[b.m])


def _scale(tilings: tuple[Tiling, Tiling]) -> float:
    """The power of two that keeps the factors of products below four times the largest input."""
    return 2.0 ** -max(0, math.ceil(math.log2(tilings[0].gain * tilings[1].gain)) - 2)


def _scratch(pairs: Sequence[Pair], row: int, dtype: DType, target: Target) -> Scratch:
    line = _line_elements(dtype, target)
    # An odd number of lines: neighbouring points then lie in different sets of every cache.
    points = tuple((-(-pair.rows * row // line) | 1) * line for pair in pairs)
    sizes = [pair.points * distance for pair, distance in zip(pairs, points, strict=True)]
    return Scratch(row, tuple(sum(sizes[:i]) for i in range(len(sizes))), points, sum(sizes))


def _spread(elements: int, dtype: DType, target: Target) -> int:
    """A distance of rows of at least `elements` that does not put rows, one after another, into few sets of a cache."""
    line = _line_elements(dtype, target)
    return elements + line if elements % (16 * line) == 0 else elements


def _line_elements(dtype: DType, target: Target) -> int:
    return next((cache.line for cache in target.caches), 64) // dtype.size


def _pack(tilings: tuple[Tiling, Tiling], panels: Sequence[Panel], numbers: Numbers, lanes: int, shares: int, weights: Array) -> Array:
    """Weights [out, in, 3, 3] as [share of out][pair of groups][point][panel][in][lanes of the panel], transformed in float64."""
    high, wide = (np.array([[float(value) for value in row] for row in t.weight_matrix()]) for t in tilings)
    transformed: Array = np.moveaxis(weights.astype(np.float64) / numbers.scale, (2, 3), (0, 1)).reshape(3, -1)
    transformed = (high @ transformed).reshape(len(high), 3, -1)
    transformed = np.matmul(wide, transformed).reshape(len(high), len(wide), *weights.shape[:2])
    packed: Array = winograd_words.paired(transformed, lanes) if tilings[0].integers else transformed.astype(numbers.factors.numpy)
    parts = []
    for share in np.split(packed, shares, axis=2):
        for rows, columns in itertools.product(*(_ranges(t.groups) for t in tilings)):
            parts += [pack_panels(share[i, j], panels) for i, j in itertools.product(rows, columns)]
    return np.concatenate(parts)


def _ranges(groups: Sequence[Group]) -> list[range]:
    starts = [sum(group.points for group in groups[:i]) for i in range(len(groups) + 1)]
    return [range(a, b) for a, b in itertools.pairwise(starts)]
