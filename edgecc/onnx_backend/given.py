"""What users give to a backend, of the many kinds they do, as what the compiler takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array


def given_array(value: Any) -> Array:
    """An array of anything that numpy makes one of; bytes are text in UTF-8.

    Raises: EdgeccError E005 for bytes that are none.
    """
    array = np.asarray(value)
    is_bytes = array.dtype.kind == "S" or (array.dtype == object and any(isinstance(item, bytes) for item in array.flat))
    if not is_bytes:
        return array
    try:
        texts = [item.decode() if isinstance(item, bytes) else item for item in array.flat]
    except UnicodeDecodeError as error:
        raise EdgeccError("E005", f"an element of an array of strings is not UTF-8: {error.reason}") from error
    return np.array(texts, object).reshape(array.shape)


def model_of_node(node: onnx.NodeProto, inputs: Any, version: int | None) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A model of one node, whose inputs have the types of the given values, and these by name.

    Args:
        node: the node.
        inputs: a mapping by name, one array, or one value for each operand that is present, in order; one that is an operand twice
            may be given once. Lists of arrays are sequences.
        version: of the node's domain; None for the newest.
    Raises: EdgeccError E005 where they do not fit the node.
    """
    named = _by_name([name for name in node.input if name], inputs)
    values = []
    for name, value in named.items():
        if isinstance(value, list) and value and all(isinstance(item, np.ndarray) for item in value):
            values.append(onnx.helper.make_tensor_sequence_value_info(name, _code_of(value[0]), None))
            continue
        named[name] = array = given_array(value)
        values.append(onnx.helper.make_tensor_value_info(name, _code_of(array), array.shape))
    graph = onnx.helper.make_graph([node], "node", values, [onnx.ValueInfoProto(name=name) for name in node.output if name])
    opsets = {"": onnx.defs.onnx_opset_version()}
    domain = "" if node.domain == "ai.onnx" else node.domain
    if version is not None or domain:
        opsets[domain] = version or 1
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(*item) for item in opsets.items()], ir_version=onnx.IR_VERSION)
    return model, named


def _by_name(operands: Sequence[str], inputs: Any) -> dict[str, Any]:
    names = list(dict.fromkeys(operands))
    if isinstance(inputs, Mapping):
        missing = [name for name in names if name not in inputs]
        if missing:
            raise EdgeccError("E005", f"no array is given for operand {missing[0]!r}")
        return {name: inputs[name] for name in names}
    listed = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
    if len(listed) == len(operands) != len(names):
        return dict(zip(operands, listed, strict=True))
    if len(listed) != len(names):
        raise EdgeccError("E005", f"the node has {len(names)} operands; {len(listed)} arrays are given")
    return dict(zip(names, listed, strict=True))


def _code_of(array: Array) -> int:
    try:
        return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
    except (KeyError, ValueError) as error:
        raise EdgeccError("E005", f"no tensor of ONNX has elements of type {array.dtype}") from error
