"""Every pass, and the whole pipeline, on random graphs: valid, idempotent, and of the same meaning."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecc.ir.equal import first_difference, structural_hash
from edgecc.ir.graph import Graph
from edgecc.ir.text import parse, to_text
from edgecc.passes.base import PASSES, GraphPass, create_pass, load_passes
from edgecc.pipeline import default_graph_passes, run_passes
from tests.support.graphs import arrays_for, graphs

NAMES = sorted(name for name, cls in load_passes().items() if issubclass(cls, GraphPass))
relaxed = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))


def check(graph: Graph, passes: tuple[GraphPass, ...], seed: int) -> None:
    text = to_text(graph)
    try:
        run_passes(graph, passes, verify_each=arrays_for(graph, seed))
        again = run_passes(graph, passes)
        assert [str(r.graph_pass) for r in again if r.changed] == [], "a second run changed something"
    except BaseException as error:
        error.add_note(text)
        raise


@pytest.mark.parametrize("name", NAMES)
@given(graph=graphs(), seed=st.integers(0, 3))
@relaxed
def test_a_pass_keeps_the_meaning_and_is_idempotent(name, graph, seed):
    cls = PASSES[name]
    before = tuple(create_pass(required) for required in cls.requires)
    check(graph, (*before, create_pass(name)), seed)


@given(graph=graphs(max_nodes=24), seed=st.integers(0, 3))
@settings(relaxed, max_examples=150)
def test_the_pipeline_keeps_the_meaning_and_is_idempotent(graph, seed):
    check(graph, default_graph_passes(), seed)


@given(graph=graphs())
@relaxed
def test_any_graph_prints_and_parses_back(graph):
    text = to_text(graph, locs=True)
    again = parse(text)
    assert first_difference(graph, again) is None
    assert to_text(again, locs=True) == text
    assert structural_hash(again) == structural_hash(graph.copy())
