"""What shape inference of the onnx package says about converted nodes: a second opinion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import onnx.shape_inference

from edgecc.errors import printable
from edgecc.frontend.items import Item
from edgecc.frontend.limits import subgraphs
from edgecc.frontend.structure import Schema
from edgecc.ir.dims import lower_bound, upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.types import DType, TensorType

_SMALL_DATA = 64
"""Elements of the largest constant that inference is shown: shapes, axes and the like."""


def infer_node(node: onnx.NodeProto, schema: Schema | None, inputs: Sequence[Item | None], opsets: Mapping[str, int],
               ir_version: int) -> dict[str, TensorType]:
    """Types of a node's results, by name, as far as the onnx package finds them in full.

    One node at a time, on operands whose types are within the limits, and only after the node was converted:
    inference over a whole untrusted model may take any time and memory, and attributes that make no sense crash it.

    Args:
        node: a node whose attributes were looked at, without attribute references.
        schema: its operator's schema, or None where there is none.
        inputs: its operands.
        opsets: versions of the operator domains.
        ir_version: version of the model's format.
    Returns: nothing for nodes that hold graphs, lack operands or have operands of unknown type.
    """
    if schema is None or any(subgraphs(node)) or not _has_required(node, schema):
        return {}
    types: dict[str, onnx.TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for name, item in zip(node.input, inputs, strict=True):
        if item is None:
            continue
        if not isinstance(item, Value) or not item.type.is_static:
            return {}
        types[name] = onnx.helper.make_tensor_type_proto(item.type.dtype.code, item.type.dims)
        if item.constant is not None and item.constant.size <= _SMALL_DATA:
            data[name] = onnx.numpy_helper.from_array(item.constant, name)
    imports = [onnx.OperatorSetIdProto(domain=domain, version=version) for domain, version in opsets.items()]
    try:
        found = onnx.shape_inference.infer_node_outputs(schema, node, types, data, None, imports, ir_version)
    except Exception:  # inference raises whatever its C++ side throws; it is an aid here, not a judge
        return {}
    static = ((name, _static_type(found_type)) for name, found_type in found.items())
    return {name: tensor_type for name, tensor_type in static if tensor_type is not None}


def _has_required(node: onnx.NodeProto, schema: Schema) -> bool:
    """Whether no operand that the operator requires is left out."""
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    required = [index for index, parameter in enumerate(schema.inputs) if parameter.option == single]
    return all(index < len(node.input) and node.input[index] for index in required)


def _static_type(found: onnx.TypeProto) -> TensorType | None:
    tensor = found.tensor_type
    dtype = DType.from_code(tensor.elem_type)
    if not found.HasField("tensor_type") or not tensor.HasField("shape") or dtype is None:
        return None
    if not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in tensor.shape.dim):
        return None
    return TensorType(dtype, tuple(int(dim.dim_value) for dim in tensor.shape.dim))


def contradicted_outputs(outputs: Sequence[tuple[onnx.ValueInfoProto, Value]]) -> list[str]:
    """Notes about outputs, given with what they are, whose declared type is another one."""
    notes = []
    for declared, value in outputs:
        tensor = declared.type.tensor_type
        if not declared.type.HasField("tensor_type"):
            continue
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        wrong_shape = tensor.HasField("shape") and (len(sizes) != value.type.rank or any(
            size is not None and size > 0 and not lower_bound(have) <= size <= upper_bound(have)
            for size, have in zip(sizes, value.type.shape, strict=True)))
        if wrong_shape or (tensor.elem_type and tensor.elem_type != value.type.dtype.code):
            notes.append(f"output '{printable(declared.name)}' is {value.type}, which is not what the model declares")
    return notes
