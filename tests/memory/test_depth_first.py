"""The choice of depth-first blocks: what it gains, what bounds it, and that it makes none where none pays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from edgecc.ir.graph import Graph
from edgecc.ir.types import DType, TensorType
from edgecc.loop.interpreter import run_module
from edgecc.loop.module import Stripes
from edgecc.lowering import LoweredModel, lower_graph
from edgecc.lowering.options import LoweringOptions
from edgecc.memory import depth_first, stripes
from edgecc.memory.depth_first import Effort, Limits, limits_of
from edgecc.ops.convolution import Pool
from edgecc.reference.executor import execute, sample_inputs
from edgecc.targets.schema import load_target
from tests.support.images import bottleneck, close, image_networks

TARGET = load_target("cortex-a76")
SMALLEST = Limits(2**40, 2**40, min_rows=1, slack=1e9)
"""Whatever makes the arena smallest."""


def lowered(graph, limits: Limits | None = SMALLEST, **options) -> LoweredModel:
    return lower_graph(graph, TARGET, name="net", options=LoweringOptions(verified=True, limits=limits, **options))


def striped(model: LoweredModel) -> list[Stripes]:
    return [item for item in model.module.calls if isinstance(item, Stripes)]


@settings(max_examples=40)
@given(image_networks())
def test_any_network_computes_the_same_in_stripes(graph):
    model, inputs = lowered(graph), sample_inputs(graph)
    got = run_module(model.module, inputs)
    for name, expected in execute(graph, inputs).items():
        assert close(got[name], expected)
    assert model.module.arena_lower_bound <= lowered(graph, depth_first=False).module.arena_lower_bound


def test_blocks_shrink_the_arena_and_compute_the_same_bits():
    graph = bottleneck(blocks=3)
    whole, cut = lowered(graph, depth_first=False), lowered(graph)
    assert not striped(whole)
    assert striped(cut)
    assert cut.module.arena_bytes < whole.module.arena_bytes / 3
    inputs = sample_inputs(graph)
    np.testing.assert_array_equal(run_module(whole.module, inputs)["y"], run_module(cut.module, inputs)["y"])


def test_reports_name_the_stripes():
    model = lowered(bottleneck())
    (block, *_) = striped(model)
    calls = [report for report in model.calls if report.stripes > 1]
    assert len(calls) >= len(block.calls)
    assert calls[0].stripes == len(block.ends)
    assert f"in {len(block.ends)} stripes" in calls[0].choice
    text = model.plan.to_text()
    assert f"{len(block.calls)} kernels in {len(block.ends)} stripes" in text
    assert "rings of" in text


@pytest.mark.parametrize("limits", [
    replace(SMALLEST, line_bytes=64), replace(SMALLEST, weight_bytes=16), replace(SMALLEST, min_rows=28), None,
], ids=["rings", "weights", "rows", "the target's"])
def test_limits_keep_small_images_whole(limits):
    assert not striped(lowered(bottleneck(), limits))


def test_rings_stay_within_the_line_budget():
    graph = bottleneck(height=60, width=40, blocks=3, channels=16)
    for budget in (20_000, 60_000, 200_000):
        model = lowered(graph, replace(SMALLEST, line_bytes=budget))
        assert all(block.ring_bytes <= budget for block in model.plan.blocks)
        assert model.plan.blocks


def test_maps_that_are_higher_than_tables_of_stripes_may_be_long_stay_whole(monkeypatch):
    tall = bottleneck(height=60, width=3)
    assert striped(lowered(tall))
    monkeypatch.setattr(depth_first, "MAX_ROWS", 29)
    assert not striped(lowered(tall))


def test_work_on_choices_is_bounded(monkeypatch):
    looked_at = []
    monkeypatch.setattr(depth_first, "schedule", lambda chain, rows: looked_at.append(chain) or stripes.schedule(chain, rows))
    graph = bottleneck()
    blocks = striped(lowered(graph))
    everything = len(looked_at)
    monkeypatch.setattr(Effort, "__init__", lambda effort: setattr(effort, "left", 8))
    looked_at.clear()
    assert sum(len(block.calls) for block in striped(lowered(graph))) < sum(len(block.calls) for block in blocks)
    assert len(looked_at) < everything / 2


def test_layers_that_pass_nothing_to_each_other_are_not_cut_into_stripes(monkeypatch):
    monkeypatch.setattr(depth_first, "schedule", lambda chain, rows: pytest.fail("there is nothing to gain"))
    graph = Graph("g")
    x = graph.add_input(TensorType(DType.F32, (1, 4, 40, 40)), "x")
    pools = [graph.add(Pool(kind="max", kernel=(k, k), strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1)), x) for k in range(2, 8)]
    graph.set_outputs(pools, [f"y{k}" for k in range(len(pools))])
    lowered(graph)


def test_threads_divide_whole_layers_instead():
    assert not striped(lowered(bottleneck(), threads=2))


def test_the_budgets_are_halves_of_the_second_level_cache():
    assert limits_of(TARGET) == Limits(262144, 262144)
    no_second = replace(TARGET, caches=tuple(c for c in TARGET.caches if c.level == 1))
    assert limits_of(no_second) == Limits(32768, 32768)
    assert limits_of(replace(TARGET, caches=())).line_bytes > 2**60
