"""Resampling of images whose size the run decides, by whole factors or by one over a whole number.

Then what a position reads does not depend on the size of the image: position q*factor + p of the result reads a few elements
around q, at distances and with weights that depend on p alone; positions outside of the image mean its border. Tables hold
them for each p, as `axis_taps` gives them in the middle of an image.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array, DType
from edgecc.kernels.copying import copy
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.iteration import Axis, open_axis, simplified
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.request import Request
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.kernels.taps import Tap, interpolate, product
from edgecc.loop.builder import add, cast, mul, operation
from edgecc.loop.index import ZERO, Index, from_expr
from edgecc.loop.ir import Buffer, FromIndex
from edgecc.ops.resize import Resize, axis_taps, is_phased

_MIDDLE = 32
"""A position so far from both ends of an image that no window reaches them."""


@dataclass(frozen=True)
class _Phases:
    """A resampled axis.

    Attributes:
        count: positions of the source that results lie around; each stands for `factor` results and moves on by `step` elements.
        size: of the source.
        to, source: strides of the result and the source.
        taps: how many elements a position reads.
        distances, weights: tables of [factor, taps]; no weights where one element is moved.
    """

    count: Index
    factor: int
    step: int
    size: Index
    to: int
    source: int
    taps: int
    distances: Buffer
    weights: Buffer | None


def lower_open_resize(request: Request) -> Kernel:
    """The kernel of a resampling of images of open sizes.

    Raises: EdgeccError E112 where a factor is no whole number nor one over one, and in modes that look at the whole image.
    """
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, Resize):
        raise TypeError(op)
    moves = op.mode == "nearest"
    b = KernelBuilder(request, f"resize_{op.mode}", f"{op.mode} resampling of images of any size up to {shape_text(x_view)}")
    x = b.input(0, "x", raw=moves)
    loops: list[Axis | _Phases] = []
    for axis, (dim, scale) in enumerate(zip(x_view.dims, op.scales, strict=True)):
        to, source = y_view.strides[axis], x_view.strides[axis]
        if scale == 1.0:
            loops.append(open_axis(dim, (to, source), x_view.size(axis), padded=x_view.padded and y_view.padded))
            continue
        factor, step, distances, weights = _around(op, axis)
        taps = distances.shape[1]
        table = b.packed(f"distances{axis}", DType.I32, distances.size, (), lambda data=distances: data.astype(DType.I32.numpy).reshape(-1))
        dtype = compute_type(x_view.dtype)
        factors = None if moves else b.packed(f"weights{axis}", dtype, weights.size, (),
                                              lambda data=weights, dtype=dtype: data.astype(dtype.numpy).reshape(-1))
        loops.append(_Phases(x_view.size(axis) if step == 1 else y_view.size(axis), factor, step, x_view.size(axis), to, source, taps,
                             table, factors))
    y = b.output(0, "y", raw=moves)
    ordered: list[Axis | _Phases] = [*simplified([loop for loop in loops if isinstance(loop, Axis)]),
                                     *(loop for loop in loops if isinstance(loop, _Phases))]
    ordered.sort(key=lambda loop: -abs(loop.strides[0] if isinstance(loop, Axis) else loop.to))
    depth = max(i + 1 for i, loop in enumerate(ordered) if isinstance(loop, _Phases))
    written, read, found = ZERO, ZERO, [Tap(ZERO, None)]
    with ExitStack() as stack:
        for position, loop in enumerate(ordered[:depth]):
            if isinstance(loop, Axis):
                i = stack.enter_context(b.loop(f"r{position}", loop.stop))
                written, read = written + i * loop.strides[0], read + i * loop.strides[1]
                continue
            q = stack.enter_context(b.loop(f"q{position}", loop.count))
            phase = stack.enter_context(b.loop(f"p{position}", loop.factor))
            written = written + (q * loop.factor + phase) * loop.to
            own = [_tap(b, loop, q, phase * loop.taps + tap) for tap in range(loop.taps)]
            found = [product(b, tap, other) for other in own for tap in found]
        inner = [loop for loop in ordered[depth:] if isinstance(loop, Axis)]
        if found[0].weight is None:
            copy(b, y, x, inner, (written, read + found[0].address), top_level=False)
        else:
            interpolate(b, y, x, inner, (written, read), found)
    return b.kernel(choice="tables for each phase, open sizes")


def _tap(b: KernelBuilder, axis: _Phases, place: Index, entry: Index) -> Tap:
    distance = b.load(axis.distances, entry)
    at = add(FromIndex(place * axis.step, DType.I64), cast(distance, DType.I64))
    inside = operation("min", operation("max", at, 0), FromIndex(axis.size - 1, DType.I64))
    address = from_expr(b.let("address", mul(inside, axis.source)))
    return Tap(address, None if axis.weights is None else b.let("weight", b.load(axis.weights, entry)))


def _around(op: Resize, axis: int) -> tuple[int, int, Array, Array]:
    """Factor and step of an axis, and [factor, taps] distances from the position in the source, and weights."""
    scale = op.scales[axis]
    factor, step = (round(scale), 1) if scale >= 1 else (1, round(1 / scale))
    if not is_phased(op, axis):
        raise EdgeccError("E112", f"resize by {scale:.4g} in mode {op.coordinate_mode} has no kernel for sizes known only at run time",
                          hint="give the dimension one size with --shape")
    size = 2 * _MIDDLE * step
    sizes = tuple(size * factor // step if a == axis else other for a, other in enumerate(op.sizes))
    indices, weights = axis_taps(replace(op, sizes=sizes), axis, size)
    middle = slice(_MIDDLE * factor, (_MIDDLE + 1) * factor)
    return factor, step, indices[middle] - _MIDDLE * step, weights[middle]
