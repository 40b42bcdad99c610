"""`edgecc tune` and `edgecc compile --tuning`: what is measured, written, used and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecc.cli import main
from edgecc.errors import EXIT_OK, EXIT_USAGE

QUICK = ("--shape", "height=12", "--seconds", "0.001", "--depth-first", "off")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution of 3x3 that can be computed in several ways, between two pointwise ones; dynamic height."""
    generator = np.random.default_rng(0)
    weights = [numpy_helper.from_array(generator.standard_normal((16, 16, k, k)).astype(np.float32), f"w{k}") for k in (1, 3)]
    nodes = [helper.make_node("Conv", ["x", "w1"], ["c"]), helper.make_node("Conv", ["c", "w3"], ["d"], pads=[1, 1, 1, 1]),
             helper.make_node("Conv", ["d", "w1"], ["y"])]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16, "height", 12]) for name in "xy"]
    path = tmp_path_factory.mktemp("models") / "several ways.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "ways", ports[:1], ports[1:], weights),
                                opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def measured(model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tuning file as it is written first."""
    path = tmp_path_factory.mktemp("tuning") / "tuning.json"
    assert main(["tune", str(model), *QUICK, "-o", str(path)]) == EXIT_OK
    return path.read_bytes()


@pytest.fixture
def tuned(measured: bytes, tmp_path: Path) -> Path:
    """The file to work on."""
    path = tmp_path / "tuning.json"
    path.write_bytes(measured)
    return path


def test_measures_what_is_missing_and_nothing_else(cli: Callable[..., Any], model: Path, tuned: Path):
    before = tuned.read_bytes()
    table = json.loads(before)
    assert table["target"] == "host" and len(table["kernels"]) == 1
    value = cli("tune", model, *QUICK, "-o", tuned, "--json").json()
    assert value["measured"] == 0 and len(value["kernels"]) == 1 and tuned.read_bytes() == before
    other = cli("tune", model, *QUICK[2:], "--shape", "height=16", "-o", tuned, "--json").json()
    assert other["measured"] == 1 and len(json.loads(tuned.read_text())["kernels"]) == 2


def test_another_compiler_measures_anew(cli: Callable[..., Any], model: Path, tuned: Path):
    tuned.write_text(json.dumps({**json.loads(tuned.read_text()), "compiler": "another"}))
    outcome = cli("tune", model, *QUICK, "-o", tuned)
    assert "1 measured now" in outcome.out and "measured with another" in outcome.err


def test_compile_uses_it(cli: Callable[..., Any], model: Path, tuned: Path, tmp_path: Path):
    table = json.loads(tuned.read_text())
    for name in table["kernels"][0]["microseconds"]:
        table["kernels"][0]["chosen"] = name
        tuned.write_text(json.dumps(table))
        outcome = cli("compile", model, "--shape", "height=12", "--tuning", tuned, "--depth-first", "off", "-o", tmp_path / name)
        assert outcome.status == EXIT_OK and not outcome.err
    sources = {name: (tmp_path / name / "kernels.h").read_text() for name in table["kernels"][0]["microseconds"]}
    assert len(set(sources.values())) == len(sources) > 1


def test_compile_says_what_the_file_does_not_decide(cli: Callable[..., Any], model: Path, tuned: Path, tmp_path: Path):
    outcome = cli("compile", model, "--shape", "height=16", "--depth-first", "off", "--tuning", tuned, "-o", tmp_path / "out")
    assert outcome.status == EXIT_OK and "note: 1 of 1 kernels with several candidates were not measured" in outcome.err


def test_another_target_is_an_error(cli: Callable[..., Any], model: Path, tuned: Path, tmp_path: Path):
    outcome = cli("compile", model, "--shape", "height=12", "--target", "cortex-a76", "--tuning", tuned, "-o", tmp_path / "out")
    assert outcome.status == EXIT_USAGE and "E008" in outcome.err and not (tmp_path / "out").exists()


def test_a_target_that_does_not_run_here_needs_a_runner(cli: Callable[..., Any], model: Path, tmp_path: Path):
    path = tmp_path / "a76.json"
    outcome = cli("tune", model, *QUICK, "--target", "cortex-a76", "-o", path)
    assert outcome.status == EXIT_USAGE and "--runner" in outcome.err and not path.exists()
    emulator = shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("no emulator")
    outcome = cli("tune", model, *QUICK, "--target", "cortex-a76", "-o", path, "--runner", f"{emulator} -cpu max")
    assert outcome.status == EXIT_OK and json.loads(path.read_text())["target"] == "cortex-a76"
