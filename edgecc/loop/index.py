"""Index expressions of the Loop IR: affine forms over loop variables, parameters and a few opaque atoms.

Almost every address a kernel computes is `c0 + c1*i + c2*j ...` with constant coefficients, so that
is the only form there is: `Index(terms, const)` with the terms sorted and no zero coefficient. Two
equal addresses are therefore equal objects, and the distance of two addresses that differ by a
constant is a subtraction. What is not affine (division, remainder, minimum, maximum, a value read
from a tensor) is an atom.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgecc.loop.ir import Expr


@dataclass(frozen=True, slots=True)
class LoopVar:
    """The variable of an enclosing `For`, or a parameter of the function."""

    name: str

    @property
    def key(self) -> str:
        """Sort key among atoms."""
        return self.name


@dataclass(frozen=True, slots=True)
class IndexOp:
    """A non-affine function of indices: "floordiv" and "mod" (by a positive constant), "min", "max"."""

    op: str
    args: tuple[Index, ...]

    @property
    def key(self) -> str:
        """Sort key among atoms; after every loop variable."""
        return f"~{self.op}({', '.join(str(a) for a in self.args)})"


@dataclass(frozen=True, slots=True)
class IndexOf:
    """An integer scalar expression (a loaded element, a register) used as an index."""

    expr: Expr

    @property
    def key(self) -> str:
        """Sort key among atoms; after every loop variable."""
        return f"~{self.expr!r}"


Atom = LoopVar | IndexOp | IndexOf


@dataclass(frozen=True, slots=True)
class Index:
    """`const + sum(coefficient * atom)`."""

    terms: tuple[tuple[Atom, int], ...] = ()
    const: int = 0

    @property
    def is_const(self) -> bool:
        """Whether there is no variable part."""
        return not self.terms

    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return self if other == 0 else Index(self.terms, self.const + other)
        if not other.terms:
            return self + other.const
        if not self.terms:
            return other + self.const
        merged = dict(self.terms)
        for atom, coefficient in other.terms:
            merged[atom] = merged.get(atom, 0) + coefficient
        return _canonical(merged, self.const + other.const)

    __radd__ = __add__

    def __sub__(self, other: Index | int) -> Index:
        return self + (-other if isinstance(other, int) else other * -1)

    def __mul__(self, factor: int) -> Index:
        if factor == 0:
            return ZERO
        if factor == 1:
            return self
        return Index(tuple((a, c * factor) for a, c in self.terms), self.const * factor)

    __rmul__ = __mul__

    def floordiv(self, divisor: int) -> Index:
        """Floor of the quotient by a positive constant."""
        if divisor == 1:
            return self
        if not self.terms:
            return Index((), self.const // divisor)
        if all(c % divisor == 0 for _, c in self.terms):
            return Index(tuple((a, c // divisor) for a, c in self.terms), self.const // divisor)
        return Index(((IndexOp("floordiv", (self, Index((), divisor))), 1),))

    def mod(self, divisor: int) -> Index:
        """Non-negative remainder by a positive constant."""
        if divisor == 1:
            return ZERO
        if all(c % divisor == 0 for _, c in self.terms):
            return Index((), self.const % divisor)
        return Index(((IndexOp("mod", (self, Index((), divisor))), 1),))

    def coefficient(self, name: str) -> int | None:
        """The coefficient of loop variable `name`; None if it also occurs inside an atom."""
        found = 0
        for atom, coefficient in self.terms:
            if isinstance(atom, LoopVar):
                if atom.name == name:
                    found = coefficient
            elif mentions(Index(((atom, 1),)), name):
                return None
        return found

    def __str__(self) -> str:
        parts: list[str] = []
        for atom, coefficient in self.terms:
            match atom:
                case LoopVar(name=name):
                    text = name
                case IndexOp(op=op, args=args):
                    text = f"{op}({', '.join(str(a) for a in args)})"
                case IndexOf(expr=expr):
                    text = f"[{expr}]"
            parts.append(text if coefficient == 1 else f"{coefficient}*{text}")
        if self.const or not parts:
            parts.append(str(self.const))
        return " + ".join(parts).replace("+ -", "- ")


ZERO = Index()


def _canonical(terms: Mapping[Atom, int], const: int) -> Index:
    kept = [(atom, c) for atom, c in terms.items() if c != 0]
    if len(kept) > 1:
        kept.sort(key=lambda item: item[0].key)
    return Index(tuple(kept), const)


def var(name: str) -> Index:
    """The index that is just loop variable `name`."""
    return Index(((LoopVar(name), 1),))


def const(value: int) -> Index:
    """A constant index."""
    return Index((), value)


def as_index(value: Index | int) -> Index:
    """Accepts a plain number where an index is wanted."""
    return value if isinstance(value, Index) else Index((), value)


def minimum(a: Index | int, b: Index | int) -> Index:
    """The smaller of two indices, folded when their difference is constant."""
    return _extremum("min", as_index(a), as_index(b))


def maximum(a: Index | int, b: Index | int) -> Index:
    """The larger of two indices, folded when their difference is constant."""
    return _extremum("max", as_index(a), as_index(b))


def _extremum(op: str, a: Index, b: Index) -> Index:
    difference = a - b
    if difference.is_const:
        return a if (difference.const <= 0) == (op == "min") else b
    return Index(((IndexOp(op, (a, b)), 1),))


def from_expr(expr: Expr) -> Index:
    """An integer scalar expression as an index."""
    return Index(((IndexOf(expr), 1),))


def apply_op(op: str, args: tuple[Index, ...]) -> Index:
    """Rebuilds an `IndexOp` from (possibly simplified) operands, folding what became constant."""
    match op:
        case "floordiv":
            return args[0].floordiv(args[1].const)
        case "mod":
            return args[0].mod(args[1].const)
        case "min" | "max":
            return _extremum(op, args[0], args[1])
    raise ValueError(f"no index operation {op!r}")


def substitute(index: Index, mapping: Mapping[str, Index],
               expr_rewrite: Callable[[Expr], Expr] | None = None) -> Index:
    """Replaces loop variables by indices; `expr_rewrite` is applied to expressions inside `IndexOf` atoms."""
    for atom, _ in index.terms:
        if not isinstance(atom, LoopVar) or atom.name in mapping:
            break
    else:
        return index
    merged: dict[Atom, int] = {}
    constant = index.const
    for atom, coefficient in index.terms:
        match atom:
            case LoopVar(name=name):
                part = mapping.get(name)
            case IndexOp(op=op, args=args):
                part = apply_op(op, tuple(substitute(a, mapping, expr_rewrite) for a in args))
            case IndexOf(expr=expr):
                part = Index(((IndexOf(expr if expr_rewrite is None else expr_rewrite(expr)), 1),))
        if part is None:
            merged[atom] = merged.get(atom, 0) + coefficient
            continue
        constant += part.const * coefficient
        for inner, factor in part.terms:
            merged[inner] = merged.get(inner, 0) + factor * coefficient
    return _canonical(merged, constant)


def mentions(index: Index, name: str) -> bool:
    """Whether loop variable `name` occurs anywhere in the index (expressions inside atoms included)."""
    for atom, _ in index.terms:
        match atom:
            case LoopVar(name=own):
                if own == name:
                    return True
            case IndexOp(args=args):
                if any(mentions(a, name) for a in args):
                    return True
            case IndexOf(expr=expr):
                if expr.mentions(name):
                    return True
    return False
