"""A compiled network as loop programs: functions, the sequence of their calls, constants and memory.

This is what CPU back ends receive. Every size and offset is final.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.ir.types import Array, TensorType
from edgecc.loop.ir import Function


@dataclass(frozen=True)
class Interface:
    """One input or output of the network, under the name the user's model gives it. Row-major."""

    name: str
    type: TensorType


@dataclass(frozen=True)
class InputBytes:
    """An argument that lies in network input `index`, `offset` bytes from its start."""

    index: int
    offset: int = 0


@dataclass(frozen=True)
class OutputBytes:
    """An argument that lies in network output `index`, `offset` bytes from its start."""

    index: int
    offset: int = 0


@dataclass(frozen=True)
class ArenaBytes:
    """An argument that lies in the arena, `offset` bytes from its start."""

    offset: int


@dataclass(frozen=True)
class WeightBytes:
    """An argument that lies in the weights, `offset` bytes from their start."""

    offset: int


Argument = InputBytes | OutputBytes | ArenaBytes | WeightBytes


@dataclass(frozen=True)
class Call:
    """One step of the run: `function` on `arguments` (one for each of its buffers, in order).

    `loc` names the nodes of the user's model that this step stands for.
    """

    function: str
    arguments: tuple[Argument, ...]
    loc: tuple[str, ...]


@dataclass(frozen=True)
class Constant:
    """Packed weights: a contiguous array at a byte offset of the weights."""

    offset: int
    data: Array


@dataclass(frozen=True)
class Module:
    """A whole network.

    Attributes:
        name: a C identifier.
        functions: each kernel once, in order of first use; names are C identifiers.
        calls: the run, in order.
        constants: the weights by ascending offset; gaps are zero.
        weights_bytes: size of the weights.
        arena_bytes: size of the arena; arena_align: what its start must be a multiple of.
        arena_lower_bound: no plan for this order of calls can use fewer bytes.
        threads: 1, or the number of threads parallel loops are divided among.
    """

    name: str
    inputs: tuple[Interface, ...]
    outputs: tuple[Interface, ...]
    functions: tuple[Function, ...]
    calls: tuple[Call, ...]
    constants: tuple[Constant, ...]
    weights_bytes: int
    arena_bytes: int
    arena_lower_bound: int
    arena_align: int = 64
    threads: int = 1

    def function(self, name: str) -> Function:
        """The kernel called `name`."""
        for item in self.functions:
            if item.name == name:
                return item
        raise KeyError(name)
