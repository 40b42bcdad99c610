"""How low a value counts: what a softmax makes 0 anyway is no part of a range.

Attention adds a mask of -10000, or of the lowest float there is, to its scores. In 255 steps of such a range all scores are one number. What
lies `FLOOR` below the largest element of its row adds less than `exp(-FLOOR)` of that to the softmax, so the range of what only
softmax reads may end there; and with it that of the summands, whatever the other one is, and of what is only moved on the way.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from edgecc.ir.types import Array
from edgecc.quantization.network import Network, attribute
from edgecc.quantization.points import MOVEMENT

FLOOR = 12.0
"""exp(-12) is 6e-6: a thousand masked elements add half a hundredth to the sum of a row."""

_MOVING = MOVEMENT - {"Concat"}


class Floors:
    """The floors of a network's values; most have none."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._counts: dict[str, bool] = {}

    def raised(self, name: str, seen: Mapping[str, Array]) -> Array:
        """A value of a run with its elements raised to its floor. `seen`: all quantized values, and inputs."""
        array = self._array(name, seen)
        floor = self._of(name, seen) if array.size and self._ends_in_softmax(name) else -np.inf
        return np.maximum(array, np.asarray(floor, array.dtype)) if floor > -np.inf else array

    def _of(self, name: str, seen: Mapping[str, Array]) -> float:
        return min(self._below(node, name, seen) for node in self.network.readers[name])

    def _below(self, node: onnx.NodeProto, name: str, seen: Mapping[str, Array]) -> float:
        """What the elements of a value may be raised to for all that one reader makes of them."""
        if node.op_type == "Softmax":
            axis = attribute(node, "axis", -1)
            highest = self._array(name, seen).max(axis=axis if isinstance(axis, int) else -1)
            return float(highest.min()) - FLOOR
        floor = self._of(node.output[0], seen)
        return floor - float(self._array(_other(node, name), seen).max()) if node.op_type == "Add" else floor

    def _array(self, name: str, seen: Mapping[str, Array]) -> Array:
        return seen[name] if name in seen else self.network.constants[name]

    def _ends_in_softmax(self, name: str) -> bool:
        """Whether all that becomes of a value is added to, moved, and read by softmax."""
        if name not in self._counts:
            readers = self.network.readers.get(name, ())
            self._counts[name] = bool(readers) and name not in self.network.outputs and all(
                node.input[0] == name if node.op_type == "Softmax" else
                (node.op_type in _MOVING or (node.op_type == "Add" and _other(node, name) != name)) and self._ends_in_softmax(node.output[0])
                for node in readers)
        return self._counts[name]


def _other(node: onnx.NodeProto, name: str) -> str:
    return str(node.input[1] if node.input[0] == name else node.input[0])
