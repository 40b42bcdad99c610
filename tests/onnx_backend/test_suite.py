"""The official suite of the onnx package, through generated C: every case ends as suite.txt records it.

A case that starts to pass, or stops, fails the test until `pytest --bless` records it. Beside other versions of onnx,
which have other cases, the known ones must pass where they did.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import onnx
import pytest

from edgecc.targets.schema import load_target
from tests.support.onnx_suite import case_names, file_cases, load_case, node_cases, outcomes, read_record, update_record

RECORD = Path(__file__).with_name("suite.txt")
PARTS = 16
EMULATED_STRIDE = 5
PASSES = ("ok", "ok-folded")


def is_fatal(outcome: str) -> bool:
    """Whether a case may never end like this, recorded or not: without an error that names its code."""
    return outcome.startswith(("unhandled", "E9"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(PARTS))
def test_cases_end_as_recorded(part: int, request: pytest.FixtureRequest) -> None:
    got = outcomes(map(load_case, case_names()[part::PARTS]), load_target("host"))
    if request.config.getoption("--bless"):
        update_record(RECORD, got)
    version, recorded = read_record(RECORD)
    if version == f"onnx {onnx.__version__}":
        assert got == {name: recorded.get(name) for name in got}
    else:
        assert not [name for name, outcome in got.items() if recorded.get(name) in PASSES and outcome not in PASSES]
    assert not {name: outcome for name, outcome in got.items() if is_fatal(outcome)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(2))
def test_a_sample_passes_on_a_cortex_a76_as_well(part: int) -> None:
    cross = "aarch64-linux-gnu-gcc"
    if os.uname().machine != "aarch64" and not (shutil.which("qemu-aarch64") and shutil.which(cross)):
        pytest.skip("no cross compiler or no emulator")
    _, recorded = read_record(RECORD)
    passing = [name for name in case_names() if recorded.get(name) == "ok" and (name in node_cases() or file_cases()[name].kind != "real")]
    sample = passing[::EMULATED_STRIDE]
    assert len(sample) >= 300 or len(passing) < 300 * EMULATED_STRIDE
    got = outcomes(map(load_case, sample[part::2]), load_target("cortex-a76"), cc=cross if os.uname().machine != "aarch64" else None, reference=False)
    assert got == dict.fromkeys(got, "ok")


def test_the_record_names_every_case_once_and_most_pass() -> None:
    version, recorded = read_record(RECORD)
    if version == f"onnx {onnx.__version__}":
        assert sorted(recorded) == sorted(case_names())
    assert sum(outcome in PASSES for outcome in recorded.values()) > 0.99 * len(recorded)
