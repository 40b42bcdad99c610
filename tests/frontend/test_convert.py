"""The walk over the nodes: order, names, functions, control flow, folding, and the report of what is unsupported."""

import numpy as np
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from edgecc.errors import EdgeccError
from edgecc.frontend import Limits, import_model, import_model_with_report
from edgecc.pipeline import default_graph_passes, run_passes
from edgecc.reference.executor import execute


def refused(code, *arguments, **keywords):
    with pytest.raises(EdgeccError) as caught:
        import_model(*arguments, **keywords)
    assert caught.value.code == code, caught.value
    return caught.value


F = np.float32


# -- structure --------------------------------------------------------------------------------


def test_unsorted_nodes_are_sorted(make, op, check, random):
    model = make([op("Exp", "a", "y"), op("Neg", "x", "a")], {"x": [3]})
    x = random(3)
    check(model, {"x": x}, by=[np.exp(-x)])


def test_cycles_are_named(make, op):
    model = make([op("Add", "x b", "a", name="first"), op("Relu", "a", "b", name="second")], {"x": [3]}, ["b"])
    message = refused("E102", model).message
    assert "cycle" in message
    assert "first" in message and "second" in message


def test_undefined_names(make, op):
    error = refused("E102", make([op("Add", "x ghost", "y")], {"x": [3]}))
    assert "'ghost'" in error.message and "Add_0" in error.where


@pytest.mark.parametrize("nodes", [["x a", "x a"], ["x x"], ["x w"]])
def test_names_defined_twice(make, op, nodes):
    made = [op("Relu", *text.split()) for text in nodes]
    refused("E102", make([*made, op("Neg", made[0].output[0], "y")], {"x": [3]}, constants={"w": np.ones(3, F)}))


def test_initializers_of_one_name(make, op):
    model = make([op("Add", "x w", "y")], {"x": [3]}, constants={"w": np.ones(3, F)})
    model.graph.initializer.append(model.graph.initializer[0])
    refused("E102", model)


def test_dead_nodes_do_not_matter(make, op, ops_of):
    model = make([op("ImageDecoder", "ghost", "dead"), op("Relu", "x", "y")], {"x": [3]})
    assert ops_of(model) == ["elementwise"]


def test_long_chains_are_no_recursion(make, op):
    nodes = [op("Relu", f"v{i}", f"v{i + 1}") for i in range(3000)]
    assert len(import_model(make(nodes[::-1], {"v0": [2]}, ["v3000"]))) == 3000


# -- interface --------------------------------------------------------------------------------


def test_names_of_inputs_and_outputs_are_kept(make, op):
    graph = import_model(make([op("Relu", ["in put/0"], ["out:0"])], {"in put/0": [2], "unused": [3]}, ["out:0"]))
    assert graph.input_names == ["in put/0", "unused"]
    assert graph.output_names == ["out:0"]


def test_nodes_know_the_users_nodes(make, op):
    graph = import_model(make([op("Relu", "x", "a", name="first"), op("Neg", "a", "y")], {"x": [2]}))
    assert [n.loc for n in graph.nodes] == [("first",), ("Neg_1",)]
    assert [n.output.name for n in graph.nodes] == ["a", "y"]


def test_outputs_may_be_inputs_constants_and_each_other(make, op, check, random):
    model = make([op("Identity", "x", "same"), op("Constant", [], "five", value_float=5.0), op("Relu", "x", "r")],
                 {"x": [3]}, ["x", "same", "five", "w", "r", "r"], constants={"w": np.ones(2, F)})
    x = random(3)
    relu = np.maximum(x, 0)
    graph = check(model, {"x": x}, by=[x, x, np.array(5, F), np.ones(2, F), relu, relu])
    assert graph.output_names == ["x", "same", "five", "w", "r", "r_2"]
    _, report = import_model_with_report(model)
    assert any("returned twice" in note for note in report.notes)


def test_a_model_without_nodes(make):
    assert execute(import_model(make([], {"x": [2]}, ["x"])), {"x": np.ones(2, F)})["x"].tolist() == [1, 1]


def test_outputs_that_differ_from_their_declaration_are_noted(make, op, info):
    model = make([op("Relu", "x", "y")], {"x": [2, 3]}, [info("y", [2, 4])])
    assert "not what the model declares" in import_model_with_report(model)[1].notes[0]
    model = make([op("Relu", "x", "y")], {"x": [2, 3]}, [info("y", ["n", 3])])
    assert import_model_with_report(model)[1].notes == ()


