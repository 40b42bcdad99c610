"""The same model and options give the same bytes: under any hash seed, in any folder, from a path or from bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgecc
from tests.support.assets import asset

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"


def digest(folder: Path) -> dict[str, str]:
    """File name -> hash, of everything in a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def compile_with_seed(model: Path, folder: Path, seed: str, *options: str) -> dict[str, str]:
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "edgecc", "compile", str(model), "-o", str(folder), *options], check=True,
                   cwd=folder.parent, env=environment, capture_output=True, timeout=300)
    return digest(folder)


@pytest.mark.parametrize("target", ["cortex-a76", "x86-64-v3", "generic-c"])
def test_hash_seed_and_place_do_not_enter_the_artifact(tmp_path: Path, target: str):
    options = ("--target", target, "--shape", "batch=2", "--threads", "2")
    first = compile_with_seed(DIGITS, tmp_path / "here" / "first", "1", *options)
    elsewhere = tmp_path / "a longer way" / "there"
    elsewhere.mkdir(parents=True)
    copied = shutil.copy(DIGITS, elsewhere)
    assert compile_with_seed(copied, elsewhere / "second", "4242", *options) == first


def test_source_of_the_model_does_not_enter_the_artifact(tmp_path: Path):
    options = {"target": "cortex-a76", "shapes": {"batch": (1,)}}
    from_path = edgecc.compile(DIGITS, **options)
    from_bytes = edgecc.compile(DIGITS.read_bytes(), name="digits", **options)
    assert dict(from_path.files) == dict(from_bytes.files)
    assert from_path.manifest == from_bytes.manifest


def test_hash_seed_does_not_enter_a_large_artifact(tmp_path: Path):
    model = asset("models", "gtcrn_stream_simple.onnx")
    first, second = (compile_with_seed(model, tmp_path / seed, seed, "--target", "cortex-a76") for seed in ("1", "2"))
    assert first == second
