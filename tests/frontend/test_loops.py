"""If, Loop and Scan whose end or choice is known at run time only: what becomes a region, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model, import_model_with_report
from edgecc.frontend.converters import loops
from edgecc.frontend.limits import Limits
from edgecc.ir.verify import verify
from edgecc.reference.executor import execute

F = np.float32


def body_of(nodes, inputs, outputs, constants=None):
    stored = [numpy_helper.from_array(np.asarray(c), n) for n, c in (constants or {}).items()]
    types = {"i": (TensorProto.INT64, []), "going": (TensorProto.BOOL, [])}
    given = [helper.make_tensor_value_info(name, *types.get(name, (TensorProto.FLOAT, None))) for name in inputs]
    return helper.make_graph(nodes, "body", given, [helper.make_empty_tensor_value_info(o) for o in outputs], stored)


def ops_of(graph):
    return [node.op.name for node in graph.nodes]


@pytest.fixture
def no_unrolling(monkeypatch):
    monkeypatch.setattr(loops, "UNROLLED_NODES", 0)


@pytest.mark.parametrize("choice", [True, False])
def test_an_if_of_the_run_has_both_branches(make, op, info, check, random, choice):
    """Captured values, weights of the model and of the branch, one result the graph's input, one a constant."""
    then = body_of([op("Mul", "x w", "a"), op("Identity", "x", "b")], [], ["a", "b"], {"own": np.ones(2, F)})
    orelse = body_of([op("Add", "z own", "a")], [], ["a", "own"], {"own": np.full(2, 7, F)})
    nodes = [op("Neg", "x", "z"), op("If", "c", "y1 y2", then_branch=then, else_branch=orelse), op("Mul", "w y1", "y3")]
    model = make(nodes, [info("x", [2]), info("c", [1], TensorProto.BOOL)], ["y1", "y2", "y3"], {"w": np.full(2, 3, F)})
    graph = check(model, {"x": random(2), "c": np.array([choice])}, by="ort")
    assert ops_of(graph) == ["elementwise", "if", "elementwise"]
    assert len(graph.nodes[1].inputs) == 3  # the weights are constants of the regions


def test_branches_of_other_types_are_refused_unless_nobody_reads_them(make, op, info, check, random):
    then = body_of([op("Neg", "x", "a"), op("Identity", "x", "b")], [], ["a", "b"])
    orelse = body_of([op("Abs", "x", "a"), op("Reshape", "x square", "b")], [], ["a", "b"], {"square": np.array([2, 2])})
    inputs = [info("x", [4]), info("c", [], TensorProto.BOOL)]
    with pytest.raises(EdgeccError, match=r"E105(.|\n)*branches return f32\[4\] and f32\[2,2\]"):
        import_model(make([op("If", "c", "y z", then_branch=then, else_branch=orelse)], inputs, ["y", "z"]))
    check(make([op("If", "c", ["y", ""], then_branch=then, else_branch=orelse)], inputs), {"x": random(4), "c": np.array(False)})


@pytest.mark.parametrize("choice", [True, False])
def test_branches_may_return_different_sizes(make, op, info, check, random, choice):
    """Two results whose sizes go together, and one of another size; strings too."""
    then = body_of([op("Slice", "x zero two", "a"), op("Neg", "a", "b"), op("Concat", "x x", "d", axis=1), op("Identity", "words", "s")],
                   [], ["a", "b", "d", "s"], {"zero": np.array([0]), "two": np.array([2]), "words": np.array([b"one", b"two"], object)})
    orelse = body_of([op("Identity", "x", "a"), op("Abs", "x", "b"), op("Neg", "x", "d"), op("Identity", "word", "s")],
                     [], ["a", "b", "d", "s"], {"word": np.array([b"three"], object)})
    nodes = [op("If", "c", "a b d s", then_branch=then, else_branch=orelse), op("Add", "a b", "sum"), op("ReduceSum", "d", "total", keepdims=0)]
    model = make(nodes, [info("x", [5, 3]), info("c", [], TensorProto.BOOL)], ["a", "sum", "d", "total", "s"])
    graph = check(model, {"x": random(5, 3), "c": np.array(choice)}, by="ort")
    assert [value.type.max_dims for value in graph.outputs] == [(5, 3), (5, 3), (5, 6), (), (2,)]
    assert graph.outputs[0].type.shape[0] == graph.outputs[1].type.shape[0]


