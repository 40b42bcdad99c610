"""Dimensions left open: models import once, and agree with onnxruntime at the corners of the bounds and between."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgecc.cli.arguments import parse_shapes
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.frontend.bind import Range
from edgecc.ir.instance import graph_at, graph_symbols
from edgecc.ir.verify import verify
from edgecc.reference.executor import execute, sample_inputs
from tests.support import onnxruntime_sessions
from tests.support.onnx_models import model


def agrees(proto, shapes):
    """Imports with open dimensions; compares with onnxruntime for all combinations of small, odd and large sizes."""
    graph = import_model(proto, shapes=shapes)
    verify(graph)
    symbols = graph_symbols(graph)
    assert symbols
    session = onnxruntime_sessions.session(proto, optimized=True)
    choices = [sorted({s.lower, (s.lower + s.upper) // 2, s.upper}) for s in symbols]
    for chosen in itertools.product(*choices):
        sizes = {s.name: size for s, size in zip(symbols, chosen, strict=True)}
        inputs = sample_inputs(graph, 1, sizes)
        wanted = session.run(None, inputs)
        for got, want in zip(execute(graph, inputs).values(), wanted, strict=True):
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
        fixed, _ = graph_at(graph, sizes)
        verify(fixed)
        for got, want in zip(execute(fixed, inputs).values(), wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    return graph


INT = np.int64
ATTENTION = [
    ("Shape", "x", "s", {}), ("Gather", "s zero", "b", {}), ("Gather", "s one", "n", {}),
    ("Unsqueeze", "b axis", "b1", {}), ("Unsqueeze", "n axis", "n1", {}),
    ("Concat", "b1 n1 heads minus", "split", {"axis": 0}), ("Reshape", "x split", "h", {}),
    ("Transpose", "h", "q", {"perm": [0, 2, 1, 3]}), ("Transpose", "h", "k", {"perm": [0, 2, 3, 1]}),
    ("MatMul", "q k", "scores", {}), ("Softmax", "scores", "p", {"axis": -1}), ("MatMul", "p q", "z", {}),
    ("Transpose", "z", "t", {"perm": [0, 2, 1, 3]}), ("Concat", "b1 n1 minus", "merge", {"axis": 0}),
    ("Reshape", "t merge", "y", {}),
]
ATTENTION_CONSTANTS = {"zero": INT(0), "one": INT(1), "axis": np.array([0]), "heads": np.array([2]), "minus": np.array([-1])}


def test_attention():
    graph = agrees(model(ATTENTION, {"x": ["batch", "length", 8]}, constants=ATTENTION_CONSTANTS),
                   {"x": (Range(1, 3), Range(1, 7), 8)})
    assert [str(v.type) for v in graph.outputs] == ["f32[batch:1..3,length:1..7,8]"]


def test_a_name_opens_every_dimension_it_has():
    nodes = [("Concat", "a b", "c", {"axis": 1}), ("Relu", "c", "y", {})]
    graph = agrees(model(nodes, {"a": ["n", "past", 2], "b": ["n", "past + 1", 2]}), {"past": (Range(0, 4),), "n": (Range(1, 2),)})
    assert str(graph.outputs[0].type) == "f32[n:1..2,2*past:0..4 + 1,2]"


@pytest.mark.parametrize(("nodes", "dims", "constants"), [
    ([("Shape", "x", "s", {"end": 1}), ("Mod", "s four", "m", {}), ("Sub", "four m", "d", {}), ("Mod", "d four", "p", {}),
      ("Concat", "none p none s", "pads", {"axis": 0}), ("Pad", "x pads fill", "y", {})], ["n", 3],
     {"four": np.array([4]), "none": np.array([0]), "fill": np.float32(2.5)}),
    ([("STFT", "x step window", "s", {}), ("ReduceSum", "s axes", "y", {})], [1, "n", 1],
     {"step": INT(1), "window": np.float32([0.5]), "axes": np.array([3])}),
    ([("Slice", "x begin end axis", "y", {})], ["n", 3], {"begin": np.array([-2]), "end": np.array([9]), "axis": np.array([0])}),
    ([("Slice", "x begin end axis step", "y", {})], ["n", 3],
     {"begin": np.array([-1]), "end": np.array([-99]), "axis": np.array([0]), "step": np.array([-2])}),
    ([("Gather", "x last", "y", {"axis": 0})], ["n", 3], {"last": INT(-1)}),
    ([("Conv", "x w", "y", {"pads": [1, 1], "strides": [2]})], [1, 2, "n"], {"w": np.ones((3, 2, 3), np.float32)}),
    ([("MaxPool", "x", "y", {"kernel_shape": [2], "strides": [2]})], [1, 2, "n"], {}),
    ([("Shape", "x", "s", {}), ("Expand", "one s", "y", {})], ["n", 3], {"one": np.ones((1,), np.float32)}),
    ([("Size", "x", "s", {}), ("Range", "zero s two", "r", {}), ("Cast", "r", "y", {"to": 1})], ["n", 3],
     {"zero": INT(0), "two": INT(2)}),
    ([("Shape", "x", "s", {}), ("Cast", "s", "f", {"to": 1}), ("Mul", "f half", "y", {})], ["n", 3], {"half": np.float32(0.5)}),
    ([("Shape", "x", "s", {}), ("Equal", "s minus", "e", {}), ("Where", "e ones s", "w", {}), ("Reshape", "x w", "y", {})],
     ["n", 3], {"minus": INT(-1), "ones": np.array([1, 1])}),
    ([("Flatten", "x", "f", {"axis": 2}), ("ReduceMean", "f", "y", {"keepdims": 0})], ["n", 3, 2], {}),
    ([("Trilu", "x", "y", {"upper": 0})], ["n", "n"], {}),
    ([("Split", "x", "a y", {"axis": 0, "num_outputs": 2})], ["n", 3], {}),
    ([("Tile", "x twice", "y", {})], ["n", 3], {"twice": np.array([2, 3])}),
    ([("Shape", "x", "s", {}), ("Gather", "s zero", "n", {}), ("Cast", "n", "f", {"to": 1}), ("Range", "nil f one", "y", {})], ["n", 3],
     {"zero": INT(0), "nil": np.float32(0), "one": np.float32(1)}),
    ([("Shape", "x", "s", {}), ("Cast", "s", "f", {"to": 1}), ("Div", "f two", "h", {}), ("Ceil", "h", "c", {}), ("Cast", "c", "i", {"to": 7}),
      ("Expand", "one i", "y", {})], ["n", 3], {"two": np.float32(2), "one": np.ones((1,), np.float32)}),
    ([("Shape", "x", "s", {}), ("Cast", "s", "f", {"to": 1}), ("Div", "f two", "h", {}), ("Cast", "h", "i", {"to": 7}), ("Expand", "one i", "y", {})],
     ["n", 3], {"two": np.float32(2), "one": np.ones((1,), np.float32)}),
    ([("Shape", "x", "s", {}), ("ReduceProd", "s", "p", {"keepdims": 0}), ("Range", "zero p two", "r", {}), ("Cast", "r", "y", {"to": 1})],
     ["n", 3], {"zero": INT(0), "two": INT(2)}),
    ([("MaxPool", "x", "y", {"kernel_shape": [2], "strides": [2], "auto_pad": "SAME_UPPER"})], [1, 2, "n"], {}),
    ([("AveragePool", "x", "y", {"kernel_shape": [2], "strides": [2], "auto_pad": "SAME_UPPER"})], [1, 2, "n"], {}),
    ([("Conv", "x w", "y", {"strides": [2], "auto_pad": "SAME_UPPER"})], [1, 2, "n"], {"w": np.ones((3, 2, 2), np.float32)}),
    ([("ConvTranspose", "x w", "y", {"strides": [2], "auto_pad": "SAME_LOWER"})], [1, 3, "n"], {"w": np.arange(30, dtype=np.float32).reshape(3, 2, 5) / 30}),
    ([("Einsum", "x x", "y", {"equation": "ij,kj->ik"})], ["n", 3], {}),
    ([("Shape", "x", "s", {}), ("Gather", "s zero", "n", {"axis": 0}), ("Expand", "n three", "l", {}),
      ("ReverseSequence", "x l", "y", {"time_axis": 0, "batch_axis": 1})], ["n", 3], {"zero": np.array([0]), "three": np.array([3])}),
    ([("EyeLike", "x", "e", {"k": 1}), ("Add", "e x", "y", {})], ["n", 3], {}),
    ([("Dropout", "x", "z m", {}), ("Cast", "m", "y", {"to": 1})], ["n", 3], {}),
    ([("MaxPool", "x", "m i", {"kernel_shape": [2], "strides": [1], "pads": [1, 0]}), ("Cast", "i", "y", {"to": 1})], [1, 2, "n"], {}),
], ids=lambda case: "-".join(op for op, *_ in case) if isinstance(case, list) and case and isinstance(case[0], tuple) else "")
def test_shape_arithmetic(nodes, dims, constants):
    agrees(model(nodes, {"x": dims}, constants=constants), {"n": (Range(2, 9),)})


def test_labels_of_a_batch_of_any_size():
    """As converters of classifiers look them up."""
    nodes = [("ArgMax", "x", "i", {"axis": 1, "keepdims": 1}), ("ArrayFeatureExtractor", "labels i", "r", {"domain": "ai.onnx.ml"}), ("Identity", "r", "y", {})]
    proto = model(nodes, {"x": ["n", 3]}, constants={"labels": np.float32([3, 5, 7])})
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    agrees(proto, {"n": (Range(2, 9),)})


def test_transposed_convolutions_multiply_no_zeros_between_elements():
    """Two phases of 6 channels are 12 channels, by two taps of the four each."""
    node = ("ConvTranspose", "x w", "y", {"strides": [2], "pads": [1, 1]})
    graph = import_model(model([node], {"x": [1, 5, "n"]}, constants={"w": np.ones((5, 6, 4), np.float32)}), shapes={"n": (Range(2, 9),)})
    convolution = next(node for node in graph.nodes if node.op.name == "conv")
    assert convolution.inputs[0] is graph.inputs[0] and convolution.operand(1).type.shape == (12, 5, 2)


def test_a_question_mark_takes_the_models_size_or_the_limits_bound():
    graph = import_model(model([("Relu", "x", "y", {})], {"x": ["n", None, 3]}), shapes={"x": (Range(), Range(2, 5), Range())})
    assert str(graph.inputs[0].type) == 'f32[n:1..256,"x.1":2..5,3]'


@pytest.mark.parametrize(("nodes", "dims", "constants", "message"), [
    ([("Add", "x c", "y", {})], ["n", 3], {"c": np.ones((4, 3), np.float32)}, "do not broadcast"),
    ([("Reshape", "x s", "y", {})], ["n", 3], {"s": np.array([6, -1])}, "cannot be reshaped|not a multiple|3 elements"),
    ([("Shape", "x", "s", {}), ("CumSum", "x s", "y", {})], ["n"], {}, "depends on the dimension 'n'"),
])
def test_what_the_bounds_do_not_decide_is_refused(nodes, dims, constants, message):
    with pytest.raises(EdgeccError, match=message) as raised:
        import_model(model(nodes, {"x": dims}, constants=constants), shapes={"n": (Range(2, 9),)})
    assert raised.value.code in ("E104", "E110")


def test_sizes_outside_the_bounds_are_refused():
    graph = import_model(model([("Relu", "x", "y", {})], {"x": ["n", 3]}), shapes={"n": (Range(2, 5),)})
    with pytest.raises(EdgeccError, match="do not fit") as raised:
        execute(graph, {"x": np.zeros((6, 3), np.float32)})
    assert raised.value.code == "E005"


@pytest.mark.parametrize("shapes", [{"n": (Range(5, 2),)}, {"x": (2, Range(7, 4))}])
def test_bounds_that_contradict_are_refused(shapes):
    with pytest.raises(EdgeccError) as raised:
        import_model(model([("Relu", "x", "y", {})], {"x": ["n", 3]}), shapes=shapes)
    assert raised.value.code == "E001"


def test_a_dimension_may_be_open_in_steps():
    halved = model([("MaxPool", "x", "p", {"kernel_shape": [2, 2], "strides": [2, 2]}), ("Resize", "p none scales", "r", {}), ("Add", "x r", "y", {})],
                   {"x": [1, 1, "h", 4]}, constants={"none": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)})
    graph = import_model(halved, shapes={"h": (Range(4, 12, 4),)})
    assert str(graph.inputs[0].type) == 'f32[1,1,4*"h by 4":1..3,4]'
    assert import_model(halved, shapes={"h": (Range(2, 11, 4),)}).inputs[0].type.shape[2].evaluate({"h by 4": 2}) == 10
    with pytest.raises(EdgeccError, match="do not fit"):
        execute(graph, {"x": np.zeros((1, 1, 6, 4), np.float32)})
    with pytest.raises(EdgeccError) as raised:
        import_model(halved, shapes={"h": (Range(4, 12),)})
    assert raised.value.hint.endswith("in such steps: --shape h=4..12:2")


@pytest.mark.parametrize(("shapes", "flags"), [
    ({"x": (1, 1, Range(9, 50), 4)}, "x=1x1x12..48:4x4"), ({"x": (1, 1, Range(10, 50, 2), 4)}, "x=1x1x12..48:4x4"),
    ({"x": (1, 1, Range(8, 50, 2, "h"), 4)}, "x=1x1x8..48:4x4"), ({"x": (1, 1, Range(5, 7), 4)}, None)])
def test_the_step_that_a_network_needs_is_named(shapes, flags):
    """Two halvings: only heights and widths in steps of 4 join again."""
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [("MaxPool", "x", "p", pool), ("MaxPool", "p", "q", pool), ("Resize", "q none scales", "r", {}), ("Add", "x r", "y", {})]
    proto = model(nodes, {"x": [1, 1, None, None]}, constants={"none": np.zeros(0, np.float32), "scales": np.array([1, 1, 4, 4], np.float32)})
    with pytest.raises(EdgeccError) as raised:
        import_model(proto, shapes=shapes)
    assert raised.value.hint.endswith(f"in such steps: --shape {flags}") if flags else "--shape" not in raised.value.hint
    if flags:
        name, _, text = flags.partition("=")
        import_model(proto, shapes=parse_shapes([f"{name}={text}"]))


def test_the_step_fits_all_that_is_rounded():
    nodes = []
    for factor in (2, 3):
        pool = {"kernel_shape": [factor, 1], "strides": [factor, 1]}
        nodes += [("MaxPool", "x", f"p{factor}", pool), ("Resize", f"p{factor} none s{factor}", f"r{factor}", {})]
    proto = model([*nodes, ("Add", "r2 r3", "y", {})], {"x": [1, 1, "h", 4]},
                  constants={"none": np.zeros(0, np.float32), **{f"s{factor}": np.array([1, 1, factor, 1], np.float32) for factor in (2, 3)}})
    with pytest.raises(EdgeccError) as raised:
        import_model(proto, shapes={"h": (Range(8, 50),)})
    assert raised.value.hint.endswith("--shape h=12..48:6")


@pytest.mark.parametrize(("extra", "hint"), [((), "--shape q=p"), (("p",), "as in --shape total=past+seq")])
def test_dimensions_that_may_follow_from_others_are_named(extra, hint):
    """Keys and values of a cache whose lengths have different names."""
    nodes = [("Concat", "k x", "ks", {"axis": 0}), ("Concat", "v x", "vs", {"axis": 0}), ("Add", "ks vs", "y", {})]
    if extra:
        nodes[1:1] = [("Concat", "r x", "x2", {"axis": 0})]
        nodes[2] = ("Concat", "v x2", "vs", {"axis": 0})
    proto = model(nodes, {"x": ["s", 3], "k": ["p", 3], "v": ["q", 3], "r": ["p2", 3]})
    bounds = dict.fromkeys(("s", "p", "q", "p2"), (Range(1, 4),))
    with pytest.raises(EdgeccError) as raised:
        import_model(proto, shapes=bounds)
    assert raised.value.hint.endswith(hint)
    if not extra:
        import_model(proto, shapes={**bounds, "q": ("p",)})


def squeezing(then, condition="c"):
    """What exporters write for a squeeze: x without its axis 1 where that has one element, else x."""
    branches = {"then_branch": helper.make_graph([then], "t", [], [helper.make_empty_tensor_value_info("t")]),
                "else_branch": helper.make_graph([helper.make_node("Identity", ["x"], ["e"])], "e", [], [helper.make_empty_tensor_value_info("e")])}
    nodes = [("Shape", "x", "s", {}), ("Gather", "s one", "d", {}), ("Equal", "d one", "c", {}), ("Abs", "x", "data", {}), ("ReduceMax", "data", "m", {"keepdims": 0}),
             ("Cast", "m", "any", {"to": TensorProto.BOOL}), ("NonZero", "x", "p", {}), ("Shape", "p", "ps", {}), ("Gather", "ps one", "found", {}), ("Equal", "found one", "few", {}), ("If", condition, "r", branches), ("Relu", "r", "y", {})]
    return model(nodes, {"x": [2, "n", 3]}, constants={"one": INT(1), "axes": np.array([1]), "flat": np.array([2, -1])})


@pytest.mark.parametrize("then", [("Squeeze", "axes"), ("Reshape", "flat")])
def test_bounds_may_decide_a_branch(then):
    proto = squeezing(helper.make_node(then[0], ["x", then[1]], ["t"]))
    agrees(proto, {"n": (Range(2, 4),)})
    assert import_model(proto, shapes={"n": (1,)}).outputs[0].type.rank == 2
    with pytest.raises(EdgeccError) as raised:
        import_model(proto, shapes={"n": (Range(1, 4),)})
    assert raised.value.hint == "the run decides which branch is taken: give 'n' one size with --shape, or bounds that decide it"
    for data in ("any", "few"):  # no size helps here
        with pytest.raises(EdgeccError) as raised:
            import_model(squeezing(helper.make_node("Reshape", ["x", "flat"], ["t"]), data), shapes={"n": (Range(1, 4),)})
        assert "bounds that decide it" not in raised.value.hint


@pytest.mark.parametrize("size", [None, 4])
def test_dimensions_without_names_are_equal_where_the_user_names_them_alike(size):
    """Also in place of a size that the file fixes."""
    proto = model([("Add", "a b", "y", {})], {"a": [size, 3], "b": [size, 3]})
    with pytest.raises(EdgeccError, match="do not broadcast"):
        import_model(proto, shapes={"a": (Range(2, 4), 3), "b": (Range(2, 4), 3)})
    graph = import_model(proto, shapes={"a": (Range(2, 4, name="n"), 3), "b": (Range(2, 4, name="n") if size else Range(name="n"), 3)})
    assert str(graph.outputs[0].type) == "f32[n:2..4,3]"


def counted(extra=(), trips="", last="goes"):
    """A loop over the first axis of x [n,3] that sums rows and collects the sums, as exporters of loops with conditions write it."""
    body = helper.make_graph([
        helper.make_node("Gather", ["x", "i"], ["row"]), helper.make_node("Add", ["sum", "row"], ["more"]), helper.make_node("Identity", ["more"], ["out"]),
        helper.make_node("Add", ["i", "one"], ["next"]), helper.make_node("Cast", ["next"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["bound"], ["g"], to=TensorProto.FLOAT), helper.make_node("Less", ["f", "g"], ["goes"]), *extra],
        "body", [helper.make_tensor_value_info("number", TensorProto.INT64, []), helper.make_tensor_value_info("so", TensorProto.BOOL, []),
                 helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("bound", TensorProto.INT64, []),
                 helper.make_tensor_value_info("sum", TensorProto.FLOAT, [3])],
        [helper.make_empty_tensor_value_info(name) for name in (last, "next", "bound", "more", "out")])
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Gather", ["s", "zero"], ["n"]), helper.make_node("Less", ["zero", "n"], ["first"]),
             helper.make_node("Loop", [trips, "first", "zero", "n", "start"], ["a", "b", "c", "rows"], body=body), helper.make_node("Add", ["rows", "x"], ["y"])]
    constants = {"zero": INT(0), "one": INT(1), "start": np.zeros(3, np.float32), "many": INT(100)}
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])], [helper.make_empty_tensor_value_info("y")],
                              [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()])
    graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("proto", [
    counted(), counted(trips="many"),
    counted(extra=[helper.make_node("Less", ["number", "bound"], ["below"]), helper.make_node("And", ["goes", "below"], ["both"])], last="both")])
def test_loops_that_count_up_to_a_size_collect_as_many_rows(proto):
    graph = agrees_where_regions_are(proto, {"n": (Range(2, 6),)})
    assert str(graph.outputs[0].type) == "f32[n:2..6,3]"


def test_rows_of_loops_that_data_ends_are_as_many_as_nobody_knows():
    """The counter bounds them, but they are no operand for what has as many rows as the counter says."""
    proto = counted(extra=[helper.make_node("ReduceSum", ["more"], ["t"], keepdims=0), helper.make_node("Less", ["t", "g"], ["low"]),
                           helper.make_node("And", ["goes", "low"], ["both"])], last="both")
    with pytest.raises(EdgeccError, match=r"sizes rows:0\.\.6 and n:2\.\.6"):
        import_model(proto, shapes={"n": (Range(2, 6),)})


def agrees_where_regions_are(proto, shapes):
    """`agrees`, without graphs of fixed sizes, which are not made of regions."""
    graph = import_model(proto, shapes=shapes)
    verify(graph)
    session = onnxruntime_sessions.session(proto, optimized=True)
    for size in (2, 3, 6):
        inputs = sample_inputs(graph, 1, {"n": size})
        (got,), (want,) = execute(graph, inputs).values(), session.run(None, inputs)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    return graph


def test_branches_that_return_one_number_in_different_ranks():
    then = helper.make_graph([helper.make_node("Neg", ["x"], ["t"])], "then", [], [helper.make_empty_tensor_value_info("t")])
    orelse = helper.make_graph([helper.make_node("ReduceSum", ["x"], ["e"], keepdims=0)], "else", [], [helper.make_empty_tensor_value_info("e")])
    graph = import_model(helper.make_model(helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=orelse)], "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, []), helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_empty_tensor_value_info("y")]), opset_imports=[helper.make_opsetid("", 18)], ir_version=10))
    for condition, want in ((True, -3.0), (False, 3.0)):
        (got,) = execute(graph, {"c": np.array(condition), "x": np.array([3], np.float32)}).values()
        np.testing.assert_array_equal(got, [want])


@pytest.mark.parametrize("nodes", [[("RandomNormalLike", "x", "y", {"seed": 3.0})], [("RandomUniformLike", "x", "y", {"low": 2.0, "high": 5.0})],
                                   [("Multinomial", "x", "i", {"sample_size": 2}), ("Cast", "i", "y", {"to": 1})]])
def test_random_numbers_of_an_open_size_are_the_first_of_the_largest(nodes):
    graph = import_model(model(nodes, {"x": ["n", 3]}), shapes={"n": (Range(1, 5),)})
    x = np.tile(np.float32([-90, 0, 0.3]), (5, 1))
    (few,), (most,) = (execute(graph, {"x": x[:count]}).values() for count in (2, 5))
    assert few.shape[0] == 2 and most.shape[0] == 5 and np.array_equal(few, most[:2]) and len(np.unique(most)) > 1


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("axis", [2, 1])
def test_a_cache_of_open_sizes_is_written(mode, axis):
    """Each batch begins at a place of its own."""
    cache, update = (["n", 2, size, 4] if axis == 2 else ["n", size, 2, 4] for size in ("c", "s"))
    types = {"p": (TensorProto.FLOAT, cache), "u": (TensorProto.FLOAT, update), "w": (TensorProto.INT64, ["n"])}
    graph = helper.make_graph([helper.make_node("TensorScatter", ["p", "u", "w"], ["y"], mode=mode, axis=axis)], "g",
                              [helper.make_tensor_value_info(name, *type_) for name, type_ in types.items()], [helper.make_tensor_value_info("y", TensorProto.FLOAT, cache)])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    compiled, random = import_model(proto, shapes={"n": (Range(1, 3),), "s": (Range(1, 3),), "c": (Range(5, 9),)}), np.random.default_rng(0)
    for n, s, c in ((1, 1, 5), (3, 2, 9), (2, 3, 6)):
        sizes = {"n": n, "s": s, "c": c}
        given = {name: random.standard_normal([sizes.get(dim, dim) for dim in dims], dtype=np.float32) for name, dims in (("p", cache), ("u", update))}
        given["w"] = random.integers(0, c if mode == "circular" else c - s + 1, n)
        np.testing.assert_array_equal(execute(compiled, given)["y"], ReferenceEvaluator(proto).run(None, given)[0])
