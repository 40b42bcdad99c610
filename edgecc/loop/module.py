"""A compiled network as loop programs: functions, the sequence of their calls, constants and memory.

This is what CPU back ends receive. Every size and offset is final.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgecc.ir.types import Array, DType, TensorType
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
class Stripes:
    """A depth-first block: a chain of calls that runs stripe by stripe, all calls of one stripe before the next stripe.

    Each function has two parameters, the first row of its result to compute and the one after the last.

    Attributes:
        calls: in order.
        ends: for each stripe, for each call, the row at which it ends; the next stripe goes on there, the
            first one starts at row 0. So every row is computed once.
    """

    calls: tuple[Call, ...]
    ends: tuple[tuple[int, ...], ...]

    def ranges(self) -> Iterator[tuple[Call, int, int]]:
        """Every call that has something to do, in order, with its range of rows."""
        starts: tuple[int, ...] = (0,) * len(self.calls)
        for ends in self.ends:
            for call, start, stop in zip(self.calls, starts, ends, strict=True):
                if stop > start:
                    yield call, start, stop
            starts = ends


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
        calls: the run, in order; some of it may run in stripes.
        constants: the weights by ascending offset; gaps are zero.
        weights_bytes: size of the weights.
        arena_bytes: size of the arena; arena_align: what its start must be a multiple of.
        arena_lower_bound: no plan for this order of calls can use fewer bytes.
        threads: 1, or the number of threads parallel loops are divided among.
        precision: the shortest float type that arithmetic is done in.
    """

    name: str
    inputs: tuple[Interface, ...]
    outputs: tuple[Interface, ...]
    functions: tuple[Function, ...]
    calls: tuple[Call | Stripes, ...]
    constants: tuple[Constant, ...]
    weights_bytes: int
    arena_bytes: int
    arena_lower_bound: int
    arena_align: int = 64
    threads: int = 1
    precision: DType = DType.F32

    @property
    def all_calls(self) -> tuple[Call, ...]:
        """Every call once, those of stripes in their place."""
        return tuple(call for item in self.calls for call in (item.calls if isinstance(item, Stripes) else (item,)))

    def function(self, name: str) -> Function:
        """The kernel called `name`."""
        for item in self.functions:
            if item.name == name:
                return item
        raise KeyError(name)
