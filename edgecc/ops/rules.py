"""What shape rules and references of several families share: checked sizes, broadcasting, epilogues.

Every failed check raises E110 through `Op.fail`, with what was wanted and what was got. Nothing here
allocates memory in proportion to a shape.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.dims import lower_bound, upper_bound
from edgecc.ir.op import Op
from edgecc.ir.scalar import Apply, Arg, Bitcast, Convert, Literal, ScalarExpr, evaluate, reads, widen
from edgecc.ir.types import Array, Dim, DType, Shape, SymbolicDim, TensorType, is_float_array

MAX_RANK = 16
"""Ranks above this are refused; ONNX models in use stay below 8, and numpy's views need twice the rank."""

MAX_ELEMENTS = 2**40
"""Element counts above this are refused; byte sizes of such tensors still fit a signed 64-bit integer."""

Types = Sequence[TensorType | None]


def result_type(op: Op, dtype: DType, dims: Iterable[Dim], inputs: Types) -> TensorType:
    """The type of a result with these dims, once they are known to be sizes a tensor may have.

    Raises: EdgeccError E110 for a negative dim, a rank above `MAX_RANK` or more than `MAX_ELEMENTS` elements.
    """
    shape = tuple(d if isinstance(d, SymbolicDim) else int(d) for d in dims)
    if len(shape) > MAX_RANK:
        raise op.fail(f"the result would have rank {len(shape)}, at most {MAX_RANK} is supported", inputs)
    if any(lower_bound(d) < 0 for d in shape):
        raise op.fail(f"the result would have the shape {sizes_text(shape)} with a negative size", inputs)
    if math.prod(max(upper_bound(d), 1) for d in shape) > MAX_ELEMENTS:
        raise op.fail(f"the result would have the shape {sizes_text(shape)} with more than 2^40 elements", inputs)
    return TensorType(dtype, shape)


def sizes_text(dims: Sequence[Dim]) -> str:
    """Sizes for a message: `[1, batch:1..8, 3]`."""
    return f"[{', '.join(map(str, dims))}]"


def broadcast_dims(op: Op, shapes: Sequence[Shape], inputs: Types) -> Shape:
    """The shape to which `shapes` broadcast together by numpy's rules.

    Raises: EdgeccError E110 where two sizes of an axis differ and neither is 1.
    """
    if shapes and all(shape is shapes[0] or shape == shapes[0] for shape in shapes):
        return shapes[0]
    rank = max((len(s) for s in shapes), default=0)
    dims: list[Dim] = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, start=rank - len(shape)):
            if size != 1 and dims[axis] != 1 and size != dims[axis]:
                raise op.fail(f"shapes {', '.join(map(sizes_text, shapes))} do not broadcast: "
                              f"axis {axis - rank} has sizes {dims[axis]} and {size}", inputs)
            if size != 1:
                dims[axis] = size
    return tuple(dims)


def check_broadcasts(op: Op, what: str, shape: Shape, target: Shape, inputs: Types) -> None:
    """Checks that `shape` broadcasts to `target` without enlarging it.

    Raises: EdgeccError E110 where it does not.
    """
    fits = len(shape) <= len(target) and all(
        size in (1, wanted) for size, wanted in zip(reversed(shape), reversed(target), strict=False))
    if not fits:
        raise op.fail(f"{what} has shape {sizes_text(shape)}, which does not broadcast to {sizes_text(target)}", inputs)


def check_axis(op: Op, axis: int, rank: int, inputs: Types, what: str = "axis") -> None:
    """Checks 0 <= axis < rank; operators count axes from the front.

    Raises: EdgeccError E110 where it is not.
    """
    if not 0 <= axis < rank:
        raise op.fail(f"{what} is {axis}, wanted 0 <= {what} < {rank}", inputs)


