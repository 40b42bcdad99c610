"""prune-channels: the least channels between two convolutions go, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.ir.graph import Graph
from edgecc.ir.scalar import Arg, apply
from edgecc.ir.text import to_text
from edgecc.ir.types import DType, TensorType
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import Elementwise
from edgecc.passes.base import create_pass
from edgecc.pipeline import run_passes
from edgecc.reference.executor import execute
from tests.support.graph_passes import run_checked

POINT = Conv((1, 1), (0, 0, 0, 0), (1, 1))


def chain(*, branch: bool = False, silent: int = 12) -> Graph:
    """pointwise conv -> scaled by channel -> depthwise -> pointwise conv; `silent` of 24 channels have weights and a bias of zero."""
    random = np.random.default_rng(0)
    first = random.standard_normal((24, 4, 1, 1)).astype(np.float32)
    bias = random.standard_normal(24).astype(np.float32)
    off = random.permutation(24)[:silent]
    first[off], bias[off] = 0, 0
    graph = Graph("g")
    x = graph.add_input(TensorType(DType.F32, (1, 4, 5, 6)), "x")
    a = graph.add(POINT, x, graph.constant(first, "w1"), graph.constant(bias, "b1"), loc=("First",))
    scaled = graph.add(Elementwise(apply("mul", Arg(0, DType.F32), Arg(1, DType.F32))), a,
                       graph.constant(random.standard_normal((24, 1, 1)).astype(np.float32), "s"))
    depthwise = Conv((1, 1), (1, 1, 1, 1), (1, 1), 24)
    d = graph.add(depthwise, scaled, graph.constant(random.standard_normal((24, 1, 3, 3)).astype(np.float32), "w2"))
    y = graph.add(POINT, d, graph.constant(random.standard_normal((5, 24, 1, 1)).astype(np.float32), "w3"), loc=("Last",))
    graph.set_outputs([y, *([a] if branch else [])], ["y", *(["a"] if branch else [])])
    return graph


def test_fires(golden):
    graph = chain()
    (report,) = run_passes(graph, [create_pass("prune-channels")])
    assert report.changed
    golden(to_text(graph, locs=True, constants="type"))


def test_every_chain_is_pruned_once():
    random = np.random.default_rng(0)
    graph = Graph("g")
    value = graph.add_input(TensorType(DType.F32, (1, 4, 5, 6)), "x")
    for before, after in ((4, 32), (32, 64), (64, 16)):
        value = graph.add(POINT, value, graph.constant(random.standard_normal((after, before, 1, 1)).astype(np.float32), "w"))
    graph.set_outputs([value], ["y"])
    run_passes(graph, [create_pass("prune-channels")])
    assert [node.output.type.dims[1] for node in graph.nodes] == [16, 32, 16]


def test_channels_that_say_nothing_are_not_missed():
    graph = chain()
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 4, 5, 6)).astype(np.float32)}
    expected = execute(graph, feeds)["y"]
    run_passes(graph, [create_pass("prune-channels", {"multiple": "1"})])
    assert graph.nodes[0].output.type.dims[1] == 12
    np.testing.assert_allclose(execute(graph, feeds)["y"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("sparsity", "multiple", "left"), [(0.5, 8, 16), (0.9, 1, 2), (1.0, 1, 1), (0.3, 4, 20)])
def test_how_many_are_left(sparsity, multiple, left):
    graph = chain()
    run_passes(graph, [create_pass("prune-channels", {"sparsity": str(sparsity), "multiple": str(multiple)})])
    assert {node.output.type.dims[1] for node in graph.nodes[:-1]} == {left}
    assert graph.outputs[0].type.dims == (1, 5, 5, 6)


@pytest.mark.parametrize(("graph", "options"), [(chain(branch=True), ""), (chain(), "{least=25}"), (chain(), "{sparsity=0.01}")],
                         ids=["branch", "few", "all are left"])
def test_cases(graph, options, golden):
    (report,) = run_checked(graph, f"prune-channels{options}")
    assert not report.changed
    golden("\n".join(map(str, report.declines)), "txt")
