"""The strings of a network while it is lowered: handles of constants, and the memory that a run needs for its strings."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgecc.ir.graph import Graph
from edgecc.ir.types import Array, DType
from edgecc.loop.module import StringPool
from edgecc.memory.offsets import ALIGN, aligned
from edgecc.ops.control import Loop
from edgecc.ops.string_handles import HANDLE, OnHandles, ReadStrings

MADE_BYTES = 16
"""How long strings that are made in loops are taken to be, which says how many there can be."""
POINTER_BYTES = 8
"""Room for a pointer on any machine."""


class ConstantStrings:
    """The constant strings of a network, each once. The first one is empty, so that zeroed memory holds empty strings."""

    def __init__(self) -> None:
        self.handles: dict[str, int] = {"": 0}

    def of(self, strings: Array) -> Array:
        """The handles of an array of strings, which get new ones where they have none."""
        found = [self.handles.setdefault(text, len(self.handles)) for text in strings.reshape(-1)]
        return np.array(found, HANDLE.numpy).reshape(strings.shape)


def string_pool(graph: Graph, constants: ConstantStrings, offset: int, made_bytes: int) -> StringPool | None:
    """The memory for the strings of a lowered graph; None where it has none.

    Args:
        graph: over handles.
        offset: bytes of the arena before it.
        made_bytes: how many bytes the strings that a run makes may take, their ends included.
    """
    read = sum(node.output.type.capacity for node in graph.nodes if isinstance(node.op, ReadStrings))
    made = _made([graph], made_bytes)
    if len(constants.handles) == 1 and not read and not made and not any(v.type.dtype is DType.STRING for v in graph.outputs):
        return None
    capacity = len(constants.handles) + read + made
    slots = 2
    while slots < 2 * capacity:
        slots *= 2
    made_bytes = made_bytes if made else 0
    size = POINTER_BYTES * capacity + 4 * slots + 8 + aligned(made_bytes, 8)
    return StringPool(tuple(constants.handles), capacity, slots, made_bytes, aligned(offset), aligned(size, ALIGN))


def _made(graphs: Iterable[Graph], most: int) -> int:
    """How many strings a run can make, at most `most`; in loops, which may run any number of times, as many as have room."""
    total = 0
    for graph in graphs:
        for node in graph.nodes:
            if isinstance(node.op, OnHandles) and node.outputs[0].type.dtype is HANDLE:
                total += node.outputs[0].type.capacity
            inner = _made(node.regions, most)
            total += -(-most // MADE_BYTES) if inner and isinstance(node.op, Loop) else inner
    return min(total, most)
