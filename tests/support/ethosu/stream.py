"""Decodes a command stream: driver actions around it, and operations, each with all registers as they are when it starts.

Words: bits 0 to 9 are the code, bits 14 and 15 tell whether a word of payload follows, bits 16 to 31 are a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from ethosu.vela.ethos_u55_regs.ethos_u55_regs import cmd0, cmd1

_CONFIG, _STREAM, _NOP = 1, 2, 5
_WITHOUT_PAYLOAD = {entry.value: entry.name for entry in cmd0}
_WITH_PAYLOAD = {entry.value: entry.name for entry in cmd1}
_WAITS = ("NPU_OP_DMA_WAIT", "NPU_OP_KERNEL_WAIT", "NPU_OP_STOP", "NPU_OP_IRQ", "NPU_OP_PMU_MASK")


@dataclass(frozen=True)
class Machine:
    """The accelerator a stream is for: multiply-adds a cycle, cores, and bytes of RAM in each core."""

    multiply_adds: int
    cores: int
    ram_bytes: int


@dataclass(frozen=True)
class Operation:
    """One operation. `kind` is its name without NPU_OP_, `mode` its parameter."""

    kind: str
    mode: int
    registers: Mapping[str, tuple[int, int]]

    def __getitem__(self, register: str) -> int:
        """An unsigned register of 16 bits, or the payload of one that has one."""
        return self.registers[register][0]

    def get(self, register: str, default: int) -> int:
        """As above, for registers that a stream need not have set."""
        return self.registers.get(register, (default, 0))[0]

    def signed(self, register: str) -> int:
        """A signed register of 16 bits."""
        value = self[register] & 0xFFFF
        return value - 0x10000 if value >= 0x8000 else value

    def address(self, register: str) -> int:
        """An address, or a stride: 48 bits, of which the parameter has the upper ones; signed."""
        low, high = self.registers[register]
        value = low | high << 32
        return value - (1 << 48) if value >= 1 << 47 else value

    def scale(self, register: str) -> tuple[int, int]:
        """A multiplier and a shift."""
        return self.registers[register]


def decode(data: bytes) -> tuple[Machine, list[Operation]]:
    """All operations of a payload of the driver, but for those that only wait."""
    assert data[:4] == b"COP1"
    words = [int(word) for word in np.frombuffer(data + bytes(-len(data) % 4), "<u4")]
    at = 1
    machine = None
    while words[at] & 0xFF != _STREAM:
        tag = words[at] & 0xFF
        assert tag in (_CONFIG, _NOP), f"unknown driver action {tag}"
        if tag == _CONFIG:
            config = words[at + 1]
            rate, kibibytes, product = 1 << (config & 15), config >> 8 & 0xFF, config >> 28
            cores = 2 if product == 1 and rate == 512 else 1
            machine = Machine(rate, cores, kibibytes * 1024 // cores)
            at += 2
        at += 1
    length = words[at] >> 16 | (words[at] >> 8 & 0xFF) << 16
    assert machine is not None
    return machine, list(_operations(words[at + 1:at + 1 + length]))


def _operations(words: list[int]) -> Iterator[Operation]:
    registers: dict[str, tuple[int, int]] = {}
    at = 0
    while at < len(words):
        code, parameter = words[at] & 0x3FF, words[at] >> 16
        if words[at] >> 14 & 3:
            registers[_WITH_PAYLOAD[code].removeprefix("NPU_SET_")] = words[at + 1], parameter
            at += 2
            continue
        at += 1
        name = _WITHOUT_PAYLOAD[code]
        if name.startswith("NPU_SET_"):
            registers[name.removeprefix("NPU_SET_")] = parameter, 0
        elif name not in _WAITS:
            yield Operation(name.removeprefix("NPU_OP_"), parameter, dict(registers))
