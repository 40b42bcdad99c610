"""Captures, results and states that need not be."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import edgecc.ops  # noqa: F401 - the parser looks operators up
from edgecc.ir.graph import Graph
from edgecc.ir.parser import parse
from edgecc.ir.types import Layout
from edgecc.passes.graph.eliminate import Eliminate
from edgecc.passes.graph.simplify_regions import SimplifyRegions
from edgecc.pipeline import run_passes
from edgecc.reference.executor import execute
from tests.support.random_control import control_graphs, control_inputs

BRANCH = """\
graph "branch" (%p: bool[] "p", %x: f32[2] "x", %w: f32[2] "w") {
  %c = constant f32[2] [2.0, 3.0]
  %y, %z = if(%p, %x, %c, %x, %w) : f32[2], f32[2]
    then (%a: f32[2] "a", %b: f32[2] "b", %d: f32[2] "d", %e: f32[2] "e") {
      %s = elementwise(%a, %b, %d) {expr=`add($0:f32, mul($1:f32, $2:f32))`} : f32[2]
      %t = elementwise(%e) {expr=`neg($0:f32)`} : f32[2]
      return %s "s", %t "t"
    }
    else (%a: f32[2] "a", %b: f32[2] "b", %d: f32[2] "d", %e: f32[2] "e") {
      return %b "s", %e "t"
    }
  return %y "y"
}
"""

LOOP = """\
graph "loop" (%n: i64[] "n", %x: f32[2] "x", %w: f32[2] "w") {
  %go = constant bool[] [true]
  %a, %b, %d, %all = loop(%n, %go, %x, %w, %x) {states=3, limit=9, scanned=(), stacked=(false), rows=4, padded=true} : f32[2], f32[2], f32[2], f32[4,2]
    body (%i: i64[] "i", %s: f32[2] "s", %kept: f32[2] "kept", %unread: f32[2] "unread") {
      %again = constant bool[] [true]
      %t = elementwise(%s, %kept) {expr=`add($0:f32, $1:f32)`} : f32[2]
      return %again "again", %t "t", %kept "kept", %s "unread", %t "all"
    }
  %r = elementwise(%a, %b) {expr=`mul($0:f32, $1:f32)`} : f32[2]
  return %r "r"
}
"""


def simplified(text: str) -> Graph:
    graph = parse(text)
    before = {name: np.linspace(1, 2, value.type.elements, dtype=value.type.dtype.numpy).reshape(value.type.dims)
              for name, value in zip(graph.input_names, graph.inputs, strict=True)}
    expected = execute(graph, before)
    run_passes(graph, [SimplifyRegions(), Eliminate()], verify_each=before)
    for name, array in execute(graph, before).items():
        np.testing.assert_array_equal(array, expected[name])
    return graph


def test_a_branch_captures_what_it_reads_and_returns_what_is_read():
    node = simplified(BRANCH).nodes[0]
    assert [v.name for v in node.inputs] == ["p", "x"]
    assert len(node.outputs) == 1
    assert all(len(region.inputs) == 1 for region in node.regions)


def test_states_that_stay_become_captures_and_unread_ones_go():
    node = simplified(LOOP).nodes[0]
    assert node.op.states == 1
    assert node.op.stacked == ()
    assert node.op.rows == 0
    assert [v.name for v in node.inputs] == ["n", "go", "x", "w"]


def test_many_states_that_stay_become_captures_in_one_sweep():
    names = [f"s{i}" for i in range(30)]
    graph = parse("graph \"loop\" (%n: i64[] \"n\", " + ", ".join(f'%{name}: f32[2] "{name}"' for name in names) + """) {
      %go = constant bool[] [true]
      """ + ", ".join(f"%y{i}" for i in range(31)) + " = loop(%n, %go, %s0, " + ", ".join(f"%{name}" for name in names)
                  + ") {states=31, limit=9, scanned=(), stacked=(), rows=0, padded=false} : " + ", ".join(["f32[2]"] * 31) + """
        body (%i: i64[] "i", %total: f32[2] "total", """ + ", ".join(f'%{name}: f32[2] "{name}"' for name in names) + """) {
          %again = constant bool[] [true]
          %more = elementwise(%total, %s3, %s29) {expr=`add($0:f32, mul($1:f32, $2:f32))`} : f32[2]
          return %again "again", %more "more", """ + ", ".join(f'%{name} "{name}_"' for name in names) + """
        }
      return %y0 "y"
    }
    """)
    run_passes(graph, [SimplifyRegions()])
    (node,) = (node for node in graph.nodes if node.regions)
    assert node.op.states == 1 and [v.name for v in node.inputs] == ["n", "go", "s0", "s3", "s29"]


def test_the_only_result_stays():
    graph = simplified(BRANCH.replace('return %y "y"\n}\n', 'return %x "y"\n}\n'))
    assert not graph.nodes  # eliminated as a whole, by the other pass


def test_a_state_is_kept_where_the_graph_would_return_an_input():
    graph = simplified(LOOP.replace('return %r "r"', 'return %r "r", %b "b"'))
    assert graph.nodes[0].op.states == 2


@settings(max_examples=40)
@given(graph=control_graphs(), seed=st.integers(0, 7))
def test_any_graph_keeps_its_meaning(graph: Graph, seed: int) -> None:
    for value in graph.values():
        value.layout = Layout.row_major(value.type.rank)
    run_passes(graph, [SimplifyRegions(), Eliminate(), SimplifyRegions()], verify_each=control_inputs(graph, seed))