def test_hostile_names_are_printed_harmlessly(make, op):
    bad = "*/ \x1b[31m\n%s"
    error = refused("E105", make([op("Bogus", [bad, "x"], ["y"], name=bad)], {bad: [1, 1, 4], "x": [1, 1, 1]}))
    assert "\x1b" not in str(error) and "\n%s" not in str(error)


# -- folding ----------------------------------------------------------------------------------


def test_chains_over_shapes_vanish(make, op, ops_of):
    nodes = [op("Shape", "x", "s"), op("Gather", "s zero", "n", axis=0), op("Unsqueeze", "n zero1", "n1"),
             op("Concat", "n1 minus", "shape", axis=0), op("Reshape", "x shape", "y")]
    constants = {"zero": np.int64(0), "zero1": np.array([0]), "minus": np.array([-1])}
    assert ops_of(make(nodes, {"x": ["n", 3, 4]}, constants=constants), shapes={"x": (2, 3, 4)}) == ["reshape"]


def test_large_constants_stay_when_the_budget_is_spent(make, op, ops_of):
    model = make([op("Exp", "w", "e"), op("Add", "x e", "y")], {"x": [300, 300]}, constants={"w": np.zeros((300, 300), F)})
    assert ops_of(model) == ["elementwise"]
    assert ops_of(model, limits=Limits(folding_work=1000)) == ["elementwise", "elementwise"]


@pytest.mark.parametrize(("nodes", "constants"), [
    ([("Expand", "one s", "y")], {"one": np.ones(1, F), "s": np.array([2**20, 2**20])}),
    ([("ConstantOfShape", "s", "y")], {"s": np.array([2**40])}),
    ([("Tile", "one s", "y")], {"one": np.ones((4, 4), F), "s": np.array([2**20, 2**20])}),
    ([("Range", "a b c", "y")], {"a": np.int64(0), "b": np.int64(2**62), "c": np.int64(1)}),
    ([("Pad", "one s", "y")], {"one": np.ones(1, F), "s": np.array([0, 2**40])}),
    ([("OneHot", "i s v", "y")], {"i": np.zeros(9, np.int64), "s": np.int64(2**50), "v": np.zeros(2, F)}),
    ([("Expand", "x s", "y")], {"s": np.array([2**20, 2**20, 1])}),
])
def test_small_models_that_ask_for_much_are_refused(make, op, nodes, constants):
    refused("E101", make([op(*n) for n in nodes], {"x": [1]}, constants=constants))


def test_other_limits(make, op):
    model = make([op("Relu", "x", "a"), op("Neg", "a", "y")], {"x": [2, 3]})
    refused("E101", model, limits=Limits(nodes=1))
    refused("E101", model, limits=Limits(rank=1))
    refused("E101", model, limits=Limits(elements=5))
    refused("E101", make([op("Sum", ["x"] * 10_001, "y")], {"x": [2]}))
    many = make([op("Split", "x", [f"y{i}" for i in range(50)], axis=0, num_outputs=50)], {"x": [50]}, ["y0"])
    refused("E101", many, limits=Limits(nodes=10))


# -- control flow -----------------------------------------------------------------------------


def branch(name, nodes, output, constants=None):
    stored = [numpy_helper.from_array(np.asarray(c), n) for n, c in (constants or {}).items()]
    return helper.make_graph(nodes, name, [], [helper.make_empty_tensor_value_info(output)], stored)


def test_an_if_that_is_known_becomes_its_branch(make, op, check, ops_of, random):
    """The other branch holds an operator that is not supported, and a branch reads names from outside."""
    inner = op("If", "flag", "t", then_branch=branch("t2", [op("Add", "x w", "deep")], "deep", {"w": np.full(2, 3, F)}),
               else_branch=branch("e2", [op("Bogus", "x", "deep")], "deep"))
    outer = op("If", "cond", "y", then_branch=branch("t1", [inner], "t"), else_branch=branch("e1", [op("Bogus", "x", "t")], "t"))
    nodes = [op("Shape", "x", "s"), op("Size", "s", "rank"), op("Equal", "rank one", "cond"), outer]
    model = make(nodes, {"x": ["n"]}, constants={"one": np.int64(1), "flag": np.array([True])})
    x = random(2)
    check(model, {"x": x}, by=[x + 3])
    assert ops_of(model, shapes={"x": (2,)}) == ["elementwise"]


