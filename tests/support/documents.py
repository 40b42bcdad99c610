"""Runs the examples in Markdown documents, so that what they show stays true.

Three kinds of fenced blocks matter:

- `python`: executed in order, in one namespace for the whole document; a `text` block that follows
  directly is what it must print.
- `console`: lines that start with "$ " are run by bash; the lines after one are what it must print.
- anything else is only shown, also a block with words behind its language, such as the name of a file.

"..." in an expected output stands for any text. In the output of a command, numbers may differ by a tenth and rounding errors
(1.2e-07) by any amount, since the size of machine code and the last bits depend on the C compiler. Everything runs in a scratch folder that has
the repository's `examples`, so documents use the same paths as a reader at the root would. A line
`<!-- needs: COMMAND -->` names a command without which the document's examples cannot run, `<!-- needs: package NAME -->` a package
of Python.
`pytest --bless` writes what is printed now into the document, where it differs.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?P<language>\w*)(?P<more>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (?P<command>.*)\n(?P<output>(?:(?!\$ ).*\n)*)", re.MULTILINE)
_NEEDS = re.compile(r"^<!-- needs: (package )?(\S+) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, where the text begins, and whether it directly follows another block."""

    language: str
    body: str
    offset: int
    follows: bool


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a Markdown document, in order."""
    found, end = [], -1
    for match in _FENCE.finditer(text):
        follows = end >= 0 and not text[end:match.start()].strip()
        found.append(Block("" if match["more"].strip() else match["language"], match["body"], match.start("body"), follows))
        end = match.end()
    return found


def missing(text: str) -> list[str]:
    """The commands and packages that a document's examples use and that are not installed."""
    return [name for package, name in _NEEDS.findall(text)
            if (importlib.util.find_spec(name) if package else shutil.which(name)) is None]


@dataclass(frozen=True)
class Difference:
    """An expected output at `offset` of the document, and what was printed instead."""

    where: str
    offset: int
    expected: str
    printed: str

    def __str__(self) -> str:
        return f"{self.where} printed\n{self.printed}\nbut the document says\n{self.expected}"


def run_document(path: Path, scratch: Path, *, bless: bool = False) -> int:
    """Runs every example of the document in `scratch` and compares what it prints; returns the number of examples.

    Raises: AssertionError naming document and line where an output differs, unless `bless` is set.
    """
    (scratch / "examples").symlink_to(ROOT / "examples")
    text = path.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "__main__"}
    differences: list[Difference] = []
    count = 0
    found = blocks(text)
    for block, after in zip(found, [*found[1:], None], strict=True):
        line = text.count("\n", 0, block.offset) + 1
        where = f"{path.relative_to(ROOT)}:{line}"
        if block.language == "python":
            count += 1
            printed = _run_python(block.body, namespace, line, where, scratch)
            if after is not None and after.follows and after.language == "text" and not _same(printed, after.body):
                differences.append(Difference(where, after.offset, after.body, printed))
        elif block.language == "console":
            for match in _COMMAND.finditer(block.body):
                count += 1
                printed = _run_command(match["command"], scratch)
                if not _same(_rounded(printed, match["output"]), match["output"]):
                    differences.append(Difference(f"{where}: $ {match['command']}", block.offset + match.start("output"),
                                                  match["output"], printed))
    if bless:
        for difference in reversed(differences):
            end = difference.offset + len(difference.expected)
            text = text[:difference.offset] + difference.printed + text[end:]
        path.write_text(text, encoding="utf-8")
        return count
    assert not differences, "\n\n".join(str(difference) for difference in differences)
    return count


def _run_python(body: str, namespace: dict[str, object], line: int, where: str, scratch: Path) -> str:
    printed = io.StringIO()
    code = compile("\n" * (line - 1) + body, where, "exec")  # tracebacks then show the document's lines
    with contextlib.chdir(scratch), contextlib.redirect_stdout(printed):
        exec(code, namespace)
    return _trimmed(printed.getvalue())


def _run_command(command: str, scratch: Path) -> str:
    tools = scratch / "tools"
    tools.mkdir(exist_ok=True)
    for name, module in (("edgecc", "-m edgecc"), ("python", "")):
        script = tools / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], cwd=scratch, env=environment, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    return _trimmed(done.stdout)


def _trimmed(text: str) -> str:
    """Without blanks at the ends of lines and empty lines at the end."""
    lines = "\n".join(line.rstrip() for line in text.splitlines()).rstrip("\n")
    return f"{lines}\n" if lines else ""


def _same(printed: str, expected: str) -> bool:
    return printed == _trimmed(expected) or doctest.OutputChecker().check_output(_trimmed(expected), printed, doctest.ELLIPSIS)


_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?")


def _rounded(printed: str, expected: str) -> str:
    """`printed` with those numbers replaced that are close enough to the ones at the same place in `expected`."""
    wanted = _NUMBER.findall(_trimmed(expected))
    if len(wanted) != len(_NUMBER.findall(printed)):
        return printed
    following = iter(wanted)

    def choose(match: re.Match[str]) -> str:
        number = next(following)
        if "e" in number and "e" in match[0]:
            return number
        return number if abs(float(number) - float(match[0])) <= 0.1 * float(number) else match[0]

    return _NUMBER.sub(choose, printed)
