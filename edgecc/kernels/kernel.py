"""What a lowering answers: a plain loop nest, the schedule (loop passes by name, with options) that makes it fast, and where each
buffer comes from. Weights are packed separately for each node by the `Packed` arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgecc.ir.types import Array
from edgecc.kernels.request import Request
from edgecc.loop.ir import Function
from edgecc.loop.module import IndexRange


@dataclass(frozen=True)
class FromInput:
    """A buffer that is operand `index` of the node, as its view says. A constant is stored row-major in the weights."""

    index: int


@dataclass(frozen=True)
class FromOutput:
    """A buffer that is result `index` of the node."""

    index: int


@dataclass(frozen=True)
class Packed:
    """A buffer of weights rearranged at compile time.

    `pack` receives the arrays of the constant operands `inputs` (None where absent) and returns the
    flat array the kernel reads.
    """

    inputs: tuple[int, ...]
    pack: Callable[..., Array]


@dataclass(frozen=True)
class Workspace:
    """A buffer of scratch memory in the arena, alive during this call only.

    `by_thread`: it is divided into equal parts, one for each thread, which no other one touches.
    """

    size_bytes: int
    by_thread: bool = False


@dataclass(frozen=True)
class SameMemory:
    """A buffer that is read only and lies where that of argument `position` does, which is an earlier one, as elements of another type."""

    position: int


KernelArgument = FromInput | FromOutput | Packed | Workspace | SameMemory


@dataclass(frozen=True)
class Kernel:
    """A lowered request.

    Attributes:
        function: a plain loop nest; its buffers correspond to `arguments` one to one.
        schedule: loop passes to apply, in order, as "name{option=value,...}".
        arguments: where each buffer of the function comes from.
        in_place: pairs (result, operand) that may share memory when their views are equal: the
            kernel reads each element of the operand before, or when, it writes the same element of the result.
        choice: why the kernel looks as it does, in one line, for `--explain`.
        cycles: modelled cycles of one call; 0 where there is no model.
        error_units: 0 where the error of each element is that of a sum of its terms. Algorithms that compute several
            elements together state a bound here, in units of roundoff times the largest magnitude of all elements.
        checks: operands that hold indices, with the range they must be in: the run ends before the call where one is not.
        candidate: the name of the candidate it was built from; "" where there is one way only.
        request: what it was lowered from; `lower` fills it in.
        sizes: numbers of the request's open sizes that are the function's parameters, in order; `lower` fills it in.
    """

    function: Function
    arguments: tuple[KernelArgument, ...]
    schedule: tuple[str, ...] = ()
    in_place: tuple[tuple[int, int], ...] = ()
    choice: str = ""
    cycles: float = 0.0
    error_units: float = 0.0
    checks: tuple[tuple[int, IndexRange], ...] = ()
    candidate: str = ""
    request: Request | None = None
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """One way to compute a request.

    Attributes:
        name: stable and readable; tuning files refer to it ("winograd 4x4", "direct 14x2").
        cycles: modelled cycles of one call (edgecc/kernels/cost.py); the smallest is chosen.
        build: makes the kernel.
        rows: whether the kernel can compute ranges of rows; those that cannot are left out where a request wants it.
    """

    name: str
    cycles: float
    build: Callable[[], Kernel]
    rows: bool = False
