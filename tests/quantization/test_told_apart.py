"""Ranges end where the functions that read a value are flat, and go on where a model returns it."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edgecc.frontend.importing import import_model_with_report
from edgecc.quantization.driver import quantize
from edgecc.quantization.headroom import fills, returned_values, with_headroom
from edgecc.quantization.network import Network
from edgecc.quantization.points import find_points
from edgecc.quantization.scheme import Scheme
from edgecc.quantization.statistics import Extent
from edgecc.quantization.told_apart import ranges_told_apart
from edgecc.reference.executor import execute
from tests.quantization.networks import network, samples

EIGHT = np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1)


def behind(*nodes, result="y", seen=(-40.0, 20.0), **constants):
    """What is told apart of the result of a convolution that `nodes` read, called `c`."""
    net = network([helper.make_node("Conv", ["x", "w"], ["c"], "conv"), *nodes, helper.make_node("Conv", [result, "w"], ["z"], "last")],
                  {"x": [1, 8, 4, 4]}, {"z": [1, 8, 4, 4]}, {"w": EIGHT, **constants})
    points = find_points(net)
    return ranges_told_apart(net, points, dict.fromkeys(points.activations, seen)).get("c", seen)


def node(kind, operands, results, **attributes):
    return helper.make_node(kind, operands.split(), results.split(), f"{kind} {results}", **attributes)


@pytest.mark.parametrize(("nodes", "low", "high"), [
    ([node("HardSwish", "c", "y")], -3, 20),
    ([node("HardSigmoid", "c", "y", alpha=0.25)], -2, 2),
    ([node("Sigmoid", "c", "s"), node("Mul", "c s", "y")], -7.3, 20),
    ([node("Transpose", "c", "t", perm=[0, 1, 3, 2]), node("HardSwish", "t", "y")], -3, 20),
    ([node("Add", "c three", "a"), node("Clip", "a zero six", "b"), node("Mul", "c b", "y")], -3, 20),
])
def test_a_range_ends_where_its_reader_is_flat(nodes, low, high):
    constants = {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)} if nodes[0].op_type == "Add" else {}
    assert np.allclose(behind(*nodes, **constants), (low, high), atol=0.5)


@pytest.mark.parametrize("nodes", [
    [node("LeakyRelu", "c", "y")],
    [node("HardSwish", "c", "h"), node("Add", "h c", "y")],
    [node("Sigmoid", "c", "s"), node("Mul", "x s", "m"), node("Add", "m c", "y")],
    [node("Mul", "c rows", "y")],
])
def test_what_another_reader_needs_stays(nodes):
    constants = {"rows": np.ones((1, 8, 1, 1), np.float32)} if nodes[0].op_type == "Mul" else {}
    assert np.allclose(behind(*nodes, **constants), (-40, 20), atol=0.1)


@pytest.mark.parametrize("method", ["mse", "minmax"])
def test_wide_results_in_front_of_a_gate_cost_nothing_and_none_is_clipped_at_the_end(method):
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((8, 8, 1, 1)).astype(np.float32) for _ in range(2))
    net = network([node("Conv", "x w", "c"), node("HardSwish", "c", "h"), node("Conv", "h v", "y")], {"x": [1, 8, 6, 6]}, {"y": [1, 8, 6, 6]},
                  {"w": np.concatenate([first[:7], first[7:] - 4]), "v": second})
    data = [{"x": np.abs(sample["x"])} for sample in samples(6, (1, 8, 6, 6))]
    done = quantize(net, data, Scheme(method=method))
    assert min(done.outputs.values()) > 36.0
    assert next(row for row in done.values if row.name == "c").total > 36.0  # what is clipped in front of the gate is no noise
    stored, seen = Network(done.model).constants, [execute(import_model_with_report(net.model)[0], sample)["y"] for sample in data]
    scale = next(stored[own.input[1]] for own in done.model.graph.node if own.op_type == "QuantizeLinear" and own.input[0] == "y_float")
    assert 255 * scale > 1.02 * (np.max(seen) - np.min(seen))


def test_what_a_model_returns():
    net = network([node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Conv", "r w", "d"), node("Reshape", "d shape", "e"), node("Softmax", "e", "y")],
                  {"x": [1, 8, 4, 4]}, {"y": [1, 128]}, {"w": EIGHT, "shape": np.array([1, 128])})
    assert returned_values(net) == {"y", "e", "d"}


def test_headroom_follows_the_samples_own_extremes():
    extent = Extent()
    for low, high in ((-1.0, 4.0), (-1.0, 8.0), (-1.0, 6.0)):
        extent.add(np.array([low, 0.5, high], np.float32))
    assert with_headroom(extent) == pytest.approx((-1.0, 8.0 + 1.55 * (8 / 3) ** 0.5), abs=0.01)
    for _ in range(97):
        extent.add(np.array([-1.0, 4.0], np.float32))
    assert with_headroom(extent) == pytest.approx((-1.0, 8.0))


@pytest.mark.parametrize(("limits", "seen", "returned", "kept"), [
    ((0, 1), (0, 0.1), False, False), ((0, 1), (0, 0.1), True, True), ((-1, 1), (-0.1, 0.2), True, False), ((-1, 1), (-0.6, 0.5), False, True)])
def test_known_limits_are_a_range_where_they_are_used(limits, seen, returned, kept):
    assert fills(limits, seen, returned=returned) == kept


def test_results_that_use_little_of_known_limits_have_a_range_of_their_own():
    net = network([node("Conv", "x w", "c"), node("Sigmoid", "c", "s"), node("Conv", "s w", "d"), node("Tanh", "d", "y")], {"x": [1, 8, 4, 4]}, {"y": [1, 8, 4, 4]},
                  {"w": EIGHT / 16})
    done = quantize(net, [{"x": sample["x"] - 40} for sample in samples(4, (1, 8, 4, 4))], Scheme())
    assert min(done.outputs.values()) > 38.0


def test_parts_that_are_divided_and_joined_again_are_looked_at_once():
    nodes = []
    for stage in range(24):
        source = f"t{stage - 1}" if stage else "c"
        nodes += [helper.make_node("Split", [source], [f"a{stage}", f"b{stage}"], f"split{stage}", axis=1, num_outputs=2),
                  helper.make_node("Concat", [f"b{stage}", f"a{stage}"], [f"t{stage}"], f"join{stage}", axis=1)]
    assert np.allclose(behind(*nodes, node("HardSwish", "t23", "y")), (-3, 20), atol=0.1)
