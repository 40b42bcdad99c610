"""The transforms of Winograd's minimal filtering F(m, r): m outputs of a filter of r taps with m + r - 1 products.

    y = A^T ((G g) * (B^T d)),   d: m + r - 1 inputs, g: r taps, y_k = sum_t d_(k+t) g_t

The matrices follow from Toom and Cook's scheme: a product of polynomials is interpolated from its values at the points
0, +-p, +-q, ... and infinity (A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016; S.
Winograd, "Arithmetic Complexity of Computations", 1980). They are exact here. For a pair of points +-p, the rows of B^T
and the columns of A^T agree in the even powers and differ in the sign of the odd ones, so even and odd parts are
computed once for both.

A filter with fewer outputs can use the first points of a larger one. Then it multiplies by the same transformed weights:
the rows of G agree up to factors, which go into B^T.

Rounding errors depend on the points alone (B. Barabasz et al., "Error analysis and improving the accuracy of Winograd
convolution for deep neural networks", ACM TOMS 46, 2020). Those of F(3, 3), F(4, 3), F(2, 2), F(4, 2) and F(4, 4) were found by
search over multiples of 1/8 and 1/4: the errors of F(4, 3) are a quarter of those of 0, +-1, +-2.

In integers there are none: with integer points, and weights multiplied by what makes integers of G, every step is exact modulo 2^32,
and so are the results, that many times too large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from edgecc.loop.builder import add, fma, mul, operation, sub
from edgecc.loop.ir import Expr

Matrix = tuple[tuple[Fraction, ...], ...]
Bind = Callable[[Expr], Expr]
"""Binds the value of an expression that is used more than once."""

Term = tuple[Fraction, Expr | None]


def _pairs(*positive: Fraction, last: tuple[Fraction, ...] = ()) -> tuple[Fraction, ...]:
    return (Fraction(0), *(sign * p for p in positive for sign in (1, -1)), *last)


POINTS: Mapping[tuple[int, int], tuple[Fraction, ...]] = MappingProxyType({
    (2, 3): _pairs(Fraction(1)),
    (3, 3): _pairs(Fraction(3, 4), last=(Fraction(2),)),
    (4, 3): _pairs(Fraction(3, 4), Fraction(3, 2)),
    (6, 3): _pairs(Fraction(1, 2), Fraction(1), Fraction(2)),
    (2, 2): (Fraction(0), Fraction(-1)),
    (4, 2): _pairs(Fraction(1), last=(Fraction(1, 2),)),
    (4, 4): _pairs(Fraction(1, 2), Fraction(1), last=(Fraction(2),)),
})
"""The finite points of F(m, r), for each (m, r). Their powers are exact in float32."""

INTEGER_FILTERS: Mapping[tuple[int, int], tuple[tuple[Fraction, ...], int, int]] = MappingProxyType({
    (2, 3): (_pairs(Fraction(1)), 2, 1), (3, 3): (_pairs(Fraction(1), last=(Fraction(2),)), 6, 1), (4, 3): (_pairs(Fraction(1), Fraction(2)), 24, 2),
    (2, 2): ((Fraction(0), Fraction(-1)), 1, 1), (3, 2): (_pairs(Fraction(1)), 2, 1), (4, 2): (_pairs(Fraction(1), last=(Fraction(2),)), 6, 1)})
"""For each (m, r) the points of F(m, r) in integers, `MinimalFilter.multiple` and `MinimalFilter.infinity`, with which G consists of
integers whose rows add up to at most 12."""


def filter_of(m: int, widest: int, taps: int, *, integers: bool) -> MinimalFilter:
    """F(m, taps) on the points of F(widest, taps)."""
    if not integers:
        return MinimalFilter(m, taps, POINTS[widest, taps])
    return MinimalFilter(m, taps, *INTEGER_FILTERS[widest, taps])


@dataclass(frozen=True)
class MinimalFilter:
    """F(m, taps) on the first of `points`; the weights are transformed for all of `points` and infinity.

    Attributes:
        multiple: what the weights, and so the results, are multiplied with.
        infinity: what A^T multiplies the product at infinity with, by which the weights there are smaller.
    """

    m: int
    taps: int
    points: tuple[Fraction, ...]
    multiple: int = 1
    infinity: int = 1

    @property
    def used(self) -> tuple[Fraction, ...]:
        """The finite points of this filter; infinity comes after them."""
        return self.points[:self.m + self.taps - 2]

    @property
    def inputs(self) -> int:
        """Number of inputs, and of products."""
        return self.m + self.taps - 1

    def scale(self, point: Fraction) -> Fraction:
        """The factor of the row of B^T of a point, because weights were divided by its distance from points not used too."""
        out = Fraction(1)
        for other in self.points[len(self.used):]:
            out *= point - other
        return out


def input_matrix(f: MinimalFilter) -> Matrix:
    """B^T, [inputs, inputs]: row i holds the coefficients of the polynomial that is zero at all finite points but point i."""
    rows = []
    for p in f.used:
        roots = _with_roots([q for q in f.used if q != p])
        rows.append((*(f.scale(p) * c for c in roots), Fraction(0)))
    return (*rows, _with_roots(f.used))


def largest_gain(f: MinimalFilter) -> Fraction:
    """How much larger than the inputs the values that are multiplied can be."""
    return max(sum((abs(c) for c in row), Fraction(0)) for row in input_matrix(f))


def weight_matrix(f: MinimalFilter) -> Matrix:
    """G, [points + 1, taps]: values of the filter's polynomial at the points, over what row i of B^T is worth at point i."""
    rows = []
    for p in f.points:
        norm = Fraction(1)
        for q in f.points:
            norm *= p - q if q != p else 1
        rows.append(tuple(f.multiple * p**k / norm for k in range(f.taps)))
    return (*rows, tuple(Fraction(f.multiple * (k == f.taps - 1), f.infinity) for k in range(f.taps)))


