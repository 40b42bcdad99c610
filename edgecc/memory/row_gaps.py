"""Gaps behind rows of channels, so that rows which are read together do not meet in the same sets of the first cache.

Where the channels of a pixel, or the terms of a row of a product, take a multiple of a high power of two bytes, elements at
one place of neighbouring rows fall into a few sets of the cache, which hold fewer lines than there are rows in a register
tile and in the weights beside it. A gap of a sixteenth of that power moves each row to other sets.

    [pixel][channel]: strides (1024, 1) -> (1088, 1)

Depthwise convolutions meet in the sets much sooner: a vector of channels of several rows of pixels is read, and by the time the
next vector of the same lines is wanted, they should still be there.
"""

from __future__ import annotations

import math
from dataclasses import replace

from edgecc.ir.graph import Node, Use, Value
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

LEAST_BYTES_DEPTHWISE = 128
"""The same for what depthwise convolutions read or write (Zen 3, 3 x 3 windows, 128 channels: 2.3 times as fast with gaps; 64: 1.2 to
1.3 times, 32 and 96: 1.1 to 1.3 times)."""

SHARE = 16
"""A gap is this part of the power of two, or of the bytes after which addresses fall into the same set again."""

LEAST_GAP_BYTES = 32
"""A gap of fewer bytes would leave vectors across lines of the cache."""


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
    if power < _least_bytes(value) or view.elements == row:
        return view
    pitch = row + max(LEAST_GAP_BYTES, power // SHARE) // view.dtype.size
    gapped = replace(view, strides=tuple(stride if stride < row else stride // row * pitch for stride in view.strides))
    return gapped if all(_shows(use, gapped) for use in value.uses) else view


def _least_bytes(value: Value) -> float:
    """The least power of two of a distance between rows at which they hinder each other where the value is written and read."""
    readers = [use.node for use in value.uses if use.index == 0 and isinstance(use.node.op, Conv | MatMul)]
    if not readers:
        return math.inf
    writers = [] if value.producer is None else [value.producer]
    return LEAST_BYTES_DEPTHWISE if any(_is_depthwise(node) for node in readers + writers) else LEAST_BYTES


def _is_depthwise(node: Node) -> bool:
    """Whether a node computes every channel from itself alone, by windows of several pixels."""
    op, weights = node.op, node.inputs[1] if len(node.inputs) > 1 else None
    if not isinstance(op, Conv) or op.group == 1 or weights is None:
        return False
    _, depth, *window = weights.type.max_dims
    return depth == 1 and math.prod(window) > 1


def _shows(use: Use, view: View) -> bool:
    """Whether the reader takes the view without a copy."""
    node = use.node
    if node.regions or isinstance(node.op, StringStep):
        return False
    return not isinstance(node.op, Reshape) or strides.view_of(node.op, view, node.output.type.max_dims) is not None
