"""Graphs of which edgecc computes parts: what it refuses stays in PyTorch, operator by operator.

The graph is exported to ATen operators first, where nothing is written in place and no result is a view that another operator
would see change. The operators are asked for, each once for each kind of operands; networks of two operators and more are
compiled, and PyTorch runs what is between them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase

from edgecc.errors import printable
from edgecc.integrations.torch.calling import Run
from edgecc.integrations.torch.exporting import draws, exported_graph, specialize, to_onnx, unsupported
from edgecc.integrations.torch.refusals import attribute, like, refusals, value_of
from edgecc.integrations.torch.tensors import in_order, order_of


@dataclass(frozen=True)
class Divided:
    """A graph that runs in both.

    Attributes:
        run: the whole.
        networks: how many parts edgecc computes.
        left: the operators that PyTorch runs, each once, and why.
    """

    run: Run
    networks: int
    left: Mapping[str, str]


def divide(graph: torch.fx.GraphModule, tensors: Sequence[torch.Tensor], compiled: Callable[[onnx.ModelProto], Run]) -> Divided:
    """Divides a graph whose inputs are tensors like these and whose results are tensors.

    Args:
        compiled: makes a network of an ONNX model.
    Raises: EdgeccError E105 where it cannot be exported or writes into what it is given, or where edgecc computes none of it;
        what `compiled` raises.
    """
    whole = exported_graph(graph, tensors)
    first: dict[tuple[Any, ...], torch.fx.Node] = {}
    for node in whole.graph.nodes:
        if _is_operator(node):
            first.setdefault(_kind(node), node)
    refused = {kind: f"{printable(str(node.target))} draws random numbers" for kind, node in first.items() if draws(node)}
    refused |= refusals(whole, {kind: node for kind, node in first.items() if kind not in refused})
    if not refused:
        raise unsupported("edgecc takes each operator of the graph by itself, but not all together")
    left = {printable(str(first[kind].target)): reason for kind, reason in refused.items()}

    class Support(OperatorSupportBase):  # type: ignore[misc]  # unknown where PyTorch is not installed
        """What the partitioner asks; parts of a result go with what gives it."""

        def is_node_supported(self, submodules: Mapping[str, torch.nn.Module], node: torch.fx.Node) -> bool:
            source = node.all_input_nodes[0] if node.target is operator.getitem else node
            return _is_operator(source) and _kind(source) not in refused

    partitioner = CapabilityBasedPartitioner(whole, Support())
    partitions = partitioner.propose_partitions()
    if not partitions:
        raise unsupported("edgecc computes no two operators of the graph that follow one another")
    fused = partitioner.fuse_partitions(partitions)
    count = 0
    for node in list(fused.graph.nodes):
        if node.op == "call_module" and str(node.target).startswith("fused_"):
            setattr(fused, str(node.target), _part(fused, node, compiled))
            count += 1
    fused.recompile()
    return Divided(lambda given: list(_flat(fused(*given))), count, left)


class _Part(torch.nn.Module):  # type: ignore[misc]  # unknown where PyTorch is not installed
    """A network in the place of a part of the graph; `shown` is whether it gives one tensor rather than a tuple."""

    def __init__(self, run: Run, inputs: Sequence[int], orders: Sequence[tuple[int, ...] | None], *, shown: bool) -> None:
        super().__init__()
        self._run, self._inputs, self._orders, self._shown = run, tuple(inputs), tuple(orders), shown

    def forward(self, *arguments: torch.Tensor) -> Any:
        """The results, with their axes in memory as PyTorch would have them."""
        found = self._run([arguments[place] for place in self._inputs])
        results = tuple(in_order(tensor, order) for tensor, order in zip(found, self._orders, strict=True))
        return results[0] if self._shown else results


def _part(whole: torch.fx.GraphModule, node: torch.fx.Node, compiled: Callable[[onnx.ModelProto], Run]) -> _Part:
    """The network of a call of a part; weights that it is given become constants."""
    inner = getattr(whole, str(node.target))
    places = [each for each in inner.graph.nodes if each.op == "placeholder"]
    constants = {place.name: attribute(whole, str(given.target)) for place, given in zip(places, node.args, strict=True)
                 if isinstance(given, torch.fx.Node) and given.op == "get_attr"}
    returned = next(each for each in inner.graph.nodes if each.op == "output").args[0]
    results = list(returned) if isinstance(returned, tuple | list) else [returned]
    graph = specialize(inner, constants, [result.name for result in results])
    remaining = {each.name for each in graph.graph.nodes if each.op == "placeholder"}
    inputs = [number for number, place in enumerate(places) if place.name in remaining]
    run = compiled(to_onnx(graph, [like(places[number]) for number in inputs]))
    return _Part(run, inputs, [order_of(value_of(result).stride()) for result in results], shown=not isinstance(returned, tuple | list))


def _is_operator(node: torch.fx.Node) -> bool:
    return node.op == "call_function" and node.target is not operator.getitem


def _kind(node: torch.fx.Node) -> tuple[Any, ...]:
    """What decides whether an operator is taken: its name, the types and ranks of its operands, and its other arguments."""
    operands = tuple((value.dtype, value.dim(), source.op == "get_attr") if isinstance(value := value_of(source), torch.Tensor) else None
                     for source in node.all_input_nodes)
    others = torch.fx.node.map_arg((node.args, node.kwargs), lambda _: "tensor")
    return (str(node.target), operands, repr(others))


def _flat(results: Any) -> Iterable[torch.Tensor]:
    return results if isinstance(results, tuple | list) else (results,)
