"""Derives the polynomials of edgecc/loop/math*.py: run it to print every table that stands there.

    python benches/minimax.py [NAME ...]

A table is the polynomial p that minimises the largest weighted error |(f(x) - a(x) - b(x) p(t(x))) w(x)|
over an interval, found by the Remez exchange algorithm (E. Ya. Remez, 1934; see N. J. Higham, Accuracy
and Stability of Numerical Algorithms, for the error model) in extended precision. Coefficients are
then rounded to float one after the other, lowest power first, and the rest is fitted again each time,
so that later coefficients make up for the rounding of earlier ones.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Real = np.longdouble
Function = Callable[[np.ndarray], np.ndarray]


def _one(x: np.ndarray) -> np.ndarray:
    return np.ones_like(x)


@dataclass(frozen=True)
class Table:
    """One approximation: f(x) ~ a(x) + b(x) p(t(x)), p of `terms` coefficients, error weighted by 1 / scale(x)."""

    name: str
    low: float
    high: float
    terms: int
    f: Function
    a: Function
    b: Function
    t: Function
    scale: Function = _one
    double: bool = False


def solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Gaussian elimination with pivoting (numpy's solver has no extended precision)."""
    m = np.concatenate([matrix, right[:, None]], axis=1)
    n = len(m)
    for column in range(n):
        pivot = column + int(np.argmax(np.abs(m[column:, column])))
        m[[column, pivot]] = m[[pivot, column]]
        m[column] /= m[column, column]
        for row in range(n):
            if row != column:
                m[row] -= m[row, column] * m[column]
    return m[:, -1]


def remez(table: Table, fixed: list[Real]) -> tuple[list[Real], float]:
    """The best polynomial whose first coefficients are `fixed`, and its largest weighted error."""
    grid = (np.cos(np.linspace(np.pi, 0, 6001, dtype=Real)) + 1) / 2 * Real(table.high - table.low) + Real(table.low)
    weight = 1 / table.scale(grid)
    t, b = table.t(grid), table.b(grid) * weight
    goal = (table.f(grid) - table.a(grid)) * weight
    for power, coefficient in enumerate(fixed):
        goal = goal - b * coefficient * t**power
    free = table.terms - len(fixed)
    basis = np.stack([b * t**(len(fixed) + k) for k in range(free)], axis=1)
    useful = np.flatnonzero(np.abs(basis[:, 0]) > 0)
    picks = useful[np.linspace(0, len(useful) - 1, free + 1).astype(int)]
    coefficients = np.zeros(free, Real)
    for _ in range(60):
        signs = np.array([(-1) ** k for k in range(free + 1)], Real)
        solution = solve(np.concatenate([basis[picks], signs[:, None]], axis=1).astype(Real), goal[picks])
        coefficients, level = solution[:-1], abs(float(solution[-1]))
        error = goal - basis @ coefficients
        fresh = _extrema(error, free + 1)
        if fresh is None or float(np.max(np.abs(error))) <= level * (1 + 1e-6):
            break
        picks = fresh
    return [*fixed, *coefficients], float(np.max(np.abs(goal - basis @ coefficients)))


def _extrema(error: np.ndarray, wanted: int) -> np.ndarray | None:
    """Positions of `wanted` alternating extrema that include the largest."""
    runs: list[int] = []
    for position in range(len(error)):
        if error[position] == 0:
            continue
        if runs and (error[position] > 0) == (error[runs[-1]] > 0):
            if abs(error[position]) > abs(error[runs[-1]]):
                runs[-1] = position
        else:
            runs.append(position)
    while len(runs) > wanted:
        weakest = min(range(len(runs)), key=lambda k: abs(error[runs[k]]))
        if weakest in (0, len(runs) - 1) or len(runs) == wanted + 1:
            runs.pop(0 if abs(error[runs[0]]) < abs(error[runs[-1]]) else -1)
        else:  # its neighbours have the same sign: the larger one stays for both
            other = min(weakest - 1, weakest + 1, key=lambda k: abs(error[runs[k]]))
            for k in sorted((weakest, other), reverse=True):
                runs.pop(k)
    return np.array(runs) if len(runs) == wanted else None


def derive(table: Table) -> tuple[list[float], float, float]:
    """Rounded coefficients, their error, and the error before rounding."""
    fixed: list[Real] = []
    coefficients, ideal = remez(table, fixed)
    for power in range(table.terms):
        if power:
            coefficients, _ = remez(table, fixed)
        held = np.float64(coefficients[power]) if table.double else np.float32(coefficients[power])
        fixed.append(Real(held))
    grid = np.linspace(table.low, table.high, 200001).astype(Real)
    p = sum(c * table.t(grid) ** k for k, c in enumerate(fixed))
    error = (table.f(grid) - table.a(grid) - table.b(grid) * p) / table.scale(grid)
    return [float(c) for c in fixed], float(np.nanmax(np.abs(error))), ideal


def _vector(function: Callable[[float], float]) -> Function:
    return lambda x: np.array([function(float(v)) for v in x], Real)


def _x(x: np.ndarray) -> np.ndarray:
    return x


def _square(x: np.ndarray) -> np.ndarray:
    return x * x


def _zero(x: np.ndarray) -> np.ndarray:
    return np.zeros_like(x)


