"""Binding of dynamic dims by shapes, arrays, shared names and defaults."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model, import_model_with_report
from edgecc.frontend.bind import Range


@pytest.fixture
def model_with(make, op):
    """model_with(a=[dims], b=[dims]): returns every input as it is."""
    def build(**inputs):
        nodes = [op("Relu", name, f"y_{name}") for name in inputs]
        return make(nodes, inputs, [f"y_{name}" for name in inputs])
    return build


def types(model, **arguments):
    graph = import_model(model, **arguments)
    return {name: value.type.dims for name, value in zip(graph.input_names, graph.inputs, strict=True)}


def types_as_text(model, **arguments):
    graph = import_model(model, **arguments)
    return {name: str(value.type) for name, value in zip(graph.input_names, graph.inputs, strict=True)}


def refused(code, model, **arguments):
    with pytest.raises(EdgeccError) as caught:
        import_model(model, **arguments)
    assert caught.value.code == code, caught.value
    return caught.value


def f32(*shape):
    return np.zeros(shape, np.float32)


def test_fixed_shapes_need_nothing(model_with):
    assert types(model_with(a=[2, 3])) == {"a": (2, 3)}


def test_shapes_bind_by_input_name(model_with):
    assert types(model_with(a=["h", "w"]), shapes={"a": (4, 5)}) == {"a": (4, 5)}


def test_shapes_bind_by_the_name_of_a_dim(model_with):
    assert types(model_with(a=[2, "w"], b=["w"]), shapes={"w": (5,)}) == {"a": (2, 5), "b": (5,)}


def test_arrays_bind_and_dims_of_one_name_are_one(model_with):
    assert types(model_with(a=["s", 2], b=[3, "s"]), inputs={"a": f32(7, 2)}) == {"a": (7, 2), "b": (3, 7)}


def test_sums_of_names_follow(model_with):
    bound = types(model_with(a=["past", 2], b=["past + seq"], c=["seq"], d=["past+seq - 1"]), shapes={"a": (7, 2), "c": (3,)})
    assert bound == {"a": (7, 2), "b": (10,), "c": (3,), "d": (9,)}


@pytest.mark.parametrize("shapes", [{"total": ("past + 2*seq",), "past": (Range(0, 4),), "seq": (Range(1, 3),)},
                                    {"b": (1, "past+seq+seq"), "seq": (Range(1, 3),), "past": (Range(0, 4),)}])
def test_a_dim_may_follow_from_others(model_with, shapes):
    bound = types_as_text(model_with(a=["past", 2], b=[1, "total"], c=["seq"]), shapes=shapes)
    assert bound == {"a": "f32[past:0..4,2]", "b": "f32[1,past:0..4 + 2*seq:1..3]", "c": "f32[seq:1..3]"}


def test_a_dim_may_be_called_like_a_weight(make, op):
    found = make([op("Add", "a s", "y")], {"a": ["s", 2]}, constants={"s": np.ones(2, np.float32)})
    assert types(found, shapes={"s": (7,)}) == {"a": (7, 2)}


def test_dims_may_follow_from_what_follows(model_with):
    bound = types(model_with(a=["x"], b=["y"], c=["z"]), shapes={"x": ("y + 1",), "y": ("z",), "z": (3,)})
    assert bound == {"a": (4,), "b": (3,), "c": (3,)}


@pytest.mark.parametrize("shapes, why", [({"total": ("past + sqe",), "past": (3,), "seq": (1,)}, "'sqe' is no dimension"),
                                         ({"total": ("past", )}, "without a size"), ({"total": ("total + 1",), "past": (1,), "seq": (1,)}, "without a size"),
                                         ({"total": ("past",), "past": (3,), "b": (4,), "seq": (1,)}, "is 4 by")])
def test_a_dim_that_follows_from_nothing_is_refused(model_with, shapes, why):
    with pytest.raises(EdgeccError, match=why) as caught:
        import_model(model_with(a=["past"], b=["total"], c=["seq"]), shapes=shapes)
    assert caught.value.code in ("E001", "E104")


@pytest.mark.parametrize("name", ["?", "-1", "None"])
def test_what_exporters_write_for_any_dimension_is_no_name(model_with, name):
    assert types(model_with(a=[name, 3, name, name]), shapes={"a": (2, 3, 4, 5)}) == {"a": (2, 3, 4, 5)}


@pytest.mark.parametrize("name", ["batch", "batch_size", "N", "B", "unk__12", "input_batch", "Batch", "dynamic_axes_1",
                                  "p2o.DynamicDimension.0", None])
def test_leading_batch_dims_default_to_one(model_with, name):
    graph, report = import_model_with_report(model_with(a=[name, 3]))
    assert graph.inputs[0].type.dims == (1, 3)
    assert len(report.notes) == 1
    assert "1" in report.notes[0]


def test_the_default_reaches_other_inputs_of_that_name(model_with):
    graph, report = import_model_with_report(model_with(a=["batch", 3], b=[2, "batch"]))
    assert graph.inputs[1].type.dims == (2, 1)
    assert report.dims == {"batch": 1}


def test_given_sizes_win_over_the_default(model_with):
    assert types(model_with(a=["batch", 3], b=["batch"]), shapes={"b": (6,)}) == {"a": (6, 3), "b": (6,)}


def test_unbound_dims_are_all_named_with_the_flags_to_give(model_with):
    error = refused("E104", model_with(ids=[1, "seq"], types=[1, "seq"], mask=["batch", "seq", None], odd=["a b"], fine=[2]))
    assert [d.split(":")[0] for d in error.details] == ["ids", "types", "mask", "odd"]
    assert "--shape seq=<size> --shape mask=1x<seq>x<?> --shape odd=<a b>, or bounds" in error.hint


def test_names_within_sums_can_be_given(model_with):
    model = model_with(x=[1, "14*h", "past + w"])
    assert types(model, shapes={"h": (3,), "past": (2,), "w": (4,)}) == {"x": (1, 42, 6)}
    assert "--shape h=<size> --shape past=<size> --shape w=<size>," in refused("E104", model).hint


def test_an_input_without_a_shape_must_be_given_one(make, op, info):
    x = info("x", [1])
    x.type.tensor_type.ClearField("shape")
    model = make([op("Relu", "x", "y")], [x])
    assert "no shape" in refused("E104", model).details[0]
    assert types(model, shapes={"x": (3, 4)}) == {"x": (3, 4)}


@pytest.mark.parametrize(("arguments", "code", "said"), [
    ({"shapes": {"a": (2, 4)}, "inputs": {"a": f32(2, 3)}}, "E005", "given as 2x4 before"),
    ({"shapes": {"a": (2, 3, 1)}}, "E001", "3 dimensions"),
    ({"shapes": {"a": (-1, 3)}}, "E001", "negative"),
    ({"shapes": {"aa": (2, 3)}}, "E001", "neither an input nor a dimension"),
    ({"shapes": {"h": (2, 3)}}, "E001", "neither an input nor a dimension"),
    ({"shapes": {"a": (2, 3), "b": (4,)}}, "E001", "'h' is 2"),
    ({"shapes": {"h": (2,), "b": (4,)}}, "E001", "'h' is 2"),
    ({"inputs": {"a": f32(2, 4)}}, "E005", "fixes it to 3"),
    ({"inputs": {"a": f32(2)}}, "E005", "1 dimensions"),
    ({"inputs": {"x": f32(2, 3)}}, "E005", "no input 'x'"),
    ({"inputs": {"a": np.zeros((2, 3))}}, "E005", "float64"),
    ({"inputs": {"a": f32(2, 3), "b": f32(4)}}, "E005", "'h' is 2"),
    ({"shapes": {"c": (2,)}, "inputs": {"c": f32(3), "a": f32(2, 3)}}, "E005", "was given as 2"),
])
def test_contradictions(model_with, arguments, code, said):
    error = refused(code, model_with(a=["h", 3], b=["h"], c=[None]), **arguments)
    assert said in error.message
    assert error.exit_status == 2


def test_close_names_are_suggested(model_with):
    assert "'input'" in refused("E001", model_with(input=["h"]), shapes={"inputs": (1,)}).hint


def test_bound_shapes_are_within_limits(model_with):
    refused("E101", model_with(a=["h", "w"]), shapes={"a": (2**20, 2**20)})


def test_weights_that_are_also_inputs_are_constants(make, op, check):
    w = np.array([1.0, 2.0], np.float32)
    model = make([op("Add", "x w", "y")], {"x": [2], "w": [2]}, constants={"w": w}, ir_version=3)
    graph = check(model, {"x": np.ones(2, np.float32)}, by=[np.array([2.0, 3.0], np.float32)])
    assert graph.input_names == ["x"]
    assert import_model(model, inputs={"x": w, "w": w}).input_names == ["x"]
    assert "weights" in refused("E005", model, inputs={"w": w + 1}).hint


@pytest.mark.parametrize("code", [TensorProto.COMPLEX128, TensorProto.COMPLEX64])
def test_inputs_of_other_types_are_unsupported(make, op, info, code):
    model = make([op("Relu", "x", "y")], [info("x", [2]), info("s", [2], code)])
    assert "s (input)" in refused("E105", model, shapes={"s": (2,)}).details[0]


def test_two_inputs_of_one_name(make, op, info):
    refused("E102", make([op("Relu", "x", "y")], [info("x", [2]), info("x", [2])]))


def with_constants(model, **constants):
    graph, _ = import_model_with_report(model, constants={name: np.asarray(value) for name, value in constants.items()})
    return graph


def test_inputs_that_never_change_are_compiled_in(make, op):
    graph = with_constants(make([op("Add", "a b", "y")], {"a": [2, 3], "b": [2, 3]}), b=4)
    assert graph.input_names == ["a"]
    (node,) = graph.nodes
    assert node.operand(1).constant.tolist() == [[4.0] * 3] * 2
    assert with_constants(make([op("Add", "a b", "y")], {"a": ["n", 3], "b": ["n"]}), b=[1.0, 2.0, 3.0]).inputs[0].type.dims == (3, 3)


@pytest.mark.parametrize(("constants", "words"), [
    ({"c": 1}, "no input of the model"), ({"k": 2.5}, "does not hold 2.5"), ({"k": 300}, "does not hold 300"), ({"a": "text"}, "does not hold such")])
def test_constants_fit_the_input(make, op, info, constants, words):
    model = make([op("Cast", "k", "f", to=TensorProto.FLOAT), op("Add", "a f", "y")], [info("a", [2]), info("k", [2], TensorProto.INT8)])
    with pytest.raises(EdgeccError, match=words) as caught:
        with_constants(model, **constants)
    assert caught.value.code == "E001"


def test_a_branch_that_does_not_fit_asks_for_the_value_that_decides(make, op, info):
    def branch(name, rows):
        w = helper.make_tensor(f"w{name}", TensorProto.FLOAT, [rows, 2], [0.5] * (rows * 2))
        return helper.make_graph([op("MatMul", f"x w{name}", f"r{name}")], name, [], [helper.make_empty_tensor_value_info(f"r{name}")], [w])
    model = make([op("If", "c", "y", then_branch=branch("t", 4), else_branch=branch("e", 3))], [info("x", [1, 4]), info("c", [], TensorProto.BOOL)])
    with pytest.raises(EdgeccError) as caught:
        import_model(model)
    assert "--constant c=VALUE" in caught.value.hint
    assert with_constants(model, c=True).input_names == ["x"]
