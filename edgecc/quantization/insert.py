"""Writes QuantizeLinear and DequantizeLinear into a network, as other tools expect them.

Every quantized value is quantized and dequantized right behind its producer, and all its readers take the result.
Weights are stored as integers behind one DequantizeLinear, biases as 32-bit integers in units of operand scale times
weight scale. (ONNX QuantizeLinear-21; "QDQ" form of onnxruntime's quantization.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgecc.ir.names import UniqueNames
from edgecc.ir.types import Array
from edgecc.quantization.network import Network
from edgecc.quantization.points import WEIGHTED, Points
from edgecc.quantization.scheme import Parameters
from edgecc.quantization.weights import QuantizedWeights, round_bias

WORDS_OPSET, WORDS_IR_VERSION = 21, 10
"""The first opset whose QuantizeLinear has 16-bit values, and the version of the file format that came with it."""


@dataclass(frozen=True)
class Decisions:
    """Everything that was decided about a network.

    Attributes:
        parameters: of each quantized value, by name; values of a group share one object.
        weights: by the name of the initializer. biases: float biases by the name of the node, corrected ones included.
    """

    parameters: Mapping[str, Parameters]
    weights: Mapping[str, QuantizedWeights]
    biases: Mapping[str, Array]


def insert(network: Network, points: Points, decisions: Decisions) -> onnx.ModelProto:
    """The quantized model. The interface keeps its names and types."""
    return _Insertion(network, points, decisions).model()


class _Insertion:
    def __init__(self, network: Network, points: Points, decisions: Decisions) -> None:
        self.network, self.points, self.decisions = network, points, decisions
        self.names = UniqueNames((*network.types, *network.inputs, *network.outputs))
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.scales: dict[int, tuple[str, str]] = {}
        self.replaced: dict[str, str] = {}
        self.words = any(parameters.type.levels > 256 for parameters in decisions.parameters.values())

    def model(self) -> onnx.ModelProto:
        for name in self.network.inputs:
            if name in self.decisions.parameters:
                self._round_trip(name, name)
        for node in self.network.nodes:
            self._node(node)
        used = {name for node in self.nodes for name in node.input} | set(self.network.outputs)
        kept = [tensor for tensor in self.network.model.graph.initializer if tensor.name in used]
        model = onnx.ModelProto()
        model.CopyFrom(self.network.model)
        del model.graph.node[:], model.graph.initializer[:]
        model.graph.node.extend(self.nodes)
        model.graph.initializer.extend([*kept, *self.initializers])
        if self.words:
            model.ir_version = max(model.ir_version, WORDS_IR_VERSION)
            for domain in model.opset_import:
                domain.version = max(domain.version, WORDS_OPSET) if domain.domain in ("", "ai.onnx") else domain.version
        return model

    # -- nodes --------------------------------------------------------------------------------

    def _node(self, node: onnx.NodeProto) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:]
        copy.input.extend(self._operand(node, position, name) for position, name in enumerate(node.input))
        if node.name in self.decisions.biases and len(node.input) < 3 and node.op_type in WEIGHTED:
            copy.input.append(self._bias(node))
        self.nodes.append(copy)
        for position, name in enumerate(node.output):
            if name in self.decisions.parameters:
                source = name
                if name in self.network.outputs:
                    source = self.names.fresh(f"{name}_float")
                    copy.output[position] = source
                self._round_trip(source, name)

    def _operand(self, node: onnx.NodeProto, position: int, name: str) -> str:
        if node.op_type in WEIGHTED and (node.op_type != "MatMul" or position == 1):
            weights_position, bias_position = WEIGHTED[node.op_type]
            if position == weights_position and name in self.decisions.weights:
                return self._weights(name)
            if position == bias_position and node.name in self.decisions.biases:
                return self._bias(node)
        if name in self.network.constants and name in self.decisions.parameters:
            return self._constant(name)
        if self.words and node.op_type == "Add" and name in self.network.constants:
            return self._row(node, position, name)
        return self.replaced.get(name, name)

    def _row(self, node: onnx.NodeProto, position: int, name: str) -> str:
        """The bias of a product of rank 3 as [1, channels].

        onnxruntime 1.32 makes a Gemm out of such a product where the bias has one axis. In opsets that have 16 bits it then states output_dtype for int8 beside a
        zero point that it moves to uint8, and refuses what it wrote.
        """
        product, bias = node.input[1 - position], self.network.constants[name]
        producer = self.network.producers.get(product)
        if bias.ndim != 1 or producer is None or producer.op_type != "MatMul" or len(self.network.types[product][1]) < 3:
            return name
        return self._store(name, bias.reshape(1, -1))

    def _round_trip(self, source: str, name: str) -> None:
        """Quantizes and dequantizes `source`; readers of `name` read the result, which is called `name` if the model returns it."""
        scale, zero_point = self._scale(self.decisions.parameters[name])
        integers = self.names.fresh(f"{name}_quantized")
        result = name if source != name else self.names.fresh(f"{name}_dequantized")
        self.nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero_point], [integers], name=self.names.fresh(f"{name}_quantize")))
        self.nodes.append(helper.make_node("DequantizeLinear", [integers, scale, zero_point], [result], name=self.names.fresh(f"{name}_dequantize")))
        self.replaced[name] = result

    def _constant(self, name: str) -> str:
        """A constant of its own for each reader: onnxruntime copies one that several read, and cannot move the copies to u8 (`session.x64quantprecision`)."""
        parameters = self.decisions.parameters[name]
        steps = np.rint(self.network.constants[name].astype(np.float64) / parameters.scale) + parameters.zero_point
        integers = np.clip(steps, parameters.type.lowest, parameters.type.highest).astype(parameters.type.numpy)
        self._dequantized(name, integers, *self._parameters(parameters))
        return self.replaced.pop(name)

    def _weights(self, name: str) -> str:
        if name not in self.replaced:
            weights = self.decisions.weights[name]
            zeros = np.zeros(weights.scales.shape, np.int8)
            self._dequantized(name, weights.integers, self._store(f"{name}_scale", weights.scales),
                              self._store(f"{name}_zero_point", zeros), axis=weights.axis)
        return self.replaced[name]

    def _bias(self, node: onnx.NodeProto) -> str:
        key = f"{node.name} bias"
        if key not in self.replaced:
            weights = self.decisions.weights[node.input[WEIGHTED[node.op_type][0]]]
            operand = self.decisions.parameters[node.input[0]]
            scales = (np.float32(operand.scale) * weights.scales).astype(np.float32)
            bias = np.atleast_1d(self.decisions.biases[node.name])
            integers = round_bias(bias, scales)
            name = node.input[2] if len(node.input) > 2 else f"{node.name}_bias"
            zeros = self._store(f"{name}_zero_point", np.zeros(scales.shape, np.int32))
            self._dequantized(key, integers, self._store(f"{name}_scale", scales), zeros, axis=0, hint=name)
        return self.replaced[key]

    def _dequantized(self, key: str, integers: Array, scale: str, zero_point: str, *, axis: int | None = None, hint: str = "") -> None:
        base = hint or key
        stored, result = self._store(f"{base}_quantized", integers), self.names.fresh(f"{base}_dequantized")
        more: dict[str, Any] = {} if axis is None else {"axis": axis}
        self.nodes.append(helper.make_node("DequantizeLinear", [stored, scale, zero_point], [result],
                                           name=self.names.fresh(f"{base}_dequantize"), **more))
        self.replaced[key] = result

    # -- names and initializers ---------------------------------------------------------------

    def _scale(self, parameters: Parameters) -> tuple[str, str]:
        """Names of the scale and the zero point of a group."""
        found = self.scales.get(id(parameters))
        if found is None:
            self.scales[id(parameters)] = found = self._parameters(parameters, f"_{len(self.scales)}")
        return found

    def _parameters(self, parameters: Parameters, suffix: str = "") -> tuple[str, str]:
        return (self._store(f"scale{suffix}", np.asarray(parameters.scale, np.float32)),
                self._store(f"zero_point{suffix}", np.asarray(parameters.zero_point, parameters.type.numpy)))

    def _store(self, hint: str, array: Array) -> str:
        name = self.names.fresh(hint)
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name
