"""`edgecc tune` and `edgecc compile --tuning`: what is measured, written, used and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgecc.cli.tune as tune_command
from edgecc.errors import EXIT_OK, EXIT_USAGE
from edgecc.tuning.measure import Measure, Settings

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


@pytest.fixture(autouse=True)
def times(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Replaces measuring: the cost model's second choice is the quickest. Lists how it was to be measured."""
    asked: list[Settings] = []

    def measure_with(settings: Settings) -> Measure:
        asked.append(settings)
        return lambda request, ways: {way.name: 1e-6 if way is ways[1] else 2e-6 for way in ways}

    monkeypatch.setattr(tune_command, "measure_with", measure_with)
    return asked


@pytest.fixture
def tuned(cli: Callable[..., Any], model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tuning.json"
    outcome = cli("tune", model, *QUICK, "-o", path)
    assert outcome.status == EXIT_OK and "measured now" in outcome.out
    return path


@pytest.mark.parametrize(("arguments", "code"), [(["--constant", "nope=1"], "E001"), (["--limits", "nodes=1"], "E101")])
def test_takes_models_as_compile_does(cli: Callable[..., Any], model: Path, arguments: list[str], code: str):
    assert cli("tune", model, *QUICK, *arguments).err.startswith(f"[{code}]")


def test_measures_what_is_missing_and_nothing_else(cli: Callable[..., Any], model: Path, tuned: Path):
    before = tuned.read_bytes()
    kernels = json.loads(before)["kernels"]
    assert all(kernel["chosen"] == list(kernel["microseconds"])[1] for kernel in kernels) and kernels
    value = cli("tune", model, *QUICK, "-o", tuned, "--json").json()
    assert value["measured"] == 0 and len(value["kernels"]) == len(kernels) and tuned.read_bytes() == before
    assert cli("tune", model, *QUICK, "-o", tuned, "--json", "--again").json()["measured"] == len(kernels)
    other = cli("tune", model, *QUICK[2:], "--shape", "height=16", "-o", tuned, "--json").json()
    assert other["measured"] > 0 and len(json.loads(tuned.read_text())["kernels"]) == len(kernels) + other["measured"]


def test_another_compiler_measures_anew(cli: Callable[..., Any], model: Path, tuned: Path):
    table = json.loads(tuned.read_text())
    tuned.write_text(json.dumps({**table, "compiler": "another"}))
    outcome = cli("tune", model, *QUICK, "-o", tuned)
    assert f"{len(table['kernels'])} measured now" in outcome.out and "measured with another" in outcome.err


def test_compile_uses_it(cli: Callable[..., Any], model: Path, tuned: Path, tmp_path: Path):
    table = json.loads(tuned.read_text())
    convolution = next(kernel for kernel in table["kernels"] if "f32[16,16,3,3]" in kernel["shapes"])
    texts = set()
    for name in ("winograd 2x2", "winograd 4x4"):
        convolution["chosen"] = name
        tuned.write_text(json.dumps(table))
        outcome = cli("compile", model, "--shape", "height=12", "--tuning", tuned, "--depth-first", "off", "-o", tmp_path / name)
        assert outcome.status == EXIT_OK and not outcome.err
        texts.add((tmp_path / name / "kernels.h").read_text())
    assert len(texts) == 2


def test_compile_says_what_the_file_does_not_decide(cli: Callable[..., Any], model: Path, tuned: Path, tmp_path: Path):
    outcome = cli("compile", model, "--shape", "height=16", "--depth-first", "off", "--tuning", tuned, "-o", tmp_path / "out")
    assert outcome.status == EXIT_OK and "kernels with several candidates were not measured" in outcome.err


def test_another_target_is_an_error(cli: Callable[..., Any], model: Path, tuned: Path, tmp_path: Path):
    outcome = cli("compile", model, "--shape", "height=12", "--target", "cortex-a76", "--tuning", tuned, "-o", tmp_path / "out")
    assert outcome.status == EXIT_USAGE and "E008" in outcome.err and not (tmp_path / "out").exists()


def test_a_target_that_does_not_run_here_needs_a_runner(cli: Callable[..., Any], model: Path, tmp_path: Path, times: list[Settings]):
    path = tmp_path / "a76.json"
    outcome = cli("tune", model, *QUICK, "--target", "cortex-a76", "-o", path)
    assert outcome.status == EXIT_USAGE and "--runner" in outcome.err and not path.exists() and not times
    outcome = cli("tune", model, *QUICK, "--target", "cortex-a76", "-o", path, "--runner", "sh 'on board.sh'")
    assert outcome.status == EXIT_OK and json.loads(path.read_text())["target"] == "cortex-a76"
    assert times[0].runner == ("sh", "on board.sh") and times[0].seconds == 0.001 and times[0].sweep_bytes > 0
