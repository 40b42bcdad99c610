"""`make demo`: the whole road on the example model, on the host and on an emulated Cortex-A76."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "digits" / "demo.py"


def run_demo(tmp_path: Path, *arguments: str, path: str | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({} if path is None else {"PATH": path})}
    done = subprocess.run([sys.executable, str(DEMO), *arguments], cwd=tmp_path, env=environment, capture_output=True,
                          text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_runs_all_images_on_an_emulated_cortex_a76(tmp_path: Path):
    if shutil.which("qemu-aarch64") is None and shutil.which("qemu-aarch64-static") is None:
        pytest.skip("qemu-aarch64 is not installed")
    printed = run_demo(tmp_path)
    assert "compiled for cortex-a76 and run under qemu-aarch64" in printed
    assert "accuracy, compiled                    448 of 450" in printed
    assert "450 of 450 (100.00%)" in printed
    assert "fuse-conv-bn" in printed and "arena" in printed and "compiled code and reference agree" in printed
    assert (tmp_path / "out" / "digits-cortex-a76" / "manifest.json").is_file()


def test_says_so_where_there_is_no_emulator(tmp_path: Path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cc", "gcc", "clang", "as", "ld", "sh"):
        found = shutil.which(name)
        if found is not None:
            (tools / name).symlink_to(found)
    printed = run_demo(tmp_path, "--output", "folder", path=str(tools))
    assert "qemu-aarch64 was not found, so this runs on the host instead" in printed
    assert "run on this machine" in printed and "448 of 450" in printed
    assert (tmp_path / "folder" / "manifest.json").is_file()
