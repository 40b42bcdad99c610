"""Weights and scales: the compressed stream in the order of the hardware, back to [O,H,W,I].

Blocks of output channels come first, then blocks of input channels, then parts of the kernel of at most 8 x 8 taps, then what one
step of the multipliers takes. Depthwise weights, and those of the order called part-kernel-first, have their taps padded to a
multiple of 4 (of 2 for 16 bits). Two cores take turns with the output channels.

Source: the order that Vela's encoder (mlw_codec) takes; here it is turned round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ethosu import mlw_codec

from tests.support.ethosu.memory import Memory
from tests.support.ethosu.stream import Machine, Operation

Array = np.ndarray[Any, Any]

_INPUT_UNIT = 8
_RECORD = 10
_CORES = ("", "1")


@dataclass(frozen=True)
class Kernel:
    """Size and steps of a window. `height` and `width` count taps; dilation stands between them."""

    height: int
    width: int
    stride: tuple[int, int]
    dilation: tuple[int, int]
    part_kernel_first: bool

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns that the window spans."""
        return (self.height - 1) * self.dilation[0] + 1, (self.width - 1) * self.dilation[1] + 1


def kernel_of(operation: Operation) -> Kernel:
    """The window of an operation."""
    steps = operation["KERNEL_STRIDE"]
    stride = ((steps >> 1 & 1) + 2 * (steps >> 9 & 7) + 1, (steps & 1) + 2 * (steps >> 6 & 7) + 1)
    dilation = ((steps >> 4 & 1) + 1, (steps >> 3 & 1) + 1)
    height, width = operation["KERNEL_HEIGHT_M1"] // dilation[0] + 1, operation["KERNEL_WIDTH_M1"] // dilation[1] + 1
    return Kernel(height, width, stride, dilation, bool(steps >> 2 & 1))


def read_scales(memory: Memory, operation: Operation, machine: Machine, channels: int) -> tuple[Array, Array, Array]:
    """Bias, multiplier and shift of each output channel, from records of 40, 32 and 6 bits."""
    numbers = np.zeros((3, channels), np.int64)
    for core in range(min(machine.cores, channels)):
        mine = range(core, channels, machine.cores)
        data = memory.bytes_at(operation["SCALE_REGION"] & 7, operation.address(f"SCALE{_CORES[core]}_BASE"), _RECORD * len(mine))
        for place, channel in enumerate(mine):
            record = data[_RECORD * place:_RECORD * (place + 1)]
            numbers[:, channel] = (int.from_bytes(record[:5], "little", signed=True), int.from_bytes(record[5:9], "little"), record[9] & 63)
    return numbers[0], numbers[1], numbers[2]


def read_weights(memory: Memory, operation: Operation, machine: Machine, kernel: Kernel, channels: int, depth: int, *,
                 depthwise: bool, bits: int) -> Array:
    """Weights [O,H,W,I] as int64; I is 1 for depthwise ones."""
    result = np.zeros((channels, kernel.height, kernel.width, 1 if depthwise else depth), np.int64)
    block = operation["OFM_BLK_DEPTH_M1"] + 1
    for core in range(min(machine.cores, channels)):
        own = -(-(block - core) // machine.cores)
        length = operation.address(f"WEIGHT{_CORES[core]}_LENGTH")
        if own > 0 and length:
            stream = memory.bytes_at(operation["WEIGHT_REGION"] & 7, operation.address(f"WEIGHT{_CORES[core]}_BASE"), length)
            values = np.array(mlw_codec.decode(bytearray(stream)), np.int64)
            _put(result[core::machine.cores], values, kernel, own, 4 if machine.multiply_adds == 32 else 8, depthwise=depthwise, bits=bits)
    return result


def _put(target: Array, values: Array, kernel: Kernel, block: int, unit: int, *, depthwise: bool, bits: int) -> None:
    """Puts the values of a stream where they belong in `target` [O,H,W,I]; what pads has to be 0."""
    channels, height, width, depth = target.shape
    part, at = kernel.part_kernel_first, 0
    inner = 16 if part or bits == 16 else 32
    limit = 8 // kernel.dilation[0], 8 // kernel.dilation[1]
    for first in range(0, channels, block):
        some = min(block, channels - first)
        for begin in range(0, depth, inner):
            # The depth of a block is padded to units, or in the other order to the whole block.
            deep = -(-min(inner, depth - begin) // _INPUT_UNIT) * _INPUT_UNIT if part else inner
            for top in range(0, height, limit[0]):
                for left in range(0, width, limit[1]):
                    rows, columns = min(limit[0], height - top), min(limit[1], width - left)
                    taps = rows * columns
                    padded = -(-taps // (2 if bits == 16 and part else 4)) * (2 if bits == 16 and part else 4) if part or depthwise else taps
                    # Units of input channels go outside of the taps, or inside.
                    outside, inside = (deep // _INPUT_UNIT, 1) if part else (1, 1 if depthwise else deep // _INPUT_UNIT)
                    units, width_in = -(-some // unit), 1 if depthwise else _INPUT_UNIT
                    shape = (outside, units, padded, inside, unit, width_in)
                    count = int(np.prod(shape))
                    # [units * unit channels, padded taps, input channels]
                    piece = values[at:at + count].reshape(shape).transpose(1, 4, 2, 0, 3, 5).reshape(units * unit, padded, -1)
                    at += count
                    used = min(piece.shape[2], depth - begin)
                    target[first:first + some, top:top + rows, left:left + columns, begin:begin + used] = (
                        piece[:some, :taps, :used].reshape(some, rows, columns, used))
                    assert not piece[some:].any() and not piece[:, taps:].any() and not piece[:, :, used:].any(), "padding is not 0"
    assert at <= len(values)
