"""Comparison of a quantized network layer by layer, each on the integers that the run under test really had.

Tools and accelerators round integers by rules of their own. Where a sum lies near a tie their result is the neighbouring integer,
and from there on two networks that both are right drift apart: their outputs tell nothing. A layer tells: given the same integers, its
result may differ by one step and no more. So the reference computes each layer, its result is compared with that of the run, and
goes on with the latter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.types import Array
from edgecc.reference.executor import execute


@dataclass(frozen=True)
class LayerComparison:
    """What a comparison found.

    Attributes:
        layers: how many results of integers were compared.
        steps: the largest difference from the reference on the same operands, in steps of a layer's quantization, past what it may be
            off beyond one step.
        share: of all integers, those that differ.
        where: the names of the layer with that difference; empty where nothing differs.
    """

    layers: int
    steps: int
    share: float
    where: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every layer is right."""
        return self.steps <= 1


def follow(graph: Graph, inputs: Mapping[str, Array], integers: Mapping[Value, Array],
           beyond: Mapping[Value, int]) -> tuple[dict[str, Array], LayerComparison]:
    """Runs the reference along a run that is known in part.

    Args:
        inputs: arrays by interface name.
        integers: what the run had for values of the graph that are quantized.
        beyond: by how many steps more than one a value may be off, where it may.
    Returns: the outputs that follow from the run's integers, and how far those are from the reference.
    """
    found: list[tuple[int, tuple[str, ...]]] = []
    counts = [0, 0]

    def replaced(node: Node, value: Value, array: Array) -> Array:
        actual = integers.get(value)
        if actual is None:
            return array
        differences = np.abs(actual.astype(np.int64) - array)
        counts[0] += int(np.count_nonzero(differences))
        counts[1] += differences.size
        worst = int(differences.max(initial=0))
        found.append((min(worst, max(1, worst - beyond.get(value, 0))), node.loc))
        return actual

    outputs = execute(graph, inputs, replace=replaced)
    steps, where = max(found, key=lambda each: each[0], default=(0, ()))
    return outputs, LayerComparison(len(found), steps, counts[0] / max(1, counts[1]), where if steps else ())
