"""An ONNX model with QuantizeLinear and DequantizeLinear nodes, to be edited: who makes a value, who reads it, what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgecc.ir.names import UniqueNames
from edgecc.ir.types import Array

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True)
class Parameters:
    """Names of the initializers with scale and zero point."""

    scale: str
    zero: str


class QdqModel:
    """A model in work. The model it was made of is not changed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        graph = self.model.graph
        self.nodes: list[onnx.NodeProto] = list(graph.node)
        self.stored: dict[str, Array] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.interface = {value.name for value in (*graph.input, *graph.output)}
        self.names = UniqueNames((*self.interface, *self.stored, *(name for node in self.nodes for name in (*node.output, node.name))))

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that computes a value."""
        return next((node for node in self.nodes if name in node.output), None)

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a value."""
        return [node for node in self.nodes if name in node.input]

    def of(self, kind: str) -> Iterator[onnx.NodeProto]:
        """The nodes of one operator, in order."""
        return (node for node in list(self.nodes) if node.op_type == kind)

    def store(self, array: Array, hint: str) -> str:
        """A new initializer; returns its name."""
        name = self.names.fresh(hint)
        self.stored[name] = array
        return name

    def quantized_after(self, name: str, parameters: Parameters) -> str:
        """Puts QuantizeLinear and DequantizeLinear behind a value, for all that read it; returns the name of what they read now."""
        producer = self.producer(name)
        readers = self.readers(name)
        quantized, result = self.names.fresh(f"{name}_quantized"), self.names.fresh(f"{name}_dequantized")
        pair = [helper.make_node(QUANTIZE, [name, parameters.scale, parameters.zero], [quantized], name=self.names.fresh(f"{name}_quantize")),
                helper.make_node(DEQUANTIZE, [quantized, parameters.scale, parameters.zero], [result], name=self.names.fresh(f"{name}_dequantize"))]
        for reader in readers:
            for position, read in enumerate(reader.input):
                if read == name:
                    reader.input[position] = result
        at = 0 if producer is None else next(index for index, node in enumerate(self.nodes) if node is producer) + 1
        self.nodes[at:at] = pair
        return result

    def finished(self, opset: int) -> onnx.ModelProto:
        """The model, with the initializers that are still read."""
        graph = self.model.graph
        read = {name for node in self.nodes for name in node.input} | {value.name for value in graph.output}
        del graph.node[:]
        graph.node.extend(self.nodes)
        del graph.initializer[:]
        graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
                                 for name, array in self.stored.items() if name in read)
        del self.model.opset_import[:]
        self.model.opset_import.append(helper.make_opsetid("", opset))
        onnx.checker.check_model(self.model, full_check=True)
        return self.model
