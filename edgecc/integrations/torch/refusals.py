"""Which operators of a graph of PyTorch edgecc does not compute.

An operator that the exporter to ONNX neither knows nor can take apart is refused at once; one that it can is exported by itself. All others are
exported as one model, each with operands of its own, and importing that names every node that edgecc refuses. Where something else stands in the way, halves of the operators are
exported, and halves of these, until it is found.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import onnx
import torch

from edgecc.errors import EdgeccError, printable
from edgecc.frontend import import_model
from edgecc.integrations.torch.decompositions import decompositions
from edgecc.integrations.torch.exporting import to_onnx, unsupported

Kind = TypeVar("Kind", bound=Hashable)

_OWNER = re.compile(r"\bowner(\d+)_")


def refusals(whole: torch.fx.GraphModule, nodes: Mapping[Kind, torch.fx.Node]) -> dict[Kind, str]:
    """Which of these operators of an exported graph edgecc does not compute, and why; each stands for those of its kind."""
    known = _known_operators()
    taken_apart = {*torch.export.default_decompositions(), *decompositions()}
    unknown = {kind for kind, node in nodes.items() if known and not {node.target, _qualified(node.target)} & known}
    refused = {kind: f"{printable(str(nodes[kind].target))} has no form in ONNX" for kind in nodes
               if kind in unknown and nodes[kind].target not in taken_apart}
    for kind, node in nodes.items():
        if kind in unknown and kind not in refused:
            refused |= _asked_for(whole, {kind: node})
    return refused | _asked_for(whole, {kind: node for kind, node in nodes.items() if kind not in unknown})


def _asked_for(whole: torch.fx.GraphModule, nodes: Mapping[Kind, torch.fx.Node]) -> dict[Kind, str]:
    if not nodes:
        return {}
    kinds = list(nodes)
    try:
        graph, given, counts = _side_by_side(whole, list(nodes.values()))
        model = to_onnx(graph, given, decompose=len(nodes) == 1)
        _name_owners(model, counts)
        import_model(model)
    except EdgeccError as error:
        if len(nodes) == 1:
            return dict.fromkeys(nodes, error.message)
        reasons = [(found.group(1), problem.why) for problem in error.problems if (found := _OWNER.search(problem.where)) is not None]
        if reasons and len(reasons) == len(error.problems):
            return {kinds[int(owner)]: why for owner, why in reversed(reasons)}
        half = len(kinds) // 2
        return {kind: why for part in (kinds[:half], kinds[half:])
                for kind, why in _asked_for(whole, {kind: nodes[kind] for kind in part}).items()}
    return {}


def _qualified(target: Any) -> Any:
    """The name by which the exporter knows an operator of ATen."""
    return target.name() if isinstance(target, torch._ops.OpOverload) else target


def _known_operators() -> frozenset[Any]:
    """The operators that the exporter has a form for, by name or as they are; empty where this version of PyTorch does not tell."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        return frozenset(ONNXRegistry.from_torchlib().functions)
    except (ImportError, AttributeError):
        return frozenset()


def _name_owners(model: onnx.ModelProto, counts: Sequence[int]) -> None:
    """Names each node of a model after the operator whose results need it, those having `counts` outputs of the model one after the other."""
    needed = {output.name: owner for output, owner in zip(model.graph.output, (i for i, count in enumerate(counts) for _ in range(count)), strict=True)}
    for number, node in reversed(list(enumerate(model.graph.node))):
        owner = next((needed[name] for name in node.output if name in needed), 0)
        node.name = f"owner{owner}_{number}"
        needed.update(dict.fromkeys(node.input, owner))


def _side_by_side(whole: torch.fx.GraphModule, nodes: Sequence[torch.fx.Node]) -> tuple[torch.fx.GraphModule, list[torch.Tensor], list[int]]:
    """A graph of these operators, each with operands of its own, tensors to call it with, and how many results each operator has."""
    graph, root = torch.fx.Graph(), torch.nn.Module()
    given: list[torch.Tensor] = []
    copies: list[dict[torch.fx.Node, torch.fx.Node]] = [{} for _ in nodes]
    for own, node in zip(copies, nodes, strict=True):
        for source in node.all_input_nodes:
            if source.op != "get_attr":
                own[source] = graph.placeholder(f"operand{len(given)}")
                given.append(like(source))
    results: list[torch.fx.Node] = []
    counts = []
    for number, (own, node) in enumerate(zip(copies, nodes, strict=True)):
        for source in node.all_input_nodes:
            if source.op == "get_attr":
                name = f"constant{number}_{len(own)}"
                root.register_buffer(name, attribute(whole, str(source.target)))
                own[source] = graph.get_attr(name)
        copy, users = graph.node_copy(node, own.__getitem__), [user for user in node.users if user.target is operator.getitem]
        before = len(results)
        if isinstance(value_of(node), tuple | list):
            results += [graph.call_function(operator.getitem, (copy, index)) for index in sorted({user.args[1] for user in users})]
        else:
            results.append(copy)
        counts.append(len(results) - before)
    graph.output(tuple(results))
    return torch.fx.GraphModule(root, graph), given, counts


def value_of(node: torch.fx.Node) -> Any:
    """What a node gives, as PyTorch traced it."""
    return node.meta.get("val")


def like(node: torch.fx.Node) -> torch.Tensor:
    """A tensor with the type and shape of a node's."""
    value = value_of(node)
    if not isinstance(value, torch.Tensor):
        raise unsupported(f"the value {printable(node.name)} is no tensor")
    return torch.zeros(tuple(map(int, value.shape)), dtype=value.dtype)


def attribute(module: torch.nn.Module, path: str) -> Any:
    """The attribute of a module at a path of names with dots between them."""
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name)
    return found