def test_what_a_branch_cannot_do_is_reported(make, op, info):
    then = body_of([op("Bogus", "x", "n"), op("Cast", "n", "a", to=1)], [], ["a"])
    orelse = body_of([op("SequenceConstruct", "x", "a")], [], ["a"])
    fork = op("If", "c", "y", then_branch=then, else_branch=orelse)
    with pytest.raises(EdgeccError) as caught:
        import_model(make([fork], [info("x", [2]), info("c", [], TensorProto.BOOL)]))
    assert any("Bogus" in line for line in caught.value.details)
    assert any("is no tensor" in line for line in caught.value.details)
    # With the condition known, only one branch counts.
    _, report = import_model_with_report(make([op("If", "c", "y", then_branch=body_of([op("Neg", "x", "a")], [], ["a"]), else_branch=then)], [
        info("x", [2]), info("c", [], TensorProto.BOOL)]), inputs={"x": np.ones(2, F), "c": np.array(True)}, bind_values=True)
    assert "c" in report.bound


def test_what_only_a_body_reads_outlives_an_attempt_to_write_the_loop_out(make, op, info, check, random):
    """Whether the loop goes on is known at run time, so that the copy of its body is given up for a region."""
    body = body_of([op("Identity", "flag", "on"), op("Mul", "sum z", "more")], ["i", "going", "sum"], ["on", "more"])
    nodes = [op("Neg", "x", "z"), op("Loop", ["once", "", "x"], "y", body=body)]
    model = make(nodes, [info("x", [2]), info("flag", [], TensorProto.BOOL)], ["y"], {"once": np.int64(1)})
    graph = check(model, {"x": random(2), "flag": np.array(False)}, by="ort")
    assert ops_of(graph) == ["elementwise", "loop"]


SUMS = ["i", "going", "sum"], ["on", "more"]


def sums(op, condition="going"):
    return body_of([op("Identity", condition, "on"), op("Cast", "i", "f", to=1), op("Mul", "f x", "g"), op("Add", "sum g", "more")], *SUMS)


@pytest.mark.parametrize("count", [0, 1, 5, -3])
def test_a_loop_with_a_trip_count_of_the_run(make, op, info, check, random, count):
    model = make([op("Loop", ["n", "", "x"], ["y"], body=sums(op))], [info("x", [2]), info("n", [], TensorProto.INT64)])
    graph = check(model, {"x": random(2), "n": np.array(count)}, by="ort")
    assert ops_of(graph) == ["loop"]
    assert graph.nodes[0].op.limit == Limits().trip_count


@pytest.mark.parametrize("first", [True, False])
def test_a_loop_with_conditions_of_the_run(make, op, info, check, random, first):
    body = body_of([op("ReduceSum", "sum", "s", keepdims=0), op("Less", "s limit", "on"), op("Add", "sum x", "more")], *SUMS)
    model = make([op("Loop", ["", "c", "x"], ["y"], body=body)],
                 [info("x", [2]), info("c", [], TensorProto.BOOL), info("limit", [])])
    for limit in (0, 3, 100):
        check(model, {"x": np.ones(2, F), "c": np.array(first), "limit": np.array(limit, F)}, by="ort")
    graph = import_model(model, limits=Limits(trip_count=4))
    with pytest.raises(EdgeccError, match="E402"):
        execute(graph, {"x": np.ones(2, F), "c": np.array(True), "limit": np.array(100, F)})


def test_a_loop_too_long_to_be_written_out(make, op, check, random):
    trips = loops.UNROLLED_STEPS + 1
    body = body_of([op("Identity", "going", "on"), op("Mul", "sum x", "more"), op("Identity", "sum", "out")], SUMS[0], [*SUMS[1], "out"])
    model = make([op("Loop", ["n", "", "x"], ["y", "all"], body=body)], {"x": [2]}, ["y", "all"], {"n": np.int64(trips)})
    graph = check(model, {"x": np.array([1, -1], F)}, by="ort")
    assert ops_of(graph) == ["loop"]
    assert graph.outputs[1].type.dims == (trips, 2)


