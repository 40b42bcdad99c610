"""Sessions of onnxruntime whose integer products are exact on every processor.

On x86-64 without VNNI (AVX2, or AVX-512 of before Cascade Lake) onnxruntime multiplies u8 by s8 with VPMADDUBSW, which
saturates the sum of each two products at 16 bits: 255*127 + 255*127 becomes 32767. Products of operands of equal signs do
not pass there. onnxruntime's own remedy, the entry session.x64quantprecision, moves weights that are stored to u8, and is
one of its graph optimizations, so that it does nothing to operands that are computed and in sessions without optimizations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

SIGNED = {
    "ConvInteger": ((1, 0, 2),),
    "DynamicQuantizeLSTM": ((None, 1, 9), (None, 2, 11)),
    "DynamicQuantizeMatMul": ((None, 1, 3),),
    "MatMulInteger": ((0, 1, 3),),
    "MatMulIntegerToFloat": ((0, 1, 5),),
    "QAttention": ((0, 1, 7),),
    "QGemm": ((0, 3, 5),),
    "QLinearConv": ((0, 3, 5),),
    "QLinearMatMul": ((0, 3, 5),),
}
"""Operator -> places of an operand that is u8 (None: quantized on the way, to u8), of the s8 one that it is multiplied by, and of
the latter's zero point. The left operand of onnxruntime's product is the first; a convolution of integers puts its weights there.
"""


def session(model: ModelProto | Path, *, optimized: bool = False) -> Any:
    """A session of one thread; without its optimizations, which fuse and reorder, onnxruntime computes what the model says."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.add_session_config_entry("session.x64quantprecision", "1")  # for what the optimizations fuse
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    loaded = onnx.load(model, load_external_data=False) if isinstance(model, Path) else model
    exact = with_unsigned_operands(loaded)
    same = exact is loaded and isinstance(model, Path)
    return ort.InferenceSession(str(model) if same else exact.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: ModelProto | Path, feeds: Mapping[str, Any], *, optimized: bool = False) -> list[Any]:
    """The outputs of a model."""
    return list(session(model, optimized=optimized).run(None, dict(feeds)))


def with_unsigned_operands(model: ModelProto) -> ModelProto:
    """Operands of s8 that meet u8, and their zero points, become u8, 128 more each; the same model where there are none.

        MatMulInteger(a: u8, b: s8, z_a, z_b) -> MatMulInteger(a, u8(b + 128), z_a, u8(z_b + 128))
    """
    if not any(node.op_type in SIGNED for node in _all_nodes(model.graph)):
        return model
    types = {value.name: value.type.tensor_type.elem_type for graph in _all_graphs(onnx.shape_inference.infer_shapes(model).graph)
             for value in (*graph.input, *graph.value_info, *graph.output)}
    stored = {tensor.name: tensor for graph in _all_graphs(model.graph) for tensor in graph.initializer}
    types |= {name: tensor.data_type for name, tensor in stored.items()}
    changed = ModelProto()
    changed.CopyFrom(model)
    if not sum(_change(graph, types, stored) for graph in _all_graphs(changed.graph)):
        return model
    return changed


def _change(graph: GraphProto, types: Mapping[str, int], stored: Mapping[str, TensorProto]) -> int:
    """Changes the nodes of a graph, not those within them; how many operands."""
    nodes: list[NodeProto] = []
    added: dict[str, TensorProto] = {}
    count = 0
    for node in graph.node:
        for left, right, zero in SIGNED.get(node.op_type, ()):
            if types.get(node.input[right]) != TensorProto.INT8 or (left is not None and types.get(node.input[left]) == TensorProto.INT8):
                continue
            count += 1
            node.input.extend([""] * (zero + 1 - len(node.input)))
            for place in (right, zero):
                name = node.input[place]
                node.input[place] = f"{name or 'absent'}/unsigned"
                if name and name not in stored:
                    made = f"{name}/unsigned{count}"
                    nodes += [helper.make_node("Cast", [name], [f"{made}/wide"], to=TensorProto.INT32),
                              helper.make_node("Add", [f"{made}/wide", "128/unsigned"], [f"{made}/moved"]),
                              helper.make_node("Cast", [f"{made}/moved"], [made], to=TensorProto.UINT8)]
                    node.input[place] = made
                    added["128/unsigned"] = numpy_helper.from_array(np.int32(128), "128/unsigned")
                elif node.input[place] not in added:
                    values = numpy_helper.to_array(stored[name]) if name else np.int8(0)
                    added[node.input[place]] = numpy_helper.from_array((values.astype(np.int32) + 128).astype(np.uint8), node.input[place])
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(added.values())
    return count


def _all_graphs(graph: GraphProto) -> Sequence[GraphProto]:
    """A graph and those within its nodes."""
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return [graph, *(each for one in inner for each in _all_graphs(one))]


def _all_nodes(graph: GraphProto) -> Sequence[NodeProto]:
    return [node for each in _all_graphs(graph) for node in each.node]
