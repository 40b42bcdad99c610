"""Winograd convolutions of bytes are exact: bit for bit what the operator says, interpreted and as C."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, TensorType
from edgecc.kernels.registry import candidates, lower
from edgecc.kernels.shifted_sums import SHORT_SUM
from edgecc.kernels.spatial import Axis
from edgecc.kernels.winograd import lower_winograd
from edgecc.kernels.winograd_numbers import Words
from edgecc.kernels.winograd_tiles import Blocking, Division
from edgecc.kernels.winograd_transform import INTEGER_FILTERS, filter_of, input_matrix, weight_matrix
from edgecc.loop.ir import For
from edgecc.ops.convolution import Conv
from edgecc.passes.loop import apply_schedule
from tests.support import kernels

LAST = (0, 2, 3, 1)
SIZES = (2, 3, 4)


def layer(*, seed=0, dtype=DType.U8, channels=8, outputs=9, size=(9, 6), pads=(1, 1, 1, 1), batch=1, zero=None, bias=True, extreme=0.0, weight=127,
          stride=1, threads=1, target="x86-64-v3"):
    """A request for a convolution of bytes, channels-last, and its arrays; a share of `extreme` inputs and weights are as large as they may be."""
    random, (low, high) = np.random.default_rng(seed), dtype.limits
    x = random.integers(low, high + 1, (batch, channels, *size)).astype(dtype.numpy)
    w = random.integers(-128, 128, (outputs, channels, 3, 3)).astype(np.int8)
    x[random.random(x.shape) < extreme] = high if seed % 2 else low
    w[random.random(w.shape) < extreme] = weight
    b = random.integers(-2**20, 2**20, outputs).astype(np.int32) if bias else None
    op = Conv((stride, stride), pads, (1, 1), 1, None, zero)
    (result,) = op.infer([None if a is None else TensorType.of(a) for a in (x, w, b)])
    request = kernels.request_for(op, [x, w, b], target, inputs=[kernels.laid_out(TensorType.of(x), LAST)], outputs=[kernels.laid_out(result, LAST)],
                                  constants=[1, *([2] if bias else [])], threads=threads)
    return request, [x, w, b]


def names(request):
    return [c.name for c in candidates(request)]


@st.composite
def cases(draw):
    dtype = draw(st.sampled_from([DType.U8, DType.I8]))
    low, high = dtype.limits
    size, pads = (draw(st.integers(1, 9)), draw(st.integers(1, 7))), tuple(draw(st.integers(0, 2)) for _ in range(4))
    assume(all(size[i] + pads[i] + pads[i + 2] >= 3 for i in range(2)))
    return {"seed": draw(st.integers(0, 99)), "dtype": dtype, "channels": draw(st.sampled_from([4, 8, 20, 36])), "outputs": draw(st.sampled_from([1, 8, 17])),
            "size": size, "pads": pads, "batch": draw(st.integers(1, 2)), "zero": draw(st.sampled_from([None, low, high, 3])), "bias": draw(st.booleans()),
            "extreme": draw(st.sampled_from([0.0, 0.5, 1.0])), "weight": draw(st.sampled_from([-128, -127, 127]))}


@given(cases(), st.sampled_from(SIZES), st.sampled_from([1, 2]))
@settings(max_examples=8)
def test_results_are_exact(case, m, stride):
    kernels.check(*layer(**case, stride=stride), units=0.0, choice=f"winograd {m}x{m}")


@pytest.mark.parametrize(("m", "zero", "stride"), [(3, 255, 1), (4, None, 2)])
def test_the_instructions_give_the_same_numbers(m, zero, stride):
    kernels.check(*layer(channels=36, outputs=11, size=(4, 7), zero=zero, extreme=0.7, stride=stride), units=0.0, choice=f"winograd {m}x{m}", machine="x86-64-v3")


def test_words_hold_all_factors_and_sums_of_two_products():
    for widest, taps in INTEGER_FILTERS:
        inputs = [row for m in range(1, widest + 1) for row in input_matrix(filter_of(m, widest, taps, integers=True))]
        widened = filter_of(widest, widest, taps, integers=True)
        weights = (*weight_matrix(widened), *([(Fraction(widened.multiple),)] if taps == 2 else []))  # with stride 2 there are phases of a single tap
        assert all(value.denominator == 1 for row in (*inputs, *weights) for value in row)
        signed = [(sum(v for v in row if v > 0), -sum((v for v in row if v < 0), Fraction(0))) for row in inputs]
        largest_input = 255 * max(max(p * q + n * r, p * r + n * q) for p, n in signed for q, r in signed)
        largest_weight = 128 * max(sum(map(abs, row)) for row in weights) ** 2
        assert largest_input < 2**15
        assert largest_weight < 2**15
        assert 2 * largest_input * largest_weight < 2**31


@pytest.mark.parametrize(("m", "division"), [(2, Division(2, 1)), (3, Division(1, 2)), (4, Division(2, 1, True)), (4, Division(2, 2))])
def test_threads_share_the_work(m, division):
    request, arrays = layer(channels=12, outputs=16, size=(12, 5), threads=division.shares, zero=2)
    rows = -(-12 // (division.rows if division.even else 1) // m)
    blocking = Blocking(m, rows, -(-5 // m), 1, 2, True, division, True)
    kernel = lower_winograd(request, request.op, tuple(Axis(size, size, 3, 1, 1, 1) for size in (12, 5)), blocking)
    assert [(stmt.kind, stmt.extent) for stmt in apply_schedule(kernel.function, kernel.schedule).body if isinstance(stmt, For)] == [("parallel", division.shares)]
    kernels.check(request, arrays, units=0.0, kernel=kernel)


def test_sums_that_lose_bits_exclude_large_tiles():
    """4 * 4 results are 576 times too large, which leaves sums 25 bits."""
    at_most = SHORT_SUM // (9 * 255)
    for channels, weight, fits in ((128, 127, False), (128, 100, True), (at_most // 127 // 4 * 4, 127, True)):
        request, arrays = layer(channels=channels, outputs=8, size=(4, 4), extreme=1.0, weight=weight, seed=1)
        assert ("winograd 4x4" in names(request)) == fits
        assert {"winograd 2x2", "winograd 3x3"} <= set(names(request))
        kernels.check(request, arrays, units=0.0, choice="winograd 4x4" if fits else "winograd 3x3")
    request, _ = layer(channels=2000, outputs=1, size=(4, 4))
    assert not any("winograd" in name for name in names(replace(request, short_sums=False)))


def test_is_offered_only_where_words_are_quick():
    request, (x, w, b) = layer()
    assert "winograd 2x2" in names(request)
    assert "winograd 2x2" not in names(replace(request, winograd=False))
    assert "winograd 2x2" not in names(replace(request, rows=True))
    for target in ("x86-64-v4", "cortex-a76", "cortex-a72", "cortex-m7", "generic-c"):
        assert not any("winograd" in name for name in names(layer(target=target)[0])), target
    assert not any("winograd" in name for name in names(layer(channels=6)[0]))
    for op, found in ((Conv((2, 2), (1,) * 4, (1, 1)), True), (Conv((1, 2), (1,) * 4, (1, 1)), False), (Conv((1, 1), (2,) * 4, (2, 2)), False)):
        (result,) = op.infer([TensorType.of(a) for a in (x, w, b)])
        own = kernels.request_for(op, [x, w, b], "x86-64-v3", constants=[1, 2], inputs=[request.operand(0).view], outputs=[kernels.laid_out(result, LAST)])
        assert any("winograd" in name for name in names(own)) == found


@pytest.mark.parametrize(("channels", "size", "wins"), [(64, 56, True), (128, 28, True), (256, 14, True), (4, 56, False), (8, 3, False)])
def test_is_chosen_where_products_dominate(channels, size, wins):
    request, _ = layer(channels=channels, outputs=channels, size=(size, size))
    ways = candidates(replace(request, short_sums=True))
    assert ways[0].name.startswith("winograd") == wins
    direct = min(way.cycles for way in ways if not way.name.startswith("winograd"))
    assert not wins or direct > 2 * ways[0].cycles  # 2.5 to 3 times was measured on Zen 3


def test_scratch_memory_is_small_where_that_costs_next_to_nothing():
    request, _ = layer(channels=64, outputs=64, size=(56, 56))
    workspace = [b.elements * b.dtype.size for b in lower(request, "winograd 4x4").function.buffers if b.role == "workspace"]
    assert sum(workspace) < 2**19


@pytest.mark.parametrize("multiple", [4, 36, 576])
def test_quotients_of_multiples_modulo_two_to_the_32(multiple):
    words = Words(DType.I32, multiple=multiple)
    shift = (multiple & -multiple).bit_length() - 1
    assert words.operations[2] == 1 + (multiple >> shift > 1)
    assert pow(multiple >> shift, -1, 2**32) * multiple % 2**32 == 1 << shift
