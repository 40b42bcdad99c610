"""The walk-through in docs/adding-a-backend.md: its packages install, what it shows happens, its excerpts are the files'."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "adding-a-backend.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
EXCERPTS = [(name, text) for name, text in BLOCKS if name.startswith("examples/")]
WRITTEN = {name: text for name, text in BLOCKS if name.startswith("my-npu/")}
COMMANDS = [command for block in re.findall(r"^```shell\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
            for command in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]


@pytest.mark.parametrize(("name", "excerpt"), EXCERPTS)
def test_excerpts_are_what_stands_in_the_files(name: str, excerpt: str):
    assert excerpt in (ROOT / name).read_text(encoding="utf-8")


def test_blocks_are_excerpts_or_files_of_the_smallest_package():
    assert len(EXCERPTS) + len(WRITTEN) == len(BLOCKS) and EXCERPTS and WRITTEN


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the smallest package and a copy of the toy one, and what pip installs of them in `site`."""
    folder = tmp_path_factory.mktemp("toy")
    shutil.copytree(ROOT / "examples" / "toy-npu", folder / "toy-npu", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "examples").symlink_to(ROOT / "examples")
    for name, text in WRITTEN.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", str(folder / "site")]
    done = subprocess.run([*pip, str(folder / "toy-npu"), str(folder / "my-npu")], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    tools = folder / "tools"
    tools.mkdir()
    for name, module in (("edgecc", "-m edgecc"), ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n', encoding="utf-8")
        (tools / name).chmod(0o755)
    return folder


def run(folder: Path, command: str) -> str:
    """What a command prints, with edgecc and the package installed."""
    environment = {**os.environ, "PATH": f"{folder / 'tools'}:{os.environ['PATH']}",
                   "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder / "site")])}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, text=True, check=False, timeout=300,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return re.sub(r"[ \t]+$", "", done.stdout, flags=re.MULTILINE).rstrip("\n") + "\n"


def test_what_is_shown_happens(installed: Path):
    assert COMMANDS
    for command, wanted in COMMANDS:
        printed = run(installed, command)
        assert doctest.OutputChecker().check_output(wanted, printed, doctest.ELLIPSIS), f"$ {command}\n{printed}"