def output_matrix(f: MinimalFilter) -> Matrix:
    """A^T, [m, inputs]: the powers of the points, and the leading coefficient for infinity."""
    return tuple((*(p**k for p in f.used), Fraction(f.infinity * (k == f.m - 1))) for k in range(f.m))


def transform_input(f: MinimalFilter, d: Sequence[Expr | None], bind: Bind) -> list[Expr | None]:
    """B^T d; None stands for zero."""
    out: list[Expr | None] = []
    for p, paired in _by_pairs(f.used):
        rest = _with_roots([q for q in f.used if abs(q) != abs(p) or (not paired and q != p)])
        if not paired:
            out.append(combination([(f.scale(p) * c, x) for c, x in zip(rest, d, strict=False)]))
            continue
        even = _bound(combination(zip((Fraction(0), *rest), d, strict=False)), bind)
        odd = _bound(combination(zip(rest, d, strict=False)), bind)
        out += [combination(((scale, even), (scale * q, odd))) for q, scale in ((p, f.scale(p)), (-p, f.scale(-p)))]
    return [*out, combination(zip(_with_roots(f.used), d, strict=True))]


def output_terms(f: MinimalFilter, products: Sequence[Expr], bind: Bind) -> list[list[Term]]:
    """A^T products: the terms of each of the m sums."""
    one, pairs = Fraction(1), _by_pairs(f.used)
    out: list[list[Term]] = []
    places = [sum(2 if paired else 1 for _, paired in pairs[:i]) for i in range(len(pairs))]
    both = {i: (products[i], products[i + 1]) for i, (_, paired) in zip(places, pairs, strict=True) if paired}
    even = {i: bind(add(a, b)) for i, (a, b) in both.items()}
    odd = {i: bind(sub(a, b)) for i, (a, b) in both.items()} if f.m > 1 else {}
    for k in range(f.m):
        terms: list[Term] = [*([(one, products[0])] * (k == 0)), *([(Fraction(f.infinity), products[-1])] * (k == f.m - 1))]
        for i, (p, paired) in zip(places, pairs, strict=True):
            if p:
                terms.append((p**k, (odd if k % 2 else even)[i] if paired else products[i]))
        out.append(terms)
    return out


def combination(terms: Iterable[Term]) -> Expr | None:
    """The sum of factor * value, with as few operations as fused multiply-adds allow; None where nothing is left."""
    present = [(factor, value) for factor, value in terms if factor and value is not None]
    present.sort(key=lambda term: term[0] != 1)
    total: Expr | None = None
    for factor, value in present:
        if total is None:
            total = value if factor == 1 else _times(value, factor)
        elif abs(factor) == 1:
            total = add(total, value) if factor == 1 else sub(total, value)
        elif value.dtype.is_float:
            total = fma(value, float(factor), total)
        else:
            total = add(total, _times(value, factor)) if factor > 0 else sub(total, _times(value, -factor))
    return total


def _times(value: Expr, factor: Fraction) -> Expr:
    """The product with a known number; of integers by shifts, where it is a power of two or the next number."""
    if value.dtype.is_float:
        return mul(value, float(factor))
    number = int(factor)
    for rest in (0, 1):
        shift = (number - rest).bit_length() - 1
        if shift > 0 and number - rest == 1 << shift:
            shifted = operation("shift_left", value, shift)
            return add(shifted, value) if rest else shifted
    return mul(value, number)


def _by_pairs(points: Sequence[Fraction]) -> list[tuple[Fraction, bool]]:
    """The points in order, each with its negative where that comes next (then True) or alone."""
    out: list[tuple[Fraction, bool]] = []
    for i, p in enumerate(points):
        if out and out[-1] == (-p, True):
            continue
        out.append((p, p != 0 and i + 1 < len(points) and points[i + 1] == -p))
    return out


def _with_roots(roots: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Coefficients, lowest first, of the product of x - r over all roots."""
    out = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *out], [*(root * c for c in out), Fraction(0)]
        out = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return tuple(out)


def _bound(value: Expr | None, bind: Bind) -> Expr | None:
    return None if value is None else bind(value)
