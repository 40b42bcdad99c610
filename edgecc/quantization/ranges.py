"""From a histogram to the range that is quantized: what to keep and what to clip.

minmax      everything that was seen.
percentile  the given share of all elements; Wu et al., "Integer quantization for deep learning inference", 2020, 3.3.
entropy     the threshold whose quantized distribution has the least Kullback-Leibler divergence from what was observed, among those that cost
            no more than keeping everything, as "mse" counts; after Migacz, "8-bit inference with TensorRT", 2017, who knows no such
            bound, and takes the divergence from the clipped distribution, which counts what is clipped off as if it were kept at the
            threshold. Either asks how often something is clipped, not how far it was, and clips until sums far behind show it.
mse         the range with the least expected squared error of rounding and clipping together, that of clipping weighted; Banner et
            al., "Post training 4-bit quantization of convolutional networks", 2019, by search instead of their closed form.
"""

from __future__ import annotations

import numpy as np

from edgecc.ir.types import Array
from edgecc.quantization.scheme import IntegerType, Parameters, Scheme, parameters_of
from edgecc.quantization.statistics import BINS, Histogram

CANDIDATES = 96
"""Ranges that the search of "mse" tries for each end in a round."""

ENTROPY_LEVELS = 128
"""Levels of one sign that "entropy" quantizes to at least, as in its source. With a zero point a range that lies on one side has all of them."""

CLIPPING_WEIGHT = 8.0
"""What a squared error of clipping counts for "mse" beside one of rounding. Errors of rounding have either sign and cancel in the sums
behind; those of clipping have one, sit in few channels and at neighbouring positions, and add up."""


def choose(histogram: Histogram, scheme: Scheme, integer: IntegerType, *, symmetric: bool | None = None) -> Parameters:
    """The parameters of a value with this histogram."""
    symmetric = scheme.symmetric if symmetric is None else symmetric
    low, high = histogram.lowest, histogram.highest
    if histogram.counts.sum() > 0 and high > low:
        match scheme.method:
            case "percentile":
                low, high = _percentile(histogram, scheme.percentile)
            case "entropy":
                low, high = _entropy(histogram, integer, symmetric=symmetric)
            case "mse":
                low, high = _least_squares(histogram, integer, symmetric=symmetric)
    return parameters_of(low, high, integer, symmetric=symmetric)


def errors(histogram: Histogram, parameters: Parameters) -> tuple[float, float]:
    """Expected squared errors of rounding and of clipping of an element, by the histogram's bins.

    Within the range an error is uniform over a step (scale^2 / 12), outside it is the distance to the range.
    """
    total = histogram.counts.sum()
    if not total:
        return 0.0, 0.0
    low, high = parameters.range
    half = parameters.scale / 2
    centres = histogram.centres
    outside = np.where(centres < low - half, low - centres, np.where(centres > high + half, centres - high, 0.0))
    clipped = outside > 0
    rounding = float(histogram.counts[~clipped].sum()) * parameters.scale**2 / 12
    return rounding / float(total), float((histogram.counts * outside**2).sum() / total)


def _cost(histogram: Histogram, ends: tuple[float, float], integer: IntegerType, *, symmetric: bool) -> float:
    """The expected squared error of a range, with that of clipping weighted."""
    rounding, clipping = errors(histogram, parameters_of(*ends, integer, symmetric=symmetric))
    return rounding + CLIPPING_WEIGHT * clipping


def _percentile(histogram: Histogram, percent: float) -> tuple[float, float]:
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    tail = (100.0 - percent) / 100.0
    if histogram.lowest >= 0:
        return 0.0, histogram.lowest + histogram.width * float(np.searchsorted(share, 1.0 - tail) + 1)
    low = histogram.lowest + histogram.width * float(np.searchsorted(share, tail, side="right"))
    high = histogram.lowest + histogram.width * float(np.searchsorted(share, 1.0 - tail) + 1)
    return min(low, 0.0), max(min(high, histogram.highest), 0.0)


def _entropy(histogram: Histogram, integer: IntegerType, *, symmetric: bool) -> tuple[float, float]:
    """The best threshold on magnitudes; a side with nothing beyond it keeps its own end."""
    magnitudes = _magnitudes(histogram)
    limit = max(abs(histogram.lowest), abs(histogram.highest))
    share = 0.5 if symmetric else limit / (histogram.highest - histogram.lowest)
    levels = max(ENTROPY_LEVELS, int(share * (integer.highest - integer.lowest)))
    kept = [(bins, (max(histogram.lowest, -limit * bins / BINS), min(histogram.highest, limit * bins / BINS)))
            for bins in (*range(levels, BINS, 8), BINS)]
    most = _cost(histogram, kept[-1][1], integer, symmetric=symmetric)
    return min((_divergence(magnitudes, bins, levels), ends) for bins, ends in kept
               if _cost(histogram, ends, integer, symmetric=symmetric) <= most)[1]


def _magnitudes(histogram: Histogram) -> Array:
    """The histogram of absolute values, `BINS` bins from 0 to the largest."""
    limit = max(abs(histogram.lowest), abs(histogram.highest))
    bins = np.minimum((np.abs(histogram.centres) / limit * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, weights=histogram.counts, minlength=BINS)
    # Zeros are held exactly by any scale. Behind a Relu there are so many that nothing else would count.
    counts[0] = counts[1]
    return counts


def _divergence(magnitudes: Array, kept: int, levels: int) -> float:
    """Divergence of what so many levels hold of the first `kept` bins from all bins."""
    level = np.arange(kept) * levels // kept
    filled = magnitudes[:kept] > 0
    sums = np.bincount(level, weights=magnitudes[:kept], minlength=levels)
    places = np.bincount(level, weights=filled.astype(np.float64), minlength=levels)
    held = np.zeros(magnitudes.size)
    held[:kept] = np.where(filled, sums[level] / np.maximum(places[level], 1), 0.0)
    total, quantized = magnitudes.sum(), held.sum()
    if not total or not quantized:
        return float(np.inf)
    p, q = magnitudes / total, held / quantized
    both = p > 0
    # Where nothing is held but something is wanted, a small probability stands in, as in the source.
    return float((p[both] * np.log(p[both] / np.maximum(q[both], 1e-9))).sum())


def _least_squares(histogram: Histogram, integer: IntegerType, *, symmetric: bool) -> tuple[float, float]:
    """Searches both ends in turn; the error is convex enough for two rounds to settle."""
    low, high = histogram.lowest, histogram.highest
    shares = np.linspace(1.0, 1.0 / CANDIDATES, CANDIDATES)

    def error(candidate: tuple[float, float]) -> float:
        return _cost(histogram, candidate, integer, symmetric=symmetric)

    if symmetric and integer.lowest < 0:
        limit = max(-low, high)
        return min(((-limit * s, limit * s) for s in shares), key=error)
    best = (low, high)
    for _ in range(2):
        best = min([best, *((best[0], high * s) for s in shares)], key=error) if high > 0 else best
        best = min([best, *((low * s, best[1]) for s in shares)], key=error) if low < 0 else best
    return best
