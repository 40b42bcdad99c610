"""Operations with windows: convolutions, depthwise ones, pools.

How large the input is follows from the output, the window and the padding. What lies outside counts as 0, and not at all in pools.
Upscaling doubles the rows and columns of the input first, with copies or with zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.support.ethosu import output, scaling
from tests.support.ethosu.memory import FeatureMap, Memory
from tests.support.ethosu.stream import Machine, Operation
from tests.support.ethosu.weights import Kernel, kernel_of, read_scales, read_weights

Array = np.ndarray[Any, Any]

_MAX, _AVERAGE, _SUM = 0, 1, 2
_COPIES, _ZEROS = 1, 2


def run_convolution(memory: Memory, machine: Machine, operation: Operation, *, depthwise: bool) -> None:
    """CONV and DEPTHWISE: sums of products, with a bias and a scale for each output channel."""
    height, width, channels = _results(operation)
    kernel = kernel_of(operation)
    x, _ = _input(memory, operation, kernel, height, width)
    bits = 8 * FeatureMap(operation, "IFM").dtype.itemsize
    w = read_weights(memory, operation, machine, kernel, channels, x.shape[2], depthwise=depthwise, bits=bits)
    bias, multiplier, shift = read_scales(memory, operation, machine, channels)
    # Sums of 40 bits are exact in f64, and products of matrices fast.
    reals, w = x.astype(np.float64), w.astype(np.float64)
    sums = np.broadcast_to(bias.astype(np.float64), (height, width, channels)).copy()
    for row in range(kernel.height):
        for column in range(kernel.width):
            part = _tap(reals, kernel, row, column, height, width)
            if depthwise:
                sums += part * w[:, row, column, 0]
            else:
                sums += (part.reshape(-1, part.shape[2]) @ w[:, row, column].T).reshape(sums.shape)
    rounding = output.rounding_of(operation)
    if output.has_global_scale(operation):
        multiplier, shift = (np.int64(number) for number in operation.scale("OFM_SCALE"))
    output.store(memory, machine, operation, scaling.scaled(sums.astype(np.int64), multiplier, shift, rounding))


def run_pool(memory: Memory, machine: Machine, operation: Operation) -> None:
    """POOL: the largest of a window, the average, or the sum of all channels."""
    height, width, channels = _results(operation)
    kernel = kernel_of(operation)
    x, inside = _input(memory, operation, kernel, height, width)
    rounding = output.rounding_of(operation)
    if operation.mode == _SUM:
        results = _tap(x, kernel, 0, 0, height, width).sum(2, keepdims=True)
        assert channels == 1
    elif operation.mode == _MAX:
        lowest = np.iinfo(np.int64).min
        results = np.full((height, width, channels), lowest)
        for row in range(kernel.height):
            for column in range(kernel.width):
                part, there = (_tap(array, kernel, row, column, height, width) for array in (x, inside))
                results = np.maximum(results, np.where(there[..., None], part[..., :channels], lowest))
    else:
        assert operation.mode == _AVERAGE
        results, counts = np.zeros((height, width, channels), np.int64), np.zeros((height, width, 1), np.int64)
        for row in range(kernel.height):
            for column in range(kernel.width):
                results += _tap(x, kernel, row, column, height, width)[..., :channels]
                counts += _tap(inside, kernel, row, column, height, width)[..., None]
        if (counts < kernel.height * kernel.width).any():
            # Windows of several sizes: the accelerator divides for itself, and rounds half away from zero.
            output.store(memory, machine, operation, np.sign(results) * ((np.abs(results) + counts // 2) // counts))
            return
    if output.has_global_scale(operation):
        results = scaling.scaled(results, *operation.scale("OFM_SCALE"), rounding)
    output.store(memory, machine, operation, results)


def _results(operation: Operation) -> tuple[int, int, int]:
    return operation["OFM_HEIGHT_M1"] + 1, operation["OFM_WIDTH_M1"] + 1, operation["OFM_DEPTH_M1"] + 1


def _input(memory: Memory, operation: Operation, kernel: Kernel, height: int, width: int) -> tuple[Array, Array]:
    """The input [H,W,C], less its zero point and with zeros around it, and which of it [H,W] is the input."""
    top, left = operation["IFM_PAD_TOP"], operation["IFM_PAD_LEFT"]
    bottom, right = operation["IFM_PAD_BOTTOM"], operation["IFM_PAD_RIGHT"]
    spans = [(size - 1) * stride + extent for size, stride, extent in zip((height, width), kernel.stride, kernel.extent, strict=True)]
    rows, columns = spans[0] - top - bottom, spans[1] - left - right
    upscale = operation["IFM_UPSCALE"]
    ifm = FeatureMap(operation, "IFM")
    stored = (-(-rows // 2), -(-columns // 2)) if upscale else (rows, columns)
    x = ifm.read(memory, *stored, operation["IFM_DEPTH_M1"] + 1) - ifm.zero_point
    if upscale == _COPIES:
        x = x.repeat(2, 0).repeat(2, 1)[:rows, :columns]
    elif upscale == _ZEROS:
        wide = np.zeros((2 * stored[0], 2 * stored[1], x.shape[2]), np.int64)
        wide[::2, ::2] = x
        x = wide[:rows, :columns]
    pads = (top, bottom), (left, right)
    return np.pad(x, (*pads, (0, 0))), np.pad(np.ones((rows, columns), bool), pads)


def _tap(x: Array, kernel: Kernel, row: int, column: int, height: int, width: int) -> Array:
    """What one tap of the window meets, for each result."""
    (down, across), (y, z) = kernel.stride, (row * kernel.dilation[0], column * kernel.dilation[1])
    return x[y:y + (height - 1) * down + 1:down, z:z + (width - 1) * across + 1:across]
