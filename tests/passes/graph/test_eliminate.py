"""eliminate: dead nodes, identities, equal nodes and constants."""

from __future__ import annotations

import pytest

from tests.support.graph_passes import declined, fired

FIRES = {
    "dead node and what it kept alive": """
        graph "g" (%x: f32[2,3] "x") {
          %a = elementwise(%x) {expr=`neg($0:f32)`} : f32[2,3] loc("A")
          %b = elementwise(%a) {expr=`abs($0:f32)`} : f32[2,3] loc("B")
          %y = elementwise(%x) {expr=`exp(neg(abs($0:f32)))`} : f32[2,3] loc("Y")
          return %y "y"
        }""",
    "a node one of whose results is used stays": """
        graph "g" (%x: f32[2,3] "x") {
          %v, %i = top_k(%x) {k=2, axis=1, largest=true} : f32[2,2], i64[2,2] loc("T")
          %dead = elementwise(%i) {expr=`neg($0:i64)`} : i64[2,2]
          return %v "y"
        }""",
    "every identity": """
        graph "g" (%x: f32[2,3] "x", %z: f32[1,3] "z") {
          %v = constant f32[] [7.0]
          %a = elementwise(%x) {expr=`$0:f32`} : f32[2,3] loc("Identity")
          %b = transpose(%a) {perm=(0,1)} : f32[2,3] loc("Transpose")
          %c = reshape(%b) {shape=(2,3)} : f32[2,3] loc("Reshape")
          %d = expand(%c) {shape=(2,3)} : f32[2,3] loc("Expand")
          %e = slice(%d) {starts=(0,0), sizes=(2,3), steps=(1,1)} : f32[2,3] loc("Slice")
          %f = pad(%e, %v) {before=(0,0), after=(0,0), mode="constant"} : f32[2,3] loc("Pad")
          %g = concat(%f) {axis=1} : f32[2,3] loc("Concat")
          %y = elementwise(%g, %z) {expr=`add($0:f32, $1:f32)`} : f32[2,3] loc("Add")
          return %y "y"
        }""",
    "an identity whose value is also returned": """
        graph "g" (%x: f32[2,3] "x") {
          %a = elementwise(%x) {expr=`neg($0:f32)`} : f32[2,3] loc("A")
          %b = reshape(%a) {shape=(2,3)} : f32[2,3] loc("B")
          %y = elementwise(%b) {expr=`abs($0:f32)`} : f32[2,3] loc("Y")
          return %b "b", %y "y"
        }""",
    "equal nodes and equal constants": """
        graph "g" (%x: f32[2,3] "x") {
          %c = constant f32[3] [1.0, 2.0, 3.0]
          %d = constant f32[3] [1.0, 2.0, 3.0]
          %e = constant f32[3] [1.0, 2.0, -3.0]
          %a = elementwise(%x, %c) {expr=`add($0:f32, $1:f32)`} : f32[2,3] loc("A")
          %b = elementwise(%x, %d) {expr=`add($0:f32, $1:f32)`} : f32[2,3] loc("B")
          %n = elementwise(%b) {expr=`neg($0:f32)`} : f32[2,3] loc("N")
          %m = elementwise(%a) {expr=`neg($0:f32)`} : f32[2,3] loc("M")
          %o = elementwise(%x, %e) {expr=`add($0:f32, $1:f32)`} : f32[2,3] loc("O")
          %y = concat(%n, %m, %o) {axis=0} : f32[6,3]
          return %y "y"
        }""",
    "zeros of unequal sign are unequal": """
        graph "g" (%x: f32[3] "x") {
          %c = constant f32[3] [0.0, 2.0, 3.0]
          %d = constant f32[3] [-0.0, 2.0, 3.0]
          %e = constant f32[3] [0.0, 2.0, 3.0]
          %y = concat(%x, %c, %d, %e) {axis=0} : f32[12]
          return %y "y"
        }""",
    "different attributes and types": """
        graph "g" (%x: f32[3,3] "x", %h: f16[3,3] "h") {
          %a = softmax(%x) {axis=0, log=false} : f32[3,3]
          %b = softmax(%x) {axis=1, log=false} : f32[3,3]
          %c = softmax(%x) {axis=1, log=true} : f32[3,3]
          %d = elementwise(%h) {expr=`f32($0:f16)`} : f32[3,3]
          %e = softmax(%x) {axis=1, log=false} : f32[3,3]
          %y = concat(%a, %b, %c, %d, %e) {axis=0} : f32[15,3]
          return %y "y"
        }""",
    "equal nodes with several results": """
        graph "g" (%x: f32[2,3] "x") {
          %v, %i = top_k(%x) {k=2, axis=1, largest=true} : f32[2,2], i64[2,2] loc("T")
          %w, %j = top_k(%x) {k=2, axis=1, largest=true} : f32[2,2], i64[2,2] loc("U")
          %k, %l = top_k(%x) {k=2, axis=1, largest=false} : f32[2,2], i64[2,2] loc("V")
          %y = concat(%v, %w, %k) {axis=1} : f32[2,6]
          return %y "y", %j "j"
        }""",
}

DECLINES = {
    "4 the identity changes the layout": """
        graph "g" (%x: f32[2,3,4,5] "x") {
          %a = elementwise(%x) {expr=`neg($0:f32)`} : f32[2,3,4,5]
          %b = elementwise(%a) {expr=`$0:f32`} : f32[2,3,4,5]{0,2,3,1}
          %y = elementwise(%b) {expr=`abs($0:f32)`} : f32[2,3,4,5]
          return %y "y"
        }""",
    "5 the graph would return an input": """
        graph "g" (%x: f32[2,3] "x") {
          %y = reshape(%x) {shape=(2,3)} : f32[2,3]
          return %y "y"
        }""",
    "5 the graph would return a constant": """
        graph "g" (%x: f32[2,3] "x") {
          %c = constant f32[2] [1.0, 2.0]
          %y = reshape(%c) {shape=(2)} : f32[2]
          return %y "y"
        }""",
    "5 the graph would return one value twice": """
        graph "g" (%x: f32[2,3] "x") {
          %a = elementwise(%x) {expr=`neg($0:f32)`} : f32[2,3]
          %b = reshape(%a) {shape=(2,3)} : f32[2,3]
          return %a "a", %b "b"
        }""",
    "5 equal nodes are both returned": """
        graph "g" (%x: f32[2,3] "x") {
          %a = elementwise(%x) {expr=`neg($0:f32)`} : f32[2,3]
          %b = elementwise(%x) {expr=`neg($0:f32)`} : f32[2,3]
          return %a "a", %b "b"
        }""",
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("eliminate", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("eliminate", DECLINES[case]), "txt")
