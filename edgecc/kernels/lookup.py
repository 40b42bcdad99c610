"""Functions of one byte, looked up in a table of 256 bytes or words, over operands of any strides.

    y[p] = table[x[p]]

Machines that permute bytes hold the table in registers and look up a vector of bytes at a time, words as four bytes that are looked
up in tables of their own and interleaved. Machines that permute the bytes of 128 bits look up groups of four bytes in sixteen parts of a
table and choose among these (one core of a Zen 3, gcc 12: 0.52 cycles a byte, 1.26 byte by byte). Others read the table element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels.iteration import Axis, Step, axes_of, blocks, elements, nest, simplified, split_for_threads, vectors
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.request import Request
from edgecc.kernels.rows import each_row, rows_suffix
from edgecc.kernels.view import ROW_AXIS, View
from edgecc.loop.builder import cast
from edgecc.loop.index import from_expr
from edgecc.loop.ir import Expr, Op
from edgecc.loop.narrow import BYTES, LOOKUP_LANES, PART_LANES, TABLE_PARTS
from edgecc.targets.schema import Target

ENTRIES = 256
"""One for each value of a byte."""

WORDS = (DType.I32, DType.U32, DType.F32)

FEATURE = "avx512vbmi"
"""Of machines that permute bytes."""

GROUP_FEATURE, GROUP, GROUP_LANES = "avx2", 4, 8
"""Of machines that permute the bytes of 128 bits and choose between bytes; bytes in a group, groups in a vector."""

LEAST = 16
"""Runs of fewer bytes are not worth a vector."""

UNROLLED = 2


def is_lookup(request: Request) -> bool:
    """Whether a gather reads bytes or words of a constant table of 256 by bytes."""
    table, indices = request.operand(0), request.operand(1)
    return (not request.is_open and table.is_constant and table.view.dims == (ENTRIES,) and table.view.dtype in (*BYTES, *WORDS)
            and indices.view.dtype in BYTES and not indices.is_constant)


def lower_lookup(request: Request) -> Kernel:
    """The kernel of such a gather. Indices of i8 below zero count from the end, as their bits do without a sign."""
    x_view, y_view = request.operand(1).view, request.outputs[0]
    element = DType.U8 if y_view.dtype in BYTES else DType.U32
    in_place = element is DType.U8 and x_view.shows_same(y_view)
    shape = "x".join(map(str, y_view.dims)) or "a scalar"
    b = KernelBuilder(request, f"lookup{rows_suffix(request)}", f"look {shape} bytes up in a table")
    views = [y_view, x_view]
    axes = simplified(axes_of(views, [a for a in range(len(y_view.dims)) if not (request.rows and a == ROW_AXIS)])) or (Axis(1, (0, 0)),)
    groups = _in_groups(request, axes, views) if element is DType.U8 and not _permutes(request.target) else None
    if groups is not None:
        views, axes = groups
        form = _IN_GROUPS
    else:
        form = _form(request, element, axes[-1])
    table = b.packed("table", form.table, form.parts * form.part, (0,), form.pack)
    x, y = b.input(1, "x", aliased=in_place, stored=form.x), b.output(0, "y", aliased=in_place, stored=form.y)
    held = [b.let("t", b.load(table, part * form.part, form.part)) for part in range(form.parts)] if form.lanes > 1 else []

    def look(step: Step, _: int) -> None:
        if form.lanes == 1:
            place = from_expr(b.let("place", cast(step.load(b, 1, x), DType.I32)))
            step.store(b, 0, y, b.load(table, place))
        else:
            step.store(b, 0, y, form.found(held, b.let("places", step.load(b, 1, x))))

    with each_row(b, request, views) as origin:
        for start, part in blocks(axes):
            divided, parallel = split_for_threads(part, 1 if request.rows else request.threads, form.lanes, elements(part))
            first = [o + s for o, s in zip(origin, start, strict=True)]
            unroll = form.unroll if divided[-1].extent >= form.unroll * form.lanes > form.unroll else 1
            with nest(b, divided[:-1], start=first, parallel=parallel) as offsets:
                vectors(b, divided[-1], offsets, form.lanes, look, unroll=unroll, overlap=form.overlap)
    return b.kernel(in_place=((0, 1),) if in_place else (),
                    choice=f"table in registers, {form.lanes * form.x.size} bytes at a time" if form.lanes > 1 else "element by element")


@dataclass(frozen=True)
class _Form:
    """A way to look up.

    Attributes:
        lanes: elements of x at a time. x, y: the types these and the results are stored as.
        table: the type of the table's elements, as `pack` arranges them: `parts` vectors of `part` elements.
        found: the results for a vector of x, given the parts.
        unroll: vectors written out. overlap: whether the last vector of a run repeats some results instead of having fewer lanes.
    """

    lanes: int
    x: DType
    y: DType
    table: DType
    parts: int
    part: int
    pack: Callable[[Array], Array]
    found: Callable[[Sequence[Expr], Expr], Expr]
    unroll: int = 1
    overlap: bool = False


def _form(request: Request, element: DType, inner: Axis) -> _Form:
    """The way for bytes or words: in registers where the machine permutes bytes and they lie side by side, in enough of them."""
    is_byte = element is DType.U8
    whole = is_byte or request.threads == 1  # parts of words end with a vector that repeats some
    fits = inner.strides == (1, 1) and inner.extent >= (LEAST if is_byte else LOOKUP_LANES)
    if not (_permutes(request.target) and fits and whole):
        return _Form(1, DType.U8, element, element, 1, ENTRIES, partial(_bits, element), lambda held, places: places)
    return _BYTES if is_byte else _PLANES


def _byte(held: Sequence[Expr], places: Expr) -> Expr:
    return Op("lookup", (*held, places), DType.U8, LOOKUP_LANES)


def _word(held: Sequence[Expr], places: Expr) -> Expr:
    return Op("interleave", tuple(_byte(held[first:first + 4], places) for first in range(0, len(held), 4)), DType.U32, LOOKUP_LANES)


def _group(held: Sequence[Expr], groups: Expr) -> Expr:
    return Op("lookup_groups", (*held, groups), DType.U32, GROUP_LANES)


def _in_groups(request: Request, axes: Sequence[Axis], views: Sequence[View]) -> tuple[list[View], tuple[Axis, ...]] | None:
    """The views and axes with four bytes as one element, if the machine looks up such groups and all of them lie whole; else None."""
    *outer, inner = axes
    rows = [view.strides[ROW_AXIS] for view in views] if request.rows else []
    distances = [stride for axis in outer for stride in axis.strides] + rows
    if not request.target.has(GROUP_FEATURE) or inner.strides != (1, 1) or inner.extent % GROUP or inner.extent < GROUP * GROUP_LANES or any(d % GROUP for d in distances):
        return None
    grouped = [replace(view, dtype=DType.U32, strides=tuple(stride // GROUP for stride in view.strides)) for view in views]
    return grouped, (*(replace(axis, strides=tuple(stride // GROUP for stride in axis.strides)) for axis in outer), replace(inner, extent=inner.extent // GROUP))


def _permutes(target: Target) -> bool:
    return target.has(FEATURE) and target.vector.bits >= 8 * LOOKUP_LANES


def _bits(element: DType, table: Array) -> Array:
    """The entries by the bits of their index: those of negative indices are the last ones."""
    return np.ascontiguousarray(table).view(element.numpy)


def _parts(table: Array) -> Array:
    """Sixteen bytes after the other, each twice."""
    return np.tile(_bits(DType.U8, table).reshape(TABLE_PARTS, 1, -1), (1, GROUP_LANES // PART_LANES, 1)).view(np.uint32).reshape(-1)


def _planes(table: Array) -> Array:
    """The lowest bytes of all words, the next ones, and so on."""
    return np.concatenate([(_bits(DType.U32, table) >> np.uint32(8 * place)).astype(np.uint8) for place in range(4)])


_BYTES = _Form(LOOKUP_LANES, DType.U8, DType.U8, DType.U8, ENTRIES // LOOKUP_LANES, LOOKUP_LANES, partial(_bits, DType.U8), _byte, UNROLLED)
_PLANES = _Form(LOOKUP_LANES, DType.U8, DType.U32, DType.U8, 4 * ENTRIES // LOOKUP_LANES, LOOKUP_LANES, _planes, _word, overlap=True)
_IN_GROUPS = _Form(GROUP_LANES, DType.U32, DType.U32, DType.U32, TABLE_PARTS, GROUP_LANES, _parts, _group)
