"""The flatbuffer of a TFLite model, put together from tensors and operators.

The object interface of the schema comes with LiteRT and has no types; this is the only file that touches it.
Source: TensorFlow Lite schema v3 (file identifier TFL3). Buffer 0 is empty, as the schema demands.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecc.backends.requirements import Requirement
from edgecc.backends.tflite.recorder import Recorded, Recorder, Tensor

LITERT = Requirement("ai_edge_litert", "knows the TFLite file format, and runs it", "pip install ai-edge-litert")


class ModelWriter(Recorder):
    """Makes a TFLite model of what is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self._schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
        self._codes: dict[tuple[str, int], int] = {}

    def value(self, enumeration: str, name: str) -> int:
        """The number of a name of one of the schema's enumerations."""
        return int(getattr(getattr(self._schema, enumeration), name))

    def finish(self, inputs: Sequence[int], outputs: Sequence[int], description: str) -> bytes:
        """The file. Equal calls give equal bytes."""
        flatbuffers = importlib.import_module("flatbuffers")
        schema = self._schema
        graph = schema.SubGraphT()
        graph.name, graph.inputs, graph.outputs = "main", list(inputs), list(outputs)
        graph.operators = [self._operator(each) for each in self.recorded]
        model = schema.ModelT()
        model.version, model.description, model.subgraphs, model.buffers = 3, description, [graph], [schema.BufferT()]
        graph.tensors = [self._tensor(tensor, model.buffers) for tensor in self.tensors]
        model.operatorCodes = [self._code(code, version) for code, version in self._codes]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _operator(self, recorded: Recorded) -> Any:
        schema = self._schema
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((recorded.code, recorded.version), len(self._codes))
        operator.inputs, operator.outputs = list(recorded.inputs), list(recorded.outputs)
        if recorded.options:
            table = getattr(schema, recorded.options + "T")()
            for name, value in recorded.fields.items():
                setattr(table, name, value)
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, recorded.options)
            operator.builtinOptions = table
        return operator

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
