"""The transforms of Winograd's minimal filtering F(m, 3): m outputs of a filter of three taps with m + 2 products.

    y = A^T ((G g) * (B^T d)),   d: m + 2 inputs, g: 3 taps, y_k = sum_t d_(k+t) g_t

The matrices follow from Toom and Cook's scheme: a product of polynomials is interpolated from its values at the points
0, +-p, +-q, ... and infinity (A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016; S.
Winograd, "Arithmetic Complexity of Computations", 1980). They are exact here. For a pair of points +-p, the rows of B^T
and the columns of A^T agree in the even powers and differ in the sign of the odd ones, so even and odd parts are
computed once for both.

Rounding errors depend on the points alone (B. Barabasz et al., "Error analysis and improving the accuracy of Winograd
convolution for deep neural networks", ACM TOMS 46, 2020). Those of F(4, 3) were found by search over multiples of 1/8:
their errors are a quarter of those of 0, +-1, +-2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType

from edgecc.loop.builder import add, fma, mul, sub
from edgecc.loop.ir import Expr

TAPS = 3
"""Taps of the filter along one axis."""

PAIRS: Mapping[int, tuple[Fraction, ...]] = MappingProxyType({
    2: (Fraction(1),),
    4: (Fraction(3, 4), Fraction(3, 2)),
    6: (Fraction(1, 2), Fraction(1), Fraction(2)),
})
"""For each m the positive points; the others are their negatives, 0 and infinity. Their powers are exact in float32."""

Matrix = tuple[tuple[Fraction, ...], ...]
Bind = Callable[[Expr], Expr]
"""Binds the value of an expression that is used more than once."""


def points(m: int) -> tuple[Fraction, ...]:
    """The finite points in the order of the rows of B^T: 0, p, -p, q, -q, ...; infinity comes last."""
    return (Fraction(0), *(sign * p for p in PAIRS[m] for sign in (1, -1)))


def input_matrix(m: int) -> Matrix:
    """B^T, [m + 2, m + 2]: row i holds the coefficients of the polynomial that is zero at all finite points but point i."""
    finite = points(m)
    rows = [(*_with_roots([q for q in finite if q != p]), Fraction(0)) for p in finite]
    return (*rows, _with_roots(finite))


def weight_matrix(m: int) -> Matrix:
    """G, [m + 2, 3]: values of the filter's polynomial at the points, over what row i of B^T is worth at point i."""
    finite = points(m)
    rows = []
    for p in finite:
        norm = Fraction(1)
        for q in finite:
            norm *= p - q if q != p else 1
        rows.append(tuple(p**k / norm for k in range(TAPS)))
    return (*rows, (Fraction(0), Fraction(0), Fraction(1)))


def output_matrix(m: int) -> Matrix:
    """A^T, [m, m + 2]: the powers of the points, and the leading coefficient for infinity."""
    return tuple((*(p**k for p in points(m)), Fraction(int(k == m - 1))) for k in range(m))


def transform_input(m: int, d: Sequence[Expr | None], bind: Bind) -> list[Expr | None]:
    """B^T d for m + 2 values; None stands for zero."""
    squares = [p * p for p in PAIRS[m]]
    product = _with_roots(squares)
    out = [_combination(zip(product, d[0::2], strict=True))]
    for p in PAIRS[m]:
        others = _with_roots([s for s in squares if s != p * p])
        even = _bound(_combination(zip(others, d[2::2], strict=True)), bind)
        odd = _bound(_combination(zip(others, d[1:-1:2], strict=True)), bind)
        out += [_combination(((Fraction(1), even), (p, odd))), _combination(((Fraction(1), even), (-p, odd)))]
    return [*out, _combination(zip(product, d[1::2], strict=True))]


def transform_output(m: int, products: Sequence[Expr], bias: Expr | None, bind: Bind) -> list[Expr]:
    """A^T products + bias for m + 2 values."""
    one = Fraction(1)
    sums = [_bound(add(a, b), bind) for a, b in zip(products[1:-1:2], products[2:-1:2], strict=True)]
    differences = [_bound(sub(a, b), bind) for a, b in zip(products[1:-1:2], products[2:-1:2], strict=True)]
    out = []
    for k in range(m):
        ends = [(one, products[0])] * (k == 0) + [(one, products[-1])] * (k == m - 1)
        middle = zip((p**k for p in PAIRS[m]), differences if k % 2 else sums, strict=True)
        total = _combination([*ends, *middle, (one, bias)])
        if total is None:
            raise ValueError(f"F({m}, {TAPS}) has no products")
        out.append(total)
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


def _combination(terms: Sequence[tuple[Fraction, Expr | None]] | zip[tuple[Fraction, Expr | None]]) -> Expr | None:
    """The sum of factor * value, with as few operations as fused multiply-adds allow; None where nothing is left."""
    present = [(factor, value) for factor, value in terms if factor and value is not None]
    present.sort(key=lambda term: term[0] != 1)
    total: Expr | None = None
    for factor, value in present:
        if total is None:
            total = value if factor == 1 else mul(value, float(factor))
        elif abs(factor) == 1:
            total = add(total, value) if factor == 1 else sub(total, value)
        else:
            total = fma(value, float(factor), total)
    return total
