"""An ONNX model that is being quantized: who produces and reads each value, and its constants by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import onnx
from onnx import helper, numpy_helper

from edgecc.ir.types import Array


@dataclass(frozen=True)
class Network:
    """A view of a model; the model is not changed through it.

    Attributes:
        model: nodes in topological order, constants as initializers, all shapes static.
    """

    model: onnx.ModelProto

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes in order."""
        return list(self.model.graph.node)

    @cached_property
    def constants(self) -> Mapping[str, Array]:
        """Every initializer by name."""
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}

    @cached_property
    def producers(self) -> Mapping[str, onnx.NodeProto]:
        """The node of each computed value."""
        return {name: node for node in self.model.graph.node for name in node.output if name}

    @cached_property
    def readers(self) -> Mapping[str, tuple[onnx.NodeProto, ...]]:
        """The nodes that read each value, in order."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.model.graph.node:
            for name in dict.fromkeys(node.input):
                if name:
                    found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the model's inputs."""
        return tuple(value.name for value in self.model.graph.input)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the model's outputs."""
        return tuple(value.name for value in self.model.graph.output)

    @cached_property
    def types(self) -> Mapping[str, tuple[int, tuple[int, ...]]]:
        """Element type (TensorProto.DataType) and shape of each value, by the shape inference of the onnx package."""
        inferred = onnx.shape_inference.infer_shapes(self.model).graph
        found = {tensor.name: (int(tensor.data_type), tuple(tensor.dims)) for tensor in inferred.initializer}
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            tensor_type = value.type.tensor_type
            found[value.name] = (tensor_type.elem_type, tuple(d.dim_value for d in tensor_type.shape.dim))
        return found

    def is_float(self, name: str) -> bool:
        """Whether a value has type float32, the one that is quantized."""
        return self.types.get(name, (0, ()))[0] == onnx.TensorProto.FLOAT

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads a value; None where there are several, or the model returns the value."""
        readers = self.readers.get(name, ())
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """An attribute's value as Python has it, or `default` where the node does not state it."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def integers(node: onnx.NodeProto, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """An attribute that is a list of integers."""
    value = attribute(node, name, default)
    return tuple(int(v) for v in value) if isinstance(value, list | tuple) else default


def group_of(node: onnx.NodeProto) -> int:
    """The number of groups of a convolution; 1 for other nodes."""
    value = attribute(node, "group", 1)
    return value if isinstance(value, int) else 1
