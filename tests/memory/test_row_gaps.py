"""Gaps behind rows of channels: where they are left, where not, and that networks mean the same with them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from edgecc.ir.graph import Graph, Value
from edgecc.ir.types import DType, Layout, TensorType
from edgecc.memory import row_gaps
from edgecc.memory.placement import place_values
from edgecc.memory.plan import plan_memory
from edgecc.memory.row_gaps import gap_period
from edgecc.ops.convolution import Conv
from edgecc.ops.movement import Reshape
from edgecc.reference.executor import execute, sample_inputs
from edgecc.targets.schema import load_target
from tests.memory.test_plan import RELU, needs_of, run_plan
from tests.support.random_graphs import graphs

PERIOD = 4096


def rows_of(channels: int, dtype: DType = DType.F32, *, read: bool = True, shape: tuple[int, ...] = ()) -> tuple[Graph, Value]:
    """A value of 3 x 5 pixels, which a convolution of 1 x 1 reads, or relu; `shape`: through a reshape to it, besides."""
    graph = Graph("net")
    value = graph.add(RELU, graph.add_input(TensorType(dtype, (1, channels, 3, 5)), "x"))
    value.layout = Layout.channels_last(4)
    weights = graph.constant(np.ones((8, channels, 1, 1), np.float32), "w")
    y = graph.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), value, weights) if read else graph.add(RELU, value)
    outputs = [y, graph.add(RELU, graph.add(Reshape(shape), value))] if shape else [y]
    graph.set_outputs(outputs, [f"y{i}" for i in range(len(outputs))])
    return graph, value


def strides(graph: Graph, value: Value, period: int = PERIOD) -> tuple[int, ...]:
    return place_values(graph, gap_period=period).places[value].view.strides


@pytest.mark.parametrize(("channels", "gap"), [(128, 0), (256, 16), (384, 0), (512, 32), (768, 16), (1024, 64), (2048, 64), (1000, 0)])
def test_rows_at_powers_of_two_get_a_sixteenth_more(channels, gap):
    pitch = channels + gap
    assert strides(*rows_of(channels))[1:] == (1, 5 * pitch, pitch)


@pytest.mark.parametrize(("channels", "gap"), [(32, 8), (40, 0), (64, 8), (128, 8), (256, 16), (1024, 64)])
def test_rows_around_depthwise_convolutions_get_gaps_at_smaller_powers_of_two(channels, gap):
    graph = Graph("net")
    x = graph.add(RELU, graph.add_input(TensorType(DType.F32, (1, channels, 3, 5)), "x"))
    taps = graph.constant(np.ones((channels, 1, 3, 3), np.float32), "taps")
    y = graph.add(Conv((1, 1), (1, 1, 1, 1), (1, 1), channels), x, taps)
    weights = graph.constant(np.ones((8, channels, 1, 1), np.float32), "w")
    graph.set_outputs([graph.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), y, weights)], ["z"])
    pitch = channels + gap
    for value in (x, y):
        value.layout = Layout.channels_last(4)
        assert strides(graph, value)[1:] == (1, 5 * pitch, pitch)


@pytest.mark.parametrize("taps", [(128, 1, 1, 1), (128, 2, 3, 3)])
def test_grouped_convolutions_that_are_not_windows_over_single_channels_get_no_more_gaps_than_others(taps):
    graph = Graph("net")
    x = graph.add(RELU, graph.add_input(TensorType(DType.F32, (1, 128, 3, 5)), "x"))
    x.layout = Layout.channels_last(4)
    conv = Conv((1, 1), (taps[2] // 2,) * 4, (1, 1), 128 // taps[1])
    graph.set_outputs([graph.add(conv, x, graph.constant(np.ones(taps, np.float32), "taps"))], ["y"])
    assert strides(graph, x)[1:] == (1, 5 * 128, 128)


def test_rows_stay_together_where_gaps_would_gain_nothing():
    dense = (1, 5 * 1024, 1024)
    assert strides(*rows_of(1024), 0)[1:] == dense
    assert strides(*rows_of(1024, read=False))[1:] == dense
    assert strides(*rows_of(1024, shape=(1, 1024, 15)))[1:] == (1, 5 * 1088, 1088), "pixels joined are a view"
    assert strides(*rows_of(1024, shape=(15, 1024)))[1:] == dense, "what no view can show would be copied"


def test_targets_say_whether_rows_need_gaps():
    assert gap_period(load_target("x86-64-v3")) == 4096
    assert {gap_period(load_target(name)) for name in ("x86-64-v4", "cortex-a76", "generic-c")} == {0}
    target = load_target("x86-64-v3")
    assert gap_period(replace(target, caches=())) == 0


@settings(max_examples=60)
@given(graphs())
def test_any_graph_computes_the_same_with_gaps(graph):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_gaps, "LEAST_BYTES", 8)
        patch.setattr(row_gaps, "LEAST_BYTES_DEPTHWISE", 8)
        patch.setattr(row_gaps, "LEAST_GAP_BYTES", 8)
        patch.setattr(row_gaps, "SHARE", 2)
        placement = place_values(graph, gap_period=64)
    plan = plan_memory(placement, [needs_of(step) for step in placement.steps])
    inputs = sample_inputs(graph)
    results = run_plan(graph, plan, inputs)
    for name, expected in execute(graph, inputs).items():
        np.testing.assert_allclose(results[name], expected, rtol=1e-5, atol=1e-5)
