"""Files beside the model that somebody made to do harm: arrays, pictures, targets, tuning files. Each is refused in one message."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from edgecc.cli import main

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
m (float[1,3] x) => (float[1,4] y) <float[3,4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> { y = MatMul (x, w) }"""
GOOD: Mapping[str, object] = {"descr": "<f4", "fortran_order": False, "shape": (1, 3)}
TARGET = 'schema = 1\ninherits = "generic-c"\nname = "t"\n'


def described(header: object, data: bytes = b"0" * 12) -> bytes:
    """An .npy file with this description, whatever it says."""
    text = (header if isinstance(header, bytes) else repr(header).encode()) + b"\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text + data


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def changed(data: bytes, marker: bytes, offset: int, value: bytes) -> bytes:
    at = data.find(marker) + offset
    return data[:at] + value + data[at + len(value):]


ARRAYS: Mapping[str, bytes] = {
    "objects": npy(np.array([[1, 2, 3]], dtype=object)), "more than memory": described({**GOOD, "shape": (10**12,)}), "product": described({**GOOD, "shape": (10**9,) * 3}),
    "truth as a size": described({**GOOD, "shape": (True, 3)}), "nested": described(b"(" * 10_000), "code": described(b"__import__('os').system('touch harm')"),
    "long number": described(b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 10_000 + b",)}"), "items": described({**GOOD, "descr": "|V2000000000"}),
    "records": npy(np.zeros((1, 3), [("a", "f4"), ("b", "i4")])), "void": npy(np.zeros((1, 3), "V8")), "cut off": npy(np.zeros((1, 3), np.float32))[:-5], "empty": b"",
}
ARCHIVES: Mapping[str, bytes] = {
    "no array": npz({"x": b"hello"}), "folder": npz({"x.npy/": b""}), "cut off": npz({"x.npy": npy(np.zeros((1, 3), np.float32))})[:-30],
    "encrypted": changed(changed(npz({"x.npy": ARRAYS["cut off"]}), b"PK\x01\x02", 8, b"\x01"), b"PK\x03\x04", 6, b"\x01"),
    "unknown method": changed(changed(npz({"x.npy": ARRAYS["cut off"]}), b"PK\x01\x02", 10, b"\x63"), b"PK\x03\x04", 8, b"\x63"),
    "pickle": b"\x80\x04cposix\nsystem\n(S'touch harm'\ntR.",
}


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "m.onnx")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def run(*arguments: str | Path) -> str:
        status = main([str(argument) for argument in arguments])
        written = capsys.readouterr().err
        assert status in (2, 3), written
        assert "\x1b" not in written and len(written) < 2000
        assert not list((tmp_path / "work").iterdir())
        return written

    return run


def checked(refused: Callable[..., str], folder: Path, kind: str, file: Path) -> None:
    model = folder / "m.onnx"
    commands = {"inputs": ("run", model, "--target", "generic-c", "--inputs", file), "calibration": ("quantize", model, "--calibration", file, "-o", "q.onnx"),
                "constant": ("compile", model, "--target", "generic-c", "--constant", f"x={file}", "-o", "out"),
                "target": ("compile", model, "--target", file, "-o", "out"), "tuning": ("compile", model, "--target", "generic-c", "--tuning", file, "-o", "out")}
    refused(*commands[kind])


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name: str, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(ARRAYS[name])
    (tmp_path / "a.npz").write_bytes(npz({"x.npy": ARRAYS[name]}))
    checked(refused, tmp_path, "constant", tmp_path / "a.npy")
    for kind in ("inputs", "calibration"):
        checked(refused, tmp_path, kind, tmp_path / "a.npz")


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(name: str, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(ARCHIVES[name])
    for kind in ("inputs", "calibration"):
        checked(refused, tmp_path, kind, tmp_path / "a.npz")


def test_archives_that_unpack_to_what_fills_memory(refused: Callable[..., str], tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("x.npy", bytes(1 << 20))
    data = changed(file.getvalue(), b"PK\x01\x02", 24, struct.pack("<I", 1 << 30))  # what it says of itself decides, before anything is unpacked
    (tmp_path / "a.npz").write_bytes(data)
    assert "unpack to" in refused("run", tmp_path / "m.onnx", "--target", "generic-c", "--inputs", tmp_path / "a.npz")


@pytest.mark.parametrize(("kind", "name"), [("inputs", "a.npz"), ("calibration", "a.npz"), ("calibration", "a.png"), ("constant", "a.npy"), ("target", "a.toml"), ("tuning", "a.json")])
def test_pipes_and_devices_are_not_waited_for(kind: str, name: str, refused: Callable[..., str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    checked(refused, tmp_path, kind, tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    checked(refused, tmp_path, kind, tmp_path / name)


@pytest.mark.parametrize("text", [
    TARGET + "x = " + "[" * 5_000, TARGET + "cores = inf\n", TARGET + "[core]\nloads_per_cycle = nan\n", TARGET + "[core]\nloads_per_cycle = inf\n",
    TARGET + "cores = " + "9" * 5_000, TARGET + "cores = 1979-05-27\n", TARGET + f"cores = {2**62}\n", TARGET.replace('"t"', '"' + "a" * 5_000 + '"') + "cores = -1\n", "\0\xff",
    'schema = 1\ninherits = "../../../etc/passwd.toml"\n'])
def test_targets(text: str, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(text, encoding="latin-1")
    checked(refused, tmp_path, "target", tmp_path / "t.toml")


@pytest.mark.parametrize("text", ["[" * 5_000, "9" * 5_000, "{}", "[]", json.dumps({"format": 1}), "\0"])
def test_tuning_files(text: str, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(text)
    checked(refused, tmp_path, "tuning", tmp_path / "t.json")
