"""fuse-elementwise: chains of elementwise operators become one expression."""

from __future__ import annotations

import importlib

import pytest

from edgecc.ir.parser import parse_expr
from edgecc.ir.text import format_expr
from edgecc.passes.base import PASSES
from tests.support.graph_passes import declined, fired, graph_of, run_checked

FIRES = {
    "1 a chain": """
        graph "g" (%x: f32[2,3] "x", %z: f32[2,3] "z") {
          %a = elementwise(%x) {expr=`neg($0:f32)`} : f32[2,3] loc("A")
          %b = elementwise(%a, %z) {expr=`mul($0:f32, $1:f32)`} : f32[2,3] loc("B")
          %y = elementwise(%b) {expr=`exp($0:f32)`} : f32[2,3] loc("C")
          return %y "y"
        }""",
    "1 both operands": """
        graph "g" (%x: f32[2,3] "x", %z: f32[2,3] "z") {
          %a = elementwise(%x) {expr=`exp($0:f32)`} : f32[2,3] loc("A")
          %b = elementwise(%z, %x) {expr=`sub($0:f32, $1:f32)`} : f32[2,3] loc("B")
          %y = elementwise(%a, %b) {expr=`div($0:f32, $1:f32)`} : f32[2,3] loc("C")
          return %y "y"
        }""",
    "1 read twice by one node": """
        graph "g" (%x: f32[2,3] "x") {
          %a = elementwise(%x) {expr=`exp($0:f32)`} : f32[2,3] loc("A")
          %y = elementwise(%a, %a) {expr=`mul($0:f32, add($1:f32, 1.0:f32))`} : f32[2,3] loc("B")
          return %y "y"
        }""",
    "1 other types inside": """
        graph "g" (%x: f32[2,3] "x", %z: f32[2,3] "z") {
          %a = elementwise(%x, %z) {expr=`lt($0:f32, $1:f32)`} : bool[2,3] loc("Less")
          %b = elementwise(%a) {expr=`not($0:bool)`} : bool[2,3] loc("Not")
          %y = elementwise(%b, %x, %z) {expr=`select($0:bool, $1:f32, $2:f32)`} : f32[2,3] loc("Where")
          return %y "y"
        }""",
    "1 broadcasting of different ranks": """
        graph "g" (%x: f32[3,1] "x", %z: f32[4] "z", %u: f32[2,1,1] "u") {
          %a = elementwise(%x, %z) {expr=`mul($0:f32, $1:f32)`} : f32[3,4] loc("A")
          %y = elementwise(%u, %a) {expr=`sub($0:f32, $1:f32)`} : f32[2,3,4] loc("B")
          return %y "y"
        }""",
    "1 an operand that only gives the shape": """
        graph "g" (%x: f32[3] "x", %z: f32[2,1] "z") {
          %a = elementwise(%x, %z) {expr=`neg($0:f32)`} : f32[2,3] loc("A")
          %y = elementwise(%a) {expr=`exp($0:f32)`} : f32[2,3] loc("B")
          return %y "y"
        }""",
    "1 a producer that is a literal": """
        graph "g" (%x: f32[2,3] "x") {
          %a = elementwise(%x) {expr=`0.7:f32`} : f32[2,3] loc("A")
          %y = elementwise(%a) {expr=`sigmoid($0:f32)`} : f32[2,3] loc("B")
          return %y "y"
        }""",
    "1 silu": """
        graph "g" (%x: f32[2,3] "x") {
          %a = elementwise(%x) {expr=`sigmoid($0:f32)`} : f32[2,3] loc("Sigmoid")
          %y = elementwise(%x, %a) {expr=`mul($0:f32, $1:f32)`} : f32[2,3] loc("Mul")
          return %y "y"
        }""",
    "1 gelu": """
        graph "g" (%x: f32[2,3] "x") {
          %a = elementwise(%x) {expr=`div($0:f32, 1.4142135381698608:f32)`} : f32[2,3] loc("Div")
          %b = elementwise(%a) {expr=`erf($0:f32)`} : f32[2,3] loc("Erf")
          %c = elementwise(%b) {expr=`add($0:f32, 1.0:f32)`} : f32[2,3] loc("Add")
          %d = elementwise(%x, %c) {expr=`mul($0:f32, $1:f32)`} : f32[2,3] loc("Mul")
          %y = elementwise(%d) {expr=`mul($0:f32, 0.5:f32)`} : f32[2,3] loc("Half")
          return %y "y"
        }""",
    "2 one cheap operation with two readers": """
        graph "g" (%x: f32[2,3] "x") {
          %a = elementwise(%x) {expr=`max($0:f32, 0.0:f32)`} : f32[2,3] loc("Relu")
          %b = elementwise(%a) {expr=`exp($0:f32)`} : f32[2,3] loc("B")
          %c = elementwise(%a) {expr=`tanh($0:f32)`} : f32[2,3] loc("C")
          return %b "b", %c "c"
        }""",
    "2 an offset per channel with two readers": """
        graph "g" (%x: f32[1,2,5,7] "x") {
          %m = constant f32[2,1,1] random
          %a = elementwise(%x, %m) {expr=`sub($0:f32, $1:f32)`} : f32[1,2,5,7] loc("Sub")
          %b = elementwise(%a) {expr=`exp($0:f32)`} : f32[1,2,5,7] loc("B")
          %c = elementwise(%a) {expr=`tanh($0:f32)`} : f32[1,2,5,7] loc("C")
          return %b "b", %c "c"
        }""",
    "6 the sign may be asked for": """
        graph "g" (%x: f32[2,3] "x", %z: f32[2,3] "z") {
          %a = elementwise(%x, %z) {expr=`add($0:f32, $1:f32)`} : f32[2,3] loc("Add")
          %y = elementwise(%a) {expr=`select(lt($0:f32, 0.0:f32), mul($0:f32, 0.1:f32), $0:f32)`} : f32[2,3] loc("LeakyRelu")
          return %y "y"
        }""",
    "6 what does not round may be compared": """
        graph "g" (%x: f32[2,3] "x", %z: f32[2,3] "z") {
          %a = elementwise(%x, %z) {expr=`max($0:f32, $1:f32)`} : f32[2,3] loc("Max")
          %y = elementwise(%a) {expr=`floor($0:f32)`} : f32[2,3] loc("Floor")
          return %y "y"
        }""",
}

