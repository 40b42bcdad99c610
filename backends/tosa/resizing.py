"""Resizes of images in TOSA, by fractions: RESIZE takes the pixel at (y * d + offset) / n of its operand for row y of its result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgecc.backends.tflite.recorder import Recorded
from edgecc.backends.tosa.lowering import Lowering
from edgecc.backends.tosa.rescale import multiplier_of, rescaled
from edgecc.errors import EdgeccError
from edgecc.ir.dims import numbers
from edgecc.ir.graph import Node
from edgecc.ops.resize import Resize

LARGEST_FACTOR = 256
"""n over d, as TOSA's level of support limits it."""
LARGEST_NUMERATOR = 1 << 11


def obstacle(op: Resize, node: Node) -> str | None:
    """Why a resize has no form in TOSA."""
    sizes, results = (numbers(value.type.dims)[2:] for value in (node.operand(0), node.output))
    if op.mode == "nearest" and any(new % old for old, new in zip(sizes, results, strict=True)):
        return "a resize to the nearest pixel by factors that are not whole has no form here"
    fields = {"alignCorners": op.coordinate_mode == "align_corners", "halfPixelCenters": op.coordinate_mode in ("half_pixel", "pytorch_half_pixel")}
    if op.mode == "linear" and any(_fraction(old, new, fields) is None for old, new in zip(sizes, results, strict=True)):
        return "a resize by such fractions has no form in TOSA"
    return None


def nearest(lowering: Lowering, op: Recorded) -> None:
    """RESIZE_NEAREST_NEIGHBOR by whole factors: positions are moved by half a pixel, so that rounding to the nearest one rounds down."""
    dims, results = lowering.tensor(op.inputs[0]).shape, lowering.tensor(op.outputs[0]).shape
    factors = [results[axis] // dims[axis] for axis in (1, 2)]
    if any(results[axis] % dims[axis] for axis in (1, 2)):
        raise EdgeccError("E114", "a resize by factors that are not whole has no form in TOSA")
    scale = lowering.writer.shape([2 * factors[0], 2, 2 * factors[1], 2])
    offset, border = (lowering.writer.shape([sign * (factor - 1) for factor in factors]) for sign in (-1, 1))
    lowering.writer.operator("RESIZE", [lowering.name(op.inputs[0]), scale, offset, border], lowering.name(op.outputs[0]), "ResizeMode.NEAREST")


def bilinear(lowering: Lowering, op: Recorded) -> None:
    """RESIZE_BILINEAR: sums of products with n of both axes, which are divided by them at the end."""
    dims, results = lowering.tensor(op.inputs[0]).shape, lowering.tensor(op.outputs[0]).shape
    parts = [_fraction(dims[axis], results[axis], op.fields) for axis in (1, 2)]
    if None in parts:
        raise EdgeccError("E114", "a resize by such fractions has no form in TOSA")
    scale, offset, border = [], [], []
    for part, old, new in zip(parts, dims[1:3], results[1:3], strict=True):
        n, d, first = part or (1, 1, 0)
        scale += [n, d]
        offset.append(first)
        # The result has ((old - 1) * n - offset + border) / d + 1 rows.
        border.append((new - 1) * d - (old - 1) * n + first)
    operands = [lowering.name(op.inputs[0]), *(lowering.writer.shape(each) for each in (scale, offset, border))]
    target = lowering.name(op.outputs[0])
    if lowering.integers(op.outputs[0]) is None:
        lowering.writer.operator("RESIZE", operands, target, "ResizeMode.BILINEAR")
        return
    sums = lowering.writer.operator("RESIZE", operands, lowering.like(target, kind="INT32"), "ResizeMode.BILINEAR")
    rescaled(lowering.writer, sums, target, [multiplier_of(1.0 / (scale[0] * scale[2]))])


def _fraction(old: int, new: int, fields: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """n, d and offset of an axis; None where they are too large."""
    if fields["alignCorners"] and new > 1:
        n, d, offset = (new - 1, old - 1, 0) if old > 1 else (1, 1, 0)
    elif fields["halfPixelCenters"]:
        # (y + 1/2) * old / new - 1/2 = (y * 2 * old + old - new) / (2 * new)
        n, d, offset = 2 * new, 2 * old, old - new
    else:
        n, d, offset = new, old, 0
    common = math.gcd(n, d, offset)
    n, d, offset = n // common, d // common, offset // common
    fits = n <= LARGEST_NUMERATOR and n <= LARGEST_FACTOR * d and d <= 16 * n and -n <= offset < 16 * n
    return (n, d, offset) if fits else None