def test_rows_of_collected_results(make, op, info, check, random):
    """Their number is known, or stated by the model, or bounded by a limit, else the loop is refused."""
    body = body_of([op("Less", "i n", "on"), op("Add", "sum x", "more"), op("Neg", "sum", "out")], SUMS[0], [*SUMS[1], "out"])

    def model(outputs, **constants):
        return make([op("Loop", ["trips", "", "x"], ["y", "all"], body=body)],
                    [info("x", [2]), info("n", [], TensorProto.INT64), *([] if constants else [info("trips", [], TensorProto.INT64)])],
                    outputs, constants)

    x = random(2)
    stated = model(["y", info("all", [3, 2])])
    feeds = {"x": x, "n": np.array(2), "trips": np.array(9)}
    check(stated, feeds, by="ort")
    with pytest.raises(EdgeccError, match="E402"):
        execute(import_model(stated), feeds | {"n": np.array(1)})
    with pytest.raises(EdgeccError, match=r"E105(.|\n)*collected_rows"):
        import_model(model(["y", "all"]))
    graph = import_model(model(["y", "all"]), limits=Limits(collected_rows=4))
    assert str(graph.outputs[1].type) == "f32[all:0..4,2]"
    np.testing.assert_array_equal(execute(graph, feeds)["all"], np.stack([-x, -x - x, -x - x - x]))
    with pytest.raises(EdgeccError, match="E402"):
        execute(graph, feeds | {"n": np.array(9)})
    for last in (0, 1, 7):
        check(model(["y", "all"], trips=np.int64(3)), {"x": x, "n": np.array(last)}, by="ort")


def test_a_loop_that_never_runs_collects_nothing(make, op, check, random):
    body = body_of([op("Identity", "going", "on"), op("Add", "sum x", "more"), op("Concat", "x x", "out", axis=0)], SUMS[0], [*SUMS[1], "out"])
    model = make([op("Loop", ["n", "", "x"], ["y", "all"], body=body)], {"x": [2]}, ["y", "all"], {"n": np.int64(0)})
    assert check(model, {"x": random(2)}, by="ort").outputs[1].type.dims == (0, 4)


def test_states_keep_their_type(make, op, info):
    body = body_of([op("Identity", "going", "on"), op("Concat", "sum sum", "more", axis=0)], *SUMS)
    inputs = [info("x", [2]), info("n", [], TensorProto.INT64)]
    with pytest.raises(EdgeccError, match=r"E105(.|\n)*changes from f32\[2\] to f32\[4\]"):
        import_model(make([op("Loop", ["n", "", "x"], ["y"], body=body)], inputs))
    sequence = body_of([op("Identity", "going", "on"), op("SequenceInsert", "sum x", "more")], *SUMS)
    with pytest.raises(EdgeccError, match=r"E105(.|\n)*--limits collected_rows"):
        import_model(make([op("SequenceEmpty", "", "s"), op("Loop", ["n", "", "s"], ["q"], body=sequence),
                           op("SequenceLength", "q", "y")], inputs))
    # Where the number of iterations is known both are written out.
    known = make([op("Loop", ["n", "", "x"], ["y"], body=body)], inputs[:1], constants={"n": np.int64(3)})
    assert import_model(known).outputs[0].type.dims == (16,)


def test_states_that_are_only_written_begin_as_anything(make, op, info, check, random, no_unrolling):
    """Exporters put a number there for a name that has no value before the loop."""
    body = body_of([op("ReduceSum", "sum", "s", keepdims=0), op("Less", "s limit", "on"), op("Add", "sum x", "more"), op("Mul", "more x", "product")],
                   [*SUMS[0], "unset"], [*SUMS[1], "product"])
    inputs = [info("x", [2]), info("limit", []), info("c", [], TensorProto.BOOL)]
    constants = {"unset": np.float32(0)}
    for first in ("", "yes"):
        model = make([op("Loop", ["", first, "x", "unset"], ["y", "last"], body=body)], inputs[:2], ["y", "last"], {**constants, "yes": np.array(True)})
        graph = check(model, {"x": np.ones(2, F), "limit": np.array(7, F)}, by="ort")
        assert ops_of(graph) == ["loop"] and graph.outputs[1].type.dims == (2,)
    with pytest.raises(EdgeccError, match=r"E105(.|\n)*changes from f32\[\] to f32\[2\]"):  # what it began as may be the result
        import_model(make([op("Loop", ["", "c", "x", "unset"], ["y", "last"], body=body)], inputs, ["y", "last"], constants))


