"""Operators whose results have as many elements as the data says.

All memory is planned ahead, so a result has room for the most there can be, and a last result says how many
elements of it count. What follows them is 0 (for indices of `NonMaxSuppression`, -1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.dims import upper_bound
from edgecc.ir.op import Op, present, register, required
from edgecc.ir.types import Array, DType, TensorType, is_float_array
from edgecc.ops import rules

PADDING_INDEX = -1
"""What rows of `NonMaxSuppression` hold that do not count."""


@register
@dataclass(frozen=True)
class NonZero(Op):
    """positions, count = the coordinates of the elements of x that are not 0, in row-major order; NaN is not 0.

    Shapes: x [D1..Dr] -> positions i64 [r, D1*..*Dr], of which the first `count` columns count; count i64 [].
    Attributes: room, instead of D1*..*Dr: a number that is not below it, whatever a run decides; 0 for D1*..*Dr itself.
    Raises: E110 where the result would be too large, or may not fit the room.
    Source: ONNX NonZero-13.
    """

    name: ClassVar[str] = "non_zero"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    room: int = 0

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Room for all positions, and their number."""
        (x,) = required(inputs)
        if self.room < 0 or (self.room and upper_bound(x.count) > self.room):
            raise self.fail(f"room is {self.room}, and x may have {upper_bound(x.count)} elements", inputs)
        return (rules.result_type(self, DType.I64, (x.rank, self.room or x.count), inputs), TensorType(DType.I64, ()))

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """numpy.nonzero, padded."""
        (x,) = present(inputs)
        out = np.zeros((x.ndim, self.room or x.size), np.int64)
        found = np.array(np.nonzero(x.reshape(-1)))[0]
        for axis, coordinates in enumerate(np.unravel_index(found, x.shape) if x.ndim else ()):
            out[axis, :len(found)] = coordinates
        return out, np.asarray(len(found), np.int64)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Positions are exact."""
        return self.reference(inputs)


@register
@dataclass(frozen=True)
class Unique(Op):
    """y, first, inverse, counts, count = the different slices of x along an axis.

    y[j] is the j-th different slice, first[j] where it stands first, counts[j] how often it occurs, and slice i of x is
    y[inverse[i]]. With `sorted` they ascend, compared element by element; else they are in the order of `first`.
    All NaN are equal and larger than every number; 0 and -0 are equal, and y holds the first of equal slices.

    Shapes: x [P.., D, Q..] with D at axis -> y of the same shape, first, inverse and counts i64 [D], count i64 []; the
        first `count` slices of y, first and counts count, all D of inverse do.
    Attributes: axis, 0 <= axis < rank; sorted.
    Raises: E110 for a bad axis.
    Source: ONNX Unique-11. Without an axis the frontend flattens x.
    """

    name: ClassVar[str] = "unique"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    axis: int = 0
    sorted: bool = True

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Room for all slices."""
        (x,) = required(inputs)
        rules.check_axis(self, self.axis, x.rank, inputs)
        numbers = TensorType(DType.I64, (x.shape[self.axis],))
        return (rules.result_type(self, x.dtype, x.shape, inputs), numbers, numbers, numbers, TensorType(DType.I64, ()))

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Slices as lists of keys, collected in a table."""
        (x,) = present(inputs)
        size = x.shape[self.axis]
        rows = np.moveaxis(x, self.axis, 0).reshape(size, math.prod(x.shape) // size if size else 0)
        found: dict[tuple[tuple[bool, float], ...], list[int]] = {}
        for position, row in enumerate(rows.astype(np.float64) if is_float_array(x) else rows):
            key = tuple((bool(e != e), 0 if e != e else e) for e in row.tolist())  # noqa: PLR0124 - true for NaN only
            found.setdefault(key, []).append(position)
        groups = [found[key] for key in (sorted(found) if self.sorted else found)]
        first, inverse, counts = (np.zeros(size, np.int64) for _ in range(3))
        y = np.zeros(x.shape, x.dtype)
        for number, members in enumerate(groups):
            first[number], counts[number], inverse[members] = members[0], len(members), number
        kept = np.take(x, first[:len(groups)], axis=self.axis)
        y[(slice(None),) * self.axis + (slice(0, len(groups)),)] = kept
        return y, first, inverse, counts, np.asarray(len(groups), np.int64)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Nothing is rounded: the magnitudes of the results."""
        y, *numbers = self.reference(inputs)
        return (np.abs(y) if is_float_array(y) else y, *numbers)


