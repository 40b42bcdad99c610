"""The table of `edgecc compile --explain`: one row for each kernel call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from edgecc.choices import Choice
from edgecc.errors import printable

SHOWN_ALTERNATIVES = 3


def choices_table(choices: Sequence[Choice]) -> Table:
    """One row a call, in the order of the run."""
    table = Table("call", "nodes", "op", "chosen", "decided by", "reason", box=None, pad_edge=False)
    for name in ("k cycles", "share", "threads"):
        table.add_column(name, justify="right")
    table.add_column("instead (k cycles)")
    for choice in choices:
        first = printable(choice.nodes[0], 40)
        nodes = first if len(choice.nodes) == 1 else f"{first} +{len(choice.nodes) - 1}"
        modelled = choice.cycles > 0
        table.add_row(str(choice.position), nodes, choice.op, choice.candidate or choice.op, choice.decided, choice.reason,
                      _thousands(choice.cycles) if modelled else "-", f"{choice.share:.1%}" if modelled else "-",
                      str(choice.threads), _alternatives(choice.alternatives))
    return table


def choices_json(choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """The same as JSON values, with all alternatives."""
    return [{**asdict(choice), "alternatives": [{"candidate": name, "cycles": cycles} for name, cycles in choice.alternatives]}
            for choice in choices]


def _alternatives(alternatives: Sequence[tuple[str, float]]) -> str:
    shown = ", ".join(f"{name} {_thousands(cycles)}" for name, cycles in alternatives[:SHOWN_ALTERNATIVES])
    more = len(alternatives) - SHOWN_ALTERNATIVES
    return f"{shown}, {more} more" if more > 0 else shown


def _thousands(cycles: float) -> str:
    return f"{cycles / 1000:.1f}"
