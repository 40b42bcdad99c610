"""Which layers leave 8 bits so that a network is good enough: the cheapest repair for the noise it takes away comes first.

There are two repairs. A value whose rounding hurts becomes int16, which takes that noise away; a layer whose rounded weights
hurt stays in float. What each takes away is known from edgecc/quantization/sensitivity.py, what it costs from the cost model
(edgecc/quantization/costs.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgecc.quantization.costs import Costs
from edgecc.quantization.network import Network
from edgecc.quantization.points import ARITHMETIC, Points
from edgecc.quantization.scheme import Scheme
from edgecc.quantization.sensitivity import Source

CYCLES_FLOOR = 1.0
"""What a repair that costs nothing is taken to cost, so that gains can be compared."""


@dataclass(frozen=True)
class Repair:
    """One step away from 8 bits.

    Attributes:
        precision: "int16" for a value, "float" for a layer. node: whose result, or which layer.
        noise: the power at the outputs, over that of the outputs, that it takes away. cycles: what it costs by the model.
    """

    precision: str
    node: str
    noise: float
    cycles: float

    @property
    def worth(self) -> float:
        """Noise taken away for each cycle."""
        return self.noise / max(self.cycles, CYCLES_FLOOR)


def repairs(network: Network, sources: Sequence[Source], costs: Costs, scheme: Scheme) -> tuple[Repair, ...]:
    """What can be repaired beyond `scheme`, the best worth first. Sources of one node and kind are one repair.

    A wide value costs something where it is made and wherever it is read.
    """
    totals: dict[tuple[str, str], float] = {}
    touched: dict[str, set[str]] = {}
    for source in sources:
        touched.setdefault(source.node, {source.node}).update(n.name for n in network.readers.get(source.value, ()) if source.kind == "rounding")
        precision = "int16" if source.kind == "rounding" else "float"
        if source.node not in (scheme.wide if precision == "int16" else scheme.exclude):
            key = (precision, source.node)
            totals[key] = totals.get(key, 0.0) + source.noise
    found = [Repair(precision, node, noise, sum(map(costs.of_widening, sorted(touched[node]))) if precision == "int16" else costs.of_float(node))
             for (precision, node), noise in totals.items() if noise > 0]
    return tuple(sorted(found, key=lambda r: (-r.worth, r.precision, r.node)))


def chosen_repairs(possible: Sequence[Repair], noise: float, wanted: float) -> tuple[Repair, ...]:
    """The repairs that bring the sum of all noise down to `wanted`, by the model in which powers add up; all where none suffice.

    Taken in the order of their worth; then those that turn out not to be needed, the most expensive first, are left out again.
    """
    chosen: list[Repair] = []
    left = noise
    for repair in possible:
        if left <= wanted:
            break
        chosen.append(repair)
        left -= repair.noise
    for repair in sorted(chosen, key=lambda r: (-r.cycles, r.precision, r.node)):
        if left + repair.noise <= wanted:
            chosen.remove(repair)
            left += repair.noise
    return tuple(chosen)


def repaired(network: Network, points: Points, scheme: Scheme, chosen: Sequence[Repair]) -> Scheme:
    """The scheme with these repairs. A layer that stays in float takes along what belongs to it: a bias and an activation behind it."""
    names = {r.node for r in chosen if r.precision == "float"}
    for node in network.nodes:
        value, named = node.output[0], node.name in names
        while named and value in points.inner:
            reader = network.readers[value][0]
            names.add(reader.name)
            value = reader.output[0]
    return replace(scheme, wide=scheme.wide | {r.node for r in chosen if r.precision == "int16"}, exclude=scheme.exclude | names)


@dataclass(frozen=True)
class LayerChoice:
    """The precision of one layer, and why.

    Attributes:
        layer: the node. precision: "int8", "int16" (its result) or "float". reason: in words.
    """

    layer: str
    operator: str
    precision: str
    reason: str


def layer_choices(network: Network, points: Points, scheme: Scheme, sources: Sequence[Source], chosen: Sequence[Repair], *,
                  asked: Scheme, slower: Sequence[str] = ()) -> tuple[LayerChoice, ...]:
    """A line for every node that could be quantized, in the order of the network.

    Args:
        points: what is quantized, by `scheme`. sources: what layers do to the outputs, as far as that was measured. chosen: the repairs made.
        asked: the scheme that was asked for. slower: nodes that stay in float because 8 bits are modelled to be slower.
    """
    by_node: dict[str, list[Source]] = {}
    for source in sources:
        by_node.setdefault(source.node, []).append(source)
    total = sum(s.noise for s in sources) or 1.0
    found = []
    for node in network.nodes:
        if node.op_type not in ARITHMETIC or not network.is_float(node.output[0]):
            continue
        measured = ", ".join(f"{s.kind} {min(s.ratio, 999):.1f} dB" for s in sorted(by_node.get(node.name, ()), key=lambda s: s.kind))
        own = [r for r in chosen if r.node == node.name]
        repair = "; ".join(f"{r.precision} takes away what is {100 * r.noise / total:.1f} % of all noise, for {r.cycles:.0f} modelled cycles" for r in own)
        if node.name in scheme.exclude:
            own_reason = "asked for" if node.name in asked.exclude else "modelled to be slower in 8 bits" if node.name in slower else "belongs to the layer in front"
            precision, why = "float", repair or own_reason
        elif node.name in scheme.wide or any(node.output[0] in g.values and g.wide for g in points.groups):
            precision, why = "int16", repair or "asked for, or shares its scale with one that is"
        else:
            precision, why = scheme.activations, "inside of the layer behind" if node.output[0] in points.inner and not measured else ""
        found.append(LayerChoice(node.name, node.op_type, precision, "; ".join(part for part in (measured, why) if part)))
    return tuple(found)
