"""Where the command line writes: results to standard output, messages to standard error."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgecc.errors import EdgeccError


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leaves it to whoever prints; rich would end the process with status 1, though the reader has merely seen enough."""
        raise BrokenPipeError


def results() -> Console:
    """The console for results. Without a terminal, lines are neither coloured nor cut."""
    return _console(stderr=False)


def messages() -> Console:
    """The console for progress, notes and errors."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 10_000
    return _Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False,
                    soft_wrap=not stream.isatty())


def show(table: Table) -> None:
    """Prints a table as a result, without blanks at the ends of lines."""
    console = results()
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def print_json(value: dict[str, Any]) -> None:
    """Prints one JSON object on one line: the whole standard output of a command with --json."""
    sys.stdout.write(json.dumps(value) + "\n")


def show_error(error: EdgeccError) -> None:
    """Prints an error with its code, details and hint."""
    first, *rest = str(error).splitlines()
    text = Text.assemble((f"[{error.code}]", "bold red"), first.removeprefix(f"[{error.code}]"))
    console = messages()
    console.print(text, soft_wrap=True)
    for line in rest:
        console.print(Text(line), soft_wrap=True)


def note(text: str) -> None:
    """Prints a note for the user."""
    messages().print(Text.assemble(("note: ", "yellow"), text), soft_wrap=True)


@contextlib.contextmanager
def progress(doing: str) -> Iterator[None]:
    """Shows that something is going on, on a terminal only."""
    console = messages()
    if not console.is_terminal:
        yield
        return
    with console.status(Text(doing)):
        yield


def human_bytes(count: int | None) -> str:
    """A size for people: "1.25 MiB (1310720 bytes)"."""
    if count is None:
        return "unknown"
    if count < 1024:
        return f"{count} bytes"
    value, unit = float(count), "bytes"
    for unit in ("KiB", "MiB", "GiB"):  # noqa: B007 (the last one is used)
        value /= 1024
        if value < 1024:
            break
    return f"{value:.2f} {unit} ({count} bytes)"
