"""Weighted sums of elements at addresses that are computed first: what all interpolations end in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecc.kernels.folding import computes_in_vectors
from edgecc.kernels.iteration import Axis, Step, axis_lanes, nest, vectors
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.loop.builder import cast, fma, mul, number, repeat
from edgecc.loop.index import ZERO, Index
from edgecc.loop.ir import Buffer, Expr, Ref

TAPS_IN_EXPRESSION = 16
"""Sums of more taps are split into several statements."""


@dataclass(frozen=True)
class Tap:
    """An element that is read: its distance from the address in the source, and its weight (None: 1)."""

    address: Index
    weight: Expr | None


def product(b: KernelBuilder, first: Tap, second: Tap) -> Tap:
    """The tap at both distances, with the product of the weights."""
    address = first.address + second.address
    if first.weight is None or second.weight is None:
        return Tap(address, first.weight or second.weight)
    return Tap(address, b.let("weight", mul(first.weight, second.weight)))


def interpolate(b: KernelBuilder, y: Buffer, x: Buffer, axes: Sequence[Axis], start: tuple[Index, Index],
                taps: Sequence[Tap]) -> None:
    """y = the weighted sum of the taps, over plain axes with strides (result, source)."""
    inner = axes[-1] if axes else Axis(1, (0, 0))
    dtype = compute_type(y.dtype)
    is_vector = inner.strides == (1, 1) and computes_in_vectors(y.dtype)
    lanes = axis_lanes(b.request.target, inner) if is_vector else 1
    weights: list[Expr] = []
    for tap in taps:
        weight = repeat(tap.weight if tap.weight is not None else number(1, dtype), lanes)
        weights.append(weight if isinstance(weight, Ref) else b.let("w", weight))

    def body(step: Step, _: int) -> None:
        total: Expr = number(0, dtype, lanes)
        for position, (tap, weight) in enumerate(zip(taps, weights, strict=True)):
            element = cast(step.moved((ZERO, tap.address)).load(b, 1, x), dtype)
            total = fma(element, weight, total) if position else mul(element, weight)
            if position % TAPS_IN_EXPRESSION == TAPS_IN_EXPRESSION - 1:
                total = b.let("sum", total)
        step.store(b, 0, y, cast(total, y.dtype))

    with nest(b, axes[:-1], start=start) as offsets:
        vectors(b, inner, offsets, lanes, body)
