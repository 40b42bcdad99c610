"""Models that onnxruntime is tested with: each agrees with onnxruntime, or ends as ort_models.txt records it.

`pytest --bless` rewrites the record. Where an operator of onnxruntime or of classical machine learning is missing
the model is refused with its reason; of those that use ONNX operators alone at least 95 in 100 agree.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.support.assets import asset
from tests.support.onnx_suite import read_record, update_record
from tests.support.ort_models import domains, loaded_models, run_models

RECORD = Path(__file__).with_name("ort_models.txt")
PARTS = 6
PASSES = ("ok", "ok-folded")


@pytest.mark.parametrize("part", range(PARTS))
def test_models_end_as_recorded(part: int, request: pytest.FixtureRequest) -> None:
    folder = asset("ort_testdata")
    got = run_models(folder, loaded_models(folder)[part::PARTS])
    if request.config.getoption("--bless"):
        update_record(RECORD, got)
    _, recorded = read_record(RECORD)
    assert got == {name: recorded.get(name) for name in got}
    assert not {name: outcome for name, outcome in got.items() if outcome.startswith(("unhandled", "E9", "ended", "took"))}


def test_most_models_of_standard_operators_agree() -> None:
    folder = asset("ort_testdata")
    _, recorded = read_record(RECORD)
    standard = [name for name, outcome in recorded.items() if not outcome.startswith("not compared")
                and domains(onnx.load(folder / name, load_external_data=False)) <= {""}]
    assert len(standard) > 150
    assert sum(recorded[name] in PASSES for name in standard) >= 0.95 * len(standard)
