"""Tiles, panels and prefetches: how contractions are cut, on machines whose caches small shapes already overflow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, Layout
from edgecc.kernels.ahead import panels_ahead
from edgecc.kernels.depth_cut import cut_depth
from edgecc.kernels.register_tile import (
    RegisterTile,
    best_tiles,
    cache_block,
    cover_cycles,
    cut_panels,
    fits,
    step_cycles,
)
from edgecc.kernels.registry import candidates, lower
from edgecc.kernels.spatial import Segment, runs_of
from edgecc.loop.index import const, var
from edgecc.loop.interpreter import run_function
from edgecc.loop.ir import For, Load, Prefetch, expressions, subexpressions, walk
from edgecc.loop.split import balanced_parts
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.targets.schema import Cache, load_target
from tests.support import ccompile, kernels
from tests.support.kernel_check import Given, request_for, run_lowered

LAST = Layout.channels_last(4)


def small(name: str, second: int = 24 * 1024):
    """The target with caches that hold next to nothing: 1 KiB, and `second` bytes."""
    return replace(load_target(name), caches=(Cache(1, 1024, 64, 4), Cache(2, second, 64, 4)))


def array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def prefetches(kernel) -> int:
    return sum(isinstance(stmt, Prefetch) for stmt in walk(kernel.function.body))


def compare(op, operands, request, kernel, runner=run_function) -> None:
    arrays = [g.array for g in operands]
    want, size = op.reference(arrays)[0].astype(np.float64), op.magnitude(arrays)[0]
    got = run_lowered(request, kernel, operands, runner)[0].astype(np.float64)
    assert np.all(np.abs(got - want) <= 16 * 2.0**-24 * np.maximum(size, np.abs(want)))


@given(st.integers(0, 200), st.integers(1, 30))
def test_balanced_parts_cover_in_as_few_parts_as_fit(extent, most):
    parts = balanced_parts(extent, most)
    sizes = [size for size, count in parts for _ in range(count)]
    assert sum(sizes) == extent
    assert len(sizes) == -(-extent // most)
    assert all(0 < size <= most for size in sizes)
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


@given(st.integers(1, 300), st.integers(1, 8), st.sampled_from([1, 4, 8, 16]), st.sampled_from([1, 2, 4]))
def test_panels_take_every_channel_once_and_hold_whole_vectors(channels, vectors, lanes, narrowest):
    narrowest = min(narrowest, lanes)
    panels = cut_panels(channels, RegisterTile(1, vectors, lanes), narrowest)
    position = 0
    for panel in panels:
        assert panel.start == position
        assert panel.size <= panel.padded <= vectors * lanes
        assert panel.padded % lanes in (0, *(n for n in (1, 2, 4, 8) if narrowest <= n < lanes))
        position += panel.size * panel.count
    assert position == channels


def test_border_positions_with_equally_many_taps_share_a_run():
    segments = [Segment(0, 1, 2, 5), Segment(1, 2, 1, 5), Segment(2, 9, 0, 5), Segment(9, 10, 0, 4), Segment(10, 11, 0, 3)]
    runs = runs_of(segments)
    assert [(r.extent, r.step, r.tap_step) for r in runs] == [(2, 10, -2), (2, 8, -1), (7, 1, 0)]
    assert sum(r.extent for r in runs) == 11
    for run in runs[:2]:
        last = next(s for s in segments if s.start == run.segment.start + run.step)
        assert last.tap_start == run.segment.tap_start + run.tap_step


def test_positions_without_a_partner_stay_alone():
    assert [r.extent for r in runs_of([Segment(0, 1, 1, 3), Segment(1, 8, 0, 3)])] == [1, 7]
    assert [r.extent for r in runs_of([Segment(0, 3, None, None), Segment(3, 4, 0, 9), Segment(4, 7, None, None)])] == [3, 1, 3]


@settings(max_examples=30)
@given(rows=st.sampled_from([2, 7, 13, 49]), depth=st.sampled_from([4, 8, 17, 24, 48, 52]), channels=st.sampled_from([24, 100, 131]),
       constant=st.booleans(), machine=st.sampled_from(["x86-64-v4", "x86-64-v3", "cortex-a76"]), seed=st.integers(0, 9))
def test_products_agree_where_weights_overflow_the_caches(rows, depth, channels, constant, machine, seed):
    op, operands = MatMul(False, False), [Given(array(seed, rows, depth)), Given(array(seed + 1, depth, channels), constant)]
    request = replace(request_for(op, operands, machine), target=small(machine))
    compare(op, operands, request, lower(request))


def test_large_weights_are_prefetched_a_panel_ahead():
    op = Conv((1, 1), (0,) * 4, (1, 1), 1)
    operands = [Given(array(0, 1, 48, 7, 7), layout=LAST), Given(array(1, 131, 48, 1, 1), True)]
    request = replace(request_for(op, operands, "x86-64-v4", [LAST]), target=small("x86-64-v4"))
    kernel = lower(request)
    assert prefetches(kernel)
    compare(op, operands, request, kernel)
    assert not prefetches(lower(request_for(op, operands, "x86-64-v4", [LAST])))
    by_lane = replace(request, target=small("cortex-a76"))
    assert not prefetches(lower(by_lane))


def test_a_row_of_bytes_prefetches_its_weights_as_one_stream():
    random = np.random.default_rng(0)
    factors = [random.integers(0, 256, (1, 512)).astype(np.uint8), random.integers(-127, 128, (512, 131)).astype(np.int8)]
    near = kernels.request_for(MatMul(False, False, a_zero=0, b_zero=0), factors, "x86-64-v3", constants=[1])
    request = replace(near, target=small("x86-64-v3"))
    kernel = lower(request)
    nests = [loop for loop in walk(kernel.function.body) if isinstance(loop, For) and loop.var == "steps"]
    for loop in nests:
        asked = [stmt.index for stmt in loop.body if isinstance(stmt, Prefetch)]
        first = next(load.index for stmt in walk(loop.body) for top in expressions(stmt) for load in subexpressions(top)
                     if isinstance(load, Load) and load.buffer == "w")
        width = first.coefficient("k")
        assert asked[0] - first == const(512) - var("k") * width - var("channel")  # elements of 32 bits
        assert [(place - asked[0]).const for place in asked] == list(range(0, 4 * width, 16))  # lines of what four steps read
    assert nests
    kernels.check(request, factors)
    assert not prefetches(lower(near))
    floats = [Given(array(0, 1, 512)), Given(array(1, 512, 131), True)]
    assert not prefetches(lower(replace(request_for(MatMul(False, False), floats, "x86-64-v3"), target=small("x86-64-v3"))))


@pytest.mark.parametrize(("rows", "in_one_piece"), [(48, False), (64, False), (65, True), (256, True)])
def test_many_rows_of_long_sums_stay_in_one_piece(rows, in_one_piece):
    """Sums of some rows wait in the second cache; those of more take longer there than the third cache takes to give rows again."""
    operands = [Given(array(0, rows, 1024)), Given(array(1, 1024, 64), True)]
    request = request_for(MatMul(False, False), operands, "x86-64-v3")
    cut = cut_depth(rows, RegisterTile(6, 2, 8), 1024, 64, request)
    assert cut is not None and (cut.parts == 1) == in_one_piece
    assert cut.rows == rows and cut.parts * cut.depth == 1024
    assert cut_depth(257, RegisterTile(6, 2, 8), 1024, 64, request) is None
    without_third = replace(request, target=replace(request.target, caches=request.target.caches[:2]))
    other = cut_depth(rows, RegisterTile(6, 2, 8), 1024, 64, without_third)
    assert other is None or other.parts > 1


@settings(max_examples=15)
@given(st.integers(2, 400), st.integers(1, 14), st.sampled_from([4, 12, 13, 20, 48, 512]), st.integers(1, 6))
def test_prefetches_of_all_rows_together_cover_a_panel_once(rows, tile_rows, depth, vectors):
    target, step_bytes = load_target("x86-64-v4"), 64 * vectors
    ahead = panels_ahead(rows, tile_rows, depth, step_bytes, 4 << 20, target)
    assert panels_ahead(rows, tile_rows, depth, step_bytes, 100_000, target) is None
    if ahead is None:
        return
    asked = [p.index.const for row in range(rows) for chunk in range(depth // ahead.steps)
             for p in ahead.prefetches("w", const(0), const(row), const(chunk), depth, 4)]
    assert sorted(asked) == list(range(0, 16 * len(asked), 16))
    assert 64 * len(asked) >= depth * step_bytes
    assert ahead.lines * min(rows, tile_rows) <= 24
    fewer = ahead.for_rows(-(-rows // 2), tile_rows, step_bytes)
    assert fewer.steps == ahead.steps and ahead.lines <= fewer.lines and fewer.lines * min(-(-rows // 2), tile_rows) <= 24
    assert ahead.share(rows, step_bytes) == 1.0 and fewer.share(-(-rows // 2), step_bytes) > 0.49


def test_transforms_of_inputs_prefetch_the_first_weights():
    op = Conv((1, 1), (1,) * 4, (1, 1), 1)
    operands = [Given(array(0, 1, 40, 13, 13), layout=LAST), Given(array(1, 48, 40, 3, 3), True)]
    request = replace(request_for(op, operands, "x86-64-v4", [LAST], 2), target=small("x86-64-v4", 1 << 16))
    kernel = lower(request, "winograd 2x2")
    early = [stmt for loop in walk(kernel.function.body) if isinstance(loop, For) and loop.var == "column"
             for stmt in loop.body if isinstance(stmt, Prefetch)]
    assert early and {stmt.buffer for stmt in early} == {"w"}
    assert not any(loop.var == "column" and any(isinstance(stmt, Prefetch) for stmt in loop.body)
                   for loop in walk(lower(replace(request, target=small("x86-64-v4", 1 << 24)), "winograd 2x2").function.body)
                   if isinstance(loop, For))


@pytest.mark.parametrize("m", ["2x2", "4x4"])
@pytest.mark.parametrize(("channels", "outputs", "size"), [(20, 37, 7), (48, 100, 13)])
def test_winograd_products_prefetch_large_weights(channels, outputs, size, m):
    op = Conv((1, 1), (1,) * 4, (1, 1), 1)
    operands = [Given(array(0, 1, channels, size, size), layout=LAST), Given(array(1, outputs, channels, 3, 3), True)]
    request = replace(request_for(op, operands, "x86-64-v4", [LAST]), target=small("x86-64-v4"))
    kernel = lower(request, f"winograd {m}")
    assert prefetches(kernel)
    got, want = run_lowered(request, kernel, operands)[0], op.reference([g.array for g in operands])[0]
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
    assert not prefetches(lower(replace(request, target=small("x86-64-v4", 1 << 24)), f"winograd {m}"))


@pytest.mark.parametrize(("stride", "channels", "outputs"), [(1, 1, 8), (2, 3, 13), (2, 4, 7), (3, 5, 8)])
@pytest.mark.parametrize("machine", ["x86-64-v4", "cortex-a76"])
def test_first_layers_prefetch_rows_of_large_planes(stride, channels, outputs, machine):
    op = Conv((stride, stride), (1, 0, 1, 2), (1, 1), 1)
    operands = [Given(array(0, 1, channels, 33, 21)), Given(array(1, outputs, channels, 3, 3), True)]
    request = replace(request_for(op, operands, machine, [LAST]), target=small(machine, 4096))
    kernel = lower(request, "direct")
    assert prefetches(kernel) == channels * stride
    compare(op, operands, request, kernel)
    assert not prefetches(lower(request_for(op, operands, machine, [LAST]), "direct"))


def test_prefetches_compile_without_undefined_behaviour():
    def runner(function, buffers):
        buffers.update(ccompile.run_function(function, buffers, load_target("x86-64-v3"), flags=("-O1", *ccompile.SANITIZERS)))

    op = Conv((1, 1), (0,) * 4, (1, 1), 1)
    operands = [Given(array(0, 1, 48, 7, 7), layout=LAST), Given(array(1, 131, 48, 1, 1), True)]
    request = replace(request_for(op, operands, "x86-64-v3", [LAST]), target=small("x86-64-v3"))
    kernel = lower(request)
    assert prefetches(kernel)
    compare(op, operands, request, kernel, runner)


def test_rows_are_blocked_for_the_cache_that_the_weights_leave_free():
    target, tile = load_target("x86-64-v4"), RegisterTile(6, 4, 16)
    light, heavy = cache_block(3136, tile, 1024, 64 * 1024, target), cache_block(3136, tile, 1024, 4 << 20, target)
    assert light % 6 == heavy % 6 == 0
    assert light * 1024 <= 16 * 1024 < heavy * 1024 <= 512 * 1024
    assert cache_block(49, tile, 1024, 4 << 20, target) == 49


def test_lines_that_panels_fill_one_by_one_count_as_rows_of_a_block():
    target, tile = load_target("cortex-a76"), RegisterTile(4, 8, 4)
    assert cache_block(784, tile, 32, 6 * 1024, target, result_bytes=64) == 784
    block = cache_block(784, tile, 32, 6 * 1024, target, result_bytes=32)
    assert block * (32 + 64) <= 32 * 1024 < 2 * block * (32 + 64)


@pytest.mark.parametrize("machine", ["x86-64-v4", "x86-64-v3", "cortex-a76", "cortex-a53", "generic-c"])
def test_best_tiles_fit_and_come_best_first(machine):
    target = load_target(machine)
    judged = best_tiles(49, 131, target, DType.F32, lambda tile: cover_cycles(49, 131, 96, tile, target))
    assert [cycles for _, cycles in judged] == sorted(cycles for _, cycles in judged)
    assert all(fits(tile.rows, tile.vectors, target) for tile, _ in judged)
    assert len({(tile.rows, tile.vectors) for tile, _ in judged}) == len(judged)


def test_candidates_are_tiles_and_each_of_them_computes_the_convolution():
    op = Conv((1, 1), (1,) * 4, (1, 1), 1)
    operands = [Given(array(0, 1, 5, 6, 13), layout=LAST), Given(array(1, 40, 5, 3, 3), True)]
    request = replace(request_for(op, operands, "x86-64-v4", [LAST]), winograd=False)
    found = candidates(request)
    assert len(found) > 2
    assert len({c.name for c in found}) == len(found)
    for candidate in found:
        assert candidate.name.split()[0] == "direct"
        compare(op, operands, request, lower(request, candidate.name))


def test_a_step_of_a_tile_costs_at_least_its_multiply_adds():
    for machine in ("x86-64-v4", "cortex-a76"):
        target = load_target(machine)
        for rows, vectors in ((6, 4), (14, 2), (5, 5), (1, 1)):
            assert step_cycles(rows, vectors, 4, target) >= rows * vectors / target.core.fma_per_cycle
