"""Hostile models of every kind: refused with one clear message, or compiled; within ten seconds and a gigabyte, always."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import edgecc
from edgecc.targets.schema import load_target
from tests.support import hostile, hostile_data, hostile_graphs, hostile_wire
from tests.support.ccompile import build, require, run_program
from tests.support.limited import Outcome, Server

MODELS = {model.name: model for model in hostile.everything((*hostile_data.FAMILIES, *hostile_graphs.FAMILIES, *hostile_wire.FAMILIES))}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def answered(outcome: Outcome, folder: Path, written: list[str]) -> None:
    """What holds whatever the model was."""
    assert outcome.status in (0, 3), outcome
    assert "Traceback" not in outcome.stderr and "\x1b" not in outcome.stderr + outcome.stdout
    assert sorted(p.name for p in folder.iterdir()) == (written if outcome.status == 0 else [])
    if outcome.status == 3:
        first, *rest = outcome.stderr.splitlines()
        assert first.startswith("[E1") and not any(line.startswith("[E") for line in rest)
        assert len(outcome.stderr) < 5000 and "more memory than there is" not in outcome.stderr  # a limit has to say no before


@pytest.mark.parametrize("name", MODELS)
def test_is_answered(name, server, tmp_path):
    source, place = tmp_path / "source", tmp_path / "place"
    source.mkdir()
    place.mkdir()
    MODELS[name].write(source)
    before = sorted(source.rglob("*"))
    outcome = server.run(["compile", str(source / "model.onnx"), "--target", "generic-c", "-o", str(place / "out")], place)
    answered(outcome, place, ["out"])
    assert sorted(source.rglob("*")) == before
    wanted = MODELS[name].wanted
    assert wanted == hostile.ANY or outcome.status == (3 if wanted == hostile.REFUSED else 0), outcome


def test_no_text_of_a_model_reaches_a_file_unescaped(server, tmp_path):
    """All generated text is printable ASCII, in every file, for every name."""
    for name in (n for n in MODELS if n.startswith("name_")):
        source, out = tmp_path / name, tmp_path / f"{name}.out"
        source.mkdir()
        MODELS[name].write(source)
        assert server.run(["compile", str(source / "model.onnx"), "--target", "generic-c", "-o", str(out)], source).status == 0
        for path in out.iterdir():
            data = path.read_bytes()
            assert path.suffix == ".bin" or all(0x20 <= byte < 0x7F or byte == 0x0A for byte in data), path
            assert b"touch pwned" not in data or path.name in ("manifest.json", "model.c", "model.h", "selftest.c", "kernels.c"), path


def test_code_of_a_model_without_outputs_is_clean():
    target = load_target("generic-c")
    require(target)
    artifact = edgecc.compile(hostile.model([hostile.node("Relu", "x")], outputs=()), target, self_test=True)
    files = {name: text for name, text in artifact.files.items()
             if name.endswith((".h", ".bin")) or name in (*artifact.manifest.sources, "selftest.c")}
    assert run_program(build(files, target), target).decode() == "ok\n"
