"""Which values are quantized, and which share a scale."""

from __future__ import annotations

import numpy as np
from onnx import helper

from edgecc.quantization.points import find_points
from tests.quantization.networks import convolutions, network


def groups(found):
    return [set(group.values) for group in found.groups]


def test_an_activation_belongs_to_the_operator_before_it():
    found = find_points(convolutions())
    assert found.inner == {"c1", "c2"}
    assert groups(found) == [{"x"}, {"r1"}, {"r2"}, {"c3"}, {"y"}]
    assert [(w.name, w.axis, w.bias) for w in found.weights] == [("w1", 0, "b1"), ("w2", 0, "b2"), ("w3", 0, None)]


def test_excluded_nodes_stay_in_float():
    found = find_points(convolutions(), exclude={"third", "sum"})
    assert groups(found) == [{"x"}, {"r1"}, {"r2"}] and len(found.weights) == 2
    assert find_points(convolutions(), exclude={"first", "second", "third", "sum", "act1", "act2"}).groups == ()


def test_an_activation_that_is_excluded_leaves_the_operator_alone():
    found = find_points(convolutions(), exclude={"act1"})
    assert "c1" not in found.inner and {"c1"} in groups(found)


def test_wide_results():
    found = find_points(convolutions(), wide={"third"})
    assert [group.wide for group in found.groups] == [False, False, False, True, False]


def test_what_only_moves_elements_keeps_the_scale():
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"], "conv"), helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2]),
             helper.make_node("Transpose", ["b"], ["c"], perm=[0, 2, 3, 1]), helper.make_node("Concat", ["c", "z"], ["d"], axis=3),
             helper.make_node("Exp", ["d"], ["y"])]
    found = find_points(network(nodes, {"x": [1, 2, 4, 4], "z": [1, 3, 3, 1]}, {"y": [1, 3, 3, 3]}, {"w": np.ones((2, 2, 1, 1), np.float32)}))
    assert groups(found) == [{"x"}, {"z", "a", "b", "c", "d"}]


def test_extrema_keep_the_scale():
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"], "conv"), helper.make_node("ReduceMax", ["a", "axes"], ["b"], keepdims=0),
             helper.make_node("ReduceMin", ["a", "axes"], ["c"], keepdims=0), helper.make_node("Concat", ["b", "c"], ["y"], axis=1)]
    constants = {"w": np.ones((2, 2, 1, 1), np.float32), "axes": np.array([2, 3])}
    assert groups(find_points(network(nodes, {"x": [1, 2, 4, 4]}, {"y": [1, 4]}, constants))) == [{"x"}, {"a", "b", "c", "y"}]


def test_movement_alone_is_not_quantized():
    nodes = [helper.make_node("Transpose", ["x"], ["a"], perm=[1, 0]), helper.make_node("Exp", ["a"], ["y"])]
    assert find_points(network(nodes, {"x": [2, 3]}, {"y": [3, 2]}, {})).groups == ()


def test_known_ranges():
    nodes = [helper.make_node("Sigmoid", ["x"], ["a"], "s"), helper.make_node("Transpose", ["a"], ["t"], perm=[1, 0]),
             helper.make_node("Softmax", ["t"], ["y"], "m", axis=1)]
    found = find_points(network(nodes, {"x": [2, 3]}, {"y": [3, 2]}, {}))
    assert [(set(g.values), g.limits) for g in found.groups] == [({"x"}, None), ({"a", "t"}, (0.0, 1.0)), ({"y"}, (0.0, 1.0))]


def test_scores_that_are_joined_keep_their_known_range():
    """What data showed of rare scores near 1 would be clipped."""
    nodes = [helper.make_node("Sigmoid", ["x"], ["a"], "s"), helper.make_node("HardSigmoid", ["x"], ["b"], "h"), helper.make_node("Tanh", ["x"], ["c"], "t"),
             helper.make_node("Concat", ["a", "b"], ["y"], axis=1), helper.make_node("Concat", ["a", "c"], ["z"], axis=1)]
    for result, limits in (("y", (0.0, 1.0)), ("z", None)):
        found = find_points(network([node for node in nodes if node.op_type != "Concat" or node.output[0] == result], {"x": [2, 3]}, {result: [2, 6]}, {}))
        assert [g.limits for g in found.groups if result in g.values] == [limits]


def test_a_known_range_gives_way_to_what_is_joined_with_it():
    nodes = [helper.make_node("Sigmoid", ["x"], ["a"], "s"), helper.make_node("Add", ["x", "x"], ["b"], "plus"),
             helper.make_node("Concat", ["a", "b"], ["y"], axis=1)]
    found = find_points(network(nodes, {"x": [2, 3]}, {"y": [2, 6]}, {}))
    assert [g.limits for g in found.groups if "y" in g.values] == [None]


def test_products_of_matrices_and_their_biases():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"], "product"), helper.make_node("Add", ["bias", "p"], ["s"], "add"),
             helper.make_node("Relu", ["s"], ["r"], "relu"), helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
             helper.make_node("MatMul", ["r", "t"], ["y"], "attention")]
    constants = {"w": np.ones((4, 5), np.float32), "bias": np.ones(5, np.float32)}
    found = find_points(network(nodes, {"x": [2, 3, 4]}, {"y": [2, 3, 3]}, constants))
    assert found.inner == {"p", "s"} and [(w.name, w.axis, w.bias) for w in found.weights] == [("w", 1, None)]
    assert groups(found) == [{"x"}, {"r", "t"}, {"y"}]
