"""fold-constants: computes what depends on constants alone, within a size limit."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.passes.base import parse_passes
from tests.support.graph_passes import declined, fired, graph_of, run_checked

FIRES = {
    "a chain": """
        graph "g" (%x: f32[2] "x") {
          %c = constant f32[2] random
          %a = elementwise(%c) {expr=`exp($0:f32)`} : f32[2] loc("A")
          %b = reshape(%a) {shape=(1,2)} : f32[1,2] loc("B")
          %y = elementwise(%x, %b) {expr=`mul($0:f32, $1:f32)`} : f32[1,2] loc("Y")
          return %y "y"
        }""",
    "several results": """
        graph "g" (%x: f32[3,2] "x") {
          %c = constant f32[3] [3.0, 1.0, 2.0]
          %v, %i = top_k(%c) {k=2, axis=0, largest=true} : f32[2], i64[2] loc("T")
          %a = gather(%x, %i) {axis=0} : f32[2,2] loc("G")
          %y = elementwise(%a, %v) {expr=`mul($0:f32, $1:f32)`} : f32[2,2] loc("Y")
          return %y "y"
        }""",
    "no operands at all": """
        graph "g" (%x: f32[2] "x") {
          %a = elementwise() {expr=`add(1.0:f32, 2.0:f32)`} : f32[] loc("A")
          %y = elementwise(%x, %a) {expr=`mul($0:f32, $1:f32)`} : f32[2] loc("Y")
          return %y "y"
        }""",
    "absent operands": """
        graph "g" (%x: f32[1,1,2] "x") {
          %c = constant f32[1,1,3] random
          %w = constant f32[1,1,2] random
          %a = conv(%c, %w) {strides=(1), pads=(0,0), dilations=(1), group=1} : f32[1,1,2] loc("C")
          %y = elementwise(%x, %a) {expr=`mul($0:f32, $1:f32)`} : f32[1,1,2] loc("Y")
          return %y "y"
        }""",
}

RETURNED = """
    graph "g" (%x: f32[2] "x") {
      %c = constant f32[2] random
      %a = elementwise(%c) {expr=`exp($0:f32)`} : f32[2] loc("A")
      %y = elementwise(%x, %a) {expr=`add($0:f32, $1:f32)`} : f32[2] loc("Y")
      return %y "y", %a "a"
    }"""

EXPANDED = """
    graph "g" (%x: f32[64,64] "x") {
      %c = constant f32[1,64] random
      %a = expand(%c) {shape=(64,64)} : f32[64,64] loc("A")
      %y = elementwise(%x, %a) {expr=`add($0:f32, $1:f32)`} : f32[64,64] loc("Y")
      return %y "y"
    }"""

WIDENED = """
    graph "g" (%x: f32[8,64] "x") {
      %c = constant f16[64,64] random
      %a = elementwise(%c) {expr=`f32($0:f16)`} : f32[64,64] loc("Cast")
      %y = matmul(%x, %a) {transpose_a=false, transpose_b=false} : f32[8,64] loc("Y")
      return %y "y"
    }"""


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("fold-constants", FIRES[case]))


def test_computes_what_the_reference_computes():
    graph = graph_of(FIRES["a chain"])
    c = next(graph.constants()).constant
    run_checked(graph, "fold-constants")
    (folded,) = (value.constant for value in graph.constants())
    assert np.array_equal(folded, np.exp(c.astype(np.float64)).astype(np.float32).reshape(1, 2))


def test_declines_what_the_graph_returns(golden):
    golden(declined("fold-constants", RETURNED), "txt")


def test_declines_what_would_make_the_weights_grow(golden):
    golden(declined("fold-constants{limit_bytes=16383}", EXPANDED), "txt")


def test_the_limit_is_inclusive(golden):
    golden(fired("fold-constants{limit_bytes=16384}", EXPANDED))


def test_widened_weights_are_folded_whatever_their_size(golden):
    golden(fired("fold-constants{limit_bytes=0}", WIDENED))


def test_numbers_alone_are_folded_where_integers_are_kept():
    text = """
        graph "g" (%x: f32[2,3] "x") {
          %c = constant i8[] [101]
          %d = constant i8[3] [1, 2, 3]
          %a = elementwise(%c) {expr=`mul(f32(sub(i32($0:i8), 5:i32)), 0.5:f32)`} : f32[] loc("A")
          %b = elementwise(%d) {expr=`mul(f32(sub(i32($0:i8), 5:i32)), 0.5:f32)`} : f32[3] loc("B")
          %y = elementwise(%x, %a) {expr=`mul($0:f32, $1:f32)`} : f32[2,3] loc("Y")
          %z = elementwise(%y, %b) {expr=`add($0:f32, $1:f32)`} : f32[2,3] loc("Z")
          return %z "z"
        }"""
    graph = graph_of(text)
    run_checked(graph, "fold-constants{keep_dequantized=true}")
    assert [node.loc for node in graph.nodes] == [("B",), ("Y",), ("Z",)]


def test_what_one_run_made_lets_the_next_make_no_more():
    """Slices of one constant, which a run after another could make until memory is full."""
    parts = "".join(f"%p{i} = slice(%c) {{starts=({i},0), sizes=(64,64), steps=(1,1)}} : f32[64,64] loc(\"S{i}\")\n"
                    f"%t{i} = matmul({'%x' if i == 0 else f'%t{i - 1}'}, %p{i}) : f32[1,64] loc(\"M{i}\")\n" for i in range(64))
    graph = graph_of('graph "g" (%x: f32[1,64] "x") {\n%c = constant f32[128,64] random\n' + parts + 'return %t63 "y" }')
    (folding,) = parse_passes("fold-constants{limit_bytes=16384,spare_bytes=0}")
    assert folding.run(graph)
    left = sum(node.op.name == "slice" for node in graph.nodes)
    assert left == 48  # 8 times the constant are 16 slices
    folding.run(graph)
    assert sum(node.op.name == "slice" for node in graph.nodes) == 32
