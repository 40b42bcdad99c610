"""What the results of a graph of PyTorch are: numbers and inputs that are handed on, and tensors that are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from edgecc.integrations.torch.exporting import unsupported
from edgecc.integrations.torch.tensors import order_of


@dataclass(frozen=True)
class Handed:
    """A result that is input number `index`."""

    index: int


@dataclass(frozen=True)
class Computed:
    """A result that is computed: number `index` of those, with its axes in memory in this order (None: as they are)."""

    index: int
    order: tuple[int, ...] | None


@dataclass(frozen=True)
class Results:
    """What a graph returns.

    Attributes:
        items: one a result: `Handed`, `Computed`, or the result itself where it is neither tensor nor size.
        names: of the nodes that are computed, each once.
    """

    items: tuple[Any, ...]
    names: tuple[str, ...]


def results_of(graph: torch.fx.GraphModule) -> Results:
    """The results of a graph of dynamo. Raises: EdgeccError E105 for results that share memory with inputs, or are computed sizes."""
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
    storages = {storage for node in placeholders if (storage := _storage(node)) is not None}
    returned = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    items: list[Any] = []
    names: list[str] = []
    for node in returned if isinstance(returned, tuple | list) else (returned,):
        if not isinstance(node, torch.fx.Node):
            items.append(node)
            continue
        if node in placeholders:
            items.append(Handed(placeholders.index(node)))
            continue
        value = node.meta.get("example_value")
        if not isinstance(value, torch.Tensor):
            raise unsupported(f"the result {node.name} is no tensor")
        if _storage(node) in storages:
            raise unsupported(f"the result {node.name} is a view of an input")
        if node.name not in names:
            names.append(node.name)
        items.append(Computed(names.index(node.name), order_of([_number(stride) for stride in value.stride()])))
    return Results(tuple(items), tuple(names))


def _storage(node: Any) -> Any:
    """What identifies the memory that a node's tensor lies in; None for what is no tensor."""
    value = node.meta.get("example_value")
    return value.untyped_storage()._cdata if isinstance(value, torch.Tensor) and value.layout is torch.strided else None


def _number(size: Any) -> int:
    """A size, or the one that the graph was traced with."""
    return int(size if isinstance(size, int) else size.node.hint)
