"""Random models: an error for people, or code that computes what the reference computes.

Long runs are made by hand with tests/fuzz/structured.py and tests/fuzz/importer.py; these are short ones, the same every time.
EDGECC_FUZZ_SECONDS=NUMBER makes them as long, EDGECC_FUZZ_SEED=NUMBER chooses other ones.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecc.targets.schema import load_target
from tests.support import agreement, fuzz, randomness, sound
from tests.support.against_onnxruntime import difference
from tests.support.ccompile import require

FOLDER = Path(__file__).parents[1] / "fuzz"


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_random_models_compile_or_are_refused(source: random.Random) -> None:
    verdict = fuzz.examine(fuzz.Generator(source).model())
    assert not verdict.problem, verdict


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_random_models_compute_what_the_reference_computes(seed: int) -> None:
    require(load_target("generic-c"))
    model = fuzz.Generator(random.Random(seed)).model()
    verdict = fuzz.examine(model, run=True)
    assert not verdict.problem, verdict
    if verdict.outcome == "ok":
        assert fuzz.differs_from_onnxruntime(model) == "", onnx.printer.to_text(model)


@pytest.mark.parametrize("seed", range(10))
def test_sound_models_compute_what_onnxruntime_computes(seed: int) -> None:
    pytest.importorskip("onnxruntime")
    made = sound.sound_model(random.Random(seed))
    verdict = agreement.examine(made, seed, run=False)
    assert not verdict.problem, (verdict, onnx.printer.to_text(made.model))


def test_differences_are_seen() -> None:
    ones = np.ones((2, 3), np.float32)
    assert difference(ones, ones + np.float32(1e-5)) == ""
    nan, infinite = (np.where([[True, False, False]], np.float32(odd), ones) for odd in (np.nan, np.inf))
    for other in (ones.astype(np.float64), ones[:1], 1.01 * ones, nan, infinite):
        assert difference(ones, other) and difference(other, ones)
    assert not difference(nan, ones, any_nan=True) and difference(infinite, ones, any_nan=True) and not difference(infinite, ones, any_odd=True)
    assert difference(np.arange(3), np.array([0, 1, 3])) == "1 of 3 differ"
    assert difference(np.array(["a", "b"], object), np.array(["a", ""], object))


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_damaged_bytes_are_refused_or_understood(seed: int) -> None:
    source = random.Random(seed)
    data = bytearray(fuzz.Generator(source).model().SerializeToString())
    for _ in range(source.choice((1, 1, 2, 4, 16))):
        place = source.randrange(len(data))
        match source.randrange(4):
            case 0:
                data[place] ^= 1 << source.randrange(8)
            case 1:
                del data[place:place + source.randrange(1, 9)]
            case 2:
                data[place:place] = bytes(source.randrange(256) for _ in range(source.randrange(1, 9)))
            case _:
                data[place:place] = data[:source.randrange(len(data))]
        data = data or bytearray(b"\0")
    verdict = fuzz.examine(bytes(data))
    assert not verdict.problem, verdict


def test_bytes_guided_by_coverage(tmp_path) -> None:
    """Some seconds of what tests/fuzz/importer.py does for an hour: libFuzzer makes bytes that reach new lines of the importer."""
    pytest.importorskip("atheris")
    script, seconds = FOLDER / "importer.py", randomness.seconds_of_fuzzing(6)
    run = subprocess.run([sys.executable, str(script), str(tmp_path / "corpus"), f"-max_total_time={seconds:g}", f"-artifact_prefix={tmp_path}/", "-seed=7",
                          "-print_final_stats=1"], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=seconds + 300)
    assert run.returncode == 0, run.stderr[-3000:]
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"], run.stderr[-3000:]
    assert int(run.stderr.split("number_of_executed_units:")[1].split()[0]) > 100


@pytest.mark.skipif(randomness.seconds_of_fuzzing(0) == 0, reason="EDGECC_FUZZ_SECONDS is not set")
def test_random_and_damaged_models_for_as_long_as_is_said(tmp_path) -> None:
    seconds = randomness.seconds_of_fuzzing(0)
    run = subprocess.run([sys.executable, str(FOLDER / "structured.py"), "--seconds", str(seconds), "--out", str(tmp_path / "findings"),
                          "--seed", str(randomness.seed_of_fuzzing())], check=False, cwd=tmp_path, capture_output=True, text=True,
                         timeout=seconds + 600)
    assert run.returncode == 0, f"{run.stdout[-3000:]}{run.stderr[-3000:]}"
    print(run.stdout.splitlines()[-1])
