"""The tuning file: order, rounding, reading back, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecc.errors import EdgeccError
from edgecc.targets.schema import load_target
from edgecc.tuning.record import Record, Tuning, choose, new_tuning, read_for, read_tuning

A76 = load_target("cortex-a76")


def record(signature: str, **seconds: float) -> Record:
    return Record(signature, "conv", ("f32[1,2]",), choose(seconds), seconds)


def tuning(*records: Record) -> Tuning:
    return new_tuning(A76, "some processor", "cc 1").with_records(records)


def test_text_does_not_depend_on_the_order_of_measuring(tmp_path: Path):
    one, two = record("b", direct=1.23456e-4, winograd=2e-3), record("a", direct=1e-6)
    text = tuning(one, two).to_json()
    assert text == tuning(two, one).to_json()
    kernels = json.loads(text)["kernels"]
    assert [kernel["signature"] for kernel in kernels] == ["a", "b"]
    assert kernels[1]["microseconds"] == {"direct": 123.0, "winograd": 2000.0}
    path = tmp_path / "t.json"
    path.write_text(text)
    assert read_tuning(path).to_json() == text
    assert read_for(path, A76).choices == {"a": "direct", "b": "direct"}


def test_a_new_record_replaces_the_old_one():
    assert tuning(record("a", x=1.0)).with_records([record("a", y=1.0)]).choices == {"a": "y"}


@pytest.mark.parametrize(("seconds", "chosen"), [
    ({"first": 1.0, "second": 0.97}, "second"),
    ({"first": 1.0, "second": 0.99}, "first"),
    ({"first": 1.0, "second": 2.0, "third": 0.5}, "third"),
    ({"first": 1.0}, "first"),
    ({"first": 150e-9, "second": 140e-9}, "first"),
    ({"first": 150e-9, "second": 120e-9}, "second"),
])
def test_the_quickest_is_chosen_unless_it_is_a_tie(seconds: dict[str, float], chosen: str):
    assert choose(seconds) == chosen


@pytest.mark.parametrize("other", ["cortex-a53", "x86-64-v3", "rpi5"])
def test_another_target_is_refused(other: str, tmp_path: Path):
    path = tmp_path / "t.json"
    path.write_text(tuning().to_json())
    with pytest.raises(EdgeccError, match=r"E008.*measured for cortex-a76"):
        read_for(path, load_target(other))


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"format": "edgecc-tuning", "version": 1}',
                                  pytest.param("[" * 100_000, id="deep"), '{"format": "edgecc-tuning", "version": 99}', '{"format": "other", "version": 1}',
                                  tuning(record("a", x=1.0)).to_json().replace('"chosen"', '"taken"'),
                                  tuning(record("a", x=1.0)).to_json().replace("1000000.0", '"fast"')])
def test_other_files_are_refused(text: str, tmp_path: Path):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(EdgeccError, match="E007"):
        read_tuning(path)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(EdgeccError, match="E007"):
        read_tuning(tmp_path / "none.json")
