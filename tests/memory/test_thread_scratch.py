"""Scratch buffers with a part for each thread: where they lie, and how a network with them is planned."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import edgecc
from edgecc.api import Options, compile_model, resolve_target
from edgecc.kernels.kernel import Workspace
from edgecc.memory.thread_scratch import ALIGNMENT, thread_scratch


@settings(max_examples=100)
@given(sizes=st.lists(st.lists(st.integers(0, 40).map(lambda lines: 2 * ALIGNMENT * lines), max_size=4), min_size=1, max_size=5))
def test_two_threads_meet_at_the_same_border(sizes):
    scratch = thread_scratch([(2 * i, i, dict(enumerate(own))) for i, own in enumerate(sizes)])
    borders = [set() for _ in scratch.blocks]
    for number, own in enumerate(sizes):
        used = [scratch.places[number, slot] for slot, size in enumerate(own) if size]
        assert len({block for block, _ in used}) == len(used)
        for slot, size in enumerate(own):
            if size:
                block, offset = scratch.places[number, slot]
                shared = scratch.blocks[block]
                assert offset % ALIGNMENT == 0
                assert 0 <= offset <= shared.size_bytes - size
                assert shared.first <= 2 * number <= shared.last
                borders[block].add((offset + size // 2 - shared.size_bytes // 2) // ALIGNMENT)
    assert all(len(found) == 1 for found in borders)
    assert len(scratch.places) == sum(size > 0 for own in sizes for size in own)


def test_the_largest_buffers_of_all_kernels_share_a_block():
    scratch = thread_scratch([(0, 0, {0: 128, 1: 1024}), (1, 1, {0: 2048, 1: 0, 2: 256})])
    assert [block.size_bytes for block in scratch.blocks] == [2048, 256]
    assert {key: block for key, (block, _) in scratch.places.items()} == {(0, 1): 0, (0, 0): 1, (1, 0): 0, (1, 2): 1}


def test_buffers_without_bytes_need_no_block():
    assert thread_scratch([(0, 0, {}), (1, 1, {0: 0})]).blocks == ()


def network(sizes):
    """Convolutions of 3 x 3 taps with so many channels, one after the other."""
    weights = [numpy_helper.from_array(np.random.default_rng(i).standard_normal((b, a, 3, 3)).astype(np.float32) * np.float32(0.05), f"w{i}")
               for i, (a, b) in enumerate(pairwise(sizes))]
    nodes = [helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=[1] * 4) for i in range(len(weights))]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 20, 20])
            for name, channels in (("x0", sizes[0]), (f"x{len(weights)}", sizes[-1]))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], initializer=weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return network((64, 128, 64, 192, 64))


def test_threads_find_their_parts_where_they_were(model):
    """In a network the borders of all kernels are at one address, for each of their buffers in order of size."""
    target = resolve_target("x86-64-v4")
    lowered = compile_model(model, target, Options(threads=2)).compiled.lowered
    borders = []
    for call, kernel in zip(lowered.module.calls, (report.kernel for report in lowered.calls), strict=True):
        divided = [(a.size_bytes, argument.offset) for a, argument in zip(kernel.arguments, call.arguments, strict=True)
                   if isinstance(a, Workspace) and a.by_thread]
        borders += [tuple(offset + size // 2 for size, offset in sorted(divided, key=lambda item: -item[0]))] if divided else []
    assert len(borders) > 1
    assert len(set(borders)) == 1, borders
    assert len(borders[0]) == 3, "inputs, products, and what a transform keeps between columns and rows"
    alone = compile_model(model, target, Options(threads=1)).compiled.lowered
    assert not any(isinstance(a, Workspace) and a.by_thread for report in alone.calls for a in report.kernel.arguments)


def test_results_are_right(model):
    result = edgecc.verify(model, target="host", threads=2)
    assert result.ok, result.outputs
