"""Dimensions known only at run time: polynomials over named, bounded sizes.

A `SymbolicDim` is a sum of products of atoms with integer coefficients; an atom is a named size of the
model's inputs (`Symbol`) or the quotient of such a sum by a number, rounded down (`Quotient`). It is
kept in one normal form, so that equal sums are equal objects; quotients of quotients are one quotient. `a == b` therefore asks whether both are
the same number for all sizes; it is false where they only may be.

Comparisons answer where the bounds decide and raise E104 otherwise, naming what to fix. Shape rules
thus read the same for plain numbers and for symbolic dimensions, and none can quietly decide what
depends on the sizes of a run.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from edgecc.errors import EdgeccError, printable

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_STEPPED = re.compile(r"(.+) by (\d+)\Z", re.DOTALL)
_ENUMERATED = 1 << 12
"""Combinations of sizes up to which bounds are exact: every one is looked at."""


@dataclass(frozen=True)
class Symbol:
    """A size of the model's inputs, from `lower` to `upper`, both inclusive. Equal names are equal numbers."""

    name: str
    lower: int
    upper: int

    def __str__(self) -> str:
        name = self.name if _IDENTIFIER.match(self.name) else json.dumps(self.name)
        return f"{name}:{self.lower}..{self.upper}"


@dataclass(frozen=True)
class Quotient:
    """`dividend` divided by a number above 1, rounded down."""

    dividend: SymbolicDim
    divisor: int

    def __str__(self) -> str:
        return f"floordiv({self.dividend}, {self.divisor})"


Atom = Symbol | Quotient
Product = tuple[Atom, ...]
Terms = dict[Product, int]


