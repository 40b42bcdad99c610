"""MaxRoiPool: the largest element of each bin of regions that are computed at run time.

A bin is a range of rows and a range of columns. The largest of a range of any length is that of two ranges of a power of two that
cover it (a sparse table: Bender and Farach-Colton, The LCA problem revisited, 2000): all of these are made once, by maxima of
neighbours, and two rows of them are gathered for each bin, first along the rows, then along the columns.
"""

from __future__ import annotations

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.movement import concat
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, convert, literal
from edgecc.ir.types import DType
from edgecc.ops.indexing import Gather

LARGEST_POSITION = 2.0**24
"""Coordinates of regions are kept within this, where floats hold every integer."""


@converter("MaxRoiPool")
def _max_roi_pool(call: Call) -> Value:
    """x [N,C,H,W], rois [R,5] of (image, left, top, right, bottom), the last two inclusive -> [R,C,PH,PW]. Empty bins are 0.

    Corners are scaled and rounded half away from zero; the bins share a region's extent, each from the floor of its start to the ceiling
    of its end, cut off at the image. Source: ONNX MaxRoiPool-1, and onnxruntime for the rounding.
    """
    x, rois, pooled = call.input(0), call.input(1), call.ints("pooled_shape") or ()
    if x.type.rank != 4 or rois.type.rank != 2 or rois.type.shape[1] != 5 or len(pooled) != 2 or min(pooled) < 1:
        raise EdgeccError("E110", f"the image is {x.type}, the regions are {rois.type} and pooled_shape is {list(pooled)}; "
                                  "wanted [N,C,H,W], [R,5] and two numbers from 1 on")
    if not x.type.is_static or not rois.type.is_static:
        raise Unsupported("sizes are known only at run time", "give the image and the regions fixed sizes with --shape")
    images, channels, height, width = x.type.dims
    count, (rows, columns) = rois.type.dims[0], pooled
    if not x.type.elements:
        raise EdgeccError("E110", f"the image {x.type} is empty")
    levels = [_levels(size) for size in (height, width)]
    for dims, what in (((images, levels[0], height, channels, width), "the maxima of rows"), ((count, rows, columns), "the bins"),
                       ((count, levels[1], width, rows, channels), "the maxima of columns")):
        call.importer.limits.check_dims(dims, f"{what} of MaxRoiPool")
    corners, dtype = call.cast(rois, DType.F32), x.type.dtype
    image = call.map(lambda b: convert(_within(b), DType.I64), call.slice(corners, 1, 0, 1))
    vertical = _bins(call, corners, (2, 4), rows, height)
    horizontal = _bins(call, corners, (1, 3), columns, width)

    table = call.reshape(_table(call, call.transpose(x, (0, 2, 1, 3)), height), (images * levels[0] * height, channels, width))
    by_row = _range_maxima(call, table, image, vertical, (images, levels[0], height))  # [R,PH,C,W]
    table = call.reshape(_table(call, call.transpose(by_row, (0, 3, 1, 2)), width), (count * levels[1] * width, rows, channels))
    region = call.constant(np.arange(count, dtype=np.int64).reshape(count, 1))
    y = call.transpose(_range_maxima(call, table, region, horizontal, (count, levels[1], width)), (0, 3, 2, 1))  # [R,PW,PH,C] -> [R,C,PH,PW]
    lengths = [call.map(lambda s, e: convert(apply("lt", s, e), DType.I32), *bins) for bins in (vertical, horizontal)]
    full = call.map(lambda a, b: apply("mul", a, b), call.reshape(lengths[0], (count, 1, rows, 1)), call.reshape(lengths[1], (count, 1, 1, columns)))
    return call.map(lambda v, f: apply("select", apply("lt", literal(0, DType.I32), f), v, literal(0.0, dtype)), y, full)


def _levels(size: int) -> int:
    """How many powers of two are at most `size`."""
    return max(size, 1).bit_length()


def _within(a: ScalarExpr) -> ScalarExpr:
    limit = LARGEST_POSITION
    return apply("min", apply("max", a, literal(-limit, DType.F32)), literal(limit, DType.F32))


