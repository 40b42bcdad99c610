"""Between which numbers the elements of a tensor lie, whatever the run computes.

A size that is computed at run time needs a bound, for which memory is planned. Exported models often bound it
themselves: k = Min(count of boxes, 100), the position of a maximum, the count of a NonZero. Short tensors are followed
element by element, backwards from the size, as long as the operators are among those listed here; of others it is known
what their type can hold. Floats are followed as well: durations and corners of boxes are clipped before they are rounded to sizes.
An interval of floats says nothing of NaN, which no integer stands for, and is a few roundoffs wider than exact arithmetic needs.

Source: R. E. Moore, "Interval Analysis", 1966, for sums, differences, products, minima and maxima.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from edgecc.frontend.known import FOLLOWED_ELEMENTS, is_symbolic, known_data
from edgecc.ir.dims import lower_bound, upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.op import Op
from edgecc.ir.scalar import PRIMITIVES, Apply, Arg, Convert, Literal, ScalarExpr
from edgecc.ir.types import Array, DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather
from edgecc.ops.movement import Concat, Expand, Reshape, Slice, Transpose
from edgecc.ops.reduction import ArgReduce, CumSum, Reduce, TopK
from edgecc.ops.selection import NonMaxSuppression, NonZero, Unique
from edgecc.ops.sizes import BindSize

FOLLOWED_NODES = 256
"""Operators that are followed for one tensor; what lies further back is only known by its type."""


@dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`, both inclusive: whole ones of integer types, which are int, else floats, perhaps infinite."""

    low: float
    high: float

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low)

    def __mul__(self, other: Interval) -> Interval:
        ends = [a * b if a and b else 0 for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(ends), max(ends))

    def within(self, other: Interval) -> bool:
        """Whether all of its numbers are in `other`."""
        return other.low <= self.low and self.high <= other.high

    def around(self, other: Interval) -> Interval:
        """The smallest interval that contains both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))


_FOLLOWED = Concat | CumSum | Elementwise | Expand | Gather | Reduce | Reshape | Slice | TopK | Transpose
"""Operators whose results are bounded by their operands, besides those that are bounded by themselves."""


class Bounds(NamedTuple):
    """The smallest and the largest whole number that something can be."""

    low: int
    high: int


_TRUTH = Interval(0, 1)
_NOTHING: Mapping[Value, Value] = MappingProxyType({})
_FLOATS = Interval(-math.inf, math.inf)
_ROUNDOFFS = 8
"""Of so many units in the last place an interval of floats is wider on both sides than its ends are computed."""

_RISING: Mapping[str, Interval] = MappingProxyType({
    "floor": _FLOATS, "ceil": _FLOATS, "round": _FLOATS, "exp": _FLOATS, "tanh": _FLOATS, "sigmoid": _FLOATS, "erf": _FLOATS, "atan": _FLOATS,
    "sqrt": Interval(0, math.inf), "log": Interval(0, math.inf)})
"""Functions that rise, and where they are defined."""


def interval_of(value: Value, captured: Mapping[Value, Value] = _NOTHING) -> Bounds:
    """The smallest interval found around all elements of an integer tensor. `captured`: what inputs of regions stand for."""
    found = _joined([_Follower(captured).elements(value)])
    return Bounds(int(found.low), int(found.high))


class _Follower:
    def __init__(self, captured: Mapping[Value, Value]) -> None:
        self.captured = captured
        self.left = FOLLOWED_NODES
        self.known: dict[Value, Array] = {}

    def elements(self, value: Value) -> Array:
        """An array of intervals: of the shape of the tensor, or of rank 0 with one for all elements."""
        if value not in self.known:
            self.known[value] = self._found(value)
        return self.known[value]

    def _found(self, value: Value) -> Array:
        own = _full((), of_type(value.type.dtype))
        data = known_data(value)
        if data is not None and (data.size <= FOLLOWED_ELEMENTS or value.type.dtype.is_float):
            return _of_data(data)
        if value in self.captured:
            return self.elements(self.captured[value])
        self.left -= 1
        if value.producer is None or self.left < 0:
            return own
        found = self._result(value.producer.op, value.producer.inputs, value)
        if found is None:
            return own
        bounds = of_type(value.type.dtype)
        return _mapped(lambda i: i if i.within(bounds) else bounds, found)

    def _result(self, op: Op, operands: Sequence[Value | None], value: Value) -> Array | None:
        shape = value.type.max_dims
        short = value.type.is_static and value.type.capacity <= FOLLOWED_ELEMENTS
        match op:
            case BindSize(size=size):
                return _full((), Interval(lower_bound(size), upper_bound(size)))
            case ArgReduce(axis=axis) | TopK(axis=axis) if operands[0] is not None and (isinstance(op, ArgReduce) or value.result_index == 1):
                return _full((), Interval(0, max(0, operands[0].type.max_dims[axis] - 1)))
            case NonZero() | Unique() | NonMaxSuppression() if value.type.rank == 0 and value.producer is not None:
                return _full((), Interval(0, _most(op, value.producer.outputs[0])))
        if isinstance(op, Elementwise) and value.type.dtype.is_float:
            clipped = _interval(op.expr, [of_type(operand.type.dtype) for operand in operands if operand is not None])
            if _is_finite(clipped):  # what is clipped need not be followed
                return _full((), clipped)
        if not isinstance(op, _FOLLOWED):
            return None
        read = operands if isinstance(op, Elementwise | Concat) else operands[:1]  # indices and the like are no elements of the result
        parts = [None if operand is None else self.elements(operand) for operand in read]
        if isinstance(op, CumSum):
            return None if parts[0] is None else _full((), _rounded(_joined([parts[0]]) * Interval(0, shape[op.axis]), value.type.dtype, shape[op.axis]))
        if isinstance(op, Reduce):
            return None if parts[0] is None or operands[0] is None else _reduced(op, parts[0], operands[0], value)
        if isinstance(op, Elementwise):
            arrays = [part for part in parts if part is not None]
            if all(part.ndim == 0 for part in arrays):
                return _full((), _interval(op.expr, [_joined([part]) for part in arrays]))
            if not short:
                return None
            spread = [np.broadcast_to(part, shape) for part in arrays]
            return _listed(shape, [_interval(op.expr, list(items)) for items in zip(*(s.reshape(-1) for s in spread), strict=True)])
        first = parts[0] if parts else None
        if first is None:
            return None
        present = [part for part in parts if part is not None]
        if isinstance(op, Gather | TopK):
            index = operands[1].constant if isinstance(op, Gather) and operands[1] is not None else None
            if first.ndim and index is not None:
                (result,) = op.reference([first, index])
                return np.asarray(result, dtype=object)
            return _full((), _joined([first]))
        if all(part.ndim == 0 for part in present) or not short or any(o is None or not o.type.is_static for o in read):
            return _full((), _joined(present))
        wide = [np.array(np.broadcast_to(part, operand.type.dims)) for part, operand in zip(present, read, strict=True) if operand is not None]
        (result,) = op.reference(wide)
        return np.asarray(result, dtype=object)


def of_type(dtype: DType) -> Interval:
    """The numbers that a type can hold; all of i64 for integers of less than 8 bits and what is no number."""
    if dtype is DType.BOOL:
        return _TRUTH
    if dtype.is_float:
        return _FLOATS
    if dtype.is_integer and dtype.bits >= 8:
        info = np.iinfo(dtype.numpy)
        return Interval(int(info.min), int(info.max))
    return Interval(-2**63, 2**63 - 1)


def _of_data(data: Array) -> Array:
    """The intervals of known elements; one around all of them where they are many, which are floats."""
    if is_symbolic(data):
        return _mapped(lambda d: Interval(lower_bound(d), upper_bound(d)), data)
    if data.dtype.kind in "iub":
        return _mapped(lambda d: Interval(int(d), int(d)), data)
    numbers = data.astype(np.float64)
    if data.size > FOLLOWED_ELEMENTS or not np.isfinite(numbers).all():
        return _full((), Interval(float(numbers.min()), float(numbers.max())) if np.isfinite(numbers).all() else _FLOATS)
    return _mapped(lambda d: Interval(float(d), float(d)), numbers)


def _most(op: Op, selected: Value) -> int:
    """The largest count of an operator that selects."""
    match op:
        case NonZero():
            return selected.type.max_dims[1]
        case Unique(axis=axis):
            return selected.type.max_dims[axis]
    return selected.type.max_dims[0]


def _reduced(op: Reduce, part: Array, operand: Value, value: Value) -> Array | None:
    if op.kind not in ("min", "max", "sum", "mean") or not operand.type.is_static or operand.type.capacity == 0:
        return None
    joined = _joined([part])
    if op.kind == "mean":
        return _full((), _rounded(joined, value.type.dtype, operand.type.capacity))
    if operand.type.capacity > FOLLOWED_ELEMENTS or value.type.capacity != 1:
        count = operand.type.capacity // max(1, value.type.capacity)
        return _full((), _rounded(joined * Interval(count, count), value.type.dtype, count) if op.kind == "sum" else joined)
    items = np.broadcast_to(part, operand.type.dims).reshape(-1)
    lows, highs = [i.low for i in items], [i.high for i in items]
    match op.kind:
        case "min":
            return _full((), Interval(min(lows), min(highs)))
        case "max":
            return _full((), Interval(max(lows), max(highs)))
    return _full((), _rounded(Interval(sum(lows), sum(highs)), value.type.dtype, len(items)))


def _interval(expr: ScalarExpr, args: Sequence[Interval]) -> Interval:
    """A scalar expression over intervals; what is not followed is bounded by its type."""
    match expr:
        case Arg(index=index):
            return args[index]
        case Literal(value=value):
            number = float(value) if expr.dtype.is_float else int(value)
            return of_type(expr.dtype) if math.isnan(number) else Interval(number, number)
        case Convert(arg=arg, dtype=dtype):
            found = _interval(arg, args)
            if arg.dtype.is_float and not dtype.is_float:
                if dtype is DType.BOOL or dtype.bits < 8:  # anything but 0 is true; how far the narrow types reach is not known here
                    return of_type(dtype)
                return Interval(_saturated(found.low, dtype), _saturated(found.high, dtype))
            return _rounded(_held(found, dtype), dtype)
        case Apply(op=op, args=operands):
            result = _applied(op, [_interval(a, args) for a in operands])
            return of_type(expr.dtype) if result is None else _rounded(_held(result, expr.dtype), expr.dtype)
    return of_type(expr.dtype)


def _is_finite(interval: Interval) -> bool:
    return math.isfinite(interval.low) and math.isfinite(interval.high)


def _rounded(interval: Interval, dtype: DType, times: int = 1) -> Interval:
    """An interval with room for `times` roundings of numbers of a type."""
    if not dtype.is_float or not _is_finite(interval):
        return interval
    room = times * _ROUNDOFFS * dtype.unit_roundoff
    return Interval(interval.low - room * abs(interval.low), interval.high + room * abs(interval.high))


def _applied(op: str, args: Sequence[Interval]) -> Interval | None:
    match op, args:
        case "add", (a, b):
            return a + b
        case "sub", (a, b):
            return a + -b
        case "mul", (a, b):
            return a * b
        case "neg", (a,):
            return -a
        case "abs", (a,):
            return Interval(max(a.low, -a.high, 0), max(-a.low, a.high))
        case "min", (a, b):
            return Interval(min(a.low, b.low), min(a.high, b.high))
        case "max", (a, b):
            return Interval(max(a.low, b.low), max(a.high, b.high))
        case name, (a,) if name in _RISING and a.within(_RISING[name]):
            ends = [_value(name, end) for end in (a.low, a.high)]
            return None if any(math.isnan(end) for end in ends) else Interval(*ends)
        case ("sin" | "cos"), _:
            return Interval(-1.0, 1.0)
        case "lt", (a, b):
            return Interval(int(a.high < b.low), int(a.low < b.high))
        case "select", (condition, a, b):
            return a if condition.low == 1 else b if condition.high == 0 else a.around(b)
        case "div", (a, b) if isinstance(a.low, int) and isinstance(b.low, int) and a.low >= 0 and b.low > 0:
            return Interval(a.low // b.high, a.high // b.low)
        case "div", (a, b) if b.low > 0 and _is_finite(b) and not isinstance(b.low, int):
            return a * Interval(1 / b.high, 1 / b.low)
        case "mod", (a, b) if a.low >= 0 and b.low > 0:
            return Interval(0, min(a.high, b.high - 1))
    return None


def _value(primitive: str, number: float) -> float:
    """A function of the scalar table at one number."""
    with np.errstate(all="ignore"):
        return float(PRIMITIVES[primitive].meaning(np.asarray(number, np.float64)))


def _saturated(number: float, dtype: DType) -> int:
    """A float as an integer type has it, which is what `Convert` makes of it."""
    bounds = of_type(dtype)
    low, high = int(bounds.low), int(bounds.high)
    return low if number <= low else high if number >= high else math.trunc(number)


def _held(interval: Interval, dtype: DType) -> Interval:
    """An interval in a type that may not hold all of it."""
    bounds = of_type(dtype)
    return interval if interval.within(bounds) else bounds


def _joined(parts: Sequence[Array]) -> Interval:
    intervals: list[Interval] = [i for part in parts for i in part.reshape(-1)]
    out = intervals[0] if intervals else Interval(0, 0)
    for interval in intervals[1:]:
        out = out.around(interval)
    return out


def _full(shape: tuple[int, ...], interval: Interval) -> Array:
    return _listed(shape, [interval] * int(np.prod(shape, dtype=np.int64)))


def _listed(shape: tuple[int, ...], intervals: Sequence[Interval]) -> Array:
    out = np.empty(len(intervals), dtype=object)
    for index, interval in enumerate(intervals):
        out[index] = interval
    return out.reshape(shape)


def _mapped(function: Callable[[Any], Interval], data: Array) -> Array:
    return _listed(data.shape, [function(item) for item in data.reshape(-1).tolist()])