@register
@dataclass(frozen=True)
class NonMaxSuppression(Op):
    """selected, count = rows (image, class, box) of the boxes kept: greedily by score, those that overlap a kept one dropped.

    For each image and class the boxes with score > score_threshold (without one: all whose score is a number) are
    taken by descending score, the first of equal ones first. A box is dropped where intersection > iou_threshold *
    union with one kept before; boxes without a common area never are. At most max_output boxes are kept of a class.

    Shapes: boxes [N,B,4], scores [N,C,B], max_output i64 [], iou_threshold [], score_threshold [] ->
        selected i64 [N*C*per_class, 3], of which the first `count` rows count and others hold -1; count i64 [].
    Attributes: per_class, the most that is kept of a class whatever max_output is, 0 to the largest B; centred: boxes are
        (x, y, width, height) instead of two opposite corners (y, x, y, x).
    Raises: E110 for types or shapes that do not fit.
    Source: ONNX NonMaxSuppression-11.
    """

    name: ClassVar[str] = "non_max_suppression"
    inputs: ClassVar[tuple[str, ...]] = ("boxes", "scores", "max_output", "iou_threshold", "score_threshold?")

    per_class: int
    centred: bool = False

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Room for the most rows."""
        boxes, scores, most, overlap = required(inputs[:4])
        rules.check_float(self, "boxes", boxes, inputs)
        if boxes.rank != 3 or scores.rank != 3 or boxes.shape != (scores.shape[0], scores.shape[2], 4):
            raise self.fail("wanted boxes [N,B,4] and scores [N,C,B]", inputs)
        for what, operand in (("scores", scores), ("iou_threshold", overlap), ("score_threshold", (*inputs, None)[4])):
            if operand is not None:
                rules.check_dtype(self, what, operand, boxes.dtype, inputs)
                if what != "scores":
                    rules.check_dims(self, what, operand, (), inputs)
        rules.check_dtype(self, "max_output", most, DType.I64, inputs)
        rules.check_dims(self, "max_output", most, (), inputs)
        if not 0 <= self.per_class <= upper_bound(boxes.shape[1]):
            raise self.fail(f"per_class is {self.per_class}, wanted 0 to {upper_bound(boxes.shape[1])}", inputs)
        rows = scores.shape[0] * scores.shape[1] * self.per_class
        return (rules.result_type(self, DType.I64, (rows, 3), inputs), TensorType(DType.I64, ()))

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Class by class; all boxes left are compared with the one just kept."""
        boxes, scores, most, overlap = (np.asarray(a) for a in present(inputs[:4]))
        threshold = inputs[4] if len(inputs) > 4 else None
        rows, out = boxes.shape[0] * scores.shape[1] * self.per_class, []
        corners = _corners(rules.wide(boxes), self.centred)
        wide, limit = rules.wide(scores), float(rules.wide(overlap))
        with np.errstate(all="ignore"):
            for image, category in np.ndindex(*scores.shape[:2]):
                own = wide[image, category]
                left = np.flatnonzero(~np.isnan(own) if threshold is None else own > float(rules.wide(threshold)))
                for _ in range(int(np.clip(most, 0, self.per_class))):
                    if not left.size:
                        break
                    kept = left[np.argmax(own[left])]
                    out.append((image, category, kept))
                    rest = left[left != kept]
                    left = rest[~_overlaps(corners[image, rest], corners[image, kept], limit)]
        selected = np.full((rows, 3), PADDING_INDEX, np.int64)
        selected[:len(out)] = np.array(out, np.int64).reshape(-1, 3)
        return selected, np.asarray(len(out), np.int64)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Indices are exact."""
        return self.reference(inputs)


def _corners(boxes: Array, centred: bool) -> Array:
    """Boxes as lower and upper corners [..., (low, low, high, high)], along axes in the order the boxes name them."""
    if centred:
        half = boxes[..., 2:] / 2.0
        with np.errstate(invalid="ignore"):
            return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)
    return np.concatenate([np.minimum(boxes[..., :2], boxes[..., 2:]), np.maximum(boxes[..., :2], boxes[..., 2:])], axis=-1)


def _overlaps(boxes: Array, kept: Array, limit: float) -> Array:
    """Which of the boxes [n,4] share more than `limit` of their union with the box `kept` [4]."""
    common = np.minimum(boxes[:, 2:], kept[2:]) - np.maximum(boxes[:, :2], kept[:2])
    shared = common[:, 0] * common[:, 1]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (kept[2:] - kept[:2]).prod()
    return np.asarray((common > 0).all(axis=1) & (shared > limit * (areas - shared)))
