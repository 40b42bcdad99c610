"""`edgecc ops [NAME]`: the operators of the Graph IR, and what of ONNX is accepted."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

import edgecc.ops  # noqa: F401 (fills the table)
from edgecc.cli.output import print_json, results, show
from edgecc.errors import EdgeccError, printable
from edgecc.ir.op import OPS, Op

app = typer.Typer(add_completion=False)


@app.command()
def ops(
    name: Annotated[str | None, typer.Argument(help="An operator; without it all are listed.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the operators."""
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


def _attributes(cls: type[Op]) -> dict[str, str]:
    return {field.name: str(field.type) for field in dataclasses.fields(cls)}
