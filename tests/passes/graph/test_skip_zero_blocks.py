"""skip-zero-blocks and prune-magnitude: blocks of zeros are made, and then not stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecc.ir.graph import Graph
from edgecc.ir.text import to_text
from edgecc.ir.types import DType, TensorType
from edgecc.ops.matrix import MatMul
from edgecc.ops.sparse import BlockSparseMatMul
from edgecc.passes.base import create_pass
from edgecc.passes.graph.prune_magnitude import prune
from edgecc.pipeline import default_graph_passes, run_passes
from edgecc.reference.executor import execute
from tests.support.graph_passes import run_checked

ZEROS = "skip-zero-blocks"


def product(*, kept: float = 0.4, transposed: bool = False, bias: bool = False, batch: tuple[int, ...] = (), rows: tuple[int, ...] = (5,)) -> Graph:
    random = np.random.default_rng(0)
    weights = random.standard_normal((*batch, 64, 40)).astype(np.float32)
    weights[..., :] *= np.repeat(random.random((64, 3)) < kept, 16, axis=1)[:, :40]
    graph = Graph("g")
    x = graph.add_input(TensorType(DType.F32, (*rows, 64)), "x")
    operands = [x, graph.constant(np.swapaxes(weights, -1, -2).copy() if transposed else weights, "w")]
    if bias:
        operands.append(graph.constant(np.ones(40, np.float32), "b"))
    graph.set_outputs([graph.add(MatMul(transpose_b=transposed), *operands, loc=("Product",))], ["y"])
    return graph


@pytest.mark.parametrize("transposed", [False, True])
def test_fires(transposed, golden):
    graph = product(transposed=transposed, bias=transposed)
    run_checked(graph, ZEROS)
    golden(to_text(graph, locs=True, constants="type"))


def test_case_1_too_few_zeros(golden):
    graph = product()
    weights = graph.nodes[0].operand(1)
    scattered = np.where(np.random.default_rng(1).random((64, 40)) < 0.3, 1, 0).astype(np.float32)
    graph.set_operand(graph.nodes[0], 1, graph.constant(scattered, weights.name))
    (report,) = run_checked(graph, ZEROS)
    golden("\n".join(map(str, report.declines)), "txt")


def test_case_2_stacks(golden):
    (report,) = run_checked(product(batch=(1,)), ZEROS)
    assert not report.changed
    golden("\n".join(map(str, report.declines)), "txt")


def test_case_3_batches(golden):
    (report,) = run_checked(product(rows=(2, 5)), ZEROS)
    assert not report.changed
    golden("\n".join(map(str, report.declines)), "txt")


def test_full_weights_stay():
    (report,) = run_checked(product(kept=1.0), ZEROS)
    assert not report.changed and not report.declines


@given(st.integers(1, 20), st.integers(1, 40), st.sampled_from([1, 4, 16]), st.floats(0, 1), st.integers(0, 1), st.integers(0, 99))
def test_the_smallest_blocks_go(rows, channels, block, sparsity, axis, seed):
    shape = (rows, channels) if axis else (channels, rows)
    weights = np.random.default_rng(seed).standard_normal(shape)
    pruned = prune(weights, axis, sparsity, block)
    table, own = (np.moveaxis(a, axis, -1) for a in (pruned, weights))
    panels = [slice(start, start + block) for start in range(0, channels, block)]
    powers = np.array([[(own[r, p] ** 2).sum() for p in panels] for r in range(rows)])
    gone = np.array([[not table[r, p].any() for p in panels] for r in range(rows)])
    assert gone.sum() == round(sparsity * gone.size)
    assert not gone.any() or gone.all() or powers[gone].max() <= powers[~gone].min()
    assert all((table[r, p] == own[r, p]).all() for r in range(rows) for i, p in enumerate(panels) if not gone[r, i])
    np.testing.assert_array_equal(prune(pruned, axis, sparsity, block), pruned)


def test_pruned_products_are_stored_without_zeros():
    graph = product(kept=1.0, bias=True)
    feeds = {"x": np.random.default_rng(2).standard_normal((5, 64)).astype(np.float32)}
    (report,) = run_passes(graph, [create_pass("prune-magnitude", {"sparsity": "0.75"})])
    assert report.changed
    expected = execute(graph, feeds)["y"]
    run_passes(graph, default_graph_passes(), verify_each=feeds)
    assert any(isinstance(node.op, BlockSparseMatMul) for node in graph.nodes)
    np.testing.assert_allclose(execute(graph, feeds)["y"], expected, rtol=1e-5, atol=1e-5)
    small = product()
    (report,) = run_passes(small, [create_pass("prune-magnitude", {"least": "10000"})])
    assert not report.changed and "fewer than 10000" in str(report.declines[0])