DECLINES = {
    "3 returned": """
        graph "g" (%x: f32[2,3] "x") {
          %a = elementwise(%x) {expr=`neg($0:f32)`} : f32[2,3] loc("A")
          %y = elementwise(%a) {expr=`exp($0:f32)`} : f32[2,3] loc("B")
          return %y "y", %a "a"
        }""",
    "3 another kind of reader": """
        graph "g" (%x: f32[2,3] "x") {
          %a = elementwise(%x) {expr=`neg($0:f32)`} : f32[2,3] loc("A")
          %y = elementwise(%a) {expr=`exp($0:f32)`} : f32[2,3] loc("B")
          %z = softmax(%a) {axis=1, log=false} : f32[2,3]
          return %y "y", %z "z"
        }""",
    "3 costly with two readers": """
        graph "g" (%x: f32[2,3] "x") {
          %a = elementwise(%x) {expr=`exp($0:f32)`} : f32[2,3] loc("A")
          %y = elementwise(%a) {expr=`neg($0:f32)`} : f32[2,3] loc("B")
          %z = elementwise(%a) {expr=`abs($0:f32)`} : f32[2,3] loc("C")
          return %y "y", %z "z"
        }""",
    "3 two large operands with two readers": """
        graph "g" (%x: f32[2,3] "x", %u: f32[2,3] "u") {
          %a = elementwise(%x, %u) {expr=`add($0:f32, $1:f32)`} : f32[2,3] loc("A")
          %y = elementwise(%a) {expr=`neg($0:f32)`} : f32[2,3] loc("B")
          %z = elementwise(%a) {expr=`abs($0:f32)`} : f32[2,3] loc("C")
          return %y "y", %z "z"
        }""",
    "4 broadcasting would repeat it": """
        graph "g" (%x: f32[3] "x", %z: f32[2,3] "z") {
          %a = elementwise(%x) {expr=`exp($0:f32)`} : f32[3] loc("A")
          %y = elementwise(%a, %z) {expr=`mul($0:f32, $1:f32)`} : f32[2,3] loc("B")
          return %y "y"
        }""",
    "6 a comparison": """
        graph "g" (%x: f32[2,3] "x", %z: f32[2,3] "z") {
          %a = elementwise(%x, %z) {expr=`add($0:f32, $1:f32)`} : f32[2,3] loc("Add")
          %y = elementwise(%a) {expr=`lt($0:f32, 0.5:f32)`} : bool[2,3] loc("Less")
          return %y "y"
        }""",
    "6 a conversion to integers": """
        graph "g" (%x: f32[2,3] "x", %z: f32[2,3] "z") {
          %a = elementwise(%x, %z) {expr=`mul($0:f32, $1:f32)`} : f32[2,3] loc("Mul")
          %y = elementwise(%a) {expr=`i32($0:f32)`} : i32[2,3] loc("Cast")
          return %y "y"
        }""",
    "7 it belongs into an epilogue": """
        graph "g" (%x: f32[2,3] "x") {
          %w = constant f32[3,3] random
          %m = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[2,3] loc("MatMul")
          %a = elementwise(%m) {expr=`max($0:f32, 0.0:f32)`} : f32[2,3] loc("Relu")
          %y = elementwise(%a) {expr=`exp($0:f32)`} : f32[2,3] loc("B")
          %z = elementwise(%a) {expr=`tanh($0:f32)`} : f32[2,3] loc("C")
          return %y "y", %z "z"
        }""",
}

