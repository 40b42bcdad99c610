"""Runs a network of one command stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.support.ethosu.convolution import run_convolution, run_pool
from tests.support.ethosu.elementwise import run_elementwise
from tests.support.ethosu.memory import Memory
from tests.support.ethosu.network import read_network
from tests.support.ethosu.stream import decode

Array = np.ndarray[Any, Any]

_POISON = 0xA5
"""What memory holds before anything is written, so that results do not depend on what is never written by chance."""


def simulate(model: bytes, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a model that Vela compiled, all of which runs on the accelerator; arrays as the model's tensors have them."""
    network = read_network(model)
    machine, operations = decode(network.stream)
    arena = bytearray([_POISON]) * network.arena_bytes
    fast = arena if network.shared else bytearray([_POISON]) * network.fast_bytes
    memory = Memory({0: bytearray(network.constants), 1: arena, 2: fast}, bytearray([_POISON]) * machine.ram_bytes)
    for port, array in zip(network.inputs, inputs, strict=True):
        assert array.shape == port.shape and array.dtype == port.dtype
        arena[port.offset:port.offset + port.size_bytes] = array.tobytes()
    for operation in operations:
        match operation.kind:
            case "DMA_START":
                memory.copy(operation)
            case "CONV" | "DEPTHWISE":
                run_convolution(memory, machine, operation, depthwise=operation.kind == "DEPTHWISE")
            case "POOL":
                run_pool(memory, machine, operation)
            case "ELEMENTWISE":
                run_elementwise(memory, machine, operation)
            case _:
                raise AssertionError(f"operation {operation.kind}")
    return [np.frombuffer(bytes(arena[port.offset:port.offset + port.size_bytes]), port.dtype).reshape(port.shape)
            for port in network.outputs]
