"""Pools over windows and over whole images."""

from __future__ import annotations

import math

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.windows import Window, cut, padded, per_axis, window
from edgecc.frontend.items import Item
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.dims import Dim, lower_bound, numbers, upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, literal
from edgecc.ops.convolution import Pool
from edgecc.ops.indexing import ScatterElements
from edgecc.ops.movement import Expand, Pad
from edgecc.ops.reduction import Reduce
from edgecc.ops.rules import sizes_text
from edgecc.ops.windows import Col2Im, MaxPosition


def window_of(call: Call, x: Value) -> Window:
    """The window of a pool over `x` [N,C,...]."""
    kernel = call.ints("kernel_shape")
    if kernel is None:
        raise EdgeccError("E102", "attribute kernel_shape is missing")
    if x.type.rank < 3:
        raise EdgeccError("E110", f"the input is {x.type}, wanted [N,C,...]")
    return window(call, x.type.shape[2:], kernel)


def _ceil(call: Call) -> bool:
    """ceil_mode counts only where the node gives its padding itself."""
    return call.flag("ceil_mode") and call.text("auto_pad", "NOTSET") in ("NOTSET", "")


def max_pool(call: Call, x: Value) -> Value:
    """The largest element of each window on `x`, [N,C,...], as the node's attributes say."""
    slide = window_of(call, x)
    x = padded(call, x, slide, x.type.dtype.limits[0] if x.type.dtype.is_integer else -math.inf)
    return cut(call, call.add(Pool("max", slide.kernel, slide.strides, slide.pads, slide.dilations, ceil_mode=_ceil(call)), x), slide)


@converter("MaxPool")
def _max_pool(call: Call) -> list[Item | None]:
    x = call.input()
    y, slide = max_pool(call, x), window_of(call, x)
    if not call.wants(1):
        return [y]
    if slide.around:
        raise Unsupported("positions in an image that the run pads at its beginning", "open the size in steps of the stride, as --shape height=64..320:32")
    positions = MaxPosition(slide.kernel, slide.strides, slide.pads, slide.dilations, _ceil(call), call.flag("storage_order"))
    return [y, cut(call, call.add(positions, x), slide)]


@converter("MaxUnpool", since=9)
def _max_unpool(call: Call) -> Value:
    """Elements go to the positions that a MaxPool gave, counted in the image it had without output_shape; all else is 0."""
    x, positions = call.input(0), call.input(1)
    if x.type.rank < 3 or positions.type.shape != x.type.shape:
        raise EdgeccError("E110", f"the input is {x.type} and the indices {positions.type}; wanted one shape [N,C,...]")
    rank = x.type.rank - 2
    kernel = call.ints("kernel_shape") or ()
    if len(kernel) != rank:
        raise EdgeccError("E110", f"kernel_shape is {list(kernel)}; the input has {rank} spatial axes")
    strides, pads = per_axis(call, "strides", rank, 1, 1), per_axis(call, "pads", 2 * rank, 0, 0)
    sizes = [(size - 1) * stride + k - pads[a] - pads[rank + a]
             for a, (size, stride, k) in enumerate(zip(x.type.shape[2:], strides, kernel, strict=True))]
    if any(lower_bound(size) < 0 for size in sizes):
        raise EdgeccError("E110", f"the image would have the sizes {sizes_text(sizes)}")
    image = (*x.type.shape[:2], *sizes)
    call.importer.limits.check_dims(image, "the result of MaxUnpool")
    count: Dim = math.prod(image)
    if not upper_bound(count):
        return call.expand(call.scalar(0, x.type.dtype), image)
    # The zeros are views of one number: written out, they would be constants as large as the image.
    (zeros,) = call.importer.emitter.graph.add_node(Expand((count,)), (call.scalar(0, x.type.dtype),), loc=call.loc).outputs
    flat = call.add(ScatterElements(0), zeros, call.reshape(positions, (x.type.count,)), call.reshape(x, (x.type.count,)))
    y = call.reshape(flat, image)
    if call.optional(2) is None:
        return y
    wanted = call.known_dims(2, "output_shape")
    if len(wanted) != len(image) or any(w < size for w, size in zip(wanted, image, strict=True)):
        raise EdgeccError("E110", f"output_shape is {sizes_text(wanted)}, the image has the shape {sizes_text(image)}")
    call.importer.limits.check_dims(wanted, "the result of MaxUnpool")
    after = tuple(w - size for w, size in zip(wanted, image, strict=True))
    return call.add(Pad((0,) * len(image), numbers(after)), y) if any(after) else y


