"""ELEMENTWISE: arithmetic of one or two feature maps, of which the second may be broadcast or a number.

Sums take operands that were scaled first: both of them by 16 bits, or one by 32 bits while the other one is shifted left. The shifts
are those of TFLite's addition: 20 for 8 bits, 15 for 16. Of 32-bit results only the shift of the output's scale is applied.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.support.ethosu import output, scaling
from tests.support.ethosu.memory import FeatureMap, Memory
from tests.support.ethosu.stream import Machine, Operation

Array = np.ndarray[Any, Any]

_MUL, _ADD, _SUB, _MIN, _MAX, _LEAKY, _ABS, _LEADING_ZEROS, _RIGHT, _LEFT = range(10)
_UNARY = (_LEAKY, _ABS, _LEADING_ZEROS)
_SCALE_BOTH, _SCALE_FIRST, _SCALE_SECOND = 0, 1, 2
_HEIGHT, _WIDTH, _DEPTH, _REVERSED, _SCALAR = 1, 2, 4, 1 << 6, 1 << 7


def run_elementwise(memory: Memory, machine: Machine, operation: Operation) -> None:
    """One elementwise operation."""
    dims = operation["OFM_HEIGHT_M1"] + 1, operation["OFM_WIDTH_M1"] + 1, operation["OFM_DEPTH_M1"] + 1
    ifm = FeatureMap(operation, "IFM")
    x = ifm.read(memory, *dims) - ifm.zero_point
    if operation.mode in _UNARY:
        output.store(memory, machine, operation, _unary(operation, x))
        return
    y = _second(memory, operation, dims)
    a, b = (y, x) if operation["IFM2_BROADCAST"] & _REVERSED else (x, y)
    output.store(memory, machine, operation, _binary(operation, ifm.dtype.itemsize, a, b))


def _second(memory: Memory, operation: Operation, dims: tuple[int, int, int]) -> Array:
    ifm = FeatureMap(operation, "IFM2")
    broadcast = operation["IFM2_BROADCAST"]
    if broadcast & _SCALAR:
        number = operation.signed("IFM2_SCALAR") if ifm.dtype.kind == "i" else operation["IFM2_SCALAR"]
        return np.full(dims, number - ifm.zero_point, np.int64)
    own = [1 if broadcast & flag else size for flag, size in zip((_HEIGHT, _WIDTH, _DEPTH), dims, strict=True)]
    return np.broadcast_to(ifm.read(memory, own[0], own[1], own[2]) - ifm.zero_point, dims)


def _unary(operation: Operation, x: Array) -> Array:
    multiplier, shift = operation.scale("OFM_SCALE")
    rounding = output.rounding_of(operation)
    if operation.mode == _LEADING_ZEROS:
        bits = np.floor(np.log2(np.maximum(x, 1).astype(np.float64))).astype(np.int64) + 1
        return np.where(x < 0, 0, np.where(x == 0, 32, 32 - bits))
    if operation.mode == _ABS:
        return scaling.scaled(np.abs(x), multiplier, shift, rounding)
    return np.where(x >= 0, x, scaling.scaled(x, multiplier, shift, rounding))


def _binary(operation: Operation, size: int, a: Array, b: Array) -> Array:
    rounding = output.rounding_of(operation)
    mode = operation.mode
    if mode in (_MIN, _MAX):
        return np.minimum(a, b) if mode == _MIN else np.maximum(a, b)
    if mode == _LEFT:
        return ((a << b) + (1 << 31) & 0xFFFFFFFF) - (1 << 31)
    if mode == _RIGHT:
        return scaling.shifted(a, b, rounding)
    multiplier, shift = operation.scale("OFM_SCALE")
    if mode == _MUL:
        # Products of 32 bits leave no room for a multiplier.
        return scaling.scaled(a * b, multiplier if size < 4 else 1, shift, rounding)
    a, b = _operands(operation, size, a, b)
    total = a + b if mode == _ADD else a - b
    if not output.has_global_scale(operation):
        return total
    both = operation["IFM_PRECISION"] >> 8 & 3 == _SCALE_BOTH
    # Where both operands were scaled alike the first step is left out. Vela chooses that where it would change nothing, so that ties go
    # away from zero here as they do there.
    return scaling.scaled(total, multiplier if size < 4 else 1, shift, scaling.SINGLE if both and rounding == scaling.DOUBLE else rounding)


def _operands(operation: Operation, size: int, a: Array, b: Array) -> tuple[Array, Array]:
    """The operands of a sum, scaled."""
    if size == 4:
        return a, b
    multiplier, shift = operation.scale("OPA_SCALE")
    which = operation["IFM_PRECISION"] >> 8 & 3
    if which == _SCALE_BOTH:
        return a * multiplier, b * operation.scale("OPB_SCALE")[0]
    left = 20 if size == 1 else 15

    def small(x: Array) -> Array:
        return scaling.scaled(x << left, multiplier, shift + left, scaling.DOUBLE)

    return (small(a), b << left - 1) if which == _SCALE_FIRST else (a << left - 1, small(b))
