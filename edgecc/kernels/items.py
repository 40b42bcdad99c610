"""Kernels for batches whose size the run decides, made of the kernel for one member.

Many operators treat the members of a batch alike and apart from each other. Where nothing but their number
is open, the kernel of a single member, with all that is known of it, runs once for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from edgecc.errors import EdgeccError
from edgecc.ir.op import Op
from edgecc.ir.types import DType
from edgecc.kernels.kernel import FromInput, FromOutput, Kernel
from edgecc.kernels.open_convolution import lower_open_convolution
from edgecc.kernels.open_pad import lower_open_pad
from edgecc.kernels.open_pool import lower_open_pool
from edgecc.kernels.open_resize import lower_open_resize
from edgecc.kernels.registry import Lowering, lower, parametrized
from edgecc.kernels.request import Operand, Request
from edgecc.kernels.view import View
from edgecc.loop.index import ZERO, Index, var
from edgecc.loop.ir import Body, Buffer, Expr, For, Load, Prefetch, Stmt, Store, map_children
from edgecc.loop.rewrite import map_blocks, map_expressions
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.ops.matrix import Determinant
from edgecc.ops.movement import Pad, Slice
from edgecc.ops.recurrent import Recurrent
from edgecc.ops.reduction import ArgReduce, CumSum, TopK
from edgecc.ops.resize import Resize
from edgecc.ops.sampling import GridSample
from edgecc.ops.windows import Col2Im

OPEN_WINDOWS: Mapping[type[Op], Lowering] = MappingProxyType({
    Conv: lower_open_convolution, Pool: lower_open_pool, Resize: lower_open_resize, Pad: lower_open_pad})
"""Kernels for sizes that the run decides, of operators whose other kernels know them."""

ITEM = "item"
"""The loop over the members."""


def lower_open(request: Request, choice: str | None = None) -> Kernel:
    """`lower`; where the run decides on nothing but the size of a batch, by the kernel of a single member.

    Raises: EdgeccError E112 where no kernel covers the request.
    """
    one = single(request) if request.is_open else None
    if one is not None:
        kernel = repeated(lower(one[0]), request, one[1])
        if kernel is not None:
            return parametrized(kernel, request)
    try:
        return _lowered(request, choice)
    except EdgeccError as error:
        if error.code != "E112" or not request.is_open or request.precision is DType.F32:
            raise
        # What is stored in a shorter type can still be computed with in f32.
        return _lowered(replace(request, precision=DType.F32), choice)


def _lowered(request: Request, choice: str | None) -> Kernel:
    windows = OPEN_WINDOWS.get(type(request.op)) if request.is_open else None
    return lower(request, choice) if windows is None else parametrized(windows(request), request)


def single(request: Request) -> tuple[Request, Index] | None:
    """The request for one member of a batch, and the size of the batch; None where more is open, or members depend on each other.

    Each view has at most one open axis, all of one size.
    """
    views = [*(operand.view for operand in request.inputs if operand is not None), *request.outputs]
    sizes = {size for view in views for size in view.sizes if not size.is_const}
    if len(sizes) != 1 or any(view.packed or not view.start.is_const or len(open_axes(view)) > 1 for view in views):
        return None
    batch = open_axes(request.operand(0).view)
    op = _for_one(request.op, batch[0]) if batch else None
    if op is None or any(not open_axes(view) for view in request.outputs):
        return None
    inputs = tuple(None if operand is None else replace(operand, view=_one(operand.view)) for operand in request.inputs)
    return replace(request, op=op, inputs=inputs, outputs=tuple(map(_one, request.outputs)), threads=1, bounds=()), sizes.pop()


def repeated(kernel: Kernel, request: Request, count: Index) -> Kernel | None:
    """The kernel of one member, run for all members of `request`; None where its memory is not what the views say."""
    strides: dict[str, int] = {}
    buffers: list[Buffer] = []
    for buffer, argument in zip(kernel.function.buffers, kernel.arguments, strict=True):
        view = _view_of(argument, request)
        if view is None or not open_axes(view):
            buffers.append(buffer)
            continue
        stride, rest = divmod(view.strides[open_axes(view)[0]] * view.dtype.size, buffer.dtype.size)
        if rest:
            return None
        strides[buffer.name] = stride
        buffers.append(replace(buffer, elements=max(buffer.elements, -(-view.span * view.dtype.size // buffer.dtype.size))))
    body: Body = (For(ITEM, ZERO, count, _moved(kernel.function.body, strides)),)
    return replace(kernel, function=replace(kernel.function, buffers=tuple(buffers), body=body),
                   choice=f"{kernel.choice}; once for each member of the batch")


def open_axes(view: View) -> list[int]:
    """The axes whose size the run decides."""
    return [axis for axis, size in enumerate(view.sizes) if not size.is_const]


def _one(view: View) -> View:
    dims = tuple(1 if axis in open_axes(view) else dim for axis, dim in enumerate(view.dims))
    return replace(view, dims=dims, sizes=(), padded=False)


def _for_one(op: Op, axis: int) -> Op | None:
    """The operator on one member of a batch along `axis` of its first operand; None where members depend on each other."""
    match op:
        case Conv() | ConvTranspose() | Pool() | GridSample() | Col2Im() if axis == 0:
            return op
        case Determinant():  # of matrices that have one size: the open axis is none of theirs
            return op
        case Pad(before=before, after=after) if before[axis] == after[axis] == 0:
            return op
        case Resize(sizes=sizes, scales=scales) if scales[axis] == 1.0 and not op.roi:
            return replace(op, sizes=tuple(1 if a == axis else size for a, size in enumerate(sizes)))
        case Slice(starts=starts, sizes=sizes, steps=steps) if starts[axis] == 0 and steps[axis] == 1:  # all of the axis: its size is the only open one
            return replace(op, sizes=tuple(1 if a == axis else size for a, size in enumerate(sizes)))
        case ArgReduce(axis=own) | CumSum(axis=own) | TopK(axis=own) if own != axis and (not isinstance(op, ArgReduce) or op.keepdims):
            return op
        case Recurrent(layout=layout) if axis == (0 if layout else 1):
            return op
    return None


def _view_of(argument: object, request: Request) -> View | None:
    match argument:
        case FromInput(index=index):
            operand: Operand | None = request.optional(index)
            return None if operand is None else operand.view
        case FromOutput(index=index):
            return request.outputs[index]
    return None


def _moved(body: Body, strides: Mapping[str, int]) -> Body:
    """`body` for member `ITEM`: its memory begins so many times further on."""

    def index(buffer: str, at: Index) -> Index:
        return at + var(ITEM) * strides[buffer] if buffer in strides else at

    def expr(value: Expr) -> Expr:
        if isinstance(value, Load):
            return replace(value, index=index(value.buffer, value.index))
        return map_children(value, expr)

    def block(stmts: Body) -> Body:
        out: list[Stmt] = []
        for stmt in stmts:
            match stmt:
                case Store() | Prefetch():
                    out.append(replace(stmt, index=index(stmt.buffer, stmt.index)))
                case _:
                    out.append(stmt)
        return tuple(out)

    return map_blocks(map_expressions(body, expr), block)
