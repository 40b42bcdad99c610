"""Softmax and log-softmax along any axis of any layout."""

from __future__ import annotations

from collections.abc import Sequence

from edgecc.ir.types import DType
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.folding import SOURCE, AlongGroup, Group, Rule, computes_in_vectors, for_each_group, make_plan
from edgecc.kernels.iteration import Step, axes_of, simplified
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.kernels.view import View
from edgecc.loop.builder import cast, div, mul, operation, sub
from edgecc.loop.ir import Buffer, Expr, Op
from edgecc.ops.reduction import Softmax

RESULT = 0
"""The view of results among the strides of an axis: (result, source)."""

ROW_VECTORS = 4
"""Rows of up to so many vectors are kept in registers from the first load to the last store."""

WORK = 16
"""Operations for each element, most of them in exp."""


@kernel_for(Softmax, is_open=True)
def lower_softmax(request: Request) -> Kernel:
    """Maximum, exponentials and their sum, scaling: three passes, or one over rows that fit in registers.

    Error: that of exp, of one multiplication by a rounded reciprocal, and of the sum (edgecc/kernels/folding.py).
    """
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, Softmax):
        raise TypeError(op)
    aliased = x_view.shows_same(y_view)
    b = KernelBuilder(request, "log_softmax" if op.log else "softmax", f"softmax of {shape_text(x_view)} along axis {op.axis}")
    x, y = b.input(0, "x", aliased=aliased), b.output(0, "y", aliased=aliased)
    views: list[View] = [y_view, x_view]
    kept = simplified(axes_of(views, [a for a in range(len(x_view.dims)) if a != op.axis]), SOURCE)
    reduced = axes_of(views, [op.axis])
    plan = make_plan(request.target, kept, reduced, in_vectors=computes_in_vectors(x_view.dtype))
    kernel = _Softmax(b, x, y, op.log)
    in_registers = plan.along and reduced[0].size is None and reduced[0].extent <= ROW_VECTORS * plan.lanes
    for_each_group(b, plan, 2, kernel.short_row if in_registers else kernel.rows, work=WORK, most=2)
    return b.kernel(in_place=((0, 0),) if aliased else (), choice=plan.description + (", rows in registers" if in_registers else ""))


class _Softmax:
    """The statements for one group of rows."""

    def __init__(self, b: KernelBuilder, x: Buffer, y: Buffer, log: bool) -> None:
        self.b = b
        self.x, self.y = x, y
        self.dtype = compute_type(x.dtype)
        self.log = log

    def _load(self, step: Step) -> Expr:
        return cast(step.load(self.b, SOURCE, self.x), self.dtype)

    def _store(self, step: Step, value: Expr) -> None:
        step.store(self.b, RESULT, self.y, cast(value, self.y.dtype))

    def _power(self, d: Expr) -> Expr:
        """e^d of a difference from the largest element."""
        return Op("decay", (d,), DType.F32, d.lanes) if self.dtype is DType.F32 else operation("exp", d)

    def rows(self, group: Group) -> None:
        """Three passes. The exponentials are kept in y if it has the type they are computed in."""
        b, keeps = self.b, self.y.dtype is self.dtype and not self.log
        largest = group.spread("largest", group.fold(Rule("max", self.dtype), lambda step, _: self._load(step)))

        def exponential(step: Step, row: int) -> Expr:
            value = self._power(sub(self._load(step), largest[row]))
            if not keeps:
                return value
            kept = b.let("e", value)
            self._store(step, kept)
            return kept

        totals = group.fold(Rule("sum", self.dtype), exponential)
        if self.log:
            shifts = group.spread("shift", [operation("log", t) for t in totals])
            group.each(lambda step, row: self._store(step, sub(sub(self._load(step), largest[row]), shifts[row])))
            return
        scales = group.spread("scale", [div(1.0, t) for t in totals])

        def scale(step: Step, row: int) -> None:
            value = step.load(b, RESULT, self.y) if keeps else self._power(sub(self._load(step), largest[row]))
            self._store(step, mul(value, scales[row]))

        group.each(scale)

    def short_row(self, group: Group) -> None:
        """One pass: every vector of the row is a local."""
        if not isinstance(group, AlongGroup):
            raise TypeError(group)
        for steps in group.row_steps():
            self._short_row(group, steps)

    def _short_row(self, group: AlongGroup, steps: Sequence[Step]) -> None:
        b = self.b
        loaded = [group.padded(step, b.let("x", self._load(step)), float("-inf")) for step in steps]
        values = [b.let("v", value) if step.valid else value for step, value in zip(steps, loaded, strict=True)]
        (largest,) = group.spread("largest", [group.join(Rule("max", self.dtype), values)])
        shifted = [b.let("d", sub(value, largest)) for value in values]
        exponentials = [b.let("e", self._power(d)) for d in shifted]
        total = group.join(Rule("sum", self.dtype), exponentials)
        if self.log:
            (shift,) = group.spread("shift", [operation("log", total)])
            results: list[Expr] = [sub(d, shift) for d in shifted]
        else:
            (scale,) = group.spread("scale", [div(1.0, total)])
            results = [mul(e, scale) for e in exponentials]
        for step, result in zip(steps, results, strict=True):
            self._store(step, result)
