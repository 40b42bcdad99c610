"""Cortex-M55: what is generated is compiled for that core without a warning."""

from __future__ import annotations

import subprocess

import pytest

from edgecc import api
from edgecc.artifact.toolchain import zig_command
from edgecc.targets.schema import load_target

FLAGS = ("-target", "thumb-linux-musleabihf", "-mcpu=cortex_m55", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-c")


def test_code_is_compiled_for_the_core(tmp_path):
    zig = zig_command()
    if zig is None:
        pytest.skip("zig is not installed")
    artifact = api.compile("examples/digits/digits.onnx", target="cortex-m55", output=tmp_path / "net", shapes={"image": (1, 1, 8, 8)})
    sources = [name for name in artifact.manifest.sources if name.endswith(".c")]
    assert len(sources) > 1
    for name in sources[:2]:
        done = subprocess.run([*zig, "cc", *FLAGS, name, "-o", "code.o"], cwd=tmp_path / "net", capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
        header = (tmp_path / "net" / "code.o").read_bytes()[:20]
        assert header[:5] == b"\x7fELF\x01" and header[18:20] == b"\x28\x00", "32-bit Arm"


def test_ethos_u55_stands_beside_it():
    core = load_target("cortex-m55")
    for macs in (32, 64, 128, 256):
        assert load_target(f"ethos-u55-{macs}").core == core.core
