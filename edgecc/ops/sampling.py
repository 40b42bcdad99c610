"""Reading images at positions that are computed at run time, between elements too: GridSample and RoiAlign.

Positions are data, so nothing is assumed of them: whatever they are, infinite and NaN included, only elements of
the image are read.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.dims import upper_bound
from edgecc.ir.op import Op, present, register, required
from edgecc.ir.types import Array, TensorType, is_float_array
from edgecc.ops import rules
from edgecc.ops.indexing import resolved

SAMPLE_MODES = ("nearest", "linear", "cubic")
SAMPLE_PADDINGS = ("zeros", "border", "reflection")
SAMPLE_COORDINATES = ("corners", "edges", "pixels")
CUBIC_COEFFICIENT = -0.75
BEYOND = 3.0
"""Coordinates further outside than this are moved to this distance: no tap of theirs is inside."""

MAX_SAMPLING_RATIO = 64
ROI_OVERSIZE = 4
"""An adaptive grid has as many samples as a region of so many times the image's size needs, at most."""


@register
@dataclass(frozen=True)
class GridSample(Op):
    """y[n,c,p] = x[n,c] at the position grid[n,p], interpolated; the last axis of grid names the last axis of x first.

    coordinates: "corners": -1 and 1 are the centres of the first and last elements; "edges": their outer edges;
    "pixels": coordinates count elements. "nearest" rounds half to even, "linear" weighs the 2 neighbours along each
    axis, "cubic" the 4 by Keys' kernel with coefficient -0.75. Elements outside of x are 0 ("zeros"), the nearest
    one of x ("border"), or mirrored at the borders ("reflection"): at the centres of the outermost elements with
    "corners", else at their edges. A coordinate beyond the borders is first moved likewise, but with "zeros" and, as
    PyTorch and onnxruntime do, for "cubic" with "border".

    Shapes: x [N,C,D1..Dr], grid [N,P..,r] floats -> y [N,C,P..].
    Attributes: mode, padding, coordinates.
    Raises: E110 for unknown attributes, shapes that do not fit, an empty image that is read, or interpolation of
        other types than floats.
    Source: ONNX GridSample-22. In float64, rounded once; taps outside weigh 0.
    """

    name: ClassVar[str] = "grid_sample"
    inputs: ClassVar[tuple[str, ...]] = ("x", "grid")

    mode: str = "linear"
    padding: str = "zeros"
    coordinates: str = "edges"

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The positions of the grid, for each channel."""
        x, grid = required(inputs)
        for what, got, known in (("mode", self.mode, SAMPLE_MODES), ("padding", self.padding, SAMPLE_PADDINGS),
                                 ("coordinates", self.coordinates, SAMPLE_COORDINATES)):
            if got not in known:
                raise self.fail(f"{what} is {got!r}, wanted one of {', '.join(known)}", inputs)
        if self.mode != "nearest":
            rules.check_float(self, "x", x, inputs)
        rules.check_float(self, "grid", grid, inputs)
        if x.rank < 3 or grid.rank < 2 or grid.shape[0] != x.shape[0] or grid.shape[-1] != x.rank - 2:
            raise self.fail("wanted x [N,C,D1..Dr] and grid [N,P..,r]", inputs)
        y = rules.result_type(self, x.dtype, (*x.shape[:2], *grid.shape[1:-1]), inputs)
        if upper_bound(y.count) and not upper_bound(x.count):
            raise self.fail("x is empty, the result is not", inputs)
        return (y,)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """A sum over taps of gathered elements."""
        x, grid = present(inputs)
        return (self._sampled(x, grid, absolute=False).astype(x.dtype),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The taps, each by its weight and by how far the rounding of the coordinates moves the weight."""
        x, grid = present(inputs)
        return (self._sampled(np.abs(x) if is_float_array(x) else x, grid, absolute=True),)

    def _sampled(self, x: Array, grid: Array, absolute: bool) -> Array:
        positions = (*x.shape[:2], *grid.shape[1:-1])
        rows = rules.wide(grid).reshape(len(grid), math.prod(grid.shape[1:-1]), grid.shape[-1])
        if not math.prod(positions):
            return np.zeros(positions, x.dtype)
        rank = x.ndim - 2
        taps = [grid_taps(self, rows[..., rank - 1 - axis], size) for axis, size in enumerate(x.shape[2:])]
        image = np.moveaxis(x if self.mode == "nearest" else rules.wide(x), 1, -1)
        total = np.zeros((len(x), rows.shape[1], x.shape[1]), image.dtype)
        batch = np.arange(len(x))[:, None]
        slope = 2.0 * sum(x.shape[2:]) if absolute and self.mode != "nearest" else 0.0
        for chosen in itertools.product(*(range(indices.shape[-1]) for indices, _ in taps)):
            weight = math.prod([w[..., k] for (_, w), k in zip(taps, chosen, strict=True)], start=np.ones(()))
            elements = image[(batch, *(indices[..., k] for (indices, _), k in zip(taps, chosen, strict=True)))]
            if self.mode == "nearest":
                total = np.where((weight != 0)[..., None], elements, np.zeros((), image.dtype))
            else:
                with np.errstate(invalid="ignore"):
                    total = total + elements * (np.abs(weight) + slope if absolute else weight)[..., None]
        return np.asarray(np.moveaxis(total, -1, 1).reshape(positions))