LN2_HALF = math.log(2) / 2
SQRT2 = math.sqrt(2)
ERF_LIMIT = 0.8125
TINY = 1e-3
"""Where an odd function is divided by its argument, the interval starts here: 0/0 is not wanted."""

TABLES = (
    Table("exp", -LN2_HALF - 1e-3, LN2_HALF + 1e-3, 5, np.exp, lambda x: 1 + x, _square, _x, np.exp),
    Table("exp2", -0.501, 0.501, 6, np.exp2, _one, _x, _x, np.exp2),
    Table("log", 1 / SQRT2 - 1, SQRT2 - 1, 9, np.log1p, lambda f: f - f * f / 2, lambda f: f**3, _x,
          lambda f: np.abs(np.log1p(f)) + Real(1e-9)),
    Table("atanh_tail", TINY, (SQRT2 - 1) / (SQRT2 + 1) + 1e-3, 4, lambda s: np.arctanh(s) / s, lambda s: 1 + s**2 / 3,
          lambda s: s**4, _square, lambda s: s**4),
    Table("erf_small", TINY, ERF_LIMIT, 6, _vector(math.erf), _x, _x, _square, _vector(math.erf)),
    Table("erf_large", ERF_LIMIT, 4.0, 6, _vector(lambda x: math.log2(math.erfc(x))), _zero, _x, _x,
          _vector(lambda x: math.erf(x) / math.erfc(x) / math.log(2))),
    Table("tanh", TINY, 0.625, 6, np.tanh, _x, lambda x: x**3, _square, np.tanh),
    Table("sin", TINY, math.pi / 4 + 1e-3, 4, np.sin, _x, lambda x: x**3, _square, np.sin),
    Table("cos", 0, math.pi / 4 + 1e-3, 4, np.cos, lambda x: 1 - x * x / 2, lambda x: x**4, _square, np.cos),
    Table("asin", TINY, 0.5, 5, np.arcsin, _x, lambda x: x**3, _square, np.arcsin),
    Table("atan", TINY, 1.0, 9, np.arctan, _x, lambda x: x**3, _square, np.arctan),
    Table("sinh", TINY, 1.0, 4, np.sinh, _x, lambda x: x**3, _square, np.sinh),
)


ERF_STEP, ERF_PLACES, ERF_DEGREE, ERF_LAST = 33 / 128, 16, 5, 3.972


def fitted(f: Function, low: float, high: float, powers: tuple[int, ...]) -> list[float]:
    """Coefficients of the `powers` of u with the least squares of relative error at Chebyshev's nodes, each rounded to float before the next.

    In double precision: pieces this short need no exchange of extrema, and the rounding of what is looked up outweighs the difference.
    """
    u = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(400) + 0.5) / 400)
    rest, weight = f(u).astype(np.float64), 1 / np.abs(f(u)).astype(np.float64)
    found: list[float] = []
    for done, power in enumerate(powers):
        basis = np.stack([u**other for other in powers[done:]], axis=1) * weight[:, None]
        scale = np.abs(basis).max(axis=0)
        best = np.linalg.lstsq(basis / scale, rest * weight, rcond=1e-15)[0] / scale
        found.append(float(np.float32(best[0])))
        rest = rest - found[-1] * u**power
    return found


def erf_table() -> list[list[float]]:
    """Row k: the coefficients of u^k of erf(i ERF_STEP + u) for every i; with i = 0, of the odd function erf(u) - u."""
    erf, columns = _vector(math.erf), []
    for place in range(ERF_PLACES):
        centre, high = place * ERF_STEP, ERF_STEP / 2 + 1e-4
        if place == 0:
            odd = tuple(range(1, ERF_DEGREE + 1, 2))
            known = dict(zip(odd, fitted(lambda u: erf(u) - u, -high, high, odd), strict=True))
            columns.append([known.get(power, 0.0) for power in range(ERF_DEGREE + 1)])
            continue
        last = ERF_LAST - centre if place == ERF_PLACES - 1 else high
        columns.append(fitted(lambda u, c=centre: erf(u + c), -high, last, tuple(range(ERF_DEGREE + 1))))
    return [list(row) for row in zip(*columns, strict=True)]


def main(names: list[str]) -> None:
    """Prints the tables asked for, or all."""
    if not names or "exp_sixteenth" in names:
        half = LN2_HALF / 16 + 1e-4
        pair = fitted(lambda r: (np.expm1(r) - r) / (r * r), -half, half, (0, 1))
        print(f"exp_sixteenth:\n    ({', '.join(str(np.float32(c)) for c in pair)})")
    if not names or "erf_table" in names:
        print("erf_table:", *(f"    ({', '.join(str(np.float32(c)) for c in row)})" for row in erf_table()), sep="\n")
    for table in TABLES:
        if names and table.name not in names:
            continue
        coefficients, error, ideal = derive(table)
        print(f"{table.name}: error {error:.3g} = 2^{math.log2(error):.2f} (before rounding 2^{math.log2(ideal):.2f})")
        shown = [repr(c) if table.double else str(np.float32(c)) for c in coefficients]
        print(f"    ({', '.join(shown)})")


if __name__ == "__main__":
    main(sys.argv[1:])
