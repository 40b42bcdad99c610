"""Operators whose results are random.

Compiled code has no state, so random numbers are drawn once, while compiling: every run sees the same ones.
The generator is the Mersenne Twister of numpy's RandomState, which ONNX's reference implementation uses as
well, seeded by the attribute `seed`; without it the seed follows from the name of the node, so that two nodes
differ and equal models give equal code.

Source: M. Matsumoto, T. Nishimura, "Mersenne Twister", 1998.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.items import Item
from edgecc.frontend.registry import converter
from edgecc.frontend.tensors import element_type
from edgecc.ir.dims import lower_bound, upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, convert, literal
from edgecc.ir.types import Array, Dim, DType
from edgecc.ops.movement import Slice
from edgecc.ops.reduction import CumSum, Reduce, Softmax


def generator(call: Call) -> np.random.RandomState:
    """The generator of a node; says in the report of the import that its numbers are fixed."""
    if call.node.op_type == "Dropout":
        seed = call.integer("seed") if call.has("seed") else None
    else:
        number = call.number("seed") if call.has("seed") else None
        if number is not None and not np.isfinite(number):
            raise EdgeccError("E102", f"the seed is {number}")
        seed = None if number is None else int(number)
    if seed is None:
        seed = zlib.crc32("+".join(call.loc).encode("utf-8", "replace"))
    call.importer.notes.append(f"{'+'.join(call.loc)}: random numbers are drawn while compiling, every run sees the same")
    return np.random.RandomState(seed % 2**32)


def uniform(call: Call, shape: Sequence[Dim]) -> Array:
    """Numbers from [0, 1) in float64, as many as there may be in a tensor of this shape."""
    dims = tuple(map(upper_bound, shape))
    call.reserve(dims, "the random numbers")
    return np.asarray(generator(call).random_sample(dims))


def _cut(call: Call, numbers: Array, shape: Sequence[Dim]) -> Value:
    """The first of the numbers along each axis, as many as the run wants."""
    found = call.constant(numbers)
    if found.type.shape == tuple(shape):
        return found
    return call.add(Slice((0,) * numbers.ndim, tuple(shape), (1,) * numbers.ndim), found)


def _dtype(call: Call, default: DType) -> DType:
    found = element_type(call.integer("dtype"), "the result") if call.has("dtype") else default
    if found is DType.STRING:
        raise EdgeccError("E110", f"{printable(call.node.op_type)} does not give strings")
    return found


def _drawn(call: Call, shape: Sequence[Dim], default: DType) -> Value:
    if "Normal" in call.node.op_type:
        dims = tuple(map(upper_bound, shape))
        call.reserve(dims, "the random numbers")
        mean, scale = call.number("mean", 0.0), call.number("scale", 1.0)
        numbers = mean + scale * generator(call).standard_normal(dims)
    else:
        low, high = call.number("low", 0.0), call.number("high", 1.0)
        numbers = low + (high - low) * uniform(call, shape)
    return _cut(call, np.asarray(numbers).astype(_dtype(call, default).numpy), shape)


@converter("RandomNormal", "RandomUniform")
def _random(call: Call) -> Value:
    shape = call.ints("shape")
    if shape is None or min(shape, default=0) < 0:
        raise EdgeccError("E102", "attribute shape is missing or has a negative size")
    return _drawn(call, shape, DType.F32)


@converter("RandomNormalLike", "RandomUniformLike")
def _random_like(call: Call) -> Value:
    x = call.input()
    return _drawn(call, x.type.shape, x.type.dtype if x.type.dtype.is_float else DType.F32)


@converter("Bernoulli", since=15)
def _bernoulli(call: Call) -> Value:
    """1 with the probability x."""
    x = call.input()
    numbers = _cut(call, uniform(call, x.type.shape).astype(x.type.dtype.numpy), x.type.shape)
    return call.map(lambda u, p: convert(apply("lt", u, p), _dtype(call, x.type.dtype)), numbers, x)


@converter("Multinomial")
def _multinomial(call: Call) -> Value:
    """Classes drawn from unnormalized log-probabilities [batch, classes]: the first whose cumulated probability exceeds u."""
    x, count = call.input(), call.integer("sample_size", 1)
    if x.type.rank != 2 or not x.type.dtype.is_float or lower_bound(x.type.shape[1]) < 1 or count < 1:
        raise EdgeccError("E110", f"the input is {x.type} and sample_size {count}; wanted [batch, classes] and at least 1")
    batch, classes = x.type.shape[0], int(x.type.shape[1])
    call.importer.limits.check_dims((batch, count, classes), "the comparisons of Multinomial")
    numbers = _cut(call, uniform(call, (batch, count, 1)).astype(x.type.dtype.numpy), (batch, count, 1))
    cumulated = call.reshape(call.add(CumSum(1), call.add(Softmax(1), x)), (batch, 1, classes))
    below = call.add(Reduce("sum", (2,), keepdims=False),
                     call.map(lambda c, u: convert(apply("le", c, u), DType.I64), cumulated, numbers))
    last = literal(classes - 1, DType.I64)  # the last cumulated probability may be rounded to less than 1
    return call.map(lambda n: convert(apply("min", n, last), _dtype(call, DType.I32)), below)


@converter("Dropout")
def _dropout(call: Call) -> list[Item | None]:
    """Training mode keeps an element where a random number reaches ratio, and divides it by 1 - ratio."""
    x = call.input()
    ratio = None if call.version < 12 else call.optional(1)
    training = call.version >= 12 and call.optional(2) is not None and call.known_bool(2, "training_mode")
    if training and not (ratio is not None and ratio.constant is not None and not ratio.constant.any()):
        given = call.scalar(0.5, x.type.dtype) if ratio is None else call.reshape(call.cast(ratio, x.type.dtype), ())
        numbers = _cut(call, uniform(call, x.type.shape).astype(x.type.dtype.numpy), x.type.shape)
        kept = call.map(lambda u, r: apply("le", r, u), numbers, given)
        zero, one = (literal(value, x.type.dtype) for value in (0.0, 1.0))
        y = call.map(lambda a, k, r: apply("select", k, apply("div", a, apply("sub", one, r)), zero), x, kept, given)
        return [y, kept]
    if not call.wants(1):
        return [x]
    mask = call.expand(call.scalar(True, DType.BOOL), x.type.shape)
    return [x, mask if call.version >= 10 else call.cast(mask, x.type.dtype)]
