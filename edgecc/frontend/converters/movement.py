"""Operators that change the shape or the order of elements."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.computed_sizes import sizes_of
from edgecc.frontend.converters.moving import computed_part, computed_run, moving_part
from edgecc.frontend.converters.reshaping import reshaped_by_run
from edgecc.frontend.known import known_data
from edgecc.frontend.registry import converter
from edgecc.ir.dims import Dim, Shape, larger, lower_bound, smaller, upper_bound
from edgecc.ir.graph import Value
from edgecc.ops.movement import Concat, Slice
from edgecc.ops.rules import sizes_text


@converter("Transpose")
def _transpose(call: Call) -> Value:
    x = call.input()
    perm = call.ints("perm")
    if perm is None:
        perm = tuple(reversed(range(x.type.rank)))
    if sorted(perm) != list(range(x.type.rank)):
        raise EdgeccError("E110", f"perm is {list(perm)}, wanted a permutation of the axes of {x.type}")
    return call.transpose(x, perm)


@converter("Reshape")
def _reshape(call: Call) -> Value:
    x, given, keep_zero = call.input(), call.input(1), call.flag("allowzero")
    if known_data(given) is None and not call.importer.binds_values:
        return reshaped_by_run(call, x, given, keep_zero=keep_zero)
    wanted = call.known_dims(1, "the shape")
    batch = call.importer.opened_batch
    items = x.type.shape[0] if x.type.rank and batch is not None else 0
    if batch is not None and items == batch * (each := upper_bound(items) // upper_bound(batch)) and all(isinstance(size, int) for size in wanted):
        # The file holds the shape of one item. Items lie one behind the other, and so do their results.
        one, *rest = resolved_shape(wanted, (each, *x.type.shape[1:]), keep_zero=keep_zero)
        return call.reshape(x, (one * batch, *rest))
    return call.reshape(x, resolved_shape(wanted, x.type.shape, keep_zero=keep_zero))


def resolved_shape(wanted: Sequence[Dim], dims: Sequence[Dim], *, keep_zero: bool = False) -> list[Dim]:
    """A Reshape's shape with 0 (the operand's size there) and -1 (what is left) replaced.

    Raises: EdgeccError E110 where that is not possible.
    """
    shape = list(wanted)
    for axis, size in enumerate(shape):
        if size == 0 and not keep_zero:
            if axis >= len(dims):
                raise EdgeccError("E110", f"shape {list(wanted)} copies axis {axis}; the tensor has rank {len(dims)}")
            shape[axis] = dims[axis]
    free = [axis for axis, size in enumerate(shape) if size == -1]
    rest = math.prod((size for size in shape if size != -1), start=cast("Dim", 1))
    total = math.prod(dims, start=cast("Dim", 1))
    if len(free) > 1 or any(lower_bound(size) < -1 for size in shape) or (free and rest == 0 and keep_zero):
        raise EdgeccError("E110", f"shape {list(wanted)} is not one that a tensor can have")
    if free:
        if rest == 0 or total % rest != 0:
            raise EdgeccError("E110", f"{sizes_text(dims)} cannot be reshaped to {sizes_text(wanted)}")
        shape[free[0]] = total // rest
    return shape


@converter("Flatten")
def _flatten(call: Call) -> Value:
    x = call.input()
    axis, rank = call.integer("axis", 1), x.type.rank
    axis = rank if axis == rank else call.axis(axis, rank)
    return call.reshape(x, (math.prod(x.type.shape[:axis]), math.prod(x.type.shape[axis:])))


def _axes_given(call: Call) -> tuple[int, ...] | None:
    axes = call.ints("axes")
    return call.known_ints(1, "axes") if axes is None and call.optional(1) is not None else axes


@converter("Squeeze")
def _squeeze(call: Call) -> Value:
    x = call.input()
    given = _axes_given(call)
    if given is None:
        return call.reshape(x, [size for size in x.type.shape if size != 1])
    axes = call.axes(given, x.type.rank)
    if any(x.type.shape[axis] != 1 for axis in axes):
        raise EdgeccError("E110", f"axes {list(given)} of {x.type} are to be removed; their sizes must be 1")
    return call.reshape(x, [size for axis, size in enumerate(x.type.shape) if axis not in axes])


@converter("Unsqueeze")
def _unsqueeze(call: Call) -> Value:
    x, given = call.input(), _axes_given(call)
    if given is None:
        raise EdgeccError("E102", "the axes are missing")
    rank = x.type.rank + len(given)
    axes = call.axes(given, rank)
    sizes = iter(x.type.shape)
    return call.reshape(x, [1 if axis in axes else next(sizes) for axis in range(rank)])


@converter("Expand")
def _expand(call: Call) -> Value:
    x, shape = call.input(), sizes_of(call, 1, "the shape")
    call.importer.limits.check_dims(shape, "the result of Expand")
    return call.expand(x, _broadcast(x.type.shape, shape))


def _broadcast(a: Sequence[Dim], b: Sequence[Dim]) -> Shape:
    rank = max(len(a), len(b))
    pairs = zip((*[1] * (rank - len(a)), *a), (*[1] * (rank - len(b)), *b), strict=True)
    out: list[Dim] = []
    for one, other in pairs:
        if one not in (other, 1) and other != 1:
            raise EdgeccError("E110", f"shapes {sizes_text(a)} and {sizes_text(b)} do not broadcast")
        out.append(other if one == 1 else one)
    return tuple(out)


@converter("Tile")
def _tile(call: Call) -> Value:
    """Repeats as a broadcast along new axes: [d0, d1] -> [1, d0, 1, d1] -> [r0, d0, r1, d1] -> [r0*d0, r1*d1]."""
    x, repeats = call.input(), sizes_of(call, 1, "the repeats")
    dims = x.type.shape
    if len(repeats) != len(dims) or any(lower_bound(r) < 0 for r in repeats):
        raise EdgeccError("E110", f"repeats {list(repeats)} do not fit {x.type}")
    result = [r * d for r, d in zip(repeats, dims, strict=True)]
    call.importer.limits.check_dims(result, "the result of Tile")
    if all(d == 1 or r == 1 for r, d in zip(repeats, dims, strict=True)):
        return call.expand(x, result)
    pairs = [(r, d) for r, d in zip(repeats, dims, strict=True)]
    spread = call.reshape(x, [size for r, d in pairs for size in ((1, d) if r != 1 else (d,))])
    copies = call.expand(spread, [size for r, d in pairs for size in ((r, d) if r != 1 else (d,))])
    return call.reshape(copies, result)


@converter("Concat")
def _concat(call: Call) -> Value:
    values = call.values()
    return concat(call, values, call.axis(call.integer("axis"), values[0].type.rank))


def concat(call: Call, values: Sequence[Value], axis: int) -> Value:
    """The values joined along an axis; one value is returned as it is.

    Raises: EdgeccError E102 without values.
    """
    if not values:
        raise EdgeccError("E102", "there is nothing to join")
    return values[0] if len(values) == 1 else call.add(Concat(axis), *values)


def stacked(call: Call, values: Sequence[Value], axis: int) -> Value:
    """Values of one shape side by side along a new axis; there must be at least one."""
    at = call.axis(axis, values[0].type.rank + 1)
    return concat(call, [call.reshape(v, (*v.type.shape[:at], 1, *v.type.shape[at:])) for v in values], at)


@converter("Split")
def _split(call: Call) -> list[Value]:
    x = call.input()
    axis = call.axis(call.integer("axis", 0), x.type.rank)
    size, count = x.type.shape[axis], len(call.node.output)
    sizes: Shape | None = call.ints("split")
    if sizes is None and call.optional(1) is not None:
        sizes = call.known_dims(1, "split")
    if sizes is None:
        if call.integer("num_outputs", count) != count:
            raise EdgeccError("E102", f"num_outputs is not {count}, the number of outputs")
        sizes = even_parts(size, count)
        if call.version < 18 and len(set(sizes)) > 1:
            raise EdgeccError("E110", f"axis {axis} of {x.type} cannot be cut into {count} equal parts")
    if len(sizes) != count or sum(sizes, start=cast("Dim", 0)) != size or any(lower_bound(s) < 0 for s in sizes):
        raise EdgeccError("E110", f"axis {axis} of {x.type} cannot be cut into {count} parts of sizes {sizes_text(sizes)}")
    return cut(call, x, axis, sizes)


def even_parts(size: Dim, count: int) -> Shape:
    """Sizes of `count` parts of `size` elements: all equal but the last, which may be smaller."""
    part = -(-size // count)
    return tuple(larger(smaller(part, size - index * part), 0) for index in range(count))


def cut(call: Call, x: Value, axis: int, sizes: Sequence[Dim]) -> list[Value]:
    """Consecutive parts of `x` along an axis; at least one."""
    starts = itertools.accumulate(sizes[:-1], initial=cast("Dim", 0))
    return [call.slice(x, axis, 0 if size == 0 else start, size) for start, size in zip(starts, sizes, strict=True)]


@converter("Slice", until=9)
def _slice_by_attributes(call: Call) -> Value:
    starts, ends = call.ints("starts"), call.ints("ends")
    if starts is None or ends is None:
        raise EdgeccError("E102", "starts or ends are missing")
    return _slice(call, starts, ends, call.ints("axes"), None)


@converter("Slice", since=10)
def _slice_by_operands(call: Call) -> Value:
    axes = None if call.optional(3) is None else call.known_ints(3, "axes")
    steps = None if call.optional(4) is None else call.known_ints(4, "steps")
    if (axes is None or len(axes) == 1) and steps in (None, (1,)) and call.input().type.rank:
        moving = moving_part(call, call.input(), call.input(1), call.input(2), call.axis(0 if axes is None else axes[0], call.input().type.rank))
        if moving is not None:
            return moving
    if any(known_data(call.input(index)) is None for index in (1, 2)):
        return computed_part(call, axes, steps)
    return _slice(call, call.known_dims(1, "starts"), call.known_dims(2, "ends"), axes, steps)


def _slice(call: Call, starts: Sequence[Dim], ends: Sequence[Dim], axes: Sequence[int] | None,
           steps: Sequence[int] | None) -> Value:
    x = call.input()
    named = tuple(range(len(starts))) if axes is None else axes
    strides = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(named) == len(strides) or 0 in strides:
        raise EdgeccError("E110", f"starts {list(starts)}, ends {list(ends)}, axes {list(named)} and steps {list(strides)} "
                                  "must have equal lengths, and no step may be 0")
    call.axes(named, x.type.rank)
    begin, sizes, step = list[Dim]([0] * x.type.rank), list(x.type.shape), [1] * x.type.rank
    undecided: list[tuple[int, Dim, Dim, int]] = []
    for start, end, axis, stride in zip(starts, ends, named, strides, strict=True):
        axis = axis % x.type.rank  # noqa: PLW2901
        try:
            begin[axis], sizes[axis] = taken_part(x.type.shape[axis], start, end, stride)
        except EdgeccError as error:
            if error.code != "E104":
                raise
            undecided.append((axis, start, end, stride))
            continue
        step[axis] = 1 if upper_bound(sizes[axis]) <= 1 else stride
    if sizes != list(x.type.shape) or any(s != 1 for s in step):
        x = call.add(Slice(tuple(begin), tuple(sizes), tuple(step)), x)
    for axis, start, end, stride in undecided:  # the run decides, as min(n, 100)
        first, last = (call.reshape(call.sizes((number,)), ()) for number in (start, end))
        x = computed_run(call, x, axis, first, last, stride)
    return x


def taken_part(size: Dim, start: Dim, end: Dim, step: int) -> tuple[Dim, Dim]:
    """The first position and the number of positions that Python's slice start:end:step takes of an axis of `size` elements.

    Raises: EdgeccError E104 where that depends on the run in a way no dimension can express.
    """
    if isinstance(size, int) and isinstance(start, int) and isinstance(end, int):
        taken = range(*slice(start, end, step).indices(size))
        return (taken.start if taken else 0), len(taken)
    least, most = (0, size) if step > 0 else (-1, size - 1)
    first, last = (smaller(larger(b + size if b < 0 else b, least), most) for b in (start, end))
    length = last - first if step > 0 else first - last
    count = (larger(length, 0) + abs(step) - 1) // abs(step)
    return (0 if count == 0 else first), count


@converter("DepthToSpace")
def _depth_to_space(call: Call) -> Value:
    x, block, mode = call.input(), call.integer("blocksize"), call.text("mode", "DCR")
    if x.type.rank != 4 or block < 1 or x.type.shape[1] % (block * block):
        raise EdgeccError("E110", f"the input is {x.type}; wanted [N,C,H,W] with C a multiple of {block}*{block}")
    n, c, h, w = x.type.shape
    depth = c // (block * block)
    if mode == "DCR":
        split = call.reshape(x, (n, block, block, depth, h, w))
        moved = call.transpose(split, (0, 3, 4, 1, 5, 2))
    elif mode == "CRD":
        split = call.reshape(x, (n, depth, block, block, h, w))
        moved = call.transpose(split, (0, 1, 4, 2, 5, 3))
    else:
        raise EdgeccError("E102", f"mode is '{printable(mode)}', wanted DCR or CRD")
    return call.reshape(moved, (n, depth, h * block, w * block))


@converter("SpaceToDepth")
def _space_to_depth(call: Call) -> Value:
    x, block = call.input(), call.integer("blocksize")
    if x.type.rank != 4 or block < 1 or x.type.shape[2] % block or x.type.shape[3] % block:
        raise EdgeccError("E110", f"the input is {x.type}; wanted [N,C,H,W] with H and W multiples of {block}")
    mode = call.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise EdgeccError("E102", f"mode is '{printable(mode)}', wanted DCR or CRD")
    n, c, h, w = x.type.shape
    split = call.reshape(x, (n, c, h // block, block, w // block, block))
    moved = call.transpose(split, (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4))
    return call.reshape(moved, (n, c * block * block, h // block, w // block))
