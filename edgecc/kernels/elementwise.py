"""Elementwise expressions with broadcasting, over operands of any strides."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

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
"""Most vectors of f16 or of bytes that an instruction interleaves (AArch64, ST4)."""

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
    operands: list[Expr] = []
    loaded: dict[int, Buffer] = {}
    views = [result]
    in_place = []
    for index in range(max(used_args(op.expr), default=-1) + 1):
        operand = request.operand(index)
        operands.append(number(0, operand.view.dtype))
        if index not in used_args(op.expr):
            continue
        if operand.values is not None and len(operand.values) == 1:
            operands[index] = number(operand.values[0], operand.view.dtype)
            continue
        matches = operand.view.shows_same(result) and not operand.is_constant
        loaded[index] = b.input(index, f"x{index}", aliased=matches)
        views.append(operand.view.broadcast_to(result.dims))
        if matches:
            in_place.append((0, index))
    y = b.output(0, "y", aliased=bool(in_place))
    keep = [axis for axis in range(len(result.dims)) if not (request.rows and axis == ROW_AXIS)]
    axes = simplified(axes_of(views, keep)) or (Axis(1, (0,) * len(views)),)
    native = request.computes_in(DType.F16) and _mentions(op.expr, DType.F16)
    alternating = Axis(1, (0,) * len(views))
    in_bytes = result.dtype in (DType.I8, DType.U8) and _vectorizes(op.expr)
    interleaves = (in_bytes and request.target.has("neon")) or (native and result.dtype is DType.F16)
    if interleaves and not in_place and _alternates(axes):
        axes, alternating = axes[:-1], axes[-1]
    is_vector = (axes[-1].strides[0] == 1 or alternating.extent > 1) and _vectorizes(op.expr)
    computed_in = DType.F16 if native else DType.F32
    used_lanes = 1
    with each_row(b, request, views) as origin:
        for start, part in blocks(axes):
            lanes = axis_lanes(request.target, part[-1], computed_in, native=native) if is_vector else 1
            work = elements(part) * (1 + size(op.expr))
            divided, parallel = split_for_threads(part, 1 if request.rows else request.threads, lanes, work)
            inner = divided[-1]
            used_lanes = max(used_lanes, lanes)
            first = [o + s for o, s in zip(origin, start, strict=True)]
            if in_bytes and alternating.extent == 1 and lanes > 1 and _repeats(divided[1 if parallel else 0:]):
                with nest(b, divided[:-2], start=first, parallel=parallel) as offsets:
                    _by_columns(b, op.expr, operands, loaded, y, divided[-2:], offsets, lanes)
                continue
            with nest(b, divided[:-1], start=first, parallel=parallel) as offsets:
                values = list(operands)
                for view, index in enumerate(loaded, start=1):
                    if inner.strides[view] == 0:
                        values[index] = b.let(f"c{index}", repeat(b.load(loaded[index], offsets[view]), lanes))

                factor = _factor(b, op.expr, values, loaded, [view for view in range(1, len(views)) if inner.strides[view] != 0], lanes)

                def body(steps: Sequence[Step], values: list[Expr] = values, inner: Axis = inner, factor: Prepared | None = factor) -> None:
                    results = []
                    for step, place in itertools.product(steps, range(alternating.extent)):
                        own = step.moved([const(place * stride) for stride in alternating.strides])
                        for view, index in enumerate(loaded, start=1):
                            if inner.strides[view] != 0:
                                values[index] = own.load(b, view, loaded[index])
                        value = lower_scalar(op.expr, values, step.lanes, b, native=native and computes_in_half(op.expr))
                        results.append((own, _finished(value, request.target, factor)))
                    for own, value in results:
                        own.store(b, 0, y, value)

                if in_bytes and inner.size is None and inner.extent >= JOINED * lanes > JOINED:
                    vector_blocks(b, inner, offsets, lanes, JOINED, body)
                    continue
                unroll = 2 if alternating.extent == 1 and size(op.expr) <= MAX_UNROLLED_SIZE and inner.extent >= 4 * lanes else 1

                def alone(step: Step, _: int, body: Callable[[Sequence[Step]], None] = body) -> None:
                    body((step,))

                vectors(b, inner, offsets, lanes, alone, unroll=unroll)
    return b.kernel(in_place=tuple(in_place), choice=f"{len(axes)} loops, vectors of {used_lanes}")


def _repeats(axes: Sequence[Axis]) -> bool:
    """Whether vectors of some operand come again along the axis around the innermost one, such as a factor for each channel of an image."""
    if len(axes) < 2 or any(axis.size is not None for axis in axes[-2:]):
        return False
    outer, inner = axes[-2:]
    again = any(o == 0 and i == 1 for o, i in zip(outer.strides, inner.strides, strict=True))
    return again and inner.strides[0] == 1 and all(i == 1 for i in inner.strides) and outer.extent >= JOINED


def _by_columns(b: KernelBuilder, expr: ScalarExpr, operands: Sequence[Expr], loaded: Mapping[int, Buffer], y: Buffer, axes: Sequence[Axis],
                offsets: Sequence[Index], lanes: int) -> None:
    """Vectors along the inner one of two axes, each at all positions of the outer one before the next: what comes again is loaded once.

    As many positions as make `JOINED` vectors are computed together.
    """
    outer, inner = axes

    def column(steps: Sequence[Step]) -> None:
        held = {(view, place): b.let("c", step.load(b, view, buffer)) for view, buffer in enumerate(loaded.values(), start=1)
                if outer.strides[view] == 0 for place, step in enumerate(steps)}
        at_once = max(1, JOINED // len(steps))
        moving = [view for view in range(1, len(loaded) + 1) if outer.strides[view] != 0]
        factors = []
        for place in range(len(steps)):
            values = list(operands)
            for view, index in enumerate(loaded, start=1):
                values[index] = held.get((view, place), values[index])
            factors.append(_factor(b, expr, values, loaded, moving, lanes))

        def rows(row: Index, count: int) -> None:
            results = []
            for ahead, (place, step) in itertools.product(range(count), enumerate(steps)):
                own = step.moved([(row + ahead) * stride for stride in outer.strides])
                values = list(operands)
                for view, index in enumerate(loaded, start=1):
                    values[index] = held.get((view, place)) or own.load(b, view, loaded[index])
                results.append((own, _finished(lower_scalar(expr, values, lanes, b), b.request.target, factors[place])))
            for own, value in results:
                own.store(b, 0, y, value)

        whole = outer.extent // at_once * at_once
        with b.loop("p", whole, step=at_once) as row:
            rows(row, at_once)
        if whole < outer.extent:
            rows(const(whole), outer.extent - whole)

    vector_blocks(b, inner, offsets, lanes, JOINED, column)


def _factor(b: KernelBuilder, expr: ScalarExpr, values: Sequence[Expr], loaded: Mapping[int, Buffer], moving: Sequence[int],
            lanes: int) -> Prepared | None:
    """What a product with a factor of bytes that is at hand in `values` needs, bound here; the operands seen by the views `moving` are not."""
    indices = list(loaded)
    if lanes == 1 or len(loaded) != 2 or len(moving) != 1 or not loaded[indices[moving[0] - 1]].dtype.is_integer:
        return None
    shown = list(values)
    shown[indices[moving[0] - 1]] = b.load(loaded[indices[moving[0] - 1]], 0, lanes)
    return prepare(b, in_integers(lower_scalar(expr, shown, lanes)), b.request.target)


def _finished(value: Expr, target: Target, factor: Prepared | None) -> Expr:
    """A result as it is stored: quantized by the fewest instructions that give the same integers."""
    return with_fewer_operations(without_division(in_integers(value), target), target, factor)


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


