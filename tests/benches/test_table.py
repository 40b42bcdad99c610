"""The Markdown table of engines, from figures that are made up."""

from __future__ import annotations

from benches.peers import DISTURBED, Line, row_text, table_text
from edgecc.bench.machine import Machine
from edgecc.bench.session import Comparison, Row

ENGINES = ("edgecc", "onnxruntime", "ncnn")


def comparison(*rows: Row, work: int = 50_000_000) -> Comparison:
    return Comparison(Machine("cpu", 2, 100e9), "cc", 1, work, 10, 10, 10, "the reference", rows, ())


def row(engine: str, minimum: float, **changes: object) -> Row:
    return Row(engine, "1.0", **{"minimum": minimum, "median": minimum, "quiet_turns": 3, "turns": 3, **changes})  # type: ignore[arg-type]


def test_the_quickest_right_engine_is_bold():
    found = comparison(row("edgecc", 2e-3), row("onnxruntime", 4e-3), row("ncnn", 1e-3, wrong=True, difference=0.5))
    assert row_text(Line("net", found), ENGINES) == "| net (50) | **2** (50%) | 4 (25%) | wrong (5e-01) | 0.50 |"


def test_an_engine_that_failed_and_a_disturbed_one():
    found = comparison(row("edgecc", 2e-3), row("onnxruntime", 1e-3, quiet_turns=0), Row("ncnn", "1.0", "no"), work=1_434_000_000)
    assert row_text(Line("net", found), ENGINES) == "| net (1434) | 2 (1434%) | **1**† (2868%) | failed | 2.00 |"
    assert table_text([Line("net", found)], ENGINES).endswith(DISTURBED)


def test_a_model_that_cannot_be_compiled_has_a_row():
    found = comparison(*(row(name, 1e-3) for name in ENGINES))
    lines = table_text([Line("good", found), Line("bad", None, "[E105] no")], ENGINES).splitlines()
    assert lines[-1] == "| bad | [E105] no | | | |" and lines[-2].startswith("| good (50) |")
    assert all(line.count("|") == 6 for line in lines[2:])
    assert table_text([Line("bad", None, "[E105] no")], ENGINES).endswith("bad: [E105] no")