def check_axes(op: Op, axes: Sequence[int], rank: int, inputs: Types) -> None:
    """Checks that `axes` ascend strictly and lie in 0..rank-1.

    Raises: EdgeccError E110 where they do not.
    """
    if any(not 0 <= a < rank for a in axes) or any(a >= b for a, b in itertools.pairwise(axes)):
        raise op.fail(f"axes are {list(axes)}, wanted ascending numbers from 0 to {rank - 1}", inputs)


def check_float(op: Op, what: str, tensor_type: TensorType, inputs: Types) -> None:
    """Checks that the element type is a float that is computed with.

    Raises: EdgeccError E110 where it is not.
    """
    if not tensor_type.dtype.is_float or tensor_type.dtype.is_stored_only:
        raise op.fail(f"{what} has type {tensor_type.dtype.value}, wanted a float", inputs)


def check_dtype(op: Op, what: str, tensor_type: TensorType, wanted: DType, inputs: Types) -> None:
    """Checks that the element type is `wanted`.

    Raises: EdgeccError E110 where it is not.
    """
    if tensor_type.dtype is not wanted:
        raise op.fail(f"{what} has type {tensor_type.dtype.value}, wanted {wanted.value}", inputs)


def check_dims(op: Op, what: str, tensor_type: TensorType, wanted: Sequence[Dim], inputs: Types) -> None:
    """Checks that the shape is `wanted`.

    Raises: EdgeccError E110 where it is not.
    """
    if tensor_type.shape != tuple(wanted):
        raise op.fail(f"{what} has shape {sizes_text(tensor_type.shape)}, wanted {sizes_text(wanted)}", inputs)


def check_lengths(op: Op, inputs: Types, wanted: int, **attributes: Sequence[object]) -> None:
    """Checks that each attribute, given by name, has `wanted` entries.

    Raises: EdgeccError E110 naming the first that has not.
    """
    for name, entries in attributes.items():
        if len(entries) != wanted:
            raise op.fail(f"{name} is {list(entries)}, wanted {wanted} entries", inputs)


def check_minimum(op: Op, inputs: Types, least: int, **attributes: Sequence[Dim]) -> None:
    """Checks that no entry of the attributes, given by name, is below `least`.

    Raises: EdgeccError E110 naming the first that has such an entry.
    """
    for name, entries in attributes.items():
        if any(e < least for e in entries):
            raise op.fail(f"{name} is {list(entries)}, wanted numbers >= {least}", inputs)


def wide(array: Array) -> Array:
    """Floats as float64; other arrays unchanged."""
    return np.asarray(array.astype(np.float64)) if is_float_array(array) else array


# -- expressions over whole operands -------------------------------------------------------------------


def expression_type(op: Op, expr: ScalarExpr, operands: Sequence[TensorType], inputs: Types, what: str) -> DType:
    """The type of `expr` once each of its operands is known to exist and to have the type it states.

    Raises: EdgeccError E110 where one does not.
    """
    read = reads(expr)
    for arg in read:
        if arg.index >= len(operands):
            raise op.fail(f"{what} reads operand {arg.index}, there are {len(operands)}", inputs)
    for arg in read:
        got = operands[arg.index].dtype
        if got is not arg.dtype:
            raise op.fail(f"{what} reads operand {arg.index} as {arg.dtype.value}, it is {got.value}", inputs)
    return expr.dtype


NARROW_INTEGERS = frozenset({DType.I8, DType.U8, DType.I16, DType.U16})
"""Types whose products are summed in i32."""


def product_type(op: Op, what: str, factor: TensorType, other: TensorType, inputs: Types) -> DType:
    """The type of sums of products of two operands: i32 for any two of `NARROW_INTEGERS`, else the one type of both.

    Raises: EdgeccError E110 where `other`, which is called `what`, has another type than it should.
    """
    if factor.dtype in NARROW_INTEGERS and other.dtype in NARROW_INTEGERS:
        return DType.I32
    check_dtype(op, what, other, factor.dtype, inputs)
    return factor.dtype


