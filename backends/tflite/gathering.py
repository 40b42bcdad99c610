"""Gathering at known places: slices of neighbours, put together again.

TFLite has an operator for it, which accelerators have not; slices and concatenations they have, and integers pass through both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecc.backends.tflite.emitter import Emitter, Result
from edgecc.ir.dims import numbers
from edgecc.ir.graph import Node
from edgecc.ops.indexing import Gather

MOST_RUNS = 64
"""So many slices are written for one operator at the most."""


def gather_obstacle(op: Gather, node: Node) -> str | None:
    """Why a gather cannot be written; None where it can."""
    indices = node.operand(1).constant
    if indices is None:
        return "a gather at computed places has no form in TFLite"
    if indices.ndim > 1 or indices.size == 0:
        return f"a gather by indices of shape {list(indices.shape)} has no form in TFLite"
    count = len(_runs(op, node))
    return f"a gather of {count} runs of neighbours, more than {MOST_RUNS}, has no form in TFLite" if count > MOST_RUNS else None


def emit_gather(emitter: Emitter, op: Gather, node: Node, result: Result) -> None:
    """A STRIDED_SLICE for each run of neighbours, and a CONCATENATION of them; a scalar index takes the axis away."""
    x, writer = node.operand(0), emitter.writer
    order = emitter.order_of(x)
    source, place = emitter.operand(x, order, result), order.index(op.axis)
    held = writer.tensors[source]
    is_scalar = node.operand(1).type.rank == 0
    left = [axis for axis in order if axis != op.axis]
    kept = tuple(sorted(left).index(axis) for axis in left) if is_scalar else order
    target = emitter.new(result, kept)
    runs = _runs(op, node)
    pieces = []
    for start, count in runs:
        begin, end = [0] * len(order), list(held.shape)
        begin[place], end[place] = start, start + count
        dims = [last - first for first, last in zip(begin, end, strict=True)]
        piece = target if len(runs) == 1 and not is_scalar else writer.tensor(f"{x.name}_slice", dims, held.kind, held.quantization)
        vectors = [emitter.vector(v, "slice") for v in (begin, end, [1] * len(order))]
        writer.operator("STRIDED_SLICE", [source, *vectors], [piece], "StridedSliceOptions", 1 if result.quantization is None else 2,
                        beginMask=0, endMask=0, ellipsisMask=0, newAxisMask=0, shrinkAxisMask=0)
        pieces.append(piece)
    if is_scalar:
        emitter.reshaped(pieces[0], writer.tensors[target].shape, result.value.name, into=target)
    elif len(pieces) > 1:
        writer.operator("CONCATENATION", pieces, [target], "ConcatenationOptions", 1 if result.quantization is None else 2,
                        axis=place, fusedActivationFunction=0)
    emitter.place(result.value, target, kept, result.quantization)


def _runs(op: Gather, node: Node) -> Sequence[tuple[int, int]]:
    """Where neighbours start that are gathered one after the other, and how many they are."""
    indices = node.operand(1).constant
    places = [int(index) % numbers(node.operand(0).type.dims)[op.axis] for index in np.ravel([] if indices is None else indices)]
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and place == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((place, 1))
    return runs
