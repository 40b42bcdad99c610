"""`edgecc ops [NAME]`: the operators of the Graph IR, and what of ONNX is accepted."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

import edgecc.frontend.converters
import edgecc.ops  # noqa: F401 (both fill the tables that are listed)
from edgecc.backends.discovery import create_backend
from edgecc.cli import flags
from edgecc.cli.output import print_json, results, show
from edgecc.errors import EdgeccError, printable
from edgecc.frontend.registry import CONVERTERS
from edgecc.ir.op import OPS, Op
from edgecc.support import support_table
from edgecc.targets.schema import load_target

app = typer.Typer(add_completion=False)


@app.command()
def ops(
    name: Annotated[str | None, typer.Argument(metavar="OPERATOR", help="An operator; without it all are listed.", show_default=False)] = None,
    backend: Annotated[str | None, typer.Option(help="Show what a back end of `edgecc doctor` supports instead.", show_default=False)] = None,
    target: Annotated[str, typer.Option(help="With --backend: the target to ask for.")] = "host",
    onnx: Annotated[bool, typer.Option("--onnx", help="List the operators of ONNX that are accepted instead.")] = False,
    as_json: flags.AsJson = False,
) -> None:
    """List the operators of the Graph IR, those of ONNX that are accepted, or what a back end supports."""
    if backend is not None:
        _list_support(backend, target, name, as_json)
        return
    if onnx:
        _list_onnx(name, as_json)
        return
    known = dict(sorted(OPS.items()))
    if name is not None and name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise EdgeccError("E001", f"there is no operator {printable(name)!r}",
                          hint=f"did you mean {close[0]}?" if close else "`edgecc ops` lists them")
    chosen = known if name is None else {name: known[name]}
    if as_json:
        print_json({"ops": [{"name": key, "inputs": list(cls.inputs), "attributes": _attributes(cls),
                             "doc": inspect.getdoc(cls) or ""} for key, cls in chosen.items()]})
    elif name is not None:
        console = results()
        console.print(Text(f"{name}({', '.join(known[name].inputs)})", style="bold"))
        console.print(Text(f"\n{inspect.getdoc(known[name]) or ''}\n"))
        for attribute, kind in _attributes(known[name]).items():
            console.print(f"attribute {attribute}: {kind}")
    else:
        table = Table("operator", "inputs", "meaning", box=None, pad_edge=False)
        for key, cls in chosen.items():
            table.add_row(key, ", ".join(cls.inputs), (inspect.getdoc(cls) or "").split("\n")[0])
        show(table)


def _list_onnx(name: str | None, as_json: bool) -> None:
    """The table of converters: every operator with the versions of its domain."""
    known = {f"{domain}.{op}" if domain else op: entries for (domain, op), entries in sorted(CONVERTERS.items())}
    if name is not None and name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise EdgeccError("E001", f"ONNX operator {printable(name)!r} has no converter", hint=f"did you mean {close[0]}?" if close else
                          "operators that ONNX defines as functions need none; `edgecc check MODEL` tells")
    chosen = known if name is None else {name: known[name]}
    if as_json:
        print_json({"onnx": [{"name": key, "versions": [[e.since, e.until] for e in entries]} for key, entries in chosen.items()]})
        return
    table = Table("operator", "versions", box=None, pad_edge=False)
    for key, entries in chosen.items():
        table.add_row(key, ", ".join(f"{e.since}.." + (str(e.until) if e.until else "") for e in entries))
    show(table)


def _list_support(spec: str, target: str, name: str | None, as_json: bool) -> None:
    """Every operator with how many examples of it the back end takes, and why not the others."""
    backend = create_backend(spec)
    rows = support_table(backend, load_target(target))
    chosen = [row for row in rows if name is None or row.op == name or row.op.startswith(f"{name} ")]
    if not chosen:
        close = difflib.get_close_matches(name or "", [row.op for row in rows], n=1)
        raise EdgeccError("E001", f"there is no operator {printable(name or '')!r}",
                          hint=f"did you mean {close[0]}?" if close else "`edgecc ops` lists them")
    if as_json:
        print_json({"backend": backend.name, "target": target,
                    "ops": [{"name": row.op, "cases": [{"name": each.case.name, "supported": each.reason is None, "reason": each.reason or ""}
                                                      for each in row.cases]} for row in chosen]})
        return
    table = Table("operator", "supported", "not supported", box=None, pad_edge=False)
    for row in chosen:
        if name is None:
            reasons = "; ".join(f"{reason} ({len(names)})" for reason, names in row.reasons.items())
            table.add_row(row.op, f"{row.supported} of {len(row.cases)}", Text(reasons))
            continue
        for each in row.cases:
            table.add_row(str(each.case), "yes" if each.reason is None else "no", Text(each.reason or ""))
    show(table)


def _attributes(cls: type[Op]) -> dict[str, str]:
    return {field.name: str(field.type) for field in dataclasses.fields(cls)}
