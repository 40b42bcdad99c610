"""What Vela put into a TFLite model: command streams, constants, and where in the arena tensors lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

Array = np.ndarray[Any, Any]

_OPERATOR, _PLACEMENT = b"ethos-u", b"OfflineMemoryAllocation"
_HEADER = 3


@dataclass(frozen=True)
class Port:
    """An input or output: where in the arena it lies, its shape and its type."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size_bytes(self) -> int:
        """Bytes of all elements."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class Network:
    """A network that is one command stream.

    Attributes:
        stream, constants: the payload for the driver, and region 0.
        arena_bytes, fast_bytes: of regions 1 and 2; with one memory for both they are the same memory, and `shared` is true.
        inputs, outputs: in the order of the model.
    """

    stream: bytes
    constants: bytes
    arena_bytes: int
    fast_bytes: int
    shared: bool
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def read_network(data: bytes) -> Network:
    """The network in a model of one command stream and no other operator."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    (graph,) = model.subgraphs
    (operator,) = graph.operators
    assert model.operatorCodes[operator.opcodeIndex].customCode == _OPERATOR, "something is left for the CPU"
    tensors = graph.tensors

    def content(index: int) -> bytes:
        found = model.buffers[tensors[index].buffer].data
        return b"" if found is None else bytes(found)

    (placement,) = [bytes(model.buffers[entry.buffer].data) for entry in model.metadata if entry.name == _PLACEMENT]
    offsets = np.frombuffer(placement, "<i4")[_HEADER:]

    def port(index: int) -> Port:
        kinds = {schema.TensorType.INT8: "i1", schema.TensorType.UINT8: "u1", schema.TensorType.INT16: "<i2", schema.TensorType.INT32: "<i4"}
        return Port(int(offsets[index]), tuple(int(n) for n in tensors[index].shape), np.dtype(kinds[tensors[index].type]))

    stream, constants, arena, fast = (int(index) for index in operator.inputs[:4])
    return Network(content(stream), content(constants), int(tensors[arena].shape[0]), int(tensors[fast].shape[0]), arena == fast,
                   tuple(port(index) for index in graph.inputs), tuple(port(index) for index in graph.outputs))
