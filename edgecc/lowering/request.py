"""What the kernel of a step is asked for, and the sizes its call passes."""

from __future__ import annotations

from dataclasses import replace

from edgecc.ir.dims import Dim, SymbolicDim, symbols_of
from edgecc.ir.instance import operator_at
from edgecc.ir.op import Op
from edgecc.ir.types import DType
from edgecc.kernels.request import Operand, Request, size_name
from edgecc.kernels.shifted_sums import with_fused_scale, with_known_sums
from edgecc.kernels.sparse_pointwise import with_stored_blocks
from edgecc.kernels.view import View
from edgecc.loop.index import Index, const, var
from edgecc.lowering.options import LoweringOptions
from edgecc.memory.placement import Step
from edgecc.memory.places import Place
from edgecc.memory.strides import is_row_major
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Slice
from edgecc.ops.sizes import Sizes
from edgecc.targets.schema import Target


def request_of(step: Step, target: Target, options: LoweringOptions, precision: DType, *, rows: bool) -> Request:
    """The request of a step, with arithmetic in `precision` or longer; `rows`: as a part of a block that runs stripe by stripe.

    Sizes that the run decides are numbered as `open_sizes` lists them, so that steps which differ in nothing but the
    dimensions they depend on share a kernel. Kernels of open sizes run on one thread.
    """
    numbers = {dim: number for number, dim in enumerate(open_sizes(step))}

    def index(dim: Dim) -> Index:
        return const(dim) if isinstance(dim, int) else var(size_name(numbers[dim]))

    def view(place: Place) -> View:
        if not numbers:
            return place.view
        return replace(place.view, sizes=tuple(map(index, place.shape)), start=index(place.start))

    result = step.outputs[0].view.dtype if step.outputs else DType.F32
    if isinstance(step.op, Conv | MatMul) and step.op.exact:
        result = DType.I8  # where such sums are requantized, integers of 8 bits come of it, whatever they are stored as
    inputs: list[Operand | None] = []
    for place, constant in zip(step.inputs, step.constants, strict=True):
        if place is None:
            inputs.append(None)
        elif constant is None or constant.constant is None:
            inputs.append(Operand(view(place)))
        else:
            inputs.append(Operand.of_constant(view(place), constant.constant, result))
    outputs = tuple(view(place) for place in step.outputs)
    winograd = options.winograd and not rows
    if not numbers:
        request = Request(step.op, tuple(inputs), outputs, target, options.threads, precision, winograd=winograd, rows=rows, checks=options.checks)
        arrays = [None if constant is None else constant.constant for constant in step.constants]
        return with_stored_blocks(with_fused_scale(with_known_sums(request, arrays), arrays), arrays)
    op = operator_at(step.op, {s.name: s.upper for s in symbols_of(numbers)})
    return Request(op, tuple(inputs), outputs, target, 1, precision, winograd=winograd, rows=rows,
                   bounds=tuple((dim.lower, dim.upper) for dim in numbers), values=tuple(map(index, _numbers_of(step.op))), checks=options.checks)


def has_gaps(step: Step) -> bool:
    """Whether an operand or result of open shape has gaps between its elements, so that it is no run of so many."""
    places = [place for place in (*step.inputs, *step.outputs) if place is not None and place.shape]
    return any(place.start != 0 or (not place.view.packed and (not is_row_major(place.view) or any(
        not isinstance(size, int) and any(d != 1 for d in place.view.dims[:axis]) for axis, size in enumerate(place.shape)))) for place in places)


def open_sizes(step: Step) -> tuple[SymbolicDim, ...]:
    """The sizes of a step that the run decides, in the order in which its request numbers them."""
    places = [place for place in (*step.inputs, *step.outputs) if place is not None]
    dims = [dim for place in places for dim in (*place.shape, place.start)]
    dims += _numbers_of(step.op)
    return tuple(dict.fromkeys(dim for dim in dims if isinstance(dim, SymbolicDim)))


def _numbers_of(op: Op) -> tuple[Dim, ...]:
    """What a kernel reads of an operator that may be sizes of the run."""
    match op:
        case Sizes():
            return op.elements
        case Slice():
            return op.starts
    return ()
