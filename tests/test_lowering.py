"""Lowering: what the loop programs of a module compute, interpreted, is what the graph means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.graph import Graph
from edgecc.kernels.base import KERNELS
from edgecc.loop.interpreter import run_module
from edgecc.lowering import lower_graph
from edgecc.ops.reduction import Reduce, Softmax
from edgecc.reference.executor import execute, sample_inputs
from edgecc.targets.schema import load_target
from tests.support.random_graphs import COMPUTATIONS, MOVEMENTS, graphs

KINDS = tuple(k for k in MOVEMENTS + COMPUTATIONS if {"reduce": Reduce, "softmax": Softmax}.get(k, next(iter(KERNELS))) in KERNELS)


def check(graph: Graph, target: str = "generic-c", threads: int = 1) -> None:
    lowered = lower_graph(graph, load_target(target), name="net", threads=threads, check=True)
    inputs = sample_inputs(graph)
    got = run_module(lowered.module, inputs)
    for name, expected in execute(graph, inputs).items():
        np.testing.assert_allclose(got[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", ["generic-c", "x86-64-v4", "cortex-a76"])
@settings(max_examples=50, deadline=None)
@given(graph=graphs(most_nodes=8, kinds=KINDS), threads=st.sampled_from((1, 3)))
def test_any_graph_computes_the_same_as_loop_programs(target: str, graph: Graph, threads: int) -> None:
    check(graph, target, threads)
