"""What each call of a module does, for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecc.kernels.kernel import Kernel
from edgecc.memory.placement import Step
from edgecc.memory.places import Place
from edgecc.ops.work import multiply_adds


@dataclass(frozen=True)
class CallReport:
    """What one call of a module does.

    Attributes:
        name: the name of the first value it computes. loc: the user's nodes it stands for.
        op: the name of the operator; copies are a "reshape". function: the kernel.
        choice: why the kernel looks as it does.
        multiply_adds: of convolutions, matrix products and recurrent layers; else 0.
        bytes_read, bytes_written: of operands (weights included) and results, each element once.
        stripes: how often the kernel is called: more than once as a part of a depth-first block. Iterations of loops
            around it do not count: multiply_adds and bytes are those of one of them too.
        kernel: the kernel, with what was asked for.
    """

    name: str
    loc: tuple[str, ...]
    op: str
    function: str
    choice: str
    multiply_adds: int
    bytes_read: int
    bytes_written: int
    stripes: int
    kernel: Kernel


def report_call(step: Step, kernel: Kernel, function: str, stripes: int) -> CallReport:
    """The report of the call of `function` for a step; it is made `stripes` times."""
    dims = [None if p is None else p.view.dims for p in step.inputs]
    results = [p.view.dims for p in step.outputs]
    choice = kernel.choice if stripes == 1 else f"{kernel.choice}; in {stripes} stripes"
    return CallReport(step.name, step.loc, step.op.name, function, choice, multiply_adds(step.op, dims, results),
                      _bytes(step.inputs), _bytes(step.outputs), stripes, kernel)


def _bytes(places: Sequence[Place | None]) -> int:
    return sum(p.view.elements * p.view.dtype.size for p in places if p is not None)
