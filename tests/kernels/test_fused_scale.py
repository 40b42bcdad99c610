"""Sums and scales in one multiply-add: the same integers for every sum, ties included, and only where that is known."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecc.backends.c.function import new_prelude, print_function
from edgecc.backends.c.isa import isa_of
from edgecc.ir.scalar import Arg, literal
from edgecc.ir.types import DType
from edgecc.kernels import fused_scale as fused
from edgecc.kernels.fused_scale import ZERO_BITS, fused_scale
from edgecc.kernels.registry import lower
from edgecc.ops.matrix import MatMul
from edgecc.ops.requantize import requantized
from edgecc.passes.loop import apply_schedule
from tests.support import kernels

F32, I32, I8 = DType.F32, DType.I32, DType.I8
OP = MatMul(a_zero=-128, epilogue=requantized(Arg(0, I32), Arg(1, F32), literal(-128.0, F32), I8))


def rounded(sums, scale, start, addend):
    """What the product and the multiply-add round to; the sum of the latter is exact in f64."""
    m = (start.astype(np.int64) - ZERO_BITS + sums).astype(np.float64)
    assert ((m >= 2**23) & (m < 2**24)).all() and (m.astype(np.float32) == m).all()
    bits = (start.astype(np.int64) + sums).astype(np.int32)
    assert (bits.view(np.float32) == m).all()
    fused = (m * np.float64(scale) + np.float64(addend)).astype(np.float32)
    return np.clip(np.rint(sums.astype(np.float32) * scale), -1, 256), np.clip(np.rint(fused), -1, 256)


@given(st.integers(2**23, 2**24 - 1), st.integers(-36, -24), st.integers(-(2**20), 2**20))
def test_every_sum_rounds_as_its_product_does(mantissa, exponent, bias):
    scale = np.float32(np.ldexp(mantissa, exponent))
    weights = np.full((40, 1), 127, np.int8)
    found = fused_scale(OP, I8, weights, np.array([bias], np.int32), np.array([scale]))
    if found is not None:
        sums = np.arange(bias, bias + 40 * 127 * 255 + 1, 7)
        ties = np.rint((np.arange(-2, 258) + 0.5) / np.float64(scale)).astype(np.int64)
        sums = np.concatenate([sums, ties[(ties >= bias) & (ties <= sums[-1])]])
        product, fused = rounded(sums, scale, found.starts[0], found.addends[0])
        assert np.array_equal(product, fused)


def test_sums_halfway_to_the_number_behind_a_tie_decide():
    """3072 times such a scale lies halfway between t + 1/2 and its neighbour, and rounds to t + 1/2: what is more, however little, does not."""
    numbers = [t for t in range(64, 128) if int((t + 0.5) * 2**18 + 1) % 3 == 0 and int((t + 0.5) * 2**18 + 1) // 3 >= 2**23]
    scales = np.array([int((t + 0.5) * 2**18 + 1) // 3 * 2.0**-28 for t in numbers], np.float32)
    assert len(numbers) > 8 and (scales.astype(np.float64) * 3072 > np.array(numbers) + 0.5).all()
    found = fused_scale(OP, I8, np.full((40, len(numbers)), 127, np.int8), np.full(len(numbers), -1000, np.int32), scales)
    for scale, start, addend in zip(scales, found.starts, found.addends, strict=True):
        product, fused = rounded(np.array([3071, 3072, 3073]), scale, start, addend)
        assert np.array_equal(product, fused)


def test_where_ties_are_too_many_only_exact_numbers_count(monkeypatch):
    """Every other number would be turned down one by one: a network took minutes for that."""
    monkeypatch.setattr(fused, "MOST_TIES", 10)
    asked = []
    choices = fused._choices
    monkeypatch.setattr(fused, "_choices", lambda m, least, most, farthest: asked.append(farthest) or choices(m, least, most, farthest))
    weights, bias = np.full((40, 3), 127, np.int8), np.full(3, -1000, np.int32)
    assert fused_scale(OP, I8, weights, bias, np.full(3, (2**23 + 12345) * 2.0**-30, np.float32)) is None
    assert fused_scale(OP, I8, weights, bias, np.full(3, 2.0**-7, np.float32)) is not None
    assert asked == [fused.NEAR, fused.NEAR]


def layer(channels=36, bias=True, largest=0.01, zero=-128.0):
    random = np.random.default_rng(7)
    epilogue = requantized(Arg(0, I32), Arg(1, F32), literal(zero, F32), I8)
    return MatMul(a_zero=-128, epilogue=epilogue), [
        random.integers(-128, 128, (13, 40)).astype(np.int8), random.integers(-127, 128, (40, channels)).astype(np.int8),
        random.integers(-9000, 9000, channels).astype(np.int32) if bias else None,
        random.uniform(0.1 * largest, largest, channels).astype(np.float32)]


def request_of(target, constants=(1, 2, 3), **options):
    op, arrays = layer(**options)
    return kernels.request_for(op, arrays, target, constants=constants), arrays


@pytest.mark.parametrize(("channels", "zero", "largest"), [(36, -128.0, 0.01), (3, 5.0, 0.01), (24, 0.0, 0.45)])
def test_the_same_bytes(channels, zero, largest):
    request, arrays = request_of("cortex-a76", channels=channels, zero=zero, largest=largest)
    assert request.fused_scale
    kernels.check(request, arrays)
    kernels.check(request, arrays, machine="cortex-a76")


def test_what_is_added_is_loaded_anew_for_every_row():
    request, _ = request_of("cortex-a76", channels=16)
    kernel = lower(request)
    text = print_function(apply_schedule(kernel.function, kernel.schedule), new_prelude(isa_of("aarch64", ("neon", "dotprod"), 128)), "f").definition
    sums = len(re.findall(r"vfmaq_f32\(vld1q_f32\(&?offset_at", text))
    assert sums == len(re.findall(r"vfmaq_f32", text)) > 4 and "vsubq_f32" not in text
    assert len(re.findall(r"EDGECC_RELOAD\(offset_at", text)) == len(re.findall(r"edgecc_store_low", text))


@pytest.mark.parametrize(("target", "options"), [
    ("cortex-a55", {}), ("x86-64-v3", {}), ("cortex-a76", {"bias": False}), ("cortex-a76", {"constants": (1, 2)}),
    ("cortex-a76", {"constants": (1, 3)}), ("cortex-a76", {"largest": 1e-30}),
], ids=["in order", "other machines", "no bias", "scales of the run", "bias of the run", "scales next to nothing"])
def test_others_subtract(target, options):
    assert not request_of(target, **options)[0].fused_scale


def test_scales_of_rows_are_none_of_channels():
    op, arrays = layer(channels=13)
    arrays[3] = arrays[3].reshape(13, 1)
    request = kernels.request_for(op, arrays, "cortex-a76", constants=(1, 2, 3))
    assert request.known_sums and not request.fused_scale
    kernels.check(request, arrays)