def test_nesting_is_bounded(make, op):
    inner = [op("Neg", "x", "t")]
    for depth in range(5):
        inner = [op("If", "c", "t", then_branch=branch(f"t{depth}", inner, "t"), else_branch=branch(f"e{depth}", [op("Abs", "x", "t")], "t"))]
    inner[0].output[0] = "y"
    model = make(inner, {"x": [2]}, constants={"c": np.array(True)})
    assert len(import_model(model)) == 1
    refused("E101", model, limits=Limits(nesting=5))


def loop_body(nodes, inputs, outputs, constants=None):
    stored = [numpy_helper.from_array(np.asarray(c), n) for n, c in (constants or {}).items()]
    empty = helper.make_empty_tensor_value_info
    return helper.make_graph(nodes, "body", [empty(i) for i in inputs], [empty(o) for o in outputs], stored)


def test_loops_of_known_length_are_written_out(make, op, check, random):
    """Sums of powers: carried value, collected value, iteration number and a name from outside."""
    body = loop_body([op("Identity", "going", "on"), op("Mul", "power x", "next"), op("Cast", "i", "f", to=1),
                      op("Add", "next f", "out")], ["i", "going", "power"], ["on", "next", "out"])
    model = make([op("Loop", ["trips", "", "one"], ["last", "all"], body=body)], {"x": [2]}, ["last", "all"],
                 constants={"trips": np.int64(4), "one": np.ones(2, F)})
    x = random(2)
    powers = [x ** (i + 1) for i in range(4)]
    check(model, {"x": x}, by=[powers[-1], np.stack([p + i for i, p in enumerate(powers)]).astype(F)])


def test_loops_end_when_their_condition_says_so(make, op, check):
    body = loop_body([op("Less", "i two", "on"), op("Add", "sum x", "more")], ["i", "going", "sum"], ["on", "more"],
                     {"two": np.int64(2)})
    model = make([op("Loop", ["", "true", "x"], ["y"], body=body)], {"x": [1]}, constants={"true": np.array(True)})
    check(model, {"x": np.ones(1, F)}, by=[np.array([4], F)])


@pytest.mark.parametrize("backwards", [0, 1])
def test_scans_are_written_out(make, op, check, random, backwards):
    body = loop_body([op("Add", "state row", "next"), op("Identity", "next", "out")], ["state", "row"], ["next", "out"])
    scan = op("Scan", "start x", "last sums", body=body, num_scan_inputs=1, scan_input_axes=[1], scan_input_directions=[backwards],
              scan_output_axes=[-1], scan_output_directions=[backwards])
    model = make([scan], {"start": [2], "x": [2, 3]}, ["last", "sums"])
    check(model, {"start": random(2), "x": random(2, 3)}, by="ort")


@pytest.mark.parametrize("backwards", [0, 1])
def test_scans_of_opset_8_run_over_the_members_of_a_batch(make, op, check, random, backwards):
    body = loop_body([op("Add", "state row", "next"), op("Identity", "next", "out")], ["state", "row"], ["next", "out"])
    scan = op("Scan", ["", "start", "x"], "last sums", body=body, num_scan_inputs=1, directions=[backwards])
    model = make([scan], {"start": [3, 2], "x": [3, 4, 2]}, ["last", "sums"], opset=8)
    check(model, {"start": random(3, 2), "x": random(3, 4, 2)}, by="ort")


def test_sequences_and_optionals_are_resolved(make, op, check, random):
    nodes = [op("SplitToSequence", "x", "rows", axis=0, keepdims=0), op("SequenceAt", "rows last", "b"),
             op("SequenceInsert", "rows b first", "more"), op("SequenceErase", "more last", "fewer"),
             op("SequenceLength", "fewer", "n"), op("ConcatFromSequence", "fewer", "stacked", axis=0, new_axis=1),
             op("Optional", "stacked", "maybe"), op("OptionalHasElement", "maybe", "has"), op("OptionalGetElement", "maybe", "y")]
    model = make(nodes, {"x": [3, 2]}, ["y", "n", "has"], constants={"last": np.int64(-1), "first": np.int64(0)})
    x = random(3, 2)
    check(model, {"x": x}, by=[np.stack([x[2], x[0], x[1]]), np.int64(3), np.array(True)])


@pytest.mark.parametrize("position", [0, 2, -1])
def test_a_sequence_is_read_at_a_computed_position(make, op, check, random, position):
    nodes = [op("Neg", "x", "m"), op("SequenceConstruct", "x m x", "all"), op("SequenceInsert", "all x first", "more"), op("SequenceAt", "more p", "y")]
    model = make(nodes, {"x": [2], "p": []}, constants={"first": np.int64(1)})
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    check(model, {"x": random(2), "p": np.array(position)}, by="ort")