NINE = """
    graph "g" ({inputs}) {{
      %s0 = elementwise(%x0, %x1) {{expr=`add($0:f32, $1:f32)`}} : f32[2]
      {sums}
      return %s7 "y"
    }}""".format(inputs=", ".join(f'%x{i}: f32[2] "x{i}"' for i in range(9)),
                 sums="\n".join(f"%s{i} = elementwise(%s{i - 1}, %x{i + 1}) {{expr=`add($0:f32, $1:f32)`}} : f32[2]" for i in range(1, 8)))

LONG = """
    graph "g" (%v0: f32[2] "x") {{
      {nodes}
      return %v150 "y"
    }}""".format(nodes="\n".join(f"%v{i + 1} = elementwise(%v{i}) {{expr=`{'tanh' if i % 2 else 'abs'}($0:f32)`}} : f32[2]"
                                 for i in range(150)))


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("fuse-elementwise", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("fuse-elementwise", DECLINES[case]), "txt")


def test_case_5_operands_are_bounded(golden):
    golden(fired("fuse-elementwise", NINE))
    graph = graph_of(NINE)
    run_checked(graph, "fuse-elementwise{max_operands=4}")
    assert [len(node.inputs) for node in graph.nodes] == [4, 4, 3]


def test_case_5_operations_are_bounded():
    graph = graph_of(LONG)
    run_checked(graph, "fuse-elementwise")
    assert [str(node.op).count("Apply(") for node in graph.nodes] == [64, 64, 22]


def test_what_is_much_too_large_is_not_composed(monkeypatch):
    module = importlib.import_module(PASSES["fuse-elementwise"].__module__)
    graph, tried, composed = graph_of(LONG), [], module.composed
    monkeypatch.setattr(module, "composed", lambda *given: tried.append(given) or composed(*given))
    run_checked(graph, "fuse-elementwise")
    assert len(tried) < 200  # each node once, and few of them in vain


def test_the_fused_expression_reads_shared_operands_once():
    graph = graph_of(FIRES["1 gelu"])
    run_checked(graph, "fuse-elementwise")
    (node,) = graph.nodes
    assert len(node.inputs) == 1
    assert node.loc == ("Div", "Erf", "Add", "Mul", "Half")
    assert node.op.expr == parse_expr(format_expr(node.op.expr))
