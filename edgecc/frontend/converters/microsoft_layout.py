"""Operators of onnxruntime (domain com.microsoft) that have the channels last."""

from __future__ import annotations

import math

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.convolution import convolve
from edgecc.frontend.converters.microsoft import activated, biased
from edgecc.frontend.converters.pooling import max_pool
from edgecc.frontend.items import Item
from edgecc.frontend.registry import converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply
from edgecc.ops.reduction import Normalize

_DOMAIN = "com.microsoft"


def _channels_first(call: Call, x: Value) -> Value:
    return call.transpose(x, (0, x.type.rank - 1, *range(1, x.type.rank - 1)))


def _channels_last(call: Call, x: Value) -> Value:
    return call.transpose(x, (0, *range(2, x.type.rank), 1))


@converter("NhwcConv", "NhwcFusedConv", domain=_DOMAIN)
def _nhwc_conv(call: Call) -> Value:
    """Conv of [N,...,C]; the weights are [O,C/group,...] as ever. The fused one may add an operand and has an activation."""
    y = _channels_last(call, convolve(call, _channels_first(call, call.input(0)), call.input(1), call.optional(2)))
    y = biased(call, y, call.optional(3))
    name = call.text("activation", "")
    return activated(call, y, name, call.floats("activation_params") or ()) if name else y


@converter("NhwcMaxPool", domain=_DOMAIN)
def _nhwc_max_pool(call: Call) -> Value:
    return _channels_last(call, max_pool(call, _channels_first(call, call.input(0))))


def _group_norm(call: Call, x: Value, scale: Value, shift: Value) -> Value:
    """Normalization over groups of channels, in [N,H,W,C] unless channels_last is 0; then x * sigmoid(x) if activation is 1."""
    last, groups = call.flag("channels_last", True), call.integer("groups")
    planar = _channels_first(call, x) if last else x
    batch, channels, *spatial = planar.type.shape
    if groups < 1 or channels % groups:
        raise EdgeccError("E110", f"the input is {x.type}; its channels cannot be cut into {groups} groups")
    dtype = scale.type.dtype
    grouped = call.reshape(call.cast(planar, dtype), (batch, groups, channels // groups, math.prod(spatial)))
    factors = (call.reshape(parameter, (groups, channels // groups, 1)) for parameter in (scale, shift))
    y = call.reshape(call.add(Normalize((2, 3), call.number("epsilon", 1e-5)), grouped, *factors), planar.type.shape)
    if call.integer("activation", 0) == 1:
        y = call.map(lambda a: apply("mul", a, apply("sigmoid", a)), y)
    y = call.cast(y, x.type.dtype)
    return _channels_last(call, y) if last else y


@converter("GroupNorm", domain=_DOMAIN)
def _plain_group_norm(call: Call) -> Value:
    return _group_norm(call, call.input(0), call.input(1), call.input(2))


@converter("SkipGroupNorm", domain=_DOMAIN)
def _skip_group_norm(call: Call) -> list[Item | None]:
    """GroupNorm of input + skip (+ bias); the sum is result 1."""
    x, skip = call.input(0), call.input(3)
    if skip.type.rank == 2:
        skip = call.reshape(skip, (skip.type.shape[0], *[1] * (x.type.rank - 2), skip.type.shape[1]))
    total = biased(call, call.map(lambda a, b: apply("add", a, b), x, skip), call.optional(4))
    return [_group_norm(call, total, call.input(1), call.input(2)), total]
