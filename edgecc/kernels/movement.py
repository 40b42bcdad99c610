"""Operators that move elements: transpose, reshape, expand, slice, concat, pad. All are strided copies."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgecc.errors import EdgeccError
from edgecc.ir.dims import numbers
from edgecc.ir.op import Op
from edgecc.kernels.copying import Irregular, affine_runs, copy, copy_packed, fill_around
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.iteration import Axis, axes_of
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder, storage_type
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.view import View
from edgecc.loop.builder import number
from edgecc.loop.index import ZERO, Index, as_index, const, maximum, minimum
from edgecc.loop.ir import Expr
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose, source_positions

MAX_PIECES = 32
"""Bound on the affine pieces a padding is cut into; beyond, positions are computed while copying."""
MAX_LISTED = 1 << 17
"""The longest padded axis whose positions are looked at one by one while compiling; those of longer ones are computed, too."""


def _wanted(op: Op, cls: type) -> TypeError:
    return TypeError(f"{cls.__name__} wanted, got {op!r}")


@kernel_for(Transpose, is_open=True)
def lower_transpose(request: Request) -> Kernel:
    """A copy whose source has its strides permuted; in blocks where rows of one are columns of the other."""
    op, x = request.op, request.operand(0).view
    if not isinstance(op, Transpose):
        raise _wanted(op, Transpose)
    source = replace(x, dims=request.outputs[0].dims, strides=tuple(x.strides[a] for a in op.perm), sizes=request.outputs[0].sizes)
    return _copied(request, source, 0, f"transpose {shape_text(x)} by {','.join(map(str, op.perm))}")


@kernel_for(Expand, is_open=True)
def lower_expand(request: Request) -> Kernel:
    """A copy whose source has strides of 0."""
    op, x = request.op, request.operand(0).view
    if not isinstance(op, Expand):
        raise _wanted(op, Expand)
    return _copied(request, x.broadcast_to(request.outputs[0].dims), 0, f"expand {shape_text(x)} to {shape_text(request.outputs[0])}")


@kernel_for(Slice, is_open=True)
def lower_slice(request: Request) -> Kernel:
    """A copy whose source starts further on and has multiplied strides."""
    op, x = request.op, request.operand(0).view
    if not isinstance(op, Slice):
        raise _wanted(op, Slice)
    strides = tuple(s * step for s, step in zip(x.strides, op.steps, strict=True))
    source = View(x.dtype, request.outputs[0].dims, strides, sizes=request.outputs[0].sizes)
    starts = request.values or tuple(map(const, numbers(op.starts)))
    start = sum((first * s for s, first in zip(x.strides, starts, strict=True)), x.start)
    return _copied(request, source, start, f"slice {shape_text(source)} of {shape_text(x)}")


def _copied(request: Request, source: View, start: Index | int, doc: str) -> Kernel:
    b = KernelBuilder(request, request.op.name, doc)
    x, y = b.input(0, "x", raw=True), b.output(0, "y", raw=True)
    copy(b, y, x, axes_of([request.outputs[0], source]), (request.outputs[0].start, source.start + start))
    return b.kernel(choice="strided copy")


@kernel_for(Concat)
def lower_concat(request: Request) -> Kernel:
    """One copy for each operand, into its part of the result."""
    op, y_view = request.op, request.outputs[0]
    if not isinstance(op, Concat):
        raise _wanted(op, Concat)
    views = [request.operand(i).view for i in range(len(request.inputs))]
    b = KernelBuilder(request, op.name, f"concat {len(views)} operands along axis {op.axis} to {shape_text(y_view)}")
    sources = [b.input(i, f"x{i}", raw=True) for i in range(len(views))]
    y = b.output(0, "y", raw=True)
    first = 0
    for source, view in zip(sources, views, strict=True):
        part = View(y_view.dtype, view.dims, y_view.strides)
        copy(b, y, source, axes_of([part, view]), (const(first * y_view.strides[op.axis]), ZERO))
        first += view.dims[op.axis]
    return b.kernel(choice="strided copies")


# -- reshape ----------------------------------------------------------------------------------


@kernel_for(Reshape, is_open=True)
def lower_reshape(request: Request) -> Kernel:
    """A copy through the axes that both shapes are made of.

    Where the sizes of both shapes are products of common factors, loops over the factors are affine
    in both views. Where not, a loop over the result computes positions in the source by division.
    """
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, Reshape):
        raise _wanted(op, Reshape)
    b = KernelBuilder(request, op.name, f"reshape {shape_text(x_view)} to {shape_text(y_view)}")
    x, y = b.input(0, "x", raw=True), b.output(0, "y", raw=True)
    if request.is_open:
        if x_view.dims != y_view.dims or x_view.sizes != y_view.sizes:
            raise EdgeccError("E112", "reshape has no kernel for sizes known only at run time but copies of one shape")
        if x_view.packed or y_view.packed:
            copy_packed(b, y, x, y_view, x_view)
        else:
            copy(b, y, x, axes_of([y_view, x_view]), (y_view.start, x_view.start))
        return b.kernel(choice="strided copy")
    axes, irregular = common_axes(y_view, x_view)
    copy(b, y, x, axes, irregular=irregular)
    return b.kernel(choice="strided copy" if not irregular else "copy with division of positions")


@dataclass(frozen=True)
class _Run:
    """Consecutive logical positions that lie `stride` apart."""

    extent: int
    stride: int


def _runs(view: View) -> list[_Run]:
    """The axes of a view, outermost first, those of one element dropped, neighbours merged where they are one run."""
    runs: list[_Run] = []
    for dim, stride in zip(view.dims, view.strides, strict=True):
        if dim == 1:
            continue
        if runs and runs[-1].stride == stride * dim:
            runs[-1] = _Run(runs[-1].extent * dim, stride)
        else:
            runs.append(_Run(dim, stride))
    return runs


def common_axes(y: View, x: View) -> tuple[list[Axis], list[Irregular]]:
    """Axes with strides (y, x) that visit both views in row-major order, and the loops that cannot be such axes."""
    if y.elements == 0:
        return [Axis(0, (0, 0))], []
    axes: list[Axis] = []
    irregular: list[Irregular] = []
    left, right = _runs(y)[::-1], _runs(x)[::-1]  # innermost first
    while left or right:
        group_y, group_x = _take_group(left, right)
        factors = _common_factors([r.extent for r in group_y], [r.extent for r in group_x])
        if factors is None:
            irregular.append(_by_division(group_y, group_x))
            continue
        strides = zip(_factor_strides(factors, group_y), _factor_strides(factors, group_x), strict=True)
        axes += [Axis(factor, pair) for factor, pair in zip(factors, strides, strict=True)]
    return axes, irregular


def _take_group(left: list[_Run], right: list[_Run]) -> tuple[list[_Run], list[_Run]]:
    """Removes from the front of both lists the fewest runs that hold equally many positions."""
    group_y, group_x = [left.pop(0)], [right.pop(0)]
    size_y, size_x = group_y[0].extent, group_x[0].extent
    while size_y != size_x:
        if size_y < size_x:
            group_y.append(left.pop(0))
            size_y *= group_y[-1].extent
        else:
            group_x.append(right.pop(0))
            size_x *= group_x[-1].extent
    return group_y, group_x


def _common_factors(first: Sequence[int], second: Sequence[int]) -> list[int] | None:
    """Sizes whose consecutive products give the sizes of both (all innermost first); None where there are none."""
    bounds = sorted({*itertools.accumulate(first, operator.mul), *itertools.accumulate(second, operator.mul)})
    if any(b % a for a, b in itertools.pairwise(bounds)):
        return None
    return [b // a for a, b in itertools.pairwise([1, *bounds])]


def _factor_strides(factors: Sequence[int], runs: Sequence[_Run]) -> list[int]:
    """The stride of each factor in the run that it is part of."""
    strides = []
    position, inside = 0, 1
    for factor in factors:
        if inside == runs[position].extent:
            position, inside = position + 1, 1
        strides.append(runs[position].stride * inside)
        inside *= factor
    return strides


def _by_division(group_y: Sequence[_Run], group_x: Sequence[_Run]) -> Irregular:
    """Loops over the runs of y; positions in x follow from the number of elements before."""

    def source(*indices: Index) -> Index:
        flat = ZERO
        for i, run in zip(indices, reversed(group_y), strict=True):
            flat = flat * run.extent + i
        address = ZERO
        for position, run in enumerate(group_x):
            is_outermost = position == len(group_x) - 1
            address = address + (flat if is_outermost else flat.mod(run.extent)) * run.stride
            flat = flat if is_outermost else flat.floordiv(run.extent)
        return address

    return Irregular(tuple((run.extent, run.stride) for run in reversed(group_y)), source)


# -- pad --------------------------------------------------------------------------------------


@kernel_for(Pad)
def lower_pad(request: Request) -> Kernel:
    """Copies of affine pieces; with mode "constant" one copy, and the fill of what lies around it."""
    op = request.op
    if not isinstance(op, Pad):
        raise _wanted(op, Pad)
    return _pad_constant(request, op) if op.mode == "constant" else _pad_repeated(request, op)


def _pad_constant(request: Request, op: Pad) -> Kernel:
    x_view, y_view = request.operand(0).view, request.outputs[0]
    b = KernelBuilder(request, "pad_constant", f"pad {shape_text(x_view)} to {shape_text(y_view)}")
    x, y = b.input(0, "x", raw=True), b.output(0, "y", raw=True)
    filling = filling_of(b)
    kept = [(max(before, 0), max(0, dim - max(before, 0) - max(after, 0)))
            for dim, before, after in zip(y_view.dims, op.before, op.after, strict=True)]
    fill_around(b, y, y_view, kept, filling)
    source_start = sum(s * max(0, -before) for s, before in zip(x_view.strides, op.before, strict=True))
    start = (const(sum(s * first for s, (first, _) in zip(y_view.strides, kept, strict=True))), const(source_start))
    copy(b, y, x, [Axis(count, (sy, sx)) for (_, count), sy, sx
                   in zip(kept, y_view.strides, x_view.strides, strict=True)], start)
    return b.kernel(choice="copy and fill")


def filling_of(b: KernelBuilder) -> Expr:
    """What is around x in the request of a `Pad` with mode "constant", in the type its elements are moved in."""
    value, dtype = b.request.optional(1), b.request.outputs[0].dtype
    if value is None or (value.values is not None and value.values[0] == 0 and not _is_negative_zero(value.values[0])):
        return number(0, storage_type(dtype))  # all bits zero in every type
    if value.values is not None and storage_type(dtype) is dtype:
        return number(value.values[0], dtype)
    return b.let("value", b.load(b.input(1, "fill", raw=True), 0))


def _is_negative_zero(value: float | int | bool) -> bool:
    return isinstance(value, float) and math.copysign(1.0, value) < 0


def _pad_repeated(request: Request, op: Pad) -> Kernel:
    x_view, y_view = request.operand(0).view, request.outputs[0]
    b = KernelBuilder(request, f"pad_{op.mode}", f"pad {shape_text(x_view)} to {shape_text(y_view)} ({op.mode})")
    x, y = b.input(0, "x", raw=True), b.output(0, "y", raw=True)
    computed = {axis for axis, dim in enumerate(y_view.dims) if dim > MAX_LISTED}
    pieces = [[] if axis in computed else affine_runs([int(p) for p in source_positions(op.mode, dim, before, after)])
              for axis, (dim, before, after) in enumerate(zip(x_view.dims, op.before, op.after, strict=True))]
    while math.prod(len(p) for axis, p in enumerate(pieces) if axis not in computed) > MAX_PIECES:
        computed.add(max((a for a in range(len(pieces)) if a not in computed), key=lambda a: len(pieces[a])))
    irregular = [Irregular(((y_view.dims[a], y_view.strides[a]),), _computed_position(op, x_view, a))
                 for a in sorted(computed)]
    affine = [a for a in range(len(pieces)) if a not in computed]
    for chosen in itertools.product(*(pieces[a] for a in affine)):
        axes = [Axis(p.count, (y_view.strides[a], p.step * x_view.strides[a])) for a, p in zip(affine, chosen, strict=True)]
        start = (const(sum(p.first * y_view.strides[a] for a, p in zip(affine, chosen, strict=True))),
                 const(sum(p.source * x_view.strides[a] for a, p in zip(affine, chosen, strict=True))))
        copy(b, y, x, axes, start, irregular)
    return b.kernel(choice="copies of affine pieces" if not computed else "copy with computed positions")


def _computed_position(op: Pad, x: View, axis: int) -> Callable[[Index], Index]:
    """The address of the element that position i of a padded axis repeats; see `source_positions`."""
    size, before, stride = x.dims[axis], op.before[axis], x.strides[axis]

    def source(i: Index) -> Index:
        position = i - before
        match op.mode:
            case "edge":
                found = maximum(minimum(position, size - 1), 0)
            case "wrap":
                found = position.mod(size)
            case _:
                folded = position.mod(max(2 * (size - 1), 1))
                found = minimum(folded, as_index(2 * (size - 1)) - folded)
        return found * stride

    return source
