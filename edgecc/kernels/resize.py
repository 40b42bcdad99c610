"""Resampling of any axes: nearest elements, linear and cubic interpolation.

Which elements are read for each position of an axis, and their weights, is known at compile time. Where
the elements follow a constant step, or each is repeated equally often (nearest with a whole factor), an
axis is one or two plain loops. Elsewhere the loop reads addresses and weights from tables; the products
of the weights of several axes are formed outside of the loops below. Axes that are not resampled, such
as the channels of a channels-last image, are walked in vectors inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels.copying import copy, fill_around
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.iteration import PARALLEL_WORK, Axis, elements, simplified
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder, storage_type
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.kernels.taps import Tap, interpolate, product
from edgecc.kernels.view import View
from edgecc.loop.builder import number
from edgecc.loop.index import ZERO, Index, const, from_expr
from edgecc.loop.ir import Buffer
from edgecc.ops.resize import Resize, coordinates, scaled_taps


@dataclass(frozen=True)
class _Table:
    """A resampled axis: for each position the addresses of its taps in the source, and their weights (none for nearest).

    `stride` is that of the result.
    """

    extent: int
    stride: int
    taps: int
    addresses: Buffer
    weights: Buffer | None


@kernel_for(Resize)
def lower_resize(request: Request) -> Kernel:
    """The kernel of a resampling; see the module."""
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, Resize):
        raise TypeError(op)
    moves = op.mode == "nearest"
    b = KernelBuilder(request, f"resize_{op.mode}", f"{op.mode} resampling of {shape_text(x_view)} to {shape_text(y_view)}")
    inside = [_inside(op, axis, size) for axis, size in enumerate(x_view.dims)]
    if y_view.elements == 0 or any(count == 0 for _, count in inside):
        y = b.output(0, "y", raw=moves)
        _extrapolate(b, op, y_view, y, inside)
        return b.kernel(choice="nothing to read")
    x = b.input(0, "x", raw=moves)
    plain: list[Axis] = []
    tables: list[_Table] = []
    start_y, start_x = 0, 0
    for axis, (first, count) in enumerate(inside):
        start_y += first * y_view.strides[axis]
        addresses, weights = _taps(op, x_view, axis, first, count)
        regular = _regular(addresses[:, 0], y_view.strides[axis]) if weights is None else None
        if regular is None:
            tables.append(_table(b, addresses, weights, y_view.strides[axis], compute_type(x_view.dtype)))
        else:
            plain += regular
            start_x += int(addresses[0, 0])
    y = b.output(0, "y", raw=moves)
    _extrapolate(b, op, y_view, y, inside)
    work = elements(plain) * int(np.prod([t.extent * t.taps for t in tables]))
    outer, inner = _ordered(plain, tables)
    _resample(b, y, x, outer, inner, (const(start_y), const(start_x)), request.threads > 1 and work >= PARALLEL_WORK)
    return b.kernel(choice=f"{len(tables)} axes by tables, {len(inner)} loops inside")


# -- axes -------------------------------------------------------------------------------------


def _inside(op: Resize, axis: int, size: int) -> tuple[int, int]:
    """The first position of a result axis that is not extrapolated, and how many there are.

    They are consecutive, since coordinates grow or fall with the position.
    """
    if op.coordinate_mode != "tf_crop_and_resize":
        return 0, int(op.sizes[axis])
    at = coordinates(op, axis, size)
    (found,) = np.nonzero((at >= 0) & (at <= size - 1))
    return (int(found[0]), len(found)) if len(found) else (0, 0)


def _taps(op: Resize, x: View, axis: int, first: int, count: int) -> tuple[Array, Array | None]:
    """Addresses [count, taps] in x along one axis, and weights; one tap and no weights where elements are just moved."""
    indices, weights = scaled_taps(op, axis, x.dims[axis])
    addresses = indices[first:first + count] * x.strides[axis]
    if indices.shape[1] == 1 and np.all(weights == 1.0):
        return addresses, None
    return addresses, weights[first:first + count]


def _regular(addresses: Array, stride: int) -> list[Axis] | None:
    """Plain axes with strides (result, source) for these addresses, relative to the first; None where there are none."""
    count = len(addresses)
    steps = np.diff(addresses)
    if count == 1 or np.all(steps == steps[0]):
        return [Axis(count, (stride, int(steps[0]) if count > 1 else 0))]
    factor = int(np.argmax(steps != 0)) + 1
    pattern = addresses[0] + np.arange(count) // factor * steps[factor - 1]
    if count % factor or np.any(addresses != pattern):
        return None
    return [Axis(count // factor, (factor * stride, int(steps[factor - 1]))), Axis(factor, (stride, 0))]


def _table(b: KernelBuilder, addresses: Array, weights: Array | None, stride: int, dtype: DType) -> _Table:
    kind = DType.I32 if np.abs(addresses).max(initial=0) < 1 << 31 else DType.I64
    count, taps = addresses.shape
    flat = addresses.reshape(-1).astype(kind.numpy)
    address_buffer = b.packed("addresses", kind, flat.size, (), lambda: flat)
    if weights is None:
        return _Table(count, stride, taps, address_buffer, None)
    factors = weights.reshape(-1).astype(dtype.numpy)
    return _Table(count, stride, taps, address_buffer, b.packed("weights", dtype, factors.size, (), lambda: factors))


def _ordered(plain: Sequence[Axis], tables: Sequence[_Table]) -> tuple[list[Axis | _Table], list[Axis]]:
    """Loops in the order of the result's memory: those down to the last table, and the plain ones inside."""
    loops: list[Axis | _Table] = [*simplified(plain), *tables]
    loops.sort(key=lambda loop: -abs(loop.strides[0] if isinstance(loop, Axis) else loop.stride))
    depth = max((i + 1 for i, loop in enumerate(loops) if isinstance(loop, _Table)), default=0)
    return loops[:depth], [loop for loop in loops[depth:] if isinstance(loop, Axis)]


