"""Softmax and the normalizations."""

from __future__ import annotations

import math

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.items import Item, Refused
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, convert, literal
from edgecc.ir.types import DType
from edgecc.ops.convolution import Pool
from edgecc.ops.reduction import ArgReduce, BatchNorm, Normalize, Reduce, Softmax


def _as_matrix(call: Call, x: Value, axis: int) -> Value:
    """`x` as [axes before `axis`, axes from it on], the way opsets before 13 look at it."""
    dims = x.type.shape
    return call.reshape(x, (math.prod(dims[:axis]), math.prod(dims[axis:])))


@converter("Softmax", "LogSoftmax", since=13)
def _softmax(call: Call) -> Value:
    x, log = call.input(), call.node.op_type == "LogSoftmax"
    axis = call.axis(call.integer("axis", -1), x.type.rank)
    return call.add(Softmax(axis, log), x) if log or x.type.dtype is not DType.F16 else _softmax_by_steps(call, x, axis)


def _softmax_by_steps(call: Call, x: Value, axis: int) -> Value:
    """Softmax as the function by which ONNX defines it, each of whose steps rounds to the type of x."""
    powers = call.map(lambda a, m: apply("exp", apply("sub", a, m)), x, call.add(Reduce("max", (axis,)), x))
    return call.map(lambda e, s: apply("div", e, s), powers, call.add(Reduce("sum", (axis,)), powers))


@converter("Softmax", "LogSoftmax", until=12)
def _softmax_of_matrix(call: Call) -> Value:
    x, log = call.input(), call.node.op_type == "LogSoftmax"
    axis = _old_axis(call, x)
    if axis == x.type.rank - 1:
        return call.add(Softmax(axis, log), x)
    return call.reshape(call.add(Softmax(1, log), _as_matrix(call, x, axis)), x.type.shape)


def _old_axis(call: Call, x: Value) -> int:
    """The default axis 1 of old opsets is also allowed for rank 1: the matrix then has one column."""
    axis = call.integer("axis", 1)
    return axis if axis == x.type.rank else call.axis(axis, x.type.rank)


def _hard(call: Call, x: Value, axis: int) -> Value:
    best = call.add(ArgReduce("max", axis), x)
    shape = [x.type.shape[axis] if a == axis else 1 for a in range(x.type.rank)]
    positions = call.reshape(call.positions(x.type.shape[axis]), shape)
    return call.map(lambda p, b: convert(apply("eq", p, b), x.type.dtype), positions, best)


@converter("Hardmax", since=13)
def _hardmax(call: Call) -> Value:
    x = call.input()
    return _hard(call, x, call.axis(call.integer("axis", -1), x.type.rank))


@converter("Hardmax", until=12)
def _hardmax_of_matrix(call: Call) -> Value:
    x = call.input()
    return call.reshape(_hard(call, _as_matrix(call, x, _old_axis(call, x)), 1), x.type.shape)


@converter("BatchNormalization", since=7)
def _batch_normalization(call: Call) -> list[Item | None]:
    if call.integer("spatial", 1) != 1:
        raise Unsupported("spatial is 0: statistics per element")
    x, *statistics = (call.input(index) for index in range(5))
    if call.flag("training_mode"):
        return _batch_statistics(call, x, *statistics)
    dtype = statistics[0].type.dtype
    y = call.add(BatchNorm(call.number("epsilon", 1e-5)), call.cast(x, dtype), *(call.cast(s, dtype) for s in statistics))
    training = Refused(call.loc, "BatchNormalization", "an output that only training has is used",
                       "export the model for inference")
    return [call.cast(y, x.type.dtype), *[training] * 4]


def _batch_statistics(call: Call, x: Value, scale: Value, bias: Value, mean: Value, variance: Value) -> list[Item | None]:
    """Training mode: y by the mean and variance of the batch, then mean and variance moved towards them."""
    if x.type.rank < 2:
        raise EdgeccError("E110", f"the input is {x.type}, wanted [N,C,...]")
    axes = (0, *range(2, x.type.rank))
    momentum, dtype = call.number("momentum", 0.9), scale.type.dtype
    wide = call.cast(x, mean.type.dtype)
    now = call.add(Reduce("mean", axes), wide)
    spread = call.add(Reduce("mean", axes), call.map(lambda a, m: apply("mul", apply("sub", a, m), apply("sub", a, m)), wide, now))
    found = [call.reshape(value, mean.type.dims) for value in (now, spread)]
    y = call.add(BatchNorm(call.number("epsilon", 1e-5)), call.cast(x, dtype), scale, bias, *(call.cast(f, dtype) for f in found))
    kept, share = literal(momentum, mean.type.dtype), literal(1.0 - momentum, mean.type.dtype)
    moved = [call.map(lambda old, new: apply("add", apply("mul", kept, old), apply("mul", share, new)), old, new)
             for old, new in zip((mean, variance), found, strict=True)]
    return [call.cast(y, x.type.dtype), *moved]


