"""Small ONNX models from tables of nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

Row = tuple[str, str, str, Mapping[str, Any]]
"""Operator, operands, results and attributes of a node; names in one text, two spaces for an operand that is absent."""


def model(nodes: Sequence[Row], inputs: Mapping[str, Sequence[int | str | None]], outputs: Sequence[str] = ("y",), *,
          kind: int = TensorProto.FLOAT, constants: Mapping[str, Any] | None = None) -> onnx.ModelProto:
    """A model whose inputs, of shapes that may have names in them, and outputs, of unknown shape, are of type `kind`."""
    graph = helper.make_graph(
        [helper.make_node(op, ins.split(" ") if ins else [], outs.split(" "), **attributes) for op, ins, outs, attributes in nodes], "g",
        [helper.make_tensor_value_info(name, kind, dims) for name, dims in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()])
    for value in graph.output:
        value.type.tensor_type.elem_type = kind
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
