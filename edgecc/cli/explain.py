"""`edgecc explain CODE`: the paragraph on one error code."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer
from rich.text import Text

from edgecc.cli import flags
from edgecc.cli.output import print_json, results
from edgecc.errors import CATALOGUE, EdgeccError, printable

app = typer.Typer(add_completion=False)


@app.command()
def explain(
    code: Annotated[str | None, typer.Argument(metavar="CODE", help="A code such as E110; without it all codes are listed.", show_default=False)] = None,
    as_json: flags.AsJson = False,
) -> None:
    """Explain an error code."""
    if code is None:
        kinds = list(CATALOGUE.values())
    else:
        wanted = code.strip("[]").upper()
        if wanted not in CATALOGUE:
            close = difflib.get_close_matches(wanted, CATALOGUE, n=1)
            raise EdgeccError("E001", f"there is no error code {printable(code)!r}",
                              hint=f"did you mean {close[0]}?" if close else "`edgecc explain` lists all codes")
        kinds = [CATALOGUE[wanted]]
    if as_json:
        print_json({"errors": [{"code": k.code, "title": k.title, "exit_status": k.exit_status, "explanation": k.explanation}
                               for k in kinds]})
        return
    console = results()
    for kind in kinds:
        console.print(Text.assemble((kind.code, "bold"), f"  {kind.title}"))
        if code is not None:
            console.print(Text(f"\n{kind.explanation}\n\nexit status: {kind.exit_status}"))
