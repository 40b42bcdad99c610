"""Loops that append rows to a state: imported with the rows stacked, they agree with onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import edgecc
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.frontend.limits import Limits
from edgecc.reference.executor import execute

F32, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
VALUE = helper.make_tensor_value_info
ROW = [("Gather", "x i", "r"), ("Unsqueeze", "r front", "row")]
"""Row i of x."""
CUT = [("Gather", "x i", "r"), ("Slice", "r zero wide", "s"), ("Unsqueeze", "s front", "row")]
"""The first `wide` elements of it, a number that the run computes."""


def looping(nodes, initial, *, trips=None, axis=0, result="next"):
    """For each of n iterations, `state` grows by `row`, which `nodes` compute; then result y, and the sums of the rows."""
    body = helper.make_graph(
        [*(helper.make_node(op, ins.split(), [out]) for op, ins, out in nodes), helper.make_node("Cast", ["state"], ["same"], to=F32),
         helper.make_node("Concat", ["same", "row"], ["next"], axis=axis), helper.make_node("ReduceSum", ["row"], ["sum"], keepdims=0),
         helper.make_node("Identity", ["c"], ["again"])], "body",
        [VALUE("i", I64, []), VALUE("c", BOOL, []), VALUE("state", F32, None)], [VALUE("again", BOOL, []), VALUE(result, F32, None), VALUE("sum", F32, [])])
    constants = {"initial": initial, "front": np.int64([0]), "zero": np.int64([0]), "yes": np.array(True), "most": np.int64(4), "limit": np.int64([3]), "last": np.int64([1])}
    constants |= {} if trips is None else {"n": np.int64(trips)}
    graph = helper.make_graph(
        [helper.make_node("Min", ["n", "most"], ["count"]), helper.make_node("Min", ["w", "limit"], ["wide"]),
         helper.make_node("Loop", ["count", "yes", "initial"], ["y", "sums"], body=body)], "g",
        [VALUE("x", F32, [4, 3]), VALUE("w", I64, [1]), *([VALUE("n", I64, [])] if trips is None else [])], [VALUE("y", F32, None), VALUE("sums", F32, None)],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def agrees(proto, runs):
    graph = import_model(proto, limits=Limits(collected_rows=4))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for n in runs:
        inputs = {"x": np.arange(12, dtype=np.float32).reshape(4, 3), "w": np.int64([3])} | ({} if n is None else {"n": np.array(n, np.int64)})
        for got, want in zip(execute(graph, {v: inputs[v] for v in graph.input_names}).values(), session.run(None, inputs), strict=True):
            np.testing.assert_array_equal(got, want)
    return graph


@pytest.mark.parametrize("before", [0, 2])
def test_rows_are_appended(before):
    agrees(looping(ROW, np.ones((before, 3), np.float32)), (0, 1, 4))
    agrees(looping(ROW, np.ones((before, 3), np.float32), trips=3), (None,))


def test_columns_are_appended():
    agrees(looping([("Gather", "x i", "r"), ("Unsqueeze", "r last", "row")], np.ones((3, 1), np.float32), axis=-1), (0, 3))


def test_a_row_has_the_sizes_of_the_state():
    proto = looping(CUT, np.ones((0, 3), np.float32))
    graph = agrees(proto, (2, 4))
    assert graph.outputs[0].type.max_dims == (4, 3)
    compiled = edgecc.load(edgecc.compile(proto, limits=Limits(collected_rows=4)))
    with pytest.raises(EdgeccError) as raised:
        compiled.run({"x": np.ones((4, 3), np.float32), "n": np.array(2), "w": np.int64([2])})
    assert raised.value.code == "E403"


def test_a_state_that_is_read_does_not_grow():
    with pytest.raises(EdgeccError, match="must keep its type"):
        import_model(looping([*ROW, ("ReduceSum", "state", "unused")], np.ones((0, 3), np.float32)), limits=Limits(collected_rows=4))


def sequence(after, outputs, *, append=("all", "row")):
    """For each of n iterations, at most 4, the doubled row i of x is appended to a sequence, which is empty at first; then the nodes `after`."""
    state = helper.make_tensor_sequence_value_info
    body = helper.make_graph(
        [helper.make_node("Gather", ["x", "i"], ["r"]), helper.make_node("Add", ["r", "r"], ["row"]), helper.make_node("SequenceInsert", append, ["more"]),
         helper.make_node("Identity", ["c"], ["again"])], "body",
        [VALUE("i", I64, []), VALUE("c", BOOL, []), state("all", F32, None)], [VALUE("again", BOOL, []), state("more", F32, None)])
    nodes = [helper.make_node("Min", ["n", "most"], ["count"]), helper.make_node("SequenceEmpty", [], ["none"]), helper.make_node("Loop", ["count", "yes", "none"], ["rows"], body=body)]
    graph = helper.make_graph(
        [*nodes, *after], "g", [VALUE("x", F32, [4, 3]), VALUE("n", I64, [])], [VALUE(name, F32, None) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in {"yes": np.array(True), "most": np.int64(4), "last": np.int64(-1), "front": np.int64(0)}.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(("axis", "new"), [(0, 0), (0, 1), (1, 1), (-1, 1), (-1, 0)])
def test_a_sequence_grows(axis, new):
    proto = sequence([helper.make_node("ConcatFromSequence", ["rows"], ["y"], axis=axis, new_axis=new)], ["y"])
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for n in (1, 3, 4):
        inputs = {"x": np.arange(12, dtype=np.float32).reshape(4, 3), "n": np.array(n)}
        np.testing.assert_array_equal(execute(import_model(proto), inputs)["y"], session.run(None, inputs)[0])


def test_a_sequence_that_grew_is_read():
    nodes = [helper.make_node("SequenceAt", ["rows", "last"], ["end"]), helper.make_node("SequenceLength", ["rows"], ["length"]),
             helper.make_node("Cast", ["length"], ["z"], to=F32), helper.make_node("Add", ["end", "z"], ["y"])]
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    graph = import_model(sequence(nodes, ["y"]))
    for n in (1, 3):
        np.testing.assert_array_equal(execute(graph, {"x": x, "n": np.array(n)})["y"], 2 * x[n - 1] + n)


@pytest.mark.parametrize(("append", "nodes", "words"), [
    (("all", "row", "front"), [helper.make_node("SequenceAt", ["rows", "last"], ["y"])], "is no tensor"),
    (("all", "row"), [helper.make_node("SequenceErase", ["rows"], ["s"]), helper.make_node("SequenceAt", ["s", "last"], ["y"])], "length of a sequence is not known")])
def test_sequences_that_grow_in_other_ways_or_shrink_are_refused(append, nodes, words):
    with pytest.raises(EdgeccError, match=words):
        import_model(sequence(nodes, ["y"], append=append))
