"""Structural equality sees every difference but names and locations, and the hash follows it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import edgecc.ops  # noqa: F401 - the parser looks operators up
from edgecc.ir.equal import attribute_key, first_difference, parts_of, same_parts, structural_hash, structurally_equal
from edgecc.ir.parser import parse
from edgecc.ir.scalar import Arg, apply, literal
from edgecc.ir.types import DType, Layout
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.reduction import Normalize

TEXT = """\
graph "g" (%x: f32[2,3] "x", %z: f32[2,3] "z") {
  %c = constant f32[3] [1.0, 2.0, 3.0]
  %a = elementwise(%x, %c) {expr=`add($0:f32, $1:f32)`} : f32[2,3]{1,0} loc("A")
  %b = elementwise(%z, %c) {expr=`mul($0:f32, $1:f32)`} : f32[2,3]
  %n = elementwise(%a) {expr=`neg($0:f32)`} : f32[2,3]
  return %n "a", %b "b"
}
"""

SAME = {
    "names of values": TEXT.replace("%a", "%other").replace("%c", "%weights"),
    "name of the graph": TEXT.replace('"g"', '"h"'),
    "locations": TEXT.replace('loc("A")', 'loc("B", "C")'),
    "form of a constant": TEXT.replace("[1.0, 2.0, 3.0]", 'base64 "AACAPwAAAEAAAEBA"'),
}

DIFFERENT = {
    "an operator": TEXT.replace("add(", "sub("),
    "an operand": TEXT.replace("elementwise(%x,", "elementwise(%z,"),
    "operand order": TEXT.replace("(%x, %c)", "(%c, %x)"),
    "a layout": TEXT.replace("{1,0}", ""),
    "a constant": TEXT.replace("3.0]", "3.0000002]"),
    "the sign of zero": TEXT.replace("3.0]", "0.0]"),
    "an interface name": TEXT.replace('%b "b"', '%b "B"'),
    "what is returned": TEXT.replace('%b "b"', '%n "b"'),
    "order of outputs": TEXT.replace('%n "a", %b "b"', '%b "b", %n "a"'),
    "input order": TEXT.replace('%x: f32[2,3] "x", %z: f32[2,3] "z"', '%z: f32[2,3] "z", %x: f32[2,3] "x"'),
    "an unused input": TEXT.replace('"z")', '"z", %u: f32[] "u")'),
    "sharing of a constant": TEXT.replace(
        "  %b =", "  %d = constant f32[3] [1.0, 2.0, 3.0]\n  %b =").replace("(%z, %c)", "(%z, %d)"),
    "a dead node": TEXT.replace("  return", "  %d = elementwise(%x) {expr=`neg($0:f32)`} : f32[2,3]\n  return"),
}


@pytest.mark.parametrize("what", SAME)
def test_what_does_not_matter(what):
    one, other = parse(TEXT), parse(SAME[what])
    assert structurally_equal(one, other)
    assert structural_hash(one) == structural_hash(other)


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_matters(what):
    one = parse(TEXT if what != "the sign of zero" else TEXT.replace("3.0]", "-0.0]"))
    other = parse(DIFFERENT[what])
    assert not structurally_equal(one, other)
    assert first_difference(one, other)
    assert structural_hash(one) != structural_hash(other)


def test_the_order_of_independent_nodes_matters():
    one, other = parse(TEXT), parse(TEXT)
    other.reorder(other.nodes[::-1])
    assert structural_hash(one) != structural_hash(other)


def test_a_copy_is_equal():
    graph = parse(TEXT)
    copy = graph.copy()
    assert structurally_equal(graph, copy)
    copy.nodes[0].outputs[0].layout = Layout((0, 1))
    assert not structurally_equal(graph, copy)


def test_the_hash_is_the_same_in_another_process():
    code = f"import edgecc.ops, edgecc.ir.parser as p, edgecc.ir.equal as e; print(e.structural_hash(p.parse({TEXT!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)})
    assert done.stdout.strip() == structural_hash(parse(TEXT))


def test_floats_in_attributes_compare_as_they_print():
    nan, zero = float("nan"), 0.0

    def key(epsilon: float) -> str:
        return attribute_key(Normalize((1,), epsilon))

    assert key(nan) == key(-nan)
    assert key(zero) != key(-zero)
    assert key(1.0) != key(1)
    assert attribute_key(True) != attribute_key(1)
    one, other = (Elementwise(apply("add", Arg(0, DType.F32), literal(v, DType.F32))) for v in (0.0, -0.0))
    assert attribute_key(one) != attribute_key(other)


def test_a_long_graph_needs_no_recursion():
    lines = [f"  %v{i + 1} = elementwise(%v{i}) {{expr=`neg($0:f32)`}} : f32[2]" for i in range(5000)]
    text = "\n".join(['graph "g" (%v0: f32[2] "x") {', *lines, '  return %v5000 "y"', "}", ""])
    assert structurally_equal(parse(text), parse(text))


def test_every_change_in_place_shows_in_the_parts():
    def layout(graph):
        graph.nodes[1].output.layout = Layout((0, 1))

    def swapped(graph):
        node = graph.nodes[0]
        node.inputs = node.inputs[::-1]

    def operator(graph):
        graph.nodes[2].op = Elementwise(apply("abs", Arg(0, DType.F32)))

    def constant(graph):
        value = graph.nodes[0].inputs[1]
        value.constant = value.constant.copy()

    def outputs(graph):
        graph.set_outputs(graph.outputs[::-1], graph.output_names)

    def names(graph):
        graph.set_outputs(graph.outputs, ["other", "b"])

    def uses(graph):
        graph.inputs[0]._uses.clear()

    def producer(graph):
        graph.nodes[0].outputs[0].producer = graph.nodes[1]

    for change in (layout, swapped, operator, constant, outputs, names, uses, producer):
        graph = parse(TEXT)
        before = parts_of(graph)
        assert same_parts(before, parts_of(graph))
        change(graph)
        assert not same_parts(before, parts_of(graph)), change
