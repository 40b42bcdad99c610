"""Pad in all its forms."""

from __future__ import annotations

from collections.abc import Sequence

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.computed_sizes import sizes_of
from edgecc.frontend.converters.movement import concat
from edgecc.frontend.registry import converter
from edgecc.ir.dims import Dim, SymbolicDim, fixing_hint, lower_bound
from edgecc.ir.graph import Value
from edgecc.ops.movement import PAD_MODES, Pad, Slice


@converter("Pad", since=2, until=10)
def _pad_by_attributes(call: Call) -> Value:
    pads = call.ints("pads")
    if pads is None:
        raise EdgeccError("E102", "attribute pads is missing")
    x = call.input()
    fill = call.number("value", 0.0)
    return pad(call, x, pads, None, None if fill == 0.0 else call.scalar(fill, x.type.dtype))


@converter("Pad", since=11)
@converter("Pad", domain="com.microsoft")
def _pad_by_operands(call: Call) -> Value:
    axes = None if call.optional(3) is None else call.known_ints(3, "axes")
    value = call.optional(2)
    if value is not None:
        if value.type.elements != 1:
            raise EdgeccError("E110", f"the value to pad with is {value.type}, wanted one element")
        value = call.cast(call.reshape(value, ()), call.input().type.dtype)
        if value.constant is not None and not value.constant.any():
            value = None
    return pad(call, call.input(), sizes_of(call, 1, "pads"), axes, value)


def pad(call: Call, x: Value, pads: Sequence[Dim], axes: Sequence[int] | None, value: Value | None) -> Value:
    """`x` padded by (begin..., end...) along `axes` (None: all) in the node's mode; negative entries remove elements."""
    rank = x.type.rank
    named = tuple(range(rank)) if axes is None else tuple(call.axis(axis, rank, "axes") for axis in axes)
    mode = call.text("mode", "constant")
    if mode not in PAD_MODES:
        raise EdgeccError("E102", f"mode is '{printable(mode)}', wanted one of {', '.join(PAD_MODES)}")
    if len(pads) != 2 * len(named) or len(set(named)) != len(named):
        raise EdgeccError("E110", f"pads {list(pads)} do not fit {len(named)} different axes of {x.type}")
    before, after = [0] * rank, [0] * rank
    for position, axis in enumerate(named):
        ends = pads[position], pads[len(named) + position]
        if any(isinstance(end, SymbolicDim) for end in ends) and mode == "constant" and min(map(lower_bound, ends)) >= 0:
            x = _joined(call, x, axis, ends, value)
        else:
            before[axis], after[axis] = (_fixed(end) for end in ends)
    if not any(before) and not any(after):
        return x
    call.importer.limits.check_dims((max(b + d + a, 0) for b, d, a in zip(before, x.type.shape, after, strict=True)),
                                    "the result of Pad")
    if mode == "constant":
        return call.add(Pad(tuple(before), tuple(after)), x, value)
    if min(*before, *after) < 0:
        x = _cropped(call, x, before, after)
    grown = Pad(tuple(max(b, 0) for b in before), tuple(max(a, 0) for a in after), mode)
    return call.add(grown, x) if any(grown.before) or any(grown.after) else x


def _fixed(end: Dim) -> int:
    """A number of elements that the run must not decide.

    Raises: EdgeccError E104.
    """
    if isinstance(end, int):
        return end
    raise EdgeccError("E104", f"the run decides that {end} elements are added, and that may be fewer than none, or they are no constants",
                      hint=f"{fixing_hint(end.symbols)}, or other bounds")


def _joined(call: Call, x: Value, axis: int, ends: Sequence[Dim], value: Value | None) -> Value:
    """`x` between as many elements of `value` along an axis as the run decides."""
    fill = call.scalar(0.0, x.type.dtype) if value is None else value
    shapes = [tuple(end if a == axis else size for a, size in enumerate(x.type.shape)) for end in ends]
    first, last = (None if shape[axis] == 0 else call.expand(call.reshape(fill, (1,) * len(shape)), shape) for shape in shapes)
    return concat(call, [part for part in (first, x, last) if part is not None], axis)


def _cropped(call: Call, x: Value, before: Sequence[int], after: Sequence[int]) -> Value:
    """`x` without the elements that negative entries remove."""
    starts = tuple(max(-b, 0) for b in before)
    sizes = tuple(size - start - max(-a, 0) for size, start, a in zip(x.type.shape, starts, after, strict=True))
    if min(sizes) < 0:
        raise EdgeccError("E110", f"pads remove more elements than {x.type} has")
    return call.add(Slice(starts, sizes, (1,) * x.type.rank), x)