def test_numbers_keep_the_rank_they_had_before_a_loop(make, op, info, check, no_unrolling):
    body = body_of([op("ReduceSum", "sum", "s", keepdims=0), op("Less", "s limit", "on"), op("Add", "sum x", "more"), op("Add", "n one", "next")],
                   [*SUMS[0], "n"], [*SUMS[1], "next"])
    model = make([op("Loop", ["", "", "x", "n"], ["y", "count"], body=body)], [info("x", [2]), info("limit", [])], ["y", "count"],
                 {"n": np.float32(0), "one": np.ones(1, F)})
    assert check(model, {"x": np.ones(2, F), "limit": np.array(7, F)}, by="ort").outputs[1].type.dims == (1,)


def test_written_out_loops_stay_so_where_regions_cannot_be_made(make, op, check, random, no_unrolling):
    """A body that changes shapes, and one that may be a region."""
    body = body_of([op("Identity", "going", "on"), op("Concat", "sum sum", "more", axis=0)], *SUMS)
    graph = check(make([op("Loop", ["n", "", "x"], ["y"], body=body)], {"x": [2]}, constants={"n": np.int64(3)}), {"x": random(2)}, by="ort")
    assert "loop" not in ops_of(graph)
    graph = check(make([op("Loop", ["n", "", "x"], ["y"], body=sums(op))], {"x": [2]}, constants={"n": np.int64(3)}), {"x": random(2)}, by="ort")
    assert ops_of(graph) == ["loop"]


def test_an_attempt_that_fails_leaves_nothing_behind(make, op, info, check, random):
    """Conditions become unknown in the second iteration, after the first was written out."""
    body = body_of([op("Add", "sum x", "more"), op("Less", "sum x", "less"), op("ReduceMax", "less_f", "m", keepdims=0), op("Cast", "less", "less_f", to=1),
                    op("Equal", "i zero", "start"), op("Cast", "m", "lm", to=9), op("Or", "start lm", "on")], *SUMS, {"zero": np.int64(0)})
    body.node.sort(key=lambda n: {"Less": 0, "Cast": 1, "ReduceMax": 2}.get(n.op_type, 3) if n.output[0] != "lm" else 2.5)
    model = make([op("Loop", ["n", "", "x"], ["y"], body=body)], {"x": [2]}, constants={"n": np.int64(9)})
    graph = check(model, {"x": random(2)}, by="ort")
    assert ops_of(graph) == ["loop"]


