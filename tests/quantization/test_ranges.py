"""From histograms to ranges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.quantization.ranges import CLIPPING_WEIGHT, choose, errors
from edgecc.quantization.scheme import METHODS, TYPES, Scheme, parameters_of
from edgecc.quantization.statistics import ChannelMean, Extent, Histogram

INT8 = TYPES["int8"]


def histogram_of(values):
    extent = Extent()
    extent.add(values)
    histogram = Histogram(*extent.range)
    histogram.add(values)
    return histogram


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.sampled_from(["normal", "laplace", "relu", "constant", "outlier"]), st.sampled_from(METHODS), st.booleans())
def test_every_method_gives_a_usable_range(seed, kind, method, symmetric):
    values = sample(kind, seed)
    p = choose(histogram_of(values), Scheme(method=method, symmetric=symmetric), INT8)
    low, high = p.range
    assert np.isfinite([low, high]).all() and low <= 0 <= high and p.scale > 0
    # No method keeps more than was seen (a step more where zero is put on the grid).
    assert symmetric or (low >= min(values.min(), 0) - p.scale and high <= max(values.max(), 0) + p.scale) or kind == "constant"


def sample(kind, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(4000)
    match kind:
        case "laplace":
            values = rng.laplace(size=4000)
        case "relu":
            values = np.maximum(values, 0)
        case "constant":
            values = np.full(100, rng.standard_normal())
        case "outlier":
            values[0] = 40
    return values.astype(np.float32)


def test_minmax_keeps_everything():
    values = sample("outlier", 0)
    p = choose(histogram_of(values), Scheme(method="minmax"), INT8)
    assert p == parameters_of(values.min(), values.max(), INT8)


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse"])
def test_others_clip_an_outlier(method):
    values = np.concatenate([sample("normal", s) for s in range(40)] + [np.array([40], np.float32)])
    p = choose(histogram_of(values), Scheme(method=method, percentile=99.9), INT8)
    # One element of 160,000 is worth some of its distance to the least squares, which bound "entropy" too, and nothing to a percentile.
    assert p.range[1] < (25 if method == "percentile" else 39), "the one large element is clipped"
    assert p.range[1] > 2, "and the others are not"


def test_entropy_clips_nothing_where_there_are_more_levels_than_bins():
    histogram = histogram_of(sample("outlier", 3))
    assert choose(histogram, Scheme(method="entropy"), TYPES["int16"]) == choose(histogram, Scheme(method="minmax"), TYPES["int16"])


def test_large_arrays_are_counted_whole():
    values = np.random.default_rng(0).uniform(-1, 1, 100_003).astype(np.float32)
    values[7] = np.nan
    assert histogram_of(values).counts.sum() == 100_002
    np.testing.assert_allclose(histogram_of(values).counts, 100_002 / 2048, atol=60)


def test_a_percentile_of_a_one_sided_distribution_is_all_on_its_side():
    values = np.linspace(0, 1, 100_001, dtype=np.float32)
    low, high = choose(histogram_of(values), Scheme(method="percentile", percentile=99.0), INT8).range
    assert low == 0 and high == pytest.approx(0.99, abs=2e-3)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.5, 4.0))
def test_expected_errors_are_those_found(seed, limit):
    values = np.random.default_rng(seed).standard_normal(200_000).astype(np.float32)
    p = parameters_of(-limit, limit, INT8)
    rounding, clipping = errors(histogram_of(values), p)
    found = float(((p.round_trip(values) - values) ** 2).mean())
    assert rounding + clipping == pytest.approx(found, rel=0.05)


def test_mse_is_no_worse_than_any_other_method():
    for seed in range(5):
        histogram = histogram_of(np.random.default_rng(seed).laplace(size=50_000).astype(np.float32))
        found = {m: errors(histogram, choose(histogram, Scheme(method=m), INT8)) for m in METHODS}
        total = {m: rounding + CLIPPING_WEIGHT * clipping for m, (rounding, clipping) in found.items()}
        assert total["mse"] <= min(total.values()) * (1 + 1e-9)


def test_entropy_costs_no_more_than_keeping_everything():
    """Most elements of a Hardswish lie within a hundredth of its range, and divergence alone would keep these."""
    inputs = np.random.default_rng(0).laplace(size=50_000) * 1.5 + np.where(np.arange(50_000) % 100, 0, 6)
    values = (inputs * np.clip(inputs + 3, 0, 6) / 6).astype(np.float32)
    histogram = histogram_of(values)
    for symmetric in (False, True):
        cost = {method: rounding + CLIPPING_WEIGHT * clipping for method in ("entropy", "minmax")
                for rounding, clipping in [errors(histogram, choose(histogram, Scheme(method=method, symmetric=symmetric), INT8))]}
        assert cost["entropy"] <= cost["minmax"] * (1 + 1e-9)


@pytest.mark.parametrize("method", ["mse", "entropy"])
def test_a_tail_that_carries_much_of_the_sum_is_kept(method):
    """Of a Relu behind a few strong channels: one of ten thousand elements, each twenty times as large as the others and more."""
    rng = np.random.default_rng(3)
    values = np.maximum(rng.standard_normal(400_000), 0)
    values[::10_000] = rng.uniform(20, 30, 40)
    p = choose(histogram_of(values.astype(np.float32)), Scheme(method=method), INT8)
    assert p.range[1] > 28.5


def test_values_that_are_not_finite_are_left_out():
    values = np.array([1.0, np.nan, -2.0, np.inf], np.float32)
    extent = Extent()
    extent.add(values)
    assert extent.range == (-2.0, 1.0)
    histogram = Histogram(*extent.range)
    histogram.add(values)
    assert histogram.counts.sum() == 2
    extent = Extent()
    extent.add(np.array([np.nan], np.float32))
    assert extent.range == (0.0, 0.0)


def test_means_by_channel():
    rng = np.random.default_rng(0)
    for shape, axis in (((2, 3, 4, 5), 1), ((4, 6), 1), ((2, 3, 7), 1)):
        arrays = [rng.standard_normal(shape).astype(np.float32) for _ in range(3)]
        mean = ChannelMean()
        for array in arrays:
            mean.add(array)
        others = tuple(a for a in range(len(shape)) if a != axis)
        np.testing.assert_allclose(mean.mean, np.mean([a.mean(axis=others) for a in arrays], axis=0), rtol=1e-6, atol=1e-7)