def _bins(call: Call, corners: Value, ends: tuple[int, int], count: int, size: int) -> tuple[Value, Value]:
    """First elements and ends [R,count] of the bins along one axis, cut off at its `size`."""
    scale = literal(call.number("spatial_scale", 1.0), DType.F32)
    half, zero, one = (literal(value, DType.F32) for value in (0.5, 0.0, 1.0))

    def scaled(a: ScalarExpr) -> ScalarExpr:
        moved = _within(apply("mul", a, scale))
        away = apply("floor", apply("add", apply("abs", moved), half))
        return apply("select", apply("lt", moved, zero), apply("neg", away), away)

    low, high = (call.map(scaled, call.slice(corners, 1, end, 1)) for end in ends)

    def extent(a: ScalarExpr, b: ScalarExpr) -> ScalarExpr:
        return apply("div", apply("max", apply("add", apply("sub", b, a), one), one), literal(float(count), DType.F32))

    step = call.map(extent, low, high)

    def cut_off(a: ScalarExpr) -> ScalarExpr:
        return convert(apply("min", apply("max", a, zero), literal(float(size), DType.F32)), DType.I64)

    numbers = call.constant(np.arange(count, dtype=np.float32).reshape(1, count))
    start = call.map(lambda i, s, a: cut_off(apply("add", apply("floor", apply("mul", i, s)), a)), numbers, step, low)
    end = call.map(lambda i, s, a: cut_off(apply("add", apply("ceil", apply("mul", apply("add", i, one), s)), a)), numbers, step, low)
    return start, end


def _table(call: Call, x: Value, size: int) -> Value:
    """x [A,size,B,C] -> [A,levels*size,B,C]: at level k, element i the largest of elements i, ..., i + 2^k - 1, as far as there are any."""
    parts, reach = [x], 1
    while 2 * reach <= size:
        last = parts[-1]
        ahead = concat(call, [call.slice(last, 1, reach, size - reach), call.slice(last, 1, size - reach, reach)], 1)
        parts.append(call.map(lambda a, b: apply("max", a, b), last, ahead))
        reach *= 2
    return concat(call, parts, 1) if len(parts) > 1 else x


def _range_maxima(call: Call, table: Value, first: Value, bins: tuple[Value, Value], dims: tuple[int, int, int]) -> Value:
    """Rows [R,bins,..] of a table of [images*levels*size,..]: the largest of each range. `first` [R,1] is the image.

    An image that there is none of gives an index that is out of range, which `--checks` is for.
    """
    images, levels, size = dims
    powers = call.constant(2 ** np.arange(levels, dtype=np.int64))

    def level(s: ScalarExpr, e: ScalarExpr) -> ScalarExpr:
        length = apply("sub", e, s)
        total: ScalarExpr = literal(0, DType.I64)
        for k in range(1, levels):
            total = apply("add", total, convert(apply("le", literal(2**k, DType.I64), length), DType.I64))
        return total

    level_of = call.map(level, *bins)
    reach = call.add(Gather(0), powers, level_of)
    rows = images * levels * size

    def index(image: ScalarExpr, k: ScalarExpr, at: ScalarExpr) -> ScalarExpr:
        inside = apply("min", apply("max", at, literal(0, DType.I64)), literal(size - 1, DType.I64))
        place = apply("add", apply("mul", apply("add", apply("mul", image, literal(levels, DType.I64)), k), literal(size, DType.I64)), inside)
        there = apply("and", apply("le", literal(0, DType.I64), image), apply("lt", image, literal(images, DType.I64)))
        return apply("select", there, place, literal(rows, DType.I64))

    start, end = bins
    left = call.map(index, first, level_of, start)
    right = call.map(lambda b, k, e, r: index(b, k, apply("sub", e, r)), first, level_of, end, reach)
    return call.map(lambda a, b: apply("max", a, b), call.add(Gather(0), table, left), call.add(Gather(0), table, right))
