"""Every pass, and the whole pipeline, on random graphs: valid, idempotent, and of the same meaning."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecc.ir.equal import first_difference, structural_hash
from edgecc.ir.graph import Graph
from edgecc.ir.text import parse, to_text
from edgecc.passes.base import PASSES, GraphPass, create_pass, load_passes
from edgecc.pipeline import default_graph_passes, run_passes
from tests.support.graphs import arrays_for, graphs

NAMES = sorted(name for name, cls in load_passes().items() if issubclass(cls, GraphPass) and cls.tolerance < float("inf"))  # pruning changes the meaning
relaxed = settings(max_examples=40, suppress_health_check=list(HealthCheck))


SEARCHES = frozenset({"plan-memory"})  # a search that starts from its own result may find a better one


def check(graph: Graph, passes: Sequence[GraphPass], seed: int, settles_within: int) -> None:
    """Runs passes with all checks, then as often as they may take to find nothing more."""
    text = to_text(graph)
    try:
        run_passes(graph, passes, verify_each=arrays_for(graph, seed))
        for _ in range(settles_within):
            again = run_passes(graph, [p for p in passes if p.name not in SEARCHES])
            changed = [str(report.graph_pass) for report in again if report.changed]
            if not changed:
                return
        raise AssertionError(f"run {settles_within + 1} still changed something: {changed}")
    except BaseException as error:
        error.add_note(text)
        raise


@pytest.mark.parametrize("name", NAMES)
@given(graph=graphs(), seed=st.integers(0, 3))
@relaxed
def test_a_pass_keeps_the_meaning_and_is_idempotent(name, graph, seed):
    cls = PASSES[name]
    before = tuple(create_pass(required) for required in cls.requires)
    check(graph, (*before, create_pass(name)), seed, settles_within=1)


@given(graph=graphs(max_nodes=24), seed=st.integers(0, 3))
@settings(relaxed, max_examples=150)
def test_the_pipeline_keeps_the_meaning_and_settles(graph, seed):
    # A later pass may make room for an earlier one, in six of a thousand of these graphs; they must not undo each other.
    check(graph, default_graph_passes(), seed, settles_within=3)


@given(graph=graphs())
@relaxed
def test_any_graph_prints_and_parses_back(graph):
    text = to_text(graph, locs=True)
    again = parse(text)
    assert first_difference(graph, again) is None
    assert to_text(again, locs=True) == text
    assert structural_hash(again) == structural_hash(graph.copy())
