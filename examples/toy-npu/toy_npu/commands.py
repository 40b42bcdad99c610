"""The command stream: what the accelerator reads, as bytes. One function writes it, one reads it back.

    "TNPU"  version, bytes of memory, number of inputs, outputs and commands, bytes of constants    7 numbers of 32 bits
    inputs and outputs                                              address, bytes                  2 each
    commands                                                        a code, then its fields         1 + 16 each
    constants                                                       weights, biases, scales, offsets

All numbers are little-endian. Addresses count bytes: of operands and results in the memory of the accelerator, of weights
and parameters in the constants.
"""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass, fields
from typing import ClassVar

MAGIC, VERSION = b"TNPU", 1
FIELDS = 16


@dataclass(frozen=True)
class Conv:
    """y = limit(round(f32(sum of (x - x_zero) * w + bias) * scale + offset) + zero), channel by channel.

    `kernel` and `strides` are `joined` from (height, width), `pads` from (top, left, bottom, right). The constants hold at
    `weights` the kernel [channels, x_channels / groups, height, width] of i8, then, aligned to 4 bytes, a bias of i32 for each
    channel, a scale of f32 for each, and an offset of f32 for each.
    """

    code: ClassVar[int] = 1

    x: int
    y: int
    weights: int
    x_channels: int
    x_height: int
    x_width: int
    channels: int
    groups: int
    kernel: int
    strides: int
    pads: int
    x_zero: int
    zero: int
    low: int
    high: int


@dataclass(frozen=True)
class Add:
    """y = limit(round((a - a_zero) * a_scale + (b - b_zero) * b_scale) + zero); scales are the bits of f32 numbers."""

    code: ClassVar[int] = 2

    a: int
    b: int
    y: int
    size: int
    a_zero: int
    a_scale: int
    b_zero: int
    b_scale: int
    zero: int
    low: int
    high: int


@dataclass(frozen=True)
class Limit:
    """y = min(max(x, low), high)."""

    code: ClassVar[int] = 3

    x: int
    y: int
    size: int
    low: int
    high: int


Command = Conv | Add | Limit
_BY_CODE: dict[int, type[Command]] = {cls.code: cls for cls in (Conv, Add, Limit)}


@dataclass(frozen=True)
class Stream:
    """A whole program. `inputs` and `outputs` are (address, bytes) in the order of the interface."""

    memory: int
    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[int, int], ...]
    commands: tuple[Command, ...]
    constants: bytes

    def to_bytes(self) -> bytes:
        """The stream as the accelerator reads it."""
        head = struct.pack("<6I", VERSION, self.memory, len(self.inputs), len(self.outputs), len(self.commands), len(self.constants))
        ports = b"".join(struct.pack("<2I", *port) for port in (*self.inputs, *self.outputs))
        return MAGIC + head + ports + b"".join(map(_packed, self.commands)) + self.constants

    @staticmethod
    def from_bytes(data: bytes) -> Stream:
        """Reads a stream back. Raises: ValueError where it is none."""
        if data[:4] != MAGIC or len(data) < 28:
            raise ValueError("no command stream")
        version, memory, inputs, outputs, commands, constants = struct.unpack_from("<6I", data, 4)
        size = 28 + 8 * (inputs + outputs) + 4 * (1 + FIELDS) * commands + constants
        if version != VERSION or size != len(data):
            raise ValueError(f"version {version}, {size} bytes wanted, {len(data)} there")
        ports = [struct.unpack_from("<2I", data, 28 + 8 * i) for i in range(inputs + outputs)]
        start = 28 + 8 * len(ports)
        found = tuple(_unpacked(data, start + 4 * (1 + FIELDS) * i) for i in range(commands))
        return Stream(memory, tuple(ports[:inputs]), tuple(ports[inputs:]), found, data[len(data) - constants:])


def _packed(command: Command) -> bytes:
    values = astuple(command)
    return struct.pack(f"<{1 + FIELDS}i", command.code, *values, *[0] * (FIELDS - len(values)))


def _unpacked(data: bytes, at: int) -> Command:
    code, *values = struct.unpack_from(f"<{1 + FIELDS}i", data, at)
    if code not in _BY_CODE:
        raise ValueError(f"no command has code {code}")
    cls = _BY_CODE[code]
    return cls(*values[:len(fields(cls))])


def bits_of(number: float) -> int:
    """A number rounded to f32, as the integer of its bits."""
    return int(struct.unpack("<i", struct.pack("<f", number))[0])


def number_of(bits: int) -> float:
    """The f32 number of these bits."""
    return float(struct.unpack("<f", struct.pack("<i", bits))[0])


def joined(*small: int) -> int:
    """Up to four numbers of 4 bits as one."""
    return sum(value << 4 * position for position, value in enumerate(small))


def split(value: int, count: int) -> tuple[int, ...]:
    """The numbers of `joined`."""
    return tuple(value >> 4 * position & 15 for position in range(count))
