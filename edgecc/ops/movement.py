"""Operators that move elements without computing: each result element is one operand element, or a fill value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from edgecc.ir.dims import numbers
from edgecc.ir.op import Op, present, register, required
from edgecc.ir.strings import zeros
from edgecc.ir.types import Array, Dim, DType, Shape, TensorType
from edgecc.ops import rules

PAD_MODES = ("constant", "reflect", "edge", "wrap")


@register
@dataclass(frozen=True)
class Transpose(Op):
    """y[i_perm[0], i_perm[1], ...] = x[i_0, i_1, ...]: axis j of y is axis perm[j] of x.

    Shapes: x [D0..Dr-1] -> y [Dperm[0]..Dperm[r-1]].
    Attributes: perm, a permutation of the axes.
    Raises: E110 where perm is no permutation of x's axes.
    Source: ONNX Transpose-21.
    """

    name: ClassVar[str] = "transpose"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    perm: tuple[int, ...]

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The permuted shape."""
        (x,) = required(inputs)
        if sorted(self.perm) != list(range(x.rank)):
            raise self.fail(f"perm is {list(self.perm)}, wanted a permutation of the {x.rank} axes of x", inputs)
        return (rules.result_type(self, x.dtype, (x.shape[a] for a in self.perm), inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """numpy.transpose."""
        (x,) = present(inputs)
        return (np.ascontiguousarray(x.transpose(self.perm)).reshape([x.shape[a] for a in self.perm]),)


@register
@dataclass(frozen=True)
class Reshape(Op):
    """y = the elements of x in row-major order under another shape.

    Shapes: x of any shape -> y [shape], with as many elements.
    Attributes: shape, all sizes given.
    Raises: E110 where the element counts differ.
    Source: ONNX Reshape-21 (0 and -1 are resolved by the frontend); also Flatten, Squeeze, Unsqueeze.
    """

    name: ClassVar[str] = "reshape"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    shape: Shape

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The shape of the attribute."""
        (x,) = required(inputs)
        y = rules.result_type(self, x.dtype, self.shape, inputs)
        if y.count != x.count:
            raise self.fail(f"shape {rules.sizes_text(self.shape)} has {y.count} elements, x has {x.count}", inputs)
        return (y,)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """numpy.reshape."""
        (x,) = present(inputs)
        return (x.reshape(self.shape),)


@register
@dataclass(frozen=True)
class Expand(Op):
    """y = x broadcast to `shape` by numpy's rules.

    Shapes: x whose sizes are 1 or those of the last axes of `shape` -> y [shape].
    Attributes: shape, of the result.
    Raises: E110 where x does not broadcast to shape.
    Source: ONNX Expand-13 (a shape that x itself enlarges is resolved by the frontend).
    """

    name: ClassVar[str] = "expand"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    shape: Shape

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The shape of the attribute."""
        (x,) = required(inputs)
        y = rules.result_type(self, x.dtype, self.shape, inputs)
        rules.check_broadcasts(self, "x", x.shape, y.shape, inputs)
        return (y,)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """numpy.broadcast_to, copied."""
        (x,) = present(inputs)
        return (np.array(np.broadcast_to(x, numbers(self.shape))),)


@register
@dataclass(frozen=True)
class Concat(Op):
    """y = the operands one after another along `axis`.

    Shapes: x_j equal but at `axis` -> y, with the sum of the sizes there.
    Attributes: axis, 0 <= axis < rank.
    Raises: E110 without operands, for a bad axis, or where types or other sizes differ.
    Source: ONNX Concat-13.
    """

    name: ClassVar[str] = "concat"
    inputs: ClassVar[tuple[str, ...]] = ("x*",)

    axis: int

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The joined shape."""
        operands = required(inputs)
        if not operands:
            raise self.fail("there are no operands, wanted at least one")
        first = operands[0]
        rules.check_axis(self, self.axis, first.rank, inputs)
        for position, operand in enumerate(operands):
            rules.check_dtype(self, f"operand {position}", operand, first.dtype, inputs)
            wanted = list(first.shape)
            if operand.rank == first.rank:
                wanted[self.axis] = operand.shape[self.axis]
            rules.check_dims(self, f"operand {position}", operand, wanted, inputs)
        joined = sum((t.shape[self.axis] for t in operands), start=cast("Dim", 0))
        return (rules.result_type(self, first.dtype, (*first.shape[:self.axis], joined, *first.shape[self.axis + 1:]), inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """numpy.concatenate."""
        return (np.concatenate(present(inputs), axis=self.axis),)


@register
@dataclass(frozen=True)
class Slice(Op):
    """y[i_0, ...] = x[starts[0] + i_0*steps[0], ...] for 0 <= i_a < sizes[a].

    Shapes: x of rank r -> y [sizes].
    Attributes: starts, sizes, steps, one entry for each axis; every read element lies in x; steps are not 0 and may be
        negative. Where a size is 0 its start is not looked at.
    Raises: E110 for wrong lengths, a step of 0, a negative size, or a first or last element outside x.
    Source: ONNX Slice-13 (negative and clamped bounds are resolved by the frontend); also Split.
    """

    name: ClassVar[str] = "slice"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    starts: Shape
    sizes: Shape
    steps: tuple[int, ...]

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The shape of the attribute sizes."""
        (x,) = required(inputs)
        rules.check_lengths(self, inputs, x.rank, starts=self.starts, sizes=self.sizes, steps=self.steps)
        y = rules.result_type(self, x.dtype, self.sizes, inputs)
        for axis, (start, size, step) in enumerate(zip(self.starts, self.sizes, self.steps, strict=True)):
            if step == 0:
                raise self.fail(f"the step of axis {axis} is 0", inputs)
            last = start + (size - 1) * step
            if size != 0 and not (start >= 0 and last < x.shape[axis] if step > 0 else
                                  last >= 0 and start < x.shape[axis]):
                raise self.fail(f"axis {axis} is read from {start} to {last}, x has {x.shape[axis]} elements there", inputs)
        return (y,)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """numpy slicing, copied."""
        (x,) = present(inputs)
        index = []
        for start, size, step in zip(self.starts, self.sizes, self.steps, strict=True):
            stop = start + size * step
            index.append(slice(0, 0) if size == 0 else slice(start, stop if stop >= 0 else None, step))
        return (np.array(x[tuple(index)]),)


@register
@dataclass(frozen=True)
class Pad(Op):
    """y[i] = x[i - before] inside x; around it: value ("constant"), x mirrored without repeating the border element
    ("reflect"), the border element ("edge"), or x repeated ("wrap").

    Shapes: x [D0..], value [] -> y [before[a] + Da + after[a]].
    Attributes: before and after, one entry for each axis; with mode "constant" they may be negative, which removes
        elements (value is then used only where entries are positive); in the other modes they are >= 0.
    Operands: value, a scalar of x's type, only with mode "constant"; absent it is zero.
    Raises: E110 for wrong lengths, an unknown mode, a negative entry in another mode, an empty axis to be mirrored
        or repeated.
    Source: ONNX Pad-21.
    """

    name: ClassVar[str] = "pad"
    inputs: ClassVar[tuple[str, ...]] = ("x", "value?")

    before: tuple[int, ...]
    after: tuple[int, ...]
    mode: str = "constant"

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The padded shape."""
        (x,) = required(inputs[:1])
        if self.mode not in PAD_MODES:
            raise self.fail(f"mode is {self.mode!r}, wanted one of {', '.join(PAD_MODES)}", inputs)
        rules.check_lengths(self, inputs, x.rank, before=self.before, after=self.after)
        value = inputs[1] if len(inputs) > 1 else None
        if value is not None:
            if self.mode != "constant":
                raise self.fail(f"a value is given, but mode {self.mode!r} takes none", inputs)
            rules.check_dtype(self, "value", value, x.dtype, inputs)
            rules.check_dims(self, "value", value, (), inputs)
        for axis, (size, before, after) in enumerate(zip(x.shape, self.before, self.after, strict=True)):
            if self.mode == "constant":
                if before < -size or after < -size:
                    raise self.fail(f"axis {axis} has {size} elements, {before} and {after} would remove more", inputs)
            elif before < 0 or after < 0:
                raise self.fail(f"mode {self.mode!r} wants entries >= 0, axis {axis} has {before} and {after}", inputs)
            elif size == 0 and before + after > 0:
                raise self.fail(f"axis {axis} of x is empty, mode {self.mode!r} has nothing to repeat", inputs)
        dims = [b + d + a for b, d, a in zip(self.before, x.shape, self.after, strict=True)]
        return (rules.result_type(self, x.dtype, dims, inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Constant: a filled array with x copied into it. Other modes: reading by the index map of each axis."""
        (x,) = present(inputs[:1])
        if self.mode == "constant":
            value = inputs[1] if len(inputs) > 1 else None
            out = np.full([b + d + a for b, d, a in zip(self.before, x.shape, self.after, strict=True)],
                          zeros((), DType.from_numpy(x.dtype)) if value is None else value, dtype=x.dtype)
            source = tuple(slice(max(-b, 0), d - max(-a, 0)) for b, d, a in zip(self.before, x.shape, self.after, strict=True))
            kept = x[source]
            out[tuple(slice(max(b, 0), max(b, 0) + d) for b, d in zip(self.before, kept.shape, strict=True))] = kept
            return (out,)
        out = x
        for axis, (before, after) in enumerate(zip(self.before, self.after, strict=True)):
            out = np.take(out, source_positions(self.mode, x.shape[axis], before, after), axis=axis)
        return (np.array(out),)


def source_positions(mode: str, size: int, before: int, after: int) -> Array:
    """For each position of a padded axis, the position in x that it repeats (modes reflect, edge, wrap)."""
    position = np.arange(-before, size + after)
    if mode == "edge":
        return np.clip(position, 0, max(size - 1, 0))
    if mode == "wrap":
        return np.mod(position, max(size, 1))
    period = max(2 * (size - 1), 1)
    folded = np.mod(position, period)
    return np.asarray(np.where(folded < size, folded, period - folded))
