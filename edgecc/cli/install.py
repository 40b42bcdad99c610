"""`edgecc install NAME`: makes the environment that a vendor's tool lives in."""

from __future__ import annotations

from typing import Annotated

import typer

from edgecc.backends.discovery import list_backends
from edgecc.backends.tools.environment import ToolEnvironment, default_folder
from edgecc.cli import flags
from edgecc.cli.output import note, print_json, results
from edgecc.errors import EdgeccError, printable
from edgecc.options import nearest

app = typer.Typer(add_completion=False)


@app.command()
def install(
    tool: Annotated[str | None, typer.Argument(metavar="TOOL", help="Its name; without it the tools are listed.", show_default=False)] = None,
    as_json: flags.AsJson = False,
) -> None:
    """Install a vendor's tool into a Python environment of its own, from the package index."""
    known = environments()
    if tool is None:
        if as_json:
            print_json({"tools": [{"name": name, "purpose": each.purpose, "size": each.size, "python": each.found()} for name, each in known.items()]})
            return
        for name, each in known.items():
            results().print(f"{name}: {each.name}, {each.purpose}; {each.size}; {each.found() or 'not installed'}", soft_wrap=True)
        return
    if tool not in known:
        raise EdgeccError("E001", f"there is no tool {printable(tool)!r}", hint=nearest(tool, tuple(known)) or f"there are {', '.join(known)}")
    folder = known[tool].create(note)
    if as_json:
        print_json({"tool": tool, "folder": str(folder)})
        return
    results().print(f"{tool}: {folder}", soft_wrap=True)
    if not known[tool].found() or known[tool].interpreter() != default_folder(tool) / "bin" / "python":
        note(f"{known[tool].variable} names another environment, which is used instead")


def environments() -> dict[str, ToolEnvironment]:
    """Every environment that some back end needs, by name; back ends that cannot be loaded have none."""
    found: dict[str, ToolEnvironment] = {}
    for each in list_backends():
        try:
            requirements = each.load()().requirements()
        except EdgeccError:
            continue
        found |= {r.folder: r for r in requirements if isinstance(r, ToolEnvironment)}
    return found
