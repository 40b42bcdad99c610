"""Graphs from short texts, and one pass run over them with all checks."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

import edgecc.ops  # noqa: F401 - the parser looks operators up
from edgecc.ir.graph import Graph
from edgecc.ir.parser import parse
from edgecc.ir.text import format_constant, to_text
from edgecc.ir.types import DType
from edgecc.ir.verify import verify
from edgecc.passes.base import GraphPass, parse_passes
from edgecc.pipeline import PassReport, run_passes
from edgecc.reference.executor import sample_inputs

_RANDOM = re.compile(r"constant (?P<dtype>\w+)\[(?P<dims>[0-9,]*)\] (?P<kind>random|positive)")


def graph_of(text: str, seed: int = 0) -> Graph:
    """The graph a text describes; beside real data, `random` stands for normal numbers, `positive` for 0.01 to 2."""
    generator = np.random.default_rng(seed)

    def filled(match: re.Match[str]) -> str:
        dims = tuple(int(d) for d in match["dims"].split(",") if d)
        numbers = generator.standard_normal(dims) if match["kind"] == "random" else generator.uniform(0.01, 2.0, dims)
        array = np.asarray(numbers).astype(DType(match["dtype"]).numpy)
        return f"constant {match['dtype']}[{match['dims']}] {format_constant(array)}"

    graph = parse(_RANDOM.sub(filled, text), source="test")
    verify(graph)
    return graph


def passes_of(passes: str | GraphPass | Sequence[GraphPass]) -> tuple[GraphPass, ...]:
    """Passes from a specification, one pass or several."""
    if isinstance(passes, str):
        return parse_passes(passes)
    return (passes,) if isinstance(passes, GraphPass) else tuple(passes)


def run_checked(graph: Graph, passes: str | GraphPass | Sequence[GraphPass]) -> tuple[PassReport, ...]:
    """Runs passes with every check of the pipeline, execution included; a second run must change nothing."""
    chosen = passes_of(passes)
    inputs = sample_inputs(graph)
    reports = run_passes(graph, chosen, verify_each=inputs)
    again = run_passes(graph, chosen)
    assert [str(r.graph_pass) for r in again if r.changed] == [], "the second run changed something"
    return reports


def fired(passes: str | GraphPass | Sequence[GraphPass], text: str) -> str:
    """The text after passes that must change the graph; constants by type."""
    graph = graph_of(text)
    reports = run_checked(graph, passes)
    assert any(report.changed for report in reports), f"nothing changed; {reports[0].declines}"
    return to_text(graph, locs=True, constants="type")


def declined(passes: str | GraphPass, text: str) -> str:
    """The reasons for which a pass, which must not change the graph, left it alone, one a line."""
    graph = graph_of(text)
    before = to_text(graph)
    (report,) = run_checked(graph, passes)
    assert not report.changed
    assert to_text(graph) == before
    return "\n".join(str(decline) for decline in report.declines)
