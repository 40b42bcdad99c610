"""Sizes that dynamo leaves open: which of a graph's arguments have them, and between which bounds a network is compiled for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

LEAST_UPPER = 16
"""Where nothing bounds a size, networks take sizes up to this at least, and else up to the next power of two: a size that grows
step by step is compiled for a few times only."""


@dataclass(frozen=True)
class OpenSizes:
    """The open sizes of a graph.

    Attributes:
        axes: of each argument that is a tensor with open sizes, by name: which axes these are, and the symbol of each.
        numbers: arguments that are the size of an axis, by name: which argument's, and of which axis.
        bounds: of each symbol, what dynamo knows; None where there is no upper bound.
    """

    axes: Mapping[str, Mapping[int, str]]
    numbers: Mapping[str, tuple[str, int]]
    bounds: Mapping[str, tuple[int, int | None]]

    def ranges(self, tensors: Mapping[str, torch.Tensor]) -> list[dict[int, tuple[int, int]]]:
        """Bounds, both inclusive, for the open axes of each of these arguments, which have sizes within them."""
        return [{axis: self._range(symbol, int(tensor.shape[axis])) for axis, symbol in self.axes.get(name, {}).items()}
                for name, tensor in tensors.items()]

    def _range(self, symbol: str, size: int) -> tuple[int, int]:
        lower, upper = self.bounds[symbol]
        return min(lower, size), max(LEAST_UPPER, 1 << (size - 1).bit_length()) if upper is None else upper


def open_sizes(placeholders: Sequence[torch.fx.Node]) -> OpenSizes | None:
    """The open sizes of a graph with these arguments; None where it has none."""
    axes: dict[str, dict[int, str]] = {}
    bounds: dict[str, tuple[int, int | None]] = {}
    place: dict[str, tuple[str, int]] = {}
    for node in placeholders:
        value = node.meta.get("example_value")
        if not isinstance(value, torch.Tensor):
            continue
        for axis, size in enumerate(value.shape):
            if symbol := _symbol(size):
                axes.setdefault(node.name, {})[axis] = symbol
                place.setdefault(symbol, (node.name, axis))
                bounds.setdefault(symbol, _bounds(size))
    if not axes:
        return None
    numbers = {node.name: place[symbol] for node in placeholders if (symbol := _symbol(node.meta.get("example_value"))) in place}
    return OpenSizes(axes, numbers, bounds)


def _symbol(size: Any) -> str:
    """The name of a size that is a symbol by itself, else ""."""
    return str(size.node.expr) if isinstance(size, torch.SymInt) and size.node.expr.is_Symbol else ""


def _bounds(size: torch.SymInt) -> tuple[int, int | None]:
    known = size.node.shape_env.var_to_range[size.node.expr]
    return int(known.lower), int(known.upper) if known.upper.is_Integer else None
