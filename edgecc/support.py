"""What a back end supports, operator by operator: the cases of edgecc/backends/op_table.py put to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgecc.backends.base import AnyBackend
from edgecc.backends.op_table import OpCase, op_table
from edgecc.ir.graph import Graph
from edgecc.pipeline import backend_passes, check_accepts, run_passes
from edgecc.targets.schema import Target


@dataclass(frozen=True)
class CaseSupport:
    """A case, and why the back end cannot write it; None where it can."""

    case: OpCase
    reason: str | None


@dataclass(frozen=True)
class OpSupport:
    """All cases of an operator."""

    op: str
    cases: tuple[CaseSupport, ...]

    @property
    def reasons(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the cases that cannot be written, by reason."""
        found: dict[str, tuple[str, ...]] = {}
        for each in self.cases:
            if each.reason is not None:
                found[each.reason] = (*found.get(each.reason, ()), each.case.name)
        return found

    @property
    def supported(self) -> int:
        """How many cases can be written."""
        return sum(each.reason is None for each in self.cases)


def prepared_case(case: OpCase, backend: AnyBackend, target: Target) -> Graph:
    """The graph of a case after the back end's passes."""
    graph = case.build()
    run_passes(graph, backend_passes(backend, target))
    return graph


def obstacle(graph: Graph, backend: AnyBackend, target: Target) -> str | None:
    """Why a back end cannot write a graph that its passes have run on: the reasons of its nodes; None where it can."""
    reasons = [reason for node in graph.nodes if (reason := backend.supports(node, target)) is not None]
    return "; ".join(dict.fromkeys(reasons)) if reasons else None


def support_table(backend: AnyBackend, target: Target) -> tuple[OpSupport, ...]:
    """What a back end supports. Raises: EdgeccError E115 where it does not write for the target.

    Packages and programs that it calls may be missing: what they take is known without them.
    """
    check_accepts(backend, target, tools=False)
    found: dict[str, list[CaseSupport]] = {}
    for case in op_table():
        graph = prepared_case(case, backend, target)
        found.setdefault(case.op, []).append(CaseSupport(case, obstacle(graph, backend, target)))
    return tuple(OpSupport(op, tuple(cases)) for op, cases in found.items())