@pytest.mark.parametrize("backwards", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scans_as_loops(make, op, check, random, no_unrolling, backwards, axis):
    body = body_of([op("Add", "state row", "next"), op("Mul", "row w", "out")], ["state", "row"], ["next", "out"])
    scan = op("Scan", "start x", "last all", body=body, num_scan_inputs=1, scan_input_axes=[axis], scan_input_directions=[backwards],
              scan_output_axes=[-1 - axis], scan_output_directions=[1 - backwards])
    shape = [4, 4, 4]
    shape[axis] = 3
    model = make([scan], {"start": [4, 4], "x": shape}, ["last", "all"], {"w": np.full(4, 2, F)})
    graph = check(model, {"start": random(4, 4), "x": random(*shape)}, by="ort")
    assert ops_of(graph).count("loop") == 1


def test_regions_inside_regions(make, op, info, check, random):
    """A branch of the run in a loop of the run in a branch of the run, which reads names of all scopes."""
    choose = op("If", "odd", "more", then_branch=body_of([op("Add", "sum z", "t")], [], ["t"]),
                else_branch=body_of([op("Mul", "sum w", "t")], [], ["t"]))
    body = body_of([op("Mod", "i two", "m"), op("Cast", "m", "odd", to=9), choose, op("Identity", "going", "on")], *SUMS, {"two": np.int64(2)})
    loop = op("Loop", ["n", "", "x"], ["t"], body=body)
    nodes = [op("Neg", "x", "z"), op("If", "c", "y", then_branch=body_of([loop], [], ["t"]), else_branch=body_of([op("Identity", "z", "t")], [], ["t"]))]
    model = make(nodes, [info("x", [2]), info("n", [], TensorProto.INT64), info("c", [], TensorProto.BOOL)], constants={"w": np.full(2, 3, F)})
    for count, choice in ((0, True), (5, True), (5, False)):
        graph = check(model, {"x": random(2), "n": np.array(count), "c": np.array(choice)}, by="ort")
    verify(graph.copy())


def test_iteration_numbers_may_be_vectors_of_one(make, op, info, check, random):
    body = sums(op)
    body.input[0].CopyFrom(info("i", [1], TensorProto.INT64))
    model = make([op("Loop", ["n", "", "x"], ["y"], body=body)], [info("x", [2]), info("n", [1], TensorProto.INT64)])
    x = random(2)
    check(model, {"x": x, "n": np.array([3])}, by=[4 * x])


@pytest.mark.parametrize("first", [0, 1])
def test_parts_that_move_with_the_iteration(make, op, info, check, random, first):
    """x[i + first : i + first + 2]; behind the end it is an index out of range."""
    axis = np.array([0], np.int64)
    body = body_of([op("Unsqueeze", "i axis", "at"), op("Add", "at first", "start"), op("Add", "two start", "end"),
                    op("Slice", "x start end axis", "part"), op("Add", "sum part", "more"), op("Identity", "going", "on")],
                   *SUMS, {"axis": axis, "first": np.int64(first), "two": np.array([2], np.int64)})
    model = make([op("Loop", ["n", "", "z"], ["y"], body=body)],
                 [info("x", [5, 3]), info("z", [2, 3]), info("n", [], TensorProto.INT64)])
    x, z = random(5, 3), random(2, 3)
    graph = check(model, {"x": x, "z": z, "n": np.array(3)}, by="ort")
    assert "gather" in ops_of(graph.nodes[0].regions[0])


@pytest.mark.parametrize("first", [True, False])
def test_a_first_condition_of_the_run_is_heeded_where_the_body_ends_by_itself(make, op, info, check, random, first):
    """Without a trip count the iterations could be counted while importing, were it not for the first condition."""
    body = body_of([op("Less", "i three", "on"), op("Add", "sum x", "more")], *SUMS, {"three": np.int64(3)})
    model = make([op("Loop", ["", "c", "x"], ["y"], body=body)], [info("x", [2]), info("c", [], TensorProto.BOOL)])
    assert ops_of(check(model, {"x": random(2), "c": np.array(first)}, by="ort")) == ["loop"]


def test_a_loop_that_may_end_before_its_counter_does_has_room_for_what_the_counter_allows(make, op, info, check):
    """`while i < 4 and top < 9`, as decoders are written that stop at a token."""
    names = ["i", "going", "n", "x"], ["on", "more", "twice", "rows"]
    body = body_of([op("Add", "n one", "more"), op("Add", "x x", "twice"), op("Identity", "twice", "rows"), op("ReduceMax", "twice", "top", keepdims=0),
                    op("Less", "top nine", "small"), op("Less", "more four", "few"), op("And", "few small", "on")], *names,
                   {"one": np.int64(1), "four": np.int64(4), "nine": F(9)})
    body.input[2].CopyFrom(info("n", [], TensorProto.INT64))
    model = make([op("Loop", ["", "", "zero", "x"], ["count", "y", "z"], body=body)], [info("x", [2])], ["count", "y", "z"], {"zero": np.int64(0)})
    for largest, rounds in ((1, 4), (3, 2)):
        graph = check(model, {"x": np.array([0, largest], F)}, by="ort")
        assert str(graph.outputs[0].type) == "i64[]" and graph.outputs[2].type.max_dims == (4, 2)
        assert execute(graph, {"x": np.array([0, largest], F)})["z"].shape == (rounds, 2)
