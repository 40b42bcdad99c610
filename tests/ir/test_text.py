"""The textual form prints and parses back every graph, and errors point at the place."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgecc.ops  # noqa: F401 - the parser looks operators up
from edgecc.errors import EdgeccError
from edgecc.ir.dims import symbol
from edgecc.ir.equal import first_difference
from edgecc.ir.graph import Graph
from edgecc.ir.op import OPS
from edgecc.ir.parser import parse, parse_array, parse_expr
from edgecc.ir.scalar import PRIMITIVES, Apply, Arg, Convert, Literal, apply, literal
from edgecc.ir.strings import string_array
from edgecc.ir.text import format_attribute, format_constant, format_expr, format_node, to_text
from edgecc.ir.types import DType, Layout, TensorType
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.movement import Transpose
from edgecc.ops.reduction import TopK

F32 = DType.F32

EXAMPLE = """\
graph "name" (%x: f32[1,3,8,8] "input.1") {
  %w = constant f32[4,3,3,3] splat 0.5
  %y = conv(%x, %w) {strides=(1,1), pads=(1,1,1,1), dilations=(1,1), group=1, \
epilogue=`max($0:f32, 0.0:f32)`} : f32[1,4,8,8]{0,2,3,1} loc("Conv_0", "Relu_1")
  %z = softmax(%y) {axis=1, log=false} : f32[1,4,8,8]
  return %z "758"
}
"""


def round_trip(graph: Graph) -> None:
    for locs in (False, True):
        text = to_text(graph, locs=locs)
        again = parse(text)
        assert first_difference(graph, again) is None
        assert to_text(again, locs=locs) == text


def test_the_example_prints_as_it_was_written():
    graph = parse(EXAMPLE)
    assert to_text(graph, locs=True) == EXAMPLE
    assert graph.nodes[0].loc == ("Conv_0", "Relu_1")
    assert graph.nodes[0].output.layout == Layout((0, 2, 3, 1))
    assert graph.nodes[0].op == Conv((1, 1), (1, 1, 1, 1), (1, 1), 1, apply("max", Arg(0, F32), literal(0.0, F32)))
    round_trip(graph)


def test_names_are_made_plain_and_unique_and_interface_names_kept():
    graph = Graph('a "quoted"\nname')
    x = graph.add_input(TensorType(F32, (2,)), "in/put 1:\x1b[31m")
    neg = Elementwise(apply("neg", Arg(0, F32)))
    y = graph.add(neg, x, name="in/put 1:\x1b[31m")
    z = graph.add(neg, y, name="")
    u = graph.add(neg, z, name="v")
    graph.set_outputs([y, z, u, u], ["é", "\ud800", "%x", ""])
    text = to_text(graph)
    assert "\x1b" not in text
    assert "%in_put_1___31m_2 = " in text
    assert "%v_2 = " in text
    assert parse(text).output_names == graph.output_names
    round_trip(graph)


def test_a_name_that_looks_like_a_numbered_one_does_not_collide():
    graph = Graph()
    x = graph.add_input(TensorType(F32, (2,)), "c_2")
    neg = Elementwise(apply("neg", Arg(0, F32)))
    for _ in range(3):
        x = graph.add(neg, x, name="c")
    graph.set_outputs([x], ["y"])
    assert [line.split(" = ")[0].strip() for line in to_text(graph).splitlines()[1:4]] == ["%c", "%c_3", "%c_4"]
    round_trip(graph)


def test_sharing_and_position_of_constants_are_kept():
    graph = Graph()
    x = graph.add_input(TensorType(F32, (2,)), "x")
    add = Elementwise(apply("add", Arg(0, F32), Arg(1, F32)))
    shared, own = (graph.constant(np.array([1, 2], np.float32)) for _ in range(2))
    y = graph.add(add, graph.add(add, x, shared), shared)
    graph.set_outputs([graph.add(add, y, own), own, graph.constant(np.array(True))], ["y", "c", "t"])
    assert to_text(graph).count(" = constant") == 3
    round_trip(graph)


def test_several_results_and_absent_operands():
    text = """\