def check_zero(op: Op, what: str, zero: int | None, operand: TensorType, inputs: Types) -> None:
    """Checks that a zero point is None, or a number that a narrow integer operand can have.

    Raises: EdgeccError E110 where it is not.
    """
    low, high = operand.dtype.limits
    if zero is not None and not (operand.dtype in NARROW_INTEGERS and low <= zero <= high):
        raise op.fail(f"{what} is {zero}, which is no element of {operand.dtype.value}", inputs)


def centred(array: Array, zero: int | None) -> Array:
    """An operand of sums of products as the reference takes it: float64 for floats and narrow integers, less the zero point.

    Such sums are exact: products of 16-bit numbers have 32 bits, and float64 holds the sums of 2^21 of them.
    """
    if DType.from_numpy(array.dtype) in NARROW_INTEGERS:
        return np.asarray(array.astype(np.float64) - (zero or 0))
    return wide(array)


def sum_type(epilogue: ScalarExpr | None, dtype: DType) -> DType:
    """The type the sum of a contraction of operands of type `dtype` is rounded to before its epilogue.

    Half-precision operands have f32 sums, which an epilogue may read as they are; narrow integers have i32 sums.
    """
    if dtype in NARROW_INTEGERS:
        return DType.I32
    stated = dtype if epilogue is None else stated_types(epilogue).get(0, dtype)
    return stated if dtype in (DType.F16, DType.BF16) and stated is DType.F32 else dtype


def check_bias(op: Op, what: str, bias: TensorType, dtype: DType, inputs: Types) -> None:
    """Checks that a bias has the type of the operands, f32 or theirs beside half-precision ones, i32 beside narrow integers.

    Raises: EdgeccError E110 where it has not.
    """
    if not (dtype in (DType.F16, DType.BF16) and bias.dtype is DType.F32):
        check_dtype(op, what, bias, DType.I32 if dtype in NARROW_INTEGERS else dtype, inputs)


def epilogue_type(op: Op, epilogue: ScalarExpr | None, result: TensorType, extra: Types, inputs: Types) -> TensorType:
    """The type of a result of type `result` after `epilogue` with the operands `extra`.

    Raises: EdgeccError E110 where extra operands are absent, are given without an epilogue, have
    another type than the epilogue states, or do not broadcast to the result.
    """
    if epilogue is None:
        if extra:
            raise op.fail(f"{len(extra)} extra operands are given, but there is no epilogue to read them", inputs)
        return result
    operands = [result.with_dtype(sum_type(epilogue, result.dtype))]
    for position, tensor_type in enumerate(extra):
        if tensor_type is None:
            raise op.fail(f"extra operand {position} is absent", inputs)
        check_broadcasts(op, f"extra operand {position}", tensor_type.shape, result.shape, inputs)
        operands.append(tensor_type)
    return result.with_dtype(expression_type(op, epilogue, operands, inputs, "the epilogue"))


def stated_types(expr: ScalarExpr) -> dict[int, DType]:
    """The type that `expr` states for each operand it reads."""
    found: dict[int, DType] = {}
    pending = [expr]
    while pending:
        node = pending.pop()
        match node:
            case Arg(index=index, dtype=dtype):
                found[index] = dtype
            case Apply(args=args):
                pending.extend(args)
            case Convert(arg=arg) | Bitcast(arg=arg):
                pending.append(arg)
            case Literal():
                pass
    return found


def evaluate_over(expr: ScalarExpr, args: Sequence[Array]) -> Array:
    """`expr` over arrays, computed in float64 and rounded once to its type.

    Where a float operand comes as float64 although the expression states a narrower type, this is
    wide execution, and the expression is evaluated without any rounding to narrower types.
    """
    is_wide = any(dtype.is_float and dtype is not DType.F64 and args[index].dtype == np.float64
                  for index, dtype in stated_types(expr).items())
    return evaluate(widen(expr) if is_wide else expr, args)


