"""Branches and loops: what the module of a graph with regions computes is what the graph means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.artifact.load import load
from edgecc.backends.base import EmitOptions
from edgecc.backends.c.backend import CBackend
from edgecc.errors import EdgeccError
from edgecc.ir.equal import first_difference
from edgecc.ir.graph import Graph
from edgecc.ir.parser import parse
from edgecc.ir.text import to_text
from edgecc.loop.interpreter import run_module
from edgecc.loop.module import Branch, Repeat
from edgecc.lowering import lower_graph
from edgecc.lowering.options import LoweringOptions
from edgecc.pipeline import compile_graph, emit_c
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target
from tests.ops.test_control import BRANCH, feeds, loop_text
from tests.support.random_control import control_graphs, control_inputs


def check(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-4)


@settings(max_examples=30)
@given(graph=control_graphs())
def test_graphs_with_regions_print_and_copy(graph: Graph) -> None:
    again = parse(to_text(graph))
    assert first_difference(graph, again) is None
    assert first_difference(graph.copy(), again) is None


@pytest.mark.parametrize("target", ["generic-c", "x86-64-v4", "cortex-a76"])
@settings(max_examples=25)
@given(graph=control_graphs(), seed=st.integers(0, 7))
def test_any_graph_with_regions_computes_the_same_as_loop_programs(target: str, graph: Graph, seed: int) -> None:
    inputs = control_inputs(graph, seed)
    expected = execute(graph, inputs)
    check(run_module(lower_graph(graph, load_target(target), name="net", options=LoweringOptions(verified=True)).module, inputs), expected)


@settings(max_examples=25)
@given(graph=control_graphs(), seed=st.integers(0, 7), threads=st.sampled_from((1, 2)))
def test_passes_inside_regions_keep_the_meaning(graph: Graph, seed: int, threads: int) -> None:
    inputs = control_inputs(graph, seed)
    for value in graph.values():
        if value.constant is None and not value.layout.is_row_major:
            value.layout = type(value.layout).row_major(value.type.rank)
    compiled = compile_graph(graph, load_target("x86-64-v3"), name="net", verify_each=inputs, options=LoweringOptions(threads=threads))
    check(run_module(compiled.module, inputs), execute(graph, inputs))


# -- in C -----------------------------------------------------------------------------------------

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@settings(max_examples=5)
@given(graph=control_graphs(), seed=st.integers(0, 3))
def test_any_graph_with_regions_computes_the_same_in_c(graph: Graph, seed: int) -> None:
    module = lower_graph(graph, load_target("host"), name="net")
    artifact = CBackend().emit(module.module, load_target("host"), EmitOptions())
    with load(artifact, cc="gcc", isolated=True, flags=SANITIZERS) as model:
        for sample in (seed, seed + 4):
            inputs = control_inputs(graph, sample)
            check(model.run(inputs), execute(graph, inputs))


@settings(max_examples=3)
@given(graph=control_graphs(), seed=st.integers(0, 3))
def test_any_graph_with_regions_computes_the_same_on_the_emulator(graph: Graph, seed: int) -> None:
    target = load_target("cortex-a76")
    with load(CBackend().emit(lower_graph(graph, target, name="net").module, target, EmitOptions())) as model:
        inputs = control_inputs(graph, seed)
        check(model.run(inputs), execute(graph, inputs))


@pytest.mark.parametrize("profile", [False, True])
def test_a_loop_that_leaves_its_bounds_ends_the_run(profile: bool) -> None:
    compiled = compile_graph(parse(loop_text(back=True)), load_target("host"), name="net")
    with load(emit_c(compiled, EmitOptions(profile=profile)), cc="gcc", flags=WARNINGS) as model:
        assert model.run(feeds(4))["sum"].tolist() == [25, 33]
        for count in (3, 5, 0, -1):
            with pytest.raises(EdgeccError, match="E402"):
                model.run(feeds(count))
        assert model.run(feeds(4))["sum"].tolist() == [25, 33]


def test_the_run_reads_like_a_program() -> None:
    compiled = compile_graph(parse(BRANCH), load_target("generic-c"), name="net")
    source = emit_c(compiled).files["net.c"].decode()
    assert "if (*(const unsigned char *)(const void *)in->c != 0) {" in source
    assert source.index("net_elementwise_neg(") < source.index("} else {") < source.index("net_reshape(")
    loop = emit_c(compile_graph(parse(loop_text(padded=True)), load_target("generic-c"), name="net"))
    assert "for (; iteration_0 < trips_0 && go_on_0; ++iteration_0) {" in loop.files["net.c"].decode()
    assert "4 = a loop left its bounds" in loop.files["net.h"].decode()


# -- memory ---------------------------------------------------------------------------------------

COUNTDOWN = """\
graph "countdown" (%x: f32[64] "x", %n: i64[] "n") {
  %go = constant bool[] [true]
  %y, %z = loop(%n, %go, %x, %x) {states=2, limit=9} : f32[64], f32[64]
    body (%i: i64[] "i", %s: f32[64] "s", %t: f32[64] "t") {
      %again = constant bool[] [true]
      %u = elementwise(%s, %t) {expr=`add($0:f32, $1:f32)`} : f32[64]
      %v = elementwise(%u) {expr=`neg($0:f32)`} : f32[64]
      return %again "again", STATES
    }
  return %y "y", %z "z"
}
"""


@pytest.mark.parametrize(("states", "copies"), [
    ('%v "s", %t "t"', 1),  # t is copied from its own memory through scratch memory
    ('%s "s", %v "t"', 1),
    ('%t "s", %s "t"', 1),  # swapped: one of them is kept meanwhile
])
def test_states_are_changed_in_place_where_they_were_read_before(states: str, copies: int) -> None:
    graph = parse(COUNTDOWN.replace("STATES", states))
    module = lower_graph(graph, load_target("generic-c"), name="net").module
    (loop,) = (item for item in module.calls if isinstance(item, Repeat))
    assert len(loop.after) == copies
    inputs = {"x": np.linspace(-1, 1, 64, dtype=np.float32), "n": np.array(3)}
    check(run_module(module, inputs), execute(graph, inputs))


def test_a_next_state_is_made_apart_where_that_saves_its_copy() -> None:
    text = COUNTDOWN.replace('%v = elementwise(%u) {expr=`neg($0:f32)`}', '%v = elementwise(%u, %s) {expr=`max($0:f32, $1:f32)`}').replace(
        "STATES", '%v "s", %t "t"')
    graph = parse(text)
    module = lower_graph(graph, load_target("generic-c"), name="net").module
    (loop,) = (item for item in module.calls if isinstance(item, Repeat))
    assert [copy.size_bytes for copy in loop.after] == [256]  # the other state, which is not changed at all
    inputs = {"x": np.linspace(-1, 1, 64, dtype=np.float32), "n": np.array(3)}
    check(run_module(module, inputs), execute(graph, inputs))


def test_captured_values_are_not_copied() -> None:
    module = lower_graph(parse(BRANCH), load_target("generic-c"), name="net").module
    (branch,) = (item for item in module.calls if isinstance(item, Branch))
    assert len(module.calls) == 1
    assert len(branch.then) == 1
    assert module.arena_bytes == 0


GATHER = """\
graph "rows" (%x: f32[5,2] "x", %at: i64[3] "at", %start: f32[2] "start") {
  %go = constant bool[] [true]
  %n = constant i64[] [3]
  %sum = loop(%n, %go, %start, %at, %x) {states=1, limit=3, scanned=(false), rows=3} : f32[2]
    body (%i: i64[] "i", %s: f32[2] "s", %at: i64[] "at", %x: f32[5,2] "x") {
      %again = constant bool[] [true]
      %row = gather(%x, %at) {axis=0} : f32[2]
      %t = elementwise(%s, %row) {expr=`add($0:f32, $1:f32)`} : f32[2]
      return %again "again", %t "t"
    }
  return %sum "sum"
}
"""


def test_indices_inside_loops_are_checked_where_they_lie() -> None:
    graph = parse(GATHER)
    inputs = {"x": np.arange(10, dtype=np.float32).reshape(5, 2), "at": np.array([4, 0, -2]), "start": np.zeros(2, np.float32)}
    with load(emit_c(compile_graph(graph, load_target("host"), name="net")), cc="gcc") as model:
        check(model.run(inputs), execute(graph, inputs))
        for wrong in ([4, 0, 5], [-6, 0, 0]):
            with pytest.raises(EdgeccError, match="E403"):
                model.run(inputs | {"at": np.array(wrong)})


def test_reports_reach_into_regions() -> None:
    compiled = compile_graph(parse(COUNTDOWN.replace("STATES", '%v "s", %t "t"')), load_target("host"), name="net")
    assert [title for title, _ in compiled.lowered.regions] == ["body of y"]
    calls = compiled.module.all_calls
    assert [report.function for report in compiled.lowered.calls] == [call.function for call in calls]
    source = emit_c(compiled, EmitOptions(profile=True)).files["net.c"].decode()
    assert source.count("  note_call(") == len(calls)


@pytest.mark.parametrize("choice", [True, False])
def test_short_types_pass_through_regions(choice: bool) -> None:
    text = BRANCH.replace("elementwise(%x) {expr=`neg($0:f32)`}", "slice(%x) {starts=(2), sizes=(3), steps=(-1)}").replace("f32", "f8e4m3fn")
    graph = parse(text)
    x = np.array([1, -2, 3]).astype(graph.inputs[1].type.dtype.numpy)
    module = lower_graph(graph, load_target("generic-c"), name="net").module
    inputs = {"c": np.array(choice), "x": x}
    np.testing.assert_array_equal(run_module(module, inputs)["y"].astype(np.float32), execute(graph, inputs)["y"].astype(np.float32))
