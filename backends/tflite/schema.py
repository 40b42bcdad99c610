"""The flatbuffer of a TFLite model, put together from tensors and operators.

The object interface of the schema comes with LiteRT and has no types; this is the only file that touches it.
Source: TensorFlow Lite schema v3 (file identifier TFL3). Buffer 0 is empty, as the schema demands.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecc.backends.requirements import Requirement
from edgecc.ir.types import Array

LITERT = Requirement("ai_edge_litert", "knows the TFLite file format, and runs it", "pip install ai-edge-litert")


@dataclass(frozen=True)
class Quantization:
    """What integers stand for: (q - zero) * scale; one scale for the tensor, or one for each index of `axis`.

    Every zero point is 0 where there are several scales.
    """

    scales: tuple[float, ...]
    zero: int = 0
    axis: int = 0

    @property
    def scale(self) -> float:
        """The only scale."""
        (scale,) = self.scales
        return scale


@dataclass(frozen=True)
class Tensor:
    """A tensor as the file states it. `kind` is a name out of the schema's TensorType."""

    name: str
    shape: tuple[int, ...]
    kind: str
    quantization: Quantization | None
    data: bytes | None


class ModelWriter:
    """Tensors and operators of one subgraph, in the order they are added."""

    def __init__(self) -> None:
        self._schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
        self.tensors: list[Tensor] = []
        self.operators: list[str] = []
        self._operators: list[Any] = []
        self._codes: dict[tuple[str, int], int] = {}
        self._constants: dict[tuple[tuple[int, ...], str, Quantization | None, bytes], int] = {}

    def tensor(self, name: str, shape: Sequence[int], kind: str, quantization: Quantization | None = None) -> int:
        """The index of a new tensor that is computed, or given by the caller."""
        self.tensors.append(Tensor(name, tuple(shape), kind, quantization, None))
        return len(self.tensors) - 1

    def constant(self, name: str, array: Array, quantization: Quantization | None = None) -> int:
        """The index of a tensor that holds `array`; equal ones are stored once."""
        data = np.ascontiguousarray(array)
        kind = str(data.dtype).upper()
        key = (np.shape(array), kind, quantization, data.tobytes())
        if key not in self._constants:
            self.tensors.append(Tensor(name, np.shape(array), kind, quantization, key[3]))
            self._constants[key] = len(self.tensors) - 1
        return self._constants[key]

    def operator(self, code: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", version: int = 1, **fields: Any) -> None:
        """Adds an operator.

        Args:
            code: name out of the schema's BuiltinOperator.
            inputs, outputs: indices of tensors; -1 for an operand that is left out.
            options: name of the table of its options, such as "Conv2DOptions", and `fields`, the values in it; a string is the name
                of a value of the enumeration of the field.
            version: of the operator, which tells runtimes what types it has.
        """
        schema = self._schema
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((code, version), len(self._codes))
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options:
            table = getattr(schema, options + "T")()
            for name, value in fields.items():
                setattr(table, name, value)
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = table
        self._operators.append(operator)
        self.operators.append(code)

    def value(self, enumeration: str, name: str) -> int:
        """The number of a name of one of the schema's enumerations."""
        return int(getattr(getattr(self._schema, enumeration), name))

    def finish(self, inputs: Sequence[int], outputs: Sequence[int], description: str) -> bytes:
        """The file. Equal calls give equal bytes."""
        flatbuffers = importlib.import_module("flatbuffers")
        schema = self._schema
        graph = schema.SubGraphT()
        graph.name, graph.inputs, graph.outputs, graph.operators = "main", list(inputs), list(outputs), self._operators
        model = schema.ModelT()
        model.version, model.description, model.subgraphs, model.buffers = 3, description, [graph], [schema.BufferT()]
        graph.tensors = [self._tensor(tensor, model.buffers) for tensor in self.tensors]
        model.operatorCodes = [self._code(code, version) for code, version in self._codes]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _tensor(self, tensor: Tensor, buffers: list[Any]) -> Any:
        schema = self._schema
        entry = schema.TensorT()
        entry.name, entry.shape, entry.type, entry.buffer = tensor.name, list(tensor.shape), getattr(schema.TensorType, tensor.kind), 0
        if tensor.data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(tensor.data, np.uint8)
            buffers.append(buffer)
            entry.buffer = len(buffers) - 1
        if tensor.quantization is not None:
            parameters = schema.QuantizationParametersT()
            parameters.scale = list(tensor.quantization.scales)
            parameters.zeroPoint = [tensor.quantization.zero] * len(tensor.quantization.scales)
            parameters.quantizedDimension = tensor.quantization.axis
            entry.quantization = parameters
        return entry

    def _code(self, code: str, version: int) -> Any:
        entry = self._schema.OperatorCodeT()
        entry.builtinCode = self.value("BuiltinOperator", code)
        entry.deprecatedBuiltinCode = min(entry.builtinCode, 127)
        entry.version = version
        return entry
