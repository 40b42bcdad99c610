"""What the results of a graph of PyTorch are: numbers, inputs and views of them that are handed on, and tensors that are computed."""

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
class View:
    """A result that lies in the memory of input number `index`, `offset` elements behind its beginning."""

    index: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The view of that input."""
        return tensor.as_strided(self.sizes, self.strides, int(tensor.storage_offset()) + self.offset)


@dataclass(frozen=True)
class Computed:
    """A result that is computed: number `index` of those, with its axes in memory in this order (None: as they are)."""

    index: int
    order: tuple[int, ...] | None


@dataclass(frozen=True)
class Results:
    """What a graph returns.

    Attributes:
        items: one a result: `Handed`, `View`, `Computed`, or the result itself where it is neither tensor nor size.
        names: of the nodes that are computed, each once.
    """

    items: tuple[Any, ...]
    names: tuple[str, ...]


def results_of(graph: torch.fx.GraphModule) -> Results:
    """The results of a graph of dynamo.

    Raises: EdgeccError E105 for results that are computed sizes, or that share memory with inputs and have open sizes or another type.
    """
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
    storages = {storage: place for place, node in enumerate(placeholders) if (storage := _storage(node)) is not None}
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
            place = storages[_storage(node)]
            items.append(_view(node, place, placeholders[place].meta["example_value"]))
            continue
        if node.name not in names:
            names.append(node.name)
        items.append(Computed(names.index(node.name), order_of([_number(stride) for stride in value.stride()])))
    return Results(tuple(items), tuple(names))


def _view(node: Any, index: int, source: torch.Tensor) -> View:
    value = node.meta["example_value"]
    numbers = (*value.shape, *value.stride(), *source.shape, *source.stride(), value.storage_offset(), source.storage_offset())
    if value.dtype is not source.dtype or value.is_neg() != source.is_neg() or not all(isinstance(number, int) for number in numbers):
        raise unsupported(f"the result {node.name} is a view of an input, of another type or of open sizes")
    return View(index, tuple(value.shape), tuple(value.stride()), value.storage_offset() - source.storage_offset())


def _storage(node: Any) -> Any:
    """What identifies the memory that a node's tensor lies in; None for what is no tensor."""
    value = node.meta.get("example_value")
    return value.untyped_storage()._cdata if isinstance(value, torch.Tensor) and value.layout is torch.strided else None


def _number(size: Any) -> int:
    """A size, or the one that the graph was traced with."""
    return int(size if isinstance(size, int) else size.node.hint)
