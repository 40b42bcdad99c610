"""Least values of indices, as far as they are known."""

from __future__ import annotations

from collections.abc import Callable

from edgecc.loop.index import Atom, Index, IndexOf, IndexOp, LoopVar


def least(index: Index, low_of: Callable[[str], int | None]) -> int | None:
    """A number the index certainly is not below; None where there is none.

    `low_of` gives the least value of a loop variable or parameter, or None where that is not known.
    """
    low = index.const
    for atom, coefficient in index.terms:
        found = _least_of(atom, low_of) if coefficient > 0 else None
        if found is None:
            return None
        low += coefficient * found
    return low


def _least_of(atom: Atom, low_of: Callable[[str], int | None]) -> int | None:
    match atom:
        case LoopVar(name=name):
            return low_of(name)
        case IndexOp(op="mod"):
            return 0
        case IndexOp(op=op, args=args):
            lows = [least(arg, low_of) for arg in args]
            known = [low for low in lows if low is not None]
            if op == "max":
                return max(known, default=None)
            if len(known) < len(lows):
                return None
            return min(known) if op == "min" else known[0] // known[1]
        case IndexOf():
            return None
