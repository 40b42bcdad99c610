"""Models whose ends have no fixed shapes: what is in front of these is quantized, and they stay word for word."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.quantization.accuracy import Goal
from edgecc.quantization.driver import quantize
from edgecc.quantization.observe import finisher
from edgecc.quantization.prepare import BYTES_OPSET, prepared
from edgecc.quantization.scheme import Scheme
from edgecc.reference.executor import execute
from tests.quantization.networks import samples
from tests.support.onnxruntime_sessions import run

BOXES = (TensorProto.FLOAT, ["found", 4])


pytestmark = pytest.mark.usefixtures("no_compiler")


def detector(end, outputs, *, opset=11, constants=()):
    """conv, relu, and a conv each for boxes [1,16,4] and scores [1,1,16], then the nodes `end`; nodes have no names."""
    rng = np.random.default_rng(3)
    stored = {"w1": rng.standard_normal((8, 3, 3, 3)) / 5, "w2": rng.standard_normal((4, 8, 1, 1)) / 3, "w3": rng.standard_normal((1, 8, 1, 1)) / 3}
    stored = {name: array.astype(np.float32) for name, array in stored.items()}
    stored |= {"s2": np.array([0, 4, -1]), "s3": np.array([0, 1, -1]), "most": np.array([5]), "overlap": np.array([0.5], np.float32),
               "one": np.array(1), **dict(constants)}
    nodes = [helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 4, strides=[2, 2]), helper.make_node("Relu", ["a"], ["b"]),
             helper.make_node("Conv", ["b", "w2"], ["c"]), helper.make_node("Conv", ["b", "w3"], ["d"]), helper.make_node("Sigmoid", ["d"], ["e"]),
             helper.make_node("Reshape", ["c", "s2"], ["f"]), helper.make_node("Transpose", ["f"], ["boxes"], perm=[0, 2, 1]),
             helper.make_node("Reshape", ["e", "s3"], ["scores"]), *end]
    graph = helper.make_graph(nodes, "detector", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
                              [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
                              [numpy_helper.from_array(array, name) for name, array in stored.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def suppression(selected="kept"):
    return helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "overlap"], [selected])


def quantized(model, **more):
    ready = prepared(model, opset=BYTES_OPSET, shapes={"n": (1,)})
    done = quantize(ready.network, samples(4, (1, 3, 8, 8)), Scheme(), **more)
    whole = ready.rest.attached(done.model)
    onnx.checker.check_model(whole, full_check=True)
    return ready, done, whole


def test_boxes_are_suppressed_in_float_behind_a_quantized_network():
    """Older operators at the end are written in the opset of the rest of the model."""
    model = detector([suppression(), helper.make_node("Gather", ["kept", "one"], ["at"], axis=1), helper.make_node("Squeeze", ["boxes"], ["row"], axes=[0]),
                      helper.make_node("Unsqueeze", ["kept"], ["more"], axes=[0]), helper.make_node("Gather", ["row", "at"], ["best"], axis=0)],
                     {"best": BOXES, "more": (TensorProto.INT64, [1, "found", 3]), "scores": (TensorProto.FLOAT, [1, 1, 16])})
    ready, _, whole = quantized(model)
    assert [v.name for v in whole.graph.output] == ["best", "more", "scores"] and whole.opset_import[0].version == BYTES_OPSET
    assert ready.notes[-1] == "4 nodes at the end of the model stay as they are: NonMaxSuppression, Gather, Unsqueeze"
    kinds = [node.op_type for node in whole.graph.node]
    assert kinds.count("NonMaxSuppression") == 1 and kinds.count("QuantizeLinear") >= 5
    feeds = samples(1, (1, 3, 8, 8), seed=7)[0]
    wanted, got = run(model, feeds), run(whole, feeds)
    assert got[0].shape[1:] == (4,) and 0 < len(got[0]) <= 5
    np.testing.assert_allclose(got[2], wanted[2], atol=0.03)
    for name, array in zip(["best", "more", "scores"], got, strict=True):
        np.testing.assert_allclose(execute(import_model(whole), feeds)[name], array, atol=1e-5)


def test_names_of_both_parts_stay_apart():
    """Inside, the quantized part is named anew: an output and a value at the end are called as its values are."""
    model = detector([suppression("relu"), helper.make_node("Cast", ["relu"], ["sigmoid"], to=TensorProto.FLOAT),
                      helper.make_node("Add", ["sigmoid", "overlap"], ["conv"])], {"conv": (TensorProto.FLOAT, ["found", 3])})
    _, _, whole = quantized(model)
    (got,) = run(whole, samples(1, (1, 3, 8, 8), seed=7)[0])
    assert [v.name for v in whole.graph.output] == ["conv"] and got.shape[1:] == (3,)
    np.testing.assert_array_equal(got % 1, 0.5)


def test_what_is_known_is_no_output_of_the_quantized_part():
    """Sizes of its results, and constants that are nodes."""
    half = numpy_helper.from_array(np.float32(0.5))
    model = detector([helper.make_node("Constant", [], ["half"], value=half), helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "half"], ["kept"]),
                      helper.make_node("Shape", ["boxes"], ["size"]), helper.make_node("Add", ["kept", "size"], ["y"])], {"y": (TensorProto.INT64, ["found", 3])})
    ready, _, whole = quantized(model)
    assert set(ready.network.outputs) == {"boxes", "scores"}
    (got,) = run(whole, samples(1, (1, 3, 8, 8))[0])
    np.testing.assert_array_equal(got[:, :2], np.broadcast_to([1, 16], (len(got), 2)))


def test_branches_read_values_of_the_quantized_part():
    inner = helper.make_graph([helper.make_node("Mul", ["boxes", "boxes"], ["relu"])], "then", [], [helper.make_tensor_value_info("relu", TensorProto.FLOAT, [1, 16, 4])])
    other = helper.make_graph([helper.make_node("Neg", ["boxes"], ["no"])], "else", [], [helper.make_tensor_value_info("no", TensorProto.FLOAT, [1, 16, 4])])
    model = detector([helper.make_node("ReduceMax", ["scores"], ["top"], keepdims=0), helper.make_node("Greater", ["top", "overlap"], ["good"]),
                      helper.make_node("If", ["good"], ["y"], then_branch=inner, else_branch=other)], {"y": (TensorProto.FLOAT, [1, 16, 4])})
    ready, _, whole = quantized(model)
    assert ready.network.outputs == ("top", "boxes"), "what is compared, not whether it is larger"
    feeds = samples(1, (1, 3, 8, 8), seed=7)[0]
    wanted, got = run(model, feeds)[0], run(whole, feeds)[0]
    np.testing.assert_allclose(got, wanted, atol=0.05 * np.abs(wanted).max())


def test_a_sequence_is_made_where_it_is_read():
    """It is no output that a quantized part could have."""
    end = [suppression(), helper.make_node("Cast", ["kept"], ["rows"], to=TensorProto.FLOAT), helper.make_node("SequenceConstruct", ["boxes"], ["all"]),
           helper.make_node("SequenceInsert", ["all", "rows"], ["more"]), helper.make_node("SequenceAt", ["more", "zero"], ["y"]),
           helper.make_node("SequenceAt", ["more", "one"], ["z"])]
    model = detector(end, {"y": (TensorProto.FLOAT, [1, 16, 4]), "z": (TensorProto.FLOAT, ["found", 3])}, constants={"zero": np.array(0)})
    ready, _, whole = quantized(model)
    assert set(ready.network.outputs) == {"boxes", "scores"}
    y, z = run(whole, samples(1, (1, 3, 8, 8))[0])
    assert y.shape == (1, 16, 4) and z.shape[1] == 3


def test_a_metric_sees_what_the_whole_model_returns():
    model = detector([suppression(), helper.make_node("Shape", ["kept"], ["count"])], {"count": (TensorProto.INT64, [2])})
    ready = prepared(model, opset=BYTES_OPSET, shapes={"n": (1,)})
    seen = []

    def metric(outputs, reference, label):
        seen.append((dict(outputs), dict(reference)))
        return 1.0

    with finisher(ready.rest, ready.network) as finish:
        data = samples(2, (1, 3, 8, 8))
        quantize(ready.network, data, Scheme(), goal=Goal(most_drop=0.1, metric=metric, finish=finish), validation=data)
    assert seen and all(set(one) == {"count"} for pair in seen for one in pair)


def test_a_model_that_begins_with_such_an_operator_is_refused():
    nodes = [helper.make_node("NonZero", ["x"], ["at"]), helper.make_node("Cast", ["at"], ["y"], to=TensorProto.FLOAT)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "n"])])
    with pytest.raises(EdgeccError, match="no form in ONNX") as caught:
        prepared(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert caught.value.code == "E114"


@pytest.mark.parametrize("rows", [1, 5])
def test_biases_of_a_product_may_be_a_row_or_a_matrix(rows):
    """As exporters of scikit-learn write them."""
    rng = np.random.default_rng(0)
    stored = {"w": rng.standard_normal((6, 4)).astype(np.float32), "c": rng.standard_normal((rows, 4)).astype(np.float32)}
    graph = helper.make_graph([helper.make_node("Gemm", ["x", "w", "c"], ["y"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 6])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, 4])], [numpy_helper.from_array(a, n) for n, a in stored.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data = samples(4, (5, 6))
    whole = quantize(prepared(model, opset=BYTES_OPSET).network, data, Scheme()).model
    np.testing.assert_allclose(run(whole, data[0])[0], run(model, data[0])[0], atol=0.1)


def test_labels_that_are_text_are_looked_up_behind_the_quantized_part():
    weights, names = np.eye(3, 6, dtype=np.float32).T, helper.make_tensor("names", TensorProto.STRING, [3], [b"ant", b"bee", b"cat"])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("ArgMax", ["s"], ["i"], axis=1, keepdims=0), helper.make_node("Gather", ["names", "i"], ["y"])]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 6])], [helper.make_tensor_value_info("y", TensorProto.STRING, [5])],
                              [numpy_helper.from_array(weights, "w"), names])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    ready, data = prepared(model, opset=BYTES_OPSET), samples(4, (5, 6))
    whole = ready.rest.attached(quantize(ready.network, data, Scheme()).model)
    assert ready.network.outputs == ("s",)
    assert list(run(whole, data[0])[0]) == list(run(model, data[0])[0])
