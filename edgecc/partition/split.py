"""The parts of a planned division as graphs of their own, and how they are wired."""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.errors import EdgeccError
from edgecc.ir.extract import extract
from edgecc.ir.graph import Graph, Value
from edgecc.partition.plan import Plan


@dataclass(frozen=True)
class Source:
    """Where an array comes from: output `index` of part `part` (its place in the sequence), or input `index` of the network (None)."""

    part: int | None
    index: int


@dataclass(frozen=True)
class Part:
    """One part: its graph, which side runs it, and where its inputs come from, in order."""

    graph: Graph
    on_npu: bool
    inputs: tuple[Source, ...]


@dataclass(frozen=True)
class Split:
    """All parts in the order in which they run, and where the outputs of the network come from."""

    parts: tuple[Part, ...]
    outputs: tuple[Source, ...]


def split(graph: Graph, plan: Plan) -> Split:
    """Makes the parts. Raises: EdgeccError E115 for an output of the network that is a constant."""
    sources: dict[Value, Source] = {value: Source(None, index) for index, value in enumerate(graph.inputs)}
    parts = []
    for number, nodes in plan.parts:
        members = set(nodes)
        outputs = [value for node in nodes for value in node.outputs
                   if graph.is_output(value) or any(user not in members for user in value.users)]
        part, read = extract(nodes, outputs, f"part_{number}")
        parts.append(Part(part, number % 2 == 1, tuple(sources[value] for value in read)))
        sources |= {value: Source(len(parts) - 1, index) for index, value in enumerate(outputs)}
    if any(value.constant is not None for value in graph.outputs):
        raise EdgeccError("E115", "the network returns a constant, which no part computes")
    return Split(tuple(parts), tuple(sources[value] for value in graph.outputs))
