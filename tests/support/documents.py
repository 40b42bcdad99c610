"""Runs the examples in Markdown documents, so that what they show stays true.

Three kinds of fenced blocks matter:

- `python`: executed in order, in one namespace for the whole document; a `text` block that follows
  directly is what it must print.
- `console`: lines that start with "$ " are run by bash; the lines after one are what it must print.
- anything else is only shown.

"..." in an expected output stands for any text. Everything runs in a scratch folder that has
the repository's `examples`, so documents use the same paths as a reader at the root would.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it starts at, and whether it directly follows another one."""

    language: str
    body: str
    line: int
    follows: bool


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a Markdown document, in order."""
    found, end = [], -1
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("body")) + 1
        follows = end >= 0 and not text[end:match.start()].strip()
        found.append(Block(match["language"], match["body"], line, follows))
        end = match.end()
    return found


def run_document(path: Path, scratch: Path) -> int:
    """Runs every example of the document in `scratch` and compares what it prints; returns the number of examples.

    Raises: AssertionError naming document and line where the output differs.
    """
    (scratch / "examples").symlink_to(ROOT / "examples")
    namespace: dict[str, object] = {"__name__": "__main__"}
    count = 0
    found = blocks(path.read_text(encoding="utf-8"))
    for block, after in zip(found, [*found[1:], None], strict=True):
        where = f"{path.relative_to(ROOT)}:{block.line}"
        if block.language == "python":
            expected = after.body if after is not None and after.follows and after.language == "text" else None
            _run_python(block, namespace, expected, where, scratch)
            count += 1
        elif block.language == "console":
            count += _run_console(block, where, scratch)
    return count


def _run_python(block: Block, namespace: dict[str, object], expected: str | None, where: str, scratch: Path) -> None:
    printed = io.StringIO()
    code = compile("\n" * (block.line - 1) + block.body, where, "exec")  # tracebacks then show the document's lines
    with contextlib.chdir(scratch), contextlib.redirect_stdout(printed):
        exec(code, namespace)
    if expected is not None:
        _compare(printed.getvalue(), expected, where)


def _run_console(block: Block, where: str, scratch: Path) -> int:
    commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.body, re.MULTILINE)
    tools = scratch / "tools"
    tools.mkdir(exist_ok=True)
    script = tools / "edgecc"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "from edgecc.cli import main; main()" "$@"\n')
    script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    for command, expected in commands:
        done = subprocess.run(["bash", "-c", command], cwd=scratch, env=environment, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
        _compare(done.stdout, expected, f"{where}: $ {command}")
    return len(commands)


def _compare(printed: str, expected: str, where: str) -> None:
    got, wanted = (re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).rstrip("\n") + "\n" for text in (printed, expected))
    same = doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS)
    assert same, f"{where} printed\n{got}\nbut the document says\n{wanted}"
