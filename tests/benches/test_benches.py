"""The measuring scripts run and print a row for the model they are given; what they measure is not judged here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("module", "row"), [("latency", "onnxruntime"), ("compile_time", "C compiler")])
def test_prints_a_row(module: str, row: str):
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        pytest.skip("no C compiler for this machine")
    done = subprocess.run(
        [sys.executable, "-m", f"benches.{module}", "examples/digits/digits.onnx", "--shape", "batch=1", "--rounds", "1"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "digits" in done.stdout and row in done.stdout
