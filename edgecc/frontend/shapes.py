"""What shape inference of the onnx package says about a model whose inputs are bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import onnx.shape_inference

from edgecc.errors import printable
from edgecc.frontend.items import Item
from edgecc.ir.graph import Value
from edgecc.ir.types import DType, TensorType


def infer_types(model: onnx.ModelProto, types: Mapping[str, TensorType]) -> dict[str, TensorType]:
    """Types of the values of the top graph that are known in full, by name.

    Args:
        model: the model without its large weights (`structure.without_weights`), functions inlined, nodes sorted.
        types: the bound types of its inputs.
    Returns: an empty dict where the onnx package fails on the model.
    """
    bound = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    bound.graph.name = model.graph.name
    bound.graph.node.extend(model.graph.node)
    bound.graph.initializer.extend(model.graph.initializer)
    for value in model.graph.input:
        known = types.get(value.name)
        bound.graph.input.append(value if known is None else
                                 onnx.helper.make_tensor_value_info(value.name, known.dtype.code, known.dims))
    bound.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in model.graph.output)
    try:
        inferred = onnx.shape_inference.infer_shapes(bound, check_type=False, strict_mode=False, data_prop=True)
    except Exception:  # inference raises whatever its C++ side throws; it is an aid here, not a judge
        return {}
    found = ((v.name, _static_type(v)) for v in (*inferred.graph.value_info, *inferred.graph.output))
    return {name: tensor_type for name, tensor_type in found if tensor_type is not None}


def _static_type(value: onnx.ValueInfoProto) -> TensorType | None:
    tensor = value.type.tensor_type
    dtype = DType.from_code(tensor.elem_type)
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape") or dtype is None:
        return None
    if not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in tensor.shape.dim):
        return None
    return TensorType(dtype, tuple(int(dim.dim_value) for dim in tensor.shape.dim))


def disagreements(items: Mapping[str, Item | None], inferred: Mapping[str, TensorType]) -> list[str]:
    """Notes about values whose type differs from what shape inference of the onnx package found."""
    return [
        f"'{printable(name)}' is {item.type}; shape inference of the onnx package says {inferred[name]}"
        for name, item in items.items()
        if isinstance(item, Value) and name in inferred and inferred[name] != item.type
    ]


def contradicted_outputs(outputs: Sequence[onnx.ValueInfoProto], values: Sequence[Value]) -> list[str]:
    """Notes about outputs whose declared type differs from the one they have."""
    notes = []
    for declared, value in zip(outputs, values, strict=True):
        tensor = declared.type.tensor_type
        if not declared.type.HasField("tensor_type"):
            continue
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        wrong_shape = tensor.HasField("shape") and (len(sizes) != value.type.rank or any(
            size is not None and size > 0 and size != have for size, have in zip(sizes, value.type.dims, strict=True)))
        if wrong_shape or (tensor.elem_type and tensor.elem_type != value.type.dtype.code):
            notes.append(f"output '{printable(declared.name)}' is {value.type}, which is not what the model declares")
    return notes
