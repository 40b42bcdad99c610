"""Concatenations of values whose ranges differ so much that one scale for all would leave some of them no digits.

A detector that returns boxes in pixels and probabilities side by side is the usual case: in steps of 640 / 255 every probability is 0,
and the noise of the output as a whole, which is that of the boxes, does not show it. Where an operator computes with
all that was joined, its operand has one scale anyhow, and nothing would be gained.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from edgecc.quantization.network import Network
from edgecc.quantization.points import ARITHMETIC, MOVEMENT, Points, moved_operands
from edgecc.quantization.statistics import Extent

UNEVEN = 16.0
"""How many times the range of an operand the joined one is at least: four of eight bits."""

_PARTS = frozenset({"Slice", "Split"})


def uneven_concatenations(network: Network, points: Points, extents: Mapping[str, Extent]) -> frozenset[str]:
    """Names of the concatenations that are to be left in float (`apart` of `find_points`), given the ranges of the values in `points`."""
    known = set(points.activations)
    return frozenset(node.name for node in network.nodes if node.op_type == "Concat" and node.output[0] in known
                     and _differ(node, extents) and not _computed_with(network, node.output[0]))


def _differ(node: onnx.NodeProto, extents: Mapping[str, Extent]) -> bool:
    ranges = [extents[name].range for name in moved_operands(node)]
    spans = [high - low for low, high in ranges if high > low]
    return bool(spans) and max(high for _, high in ranges) - min(low for low, _ in ranges) >= UNEVEN * min(spans)


def _computed_with(network: Network, name: str) -> bool:
    """Whether an operator that is quantized reads all of a value, moved or not."""
    return any(reader.op_type in ARITHMETIC or (reader.op_type in MOVEMENT - _PARTS and _computed_with(network, reader.output[0]))
               for reader in network.readers.get(name, ()))
