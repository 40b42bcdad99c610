"""`edgecc passes [NAME]`: what `--passes` accepts."""

from __future__ import annotations

import difflib
import inspect
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from edgecc.cli import flags
from edgecc.cli.output import print_json, results, show
from edgecc.errors import EdgeccError, printable
from edgecc.options import options_of
from edgecc.passes.base import GraphPass, Pass, load_passes

app = typer.Typer(add_completion=False)


@app.command()
def passes(
    name: Annotated[str | None, typer.Argument(metavar="PASS", help="A pass; without it all passes are listed.", show_default=False)] = None,
    as_json: flags.AsJson = False,
) -> None:
    """List the passes with their options."""
    known = dict(sorted((key, cls) for key, cls in load_passes().items() if issubclass(cls, GraphPass)))
    if name is not None and name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise EdgeccError("E004", f"there is no graph pass {printable(name)!r}",
                          hint=f"did you mean {close[0]}?" if close else "`edgecc passes` lists them")
    chosen = known if name is None else {name: known[name]}
    if as_json:
        print_json({"passes": [{"name": key, "doc": inspect.getdoc(cls) or "", "requires": list(cls.requires),
                                "options": [{"name": option, "type": kind, "default": default}
                                            for option, kind, default in options_of(cls)]} for key, cls in chosen.items()]})
    elif name is not None:
        _show(known[name])
    else:
        table = Table("pass", "what it does", "options", box=None, pad_edge=False)
        for key, cls in chosen.items():
            options = ", ".join(f"{option}={default}" for option, _, default in options_of(cls))
            table.add_row(key, (inspect.getdoc(cls) or "").split("\n")[0], options)
        show(table)


def _show(cls: type[Pass]) -> None:
    console = results()
    console.print(Text(cls.name, style="bold"))
    console.print(Text(f"\n{inspect.getdoc(cls) or ''}\n"))
    for option, kind, default in options_of(cls):
        console.print(f"option {option}: {kind}, {default or 'none'} by default")
    if cls.requires:
        console.print(f"requires before it: {', '.join(cls.requires)}")