graph "g" (%x: f32[2,5] "x") {
  %values, %indices = top_k(%x) {k=2, axis=1, largest=true} : f32[2,2], i64[2,2]
  %s = reshape(%x) {shape=(1,2,5)} : f32[1,2,5]
  %w = constant f32[1,4,5] splat 0.25
  %r = constant f32[1,4,1] [1.0, 2.0, 3.0, 4.0]
  %i = constant f32[1,2,1] [0.0, 0.0]
  %y, %y_h, %y_c = recurrent(%s, %w, %r, none, none, %i) {kind="lstm", hidden_size=1, direction="forward", \
activations=(), activation_alpha=(), activation_beta=(), clip=0.0, linear_before_reset=false, input_forget=false, \
layout=0} : f32[1,1,2,1], f32[1,2,1], f32[1,2,1]
  return %values "v", %indices "i", %y "y"
}
"""
    graph = parse(text)
    assert to_text(graph) == text
    assert graph.nodes[2].inputs[3:5] == (None, None)
    round_trip(graph)


def test_symbolic_dims_print_with_their_bounds():
    graph = Graph()
    x = graph.add_input(TensorType(F32, (symbol("batch", 1, 8), symbol("seq len+1", 0, 5), 3)), "x")
    graph.set_outputs([x], ["x"])
    assert '%x: f32[batch:1..8,"seq len+1":0..5,3] "x"' in to_text(graph)
    round_trip(graph)


def test_trailing_absent_operands_make_no_difference():
    graph = parse(EXAMPLE)
    bias = graph.constant(np.zeros(4, np.float32))
    node = graph.nodes[0]
    op = Conv((1, 1), (1, 1, 1, 1), (1, 1))
    graph.add(op, node.inputs[0], node.inputs[1], bias)
    graph.set_operand(graph.nodes[-1], 2, None)
    round_trip(graph)


@pytest.mark.parametrize("dtype", [dtype for dtype in DType if dtype is not DType.STRING])
@given(data=st.data())
@settings(max_examples=30)
def test_constants_come_back_bit_for_bit(dtype, data):
    size = data.draw(st.sampled_from([0, 1, 3, 16, 17, 40]))
    raw = data.draw(st.binary(min_size=size * dtype.size, max_size=size * dtype.size))
    if dtype is DType.BOOL:
        raw = bytes(b & 1 for b in raw)
    if data.draw(st.booleans()):
        raw = raw[:dtype.size] * size
    array = np.frombuffer(raw, dtype.numpy)
    again = parse_array(format_constant(array), TensorType.of(array))
    assert again.dtype == array.dtype
    assert again.tobytes() == array.tobytes()


@given(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=4), max_size=20))
@settings(max_examples=50)
def test_strings_come_back(strings):
    array = string_array(strings)
    again = parse_array(format_constant(array), TensorType.of(array))
    assert again.dtype == array.dtype and again.tolist() == strings


@pytest.mark.parametrize(("array", "text"), [
    (string_array(["a", "\n\"", "\u00e4"]), '["a", "\\n\\"", "\\u00e4"]'),
    (np.array([0.1, -0.0, np.inf, -np.inf, np.nan, 1e-45], np.float32), "[0.1, -0.0, inf, -inf, nan, 1e-45]"),
    (np.array([0.1], np.float64), "[0.1]"),
    (np.array([0.1], np.float16), "[0.0999755859375]"),
    (np.array([0.1], ml_dtypes.bfloat16), "[0.10009765625]"),
    (np.array(True), "[true]"),
    (np.zeros((0, 3), np.int8), "[]"),
    (np.full((3, 7), -5, np.int64), "splat -5"),
    (np.array([0x7fc00001], np.uint32).view(np.float32), 'base64 "AQDAfw=="'),
    (np.arange(17, dtype=np.uint8), 'base64 "AAECAwQFBgcICQoLDA0ODxA="'),
])
def test_constants_take_the_shortest_exact_form(array, text):
    assert format_constant(array) == text


EXPRESSIONS = st.recursive(
    st.builds(Arg, st.integers(0, 9), st.just(F32)) | st.builds(lambda v: literal(v, F32), st.floats(width=32)),
    lambda inner: st.one_of(
        st.builds(lambda a, b: apply("add", a, b), inner, inner),
        st.builds(lambda a: apply("exp", a), inner),
        st.builds(lambda a, b, c: apply("select", apply("lt", a, b), b, c), inner, inner, inner),
        st.builds(lambda a: Convert(Convert(a, DType.BF16), F32), inner)), max_leaves=20)


@given(EXPRESSIONS)
def test_expressions_come_back(expr):
    assert parse_expr(format_expr(expr)) == expr


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_every_primitive_has_a_text(name):
    row = PRIMITIVES[name]
    dtype = {"integer": DType.I32, "bool": DType.BOOL}.get(row.takes, F32)
    args = [Arg(i, dtype) for i in range(row.arity)]
    if row.result == "select":
        args[0] = Arg(0, DType.BOOL)
    expr = apply(name, *args)
    assert parse_expr(format_expr(expr)) == expr


@pytest.mark.parametrize(("expr", "text"), [
    (Literal(True, DType.BOOL), "true"),
    (Literal(-3, DType.I8), "-3:i8"),
    (literal(math.inf, F32), "inf:f32"),
    (Convert(Arg(2, DType.U8), DType.F16), "f16($2:u8)"),
    (Apply("not", (Arg(0, DType.BOOL),), DType.BOOL), "not($0:bool)"),
])
def test_how_expressions_look(expr, text):
    assert format_expr(expr) == text
    assert parse_expr(text) == expr


@pytest.mark.parametrize(("value", "text"), [
    (None, "none"), (True, "true"), (3, "3"), (np.int64(3), "3"), (0.5, "0.5"), (-math.inf, "-inf"), (math.nan, "nan"),
    (1e300, "1e+300"), ("a`\"\n", '"a`\\"\\n"'), ((), "()"), ((1, (2.0, "x")), '(1,(2.0,"x"))'), (DType.BF16, "bf16")])
def test_how_attributes_look(value, text):
    assert format_attribute(value) == text


def test_an_attribute_of_an_unknown_kind_is_an_error():
    with pytest.raises(EdgeccError, match="list has no textual form"):
        format_attribute([1])


def test_integers_are_taken_for_floats():
    graph = parse('graph "g" (%x: f32[2,3] "x") { %y = normalize(%x) {axes=(1), epsilon=1, rms=true} : f32[2,3] return %y "y" }')
    epsilon = graph.nodes[0].op.epsilon
    assert (epsilon, type(epsilon)) == (1.0, float)


def test_constants_can_be_left_out_for_reading():
    text = to_text(parse(EXAMPLE), constants="type")
    assert "%w = constant f32[4,3,3,3]\n" in text
    with pytest.raises(EdgeccError, match="expected the data of the constant"):
        parse(text)


def test_one_node_prints_alone():
    line = format_node(parse(EXAMPLE).nodes[0])
    assert line.startswith("%y = conv(%x, %w) {")
    assert line.endswith('loc("Conv_0", "Relu_1")')


def broken(old: str, new: str) -> str:
    assert old in EXAMPLE
    return EXAMPLE.replace(old, new)


@pytest.mark.parametrize(("text", "message"), [
    ("", "text:1:1: expected 'graph', found the end of the text"),
    (broken('"name"', "name"), "1:7: expected a string in double quotes, found 'name'"),
    (broken('"name"', '"\\q"'), "1:7: this is not a JSON string"),
    (broken("f32[1,3", "f31[1,3"), "1:19: expected an element type such as f32, found 'f31'"),
    (broken("f32[1,3", "f32[1,-3"), "1:25: a dimension is negative"),
    (broken("f32[1,3", "f32[1 3"), "1:25: expected ',', found '3'"),
    (broken("[1,3,8,8]", "[n:4..2,8]"), "1:23: the bounds of dimension n are not ordered"),
    (broken("splat 0.5", "[0.5]"), "2:30: f32[4,3,3,3] has 108 elements, the list has 1"),
    (broken("splat 0.5", "splat true"), "2:36: expected a number, found 'true'"),
    (broken("f32[4,3,3,3] splat", "i8[4,3,3,3] splat"), "2:35: 0.5 is not an element of type i8"),
    (broken("f32[4,3,3,3] splat 0.5", "i8[4,3,3,3] splat 128"), "2:35: 128 is not an element of type i8"),
    (broken("splat 0.5", 'base64 "AAAA"'), "2:37: f32[4,3,3,3] has 432 bytes, the text has 3"),
    (broken("splat 0.5", 'base64 "=="'), "2:37: this is not base64"),
    (broken("f32[4,3,3,3] splat", "f32[99999,99999,9] splat"), "exceeds the limit"),
    (broken("%y = conv", "%x = conv"), "3:3: %x is defined twice"),
    (broken("conv(%x, %w)", "conv(%x, %q)"), "3:17: %q is not defined before it is used"),
    (broken("conv(", "convolve("), "3:8: there is no operator convolve"),
    (broken("conv(%x, %w)", "conv(%x)"), "3:8: conv: takes"),
    (broken("strides=(1,1), ", ""), "3:8: conv needs attributes strides"),
    (broken("group=1", "groups=1"), "3:70: conv has no attribute groups; it has strides, pads"),
    (broken("group=1", "pads=()"), "3:70: attribute pads is given twice"),
    (broken("group=1", "group=-"), "3:77: expected a number, found ','"),
    (broken("max($0:f32, 0.0:f32)", "maximum($0:f32)"), "3:89: there is no scalar primitive maximum"),
    (broken("max($0:f32, 0.0:f32)", "max($0:f32, 0:i32)"), "3:89: operands of max have types f32, i32"),
    (broken("max($0:f32, 0.0:f32)", "max($0:f32, 0.5:i32)"), "0.5 is not a constant of type i32"),
    (broken("max($0:f32, 0.0:f32)", "f16($0:f32, $0:f32)"), "3:89: a conversion takes one operand, got 2"),
    (broken("max($0:f32, 0.0:f32)`", "max($0:f32, 0.0:f32)"), "expected '`', found '}'"),
    (broken(": f32[1,4,8,8]", ": f32[1,4,9,8]"), "3:114: conv gives f32[1,4,8,8], the text says f32[1,4,9,8]"),
    (broken("%y = conv", "%y, %z = conv"), "3:3: conv has 1 results, the text names 2"),
    (broken("{0,2,3,1}", "{0,2,3,3}"), "3:126: {0,2,3,3} is not an order of 4 axes"),
    (broken('return %z "758"', "return %z"), "6:1: expected a string in double quotes, found '}'"),
    (EXAMPLE + "graph", "7:1: expected the end of the text, found 'graph'"),
    (broken('"input.1"', '"input.1" §'), "1:42: expected ',', found '§'"),
    (broken('"input.1"', '"x", %u: f32[] "x"'), "1:1: invariant 7: two inputs share a name"),
    (broken('"input.1"', '"input.1"').replace("8,8] ", "8,8]{0,2,3,1} "), "1:1: invariant 9: %x belongs to the interface"),
    (broken("return", "%y"), "5:6: expected '=', found '%z'"),
    (broken("return", "=>"), "5:3: expected a statement or return, found '='"),
    (broken("group=1", "group=" + "9" * 50), "the integer is too long"),
])
def test_errors_point_at_the_place(text, message):
    with pytest.raises(EdgeccError) as caught:
        parse(text)
    assert caught.value.code == "E111"
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["neg(" * 5000 + "$0:f32" + ")" * 5000])
def test_deep_expressions_are_refused_instead_of_exhausting_the_stack(text):
    with pytest.raises(EdgeccError, match="nest deeper"):
        parse_expr(text)
    with pytest.raises(EdgeccError, match="nest deeper"):
        parse(broken("group=1", "group=" + "(" * 5000))


def test_comments_and_spaces_mean_nothing():
    spaced = EXAMPLE.replace(", ", " , // a comment\n   ")
    assert to_text(parse(spaced), locs=True) == EXAMPLE


def test_every_operator_with_defaults_prints():
    graph = Graph()
    x = graph.add_input(TensorType(F32, (2, 3)), "x")
    graph.add_node(TopK(1, 0), [x])
    graph.add(Transpose((1, 0)), x)
    round_trip(graph)
    assert {"conv", "top_k", "transpose", "elementwise"} <= set(OPS)
