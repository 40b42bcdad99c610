"""docs/coverage.md, made from the table of converters, the record of the onnx package's tests, and what back ends support."""

from __future__ import annotations

import collections
import contextlib
import io
from collections.abc import Iterable

import numpy as np
import onnx

from edgecc.backends.base import AnyBackend
from edgecc.backends.discovery import BUILT_IN, create_backend
from edgecc.frontend import importing  # noqa: F401  (defines the converters)
from edgecc.frontend.registry import CONVERTERS
from edgecc.support import support_table
from edgecc.targets.schema import Target, list_targets, load_target
from tests.support.documents import ROOT

PAGE = ROOT / "docs" / "coverage.md"
RECORD = ROOT / "tests" / "onnx_backend" / "suite.txt"
PASSES = ("ok", "ok-folded")

DOMAINS = {"": "ai.onnx", "ai.onnx.ml": "ai.onnx.ml", "ai.onnx.preview.training": "ai.onnx.preview.training"}
INTRODUCTION = """# Coverage of ONNX

Made by `pytest --bless tests/docs/test_coverage.py` from the table of converters and from
`tests/onnx_backend/suite.txt`, the record of the tests that come with the onnx package, run through generated C on the host.
[operators.md](operators.md) has the rules and the reasons; `edgecc check MODEL` says what they mean for a model.

- *converted*: a converter makes core operators of it, for the versions of the domain that are listed.
- *function*: compiled as the body of other operators by which ONNX defines it.
- *cases*: node tests of the onnx package in which the operator is the only one; *not passing* are those that are refused or, where
  the record says so, give another result.
"""


def recorded() -> dict[str, str]:
    """What became of each case, by name."""
    _, *lines = RECORD.read_text(encoding="utf-8").splitlines()
    return {name: outcome for name, _, outcome in (line.partition(" ") for line in lines)}


def _cases() -> dict[tuple[str, str], list[str]]:
    """Names of the node tests with one node, by domain and operator."""
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases()
    found: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for case in cases:
        nodes = case.model.graph.node
        if len(nodes) == 1:
            found[nodes[0].domain, nodes[0].op_type].append(case.name)
    return found


def _target(backend: AnyBackend) -> Target:
    """The first target that a back end writes for; portable AArch64 where it can."""
    known = (load_target(name) for name in ("generic-aarch64", *list_targets()))
    return next(target for target in known if backend.accepts(target) is None)


def backends() -> str:
    """What each back end of edgecc supports, operator by operator, of the examples that are put to it."""
    loaded = {name: create_backend(name) for name in BUILT_IN}
    tables = {name: {row.op: row for row in support_table(backend, _target(backend))} for name, backend in loaded.items()}
    ops = next(iter(tables.values()))
    rows, reasons = [], []
    for op, first in ops.items():
        counts = [f"{table[op].supported} of {len(first.cases)}" if table[op].supported < len(first.cases) else "all" for table in tables.values()]
        if op.startswith("elementwise ") and set(counts) == {"all"}:
            continue
        rows.append(f"| {op} | {len(first.cases)} | " + " | ".join(counts) + " |")
    for name, table in tables.items():
        by_reason: dict[str, list[str]] = {}
        for op, row in table.items():
            kind = op.removeprefix("elementwise ")
            for reason in dict.fromkeys(row.reasons):
                general = reason.removeprefix(f"{op} ").replace(f"computes {kind} of", "computes it of")
                by_reason.setdefault(general, []).append(kind)
        if by_reason:
            reasons.append(f"### What {name} leaves out\n\n| why | of |\n|---|---|\n" + "\n".join(
                f"| {reason} | {', '.join(kinds)} |" for reason, kinds in by_reason.items()) + "\n")
    elementwise = sum(op.startswith("elementwise ") for op in ops)
    return (f"## Back ends\n\nHow many examples of each core operator (edgecc/backends/op_table.py) a back end takes; "
            f"`edgecc ops --backend NAME` prints the same for any back end and says why not. Of {elementwise} kinds of elementwise "
            f"arithmetic those that all back ends take are left out.\n\n| operator | examples | {' | '.join(tables)} |\n"
            f"|---|---|{'---|' * len(tables)}\n" + "\n".join(rows) + "\n\n" + "\n".join(reasons) + "\n")


def page() -> str:
    """The whole page."""
    outcomes, cases = recorded(), _cases()
    failing = {name: outcome for name, outcome in outcomes.items() if outcome not in PASSES}
    counts_of = collections.Counter(outcomes.values())
    newest: dict[tuple[str, str], onnx.defs.OpSchema] = {}
    for schema in onnx.defs.get_all_schemas():
        if schema.domain in DOMAINS and not schema.deprecated:
            newest[schema.domain, schema.name] = schema
    parts = [INTRODUCTION]
    for domain, title in DOMAINS.items():
        names = sorted(name for where, name in newest if where == domain)
        rows, counts = [], collections.Counter[str]()
        for name in names:
            how, versions = _how(domain, name, newest[domain, name])
            counts[how] += 1
            own = cases.get((domain, name), [])
            wrong = sum(case in failing for case in own)
            rows.append(f"| {name} | {how} | {versions} | {len(own) or ''} | {wrong or ''} |")
        summary = ", ".join(f"{count} {how}" for how, count in sorted(counts.items()))
        parts.append(f"## {title}\n\n{len(names)} operators in onnx {onnx.__version__}: {summary}.\n\n"
                     "| operator | | versions | cases | not passing |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n")
    ours = sorted(name for where, name in CONVERTERS if where == "com.microsoft")
    parts.append(f"## com.microsoft\n\n{len(ours)} operators that onnxruntime's optimizers and model builders write: {', '.join(ours)}.\n")
    parts.append(backends())
    parts.append(f"## All cases\n\nOf {len(outcomes)} cases (single operators, functions, models converted from PyTorch and others) {counts_of['ok']} pass, "
                 f"and {counts_of['ok-folded']} more that the compiler computes whole, since their inputs have to be known to it. The other "
                 f"{len(failing)}:\n\n" + _grouped(failing))
    return "\n".join(parts)


def _how(domain: str, name: str, schema: onnx.defs.OpSchema) -> tuple[str, str]:
    entries = CONVERTERS.get((domain, name), ())
    if entries:
        spans = (f"{e.since}.." + (str(e.until) if e.until else "") for e in entries)
        return "converted", ", ".join(spans)
    if schema.has_function or schema.has_context_dependent_function:
        return "function", f"{schema.since_version}.."
    return "not compiled", ""


def _grouped(failing: dict[str, str]) -> str:
    by_outcome: dict[str, list[str]] = collections.defaultdict(list)
    for name, outcome in failing.items():
        by_outcome[outcome].append(name)
    return "\n".join(f"- {outcome}: {_listed(names)}" for outcome, names in sorted(by_outcome.items())) + "\n"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))
