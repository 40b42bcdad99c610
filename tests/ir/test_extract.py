"""Parts of a graph compute what their nodes compute in the whole."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.extract import extract
from edgecc.ir.text import to_text
from edgecc.ir.verify import verify
from edgecc.reference.executor import execute
from tests.support.graphs import arrays_for, graphs


@settings(max_examples=30)
@given(st.data())
def test_parts_in_turn_compute_the_whole(data):
    graph = data.draw(graphs())
    nodes = graph.nodes
    cut = data.draw(st.integers(0, len(nodes)))
    feeds = arrays_for(graph, 0)
    known = dict(zip(graph.inputs, (feeds[name] for name in graph.input_names), strict=True))
    for members in (nodes[:cut], nodes[cut:]):
        results = [value for node in members for value in node.outputs]
        part, read = extract(members, results)
        verify(part)
        assert len(set(part.input_names)) == len(part.input_names) and len(set(part.output_names)) == len(part.output_names)
        got = execute(part, {name: known[value] for name, value in zip(part.input_names, read, strict=True)})
        known |= dict(zip(results, (got[name] for name in part.output_names), strict=True))
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        want = execute(graph, feeds)[name]
        np.testing.assert_array_equal(known[value] if value.constant is None else value.constant, want)


@settings(max_examples=10)
@given(st.data())
def test_the_graph_itself_stays_as_it_is(data):
    graph = data.draw(graphs())
    before = to_text(graph)
    extract(graph.nodes[:2], [])
    assert to_text(graph) == before
