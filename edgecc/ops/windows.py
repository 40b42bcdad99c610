"""Operators on windows that slide over an image, besides pools: positions of maxima, and windows added up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.dims import lower_bound, numbers, upper_bound
from edgecc.ir.op import Op, present, register, required
from edgecc.ir.types import Array, DType, TensorType, is_float_array
from edgecc.ops import rules
from edgecc.ops.convolution import Conv, Pool, window_extents


@register
@dataclass(frozen=True)
class MaxPosition(Op):
    """y[n,c,p] = the position in x, counted in elements, of the first largest element of the window that `Pool` takes at p.

    Positions count x in row-major order, with column_major the spatial axes of each channel the other way round, the
    first one fastest. "First" is in row-major order. NaN is larger than every number. A window of padding alone gives
    the position of the element that is nearest to its last tap.

    Shapes: x [N,C,D1..Dr] -> y i64 [N,C,P1..Pr], as for `Pool`.
    Attributes: kernel, strides, dilations, pads, ceil_mode as in `Pool`; column_major.
    Raises: E110 as `Pool`, or where x is empty and y is not.
    Source: ONNX MaxPool-22, the result Indices.
    """

    name: ClassVar[str] = "max_position"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    ceil_mode: bool = False
    column_major: bool = False

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The pooled shape, of numbers."""
        (x,) = required(inputs)
        (y,) = self.pool().infer(inputs)
        if upper_bound(y.count) and any(lower_bound(size) < 1 for size in x.shape[2:]):
            raise self.fail("x may be empty, the result is not", inputs)
        return (y.with_dtype(DType.I64),)

    def pool(self) -> Pool:
        """The pool whose maxima these are the positions of."""
        return Pool("max", self.kernel, self.strides, self.pads, self.dilations, ceil_mode=self.ceil_mode)

    def position_strides(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """How many positions apart neighbours along each spatial axis are."""
        sizes = list(spatial)
        if self.column_major:
            return tuple(math.prod(sizes[:axis]) for axis in range(len(sizes)))
        return tuple(math.prod(sizes[axis + 1:]) for axis in range(len(sizes)))

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The taps one by one, in row-major order; a later one replaces the best where it is larger."""
        (x,) = present(inputs)
        spatial, rank = x.shape[2:], x.ndim - 2
        (y,) = self.infer([TensorType.of(x)])
        best, found = np.zeros(y.dims, x.dtype), np.zeros(y.dims, np.int64)
        taken = np.zeros(y.dims, np.bool_)
        plane = math.prod(spatial)
        base = (np.arange(x.shape[0])[:, None] * x.shape[1] + np.arange(x.shape[1])) * plane
        for tap in itertools.product(*(range(k) for k in self.kernel)):
            at = [np.arange(p) * s + k * d - b for p, s, k, d, b in
                  zip(y.dims[2:], self.strides, tap, self.dilations, self.pads, strict=False)]
            inside = np.ones((1,) * rank, np.bool_)
            position = base.reshape(*base.shape, *[1] * rank)
            for axis, (places, step) in enumerate(zip(at, self.position_strides(spatial), strict=True)):
                shape = [-1 if a == axis else 1 for a in range(rank)]
                inside = inside & ((places >= 0) & (places < spatial[axis])).reshape(shape)
                position = position + (np.clip(places, 0, spatial[axis] - 1) * step).reshape(shape)
            held = np.ix_(np.arange(x.shape[0]), np.arange(x.shape[1]), *(np.clip(p, 0, s - 1) for p, s in zip(at, spatial, strict=True)))
            element = x[held]
            with np.errstate(invalid="ignore"):
                better = ~(element <= best) & ~np.isnan(best) if is_float_array(x) else element > best
            replaces = inside & (better | ~taken)
            best = np.where(replaces, element, best)
            found = np.where(replaces | ~taken, position, found)
            taken = taken | inside
        return (found,)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Positions are exact."""
        return self.reference(inputs)


@register
@dataclass(frozen=True)
class Col2Im(Op):
    """y[n,c,q] = sum of x[n,c,k,p] over taps k and positions p with p*strides + k*dilations - pads_begin = q.

    Shapes: x [N, C, K1*..*Kr, P1*..*Pr] -> y [N,C,sizes]; taps and positions in row-major order, Pi as for `Conv`.
    Attributes: sizes >= 0; kernel, strides, dilations >= 1; pads (begin..., end...) >= 0.
    Raises: E110 where lengths or sizes do not fit, or x is not of floats.
    Source: ONNX Col2Im-18. Summed in float64, rounded once.
    """

    name: ClassVar[str] = "col2im"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The image; see the class."""
        (x,) = required(inputs)
        rules.check_float(self, "x", x, inputs)
        rank = len(self.sizes)
        rules.check_lengths(self, inputs, rank, kernel=self.kernel, strides=self.strides, dilations=self.dilations)
        rules.check_lengths(self, inputs, 2 * rank, pads=self.pads)
        rules.check_minimum(self, inputs, 1, kernel=self.kernel, strides=self.strides, dilations=self.dilations)
        rules.check_minimum(self, inputs, 0, pads=self.pads, sizes=self.sizes)
        positions = self.positions()
        if x.rank != 4 or min(positions, default=1) < 1 or x.shape[2:] != (math.prod(self.kernel), math.prod(positions)):
            raise self.fail(f"wanted x [N,C,{math.prod(self.kernel)},{'*'.join(map(str, positions))}]", inputs)
        return (rules.result_type(self, x.dtype, (*x.shape[:2], *self.sizes), inputs),)

    def positions(self) -> tuple[int, ...]:
        """Positions of the window along each axis."""
        rank = len(self.sizes)
        return tuple((size + self.pads[a] + self.pads[rank + a] - extent) // self.strides[a] + 1
                     for a, (size, extent) in enumerate(zip(self.sizes, window_extents(self.kernel, self.dilations), strict=True)))

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Each tap is added to a padded image, which is cropped."""
        (x,) = present(inputs)
        rank, positions = len(self.sizes), self.positions()
        room = [size + self.pads[a] + self.pads[rank + a] for a, size in enumerate(self.sizes)]
        image = np.zeros((*x.shape[:2], *room))
        taps = rules.wide(x).reshape(*x.shape[:3], *positions)
        for number, tap in enumerate(itertools.product(*(range(k) for k in self.kernel))):
            region = tuple(slice(k * d, k * d + (p - 1) * s + 1, s) for k, d, p, s in
                           zip(tap, self.dilations, positions, self.strides, strict=True))
            image[(slice(None), slice(None), *region)] += taps[:, :, number]
        crop = tuple(slice(begin, begin + size) for begin, size in zip(self.pads, self.sizes, strict=False))
        return (image[(slice(None), slice(None), *crop)].astype(x.dtype),)


# -- averages as sums ---------------------------------------------------------------------------


def sums_of_windows(pool: Pool, dims: Sequence[int], x_zero: int = 0) -> tuple[Conv, Array, Array]:
    """An average pool of integers [N,C,D1..Dr] as sums: a convolution of each channel, its weights of ones, and the counts
    [1,1,P1..Pr] that sums are to be divided by. Elements count less `x_zero`.
    """
    rank, spatial, pads = len(pool.kernel), dims[2:], list(pool.pads)
    positions = numbers(pool.infer([TensorType(DType.F32, tuple(dims))])[0].shape[2:])
    for axis, extent in enumerate(window_extents(pool.kernel, pool.dilations)):
        pads[rank + axis] = (positions[axis] - 1) * pool.strides[axis] + extent - spatial[axis] - pads[axis]
    # A last window may end before the operand does: what it does not reach is cut off by the shape rule of a convolution.
    pads[rank:] = [max(pad, 0) for pad in pads[rank:]]
    conv = Conv(pool.strides, tuple(pads), pool.dilations, dims[1], x_zero=x_zero or None)
    total = np.ones(())
    for axis in range(rank):  # along each axis by itself: the count of a window is a product
        held = np.arange(spatial[axis] + pads[axis] + pads[rank + axis]) - pads[axis]
        begin, end = (pool.pads[axis], pool.pads[rank + axis]) if pool.count_include_pad else (0, 0)
        counted = ((held >= -begin) & (held < spatial[axis] + end)).astype(np.float64)
        taps = np.arange(pool.kernel[axis]) * pool.dilations[axis]
        along = np.array([counted[position * pool.strides[axis] + taps].sum() for position in range(positions[axis])])
        total = np.multiply.outer(total, along)
    return conv, np.ones((dims[1], 1, *pool.kernel), np.int8), np.maximum(total, 1.0).reshape(1, 1, *total.shape)
