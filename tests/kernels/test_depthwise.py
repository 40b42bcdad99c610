"""Depthwise convolutions by blocks of rows and with rolling sums: all agree with the reference, and borders cost no code of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.scalar import Arg, apply, literal
from edgecc.ir.types import DType, Layout
from edgecc.kernels.depthwise import lower_depthwise
from edgecc.kernels.depthwise_block import KEPT_WEIGHTS, Block, Window, block_cycles, choose_block
from edgecc.kernels.depthwise_rolling import Rolling, group_size
from edgecc.kernels.register_tile import Panel
from edgecc.kernels.registry import candidates, lower
from edgecc.kernels.spatial import axes_of
from edgecc.loop.ir import For, Load, Op, expressions, subexpressions, walk
from edgecc.ops.convolution import Conv
from edgecc.targets.schema import Cache, load_target
from tests.support.kernel_check import Given, check_kernel, request_for, run_lowered

LAST = Layout.channels_last(4)
TARGETS = ("x86-64-v4", "x86-64-v3", "cortex-a76")
RESIDUAL = apply("max", apply("add", Arg(0, DType.F32), Arg(1, DType.F32)), literal(0.0, DType.F32))


def array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def axes_for(op: Conv, size: tuple[int, int], kernel: tuple[int, int]):
    out = replace(op, group=1).reference([array(0, 1, 1, *size), array(1, 1, 1, *kernel)])[0].shape[2:]
    return axes_of(size, out, kernel, op.strides, op.dilations, op.pads)


@st.composite
def convolutions(draw):
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    strides, dilations = (tuple(draw(st.integers(1, 2)) for _ in range(2)) for _ in range(2))
    pads = tuple(draw(st.integers(0, k - 1)) for k in (*kernel, *kernel))
    size = tuple(max(draw(st.integers(1, 17)), (kernel[i] - 1) * dilations[i] + 1 - pads[i] - pads[2 + i]) for i in range(2))
    block = Block(draw(st.integers(1, 4)), draw(st.integers(1, 7)))
    return kernel, strides, dilations, pads, size, block


@settings(max_examples=60)
@given(case=convolutions(), channels=st.sampled_from([2, 13, 16, 24, 49]), batch=st.integers(1, 2), residual=st.booleans(),
       target=st.sampled_from(TARGETS))
def test_every_block_agrees_with_the_reference(case, channels, batch, residual, target):
    kernel, strides, dilations, pads, size, block = case
    op = Conv(strides, pads, dilations, channels, RESIDUAL if residual else None)
    operands = [Given(array(0, batch, channels, *size), layout=LAST), Given(array(1, channels, 1, *kernel), True),
                Given(array(2, channels), True)]
    plain = replace(op, epilogue=None)
    if residual:
        operands.append(Given(array(3, *plain.reference([g.array for g in operands])[0].shape), layout=LAST))
    arrays = [g.array for g in operands]
    request = request_for(op, operands, target, [LAST])
    axes = axes_for(plain, size, kernel)
    got = run_lowered(request, lower_depthwise(request, axes, op.epilogue, block), operands)[0]
    want, magnitude = op.reference(arrays)[0], op.magnitude(arrays)[0]
    assert np.all(np.abs(got - want) <= 64 * 2.0**-24 * np.maximum(magnitude, np.abs(want)))


@settings(max_examples=60)
@given(kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)), strides=st.tuples(st.integers(1, 3), st.integers(1, 4)),
       pads=st.tuples(*[st.integers(0, 3)] * 4), high=st.integers(1, 9), wide=st.sampled_from([1, 2, 3, 5, 13, 17, 24, 49]),
       dilation=st.integers(1, 2), channels=st.sampled_from([8, 13, 16, 24, 49]), vectors=st.integers(1, 3), residual=st.booleans(),
       target=st.sampled_from(TARGETS))
def test_rolling_sums_agree_with_the_reference(kernel, strides, pads, high, wide, dilation, channels, vectors, residual, target):
    pads = tuple(min(pad, kernel[i % 2] - 1) for i, pad in enumerate(pads))
    size = (max(high, (kernel[0] - 1) * dilation + 1), max(wide, kernel[1]))
    op = Conv((strides[0], min(strides[1], kernel[1])), pads, (dilation, 1), channels, RESIDUAL if residual else None)
    plain = replace(op, epilogue=None)
    operands = [Given(array(0, 1, channels, *size), layout=LAST), Given(array(1, channels, 1, *kernel), True), Given(array(2, channels), True)]
    if residual:
        operands.append(Given(array(3, *plain.reference([g.array for g in operands])[0].shape), layout=LAST))
    arrays = [g.array for g in operands]
    request = request_for(op, operands, target, [LAST])
    got = run_lowered(request, lower_depthwise(request, axes_for(plain, size, kernel), op.epilogue, Rolling(vectors)), operands)[0]
    want, magnitude = op.reference(arrays)[0], op.magnitude(arrays)[0]
    assert np.all(np.abs(got - want) <= 64 * 2.0**-24 * np.maximum(magnitude, np.abs(want)))


@pytest.mark.parametrize(("first", "channels", "grouped"), [(8, 96, True), (8, 100, True), (64, 96, False), (1, 96, False)])
def test_all_rows_of_some_channels_come_first_where_the_first_cache_holds_no_more(first, channels, grouped):
    op = Conv((1, 1), (1, 1, 1, 1), (1, 1), channels)
    operands = [Given(array(0, 1, channels, 7, 9), layout=LAST), Given(array(1, channels, 1, 3, 3), True), Given(array(2, channels), True)]
    target = replace(load_target("cortex-a76"), caches=(Cache(1, first * 1024, 64, 4), Cache(2, 65536, 64, 8)))
    request = replace(request_for(op, operands, "cortex-a76", [LAST]), target=target)
    kernel = lower(request, "depthwise rolling")
    outermost = next(stmt for stmt in kernel.function.body if isinstance(stmt, For))
    assert (outermost.var == "panel") == grouped
    arrays = [g.array for g in operands]
    got = run_lowered(request, kernel, operands)[0]
    assert np.all(np.abs(got - op.reference(arrays)[0]) <= 16 * 2.0**-24 * op.magnitude(arrays)[0])


@pytest.mark.parametrize(("width", "count", "bytes_each", "size"), [
    (14, 48, 4, 16),   # 56 pixels of 512 bytes: 28 KiB
    (112, 6, 4, 2),    # 448 of 64
    (200, 6, 4, 6),    # not even that
    (5, 6, 4, 6)])     # all of them
def test_groups_keep_the_rows_under_a_window_in_half_of_the_first_cache(width, count, bytes_each, size):
    op = Conv((1, 1), (1, 1, 1, 1), (1, 1), 8)
    window = Window(*axes_for(op, (9, width), (3, 3)))
    assert group_size(window, Panel(0, 8, 8, count), bytes_each, load_target("cortex-a76")) == size


@pytest.mark.parametrize(("channels", "stride", "columns"), [
    (32, 1, 3),   # 6 lines an iteration
    (16, 1, 6),   # pixels lie line by line
    (24, 1, 6),   # three columns would be 4.5 lines
    (24, 2, 4),   # 6 lines
    (12, 2, 8)])  # four columns would be 3 lines, but pixels are shorter than one
def test_rolling_sums_load_every_element_of_a_row_once(channels, stride, columns):
    op = Conv((1, stride), (1,) * 4, (1, 1), channels)
    operands = [Given(array(0, 1, channels, 14, 50), layout=LAST), Given(array(1, channels, 1, 3, 3), True), Given(array(2, channels), True)]
    function = lower(request_for(op, operands, "cortex-a76", [LAST]), "depthwise rolling").function
    turns = next(s for s in walk(function.body) if isinstance(s, For) and s.var == "turn")
    inner = [e for s in turns.body for top in expressions(s) for e in subexpressions(top)]
    # Columns of two rows (the first row of the result), each for all windows it lies in.
    assert sum(isinstance(e, Load) and e.buffer == "x" for e in inner) == columns * 2
    assert sum(isinstance(e, Op) and e.op == "fma" for e in inner) == columns * 3 * 2 // stride


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("channels", "size", "kernel", "stride"), [(49, 14, 3, 1), (24, 13, 3, 2), (100, 7, 5, 1), (17, 8, 1, 1)])
def test_all_candidates_compute_the_convolution(channels, size, kernel, stride, target):
    op = Conv((stride, stride), (kernel // 2,) * 4, (1, 1), channels)
    operands = [Given(array(0, 1, channels, size, size), layout=LAST), Given(array(1, channels, 1, kernel, kernel), True)]
    names = [c.name for c in candidates(request_for(op, operands, target, [LAST]))]
    room = kernel == 1 or (kernel == 3 and target != "x86-64-v3")
    rolling = room and channels >= {"x86-64-v4": 32, "x86-64-v3": 16, "cortex-a76": 8}[target]
    assert len(names) == 2 + rolling and "depthwise" in names and ("depthwise rolling" in names) == rolling
    for name in names:
        check_kernel(op, operands, target, [LAST], choice=name)


@pytest.mark.parametrize("target", ["cortex-a53", "cortex-a55"])
def test_cores_that_issue_in_order_have_no_rolling_sums(target):
    op = Conv((1, 1), (1,) * 4, (1, 1), 96)
    operands = [Given(array(0, 1, 96, 28, 28), layout=LAST), Given(array(1, 96, 1, 3, 3), True)]
    assert "depthwise rolling" in [c.name for c in candidates(request_for(op, operands, "cortex-a76", [LAST]))]
    assert "depthwise rolling" not in [c.name for c in candidates(request_for(op, operands, target, [LAST]))]


def test_blocks_need_contiguous_channels_and_a_window_that_can_be_written_out():
    op = Conv((1, 1), (1,) * 4, (1, 1), 16)
    x, w = array(0, 1, 16, 9, 9), Given(array(1, 16, 1, 3, 3), True)

    def names(op, *operands, layout=LAST):
        return [c.name for c in candidates(request_for(op, list(operands), "x86-64-v4", [layout]))]

    assert len(names(op, Given(x, layout=LAST), w)) == 2
    assert names(op, Given(x), w) == ["depthwise"]
    assert names(op, Given(x, layout=LAST), w, layout=None) == ["depthwise"]
    assert names(Conv((1, 1), (3,) * 4, (1, 1), 16), Given(x, layout=LAST), Given(array(1, 16, 1, 7, 7), True)) == ["depthwise"]


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(("size", "kernel"), [((14, 14), (3, 3)), ((7, 7), (3, 3)), ((28, 28), (5, 5)), ((1, 1), (3, 3))])
def test_blocks_leave_room_for_weights(name, size, kernel):
    target = load_target(name)
    op = Conv((1, 1), (kernel[0] // 2,) * 4, (1, 1), 1)
    window = Window(*axes_for(op, size, kernel))
    block = choose_block(window, size[0], target)
    assert block_cycles(window, block, target) <= block_cycles(window, Block(1, 1), target)
    assert block.rows * block.columns + window.weights_kept < target.vector.registers or (block.rows, block.columns) == (1, 1)
    assert window.weights_kept == (9 if kernel == (3, 3) else 5)
    assert window.weights_kept <= KEPT_WEIGHTS


def test_an_input_element_is_loaded_once_a_tile():
    op = Conv((1, 1), (1,) * 4, (1, 1), 16)
    operands = [Given(array(0, 1, 16, 14, 14), layout=LAST), Given(array(1, 16, 1, 3, 3), True)]
    request = request_for(op, operands, "x86-64-v4", [LAST])
    kernel = lower_depthwise(request, axes_for(op, (14, 14), (3, 3)), None, Block(4, 7))
    inner = [e for s in walk(kernel.function.body) for top in expressions(s) for e in subexpressions(top)]
    adds = sum(isinstance(e, Op) and e.op == "fma" for e in inner)
    loads = sum(isinstance(e, Load) and e.buffer == "x" for e in inner)
    # A border row, a loop over blocks of four and a border row, each in two tiles: 7 columns, of which one lacks a tap.
    assert adds == 2 * (7 * 3 - 1) * (2 + 4 * 3 + 2)
    assert loads == 2 * 8 * (2 + 6 + 2)
    assert lower(request).choice.startswith("depthwise 3x3: tile")


@pytest.mark.parametrize(("target", "channels", "tile"), [
    ("x86-64-v3", 24, "5 pixels x 2 vectors"), ("x86-64-v3", 8, "8 pixels x 1 vectors"), ("x86-64-v4", 40, "8 pixels x 2 vectors")])
def test_large_windows_have_two_vectors_of_sums_where_registers_are_few_too(target, channels, tile):
    op = Conv((1, 1), (3,) * 4, (1, 1), channels)
    operands = [Given(array(0, 1, channels, 9, 12), layout=LAST), Given(array(1, channels, 1, 7, 7), True)]
    assert tile in lower(request_for(op, operands, target, [LAST])).choice
    check_kernel(op, operands, target, [LAST])


def test_windows_along_one_axis_keep_one_vector_of_sums_where_registers_are_few():
    op = Conv((1,), (14, 14), (1,), 64)
    operands = [Given(array(0, 1, 64, 50), layout=Layout.channels_last(3)), Given(array(1, 64, 1, 29), True)]
    assert "8 pixels x 1 vectors" in lower(request_for(op, operands, "x86-64-v3", [Layout.channels_last(3)])).choice
