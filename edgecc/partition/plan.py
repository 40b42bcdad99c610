"""Which nodes an accelerator runs: those it supports, in convex regions, as long as that is modelled to be quicker.

Parts run one after the other, by turns on the CPU (even numbers) and on the accelerator (odd numbers). A node is in the first
part of its kind that is not before those of its operands. So nothing that leaves a part comes back into it: parts are convex by
construction, and no path through the graph changes sides more often than its nodes do.

What is connected within a part of the accelerator is a region. A region whose nodes would take the CPU fewer cycles than the
accelerator, its start and the bytes that cross take together goes back to the CPU; then everything is divided again, until all
regions pay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import networkx as nx

from edgecc.errors import printable
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ops.movement import Reshape, Transpose
from edgecc.ops.work import multiply_adds
from edgecc.partition.quantization import Quantization, quantization_of
from edgecc.targets.schema import Npu, Target


@dataclass(frozen=True)
class NodePlacement:
    """Where a node runs. `reason` says why not on the accelerator, and is "" where it does."""

    node: Node
    part: int
    reason: str
    macs: int

    @property
    def on_npu(self) -> bool:
        """Whether the accelerator runs it."""
        return self.part % 2 == 1

    @property
    def name(self) -> str:
        """The names of the user's nodes it stands for."""
        return printable(", ".join(self.node.loc)) or printable(self.node.outputs[0].name)


@dataclass(frozen=True)
class Crossing:
    """A value that one side computes and the other reads. Part 0 stands for the inputs of the network as well.

    Attributes:
        value: the value. source: the part that computes it.
        readers: the parts on the other side that read it.
        size_bytes: of the value.
        quantization: what its integers stand for; None for floats and where the graph does not say.
    """

    value: Value
    source: int
    readers: tuple[int, ...]
    size_bytes: int
    quantization: Quantization | None


@dataclass(frozen=True)
class Plan:
    """A division of a graph.

    Attributes:
        nodes: every node, in the order of the graph.
        crossings: every value that crosses between the two sides.
    """

    nodes: tuple[NodePlacement, ...]
    crossings: tuple[Crossing, ...]

    @property
    def parts(self) -> tuple[tuple[int, tuple[Node, ...]], ...]:
        """The parts that have nodes, in the order in which they run: number and nodes."""
        found: dict[int, list[Node]] = {}
        for placed in self.nodes:
            found.setdefault(placed.part, []).append(placed.node)
        return tuple((number, tuple(found[number])) for number in sorted(found))

    @property
    def crossing_bytes(self) -> int:
        """Bytes that cross in one run."""
        return sum(crossing.size_bytes * len(crossing.readers) for crossing in self.crossings)

    @property
    def npu_share(self) -> float:
        """The accelerator's share of all multiply-adds; of all nodes where there are none."""
        total = sum(placed.macs for placed in self.nodes)
        if not total:
            return sum(placed.on_npu for placed in self.nodes) / max(1, len(self.nodes))
        return sum(placed.macs for placed in self.nodes if placed.on_npu) / total


def plan_partition(graph: Graph, target: Target, npu: Npu, obstacles: Mapping[Node, str]) -> Plan:
    """Divides a graph.

    Args:
        graph: a valid graph with static shapes.
        target: the CPU. npu: the accelerator.
        obstacles: why the accelerator cannot run a node, for those it cannot.
    """
    reasons = dict(obstacles)
    while True:
        parts = _parts(graph, reasons)
        declined = dict[Node, str]()
        for region in _regions(graph, parts):
            there = sum(npu_cycles(node, npu) for node in region) + npu.start_cycles + region_bytes(graph, region) / npu.bytes_per_cycle
            here = sum(cpu_cycles(node, target) for node in region)
            if there >= here:
                declined |= dict.fromkeys(region, f"about {there:.0f} cycles with its start and transfers, {here:.0f} on the CPU")
        if not declined:
            break
        reasons |= declined
    nodes = tuple(NodePlacement(node, parts[node], reasons.get(node, ""), _macs(node)) for node in graph.nodes)
    return Plan(nodes, tuple(_crossings(graph, parts)))


