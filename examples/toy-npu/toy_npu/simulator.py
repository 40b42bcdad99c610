"""Runs a command stream: what the accelerator would compute, in numpy. It knows the bytes of the stream and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from toy_npu.commands import Add, Command, Conv, Limit, Stream, number_of, split

Bytes = npt.NDArray[np.int8]
F32 = np.float32


def run(data: bytes, inputs: Sequence[Bytes]) -> list[Bytes]:
    """The outputs of a stream, each as a flat array of i8. Raises: ValueError for a bad stream or inputs of other sizes."""
    stream = Stream.from_bytes(data)
    memory = np.zeros(stream.memory, np.int8)
    for (address, size), array in zip(stream.inputs, inputs, strict=True):
        if array.size != size:
            raise ValueError(f"an input has {array.size} bytes instead of {size}")
        memory[address:address + size] = array.reshape(-1)
    for command in stream.commands:
        _execute(command, memory, stream.constants)
    return [memory[address:address + size].copy() for address, size in stream.outputs]


def _execute(command: Command, memory: Bytes, constants: bytes) -> None:
    match command:
        case Conv():
            _conv(command, memory, constants)
        case Add():
            a, b = (memory[at:at + command.size].astype(np.int32) for at in (command.a, command.b))
            scaled_a = (a - command.a_zero).astype(F32) * F32(number_of(command.a_scale))
            scaled_b = (b - command.b_zero).astype(F32) * F32(number_of(command.b_scale))
            memory[command.y:command.y + command.size] = _rounded(scaled_a + scaled_b, command)
        case Limit():
            memory[command.y:command.y + command.size] = np.clip(memory[command.x:command.x + command.size], command.low, command.high)


def _rounded(value: npt.NDArray[np.float32], command: Conv | Add) -> Bytes:
    """Half to even, moved by the zero point, within the limits."""
    moved = np.rint(value) + F32(command.zero)
    return np.asarray(np.clip(moved, command.low, command.high)).astype(np.int8)


def _conv(command: Conv, memory: Bytes, constants: bytes) -> None:
    channels, height, width = command.x_channels, command.x_height, command.x_width
    (kernel_h, kernel_w), (stride_h, stride_w) = split(command.kernel, 2), split(command.strides, 2)
    top, left, bottom, right = split(command.pads, 4)
    own = channels // command.groups
    x = memory[command.x:command.x + channels * height * width].reshape(channels, height, width).astype(np.int64) - command.x_zero
    x = np.pad(x, ((0, 0), (top, bottom), (left, right)))  # zeros of the numbers that are meant
    size = command.channels * own * kernel_h * kernel_w
    weights = np.frombuffer(constants, np.int8, size, command.weights).reshape(command.channels, own, kernel_h, kernel_w).astype(np.int64)
    start = command.weights + -(-size // 4) * 4
    bias = np.frombuffer(constants, "<i4", command.channels, start)
    scale, offset = (np.frombuffer(constants, "<f4", command.channels, start + 4 * command.channels * i) for i in (1, 2))
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel_h, kernel_w), (1, 2))[:, ::stride_h, ::stride_w]
    sums = np.empty((command.channels, *windows.shape[1:3]), np.int64)
    each = command.channels // command.groups
    for group in range(command.groups):
        mine = slice(group * each, (group + 1) * each)
        sums[mine] = np.einsum("chwij,ocij->ohw", windows[group * own:(group + 1) * own], weights[mine])
    total = (sums + bias[:, None, None]).astype(np.int32)  # the accumulators wrap
    value = total.astype(F32) * scale[:, None, None] + offset[:, None, None]
    result = _rounded(value, command)
    memory[command.y:command.y + result.size] = result.reshape(-1)