def test_tensors_of_several_shapes_are_not_read_at_a_computed_position(make, op):
    model = make([op("SequenceConstruct", "x p", "all"), op("SequenceAt", "all p", "y")], {"x": [2], "p": []})
    with pytest.raises(EdgeccError, match="not a constant"):
        import_model(model)


def test_a_sequence_is_returned_as_its_tensors(make, op):
    graph = import_model(make([op("SequenceConstruct", "x x", "y")], {"x": [2]}))
    assert graph.output_names == ["y_0", "y_1"]


# -- functions --------------------------------------------------------------------------------


def function(name, inputs, outputs, nodes, attributes=(), opset=22, defaults=()):
    return helper.make_function("f", name, inputs, outputs, nodes,
                                [helper.make_opsetid("", opset), helper.make_opsetid("f", 1)], attributes, list(defaults))


def refer(made, name, source):
    """Gives a node in a function body the attribute `source` of the function as its attribute `name`."""
    made.attribute.append(AttributeProto(name=name, ref_attr_name=source, type=AttributeProto.FLOAT))


def test_functions_of_the_model_are_inlined(make, op, check, random):
    leaky = op("LeakyRelu", "a", "b")
    refer(leaky, "alpha", "slope")
    inner = function("Inner", ["a"], ["b"], [leaky], ["slope"])
    call = op("Inner", "p", "q", domain="f")
    refer(call, "slope", "slope")
    outer = function("Outer", ["p"], ["r"], [call, op("Neg", "q", "r")], defaults=[helper.make_attribute("slope", 0.5)])
    nodes = [op("Outer", "x", "a", domain="f", name="one"), op("Outer", "a", "y", domain="f", name="two", slope=0.25)]
    model = make(nodes, {"x": [4]}, domains=[("f", 1)], functions=[outer, inner])
    check(model, {"x": random(4)}, by="ort")


def test_functions_that_call_themselves(make, op):
    f, g = (function(n, ["a"], ["b"], [op(o, "a", "b", domain="f")]) for n, o in (("F", "G"), ("G", "F")))
    assert "cycle" in refused("E102", make([op("F", "x", "y", domain="f")], {"x": [2]}, domains=[("f", 1)], functions=[f, g])).message


def test_functions_that_grow_without_bound(make, op):
    """Forty levels, each calling the one below twice: 2^40 nodes if it were tried."""
    made = [function(f"F{i}", ["a"], ["c"], [op(f"F{i + 1}", "a", "b", domain="f"), op(f"F{i + 1}", "b", "c", domain="f")])
            for i in range(24)]
    made.append(function("F24", ["a"], ["c"], [op("Neg", "a", "c")]))
    model = make([op("F0", "x", "y", domain="f")], {"x": [2]}, domains=[("f", 1)], functions=made)
    assert str(2**24) in refused("E101", model).message


def test_a_function_of_another_opset_is_converted(make, op, check, random):
    squeeze = function("S", ["a"], ["b"], [op("Squeeze", "a", "b", axes=[0])], opset=12)
    model = make([op("S", "x", "y", domain="f")], {"x": [1, 3]}, opset=18, domains=[("f", 1)], functions=[squeeze])
    x = random(1, 3)
    check(model, {"x": x}, by=[x[0]])


def test_a_function_of_another_opset_that_means_the_same_is_taken_as_it_is(make, op, check, random):
    """A conversion would need the types of values between calls, which nothing states."""
    first, second = (function(name, ["a"], ["b"], [op("Add", "a a", "c"), op("Neg", "c", "b")], opset=21) for name in "PQ")
    model = make([op("P", "x", "z", domain="f"), op("Q", "z", "y", domain="f")], {"x": [3]}, opset=23, domains=[("f", 1)], functions=[first, second])
    check(model, {"x": random(3)}, by="ort")


def test_bodies_that_onnx_defines_are_inlined(make, op, check, random):
    """Attention has no converter of its own; its nodes stand for the user's node."""
    q, k, v = random(1, 2, 4, 8), random(1, 2, 6, 8), random(1, 2, 6, 8)
    model = make([op("Attention", "q k v", "y", name="att", is_causal=1)], {"q": q, "k": k, "v": v}, opset=23)
    graph = check(model, {"q": q, "k": k, "v": v})
    assert {n.loc for n in graph.nodes} == {("att",)}


# -- the report -------------------------------------------------------------------------------


