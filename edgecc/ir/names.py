"""Names that nothing has yet."""

from __future__ import annotations

from collections.abc import Iterable


class UniqueNames:
    """Gives each name out once; later ones get a number behind them.

    Args:
        taken: names that are not to be given out.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._last: dict[str, int] = {}

    def fresh(self, hint: str) -> str:
        """`hint`, with the least number behind it that makes it new where it is taken."""
        name, number = hint, self._last.get(hint, 1)
        while name in self._taken:
            number += 1
            name = f"{hint}_{number}"
        self._last[hint] = number
        self._taken.add(name)
        return name
