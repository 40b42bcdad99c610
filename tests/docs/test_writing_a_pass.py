"""The walk-through in docs/writing-a-pass.md works when it is followed to the letter."""

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
TEXT = (ROOT / "docs" / "writing-a-pass.md").read_text(encoding="utf-8")
FILES: dict[str, str] = dict(re.findall(r"^```python file=(\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
COMMANDS = [command for block in re.findall(r"^```shell\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
            for command in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a pass and its test need, with the files of the walk-through."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("edgecc", "passes", "backends", "targets", "tests/support", "tests/conftest.py", "tests/passes/test_base.py",
                 "pyproject.toml"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for path, body in FILES.items():
        assert not (folder / path).exists()
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(body, encoding="utf-8")
    return folder


def run(copy: Path, command: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(copy)}
    done = subprocess.run(["bash", "-c", command], cwd=copy, env=environment, text=True, check=False, timeout=300,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout


def test_it_is_one_pass_of_at_most_forty_lines_and_one_test():
    (pass_file, test_file) = FILES
    assert pass_file.startswith("passes/graph/")
    assert test_file.startswith("tests/passes/graph/test_")
    code = FILES[pass_file].split('"""\n', 1)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 40


def test_what_is_shown_happens(copy: Path):
    for command, wanted in COMMANDS:
        printed = run(copy, command)
        if wanted:
            got = re.sub(r"[ \t]+$", "", printed, flags=re.MULTILINE).rstrip("\n") + "\n"
            assert doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS), f"$ {command}\n{printed}"


def test_the_pass_is_known_and_has_its_place(copy: Path):
    for path, body in FILES.items():
        (copy / path).write_text(body, encoding="utf-8")
    code = "from edgecc.pipeline import default_graph_passes as d; print(*[p.name for p in d()])"
    names = run(copy, f"python -c '{code}'").split()
    assert names[names.index("fold-mul-into-conv") + 1] == "recognize-bias"
    checked = run(copy, "python -m pytest -q tests/passes/test_base.py -k 'fold-mul-into-conv or every_file'")
    assert "2 passed" in checked, checked


def test_the_files_follow_the_rules_of_the_repository(copy: Path):
    for path, body in FILES.items():
        (copy / path).write_text(body, encoding="utf-8")
    printed = run(copy, f"python -m ruff check {' '.join(FILES)}")
    assert "All checks passed" in printed, printed
    printed = run(copy, "python -m mypy -p edgecc.passes.graph.fold_mul_into_conv")
    assert "Success" in printed, printed