def grid_taps(op: GridSample, at: Array, size: int) -> tuple[Array, Array]:
    """The elements read along an axis of `size` elements for coordinates `at` of the grid, and their weights.

    Shapes: at f64 [..] -> indices i64 [..,taps] in 0..size-1, weights f64 [..,taps]: 1, 2 or 4 taps.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        match op.coordinates:
            case "corners":
                at = (at + 1.0) * ((size - 1) / 2.0)
            case "edges":
                at = (at + 1.0) * (size / 2.0) - 0.5
        if op.mode == "nearest":
            at = np.rint(at)
        low, high = grid_borders(op, size)
        if op.padding == "border" and op.mode != "cubic":
            at = np.where((at < low) | (at > high), np.clip(at, 0.0, size - 1.0), at)
        elif op.padding == "reflection":
            at = _mirrored(at, low, high)
        at = np.clip(at, -BEYOND, size - 1 + BEYOND)
        below = np.floor(at)
        ratio = at - below
    match op.mode:
        case "nearest":
            taps, weights = below[..., None], np.ones((*at.shape, 1))
        case "linear":
            taps, weights = below[..., None] + np.array([0, 1]), np.stack([1.0 - ratio, ratio], axis=-1)
        case _:
            taps, weights = below[..., None] + np.array([-1, 0, 1, 2]), np.stack(cubic_weights(ratio), axis=-1)
    if op.padding == "zeros":
        weights = np.where((taps >= 0) & (taps <= size - 1), weights, np.zeros(()))
    elif op.padding == "reflection":
        taps = _mirrored(taps, low, high)
    return np.clip(np.nan_to_num(taps), 0, size - 1).astype(np.int64), weights


def grid_borders(op: GridSample, size: int) -> tuple[float, float]:
    """The lowest and highest coordinate inside of an axis."""
    return (0.0, size - 1.0) if op.coordinates == "corners" else (-0.5, size - 0.5)


def _mirrored(at: Array, low: float, high: float) -> Array:
    """Coordinates mirrored at `low` and `high` until they lie between them."""
    if high <= low:
        return np.where(np.isnan(at), at, low)
    turn = 2.0 * (high - low)
    distance = np.abs(at - low)
    distance = distance - np.floor(distance / turn) * turn
    return np.asarray(low + np.minimum(distance, turn - distance))


def cubic_weights(ratio: Array) -> tuple[Array, Array, Array, Array]:
    """Keys' kernel with coefficient -0.75 at the distances 1+t, t, 1-t and 2-t."""
    a = CUBIC_COEFFICIENT

    def near(d: Array) -> Array:
        return ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0

    def far(d: Array) -> Array:
        return a * (((d - 5.0) * d + 8.0) * d - 4.0)

    return far(1.0 + ratio), near(ratio), near(1.0 - ratio), far(2.0 - ratio)