# -- code -------------------------------------------------------------------------------------


def _resample(b: KernelBuilder, y: Buffer, x: Buffer, outer: Sequence[Axis | _Table], inner: Sequence[Axis],
              start: tuple[Index, Index], parallel: bool) -> None:
    """Opens the loops `outer`, gathering what one result reads, then walks `inner` (strides: result, source)."""
    written, read = start
    taps = [Tap(ZERO, None)]
    with ExitStack() as stack:
        for position, loop in enumerate(outer):
            kind = "parallel" if parallel and position == 0 else "serial"
            i = stack.enter_context(b.loop(f"r{position}", loop.extent, kind=kind))
            if isinstance(loop, Axis):
                written, read = written + i * loop.strides[0], read + i * loop.strides[1]
                continue
            written = written + i * loop.stride
            taps = [product(b, tap, own) for own in _read(b, loop, i) for tap in taps]
        if taps[0].weight is None:
            (tap,) = taps
            copy(b, y, x, inner, (written, read + tap.address), top_level=not outer)
        else:
            interpolate(b, y, x, inner, (written, read), taps)


def _read(b: KernelBuilder, table: _Table, position: Index) -> list[Tap]:
    """The taps of one position."""
    found = []
    for tap in range(table.taps):
        place = position * table.taps + tap
        address = from_expr(b.let("address", b.load(table.addresses, place)))
        found.append(Tap(address, None if table.weights is None else b.let("weight", b.load(table.weights, place))))
    return found


def _extrapolate(b: KernelBuilder, op: Resize, view: View, y: Buffer, inside: Sequence[tuple[int, int]]) -> None:
    """Fills what lies outside of the operand."""
    value = np.asarray(op.extrapolation_value).astype(view.dtype.numpy)
    bits = value.view(storage_type(view.dtype).numpy) if y.dtype is not view.dtype else value
    fill_around(b, y, view, inside, number(bits.item(), y.dtype))
