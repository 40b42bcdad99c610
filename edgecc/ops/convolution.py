"""Convolutions, transposed convolutions and pooling windows, of any spatial rank."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.dims import numbers
from edgecc.ir.op import Op, present, register, required
from edgecc.ir.scalar import ScalarExpr
from edgecc.ir.types import Array, Dim, Shape, TensorType, is_float_array
from edgecc.ops import rules
from edgecc.ops.sum_of_products import SumOfProducts

MAX_COLUMN_ELEMENTS = 2**25
"""Elements of the matrix of windows that the reference of `Conv` makes at most: 256 MiB of float64."""


@register
@dataclass(frozen=True)
class Conv(SumOfProducts):
    """y[n,o,p] = epilogue(b[o] + sum over i, k of x[n, g*C/G + i, p*strides + k*dilations - pads_begin] * w[o,i,k]).

    g = o // (O/G) is the group of output channel o; elements of x outside its bounds are zero. For integers of 8 and 16
    bits x stands for x - x_zero, and sums are i32 and wrap; both signs go together.

    Shapes: x [N,C,D1..Dr], w [O,C/G,K1..Kr], b [O], each extra operand broadcast to y
        -> y [N,O,P1..Pr], Pi = (Di + pads[i] + pads[r+i] - (Ki-1)*dilations[i] - 1) // strides[i] + 1.
    Attributes: strides and dilations, one per spatial axis, >= 1; pads, (begin..., end...), >= 0; group G >= 1;
        epilogue, a scalar expression or None: Arg(0) is the sum with bias, rounded to x's type (or to f32, if x is
        f16 or bf16 and it says so; i32 for narrow integers), Arg(i) is extra operand i-1. The result has the epilogue's type.
        x_zero, the zero point of a narrow integer x; None is 0. exact, whether floats are integers whose sums f32 holds, so that
        only such sums may stand between; None is no.
    Raises: E110 where ranks, channels, types or attribute lengths do not fit, or a kernel exceeds the padded input.
    Source: ONNX Conv-22 and ConvInteger-10. Sums in float64, rounds once before the epilogue.
    """

    name: ClassVar[str] = "conv"
    inputs: ClassVar[tuple[str, ...]] = ("x", "w", "b?", "extra*")

    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    group: int = 1
    epilogue: ScalarExpr | None = None
    x_zero: int | None = None
    exact: bool | None = None

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The convolved shape; see the class."""
        x, w = required(inputs[:2])
        if x.dtype not in rules.NARROW_INTEGERS:
            rules.check_float(self, "x", x, inputs)
        rules.check_zero(self, "x_zero", self.x_zero, x, inputs)
        sums = rules.product_type(self, "w", x, w, inputs)
        _check_operands(self, x, w, inputs, self.strides, self.pads, self.dilations, self.group)
        channels, spatial = x.shape[1], x.shape[2:]
        out_channels, group_channels, kernel = w.shape[0], w.shape[1], numbers(w.shape[2:])
        if group_channels * self.group != channels or out_channels % self.group:
            raise self.fail(f"w {w} with group {self.group} wants {group_channels * self.group} input channels and a "
                            f"multiple of {self.group} output channels, x has {channels} channels", inputs,
                            hint="x is [N,C,...] and w is [O,C/group,...]")
        _check_bias(self, inputs, x, out_channels)
        out = []
        for axis, (size, extent) in enumerate(zip(spatial, window_extents(kernel, self.dilations), strict=True)):
            padded = size + self.pads[axis] + self.pads[len(spatial) + axis]
            if padded < extent:
                raise self.fail(f"the kernel spans {extent} elements of spatial axis {axis}, "
                                f"the padded input has {padded}", inputs)
            out.append((padded - extent) // self.strides[axis] + 1)
        y = rules.result_type(self, sums, (x.shape[0], out_channels, *out), inputs)
        return (rules.epilogue_type(self, self.epilogue, y, inputs[3:], inputs),)

    def sums(self, inputs: Sequence[Array | None]) -> Array:
        """Windows of a padded view times weights, one matrix product a group."""
        x, w = (rules.centred(a, zero) for a, zero in zip(present(inputs[:2]), (self.x_zero, None), strict=True))
        rank = x.ndim - 2
        padded = np.pad(x, [(0, 0), (0, 0), *zip(self.pads[:rank], self.pads[rank:], strict=True)])
        view = windows(padded, w.shape[2:], self.strides, self.dilations)
        channels, out_channels = x.shape[1] // self.group, w.shape[0] // self.group
        if channels == 1 and self.group > 1:
            return _add_bias(_depthwise_sums(view, w, self.group), inputs)
        out = np.empty((x.shape[0], w.shape[0], *view.shape[2:2 + rank]))
        for g in range(self.group):
            own = slice(g * out_channels, (g + 1) * out_channels)
            out[:, own] = _dense_sums(view[:, g * channels:(g + 1) * channels], w[own])
        return _add_bias(out, inputs)


@register
@dataclass(frozen=True)
class ConvTranspose(SumOfProducts):
    """y[n,o,q] = epilogue(b[o] + sum of x[n,i,p] * w[i,o',k] over i, p, k with p*strides + k*dilations - pads_begin = q).

    i runs over the channels of o's group, and o' = o mod O/G. This is the gradient of `Conv` towards its input.

    Shapes: x [N,C,D1..Dr], w [C,O/G,K1..Kr], b [O], each extra operand broadcast to y
        -> y [N,O,Q1..Qr], Qi = strides[i]*(Di-1) + output_padding[i] + (Ki-1)*dilations[i] + 1 - pads[i] - pads[r+i].
    Attributes: strides, dilations >= 1; pads (begin..., end...) >= 0; group G >= 1; output_padding, one per spatial
        axis, >= 0, rows added at the end; epilogue as in `Conv`.
    Raises: E110 where ranks, channels, types or attribute lengths do not fit, or a result size would be negative.
    Source: ONNX ConvTranspose-22 (output_shape is turned into pads by the frontend). Sums in float64, rounds once.
    """

    name: ClassVar[str] = "conv_transpose"
    inputs: ClassVar[tuple[str, ...]] = ("x", "w", "b?", "extra*")

    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    group: int = 1
    output_padding: tuple[int, ...] = ()
    epilogue: ScalarExpr | None = None

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The enlarged shape; see the class."""
        x, w = required(inputs[:2])
        rules.check_float(self, "x", x, inputs)
        rules.check_dtype(self, "w", w, x.dtype, inputs)
        _check_operands(self, x, w, inputs, self.strides, self.pads, self.dilations, self.group)
        rank = x.rank - 2
        rules.check_lengths(self, inputs, rank, output_padding=self._output_padding(rank))
        rules.check_minimum(self, inputs, 0, output_padding=self.output_padding)
        if w.shape[0] != x.shape[1] or x.shape[1] % self.group:
            raise self.fail(f"w {w} with group {self.group} wants {w.shape[0]} input channels, a multiple of the group; "
                            f"x has {x.shape[1]} channels", inputs, hint="x is [N,C,...] and w is [C,O/group,...]")
        out_channels = w.shape[1] * self.group
        _check_bias(self, inputs, x, out_channels)
        y = rules.result_type(self, x.dtype, (x.shape[0], out_channels, *self._out_dims(x.shape[2:], w.shape[2:])), inputs)
        return (rules.epilogue_type(self, self.epilogue, y, inputs[3:], inputs),)

    def _output_padding(self, rank: int) -> tuple[int, ...]:
        return self.output_padding or (0,) * rank

    def _out_dims(self, spatial: Shape, kernel: Shape) -> Shape:
        rank = len(spatial)
        extents = window_extents(numbers(kernel), self.dilations)
        return tuple((spatial[a] - 1) * self.strides[a] + self._output_padding(rank)[a] + extents[a]
                     - self.pads[a] - self.pads[rank + a] if spatial[a] > 0 else 0 for a in range(rank))

    def sums(self, inputs: Sequence[Array | None]) -> Array:
        """Scatters one matrix product per kernel tap."""
        x, w = (rules.wide(a) for a in present(inputs[:2]))
        n, spatial, kernel = x.shape[0], x.shape[2:], w.shape[2:]
        rank = len(spatial)
        in_channels, out_channels = x.shape[1] // self.group, w.shape[1]
        dims = numbers(self._out_dims(spatial, kernel))
        # The sum is laid out with room for all taps, then cropped by the pads.
        room = [max(d + self.pads[a] + self.pads[rank + a], 0) for a, d in enumerate(dims)]
        full = np.zeros((n, self.group, out_channels, *room))
        xs = x.reshape(n, self.group, in_channels, -1)
        ws = w.reshape(self.group, in_channels, out_channels, -1)
        for position, tap in enumerate(itertools.product(*(range(k) for k in kernel))):
            products = np.matmul(ws[..., position].transpose(0, 2, 1), xs)
            starts = [t * d for t, d in zip(tap, self.dilations, strict=True)]
            region = tuple(slice(s, s + (d - 1) * stride + 1 if d else s, stride)
                           for s, d, stride in zip(starts, spatial, self.strides, strict=True))
            full[(slice(None), slice(None), slice(None), *region)] += products.reshape(n, self.group, out_channels, *spatial)
        crop = tuple(slice(self.pads[a], self.pads[a] + d) for a, d in enumerate(dims))
        out = full[(slice(None), slice(None), slice(None), *crop)].reshape(n, self.group * out_channels, *dims)
        return _add_bias(np.array(out), inputs)


@register
@dataclass(frozen=True)
class Pool(Op):
    """y[n,c,p] = max or average of x[n,c,q] over the window q = p*strides + k*dilations - pads_begin, 0 <= k < kernel.

    A maximum ignores padding; over a window of padding alone it is the lowest value of the type (-inf for floats).
    An average divides by the number of elements of x in the window, or, with count_include_pad, also of those in
    the padding (but not of those beyond it, which only ceil_mode can reach); without any it is 0.

    Shapes: x [N,C,D1..Dr] -> y [N,C,P1..Pr], Pi as for `Conv`; with ceil_mode the division rounds up, and a
        last window that would start beyond the input and the begin padding is dropped.
    Attributes: kind "max" or "average"; kernel, strides, dilations, one per spatial axis, >= 1;
        pads (begin..., end...) >= 0; count_include_pad; ceil_mode.
    Raises: E110 where attribute lengths do not fit, a window exceeds the padded input, or the type does
        not fit ("average" wants a float).
    Source: ONNX MaxPool-22, AveragePool-22. Sums in float64, rounds once.
    """

    name: ClassVar[str] = "pool"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    kind: str
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    count_include_pad: bool = False
    ceil_mode: bool = False

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The pooled shape; see the class."""
        (x,) = required(inputs)
        if self.kind not in ("max", "average"):
            raise self.fail(f"kind is {self.kind!r}, wanted 'max' or 'average'", inputs)
        if self.kind == "average" or not x.dtype.is_integer:
            rules.check_float(self, "x", x, inputs)
        if x.rank < 3:
            raise self.fail(f"x has rank {x.rank}, wanted at least 3: [N,C,...]", inputs)
        rank = x.rank - 2
        rules.check_lengths(self, inputs, rank, kernel=self.kernel, strides=self.strides, dilations=self.dilations)
        rules.check_lengths(self, inputs, 2 * rank, pads=self.pads)
        rules.check_minimum(self, inputs, 1, kernel=self.kernel, strides=self.strides, dilations=self.dilations)
        rules.check_minimum(self, inputs, 0, pads=self.pads)
        for axis, extent in enumerate(window_extents(self.kernel, self.dilations)):
            padded = x.shape[2 + axis] + self.pads[axis] + self.pads[rank + axis]
            if padded < extent and not self.ceil_mode:
                raise self.fail(f"the window spans {extent} elements of spatial axis {axis}, "
                                f"the padded input has {padded}", inputs)
        dims = self._out_dims(x.shape[2:])
        return (rules.result_type(self, x.dtype, (*x.shape[:2], *dims), inputs),)

    def _out_dims(self, spatial: Shape) -> Shape:
        rank, out = len(spatial), list[Dim]()
        for axis, extent in enumerate(window_extents(self.kernel, self.dilations)):
            stride, begin = self.strides[axis], self.pads[axis]
            room = spatial[axis] + begin + self.pads[rank + axis] - extent
            count = (-(-room // stride) if self.ceil_mode else room // stride) + 1
            if self.ceil_mode and count > 0 and (count - 1) * stride >= spatial[axis] + begin:
                count -= 1
            out.append(count)
        return tuple(out)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Maximum of the windows, or sum of them in float64 over the count of elements."""
        (x,) = present(inputs)
        spatial, positions = x.shape[2:], numbers(self._out_dims(x.shape[2:]))
        if self.kind == "max":
            lowest = -np.inf if is_float_array(x) else np.iinfo(x.dtype).min
            view = self._windows(x, positions, lowest)
            return (np.asarray(view.max(axis=tuple(range(2 + len(spatial), view.ndim)))),)
        axes = tuple(range(2 + len(spatial), 2 + 2 * len(spatial)))
        sums = self._windows(rules.wide(x), positions, 0.0).sum(axis=axes)
        ones = np.ones((1, 1, *spatial))
        if self.count_include_pad:
            rank = len(spatial)
            begin_end = list(zip(self.pads[:rank], self.pads[rank:], strict=True))
            counts = self._windows(np.pad(ones, [(0, 0), (0, 0), *begin_end], constant_values=1.0), positions, 0.0,
                                   padded=True).sum(axis=axes)
        else:
            counts = self._windows(ones, positions, 0.0).sum(axis=axes)
        return (np.asarray(sums / np.maximum(counts, 1.0)).astype(x.dtype),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """A maximum does not round: its own magnitude. An average: that of the absolute values."""
        if self.kind == "max":
            return tuple(np.abs(y) if is_float_array(y) else y for y in self.reference(inputs))
        return super().magnitude(inputs)

    def _windows(self, x: Array, positions: tuple[int, ...], fill: float, padded: bool = False) -> Array:
        """The windows of x after padding with `fill`, far enough for every position."""
        rank = len(positions)
        widths = []
        for axis, extent in enumerate(window_extents(self.kernel, self.dilations)):
            begin = 0 if padded else self.pads[axis]
            reach = (positions[axis] - 1) * self.strides[axis] + extent
            widths.append((begin, max(reach - x.shape[2 + axis] - begin, 0)))
        full = np.pad(x, [(0, 0), (0, 0), *widths], constant_values=np.asarray(fill, dtype=x.dtype))
        view = windows(full, self.kernel, self.strides, self.dilations)
        return view[(slice(None), slice(None), *(slice(0, positions[a]) for a in range(rank)))]


def window_extents(kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """Elements from the first to the last tap of a dilated kernel, both included, per axis."""
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))


def windows(x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Array:
    """A view of x [N,C,D1..Dr] as [N,C,P1..Pr,K1..Kr]: element k of the window at position p. Nothing is copied."""
    spatial = x.shape[2:]
    steps = x.strides[2:]
    positions = tuple((d - e) // s + 1 for d, e, s in zip(spatial, window_extents(kernel, dilations), strides, strict=True))
    return np.lib.stride_tricks.as_strided(
        x, (*x.shape[:2], *positions, *kernel),
        (*x.strides[:2], *(a * s for a, s in zip(steps, strides, strict=True)),
         *(a * d for a, d in zip(steps, dilations, strict=True))), writeable=False)


def _dense_sums(view: Array, w: Array) -> Array:
    """Sums of one group: windows [N,C,P..,K..] times w [O,C,K..] -> [N,O,P..].

    One matrix product over columns that hold whole windows, or, where those would take too much memory, one for each tap.
    """
    n, channels, rank = view.shape[0], view.shape[1], w.ndim - 2
    positions, kernel = view.shape[2:2 + rank], w.shape[2:]
    if view.size <= MAX_COLUMN_ELEMENTS:
        columns = np.moveaxis(view, 1, 1 + rank).reshape(n, math.prod(positions), channels * math.prod(kernel))
        sums = np.matmul(w.reshape(len(w), -1), columns.transpose(0, 2, 1))
    else:
        sums = np.zeros((n, len(w), math.prod(positions)))
        for tap in np.ndindex(*kernel):
            plane = view[(slice(None), slice(None), *[slice(None)] * rank, *tap)].reshape(n, channels, -1)
            sums += np.matmul(w[(slice(None), slice(None), *tap)], plane)
    return np.asarray(sums.reshape(n, len(w), *positions))


def _depthwise_sums(view: Array, w: Array, group: int) -> Array:
    """Sums where each group has one input channel: one product of whole planes for each tap."""
    n, rank, out_channels = view.shape[0], w.ndim - 2, len(w) // group
    positions = view.shape[2:2 + rank]
    by_group = w.reshape(group, out_channels, -1)
    sums = np.zeros((n, group, out_channels, *positions))
    for position, tap in enumerate(np.ndindex(*w.shape[2:])):
        plane = view[(slice(None), slice(None), *[slice(None)] * rank, *tap)]
        sums += plane[:, :, None] * by_group[:, :, position].reshape(group, out_channels, *[1] * rank)
    return np.asarray(sums.reshape(n, len(w), *positions))


def _check_operands(op: Op, x: TensorType, w: TensorType, inputs: Sequence[TensorType | None], strides: tuple[int, ...],
                    pads: tuple[int, ...], dilations: tuple[int, ...], group: int) -> None:
    if x.rank < 3 or w.rank != x.rank:
        raise op.fail(f"x has rank {x.rank} and w rank {w.rank}, wanted equal ranks of at least 3", inputs)
    rank = x.rank - 2
    rules.check_lengths(op, inputs, rank, strides=strides, dilations=dilations)
    rules.check_lengths(op, inputs, 2 * rank, pads=pads)
    rules.check_minimum(op, inputs, 1, strides=strides, dilations=dilations, kernel=w.shape[2:], group=(group,))
    rules.check_minimum(op, inputs, 0, pads=pads)


def _check_bias(op: Op, inputs: Sequence[TensorType | None], x: TensorType, out_channels: Dim) -> None:
    bias = inputs[2] if len(inputs) > 2 else None
    if bias is not None:
        rules.check_bias(op, "b", bias, x.dtype, inputs)
        rules.check_dims(op, "b", bias, (out_channels,), inputs)


def _add_bias(sums: Array, inputs: Sequence[Array | None]) -> Array:
    bias = inputs[2] if len(inputs) > 2 else None
    if bias is None:
        return sums
    return np.asarray(sums + rules.wide(bias).reshape(-1, *[1] * (sums.ndim - 2)))
