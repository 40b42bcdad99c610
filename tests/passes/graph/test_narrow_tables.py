"""narrow-tables: embeddings that f16 or bf16 holds exactly are stored so."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from edgecc.ir.graph import Graph
from edgecc.ir.scalar import Arg, apply
from edgecc.ir.text import to_text
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather
from edgecc.ops.movement import Reshape
from tests.support.graph_passes import run_checked

NORMAL = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
HALF = NORMAL.astype(np.float16).astype(np.float32)
BRAIN = (NORMAL * 1e30).astype(ml_dtypes.bfloat16).astype(np.float32)
MIXED = np.concatenate([HALF[:4], BRAIN[4:]])
PASS = "narrow-tables{least_bytes=128}"


def gathering(table: Array, readers: int = 1, rows: int = 3, axis: int = 0) -> Graph:
    graph = Graph("g")
    constant = graph.constant(table, "table")
    outputs = []
    for index in range(readers):
        indices = graph.add_input(TensorType(DType.I64, (rows,)), f"i{index}")
        outputs.append(graph.add(Gather(axis), constant, indices, loc=(f"G{index}",)))
    graph.set_outputs(outputs, [f"y{index}" for index in range(readers)])
    return graph


@pytest.mark.parametrize(("table", "axis"), [(HALF, 0), (HALF, 1), (BRAIN, 0), (np.where(HALF > 1, np.inf, HALF), 0)],
                         ids=["f16", "columns", "bf16", "infinite"])
def test_fires(table, axis, golden):
    graph = gathering(table.astype(np.float32), axis=axis)
    run_checked(graph, PASS)
    golden(to_text(graph, locs=True, constants="type"))


def test_several_gathers_share_the_table(golden):
    graph = gathering(HALF, readers=2)
    run_checked(graph, f"{PASS},eliminate")
    assert len(list(graph.constants())) == 1
    golden(to_text(graph, locs=True, constants="type"))


def declined(graph: Graph, passes: str = PASS) -> str:
    (report,) = run_checked(graph, passes)
    assert not report.changed
    return "\n".join(str(d) for d in report.declines)


def test_case_1_the_elements_do_not_fit(golden):
    golden("\n".join(declined(gathering(table)) for table in (NORMAL, MIXED)), "txt")


@pytest.mark.parametrize("returned", [False, True])
def test_case_2_another_reader(returned, golden):
    graph = gathering(HALF)
    table = graph.nodes[0].operand(0)
    other = table if returned else graph.add(Reshape((32,)), table)
    graph.set_outputs([*graph.outputs, other], ["y0", "other"])
    golden(declined(graph), "txt")


def test_case_3_more_is_gathered_than_there_is(golden):
    golden(declined(gathering(HALF, rows=9)), "txt")


def test_leaves_small_variable_and_other_tables_alone():
    assert declined(gathering(HALF), "narrow-tables{least_bytes=129}") == ""
    assert declined(gathering(HALF.astype(np.float64))) == ""
    graph = gathering(HALF)
    x = graph.add_input(TensorType(DType.F32, (8, 4)), "x")
    graph.set_operand(graph.nodes[0], 0, graph.add(Elementwise(apply("neg", Arg(0, DType.F32))), x, before=graph.nodes[0]))
    assert declined(graph) == ""
