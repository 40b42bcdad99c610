"""The shared hostile files behave as their manifest wants, under every command, in ten seconds and a gigabyte."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgecc
from edgecc.targets.schema import load_target
from tests.support.assets import ASSETS
from tests.support.ccompile import SANITIZERS, build, require, run_program
from tests.support.limited import Server

FOLDER = ASSETS / "hostile"
if not FOLDER.exists():
    pytest.skip(f"the shared models are not at {ASSETS}", allow_module_level=True)

COMPILES = ("works", "same as ORT", "correct code", "escaped", "bounds check", "sort", "or a model", "defined result", "ignore the keys")
"""Behaviours of the manifest that allow a model to be compiled."""

COMMANDS = {
    "check": ["check", "MODEL", "--target", "generic-c"],
    "compile": ["compile", "MODEL", "--target", "generic-c", "-o", "out"],
    "inspect": ["inspect", "MODEL"],
    "inspect-json": ["inspect", "MODEL", "--json"],
    "run": ["run", "MODEL", "--target", "generic-c", "--cc", "gcc"],
    "verify": ["verify", "MODEL", "--target", "generic-c", "--cc", "gcc"],
}


def rows() -> list[dict[str, str]]:
    with (FOLDER / "manifest.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if (FOLDER / row["file"]).exists()]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["file"])
def test_every_command_answers(row, server, tmp_path):
    require(load_target("generic-c"))
    model, may_compile = FOLDER / row["file"], any(word in row["wanted behaviour"] for word in COMPILES)
    listing = sorted(FOLDER.iterdir())
    for command, arguments in COMMANDS.items():
        place = tmp_path / command
        place.mkdir()
        outcome = server.run([str(model) if a == "MODEL" else a for a in arguments], place)
        assert outcome.status in (0, 3), (command, outcome)
        if not command.startswith("inspect"):  # which shows what can be parsed
            assert outcome.status == 3 or may_compile, (command, outcome)
            assert outcome.status == 0 or row["wanted behaviour"] != "works", (command, outcome)
        assert "Traceback" not in outcome.stderr and "\x1b" not in outcome.stdout + outcome.stderr
        if outcome.status:
            first, *more = outcome.stderr.splitlines()
            assert first.startswith("[E1") and not any(line.startswith("[E") for line in more) and len(outcome.stderr) < 5000
        assert [p.name for p in place.iterdir()] == (["out"] if command == "compile" and outcome.status == 0 else [])
    assert sorted(FOLDER.iterdir()) == listing and not Path("/tmp/PWNED").exists()


@pytest.mark.parametrize("row", [row for row in rows() if any(word in row["wanted behaviour"] for word in COMPILES)],
                         ids=lambda row: row["file"])
def test_code_of_what_compiles_is_clean(row):
    """The self-test, with reference results in it, under the sanitizers."""
    target = load_target("generic-c")
    require(target)
    try:
        artifact = edgecc.compile(FOLDER / row["file"], target, self_test=True)
    except edgecc.EdgeccError as error:
        assert error.exit_status == 3
        return
    files = {name: text for name, text in artifact.files.items()
             if name.endswith((".h", ".bin")) or name in (*artifact.manifest.sources, "selftest.c")}
    program = build(files, target, flags=("-O1", "-trigraphs", *SANITIZERS))
    assert run_program(program, target).decode().endswith("ok\n")