def test_everything_unsupported_is_reported_at_once(make, op):
    """Also behind operators that are not supported."""
    nodes = [op("Bogus", "x", "u", name="first"), op("Relu", "u", "r"),
             op("Acme", "x", "a", domain="acme", name="own"), op("Neg", "a", "n"),
             op("Dropout", ["x", "", "yes"], ["d"], name="drop"), op("Conv", "d w", "c"),
             op("ImageDecoder", "x", "z", name="picture"), op("Bogus", "z g", "s", name="behind"), op("Softmax", "z", "m", axis=9),
             op("Bogus", "x", "q", name="bogus"), op("Upsample", "x x", "up", name="old")]
    model = make(nodes, {"x": [1, 2, 4, 4], "g": [1, 4, 4, 2], "w": [2, 2, 1, 1], "yes": np.array(True)},
                 ["r", "n", "c", "s", "q", "up"], domains=[("acme", 1)])
    error = refused("E105", model)
    assert [d.split(" ")[0] for d in error.details] == ["first", "own", "drop", "picture", "behind", "bogus", "old"]
    assert "acme.Acme" in error.message
    assert "training" in error.details[2]
    assert "no such operator" in error.details[5]


def test_what_depends_on_an_unsupported_node_is_not_blamed(make, op):
    """The shape that Reshape needs comes out of the unsupported node: only that node is reported."""
    nodes = [op("Bogus", "x", "u", name="first"), op("Reshape", "x u", "y")]
    error = refused("E105", make(nodes, {"x": np.zeros(4, np.int64)}))
    assert len(error.details) == 1


def test_unsupported_comes_before_wrong_shapes(make, op):
    nodes = [op("MatMul", "x x", "m"), op("Bogus", "x", "u", name="first"), op("Add", "m u", "y")]
    refused("E105", make(nodes, {"x": [2, 3]}))
    error = refused("E110", make([op("MatMul", "x x", "y", name="product")], {"x": [2, 3]}))
    assert "product" in error.where


def test_quantized_operators_have_a_hint(make, op):
    q = [np.zeros((2, 2), np.uint8), F(1), np.uint8(0)]
    error = refused("E105", make([op("QLinearTanh", ["a", "as", "az"], "y", domain="com.microsoft")], {}, constants=dict(zip(["a", "as", "az"], q, strict=True))))
    assert "quantized" in error.details[0]
    assert "DequantizeLinear" in error.hint


@pytest.mark.parametrize(("made", "said"), [
    (("Relu", "x", "y", {"alpha": 1.0}), "alpha"),
    (("Softmax", "x", "y", {"axis": "1"}), "axis"),
    (("Conv", "x", "y", {}), "input"),
    (("Relu", "x x", "y", {}), "input"),
    (("Relu", "x", "y z", {}), "output"),
])
def test_nodes_that_break_the_rules_of_their_operator(make, op, made, said):
    *names, attributes = made
    assert said in refused("E102", make([op(*names, **attributes)], {"x": [2, 3]})).message.lower()


def test_weights_that_cannot_be_compiled_matter_only_where_they_are_read(make, op, ops_of):
    text = TensorProto(name="s", data_type=TensorProto.COMPLEX64, dims=[1], float_data=[1.0, 2.0])
    assert ops_of(make([op("Relu", "x", "y")], {"x": [2]}, constants={"s": text})) == ["elementwise"]
    error = refused("E105", make([op("Identity", "s", "t"), op("Relu", "x", "y")], {"x": [2]}, ["y", "t"], constants={"s": text}))
    assert "complex64" in error.details[0]


def test_indices_of_max_pool_matter_only_where_they_are_read(make, op, ops_of):
    pool = op("MaxPool", "x", "y i", kernel_shape=[2])
    graph = import_model(make([pool], {"x": [1, 1, 4]}))
    run_passes(graph, default_graph_passes())
    assert [n.op.name for n in graph.nodes] == ["pool"]
    assert set(ops_of(make([pool], {"x": [1, 1, 4]}, ["y", "i"]))) == {"pool", "max_position"}


def test_the_callers_model_is_not_changed(make, op):
    model = make([op("Neg", "a", "y"), op("Relu", "x", "a")], {"x": ["n"]})
    before = model.SerializeToString()
    import_model(model)
    assert model.SerializeToString() == before


def test_importing_is_deterministic(make, op):
    model = make([op("Split", "x", "a b", num_outputs=2), op("Add", "a b", "y")], {"x": [4]})
    first, second = (import_model(model) for _ in range(2))
    assert [(n.op, n.loc) for n in first.nodes] == [(n.op, n.loc) for n in second.nodes]
