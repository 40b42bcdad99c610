"""The artifact folder: complete or absent, never in the place of something else, the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from edgecc.artifact.folder import Artifact, make_artifact, read_manifest, weights_blob
from edgecc.errors import EdgeccError
from edgecc.ir.types import DType, TensorType
from edgecc.loop.module import Constant, Interface, Module
from edgecc.targets.schema import load_target


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_manifest_says_what_is_there(make_hand_artifact, tmp_path):
    folder = make_hand_artifact().write(tmp_path / "deep" / "er" / "hand")
    table = json.loads((folder / "manifest.json").read_text())
    assert table["inputs"][0] == {"name": "x:0", "dtype": "float32", "shape": [2, 3], "bytes": 24}
    assert table["outputs"][1] == {"name": "flag", "dtype": "bool", "shape": [], "bytes": 1}
    assert table["arena"] == {"bytes": 24, "align": 128, "lower_bound": 24}
    assert table["weights"]["sha256"] == hashlib.sha256((folder / "weights.bin").read_bytes()).hexdigest()
    assert table["kernels"] == [{"function": "affine", "calls": [["Mul_0"], ["Add_1", "Greater_2"]]}]
    assert [entry["name"] for entry in table["files"]] == [n for n in names(folder) if n != "manifest.json"]
    for entry in table["files"]:
        content = (folder / entry["name"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_writing_and_reading_give_the_same_artifact(make_hand_artifact, tmp_path):
    artifact = make_hand_artifact("cortex-a53")
    one, two = artifact.write(tmp_path / "one"), artifact.write(tmp_path / "two")
    assert Artifact.read(one) == artifact
    assert names(tmp_path) == ["one", "two"]
    for name in names(one):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_an_artifact_is_replaced_and_foreign_files_in_it_are_kept(make_hand_artifact, tmp_path):
    folder = make_hand_artifact().write(tmp_path / "hand")
    (folder / "notes.txt").write_text("mine")
    (folder / "build").mkdir()
    (folder / "build" / "cache").write_text("mine too")
    make_hand_artifact(linked=False).write(folder)
    assert names(folder) == ["build", "edgecc_abi.h", "hand.c", "hand.h", "manifest.json", "notes.txt", "weights.bin"]
    assert (folder / "build" / "cache").read_text() == "mine too"
    assert names(tmp_path) == ["hand"]


def test_an_empty_folder_is_taken(make_hand_artifact, tmp_path):
    (tmp_path / "hand").mkdir()
    assert "manifest.json" in names(make_hand_artifact().write(tmp_path / "hand"))


def refused(artifact: Artifact, folder: Path) -> str:
    with pytest.raises(EdgeccError) as caught:
        artifact.write(folder)
    assert caught.value.code == "E006" and caught.value.exit_status == 2
    return str(caught.value)


def test_what_is_not_an_artifact_is_never_replaced(make_hand_artifact, tmp_path):
    artifact = make_hand_artifact()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    assert "not an edgecc artifact" in refused(artifact, precious)
    (precious / "manifest.json").write_text('{"format": "something else"}')
    refused(artifact, precious)
    assert (precious / "thesis.txt").read_text() == "years of work"
    assert "no folder" in refused(artifact, precious / "thesis.txt")
    (tmp_path / "link").symlink_to(precious)
    assert "no folder" in refused(artifact, tmp_path / "link")
    refused(artifact, precious / "thesis.txt" / "below")
    assert names(tmp_path) == ["link", "precious"]


def test_a_full_disk_leaves_nothing(make_hand_artifact, tmp_path, monkeypatch):
    old = make_hand_artifact().write(tmp_path / "hand")
    before = {name: (old / name).read_bytes() for name in names(old)}
    write = Path.write_bytes

    def fail(self: Path, data: bytes) -> int:
        if self.name == "weights.bin":
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", fail)
    assert "No space left" in refused(make_hand_artifact(), tmp_path / "new")
    assert "No space left" in refused(make_hand_artifact(), old)
    monkeypatch.undo()
    assert names(tmp_path) == ["hand"]
    assert {name: (old / name).read_bytes() for name in names(old)} == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(make_hand_artifact, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "cannot create" in refused(make_hand_artifact(), tmp_path / "locked" / "hand")


@pytest.mark.parametrize(("change", "words"), [
    (lambda t: t.pop("inputs"), "KeyError"), (lambda t: t.update(schema=9), "schema 9"),
    (lambda t: t.update(abi=2), "ABI 2"), (lambda t: t["inputs"][0].update(dtype="float99"), "KeyError"),
    (lambda t: t.update(sources=["../../etc/passwd"]), "bad file name"), (lambda t: t.update(arena=3), "TypeError"),
    (lambda t: t["files"][0].update(name="/etc/passwd"), "bad file name"),
    (lambda t: t["weights"].update(file="a/b"), "bad file name"),
])
def test_a_broken_manifest_is_an_error(make_hand_artifact, tmp_path, change, words):
    folder = make_hand_artifact().write(tmp_path / "hand")
    table = json.loads((folder / "manifest.json").read_text())
    change(table)
    (folder / "manifest.json").write_text(json.dumps(table))
    with pytest.raises(EdgeccError, match=words) as caught:
        read_manifest(folder)
    assert caught.value.code == "E007"


def test_changed_and_missing_files_are_found(make_hand_artifact, tmp_path):
    folder = make_hand_artifact().write(tmp_path / "hand")
    (folder / "hand.c").write_text("changed")
    with pytest.raises(EdgeccError, match="differs from what the manifest says"):
        Artifact.read(folder)
    (folder / "hand.c").unlink()
    with pytest.raises(EdgeccError, match="cannot be read"):
        Artifact.read(folder)
    sound = (folder / "manifest.json").read_text()
    for text in ("{", "[" * 100_000, re.sub(r'"threads": \d+', '"threads": 1e400', sound)):
        assert text != sound
        (folder / "manifest.json").write_text(text)
        with pytest.raises(EdgeccError, match="not a manifest"):
            Artifact.read(folder)


@pytest.mark.parametrize("name", ["../up.c", "a/b/c.c", "a/../b.c", "a/.c", "/a.c", "a/", "manifest.json/a", "", "manifest.json", ".hidden", "sp ace.c"])
def test_file_names_stay_in_the_folder(name):
    module = Module("m", (), (), (), (), (), 0, 0, 0)
    with pytest.raises(EdgeccError) as caught:
        make_artifact(module, load_target("generic-c"), {name: b""}, [])
    assert caught.value.code == "E900"


def test_names_of_the_model_are_escaped():
    odd = 'x"\n\u202e\U0001f600'
    module = Module("m", (Interface(odd, TensorType(DType.BF16, (1,))),), (), (), (), (), 0, 0, 0)
    manifest = make_artifact(module, load_target("generic-c"), {}, []).manifest
    text = manifest.to_json()
    assert text.isascii() and json.loads(text)["inputs"][0]["name"] == odd
    assert type(manifest).from_json(text, "again") == manifest


def test_weights_blob_places_constants():
    constants = (Constant(4, np.array([1, 2], np.int16)), Constant(8, np.array(True)), Constant(12, np.zeros((0, 3), np.float32)))
    module = Module("m", (), (), (), (), constants, 12, 0, 0)
    assert weights_blob(module) == bytes([0, 0, 0, 0, 1, 0, 2, 0, 1, 0, 0, 0])
