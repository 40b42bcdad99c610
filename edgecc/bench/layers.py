"""Time of each kernel call beside what the call computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecc.lowering.report import CallReport


@dataclass(frozen=True)
class Layer:
    """One kernel call.

    Attributes:
        position: in the order of the run, from 0.
        nodes: the user's nodes it stands for; the value's name where there are none.
        op, kernel, choice: the operator, the function, why the kernel looks as it does.
        least, mean: seconds of the quickest execution, and on average over all runs.
        share: of `least` in the sum of all calls' `least`.
        multiply_adds: of one execution. bytes_moved: operands (weights included) read and results written, each element once.
    """

    position: int
    nodes: tuple[str, ...]
    op: str
    kernel: str
    choice: str
    least: float
    mean: float
    share: float
    multiply_adds: int
    bytes_moved: int

    @property
    def flops(self) -> float:
        """Operations a second of the quickest execution, a multiply-add counting two; 0 where none are counted."""
        return 2.0 * self.multiply_adds / self.least if self.least > 0 else 0.0


@dataclass(frozen=True)
class KernelTime:
    """One kernel over all its calls: seconds and multiply-adds of a run."""

    kernel: str
    calls: int
    seconds: float
    share: float
    multiply_adds: int


def layers_of(calls: Sequence[CallReport], least: Sequence[float], mean: Sequence[float]) -> tuple[Layer, ...]:
    """Every call with its times (seconds), all three in the order of the run."""
    total = sum(least) or 1.0
    return tuple(
        Layer(position, call.loc or (call.name,), call.op, call.function, call.choice, fast, average, fast / total,
              call.multiply_adds, call.bytes_read + call.bytes_written)
        for position, (call, fast, average) in enumerate(zip(calls, least, mean, strict=True)))


def kernels_of(layers: Sequence[Layer]) -> tuple[KernelTime, ...]:
    """The kernels by the time all their calls take together, the slowest first."""
    by_kernel: dict[str, list[Layer]] = {}
    for layer in layers:
        by_kernel.setdefault(layer.kernel, []).append(layer)
    found = [KernelTime(name, len(own), sum(layer.least for layer in own), sum(layer.share for layer in own),
                        sum(layer.multiply_adds for layer in own)) for name, own in by_kernel.items()]
    return tuple(sorted(found, key=lambda kernel: (-kernel.seconds, kernel.kernel)))
