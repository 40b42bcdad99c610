"""Bounds of sizes that are computed: found through integers and floats, never too narrow."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.frontend.limits import Limits
from edgecc.ir.dims import lower_bound, upper_bound
from edgecc.reference.executor import execute
from tests.support.onnx_models import model

CONSTANTS = {"zero": np.int64(0), "one": np.int64(1), "low": np.float32(1), "high": np.float32(5), "axis": np.int64([0]), "scalar": np.zeros(0, np.int64),
             "k": np.int64([1]), "numbers": np.int64([3, 40, 7])}
RANGE = [("Reshape", "length scalar", "n", {}), ("Range", "zero n one", "r", {}), ("Cast", "r", "y", {"to": 1})]


@pytest.mark.parametrize(("nodes", "most"), [
    # Durations: each is at most 5, and there are six of them.
    ([("Ceil", "x", "c", {}), ("Clip", "c low high", "d", {}), ("Cast", "d", "i", {"to": 7}), ("ReduceSum", "i", "length", {"keepdims": 0})], 30),
    ([("Exp", "x", "e", {}), ("Clip", "e low high", "d", {}), ("ReduceSum", "d", "s", {"keepdims": 0}), ("Cast", "s", "length", {"to": 7})], 30),
    ([("Sigmoid", "x", "s", {}), ("Mul", "s high", "d", {}), ("Round", "d", "q", {}), ("Cast", "q", "i", {"to": 7}), ("CumSum", "i zero", "c", {}),
      ("ReduceMax", "c", "length", {"keepdims": 0})], 30),
    ([("Cos", "x", "c", {}), ("Div", "c high", "d", {}), ("ReduceMean", "d", "m", {"keepdims": 0}), ("Add", "m high", "a", {}), ("Cast", "a", "length", {"to": 7})], 5),
    ([("Softmax", "x", "c", {}), ("Sqrt", "high", "q", {}), ("Min", "x q", "d", {}), ("Relu", "d", "p", {}), ("ReduceSum", "p", "s", {"keepdims": 0}),
      ("Floor", "s", "f", {}), ("Cast", "f", "length", {"to": 7})], 13),
])
def test_floats_are_followed(nodes, most):
    graph = import_model(model([*nodes, *RANGE], {"x": [6]}, constants=CONSTANTS))
    assert graph.outputs[0].type.max_dims == (most,)
    for x in (np.full(6, 1e9, np.float32), np.linspace(-3, 3, 6, dtype=np.float32)):
        execute(graph, {"x": x})  # E406 where the size is not within its bounds


def test_the_values_of_a_top_k_are_no_positions():
    nodes = [("Cast", "x", "i", {"to": 7}), ("Add", "i numbers", "a", {}), ("Min", "a numbers", "b", {}), ("TopK", "b k", "length p", {}), *RANGE]
    graph = import_model(model(nodes, {"x": [3]}, constants=CONSTANTS))
    assert len(execute(graph, {"x": np.zeros(3, np.float32)})["y"]) == 40


def test_what_is_not_clipped_has_no_bound():
    nodes = [("Exp", "x", "e", {}), ("ReduceSum", "e", "s", {"keepdims": 0}), ("Cast", "s", "length", {"to": 7}), *RANGE]
    with pytest.raises(EdgeccError, match="nothing says how large"):
        import_model(model(nodes, {"x": [3]}, constants=CONSTANTS))


@pytest.mark.parametrize(("last", "bounds"), [
    ([("Cast", "d", "length", {"to": 7})], (1, 50)),
    ([("Cast", "d", "b", {"to": 3}), ("Cast", "b", "length", {"to": 7})], (1, 127)),
    ([("Sub", "low d", "m", {}), ("Cast", "m", "b", {"to": 2}), ("Cast", "b", "length", {"to": 7})], None)])
def test_what_is_bounded_below_alone_keeps_that_bound(last, bounds):
    """The length of what is spoken, at least 1: convolutions need one row. Conversions to integers stay within their type, whatever the float."""
    nodes = [("Exp", "x", "e", {}), ("ReduceSum", "e", "s", {"keepdims": 0}), ("Clip", "s low", "d", {}), *last, *RANGE]
    graph = import_model(model(nodes, {"x": [3]}, constants=CONSTANTS), limits=Limits(computed_size=50))
    size = graph.outputs[0].type.shape[0]
    assert size == 0 if bounds is None else (lower_bound(size), upper_bound(size)) == bounds
    assert len(execute(graph, {"x": np.full(3, 0.1, np.float32)})["y"]) == (0 if bounds is None else 3)


def test_what_becomes_true_is_not_rounded():
    nodes = [("Sigmoid", "x", "s", {}), ("Clip", "s fifth half", "d", {}), ("Cast", "d", "b", {"to": 9}), ("Cast", "b", "i", {"to": 7}), ("Mul", "i five", "length", {}), *RANGE]
    constants = CONSTANTS | {"fifth": np.float32(0.2), "half": np.float32(0.5), "five": np.int64(5)}
    assert len(execute(import_model(model(nodes, {"x": [1]}, constants=constants)), {"x": np.zeros(1, np.float32)})["y"]) == 5
