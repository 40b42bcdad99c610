"""plan-memory orders nodes: branches one after the other, nothing else."""

from __future__ import annotations

from hypothesis import given, settings

from edgecc.ir.graph import Graph
from edgecc.ir.text import to_text
from edgecc.ir.verify import verify
from edgecc.memory.lifetime import Needs
from edgecc.memory.placement import place_values
from edgecc.memory.plan import plan_memory
from edgecc.passes.graph.plan_memory import PlanMemory
from tests.support.graph_passes import declined, fired, run_checked
from tests.support.random_graphs import graphs

BRANCHES = """\
graph "g" (%x: f32[16,1] "x") {
  %w = constant f32[256,1] random
  %a = pad(%x) {before=(0,0), after=(0,255), mode="constant"} : f32[16,256]
  %b = pad(%x) {before=(0,0), after=(0,255), mode="constant"} : f32[16,256]
  %c = matmul(%a, %w) {transpose_a=false, transpose_b=false, epilogue=none} : f32[16,1]
  %d = matmul(%b, %w) {transpose_a=false, transpose_b=false, epilogue=none} : f32[16,1]
  %e = concat(%c, %d) {axis=1} : f32[16,2]
  %f = softmax(%e) {axis=1, log=false} : f32[16,2]
  return %f "y"
}
"""


def test_runs_one_branch_after_the_other() -> None:
    text = fired("plan-memory", BRANCHES)
    order = [line.split()[0] for line in text.splitlines() if line.startswith("  %") and "constant" not in line.split("{")[0]]
    assert order in (["%a", "%c", "%b", "%d", "%e", "%f"], ["%b", "%d", "%a", "%c", "%e", "%f"])


def test_leaves_a_good_order_alone() -> None:
    lines = BRANCHES.splitlines(keepends=True)
    lines[3], lines[4] = lines[4], lines[3]
    assert declined("plan-memory", "".join(lines)) == ""


@settings(max_examples=80)
@given(graphs())
def test_never_makes_the_plan_larger_and_is_idempotent(graph: Graph) -> None:
    def arena() -> int:
        placement = place_values(graph)
        return plan_memory(placement, [Needs()] * len(placement.steps)).arena_bytes

    before = {node: node.inputs for node in graph.nodes}
    bytes_before = arena()
    PlanMemory().run(graph)
    verify(graph)
    assert {node: node.inputs for node in graph.nodes} == before
    assert arena() <= bytes_before
    text = to_text(graph)
    assert not PlanMemory().run(graph)
    assert to_text(graph) == text


@settings(max_examples=20)
@given(graphs())
def test_the_meaning_stays(graph: Graph) -> None:
    run_checked(graph, PlanMemory())
