"""Hostile and odd models of the shared assets: one clear error or a graph, in bounded time and memory."""

import csv
import os
import tracemalloc
from pathlib import Path

import pytest

from edgecc.errors import EXIT_MODEL, EXIT_USAGE, EdgeccError
from edgecc.frontend import import_model

ASSETS = Path(os.environ.get("EDGECC_SHARED", Path(__file__).parents[3] / "shared")) / "assets"
if not ASSETS.exists():
    pytest.skip(f"the shared models are not at {ASSETS}", allow_module_level=True)

MAY_WORK = ("works", "same as ORT", "correct code", "escaped", "bounds check", "sort", "or a model", "defined result", "ignore the keys")
"""Behaviours of the manifest that allow a model to be imported."""


def listed(folder):
    with (ASSETS / folder / "manifest.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if (ASSETS / folder / row["file"]).exists()]


@pytest.mark.parametrize("row", listed("hostile"), ids=lambda row: row["file"])
def test_hostile_models(row, capsys):
    if row["wanted behaviour"] != "works":  # tracing makes long chains slow
        tracemalloc.start()
    try:
        import_model(ASSETS / "hostile" / row["file"])
        assert any(word in row["wanted behaviour"] for word in MAY_WORK), row
    except EdgeccError as error:
        assert error.exit_status == EXIT_MODEL
        assert row["wanted behaviour"] != "works", error
        assert "\x1b" not in str(error) and len(str(error)) < 3000
        assert str(error).startswith(f"[{error.code}] {row['file']}"), error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64 * 2**20
    assert capsys.readouterr() == ("", "")


def test_odd_models_import_or_are_refused():
    """Models of onnxruntime's own tests: custom operators, missing opsets, training graphs, text. Nothing else escapes."""
    codes = {}
    for row in listed("ort_testdata"):
        try:
            import_model(ASSETS / "ort_testdata" / row["file"])
            codes[row["file"]] = "ok"
        except EdgeccError as error:
            assert error.exit_status in (EXIT_MODEL, EXIT_USAGE)
            codes[row["file"]] = error.code
    assert set(codes.values()) <= {"ok", "E102", "E103", "E104", "E105", "E110"}
    assert sum(code == "ok" for code in codes.values()) >= 149