def cpu_cycles(node: Node, target: Target) -> float:
    """A guess at the cycles of a node on a core: its multiply-adds at the rate of the core, and each element once."""
    lanes = target.vector.lanes(4)
    return _macs(node) / (target.core.fma_per_cycle * lanes) + _elements(node) / lanes


def npu_cycles(node: Node, npu: Npu) -> float:
    """The cycles of a node on the accelerator: its multiply-adds, and each element once."""
    return _macs(node) / npu.macs_per_cycle + _elements(node) / npu.macs_per_cycle


def region_bytes(graph: Graph, region: Iterable[Node]) -> int:
    """Bytes that a region reads from outside, constants left out, and that are read of it outside."""
    inside = set(region)
    read = dict.fromkeys(v for node in region for v in node.inputs if v is not None and v.constant is None and v.producer not in inside)
    written = [v for node in region for v in node.outputs if graph.is_output(v) or any(user not in inside for user in v.users)]
    return sum(value.type.size_bytes for value in (*read, *written))


def _parts(graph: Graph, reasons: Mapping[Node, str]) -> dict[Node, int]:
    """The number of the part of each node."""
    parts: dict[Node, int] = {}
    for node in graph.nodes:
        least = max((parts[v.producer] for v in node.inputs if v is not None and v.producer is not None), default=0)
        parts[node] = least + (least % 2 != (0 if node in reasons else 1))
    # What gives more bytes than it reads, such as numbers for integers, can run at any time before its readers; with the first of them less
    # crosses a border, and of what depends on constants alone nothing. What only moves such numbers goes with them.
    for node in reversed(graph.nodes):
        computed = [v for v in node.inputs if v is not None and v.constant is None]
        read, made = sum(v.type.size_bytes for v in computed), sum(v.type.size_bytes for v in node.outputs)
        follows = isinstance(node.op, Reshape | Transpose) and all(graph.has_single_use(v) for v in computed)
        if (read < made or follows) and not any(graph.is_output(v) for v in node.outputs):
            first = min((parts[user] for v in node.outputs for user in v.users), default=parts[node])
            parts[node] = max(parts[node], first - (first - parts[node]) % 2)
    return parts


def _regions(graph: Graph, parts: Mapping[Node, int]) -> list[list[Node]]:
    """The regions of the accelerator's parts, each in the order of the graph."""
    order = {node: index for index, node in enumerate(graph.nodes)}
    digraph = graph.to_networkx()
    digraph.remove_edges_from([(a, b) for a, b in digraph.edges if parts[a] != parts[b]])
    mine = digraph.subgraph(node for node in order if parts[node] % 2 == 1)
    found = [sorted(component, key=order.__getitem__) for component in nx.weakly_connected_components(mine)]
    return sorted(found, key=lambda region: order[region[0]])


def _crossings(graph: Graph, parts: Mapping[Node, int]) -> list[Crossing]:
    """Values between parts of different kinds. The network's inputs come from the CPU, and its outputs go there."""
    found = []
    for value in graph.values():
        if value.constant is not None:
            continue
        source = 0 if value.producer is None else parts[value.producer]
        readers = {parts[user] for user in value.users if parts[user] % 2 != source % 2}
        if source % 2 == 1 and graph.is_output(value) and not readers:
            readers = {source + 1}
        if readers:
            found.append(Crossing(value, source, tuple(sorted(readers)), value.type.size_bytes, quantization_of(value)))
    return found


def _macs(node: Node) -> int:
    return multiply_adds(node.op, [None if v is None else v.type.dims for v in node.inputs], [v.type.dims for v in node.outputs])


def _elements(node: Node) -> int:
    return sum(value.type.elements for value in (*node.outputs, *(v for v in node.inputs if v is not None and v.constant is None)))
