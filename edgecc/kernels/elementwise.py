"""Elementwise expressions with broadcasting, over operands of any strides."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgecc.ir.scalar import Apply, Arg, Bitcast, Convert, Literal, ScalarExpr, children, size, used_args
from edgecc.ir.types import DType
from edgecc.kernels.byte_pairs import Prepared, prepare, with_fewer_operations
from edgecc.kernels.iteration import (
    BLOCK_ALONG,
    Axis,
    Step,
    axes_of,
    axis_lanes,
    blocks,
    elements,
    nest,
    simplified,
    split_for_threads,
    vector_blocks,
    vectors,
)
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.nearest import in_integers
from edgecc.kernels.reciprocal import without_division
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.rows import each_row, rows_suffix
from edgecc.kernels.scalar_lowering import computes_in_half, lower_scalar
from edgecc.kernels.view import ROW_AXIS, View
from edgecc.loop.builder import number, repeat
from edgecc.loop.index import Index, const
from edgecc.loop.ir import Buffer, Expr
from edgecc.ops.elementwise import Elementwise
from edgecc.targets.schema import Target

COMPUTED = frozenset({DType.F32, DType.F16, DType.BF16, DType.I32})
"""Types whose values are computed with in vectors of 32-bit lanes. Bools go along with them as masks; alone
(and for every other type) scalar code is written, which C compilers turn into narrower vectors themselves."""

NARROW = frozenset({DType.I8, DType.U8, DType.I16, DType.U16})
"""Types whose values lie in 32-bit lanes once they are read."""

MOST_ALTERNATING = 4
"""Most vectors of f16 or of bytes that an instruction interleaves (AArch64, ST4), or a few do (AVX2; with AVX-512 it was never measured)."""

JOINED = 4
"""Vectors of 32-bit lanes whose results fill one of bytes."""

MAX_UNROLLED_SIZE = 4
"""Expressions of up to so many primitives are written twice in the main loop: the loop's own cost shows there."""


@kernel_for(Elementwise, rows=True, is_open=True)
def lower_elementwise(request: Request) -> Kernel:
    """The kernel of an elementwise expression.

    Axes are visited in the order of the result's memory, merged where all operands allow. Scalar
    constants whose value is known become part of the code; operands that do not vary along the inner
    axis are loaded outside of it.
    """
    op = request.op
    if not isinstance(op, Elementwise):
        raise TypeError(op)
    result = request.outputs[0]
    b = KernelBuilder(request, f"elementwise_{'_'.join(_operations(op.expr)[:3]) or 'copy'}{rows_suffix(request)}",
                      f"{', '.join(_operations(op.expr)) or 'copy'} over {shape_text(result)}")
    operands = _operands(b, op.expr)
    y = b.output(0, "y", aliased=bool(operands.in_place))
    keep = [axis for axis in range(len(result.dims)) if not (request.rows and axis == ROW_AXIS)]
    alone = Axis(1, (0,) * len(operands.views))
    axes, alternating = simplified(axes_of(operands.views, keep)) or (alone,), alone
    native = request.computes_in(DType.F16) and _mentions(op.expr, DType.F16)
    in_bytes = result.dtype in (DType.I8, DType.U8) and _vectorizes(op.expr)
    interleaves = (in_bytes and _interleaves_bytes(request.target)) or (native and result.dtype is DType.F16)
    if interleaves and not operands.in_place and _alternates(axes):
        axes, alternating = axes[:-1], axes[-1]
    is_vector = (axes[-1].strides[0] == 1 or alternating.extent > 1) and _vectorizes(op.expr)
    computation = _Computation(b, op.expr, operands, y, alternating, native, in_bytes)
    used_lanes = 1
    with each_row(b, request, operands.views) as origin:
        for start, part in blocks(axes):
            lanes = axis_lanes(request.target, part[-1], DType.F16 if native else DType.F32, native=native) if is_vector else 1
            used_lanes = max(used_lanes, lanes)
            computation.visit(part, [o + s for o, s in zip(origin, start, strict=True)], lanes)
    return b.kernel(in_place=operands.in_place, choice=f"{len(axes)} loops, vectors of {used_lanes}")


@dataclass(frozen=True)
class _Operands:
    """What an expression's arguments stand for.

    Attributes:
        values: an entry for each argument: the number where it is known, and 0 where a buffer has it or nothing reads it.
        loaded: the buffers by argument.
        views: the result and then those buffers, in their order, each in the shape of the result.
        in_place: pairs (result 0, argument) that may share memory.
    """

    values: tuple[Expr, ...]
    loaded: Mapping[int, Buffer]
    views: tuple[View, ...]
    in_place: tuple[tuple[int, int], ...]

    def moving(self, axis: Axis) -> dict[int, int]:
        """The arguments of buffers that change along an axis, by their place among the views."""
        return {view: index for view, index in enumerate(self.loaded, start=1) if axis.strides[view] != 0}