@register
@dataclass(frozen=True)
class RoiAlign(Op):
    """y[r,c,h,w] = average or maximum of x[batch[r],c] over a grid of points in bin (h, w) of region r.

    A region (x1, y1, x2, y2) is scaled by spatial_scale, with half_pixel moved by -0.5, else at least 1 wide and high.
    It is cut into height times width bins, each with sampling_ratio points along an axis, or, where that is 0,
    ceil(size of a bin) points, limited to those of a region ROI_OVERSIZE times as large as x. Points are
    interpolated linearly; those outside of [-1, size] are 0, others outside of x count as its border. "max" takes
    the largest product of an element and its weight.

    Shapes: x [N,C,H,W], rois [R,4] of x's type, batch [R] integers -> y [R,C,height,width].
    Attributes: kind "average" or "max"; height, width >= 1; sampling_ratio 0 to
        MAX_SAMPLING_RATIO; spatial_scale > 0; half_pixel.
    Raises: E110 for attributes out of range, shapes that do not fit, types other than floats, or an empty image.
    Source: ONNX RoiAlign-22. Indices of images are those of `Gather`. In float64, rounded once.
    """

    name: ClassVar[str] = "roi_align"
    inputs: ClassVar[tuple[str, ...]] = ("x", "rois", "batch")

    kind: str
    height: int
    width: int
    sampling_ratio: int = 0
    spatial_scale: float = 1.0
    half_pixel: bool = True

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """All regions, pooled to one size."""
        x, rois, batch = required(inputs)
        if self.kind not in ("average", "max"):
            raise self.fail(f"kind is {self.kind!r}, wanted 'average' or 'max'", inputs)
        rules.check_float(self, "x", x, inputs)
        rules.check_dtype(self, "rois", rois, x.dtype, inputs)
        if not batch.dtype.is_integer or x.rank != 4 or batch.rank != 1 or rois.shape != (*batch.shape, 4):
            raise self.fail("wanted x [N,C,H,W], rois [R,4] and integers [R]", inputs)
        rules.check_minimum(self, inputs, 1, size=(self.height, self.width))
        if not 0 <= self.sampling_ratio <= MAX_SAMPLING_RATIO:
            raise self.fail(f"sampling_ratio is {self.sampling_ratio}, wanted 0 to {MAX_SAMPLING_RATIO}", inputs)
        if not (math.isfinite(self.spatial_scale) and self.spatial_scale > 0):
            raise self.fail(f"spatial_scale is {self.spatial_scale}, wanted a number > 0", inputs)
        y = rules.result_type(self, x.dtype, (batch.shape[0], x.shape[1], self.height, self.width), inputs)
        if y.capacity and not x.capacity:
            raise self.fail("x is empty, the result is not", inputs)
        return (y,)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Region by region and bin by bin, all channels at once."""
        x, rois, batch = present(inputs)
        return (self._pooled(x, rois, batch, absolute=False).astype(x.dtype),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """As for `GridSample`: weights, and how far the rounding of coordinates moves them."""
        x, rois, batch = present(inputs)
        return (self._pooled(np.abs(x), rois, batch, absolute=True),)

    def sample_limit(self, size: int, bins: int) -> int:
        """The most points along an axis of a bin, where their number follows from the region."""
        return self.sampling_ratio or max(1, -(-ROI_OVERSIZE * size // bins))

    def _pooled(self, x: Array, rois: Array, batch: Array, absolute: bool) -> Array:
        image, sizes, bins = rules.wide(x), x.shape[2:], (self.height, self.width)
        images = resolved(batch, len(x))
        out = np.zeros((len(rois), x.shape[1], *bins))
        offset = 0.5 if self.half_pixel else 0.0
        slope = 4.0 * sum(sizes) if absolute else 0.0
        with np.errstate(all="ignore"):
            for r, box in enumerate(rules.wide(rois) * self.spatial_scale - offset):
                plane = image[images[r]]
                axes = [self._points(box[1 - axis], box[3 - axis], sizes[axis], bins[axis]) for axis in (0, 1)]
                for h, w in np.ndindex(*bins):
                    (rows, row_weights), (columns, column_weights) = ((index[k], weight[k]) for (index, weight), k in
                                                                      zip(axes, (h, w), strict=True))
                    weight = row_weights[:, None, :, None] * column_weights[None, :, None, :]  # [points, points, 2, 2]
                    elements = plane[:, rows[:, None, :, None], columns[None, :, None, :]]
                    terms = elements * (np.abs(weight) + slope * (weight != 0) if absolute else weight)
                    if not weight.size:
                        continue
                    if self.kind == "max":
                        out[r, :, h, w] = terms.max(axis=(1, 2, 3, 4))
                    else:
                        out[r, :, h, w] = terms.sum(axis=(1, 2, 3, 4)) / (weight.shape[0] * weight.shape[1])
        return out

    def _points(self, first: float, last: float, size: int, bins: int) -> tuple[Array, Array]:
        """Indices i64 and weights f64 [bins, points, 2] along one axis."""
        extent = last - first if self.half_pixel else max(last - first, 1.0)
        step = extent / bins
        limit = self.sample_limit(size, bins)
        wanted = np.ceil(step)
        points = self.sampling_ratio or (int(min(max(wanted, 0), limit)) if not np.isnan(wanted) else 0)
        at = first + np.arange(bins)[:, None] * step + (np.arange(points) + 0.5) * (step / max(points, 1))
        inside = (at >= -1.0) & (at <= size)
        held = np.clip(np.where(inside, at, 0.0), 0.0, size - 1.0)
        below = np.floor(held)
        ratio = held - below
        indices = np.stack([below, np.minimum(below + 1, size - 1)], axis=-1).astype(np.int64)
        return indices, np.stack([1.0 - ratio, ratio], axis=-1) * inside[..., None]
