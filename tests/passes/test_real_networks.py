"""What the pipeline makes of real networks: the same results, the pieces of work a person would choose, no copies."""

from __future__ import annotations

from collections import Counter

import pytest

from edgecc.frontend.importing import import_model
from edgecc.ir.graph import Graph, Node
from edgecc.ops.movement import Reshape, Transpose
from edgecc.passes.graph.assign_layout import canonical_order, inverse_of, reshaped_order
from edgecc.pipeline import default_graph_passes, run_passes
from tests.support.assets import FLOAT_MODELS, fixture

# Operators that must be gone, and those that remain, where it matters.
LEFT = {
    "mobilenet_v2_fp32": {"conv": 53, "reduce": 1, "reshape": 1, "softmax": 1},
    "kws_dscnn_fp32": {"conv": 9, "reduce": 1, "reshape": 1, "matmul": 1, "softmax": 1},
    "ultraface_rfb320": {"conv": 52, "batch_norm": 0, "elementwise": 4},
    "fastestdet": {"conv": 70, "elementwise": 0, "gather": 0},
    "silero_vad_16k": {"conv": 6, "recurrent": 1, "reduce": 0},
    "silero_vad_16k_static": {"conv": 6, "recurrent": 1, "reduce": 0},
    "gtcrn_stream_simple": {"batch_norm": 0, "normalize": 4, "scatter_nd": 0, "conv": 11, "conv_transpose": 11},
    "minilm_l6_fp16w": {"matmul": 48, "normalize": 13, "softmax": 6, "elementwise": 6},
    "stories260k_prefill": {"matmul": 46, "normalize": 11, "softmax": 5, "expand": 0},
    "stories260k_decode": {"matmul": 46, "normalize": 11, "softmax": 5, "expand": 0},
    "stories260k_static": {"matmul": 46, "normalize": 11, "softmax": 5, "expand": 0},
}

SMALL = ("kws_dscnn_fp32", "silero_vad_16k", "gtcrn_stream_simple", "stories260k_decode", "mobilenet_v2_fp32")


def optimised(name: str) -> Graph:
    model, inputs, _ = fixture(name)
    graph = import_model(model, inputs=inputs)
    run_passes(graph, default_graph_passes())
    return graph


def is_view(node: Node) -> bool:
    source, result = node.operand(0), node.output
    match node.op:
        case Transpose(perm=perm):
            order = tuple(inverse_of(perm)[axis] for axis in source.layout.order)
        case _:
            order = reshaped_order(source, source.layout.order, result.type.dims) or ()
    return bool(order) and canonical_order(order, result.type.dims) == canonical_order(result.layout.order, result.type.dims)


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_pieces_of_work(name):
    graph = optimised(name)
    counts = Counter(node.op.name for node in graph.nodes)
    assert {op: counts[op] for op in LEFT[name]} == LEFT[name]
    moves = [node for node in graph.nodes if isinstance(node.op, Reshape | Transpose)]
    assert [node for node in moves if not is_view(node) and not graph.is_output(node.output)] == []


@pytest.mark.parametrize("name", SMALL)
def test_each_pass_keeps_the_meaning(name):
    model, inputs, _ = fixture(name)
    graph = import_model(model, inputs=inputs)
    run_passes(graph, default_graph_passes(), verify_each=inputs)


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_a_second_run_finds_nothing(name):
    graph = optimised(name)
    again = run_passes(graph, [p for p in default_graph_passes() if p.name != "plan-memory"])
    assert [str(report.graph_pass) for report in again if report.changed] == []


def test_embeddings_stay_as_short_as_the_model_stores_them():
    graph = optimised("minilm_l6_fp16w")
    assert {str(node.operand(0).type) for node in graph.nodes if node.op.name == "gather"} == {"f16[30522,384]", "f32[2,384]"}
