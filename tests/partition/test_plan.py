"""Divisions are convex, complete and pay; parts run in turn compute what the whole computes."""

from __future__ import annotations

import dataclasses

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.errors import EdgeccError
from edgecc.ir.parser import parse
from edgecc.ir.verify import verify
from edgecc.partition.plan import cpu_cycles, npu_cycles, plan_partition, region_bytes
from edgecc.partition.quantization import Quantization, quantization_of
from edgecc.partition.split import split
from edgecc.reference.executor import execute
from edgecc.targets.schema import Npu, load_target
from tests.support.graphs import arrays_for, graphs

TARGET = load_target("generic-c")
FREE = Npu("x", macs_per_cycle=1e9, bytes_per_cycle=1e9)  # so quick that everything supported pays


def drawn_plan(data, npu=FREE):
    graph = data.draw(graphs())
    refused = data.draw(st.lists(st.booleans(), min_size=len(graph), max_size=len(graph)))
    obstacles = {node: "no" for node, no in zip(graph.nodes, refused, strict=True) if no}
    return graph, obstacles, plan_partition(graph, TARGET, npu, obstacles)


@settings(max_examples=50)
@given(st.data())
def test_parts_are_complete_and_convex(data):
    graph, obstacles, plan = drawn_plan(data)
    assert [placed.node for placed in plan.nodes] == list(graph.nodes)
    part = {placed.node: placed.part for placed in plan.nodes}
    assert all(placed.on_npu == (placed.node not in obstacles) for placed in plan.nodes)
    condensed = nx.DiGraph((part[a], part[b]) for a, b in graph.to_networkx().edges if part[a] != part[b])
    assert nx.is_directed_acyclic_graph(condensed) and all(a < b for a, b in condensed.edges)
    crossing = {(c.value, reader) for c in plan.crossings for reader in c.readers}
    for node in graph.nodes:
        for value in node.inputs:
            if value is not None and value.constant is None:
                source = 0 if value.producer is None else part[value.producer]
                assert ((value, part[node]) in crossing) == (source % 2 != part[node] % 2)


@settings(max_examples=40)
@given(st.data())
def test_parts_in_turn_compute_the_whole(data):
    graph, _, plan = drawn_plan(data)
    inputs = arrays_for(graph, 0)
    want = execute(graph, inputs)
    if any(value.constant is not None for value in graph.outputs):
        with pytest.raises(EdgeccError, match="returns a constant"):
            split(graph, plan)
        return
    pieces = split(graph, plan)
    given_arrays = [inputs[name] for name in graph.input_names]
    results = []

    def array(source):
        return given_arrays[source.index] if source.part is None else results[source.part][source.index]

    for part in pieces.parts:
        verify(part.graph)
        got = execute(part.graph, dict(zip(part.graph.input_names, map(array, part.inputs), strict=True)))
        results.append([got[name] for name in part.graph.output_names])
    for name, source in zip(graph.output_names, pieces.outputs, strict=True):
        np.testing.assert_array_equal(array(source), want[name])


@settings(max_examples=30)
@given(st.data(), st.sampled_from([0, 50, 10**9]))
def test_regions_that_are_left_pay(data, start):
    npu = Npu("x", macs_per_cycle=8.0, bytes_per_cycle=8.0, start_cycles=start)
    _, obstacles, plan = drawn_plan(data, npu)
    taken = [placed for placed in plan.nodes if placed.on_npu]
    here = sum(cpu_cycles(placed.node, TARGET) for placed in taken)
    assert not taken or here > sum(npu_cycles(placed.node, npu) for placed in taken) + start
    if start == 10**9:
        assert not taken and plan.crossing_bytes == 0 and plan.npu_share in (0.0, 0)
        assert all("cycles" in placed.reason for placed in plan.nodes if placed.node not in obstacles)


CHAIN = """graph "g" (%x: f32[1,4,8,8] "x") {{
  %a = elementwise(%x) {{expr=`i8(add(round(div($0:f32, 0.5:f32)), 3.0:f32))`}} : i8[1,4,8,8] loc("quantize")
  %b = elementwise(%a) {{expr=`max($0:i8, 3:i8)`}} : i8[1,4,8,8] loc("relu")
  %c = elementwise(%b) {{expr=`mul(f32(sub(i32($0:i8), 3:i32)), {scale}:f32)`}} : f32[1,4,8,8] loc("dequantize")
  return %c "y"
}}"""


def test_boundaries_carry_quantization():
    graph = parse(CHAIN.format(scale="0.5"))
    quantize, relu, dequantize = graph.nodes
    plan = plan_partition(graph, TARGET, FREE, {quantize: "floats", dequantize: "floats"})
    assert [(c.value, c.source, c.readers, c.size_bytes, c.quantization) for c in plan.crossings] == [
        (quantize.output, 0, (1,), 256, Quantization(0.5, 3)), (relu.output, 1, (2,), 256, Quantization(0.5, 3))]
    assert plan.crossing_bytes == 512 and [placed.reason for placed in plan.nodes] == ["floats", "", "floats"]
    assert quantization_of(graph.inputs[0]) is None and quantization_of(dequantize.output) is None


def test_a_region_that_does_not_pay_says_why():
    graph = parse(CHAIN.format(scale="0.25"))
    quantize, relu, dequantize = graph.nodes
    npu = dataclasses.replace(FREE, start_cycles=5000)
    plan = plan_partition(graph, TARGET, npu, {quantize: "floats", dequantize: "floats"})
    assert region_bytes(graph, [relu]) == 512
    assert plan.nodes[1].reason == "about 5000 cycles with its start and transfers, 512 on the CPU"
    assert [number for number, _ in plan.parts] == [0]