@dataclass(frozen=True)
class SymbolicDim:
    """A dimension that is no plain number: the sum of `terms`, products of atoms with a coefficient, in normal form.

    The number without atoms is the term of the empty product. Made by `symbol` and by arithmetic, never directly.
    Printed as `2*batch:1..8*length:0..64 + 1`.
    """

    terms: tuple[tuple[Product, int], ...]

    @property
    def lower(self) -> int:
        """No size makes the dimension smaller; exact for few combinations of sizes."""
        return _bounds(self)[0]

    @property
    def upper(self) -> int:
        """No size makes the dimension larger; exact for few combinations of sizes."""
        return _bounds(self)[1]

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """The sizes it depends on, by name."""
        found = {s.name: s for product, _ in self.terms for atom in product
                 for s in ((atom,) if isinstance(atom, Symbol) else atom.dividend.symbols)}
        return tuple(found[name] for name in sorted(found))

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The number for these sizes by name."""
        total = 0
        for product, coefficient in self.terms:
            total += coefficient * math.prod(
                sizes[atom.name] if isinstance(atom, Symbol) else atom.dividend.evaluate(sizes) // atom.divisor for atom in product)
        return total

    # -- arithmetic ---------------------------------------------------------------------------

    def __add__(self, other: Dim) -> Dim:
        return _normal(itertools.chain(self.terms, _terms(other)))

    def __mul__(self, other: Dim) -> Dim:
        return _normal((_joined(a, b), m * n) for a, m in self.terms for b, n in _terms(other))

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: int) -> Dim:
        return self * -1 + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        if not isinstance(other, int):
            return _exact_quotient(self, other)
        if other <= 0:
            raise _undecided(f"{self} is divided by {other}", self)
        whole = _normal((product, coefficient // other) for product, coefficient in self.terms)
        rest = self - whole * other
        if isinstance(rest, int):
            return whole + rest // other
        if rest.lower // other == rest.upper // other:
            return whole + rest.lower // other
        # floor((floor(a / m) + b) / n) = floor((a + b * m) / (m * n)): strides one after the other are one stride.
        inner, more = rest.terms[-1][0], sum(coefficient for product, coefficient in rest.terms if not product)
        if len(inner) == 1 and isinstance(inner[0], Quotient) and rest - more == SymbolicDim(((inner, 1),)):
            return whole + (inner[0].dividend + more * inner[0].divisor) // (inner[0].divisor * other)
        return whole + SymbolicDim((((Quotient(rest, other),), 1),))

    def __rfloordiv__(self, other: int) -> Dim:
        return 0 if other == 0 else _exact_quotient(SymbolicDim((((), other),)), self)

    def __mod__(self, other: Dim) -> Dim:
        return self - self // other * other

    def __rmod__(self, other: int) -> Dim:
        return other - other // self * self

    # -- questions ----------------------------------------------------------------------------

    def __lt__(self, other: Dim) -> bool:
        difference = self - other
        if isinstance(difference, int):
            return difference < 0
        if difference.upper < 0 or difference.lower >= 0:
            return difference.upper < 0
        raise _undecided(f"whether {self} is below {other} depends on the run", difference, _deciding_bound(difference))

    def __ge__(self, other: Dim) -> bool:
        return not self < other

    def __gt__(self, other: Dim) -> bool:
        return not self < other + 1

    def __le__(self, other: Dim) -> bool:
        return self < other + 1

    def __bool__(self) -> bool:
        return self.lower > 0 or self > 0

    def __int__(self) -> int:
        self._refuse()

    def __index__(self) -> int:
        return int(self)

    def _refuse(self) -> NoReturn:
        raise _undecided(f"a plain number is wanted, the dimension {self} depends on the run", self)

    def __str__(self) -> str:
        text = ""
        for product, coefficient in sorted(self.terms, key=lambda term: (not term[0], -len(term[0]))):
            size = coefficient if not text else abs(coefficient)
            factors = [str(atom) for atom in product]
            if size != 1 or not product:
                factors.insert(0, str(size))
            text += ("" if not text else " - " if coefficient < 0 else " + ") + "*".join(factors)
        return text


Dim = int | SymbolicDim
Shape = tuple[Dim, ...]


def symbol(name: str, lower: int, upper: int) -> Dim:
    """The dimension that is just the size `name`, or a number where the bounds leave no choice.

    Raises: ValueError for bounds that are negative or not ordered.
    """
    if not 0 <= lower <= upper:
        raise ValueError(f"bounds {lower}..{upper}")
    return lower if lower == upper else SymbolicDim((((Symbol(name, lower, upper),), 1),))


def stepped(name: str, lower: int, upper: int, step: int) -> Dim:
    """The dimension that is one of `lower`, `lower + step`, ..., at most `upper`; its symbol counts the steps, and says so by its name.

    Raises: ValueError as `symbol`.
    """
    first = lower % step
    return symbol(f"{name} by {step}", lower // step, (upper - first) // step) * step + first


def step_of(size: Symbol) -> tuple[str, int]:
    """What the user calls the dimension that a size stands for, and the step in which it was left open."""
    found = _STEPPED.match(size.name)
    return (found[1], int(found[2])) if found else (size.name, 1)


def fixing_hint(sizes: Iterable[Symbol]) -> str:
    """What to do where something depends on these sizes that must not: "give 'h' one size with --shape"."""
    found = [step_of(size) for size in sizes]
    names = " or ".join(f"'{printable(name, 60)}'" for name, _ in found)
    wider = ", or leave it open in larger steps" if any(step > 1 for _, step in found) else ""
    return f"give {names} one size with --shape{wider}"


def lower_bound(dim: Dim) -> int:
    """The smallest number a dimension may be."""
    return dim if isinstance(dim, int) else dim.lower


def upper_bound(dim: Dim) -> int:
    """The largest number a dimension may be."""
    return dim if isinstance(dim, int) else dim.upper


def numbers(dims: Iterable[Dim]) -> tuple[int, ...]:
    """Dimensions that must be plain numbers.

    Raises: EdgeccError E104 where one depends on the run.
    """
    return tuple(int(dim) for dim in dims)


def smaller(a: Dim, b: Dim) -> Dim:
    """The smaller of two dimensions.

    Raises: EdgeccError E104 where that depends on the run.
    """
    difference = a - b
    if upper_bound(difference) <= 0:
        return a
    return b if lower_bound(difference) >= 0 or b < a else a


def larger(a: Dim, b: Dim) -> Dim:
    """The larger of two dimensions; see `smaller`."""
    return a + b - smaller(a, b)


def evaluate(dim: Dim, sizes: Mapping[str, int]) -> int:
    """The number a dimension is for these sizes by name."""
    return dim if isinstance(dim, int) else dim.evaluate(sizes)


def replaced(dim: Dim, sizes: Mapping[str, Dim]) -> Dim:
    """A dimension with the sizes it depends on replaced by dimensions."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for product, coefficient in dim.terms:
        part: Dim = coefficient
        for atom in product:
            part = part * (sizes[atom.name] if isinstance(atom, Symbol) else replaced(atom.dividend, sizes) // atom.divisor)
        total = total + part
    return total


def symbols_of(dims: Iterable[Dim]) -> tuple[Symbol, ...]:
    """The sizes that some dimensions depend on, by name."""
    found = {s.name: s for dim in dims if not isinstance(dim, int) for s in dim.symbols}
    return tuple(found[name] for name in sorted(found))


def symbols_within(attribute: object) -> frozenset[Symbol]:
    """The sizes that an attribute of an operator depends on: a dimension, or tuples of anything."""
    match attribute:
        case SymbolicDim():
            return frozenset(attribute.symbols)
        case tuple():
            return frozenset(s for item in attribute for s in symbols_within(item))
    return frozenset()


Axes = tuple[int, ...]


def matching_runs(old: Shape, new: Shape) -> list[tuple[Axes, Axes]] | None:
    """Pairs of runs of axes (sizes other than 1) with equal element counts; None for empty tensors, and where the run decides."""
    if 0 in old:
        return None
    a = [(axis, size) for axis, size in enumerate(old) if size != 1]
    b = [(axis, size) for axis, size in enumerate(new) if size != 1]
    runs: list[tuple[Axes, Axes]] = []
    i = j = 0
    try:
        while i < len(a):
            own, other = [a[i][0]], [b[j][0]]
            left, right = a[i][1], b[j][1]
            i, j = i + 1, j + 1
            while left != right:
                if left < right:
                    left, i = left * a[i][1], i + 1
                    own.append(a[i - 1][0])
                else:
                    right, j = right * b[j][1], j + 1
                    other.append(b[j - 1][0])
            runs.append((tuple(own), tuple(other)))
    except EdgeccError as error:
        if error.code != "E104":
            raise
        return None
    except IndexError:  # sizes that are 0 or 1 at most do not say which run goes on
        return None
    return runs


# -- normal form ------------------------------------------------------------------------------


def _terms(dim: Dim) -> tuple[tuple[Product, int], ...]:
    return (((), dim),) if isinstance(dim, int) else dim.terms


def _joined(a: Product, b: Product) -> Product:
    return tuple(sorted((*a, *b), key=str))


def _key(product: Product) -> tuple[int, tuple[str, ...]]:
    """Orders products so that multiplying both sides keeps the order: by degree, then by atoms."""
    return len(product), tuple(str(atom) for atom in product)


def _normal(terms: Iterable[tuple[Product, int]]) -> Dim:
    total: Terms = {}
    for product, coefficient in terms:
        total[product] = total.get(product, 0) + int(coefficient)
    kept = sorted(((p, c) for p, c in total.items() if c), key=lambda term: _key(term[0]))
    if all(not product for product, _ in kept):
        return kept[0][1] if kept else 0
    return SymbolicDim(tuple(kept))


def _exact_quotient(dividend: SymbolicDim, divisor: SymbolicDim) -> Dim:
    """Division of polynomials without a remainder.

    Raises: EdgeccError E104 where there is one.
    """
    quotient: Dim = 0
    rest: Dim = dividend
    leading, scale = divisor.terms[-1]
    for _ in range(64):
        if rest == 0:
            return quotient
        product, coefficient = _terms(rest)[-1]
        remaining = list(product)
        for atom in leading:
            if atom not in remaining:
                break
            remaining.remove(atom)
        else:
            if coefficient % scale == 0:
                part = _normal([(tuple(remaining), coefficient // scale)])
                quotient, rest = quotient + part, rest - part * divisor
                continue
        break
    raise _undecided(f"{dividend} is not a multiple of {divisor} for all sizes", dividend)


@lru_cache(maxsize=1 << 14)
def _bounds(dim: SymbolicDim) -> tuple[int, int]:
    symbols = dim.symbols
    combinations = 1
    for s in symbols:
        combinations *= s.upper - s.lower + 1
    if combinations <= _ENUMERATED:
        values = [dim.evaluate({s.name: size for s, size in zip(symbols, sizes, strict=True)})
                  for sizes in itertools.product(*(range(s.lower, s.upper + 1) for s in symbols))]
        return min(values), max(values)
    low = high = 0
    for product, coefficient in dim.terms:
        ends = [coefficient]
        for atom in product:
            bounds = (atom.lower, atom.upper) if isinstance(atom, Symbol) else (
                atom.dividend.lower // atom.divisor, atom.dividend.upper // atom.divisor)
            ends = [min(e * b for e in ends for b in bounds), max(e * b for e in ends for b in bounds)]
        low, high = low + min(ends), high + max(ends)
    whole, (least, most) = _by_remainders(dim)
    if whole != dim:
        low, high = max(low, lower_bound(whole) + least), min(high, upper_bound(whole) + most)
    return low, high


def _by_remainders(dim: SymbolicDim) -> tuple[Dim, tuple[int, int]]:
    """A sum without the quotients that it holds a multiple of their divisors of, and bounds of what has to be added.

    `n * floordiv(a, n)` is `a` less a remainder below n. What fills up to a multiple of n, `n * floordiv(a + n - 1, n) - a`,
    thus lies in 0..n-1, which bounds of its two terms by themselves cannot tell.
    """
    rest: list[tuple[Product, int]] = []
    least = most = 0
    for product, coefficient in dim.terms:
        atom = product[0] if len(product) == 1 else None
        if not isinstance(atom, Quotient) or coefficient % atom.divisor:
            rest.append((product, coefficient))
            continue
        times = coefficient // atom.divisor
        rest += [(part, factor * times) for part, factor in atom.dividend.terms]
        remainder = times * (atom.divisor - 1)
        least, most = least - max(remainder, 0), most - min(remainder, 0)
    return _normal(rest), (least, most)


def _undecided(message: str, dim: SymbolicDim, way_out: str = "") -> EdgeccError:
    return EdgeccError("E104", message, hint=fixing_hint(dim.symbols) + way_out)


@lru_cache(maxsize=1 << 10)
def _deciding_bound(difference: SymbolicDim) -> str:
    """How to raise the lower bound of the one size in `difference` so that its sign no longer depends on the run; "" where nothing like that does it."""
    if len(difference.symbols) != 1:
        return ""
    (size,) = difference.symbols
    low, high = size.lower, size.upper
    at_the_end = difference.evaluate({size.name: high}) >= 0
    while high - low > 1:
        middle = (low + high) // 2
        if (difference.evaluate({size.name: middle}) >= 0) == at_the_end:
            high = middle
        else:
            low = middle
    narrower = replaced(difference, {size.name: symbol(size.name, high, size.upper)})
    decided = (lower_bound(narrower) >= 0) == at_the_end == (upper_bound(narrower) >= 0)
    step = step_of(size)[1]
    least = high if step == 1 else (high + 1) * step  # what the steps start from is not known here
    return f", or raise its lower bound to {least}" if decided else ""
