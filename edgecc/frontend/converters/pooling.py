"""Pools over windows and over whole images."""

from __future__ import annotations

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.windows import Window, window
from edgecc.frontend.items import Item, Refused
from edgecc.frontend.registry import converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, literal
from edgecc.ops.convolution import Pool
from edgecc.ops.reduction import Reduce


def _window(call: Call, x: Value) -> Window:
    kernel = call.ints("kernel_shape")
    if kernel is None:
        raise EdgeccError("E102", "attribute kernel_shape is missing")
    if x.type.rank < 3:
        raise EdgeccError("E110", f"the input is {x.type}, wanted [N,C,...]")
    return window(call, x.type.shape[2:], kernel)


def _ceil(call: Call) -> bool:
    """ceil_mode counts only where the node gives its padding itself."""
    return call.flag("ceil_mode") and call.text("auto_pad", "NOTSET") in ("NOTSET", "")


@converter("MaxPool")
def _max_pool(call: Call) -> list[Item | None]:
    x = call.input()
    slide = _window(call, x)
    y = call.add(Pool("max", slide.kernel, slide.strides, slide.pads, slide.dilations, ceil_mode=_ceil(call)), x)
    return [y, Refused(call.loc, "MaxPool", "the output Indices is used", "export the model without return_indices")]


@converter("AveragePool")
def _average_pool(call: Call) -> Value:
    x = call.input()
    slide = _window(call, x)
    return call.add(Pool("average", slide.kernel, slide.strides, slide.pads, slide.dilations,
                         call.flag("count_include_pad"), _ceil(call)), x)


@converter("LpPool")
def _lp_pool(call: Call) -> Value:
    """(sum |x|^p)^(1/p): the average with padding counted, times the number of taps."""
    x, p = call.input(), _norm(call)
    slide = _window(call, x)
    pads, rank = list(slide.pads), len(slide.kernel)
    taps = 1
    for axis, extent in enumerate(slide.extents):
        taps *= slide.kernel[axis]
        if _ceil(call):  # a larger end padding makes the rounding exact, and zeros add nothing to the sum
            missing = -(x.type.dims[2 + axis] + pads[axis] + pads[rank + axis] - extent) % slide.strides[axis]
            pads[rank + axis] += missing
    powered = call.map(lambda a: _power(a, p), x)
    mean = call.add(Pool("average", slide.kernel, slide.strides, tuple(pads), slide.dilations, True), powered)
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
