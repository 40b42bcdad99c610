"""Views: how the movement operators look on memory that stays where it is.

A view is an element offset and a `View` (dims and strides). Each function returns None where no
offset and strides can express the result, which then needs a copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgecc.ir.op import Op
from edgecc.kernels.view import View
from edgecc.ops.movement import Expand, Reshape, Slice, Transpose

Located = tuple[int, View]
"""An element offset and the view that starts there."""


def row_major_strides(dims: Sequence[int]) -> tuple[int, ...]:
    """Strides of a shape stored without gaps, last axis innermost."""
    strides = [0] * len(dims)
    step = 1
    for axis in reversed(range(len(dims))):
        strides[axis] = step
        step *= dims[axis]
    return tuple(strides)


def row_major(view: View) -> View:
    """The view of the same type and shape stored row-major."""
    return View(view.dtype, view.dims, row_major_strides(view.dims))


def is_row_major(view: View) -> bool:
    """Whether the elements lie row-major without gaps, as seen from the first one."""
    wanted = row_major_strides(view.dims)
    return view.elements <= 1 or all(size == 1 or stride == own for size, stride, own in
                                     zip(view.dims, view.strides, wanted, strict=True))


def reshape_strides(dims: Sequence[int], strides: Sequence[int], new_dims: Sequence[int]) -> tuple[int, ...] | None:
    """Strides that show row-major order of (`dims`, `strides`) under the shape `new_dims`, or None.

    Axes are split always and merged where the outer stride is the inner stride times the inner size.
    Axes of size 1 get the stride they would have without gaps.
    """
    if math.prod(dims) == 0:
        return row_major_strides(new_dims)
    old = [(d, s) for d, s in zip(dims, strides, strict=True) if d != 1]
    out = [0] * len(new_dims)
    position = len(new_dims) - 1
    step = 1
    while old:
        size, stride = old.pop()
        step, covered = stride, 1
        while True:
            # The group of old axes of `size` elements ends here; fill it with new axes from the right.
            while position >= 0 and covered * new_dims[position] <= size and size % (covered * new_dims[position]) == 0:
                covered *= new_dims[position]
                out[position] = step
                step *= new_dims[position]
                position -= 1
                if covered == size:
                    break
            if covered == size:
                break
            # The next new axis reaches into the next old axis: they must be mergeable.
            if not old or old[-1][1] != stride * size:
                return None
            size *= old.pop()[0]
    for axis in range(position + 1):  # leading axes of size 1
        out[axis] = step
    return tuple(out)


def view_of(op: Op, source: View, result_dims: tuple[int, ...]) -> Located | None:
    """The result of movement operator `op` as a view of its operand, or None.

    Transposes, slices with positive steps and expansions always are views; reshapes where the strides allow it.
    """
    match op:
        case Transpose(perm=perm):
            return 0, View(source.dtype, result_dims, tuple(source.strides[a] for a in perm))
        case Reshape():
            strides = reshape_strides(source.dims, source.strides, result_dims)
            return None if strides is None else (0, View(source.dtype, result_dims, strides))
        case Slice(starts=starts, steps=steps):
            if any(step < 0 and size > 1 for step, size in zip(steps, result_dims, strict=True)):
                return None
            if 0 in result_dims:
                return 0, View(source.dtype, result_dims, source.strides)
            offset = sum(start * stride for start, stride in zip(starts, source.strides, strict=True) if isinstance(start, int))
            strides = tuple(stride * (step if size > 1 else 1)
                            for stride, step, size in zip(source.strides, steps, result_dims, strict=True))
            return offset, View(source.dtype, result_dims, strides)
        case Expand():
            return 0, source.broadcast_to(result_dims)
    return None


def operand_view(op: Op, result: View, operand_dims: tuple[int, ...]) -> View | None:
    """How the operand of a transpose or reshape must lie so that `result` is a view of it, or None.

    It starts at the same address.
    """
    match op:
        case Transpose(perm=perm):
            strides = [0] * len(perm)
            for axis, source_axis in enumerate(perm):
                strides[source_axis] = result.strides[axis]
            return View(result.dtype, operand_dims, tuple(strides))
        case Reshape():
            found = reshape_strides(result.dims, result.strides, operand_dims)
            return None if found is None else View(result.dtype, operand_dims, found)
    return None


def same_memory(a: View, b: View) -> bool:
    """Whether two views of one start address show the same elements at the same places."""
    return a.shows_same(b)


def innermost_axis(order: Sequence[int], dims: Sequence[int]) -> int | None:
    """The axis of more than one element that lies innermost in a layout order; None if there is none."""
    return next((axis for axis in reversed(order) if dims[axis] != 1), None)
