"""The tables of `edgecc compile --explain`: one row for each kernel call, and what quantized parts are computed in float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from edgecc.choices import Choice
from edgecc.errors import printable
from edgecc.lowering.precision import LayerPrecision
from edgecc.passes.base import Decline

SHOWN_ALTERNATIVES = 3


def choices_table(choices: Sequence[Choice]) -> Table:
    """One row a call, in the order of the run."""
    table = Table("call", "nodes", "op", "types", "chosen", "decided by", "reason", box=None, pad_edge=False)
    for name in ("k cycles", "share", "threads"):
        table.add_column(name, justify="right")
    table.add_column("instead (k cycles)")
    for choice in choices:
        first = printable(choice.nodes[0], 40)
        nodes = first if len(choice.nodes) == 1 else f"{first} +{len(choice.nodes) - 1}"
        table.add_row(str(choice.position), nodes, choice.op, choice.types, choice.candidate or choice.op, choice.decided, choice.reason,
                      _thousands(choice.cycles), f"{choice.share:.1%}",
                      str(choice.threads), _alternatives(choice.alternatives))
    return table


def declines_table(declines: Sequence[Decline]) -> Table:
    """One row for each part of a quantized network that is computed in float."""
    table = Table("in float", "op", "because", box=None, pad_edge=False)
    for decline in declines:
        table.add_row(printable(", ".join(decline.loc) or decline.result, 40), decline.op, decline.reason)
    return table


def declines_json(declines: Sequence[Decline]) -> list[dict[str, Any]]:
    """The same as JSON values."""
    return [{"nodes": list(decline.loc), "op": decline.op, "reason": decline.reason} for decline in declines]


def choices_json(choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """The same as JSON values, with all alternatives."""
    return [{**asdict(choice), "alternatives": [{"candidate": name, "cycles": cycles} for name, cycles in choice.alternatives]}
            for choice in choices]


def layers_table(precisions: Sequence[LayerPrecision]) -> Table:
    """One row for each layer of a quantized network that reads integers: how it is computed, and why."""
    table = Table("layer", "op", "precision", box=None, pad_edge=False)
    for name in ("int8 k cycles", "float k cycles", "conversions"):
        table.add_column(name, justify="right")
    table.add_column("because")
    for layer in precisions:
        cycles = (layer.integer_cycles, layer.float_cycles, layer.conversion)
        table.add_row(printable(layer.nodes[0], 40), layer.op, layer.precision, *(_thousands(one) if one else "-" for one in cycles), layer.reason)
    return table


def layers_json(precisions: Sequence[LayerPrecision]) -> list[dict[str, Any]]:
    """The same as JSON values, in cycles."""
    return [{**asdict(layer), "nodes": list(layer.nodes)} for layer in precisions]


def _alternatives(alternatives: Sequence[tuple[str, float]]) -> str:
    shown = ", ".join(f"{name} {_thousands(cycles)}" for name, cycles in alternatives[:SHOWN_ALTERNATIVES])
    more = len(alternatives) - SHOWN_ALTERNATIVES
    return f"{shown}, {more} more" if more > 0 else shown


def _thousands(cycles: float) -> str:
    return f"{cycles / 1000:.1f}"
