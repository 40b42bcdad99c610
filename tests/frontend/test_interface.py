"""Sequences and optionals among inputs and outputs: tensors as many as there are."""

import numpy as np
import onnx
import pytest

from edgecc.errors import EdgeccError
from edgecc.frontend.importing import import_model_with_report
from edgecc.frontend.interface import flattened
from edgecc.reference.executor import execute


def model(text):
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {text}')


def run(text, **given):
    graph, report = import_model_with_report(model(text), inputs=given, bind_values=True)
    feeds = {name: array for name, array in flattened(given).items() if name in graph.input_names}
    results = execute(graph, feeds)
    return graph, report, [port.gather(results) for port in report.outputs]


def test_a_sequence_is_that_many_tensors_of_different_shapes():
    short, long = np.ones(2, np.float32), np.ones((3, 3), np.float32)
    graph, report, (out, count) = run("""
        g (seq(float[n]) s, float[2] x) => (seq(float[n]) out, int64 count) {
            out = SequenceInsert (s, x)
            count = SequenceLength (out)
        }""", s=[short, long], x=short * 5)
    assert [*graph.input_names] == ["s_0", "s_1", "x"] and [*graph.output_names] == ["out_0", "out_1", "out_2", "count"]
    assert [port.kind for port in report.inputs] == ["sequence", "tensor"]
    assert [a.tolist() for a in out] == [short.tolist(), long.tolist(), [5, 5]] and count == 3


def test_an_empty_sequence_has_no_tensors():
    _, _, (out,) = run("g (seq(float[n]) s) => (seq(float[n]) out) { out = Identity (s) }", s=[])
    assert out == []


@pytest.mark.parametrize("given", [None, np.float32([1, 2])])
def test_an_optional_is_there_or_not(given):
    _, report, (there, out) = run("""
        g (optional(float[2]) x) => (bool there, optional(float[2]) out) {
            there = OptionalHasElement (x)
            out = Identity (x)
        }""", x=given)
    assert bool(there) == (given is not None) and report.outputs[1].kind == ("missing" if given is None else "tensor")
    assert out is None if given is None else out.tolist() == [1, 2]


def test_a_map_over_a_sequence_computes_at_run_time():
    items = [np.float32([1, 2]), np.float32([[3]])]
    graph, _, (out,) = run("""
        g (seq(float[n]) s) => (seq(float[n]) out) {
            out = SequenceMap <body = b (float[n] v) => (float[n] w) { w = Neg (v) }> (s)
        }""", s=items)
    assert [node.op.name for node in graph.nodes] == ["elementwise"] * 2
    assert [a.tolist() for a in out] == [[-1, -2], [[-3]]]


def test_maps_over_sequences_of_different_lengths_are_refused():
    with pytest.raises(EdgeccError, match=r"E110.*differ in length"):
        run("""g (seq(float[n]) s, seq(float[n]) t) => (seq(float[n]) out) {
                out = SequenceMap <body = b (float[n] v, float[n] u) => (float[n] w) { w = Add (v, u) }> (s, t)
            }""", s=[np.zeros(1, np.float32)], t=[])


@pytest.mark.parametrize(("declared", "given", "message"), [
    ("seq(float[n])", np.zeros(2, np.float32), "is a sequence; one array"), ("seq(float[n])", None, "is no optional"),
    ("optional(float[n])", [np.zeros(2, np.float32)], "is no sequence"),
])
def test_values_of_another_kind_are_refused(declared, given, message):
    with pytest.raises(EdgeccError, match=message):
        run(f"g ({declared} s) => ({declared} out) {{ out = Identity (s) }}", s=given)


def test_without_a_value_a_sequence_cannot_be_compiled():
    with pytest.raises(EdgeccError, match=r"E105(.|\n)*give its value"):
        run("g (seq(float[n]) s) => (int64 out) { out = SequenceLength (s) }")


def test_names_of_parts_may_not_be_those_of_other_inputs():
    with pytest.raises(EdgeccError, match="two inputs are called 's_0'"):
        flattened({"s": [np.zeros(1)], "s_0": np.zeros(1)})


def test_only_what_must_be_known_is_bound():
    text = "g (float[6] x, int64[2] shape, float[2,3] z) => (float[a,b] y) { r = Reshape (x, shape) y = Add (r, z) }"
    given = {"x": np.ones(6, np.float32), "shape": np.int64([2, 3]), "z": np.zeros((2, 3), np.float32)}
    graph, report = import_model_with_report(model(text), inputs=given, bind_values=True)
    assert report.bound["shape"].tolist() == [2, 3] and len(report.bound) == 1 and [*graph.input_names] == ["x", "z"]
    with pytest.raises(EdgeccError, match="do not broadcast"):  # the run's numbers may be any
        import_model_with_report(model(text), inputs=given)
    with pytest.raises(EdgeccError, match="is not a constant"):  # a shape that has no value
        import_model_with_report(model(text), inputs={"x": given["x"]}, bind_values=True)