def layer_norm(call: Call, x: Value, scale: Value | None, bias: Value | None, *, rms: bool = False) -> list[Item | None]:
    """Normalization over the axes from the attribute axis on; results y, mean (not with rms), 1 / deviation.

    The statistics are of type f32, whatever x is, or of the type that stash_type names.
    """
    axes = tuple(range(call.axis(call.integer("axis", -1), x.type.rank), x.type.rank))
    epsilon = call.number("epsilon", 1e-5)
    kind = x.type.dtype if scale is None else scale.type.dtype  # the result has the type of the scale
    x = call.cast(x, kind)
    y = call.add(Normalize(axes, epsilon, rms), x, scale, None if bias is None else call.cast(bias, kind))
    results: list[Item | None] = [y]
    kind = {1: DType.F32, 16: DType.BF16}.get(call.integer("stash_type", 1), kind)
    if call.wants(1) or call.wants(2):
        x = call.cast(x, kind)
    centred = x
    if not rms:
        results.append(None)
        if call.wants(1) or call.wants(2):
            mean = call.add(Reduce("mean", axes), x)
            results[1] = mean
            centred = call.map(lambda a, m: apply("sub", a, m), x, mean)
    if call.wants(len(results)):
        square = call.map(lambda a: apply("mul", a, a), centred)
        results.append(call.map(
            lambda v: apply("div", literal(1.0, kind), apply("sqrt", apply("add", v, literal(epsilon, kind)))),
            call.add(Reduce("mean", axes), square)))
    return results


# onnxruntime knows LayerNormalization in every opset; ONNX defines it from 17 on.
@converter("LayerNormalization")
def _layer_normalization(call: Call) -> list[Item | None]:
    return layer_norm(call, call.input(0), call.input(1), call.optional(2))


@converter("RMSNormalization", "SimplifiedLayerNormalization")
def _rms_normalization(call: Call) -> list[Item | None]:
    return layer_norm(call, call.input(0), call.input(1), None, rms=True)


def _per_channel(call: Call, x: Value, parameter: Value) -> Value:
    """A vector with one entry per channel, shaped to broadcast over the spatial axes."""
    if parameter.type.rank != 1 or parameter.type.shape != x.type.shape[1:2]:
        raise EdgeccError("E110", f"a parameter is {parameter.type}; the input {x.type} has its channels on axis 1")
    return call.reshape(parameter, (*parameter.type.shape, *[1] * (x.type.rank - 2)))


@converter("InstanceNormalization")
def _instance_normalization(call: Call) -> Value:
    x, scale, bias = call.input(0), call.input(1), call.input(2)
    if x.type.rank < 3:
        raise EdgeccError("E110", f"the input is {x.type}, wanted [N,C,...]")
    op = Normalize(tuple(range(2, x.type.rank)), call.number("epsilon", 1e-5))
    return call.add(op, x, _per_channel(call, x, scale), _per_channel(call, x, bias))


@converter("GroupNormalization", since=18)
def _group_normalization(call: Call) -> Value:
    """Opset 18 has a scale and a bias per group, later ones per channel."""
    x, scale, bias, groups = call.input(0), call.input(1), call.input(2), call.integer("num_groups")
    if x.type.rank < 3 or groups < 1 or x.type.shape[1] % groups:
        raise EdgeccError("E110", f"the input is {x.type}; its channels cannot be cut into {groups} groups")
    batch, channels, *spatial = x.type.shape
    grouped = call.reshape(x, (batch, groups, channels // groups, *spatial))
    shape = (groups, -1, *[1] * len(spatial))
    width = 1 if call.version < 21 else channels // groups

    def shaped(parameter: Value) -> Value:
        if parameter.type.shape != (groups * width,):
            raise EdgeccError("E110", f"a parameter is {parameter.type}, wanted {groups * width} entries")
        return call.cast(call.reshape(parameter, (shape[0], width, *shape[2:])), x.type.dtype)

    op = Normalize(tuple(range(2, grouped.type.rank)), call.number("epsilon", 1e-5))
    return call.reshape(call.add(op, grouped, shaped(scale), shaped(bias)), x.type.shape)


@converter("LpNormalization")
def _lp_normalization(call: Call) -> Value:
    """x / norm along an axis; where the norm is 0, so is x."""
    x, p = call.input(), call.integer("p", 2)
    if p not in (1, 2):
        raise EdgeccError("E110", f"p is {p}, wanted 1 or 2")
    norm = call.add(Reduce(f"l{p}", (call.axis(call.integer("axis", -1), x.type.rank),)), x)
    zero, one = literal(0.0, x.type.dtype), literal(1.0, x.type.dtype)
    return call.map(lambda a, n: apply("div", a, apply("select", apply("eq", n, zero), one, n)), x, norm)


@converter("MeanVarianceNormalization")
def _mean_variance_normalization(call: Call) -> Value:
    x = call.input()
    given = call.ints("axes")
    axes = call.axes((0, 2, 3) if given is None else given, x.type.rank)
    centred = call.map(lambda a, m: apply("sub", a, m), x, call.add(Reduce("mean", axes), x))
    variance = call.add(Reduce("mean", axes), call.map(lambda a: apply("mul", a, a), centred))
    tiny = literal(1e-9, x.type.dtype)
    return call.map(lambda a, v: apply("div", a, apply("add", apply("sqrt", v), tiny)), centred, variance)


@converter("LRN")
def _local_response_normalization(call: Call) -> Value:
    """x / (bias + alpha * mean of x^2 over `size` channels, absent ones counted as 0)^beta."""
    x, size = call.input(), call.integer("size")
    if x.type.rank < 2 or size < 1:
        raise EdgeccError("E110", f"the input is {x.type} and size {size}; wanted [N,C,...] and at least 1")
    batch, channels, *spatial = x.type.shape
    square = call.map(lambda a: apply("mul", a, a), call.reshape(x, (batch, 1, channels, math.prod(spatial))))
    pads = ((size - 1) // 2, 0, size // 2, 0)
    mean = call.reshape(call.add(Pool("average", (size, 1), (1, 1), pads, (1, 1), True), square), x.type.shape)
    alpha, beta, bias = (literal(call.number(name, default), x.type.dtype)
                         for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return call.map(lambda a, m: apply("div", a, apply("pow", apply("add", bias, apply("mul", alpha, m)), beta)), x, mean)
