"""`edgecc quantize` on the example model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "examples/digits/digits.onnx"


@pytest.fixture
def images():
    with np.load(ROOT / "examples/digits/digits_test.npz") as data:
        return data["image"].astype(np.float32) / 16, data["label"]


def accuracy(path, images, labels):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.mean([session.run(None, {"image": image[np.newaxis]})[0].argmax() == label
                    for image, label in zip(images, labels, strict=True)])


def test_keeps_the_accuracy_of_the_example(cli, tmp_path, images):
    pixels, labels = images
    np.savez(tmp_path / "calibration.npz", image=pixels[::2][:32])
    out = tmp_path / "digits_int8.onnx"
    outcome = cli("quantize", MODEL, "--calibration", tmp_path / "calibration.npz", "--shape", "batch=1", "-o", out, "--json")
    assert outcome.status == 0
    report = outcome.json()
    assert report["samples"] == 32 and report["bytes"] == out.stat().st_size
    assert report["outputs"][0]["name"] == "probabilities" and report["outputs"][0]["snr_db"] > 25
    onnx.checker.check_model(onnx.load(out), full_check=True)
    rest = pixels[1::2], labels[1::2]
    assert accuracy(out, *rest) >= accuracy(MODEL, *rest) - 0.01


def test_errors_leave_nothing_behind(cli, tmp_path):
    np.savez(tmp_path / "wrong.npz", image=np.zeros((4, 1, 9, 9), np.float32))
    out = tmp_path / "out.onnx"
    for arguments, status in ((["--calibration", tmp_path / "wrong.npz"], 2), (["--calibration", tmp_path / "nothing.npz"], 2),
                              (["--calibration", tmp_path / "wrong.npz", "--method", "guess"], 2),
                              (["--calibration", tmp_path / "wrong.npz", "--pictures", "fit=zoom"], 2),
                              (["--calibration", tmp_path / "wrong.npz", "--samples", "0"], 2)):
        outcome = cli("quantize", MODEL, "--shape", "batch=1", "-o", out, *arguments)
        assert outcome.status == status and "Traceback" not in outcome.err and not out.exists()
