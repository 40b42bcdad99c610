"""A network as an ONNX model in a vendor's dialect, with inputs and outputs of floats.

Vendors' tools take floats at the border and quantize there themselves. Where the network has integers at its border, as the part
of a divided one does, quantization moves over: an input is quantized as its readers dequantize it, an output dequantized as it was
quantized. Whoever runs the model converts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgecc.artifact.folder import Artifact
from edgecc.backends.onnx.dialects import dialect_opset, in_dialect
from edgecc.backends.onnx.export import export_onnx
from edgecc.backends.onnx.operators import obstacle
from edgecc.backends.onnx.qdq import DEQUANTIZE, QUANTIZE, QdqModel
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.types import Array, DType
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.requantize import as_dequantized, as_quantized

_FLOATS = (DType.F32, DType.F16)
_INTEGERS = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16)


@dataclass(frozen=True)
class Handover:
    """What a tool is given.

    Attributes:
        model: the ONNX file. Its inputs are called in0, in1, ..., its outputs out0, out1, ..., in the network's order.
        floats: names of nodes that compute in floats because nothing quantizes around them.
        quantization: of inputs and outputs that are integers in the network: {"scale", "zero_point"} by name.
    """

    model: bytes
    floats: tuple[str, ...]
    quantization: Mapping[str, Mapping[str, float]]


def handover_obstacle(node: Node) -> str | None:
    """Why a node cannot be handed over: it has no form in ONNX, or computes on anything but floats and quantized floats."""
    reason = obstacle(node)
    if reason is not None:
        return reason
    if isinstance(node.op, Elementwise) and (as_quantized(node.op.expr) is not None or as_dequantized(node.op.expr) is not None):
        return None
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.constant is None and value.type.dtype not in _FLOATS:
            return f"values of {value.type.dtype.value} are computed, and the tool computes on floats and on floats that are quantized"
    if isinstance(node.op, Conv | ConvTranspose) and not _is_constant(node.operand(1)):
        return "weights that are computed"
    return None


def _is_constant(value: Value) -> bool:
    """Whether a value is known while compiling, possibly as dequantized integers."""
    node = value.producer
    return value.constant is not None or (node is not None and all(v is None or v.constant is not None for v in node.inputs))


def hand_over(graph: Graph, dialect: str) -> Handover:
    """A graph for a vendor's tool.

    Raises: EdgeccError E114 for what the dialect cannot say, and integers at the border that no node quantizes.
    """
    own = graph.copy()
    own.input_names, own.output_names = [f"in{i}" for i in range(len(own.inputs))], [f"out{i}" for i in range(len(own.outputs))]
    opset = dialect_opset(dialect, own)
    work = QdqModel(export_onnx(own, opset=opset))
    given = dict(zip((*own.input_names, *own.output_names), (*graph.input_names, *graph.output_names), strict=True))
    found = {given[name]: table for name, table in _move_border(work).items()}
    model, floats = in_dialect(work.finished(opset), dialect, opset)
    return Handover(model.SerializeToString(deterministic=True), floats, found)


def _move_border(work: QdqModel) -> dict[str, Mapping[str, float]]:
    """Makes integers at the border floats; returns their quantization by name."""
    found: dict[str, Mapping[str, float]] = {}
    for value in work.model.graph.input:
        if value.type.tensor_type.elem_type not in _INTEGERS:
            continue
        readers = work.readers(value.name)
        parameters = {tuple(reader.input[1:]) for reader in readers if reader.op_type == DEQUANTIZE}
        if len(parameters) != 1 or any(reader.op_type != DEQUANTIZE for reader in readers):
            raise _bare(value.name)
        ((scale, zero),) = parameters
        quantized = work.names.fresh("quantized")
        for reader in readers:
            reader.input[0] = quantized
        work.nodes.insert(0, helper.make_node(QUANTIZE, [value.name, scale, zero], [quantized], name=work.names.fresh("quantize")))
        found[value.name] = _became_float(work, value, scale, zero)
    for value in work.model.graph.output:
        if value.type.tensor_type.elem_type not in _INTEGERS:
            continue
        producer = work.producer(value.name)
        if producer is None or producer.op_type != QUANTIZE:
            raise _bare(value.name)
        quantized = work.names.fresh("quantized")
        for reader in work.readers(value.name):
            reader.input[:] = [quantized if name == value.name else name for name in reader.input]
        producer.output[0] = quantized
        _, scale, zero = producer.input
        work.nodes.append(helper.make_node(DEQUANTIZE, [quantized, scale, zero], [value.name], name=work.names.fresh("dequantize")))
        found[value.name] = _became_float(work, value, scale, zero)
    return found


def _became_float(work: QdqModel, value: onnx.ValueInfoProto, scale: str, zero: str) -> dict[str, float]:
    value.type.tensor_type.elem_type = TensorProto.FLOAT
    return {"scale": float(work.stored[scale].reshape(-1)[0]), "zero_point": int(work.stored[zero].reshape(-1)[0])}


def _bare(name: str) -> EdgeccError:
    return EdgeccError("E114", "integers at the border that no node quantizes or dequantizes cannot be handed over", where=printable(name))


def inputs_of(artifact: Artifact, inputs: Mapping[str, Array]) -> list[Array]:
    """The inputs of a network as its handed-over model takes them, in order."""
    tables = artifact.manifest.report["quantization"]
    arrays = []
    for port in artifact.manifest.inputs:
        array = np.asarray(inputs[port.name])
        table = tables.get(port.name)
        arrays.append(array if table is None else ((array.astype(np.float32) - table["zero_point"]) * np.float32(table["scale"])).astype(np.float32))
    return arrays


def results_of(artifact: Artifact, outputs: list[Array]) -> dict[str, Array]:
    """The outputs of the network, by name, of what its handed-over model gave."""
    tables: Mapping[str, Mapping[str, Any]] = artifact.manifest.report["quantization"]
    found = {}
    for port, array in zip(artifact.manifest.outputs, outputs, strict=True):
        table = tables.get(port.name)
        found[port.name] = (array if table is None else _codes(array, table, port.type.dtype)).reshape(port.type.dims).astype(port.type.dtype.numpy)
    return found


def _codes(array: Array, table: Mapping[str, Any], dtype: DType) -> Array:
    """The integers of floats that stand for some."""
    low, high = dtype.limits
    return np.asarray(np.clip(np.rint(array.astype(np.float32) / np.float32(table["scale"])) + table["zero_point"], low, high))
