"""The measuring scripts run and print a row for the model they are given; what they measure is not judged here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("module", "arguments", "rows"), [
    ("peers", ("--rounds", "1", "--limit", "0", "--turn", "0.01"), ("| digits (0.14) |", "edgecc / best other")),
    ("memory", (), ("digits", "lower bound MB")),
    ("compile_time", ("--rounds", "1", "--chain", "12"), ("digits", "chain_12", "C compiler")),
])
def test_prints_a_row(module: str, arguments: tuple[str, ...], rows: tuple[str, ...]):
    pytest.importorskip("onnxruntime")
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        pytest.skip("no C compiler for this machine")
    done = subprocess.run(
        [sys.executable, "-m", f"benches.{module}", "examples/digits/digits.onnx", "--shape", "batch=1", *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for row in rows:
        assert row in done.stdout


def test_prints_a_row_of_weights():
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        pytest.skip("no C compiler for this machine")
    done = subprocess.run(
        [sys.executable, "-m", "benches.weight_products", "--depth", "128", "--channels", "32", "--rounds", "1", "--cold-megabytes", "1",
         "--form", "4:32:quantized"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "| int4, 32, quantized |" in done.stdout
