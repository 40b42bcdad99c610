"""Operators that combine the elements along axes: sums, extrema, softmax, normalisations, scans and selection."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from edgecc.ir.dims import lower_bound
from edgecc.ir.op import Op, present, register, required
from edgecc.ir.types import Array, Dim, DType, Shape, TensorType, is_float_array
from edgecc.ops import rules

REDUCE_KINDS = ("sum", "mean", "max", "min", "prod", "sum_square", "l1", "l2", "wide_sum")

WIDE_SUMS: Mapping[DType, DType] = MappingProxyType(
    {**dict.fromkeys((DType.I8, DType.U8, DType.I16, DType.U16), DType.I32), DType.I32: DType.I64})
"""The type of sums of integers that are wider than what is summed."""


@register
@dataclass(frozen=True)
class Reduce(Op):
    """y = combination of the elements of x along `axes`.

    kind "sum": sum x; "mean": sum x / count; "max", "min", "prod"; "sum_square": sum x^2; "l1": sum |x|;
    "l2": sqrt(sum x^2); "wide_sum": sum x of integers of 8 and 16 bits as i32, of those of 32 bits as i64. Over no
    elements: 0 for sums, 1 for prod, NaN for a mean of floats, the lowest (highest) value of the type for max (min). max and
    min of floats give NaN where an element is NaN.

    Shapes: x of any shape -> y without `axes`, or with size 1 there if keepdims. Without axes nothing is combined
        (kinds that square or take absolute values still do so).
    Attributes: kind; axes, ascending, from 0 to rank-1; keepdims.
    Raises: E110 for an unknown kind, bad axes, or bool elements (max and min take them), a wide sum of other types.
    Source: ONNX ReduceSum-13 and its family (log kinds are decomposed by the frontend). Floats in float64, rounded
        once; integers wrap, their mean and l2 truncate towards zero.
    """

    name: ClassVar[str] = "reduce"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    kind: str
    axes: tuple[int, ...]
    keepdims: bool = True

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The reduced shape; see the class."""
        (x,) = required(inputs)
        if self.kind not in REDUCE_KINDS:
            raise self.fail(f"kind is {self.kind!r}, wanted one of {', '.join(REDUCE_KINDS)}", inputs)
        if x.dtype is DType.BOOL and self.kind not in ("max", "min"):
            raise self.fail(f"{self.kind} does not take bool", inputs)
        rules.check_axes(self, self.axes, x.rank, inputs)
        if self.kind == "wide_sum" and x.dtype not in WIDE_SUMS:
            raise self.fail(f"a wide sum of {x.dtype.value} is not defined", inputs)
        dtype = WIDE_SUMS[x.dtype] if self.kind == "wide_sum" else x.dtype
        return (rules.result_type(self, dtype, reduced_dims(x.shape, self.axes, self.keepdims), inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """numpy's reductions over float64."""
        (x,) = present(inputs)
        if self.kind == "wide_sum":
            x = x.astype(WIDE_SUMS[DType.from_numpy(x.dtype)].numpy)
        return (self._combine(rules.wide(x)).astype(x.dtype),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """max and min do not round: their own magnitude. Otherwise that of the absolute values."""
        if self.kind in ("max", "min"):
            return tuple(np.abs(y) if is_float_array(y) else y for y in self.reference(inputs))
        return super().magnitude(inputs)

    def _combine(self, x: Array) -> Array:
        axes, keep = self.axes, self.keepdims
        with np.errstate(all="ignore"):
            match self.kind:
                case "sum" | "wide_sum":
                    return np.asarray(x.sum(axis=axes, keepdims=keep, dtype=x.dtype))
                case "mean":
                    count = math.prod(x.shape[a] for a in axes)
                    total = x.sum(axis=axes, keepdims=keep, dtype=x.dtype)
                    return np.asarray(np.divide(total, count) if is_float_array(x)
                                      else np.trunc(np.divide(total, max(count, 1))))
                case "max":
                    return np.asarray(x.max(axis=axes, keepdims=keep, initial=lowest(x)))
                case "min":
                    return np.asarray(x.min(axis=axes, keepdims=keep, initial=highest(x)))
                case "prod":
                    return np.asarray(x.prod(axis=axes, keepdims=keep, dtype=x.dtype))
                case "l1":
                    return np.asarray(np.abs(x).sum(axis=axes, keepdims=keep, dtype=x.dtype))
            squares = np.asarray((x * x).sum(axis=axes, keepdims=keep, dtype=x.dtype))
            return squares if self.kind == "sum_square" else np.asarray(np.sqrt(rules.wide(squares)))


@register
@dataclass(frozen=True)
class ArgReduce(Op):
    """y = position along `axis` of the largest (or smallest) element.

    Of equal elements the first is taken, or the last with select_last. NaN counts as largest in "max" and as
    smallest in "min", as in numpy.

    Shapes: x [..., D, ...] with D >= 1 at `axis` -> y i64, without that axis, or with size 1 there if keepdims.
    Attributes: kind "max" or "min"; axis, 0 <= axis < rank; keepdims; select_last.
    Raises: E110 for a bad kind or axis, an empty axis, or bool elements.
    Source: ONNX ArgMax-13, ArgMin-13.
    """

    name: ClassVar[str] = "arg_reduce"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    kind: str
    axis: int
    keepdims: bool = True
    select_last: bool = False

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The reduced shape, of type i64."""
        (x,) = required(inputs)
        if self.kind not in ("max", "min"):
            raise self.fail(f"kind is {self.kind!r}, wanted 'max' or 'min'", inputs)
        if x.dtype is DType.BOOL:
            raise self.fail("x has type bool, wanted a number", inputs)
        rules.check_axis(self, self.axis, x.rank, inputs)
        if x.shape[self.axis] == 0:
            raise self.fail(f"axis {self.axis} of x is empty", inputs)
        return (rules.result_type(self, DType.I64, reduced_dims(x.shape, (self.axis,), self.keepdims), inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """numpy.argmax or argmin; from the reversed axis where the last position is wanted."""
        (x,) = present(inputs)
        x = rules.wide(x)
        find = np.argmax if self.kind == "max" else np.argmin
        if self.select_last:
            position = x.shape[self.axis] - 1 - find(np.flip(x, self.axis), axis=self.axis)
        else:
            position = find(x, axis=self.axis)
        return (np.asarray(np.expand_dims(position, self.axis) if self.keepdims else position).astype(np.int64),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Positions are exact."""
        return self.reference(inputs)


@register
@dataclass(frozen=True)
class Softmax(Op):
    """y = exp(x - m) / sum exp(x - m) along `axis`, m the maximum along it; with log: y = x - m - log(sum exp(x - m)).

    Shapes: x of any shape -> y of the same.
    Attributes: axis, 0 <= axis < rank; log.
    Raises: E110 for a bad axis or a type other than a float.
    Source: ONNX Softmax-13, LogSoftmax-13 (older opsets flatten to two axes: the frontend reshapes). In float64,
        rounded once.
    """

    name: ClassVar[str] = "softmax"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    axis: int
    log: bool = False

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The shape of x."""
        (x,) = required(inputs)
        rules.check_float(self, "x", x, inputs)
        rules.check_axis(self, self.axis, x.rank, inputs)
        return (rules.result_type(self, x.dtype, x.shape, inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """In float64, with the maximum subtracted first."""
        (x,) = present(inputs)
        shifted, total = self._parts(x)
        with np.errstate(all="ignore"):
            out = shifted - np.log(total) if self.log else np.exp(shifted) / total
        return (out.astype(x.dtype),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Softmax: y * (1 + |x - m|), the exponent's rounding included. With log: |x - m| + |log sum| + 1."""
        (x,) = present(inputs)
        shifted, total = self._parts(x)
        with np.errstate(all="ignore"):
            distance = np.where(np.isfinite(shifted), np.abs(shifted), 0.0)
            if self.log:
                return (distance + np.abs(np.log(total)) + 1.0,)
            return (np.exp(shifted) / total * (1.0 + distance),)

    def _parts(self, x: Array) -> tuple[Array, Array]:
        x = rules.wide(x)
        with np.errstate(all="ignore"):
            shifted = x - x.max(axis=self.axis, keepdims=True, initial=-np.inf)
            return shifted, np.exp(shifted).sum(axis=self.axis, keepdims=True)


@register
@dataclass(frozen=True)
class Normalize(Op):
    """y = (x - mean) / sqrt(variance + epsilon) * scale + bias; with rms: y = x / sqrt(mean of x^2 + epsilon) * scale + bias.

    mean and variance (divided by the count) are taken over `axes`.

    Shapes: x of any shape, scale and bias broadcast to x -> y of x's shape.
    Attributes: axes, the last ones of x, ascending, at least one; epsilon >= 0; rms.
    Raises: E110 for axes that are not trailing, types that are not one float type, operands that do not broadcast.
    Source: ONNX LayerNormalization-17, RMSNormalization-23, InstanceNormalization-22, GroupNormalization-21
        (the latter two after a reshape or with a scale of shape [C,1,...]). In float64, rounded once.
    """

    name: ClassVar[str] = "normalize"
    inputs: ClassVar[tuple[str, ...]] = ("x", "scale?", "bias?")

    axes: tuple[int, ...]
    epsilon: float = 1e-5
    rms: bool = False

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The shape of x."""
        (x,) = required(inputs[:1])
        rules.check_float(self, "x", x, inputs)
        if not self.axes or self.axes != tuple(range(x.rank - len(self.axes), x.rank)):
            raise self.fail(f"axes are {list(self.axes)}, wanted one or more of the last axes of x, ascending", inputs)
        if not self.epsilon >= 0:
            raise self.fail(f"epsilon is {self.epsilon}, wanted a number >= 0", inputs)
        for what, operand in zip(("scale", "bias"), inputs[1:], strict=False):
            if operand is not None:
                rules.check_dtype(self, what, operand, x.dtype, inputs)
                rules.check_broadcasts(self, what, operand.shape, x.shape, inputs)
        return (rules.result_type(self, x.dtype, x.shape, inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """In float64, with the mean subtracted before squaring."""
        x, scale, bias = self._operands(inputs)
        centred, inverse = self._parts(x)
        with np.errstate(all="ignore"):
            out = centred * inverse * scale + bias
        return (out.astype(present(inputs[:1])[0].dtype),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """First-order bound: errors of the difference, of the variance through the root, of scale and bias."""
        x, scale, bias = self._operands(inputs)
        centred, inverse = self._parts(x)
        terms = np.abs(x) if self.rms else np.abs(x) + np.abs(x).mean(axis=self.axes, keepdims=True)
        variance_error = np.mean(np.abs(centred) * terms, axis=self.axes, keepdims=True) * inverse**2
        with np.errstate(all="ignore"):
            return ((terms + np.abs(centred) * (1.0 + variance_error)) * inverse * np.abs(scale) + np.abs(bias),)

    def _operands(self, inputs: Sequence[Array | None]) -> tuple[Array, Array, Array]:
        x, scale, bias = (None if a is None else rules.wide(a) for a in (*inputs, None, None)[:3])
        (x,) = present([x])
        return x, np.ones(()) if scale is None else scale, np.zeros(()) if bias is None else bias

    def _parts(self, x: Array) -> tuple[Array, Array]:
        with np.errstate(all="ignore"):
            centred = x if self.rms else x - x.mean(axis=self.axes, keepdims=True)
            return centred, 1.0 / np.sqrt(np.mean(centred * centred, axis=self.axes, keepdims=True) + self.epsilon)


@register
@dataclass(frozen=True)
class BatchNorm(Op):
    """y[n,c,...] = (x[n,c,...] - mean[c]) * scale[c] / sqrt(variance[c] + epsilon) + bias[c].

    Shapes: x [N,C,...], scale, bias, mean, variance [C] -> y of x's shape.
    Attributes: epsilon >= 0.
    Raises: E110 where x has rank below 2, sizes differ from C, or types differ.
    Source: ONNX BatchNormalization-15 in inference mode. In float64, rounded once.
    """

    name: ClassVar[str] = "batch_norm"
    inputs: ClassVar[tuple[str, ...]] = ("x", "scale", "bias", "mean", "variance")

    epsilon: float = 1e-5

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The shape of x."""
        x, *parameters = required(inputs)
        rules.check_float(self, "x", x, inputs)
        if x.rank < 2:
            raise self.fail(f"x has rank {x.rank}, wanted at least 2: [N,C,...]", inputs)
        for what, operand in zip(self.inputs[1:], parameters, strict=True):
            rules.check_dtype(self, what, operand, x.dtype, inputs)
            rules.check_dims(self, what, operand, (x.shape[1],), inputs)
        return (rules.result_type(self, x.dtype, x.shape, inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The formula in float64."""
        x, scale, bias, mean, variance = self._operands(inputs)
        with np.errstate(all="ignore"):
            out = (x - mean) * (scale / np.sqrt(variance + self.epsilon)) + bias
        return (out.astype(present(inputs)[0].dtype),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """(|x| + |mean|) * |factor| + |bias|: the terms of the sum, since folding a factor separates them."""
        x, scale, bias, mean, variance = self._operands(inputs)
        with np.errstate(all="ignore"):
            factor = np.abs(scale / np.sqrt(variance + self.epsilon))
            return ((np.abs(x) + np.abs(mean)) * factor + np.abs(bias),)

    @staticmethod
    def _operands(inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x, *parameters = (rules.wide(a) for a in present(inputs))
        return (x, *(p.reshape(-1, *[1] * (x.ndim - 2)) for p in parameters))


@dataclass(frozen=True)
class Cumulative(Op):
    """What `CumSum` and `CumProd` share: y[i] combines x[0..i] along an axis."""

    inputs: ClassVar[tuple[str, ...]] = ("x",)
    combine: ClassVar[np.ufunc]
    neutral: ClassVar[int]

    axis: int
    exclusive: bool = False
    reverse: bool = False

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The shape of x."""
        (x,) = required(inputs)
        if x.dtype is DType.BOOL:
            raise self.fail("x has type bool, wanted a number", inputs)
        rules.check_axis(self, self.axis, x.rank, inputs)
        return (rules.result_type(self, x.dtype, x.shape, inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """numpy's accumulate, flipped before and after for reverse, shifted by one for exclusive."""
        (x,) = present(inputs)
        terms = np.flip(rules.wide(x), self.axis) if self.reverse else rules.wide(x)
        with np.errstate(all="ignore"):
            totals = self.combine.accumulate(terms, axis=self.axis, dtype=terms.dtype)
        if self.exclusive:
            first = np.full_like(np.take(totals, [0], axis=self.axis), self.neutral) if totals.shape[self.axis] else totals
            kept = np.take(totals, np.arange(max(totals.shape[self.axis] - 1, 0)), axis=self.axis)
            totals = np.concatenate([first, kept], axis=self.axis)
        return (np.asarray(np.flip(totals, self.axis) if self.reverse else totals).astype(x.dtype),)


@register
@dataclass(frozen=True)
class CumSum(Cumulative):
    """y[i] = sum of x[0..i] along `axis`; exclusive: of x[0..i-1]; reverse: summed from the end.

    Shapes: x of any shape -> y of the same.
    Attributes: axis, 0 <= axis < rank; exclusive; reverse.
    Raises: E110 for a bad axis or bool elements.
    Source: ONNX CumSum-14. Floats in float64, rounded once for each element; integers wrap.
    """

    name: ClassVar[str] = "cum_sum"
    combine: ClassVar[np.ufunc] = np.add
    neutral: ClassVar[int] = 0


@register
@dataclass(frozen=True)
class CumProd(Cumulative):
    """y[i] = product of x[0..i] along `axis`; exclusive: of x[0..i-1]; reverse: multiplied from the end.

    Shapes: x of any shape -> y of the same.
    Attributes: axis, 0 <= axis < rank; exclusive; reverse.
    Raises: E110 for a bad axis or bool elements.
    Source: ONNX CumProd-26. Floats in float64, rounded once for each element; integers wrap.
    """

    name: ClassVar[str] = "cum_prod"
    combine: ClassVar[np.ufunc] = np.multiply
    neutral: ClassVar[int] = 1


@register
@dataclass(frozen=True)
class TopK(Op):
    """values, positions = the k largest (smallest) elements along `axis`, best first.

    Of equal elements the one with the lower position comes first. NaN counts as largest.

    Shapes: x [..., D, ...] with D >= k at `axis` -> values of x's type, positions i64, both with size k there.
    Attributes: k >= 0; axis, 0 <= axis < rank; largest.
    Raises: E110 for a bad axis, k outside 0..D whatever the sizes of the run are, or bool elements.
    Source: ONNX TopK-11 with sorted=1.
    """

    name: ClassVar[str] = "top_k"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    k: Dim
    axis: int
    largest: bool = True

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Values and positions, with size k at the axis."""
        (x,) = required(inputs)
        if x.dtype is DType.BOOL:
            raise self.fail("x has type bool, wanted a number", inputs)
        rules.check_axis(self, self.axis, x.rank, inputs)
        if lower_bound(self.k) < 0 or lower_bound(self.k - x.shape[self.axis]) > 0:
            raise self.fail(f"k is {self.k}, axis {self.axis} of x has {x.shape[self.axis]} elements", inputs)
        dims = (*x.shape[:self.axis], self.k, *x.shape[self.axis + 1:])
        return (rules.result_type(self, x.dtype, dims, inputs), rules.result_type(self, DType.I64, dims, inputs))

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """A stable sort; of the reversed axis, read backwards, for the largest."""
        (x,) = present(inputs)
        keys = rules.wide(x)
        if self.largest:
            order = np.argsort(np.flip(keys, self.axis), axis=self.axis, kind="stable")
            order = x.shape[self.axis] - 1 - np.flip(order, self.axis)
        else:
            order = np.argsort(keys, axis=self.axis, kind="stable")
        positions = np.take(order, np.arange(int(self.k)), axis=self.axis)
        return np.take_along_axis(x, positions, axis=self.axis), positions.astype(np.int64)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Selection does not round: the magnitudes of the values; positions are exact."""
        values, positions = self.reference(inputs)
        return np.abs(values) if is_float_array(values) else values, positions


def reduced_dims(dims: Shape, axes: Sequence[int], keepdims: bool) -> Shape:
    """`dims` after a reduction over `axes`."""
    return tuple(1 if i in axes else d for i, d in enumerate(dims) if keepdims or i not in axes)


def lowest(x: Array) -> float | int | bool:
    """The neutral element of max in the type of x."""
    if is_float_array(x):
        return -np.inf
    return False if x.dtype == np.bool_ else int(np.iinfo(x.dtype).min)


def highest(x: Array) -> float | int | bool:
    """The neutral element of min in the type of x."""
    if is_float_array(x):
        return np.inf
    return True if x.dtype == np.bool_ else int(np.iinfo(x.dtype).max)
