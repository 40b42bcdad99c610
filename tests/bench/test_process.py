"""Worker processes: what they answer, and what is said when one cannot start, fails or dies."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgecc.bench import process
from edgecc.bench.process import ENGINES, PEERS, EngineError, Worker
from edgecc.errors import EXIT_TOOL, EdgeccError

DOUBLING = '''
print("libraries talk on standard output")
VERSION = "7"
class Engine:
    def __init__(self, job):
        self.job = job
        self.runs = 0
    def run(self):
        if self.job.threads == 13:
            import os
            os._exit(3)
        if self.job.threads == 14:
            raise ValueError("cannot run")
        self.runs += 1
    def outputs(self):
        return [2 * a for a in self.job.inputs]
open_engine = Engine
'''


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "doubling.py").write_text(DOUBLING)
    (tmp_path / "missing.py").write_text("import a_package_that_is_nowhere\n")
    monkeypatch.setattr(process, "ENGINES", tmp_path)
    np.savez(tmp_path / "inputs.npz", np.arange(6, dtype=np.float32).reshape(2, 3), np.array(5, np.int64))
    return tmp_path


def load(worker: Worker, folder: Path, threads: int = 1) -> dict[str, object]:
    return worker.ask({"model": "m", "inputs": str(folder / "inputs.npz"), "input_names": ["x", "n"], "output_names": ["y", "z"],
                       "threads": threads, "folder": str(folder)})


@pytest.mark.parametrize("python", [None, sys.executable])
def test_runs_and_is_timed(engines: Path, python: str | None):
    with Worker("doubling", python) as worker:
        assert worker.version == "7"
        with np.load(str(load(worker, engines)["outputs"])) as results:
            np.testing.assert_array_equal(results["arr_0"], [[0, 2, 4], [6, 8, 10]])
            assert results["arr_1"] == 10
        turn = worker.ask({"seconds": 0.01, "warm": 2, "least": 3})
        assert len(turn["times"]) >= 3 and all(t >= 0 for t in turn["times"])
        assert 0 <= turn["cpu_seconds"] <= turn["cpu_total"] and 0.01 <= turn["wall_seconds"] <= turn["wall_total"]


def test_a_missing_package_is_named_with_the_command(engines: Path):
    with pytest.raises(EdgeccError, match=r"(?s)a_package_that_is_nowhere.*pip install missing") as error:
        Worker("missing")
    assert error.value.exit_status == EXIT_TOOL


def test_a_missing_interpreter(engines: Path):
    with pytest.raises(EdgeccError, match=r"E400.*cannot be started"):
        Worker("doubling", str(engines / "no-python"))


def test_errors_and_deaths_are_reported(engines: Path):
    with Worker("doubling") as worker:
        with pytest.raises(EngineError, match="ValueError: cannot run"):
            load(worker, engines, threads=14)
        load(worker, engines)
        with pytest.raises(EngineError, match="status 3"):
            load(worker, engines, threads=13)


def test_every_peer_has_a_file():
    assert {path.stem for path in ENGINES.glob("*.py")} == {*PEERS, "edgecc", "__init__"}
