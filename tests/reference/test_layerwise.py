"""Comparison layer by layer: a run is followed, and each layer judged on what it was given."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.frontend import import_model
from edgecc.ir.extract import extract
from edgecc.ir.types import DType
from edgecc.reference.executor import execute, execute_values
from edgecc.reference.layerwise import follow
from tests.support.quantized_models import Quantized


def two_layers():
    net = Quantized(0)
    x = net.quantize("x", 0.05, 0)
    y = net.quantize(net.node("Relu", x), 0.1, -128)
    graph = import_model(net.model(net.quantize(net.node("Neg", y), 0.2, 3), (4, 50)))
    codes = [value for node in graph.nodes for value in node.outputs if value.type.dtype is DType.I8]
    feed = {"x": np.random.default_rng(0).uniform(-6, 6, (4, 50)).astype(np.float32)}
    return graph, codes, feed, dict(zip(codes, execute_values(graph, feed, codes), strict=True))


def test_the_reference_follows_itself():
    graph, _, feed, integers = two_layers()
    outputs, found = follow(graph, feed, integers, {})
    assert found.ok and found.layers == 3 and found.steps == 0 and found.share == 0 and found.where == ()
    for name, array in execute(graph, feed).items():
        np.testing.assert_array_equal(outputs[name], array)


@pytest.mark.parametrize(("off", "beyond", "steps"), [(1, 0, 1), (2, 0, 2), (3, 2, 1), (4, 2, 2)])
def test_a_layer_is_judged_on_what_it_was_given(off, beyond, steps):
    graph, (first, second, _), feed, integers = two_layers()
    # The second layer is off; the third one gets what it gave, and is right about that.
    moved = np.clip(integers[second].astype(int) + off, -128, 127).astype(np.int8)
    behind, _ = extract(graph.nodes[graph.nodes.index(second.producer) + 1:], graph.outputs)
    (right,) = execute(behind, dict.fromkeys(behind.input_names, moved)).values()
    outputs, found = follow(graph, feed, {first: integers[first], second: moved}, {second: beyond})
    assert found.steps == steps and found.ok == (steps <= 1) and found.where == second.producer.loc and found.share > 0.3
    np.testing.assert_array_equal(next(iter(outputs.values())), right)
