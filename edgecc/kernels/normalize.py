"""Layer, instance and RMS normalisation over any layout, and batch normalisation where it was not folded away."""

from __future__ import annotations

from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.folding import SOURCE, Group, Rule, computes_in_vectors, for_each_group, make_plan
from edgecc.kernels.iteration import Step, axes_of, elements, simplified
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.reduction import open_count
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.kernels.view import View
from edgecc.loop.builder import add, cast, div, fma, mul, number, operation, repeat, sub
from edgecc.loop.ir import Buffer, Expr
from edgecc.ops.reduction import BatchNorm, Normalize

RESULT = 0
"""The view of results among the strides of an axis: (result, source, scale?, bias?)."""

WORK = 6
"""Operations for each element."""


class Parameters:
    """Operands that are broadcast to x, such as scale and bias: known scalars become code, others are views."""

    def __init__(self, b: KernelBuilder, names: dict[int, str]) -> None:
        self.b = b
        self._known: dict[str, Expr] = {}
        self._buffers: dict[str, tuple[int, Buffer]] = {}
        self.indices: list[int] = []
        for index, name in names.items():
            operand = b.request.optional(index)
            if operand is None:
                continue
            if operand.values is not None and len(operand.values) == 1:
                self._known[name] = number(operand.values[0], compute_type(operand.view.dtype))
                continue
            self._buffers[name] = (SOURCE + 1 + len(self.indices), b.input(index, name))
            self.indices.append(index)

    def at(self, name: str, step: Step) -> Expr | None:
        """The parameter for a vector of positions, in the type computed with; None where it is absent."""
        if name in self._known:
            return self._known[name]
        found = self._buffers.get(name)
        if found is None:
            return None
        view, buffer = found
        return cast(step.load(self.b, view, buffer), compute_type(buffer.dtype))


@kernel_for(Normalize, is_open=True)
def lower_normalize(request: Request) -> Kernel:
    """Mean, then variance around it, then the result: three passes over each row (two with rms).

    Error: that of two sums (edgecc/kernels/folding.py), a root, a division and four roundings.
    """
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, Normalize):
        raise TypeError(op)
    aliased = x_view.shows_same(y_view)
    b = KernelBuilder(request, "rms_norm" if op.rms else "layer_norm",
                      f"normalise {shape_text(x_view)} over axes {','.join(map(str, op.axes))}")
    x = b.input(0, "x", aliased=aliased)
    parameters = Parameters(b, {1: "scale", 2: "bias"})
    y = b.output(0, "y", aliased=aliased)
    views = [y_view, x_view, *(request.operand(i).view.broadcast_to(x_view.dims) for i in parameters.indices)]
    kept = simplified(axes_of(views, [a for a in range(len(x_view.dims)) if a not in op.axes]), SOURCE)
    reduced = simplified(axes_of(views, op.axes), SOURCE) or axes_of(views, op.axes[-1:])
    plan = make_plan(request.target, kept, reduced, in_vectors=computes_in_vectors(x_view.dtype))
    dtype, count = compute_type(x_view.dtype), elements(reduced)
    is_open = any(axis.size is not None for axis in reduced)

    def mean(total: Expr) -> Expr:
        return div(total, repeat(open_count(reduced, dtype), total.lanes)) if is_open else mul(total, 1.0 / max(count, 1))

    def row(group: Group) -> None:
        def load(step: Step) -> Expr:
            return cast(step.load(b, SOURCE, x), dtype)

        means: list[Expr] = []
        if not op.rms:
            sums = group.fold(Rule("sum", dtype), lambda step, _: load(step), zero_padded=True)
            means = group.spread("mean", [mean(s) for s in sums])

        def centred(step: Step, result: int) -> Expr:
            return load(step) if op.rms else sub(load(step), means[result])

        squares = group.fold(Rule("sum_square", dtype), lambda step, r: b.let("d", centred(step, r)), zero_padded=op.rms)
        factors = group.spread("factor", [
            div(1.0, operation("sqrt", add(mean(s), op.epsilon))) for s in squares])

        def finish(step: Step, result: int) -> None:
            value: Expr = mul(centred(step, result), factors[result])
            scale, bias = parameters.at("scale", step), parameters.at("bias", step)
            if scale is not None and bias is not None:
                value = fma(value, scale, bias)
            elif scale is not None or bias is not None:
                value = mul(value, scale) if scale is not None else add(value, bias if bias is not None else 0.0)
            step.store(b, RESULT, y, cast(value, y.dtype))

        group.each(finish)

    for_each_group(b, plan, len(views), row, work=WORK)
    return b.kernel(in_place=((0, 0),) if aliased else (), choice=plan.description)


@kernel_for(BatchNorm, is_open=True)
def lower_batch_norm(request: Request) -> Kernel:
    """One factor and one offset for each channel, applied to its elements."""
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, BatchNorm):
        raise TypeError(op)
    aliased = x_view.shows_same(y_view)
    b = KernelBuilder(request, "batch_norm", f"batch normalisation of {shape_text(x_view)}")
    x = b.input(0, "x", aliased=aliased)
    names = {1: "scale", 2: "bias", 3: "mean", 4: "variance"}
    buffers = {name: b.input(index, name) for index, name in names.items()}
    y = b.output(0, "y", aliased=aliased)
    rank = len(x_view.dims)
    ones = (1,) * (rank - 2)
    views = [y_view, x_view]
    for index in names:
        view = request.operand(index).view
        column = View(view.dtype, (*view.dims, *ones), (*view.strides, *(0,) * (rank - 2)))
        views.append(column.broadcast_to(x_view.dims))
    # Each channel is a row of its own "reduction" without a fold: its parameters are loaded once.
    kept = simplified(axes_of(views, [1]), SOURCE)
    walked = simplified(axes_of(views, [0, *range(2, rank)]), SOURCE)
    plan = make_plan(request.target, kept, walked, in_vectors=computes_in_vectors(x_view.dtype))
    dtype = compute_type(x_view.dtype)

    def channel(group: Group) -> None:
        def parameter(name: str, step: Step) -> Expr:
            return cast(step.load(b, SOURCE + 1 + list(names.values()).index(name), buffers[name]), dtype)

        factors, offsets = [], []
        for step in group.results:
            root = operation("sqrt", add(parameter("variance", step), op.epsilon))
            factor = b.let("factor", div(parameter("scale", step), root))
            factors.append(factor)
            offsets.append(parameter("bias", step))
        means = [parameter("mean", step) for step in group.results]
        scales, shifts, centres = (group.spread(n, v) for n, v in (("scale", factors), ("shift", offsets), ("centre", means)))

        def finish(step: Step, result: int) -> None:
            value = cast(step.load(b, SOURCE, x), dtype)
            step.store(b, RESULT, y, cast(fma(sub(value, centres[result]), scales[result], shifts[result]), y.dtype))

        group.each(finish)

    for_each_group(b, plan, len(views), channel, work=2)
    return b.kernel(in_place=((0, 0),) if aliased else (), choice=plan.description)

