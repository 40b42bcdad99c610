"""assign-layout: channels last inside, views where possible, row-major elsewhere."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.graph import Value
from edgecc.ir.types import DType, Layout, TensorType
from edgecc.ops.movement import Reshape, Transpose
from edgecc.passes.base import create_pass
from edgecc.passes.graph.assign_layout import canonical_order, reshaped_order
from edgecc.pipeline import run_passes
from tests.support.graph_passes import declined, fired, graph_of
from tests.support.graphs import graphs

CONV = "strides=(1,1), pads=(1,1,1,1), dilations=(1,1), group=1"

FIRES = {
    "a chain between convolutions": f"""
        graph "g" (%x: f32[1,3,8,6] "x") {{
          %w = constant f32[4,3,3,3] random
          %v = constant f32[4,4,3,3] random
          %s = constant f32[4,1,1] random
          %a = conv(%x, %w) {{{CONV}}} : f32[1,4,8,6]
          %b = elementwise(%a, %s) {{expr=`mul($0:f32, $1:f32)`}} : f32[1,4,8,6]
          %c = pad(%b) {{before=(0,0,1,1), after=(0,0,1,1), mode="edge"}} : f32[1,4,10,8]
          %d = slice(%c) {{starts=(0,0,0,0), sizes=(1,4,5,4), steps=(1,1,2,2)}} : f32[1,4,5,4]
          %e = pool(%d) {{kind="max", kernel=(2,2), strides=(1,1), pads=(0,0,0,0), dilations=(1,1), count_include_pad=false, \
ceil_mode=false}} : f32[1,4,4,3]
          %f = concat(%e, %e) {{axis=2}} : f32[1,4,8,3]
          %g = resize(%f) {{mode="nearest", sizes=(1,4,8,6), scales=(1.0,1.0,1.0,2.0), coordinate_mode="half_pixel", \
nearest_mode="round_prefer_floor", cubic_coefficient=-0.75, exclude_outside=false, extrapolation_value=0.0, roi=()}} : f32[1,4,8,6]
          %h = conv(%g, %v, none, %b) {{{CONV}, epilogue=`add($0:f32, $1:f32)`}} : f32[1,4,8,6]
          %r = reduce(%h) {{kind="mean", axes=(2,3), keepdims=true}} : f32[1,4,1,1]
          %y = reshape(%r) {{shape=(1,4)}} : f32[1,4]
          return %y "y"
        }}""",
    "a transpose behind a convolution is a view": f"""
        graph "g" (%x: f32[1,3,8,6] "x") {{
          %w = constant f32[4,3,3,3] random
          %a = conv(%x, %w) {{{CONV}}} : f32[1,4,8,6]
          %b = transpose(%a) {{perm=(0,2,3,1)}} : f32[1,8,6,4]
          %c = reshape(%b) {{shape=(1,48,4)}} : f32[1,48,4]
          %y = softmax(%c) {{axis=2, log=false}} : f32[1,48,4]
          return %y "y"
        }}""",
    "a flattening behind a convolution copies": f"""
        graph "g" (%x: f32[1,3,8,6] "x") {{
          %w = constant f32[4,3,3,3] random
          %v = constant f32[192,5] random
          %a = conv(%x, %w) {{{CONV}}} : f32[1,4,8,6]
          %b = reshape(%a) {{shape=(1,192)}} : f32[1,192]
          %y = matmul(%b, %v) {{transpose_a=false, transpose_b=false}} : f32[1,5]
          return %y "y"
        }}""",
    "the operator before a flattening writes row-major": f"""
        graph "g" (%x: f32[1,3,8,6] "x") {{
          %w = constant f32[4,3,3,3] random
          %a = conv(%x, %w) {{{CONV}}} : f32[1,4,8,6]
          %b = elementwise(%a) {{expr=`exp($0:f32)`}} : f32[1,4,8,6]
          %c = reshape(%b) {{shape=(1,192)}} : f32[1,192]
          %y = elementwise(%c) {{expr=`neg($0:f32)`}} : f32[1,192]
          return %y "y"
        }}""",
    "a channel shuffle": f"""
        graph "g" (%x: f32[1,3,8,6] "x") {{
          %w = constant f32[4,3,3,3] random
          %v = constant f32[4,4,3,3] random
          %a = conv(%x, %w) {{{CONV}}} : f32[1,4,8,6]
          %b = reshape(%a) {{shape=(1,2,2,8,6)}} : f32[1,2,2,8,6]
          %c = transpose(%b) {{perm=(0,2,1,3,4)}} : f32[1,2,2,8,6]
          %d = reshape(%c) {{shape=(1,4,8,6)}} : f32[1,4,8,6]
          %y = conv(%d, %v) {{{CONV}}} : f32[1,4,8,6]
          return %y "y"
        }}""",
    "heads of attention are split and merged without copies": """
        graph "g" (%x: f32[1,6,8] "x") {
          %w = constant f32[8,8] random
          %q = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[1,6,8]
          %r = reshape(%q) {shape=(1,6,2,4)} : f32[1,6,2,4]
          %h = transpose(%r) {perm=(0,2,1,3)} : f32[1,2,6,4]
          %k = transpose(%r) {perm=(0,2,3,1)} : f32[1,2,4,6]
          %s = matmul(%h, %k) {transpose_a=false, transpose_b=false} : f32[1,2,6,6]
          %p = softmax(%s) {axis=3, log=false} : f32[1,2,6,6]
          %o = matmul(%p, %h) {transpose_a=false, transpose_b=false} : f32[1,2,6,4]
          %t = transpose(%o) {perm=(0,2,1,3)} : f32[1,6,2,4]
          %m = reshape(%t) {shape=(1,6,8)} : f32[1,6,8]
          %y = matmul(%m, %w) {transpose_a=false, transpose_b=false} : f32[1,6,8]
          return %y "y"
        }""",
    "signals of one axis": """
        graph "g" (%x: f32[1,20,3] "x") {
          %w = constant f32[4,3,3] random
          %t = transpose(%x) {perm=(0,2,1)} : f32[1,3,20]
          %a = conv(%t, %w) {strides=(1), pads=(0,0), dilations=(1), group=1} : f32[1,4,18]
          %b = reduce(%a) {kind="max", axes=(0), keepdims=false} : f32[4,18]
          %y = elementwise(%b) {expr=`neg($0:f32)`} : f32[4,18]
          return %y "y"
        }""",
}

ROW_MAJOR = {
    "1 inputs, outputs and constants": f"""
        graph "g" (%x: f32[1,3,8,6] "x") {{
          %w = constant f32[4,3,3,3] random
          %y = conv(%x, %w) {{{CONV}}} : f32[1,4,8,6]
          return %y "y"
        }}""",
    "6 nothing spatial": """
        graph "g" (%x: f32[2,3,4] "x") {
          %a = elementwise(%x) {expr=`neg($0:f32)`} : f32[2,3,4]
          %b = softmax(%a) {axis=1, log=false} : f32[2,3,4]
          %y = elementwise(%b) {expr=`exp($0:f32)`} : f32[2,3,4]
          return %y "y"
        }""",
    "axes of size 1 make channels last row-major": """
        graph "g" (%x: f32[1,3,1,1] "x") {
          %w = constant f32[4,3,1,1] random
          %a = conv(%x, %w) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1} : f32[1,4,1,1]
          %y = elementwise(%a) {expr=`neg($0:f32)`} : f32[1,4,1,1]
          return %y "y"
        }""",
}


@pytest.mark.parametrize(("channels", "size", "copied"), [(9, 8, True), (8, 8, False), (9, 7, False)])
def test_outputs_of_many_channels_are_copies(channels, size, copied):
    graph = graph_of(f"""
        graph "g" (%x: f32[1,3,{size},{size}] "x") {{
          %w = constant f32[{channels},3,3,3] random
          %y = conv(%x, %w) {{{CONV}}} : f32[1,{channels},{size},{size}]
          %z = elementwise(%y) {{expr=`neg($0:f32)`}} : f32[1,{channels},{size},{size}]
          return %y "y", %z "z", %y "again"
        }}""")
    run_passes(graph, [create_pass("assign-layout")], verify_each={"x": np.ones((1, 3, size, size), np.float32)})
    result = graph.nodes[0].output
    assert graph.output_names == ["y", "z", "again"] and graph.outputs[0] is graph.outputs[2]
    assert graph.outputs[0].layout.is_row_major
    assert (graph.outputs[0] is not result) == copied == (result.layout.order == (0, 2, 3, 1))
    assert graph.nodes[1].operand(0) is result


@pytest.mark.parametrize("rows", ["normalize(%x) {axes=(2), epsilon=1e-05, rms=false}", "softmax(%x) {axis=2, log=false}"])
def test_rows_stay_together_where_readers_want_them_apart(rows):
    graph = graph_of(f"""
        graph "g" (%x: f32[1,48,4] "x") {{
          %a = {rows} : f32[1,48,4]
          %b = transpose(%a) {{perm=(0,2,1)}} : f32[1,4,48]
          %c = reshape(%b) {{shape=(1,8,24)}} : f32[1,8,24]
          %d = elementwise(%c) {{expr=`neg($0:f32)`}} : f32[1,8,24]
          return %d "y"
        }}""")
    run_passes(graph, [create_pass("assign-layout")])
    assert graph.nodes[0].output.layout.is_row_major


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("assign-layout", FIRES[case]))


@pytest.mark.parametrize("case", ROW_MAJOR)
def test_stays_row_major(case):
    assert declined("assign-layout", ROW_MAJOR[case]) == ""


def bytes_in(array: np.ndarray, order: tuple[int, ...]) -> bytes:
    return np.ascontiguousarray(array.transpose(order)).tobytes()


@given(st.data())
@settings(max_examples=300)
def test_a_reshape_is_a_view_exactly_when_some_order_has_the_same_bytes(data):
    dims = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=4)))
    order = tuple(data.draw(st.permutations(range(len(dims)))))
    count = math.prod(dims)
    new: list[int] = []
    while count > 1 or not new:
        size = data.draw(st.sampled_from([d for d in (1, 2, 3, 4, 6, 8, 9, 12, 24) if count % d == 0]))
        if len(new) == 3:
            size = count
        new.append(size)
        count //= size
    array = np.arange(math.prod(dims), dtype=np.int32).reshape(dims)
    found = reshaped_order(Value(TensorType(DType.I32, dims), "x"), order, tuple(new))
    memory, reshaped = bytes_in(array, order), array.reshape(new)
    views = [p for p in permutations(range(len(new))) if bytes_in(reshaped, p) == memory]
    assert (found is None) == (not views)
    assert found is None or found in views


@given(st.data())
def test_a_canonical_order_has_the_same_bytes_and_is_row_major_if_one_is(data):
    dims = tuple(data.draw(st.lists(st.sampled_from([1, 1, 2, 3]), min_size=0, max_size=5)))
    order = tuple(data.draw(st.permutations(range(len(dims)))))
    array = np.arange(math.prod(dims)).reshape(dims)
    canonical = canonical_order(order, dims)
    assert sorted(canonical) == list(range(len(dims)))
    assert bytes_in(array, canonical) == bytes_in(array, order)
    assert canonical_order(canonical, dims) == canonical
    if bytes_in(array, order) == array.tobytes():
        assert Layout(canonical).is_row_major


@given(graphs())
@settings(max_examples=60)
def test_every_transpose_inside_is_a_view(graph):
    run_passes(graph, [create_pass("assign-layout")])
    for node in graph.nodes:
        if isinstance(node.op, Transpose) and not graph.is_output(node.output):
            source, result = node.operand(0), node.output
            strides = source.layout.strides(source.type.dims)
            moved = tuple(strides[axis] for axis in node.op.perm)
            own = result.layout.strides(result.type.dims)
            assert all(a == b or d == 1 for a, b, d in zip(moved, own, result.type.dims, strict=True))


def test_it_does_not_depend_on_the_layouts_it_finds():
    one, other = graph_of(FIRES["a channel shuffle"]), graph_of(FIRES["a channel shuffle"])
    for node in other.nodes:
        value = node.output
        if not other.is_output(value):
            value.layout = Layout(tuple(reversed(range(value.type.rank))))
    for graph in (one, other):
        run_passes(graph, [create_pass("assign-layout")])
    assert [n.output.layout for n in one.nodes] == [n.output.layout for n in other.nodes]
    shuffled = next(n for n in one.nodes if isinstance(n.op, Reshape) and n.output.type.rank == 4)
    assert shuffled.output.layout.is_row_major or shuffled.output.layout.order == (0, 2, 3, 1)