def _operands(b: KernelBuilder, expr: ScalarExpr) -> _Operands:
    """The operands of the builder's request, with a buffer for each one that the kernel has to read."""
    request, result = b.request, b.request.outputs[0]
    used = used_args(expr)
    values: list[Expr] = []
    loaded: dict[int, Buffer] = {}
    views, in_place = [result], []
    for index in range(max(used, default=-1) + 1):
        operand = request.operand(index)
        known = operand.values if operand.values is not None and len(operand.values) == 1 and index in used else None
        values.append(number(0 if known is None else known[0], operand.view.dtype))
        if known is not None or index not in used:
            continue
        matches = operand.view.shows_same(result) and not operand.is_constant
        loaded[index] = b.input(index, f"x{index}", aliased=matches)
        views.append(operand.view.broadcast_to(result.dims))
        if matches:
            in_place.append((0, index))
    return _Operands(tuple(values), loaded, tuple(views), tuple(in_place))


@dataclass(frozen=True)
class _Computation:
    """An expression, computed at all positions of some axes.

    Attributes:
        y: the buffer of the result.
        alternating: an innermost axis of few elements whose vectors are interleaved as they are stored; of one element where none is.
        native: whether f16 is computed in f16.
        in_bytes: whether results are bytes, of which several vectors are joined into one.
    """

    b: KernelBuilder
    expr: ScalarExpr
    operands: _Operands
    y: Buffer
    alternating: Axis
    native: bool
    in_bytes: bool

    def visit(self, axes: Sequence[Axis], first: Sequence[Index], lanes: int) -> None:
        """Adds the loops over `axes`, which begin at the offsets `first`, in vectors of `lanes` along the innermost one."""
        request = self.b.request
        divided, parallel = split_for_threads(axes, 1 if request.rows else request.threads, lanes, elements(axes) * (1 + size(self.expr)))
        if self.in_bytes and self.alternating.extent == 1 and lanes > 1 and _repeats(divided[1 if parallel else 0:]):
            with nest(self.b, divided[:-2], start=first, parallel=parallel) as offsets:
                self._by_columns(divided[-2:], offsets, lanes)
            return
        with nest(self.b, divided[:-1], start=first, parallel=parallel) as offsets:
            self._along(divided[-1], offsets, lanes)

    def _along(self, inner: Axis, offsets: Sequence[Index], lanes: int) -> None:
        """Vectors along one axis; what is the same at all its positions is loaded in front of it."""
        b, alternating, operands = self.b, self.alternating, self.operands
        moving = operands.moving(inner)
        fixed = list(operands.values)
        for view, (index, buffer) in enumerate(operands.loaded.items(), start=1):
            if view not in moving:
                fixed[index] = b.let(f"c{index}", repeat(b.load(buffer, offsets[view]), lanes))
        factor = self._factor(fixed, list(moving.values()), lanes)

        def body(steps: Sequence[Step]) -> None:
            results = []
            for step, place in itertools.product(steps, range(alternating.extent)):
                own = step.moved([const(place * stride) for stride in alternating.strides])
                values = list(fixed)
                for view, index in moving.items():
                    values[index] = own.load(b, view, operands.loaded[index])
                value = lower_scalar(self.expr, values, step.lanes, b, native=self.native and computes_in_half(self.expr))
                results.append((own, _finished(value, b.request.target, factor)))
            self._store(results)

        if self.in_bytes and inner.size is None and inner.extent >= JOINED * lanes > JOINED:
            vector_blocks(b, inner, offsets, lanes, JOINED, body)
            return
        unroll = 2 if alternating.extent == 1 and size(self.expr) <= MAX_UNROLLED_SIZE and inner.extent >= 4 * lanes else 1
        vectors(b, inner, offsets, lanes, lambda step, _: body((step,)), unroll=unroll)

    def _by_columns(self, axes: Sequence[Axis], offsets: Sequence[Index], lanes: int) -> None:
        """Vectors along the inner one of two axes, each at all positions of the outer one before the next: what comes again is loaded once.

        As many positions as make `JOINED` vectors are computed together.
        """
        b, operands = self.b, self.operands
        outer, inner = axes
        moving = operands.moving(outer)

        def column(steps: Sequence[Step]) -> None:
            held = {(view, place): b.let("c", step.load(b, view, buffer)) for view, buffer in enumerate(operands.loaded.values(), start=1)
                    if view not in moving for place, step in enumerate(steps)}
            at_once = max(1, JOINED // len(steps))
            factors = []
            for place in range(len(steps)):
                values = list(operands.values)
                for view, index in enumerate(operands.loaded, start=1):
                    values[index] = held.get((view, place), values[index])
                factors.append(self._factor(values, list(moving.values()), lanes))

            def rows(row: Index, count: int) -> None:
                results = []
                for ahead, (place, step) in itertools.product(range(count), enumerate(steps)):
                    own = step.moved([(row + ahead) * stride for stride in outer.strides])
                    values = list(operands.values)
                    for view, (index, buffer) in enumerate(operands.loaded.items(), start=1):
                        values[index] = held.get((view, place)) or own.load(b, view, buffer)
                    results.append((own, _finished(lower_scalar(self.expr, values, lanes, b), b.request.target, factors[place])))
                self._store(results)

            whole = outer.extent // at_once * at_once
            with b.loop("p", whole, step=at_once) as row:
                rows(row, at_once)
            if whole < outer.extent:
                rows(const(whole), outer.extent - whole)

        vector_blocks(b, inner, offsets, lanes, JOINED, column)

    def _store(self, results: Sequence[tuple[Step, Expr]]) -> None:
        for step, value in results:
            step.store(self.b, 0, self.y, value)

    def _factor(self, values: Sequence[Expr], moving: Sequence[int], lanes: int) -> Prepared | None:
        """What a product with a factor of bytes that is at hand in `values` needs, bound here; the arguments `moving` are not at hand."""
        loaded = self.operands.loaded
        if lanes == 1 or len(loaded) != 2 or len(moving) != 1 or not loaded[moving[0]].dtype.is_integer:
            return None
        shown = list(values)
        shown[moving[0]] = self.b.load(loaded[moving[0]], 0, lanes)
        return prepare(self.b, in_integers(lower_scalar(self.expr, shown, lanes)), self.b.request.target)


def _repeats(axes: Sequence[Axis]) -> bool:
    """Whether vectors of some operand come again along the axis around the innermost one, such as a factor for each channel of an image."""
    if len(axes) < 2 or any(axis.size is not None for axis in axes[-2:]):
        return False
    outer, inner = axes[-2:]
    again = any(o == 0 and i == 1 for o, i in zip(outer.strides, inner.strides, strict=True))
    return again and inner.strides[0] == 1 and all(i == 1 for i in inner.strides) and outer.extent >= JOINED


def _finished(value: Expr, target: Target, factor: Prepared | None) -> Expr:
    """A result as it is stored: quantized by the fewest instructions that give the same integers."""
    return with_fewer_operations(without_division(in_integers(value), target), target, factor)


def _interleaves_bytes(target: Target) -> bool:
    """Whether vectors of bytes are interleaved as they are stored."""
    return target.has("neon") or (target.has("avx2") and not target.has("avx512f"))


def _alternates(axes: Sequence[Axis]) -> bool:
    """Whether the result's innermost axis is as short as machines interleave vectors, and runs along the next one are lanes of all operands."""
    if len(axes) < 2 or any(axis.size is not None for axis in axes[-2:]):
        return False
    run, inner = axes[-2:]
    return 2 <= inner.extent <= MOST_ALTERNATING and inner.strides[0] == 1 and run.strides[0] == inner.extent and all(
        stride == 1 for stride in run.strides[1:]) and run.extent >= BLOCK_ALONG


def shape_text(view: View) -> str:
    """A shape for comments: 1x3x224x224, or "a scalar"."""
    return "x".join(str(d) for d in view.dims) or "a scalar"


def _operations(expr: ScalarExpr) -> list[str]:
    """Names of the primitives in the order of evaluation, each once."""
    names: list[str] = []
    for child in children(expr):
        names += [n for n in _operations(child) if n not in names]
    own = expr.op if isinstance(expr, Apply) else "convert" if isinstance(expr, Convert | Bitcast) else None
    return names if own is None or own in names else [*names, own]


def _vectorizes(expr: ScalarExpr) -> bool:
    """Whether all types that occur fit lanes of 32 bits, and one of them is computed with.

    Integers of 8 and 16 bits may be read and converted: then they lie in such lanes.
    """
    if not all(isinstance(node, Arg | Literal | Convert) for node in _nodes(expr) if node.dtype in NARROW):
        return False
    types = _types(expr) - NARROW
    return types <= COMPUTED | {DType.BOOL} and not types.isdisjoint(COMPUTED)


def _mentions(expr: ScalarExpr, dtype: DType) -> bool:
    return dtype in _types(expr)


def _types(expr: ScalarExpr) -> set[DType]:
    return {node.dtype for node in _nodes(expr)}


def _nodes(expr: ScalarExpr) -> list[ScalarExpr]:
    """Every part of an expression, each object once."""
    seen: dict[int, ScalarExpr] = {}
    pending = [expr]
    while pending:
        node = pending.pop()
        if id(node) not in seen:
            seen[id(node)] = node
            pending.extend(children(node))
    return list(seen.values())