@converter("Col2Im", since=18)
def _col2im(call: Call) -> Value:
    x, sizes, kernel = call.input(0), call.known_ints(1, "image_shape"), call.known_ints(2, "block_shape")
    rank, taps = len(sizes), math.prod(kernel)
    if x.type.rank != 3 or rank < 1 or len(kernel) != rank or min(*kernel, *sizes) < 1 or x.type.shape[1] % taps:
        raise EdgeccError("E110", f"the input {x.type}, image_shape {list(sizes)} and block_shape {list(kernel)} do not fit")
    batch, rows, positions = x.type.shape
    op = Col2Im(sizes, kernel, per_axis(call, "strides", rank, 1, 1), per_axis(call, "pads", 2 * rank, 0, 0),
                per_axis(call, "dilations", rank, 1, 1))
    return call.add(op, call.reshape(x, (batch, rows // taps, taps, positions)))


@converter("AveragePool")
def _average_pool(call: Call) -> Value:
    x = call.input()
    slide, whole = window_of(call, x), call.flag("count_include_pad")
    op = Pool("average", slide.kernel, slide.strides, slide.pads, slide.dilations, whole, _ceil(call))
    mean = cut(call, call.add(op, padded(call, x, slide)), slide)
    if not slide.around or whole:
        return mean
    inside = call.expand(call.scalar(1, x.type.dtype), (1, 1, *x.type.shape[2:]))
    return call.map(lambda a, share: apply("div", a, share), mean, call.add(op, padded(call, inside, slide)))


@converter("LpPool")
def _lp_pool(call: Call) -> Value:
    """(sum |x|^p)^(1/p): the average with padding counted, times the number of taps."""
    x, p = call.input(), _norm(call)
    slide = window_of(call, x)
    pads, rank = list(slide.pads), len(slide.kernel)
    taps = 1
    for axis, extent in enumerate(slide.extents):
        taps *= slide.kernel[axis]
        if _ceil(call):  # a larger end padding makes the rounding exact, and zeros add nothing to the sum
            missing = -(x.type.dims[2 + axis] + pads[axis] + pads[rank + axis] - extent) % slide.strides[axis]
            pads[rank + axis] += missing
    powered = padded(call, call.map(lambda a: _power(a, p), x), slide)
    mean = cut(call, call.add(Pool("average", slide.kernel, slide.strides, tuple(pads), slide.dilations, True), powered), slide)
    return call.map(lambda a: _root(apply("mul", a, literal(taps, a.dtype)), p), mean)


def _norm(call: Call) -> int:
    p = call.integer("p", 2)
    if p < 1:
        raise EdgeccError("E110", f"p is {p}, wanted at least 1")
    return p


def _power(x: ScalarExpr, p: int) -> ScalarExpr:
    if p == 1:
        return apply("abs", x)
    return apply("mul", x, x) if p == 2 else apply("pow", apply("abs", x), literal(p, x.dtype))


def _root(x: ScalarExpr, p: int) -> ScalarExpr:
    if p == 1:
        return x
    return apply("sqrt", x) if p == 2 else apply("pow", x, literal(1.0 / p, x.dtype))


def _spatial(x: Value) -> tuple[int, ...]:
    if x.type.rank < 3:
        raise EdgeccError("E110", f"the input is {x.type}, wanted [N,C,...]")
    return tuple(range(2, x.type.rank))


@converter("GlobalAveragePool")
def _global_average_pool(call: Call) -> Value:
    x = call.input()
    return call.add(Reduce("mean", _spatial(x)), x)


@converter("GlobalMaxPool")
def _global_max_pool(call: Call) -> Value:
    x = call.input()
    return call.add(Reduce("max", _spatial(x)), x)


@converter("GlobalLpPool")
def _global_lp_pool(call: Call) -> Value:
    x, p = call.input(), _norm(call)
    if p in (1, 2):
        return call.add(Reduce(f"l{p}", _spatial(x)), x)
    total = call.add(Reduce("sum", _spatial(x)), call.map(lambda a: _power(a, p), x))
    return call.map(lambda a: _root(a, p), total)