def apply_epilogue(epilogue: ScalarExpr | None, sums: Array, dtype: np.dtype[Any], extra: Sequence[Array | None]) -> Array:
    """The epilogue over the sums of a contraction of operands of numpy type `dtype`, rounded once, and the extra operands."""
    own = dtype if dtype == np.float64 else sum_type(epilogue, DType.from_numpy(dtype)).numpy
    if own.kind in "iu" and sums.dtype.kind == "f":
        sums = sums.astype(np.int64)  # whose lowest bits are kept
    accumulated = sums.astype(own)
    if epilogue is None:
        return accumulated
    operands = [accumulated]
    for position, array in enumerate(extra):
        if array is None:
            raise EdgeccError("E110", f"extra operand {position} is absent")
        operands.append(array)
    out = evaluate_over(epilogue, operands)
    return out if out.shape == accumulated.shape else np.array(np.broadcast_to(out, accumulated.shape))


def epilogue_magnitude(epilogue: ScalarExpr | None, accumulated: Array, magnitude: Array,
                       extra: Sequence[Array | None]) -> Array:
    """The magnitude of a result after its epilogue; `magnitude` is that of the accumulated sum."""
    if epilogue is None:
        return magnitude
    operands = [accumulated, *(a for a in extra if a is not None)]
    errors = [magnitude, *(np.zeros(()) for _ in operands[1:])]
    out = expression_magnitude(epilogue, operands, errors)
    return np.array(np.broadcast_to(out, accumulated.shape))


def expression_magnitude(expr: ScalarExpr, args: Sequence[Array], errors: Sequence[Array]) -> Array:
    """First-order bound of the rounding error of `expr`, in units of roundoff.

    Each primitive contributes the magnitude of its own result (one rounding) and, for each operand,
    the operand's error times the primitive's sensitivity, taken as a difference quotient over a step
    of four roundoffs. `errors` holds the errors of the operands in the same units; zero means exact.
    Comparisons and conversions to integers whose operands are exact therefore add nothing, and near
    a jump the height of the jump is allowed.
    """
    unit = max(dtype.unit_roundoff for dtype in (expr.dtype, *stated_types(expr).values(), DType.F32)
               if dtype is not DType.F64)
    step = 4.0 * max(unit, 2.0**-24)

    def run(node: ScalarExpr) -> tuple[Array, Array]:
        match node:
            case Arg(index=index):
                return wide(args[index]), errors[index]
            case Literal():
                return evaluate(widen(node), ()), np.zeros(())
            case Apply(args=operands):
                parts = [run(operand) for operand in operands]
            case Convert(arg=arg) | Bitcast(arg=arg):
                parts = [run(arg)]
        values = [value for value, _ in parts]
        local = _local(node)
        value = evaluate(local, values)
        total = np.abs(wide(value)).astype(np.float64) if node.dtype.is_float else np.zeros(value.shape)
        for position, (operand, error) in enumerate(parts):
            if not is_float_array(operand) or not np.any(error):
                continue
            change = np.zeros(())
            for sign in (step, -step):
                moved = [*values[:position], operand + sign * error, *values[position + 1:]]
                difference = np.abs(wide(evaluate(local, moved)).astype(np.float64) - wide(value).astype(np.float64))
                change = np.fmax(change, difference)
            total = total + change / step
        return value, total

    with np.errstate(all="ignore"):
        value, total = run(expr)
    return np.asarray(np.fmax(total, np.abs(wide(value).astype(np.float64))))


def _local(node: ScalarExpr) -> ScalarExpr:
    """The topmost primitive of `node` alone, over its operands as arguments, without narrow types."""
    match node:
        case Apply(op=op, args=operands, dtype=dtype):
            return widen(Apply(op, tuple(Arg(i, a.dtype) for i, a in enumerate(operands)), dtype))
        case Convert(arg=arg, dtype=dtype):
            return widen(Convert(Arg(0, arg.dtype), dtype))
        case Bitcast(arg=arg, dtype=dtype):
            return widen(Bitcast(Arg(0, arg.dtype), dtype))
    return widen(node)
