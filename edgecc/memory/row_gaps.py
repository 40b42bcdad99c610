"""Gaps behind rows of channels, so that rows which are read together do not meet in the same sets of the first cache.

Where the channels of a pixel, or the terms of a row of a product, take a multiple of a high power of two bytes, elements at
one place of neighbouring rows fall into a few sets of the cache, which hold fewer lines than there are rows in a register
tile and in the weights beside it. A gap of a sixteenth of that power moves each row to other sets.

    [pixel][channel]: strides (1024, 1) -> (1088, 1)
"""

from __future__ import annotations

from dataclasses import replace

from edgecc.ir.graph import Use, Value
from edgecc.ir.types import DType
from edgecc.kernels.view import View
from edgecc.memory import strides
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Reshape
from edgecc.ops.string_handles import StringStep
from edgecc.targets.schema import Target

LEAST_BYTES = 1024
"""Rows at multiples of it hinder each other (on Zen 3 those at multiples of 512 bytes cost one hundredth)."""

SHARE = 16
"""A gap is this part of the power of two, or of the bytes after which addresses fall into the same set again."""


def gap_period(target: Target) -> int:
    """Bytes after which addresses fall into the same set of the first cache; 0 where rows need no gaps."""
    first = target.cache(1)
    return first.size // first.ways if target.core.row_gaps and first is not None else 0


def with_gaps(view: View, value: Value, period: int) -> View:
    """The view of a value in memory of its own, with gaps behind its rows where kernels read several of them at a time.

    Reads of the value through a reshape must stay views. `period`: see `gap_period`.
    """
    inner = strides.innermost_axis(value.layout.order, view.dims)
    if not period or inner is None or view.dtype is not DType.F32 or not value.type.is_static or view.strides[inner] != 1:
        return view
    row = view.dims[inner]
    power = min(row * view.dtype.size & -(row * view.dtype.size), period)
    if power < LEAST_BYTES or view.elements == row or not any(_reads_rows(use) for use in value.uses):
        return view
    pitch = row + power // SHARE // view.dtype.size
    gapped = replace(view, strides=tuple(stride if stride < row else stride // row * pitch for stride in view.strides))
    return gapped if all(_shows(use, gapped) for use in value.uses) else view


def _reads_rows(use: Use) -> bool:
    return isinstance(use.node.op, Conv | MatMul) and use.index == 0


def _shows(use: Use, view: View) -> bool:
    """Whether the reader takes the view without a copy."""
    node = use.node
    if node.regions or isinstance(node.op, StringStep):
        return False
    return not isinstance(node.op, Reshape) or strides.view_of(node.op, view, node.output.type.max_dims) is not None
