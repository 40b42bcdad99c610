"""Functions of one byte, looked up in a table of 256 bytes or words, over operands of any strides.

    y[p] = table[x[p]]

Machines that permute bytes hold the table in registers and look up a vector of bytes at a time, words as four bytes that are looked
up in tables of their own and interleaved. Machines that permute the bytes of 128 bits look up groups of four bytes in sixteen parts of a
table and choose among these (one core of a Zen 3, gcc 12: 0.52 cycles a byte, 1.26 byte by byte). Others read the table element by element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
from edgecc.loop.ir import Op
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
    whole = element is DType.U8 or request.threads == 1  # parts of words end with a vector that repeats some
    groups = _in_groups(request, axes, [y_view, x_view]) if element is DType.U8 and not _permutes(request.target) else None
    fits = axes[-1].strides == (1, 1) and axes[-1].extent >= (LEAST if element is DType.U8 else LOOKUP_LANES)
    lanes = GROUP_LANES if groups else LOOKUP_LANES if _permutes(request.target) and fits and whole else 1
    planes = lanes > 1 and element is DType.U32
    if planes:
        table = b.packed("table", DType.U8, 4 * ENTRIES, (0,), _planes)
    elif groups:
        table = b.packed("table", DType.U32, TABLE_PARTS * GROUP_LANES, (0,), _parts)
    else:
        table = b.packed("table", element, ENTRIES, (0,), partial(_bits, element))
    stored = DType.U32 if groups else DType.U8
    x, y = b.input(1, "x", aliased=in_place, stored=stored), b.output(0, "y", aliased=in_place, stored=DType.U32 if groups else element)
    if groups:
        views, axes = groups
    width = GROUP_LANES if groups else LOOKUP_LANES
    held = [b.let("t", b.load(table, part * lanes, lanes)) for part in range(table.elements // width)] if lanes > 1 else []

    def look(step: Step, _: int) -> None:
        if lanes == 1:
            place = from_expr(b.let("place", cast(step.load(b, 1, x), DType.I32)))
            step.store(b, 0, y, b.load(table, place))
            return
        places = b.let("places", step.load(b, 1, x))
        if groups:
            step.store(b, 0, y, Op("lookup_groups", (*held, places), DType.U32, lanes))
            return
        found = [Op("lookup", (*held[first:first + 4], places), DType.U8, lanes) for first in range(0, len(held), 4)]
        step.store(b, 0, y, Op("interleave", tuple(found), DType.U32, lanes) if planes else found[0])

    with each_row(b, request, views) as origin:
        for start, part in blocks(axes):
            divided, parallel = split_for_threads(part, 1 if request.rows else request.threads, lanes, elements(part))
            first = [o + s for o, s in zip(origin, start, strict=True)]
            unroll = UNROLLED if not planes and not groups and divided[-1].extent >= UNROLLED * lanes > UNROLLED else 1
            with nest(b, divided[:-1], start=first, parallel=parallel) as offsets:
                vectors(b, divided[-1], offsets, lanes, look, unroll=unroll, overlap=planes)
    return b.kernel(in_place=((0, 1),) if in_place else (),
                    choice=f"table in registers, {lanes * stored.size} bytes at a time" if lanes > 1 else "element by element")


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
