"""`edgecc quantize` on the example model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support import onnxruntime_sessions

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "examples/digits/digits.onnx"


@pytest.fixture
def images():
    with np.load(ROOT / "examples/digits/digits_test.npz") as data:
        return data["image"].astype(np.float32) / 16, data["label"]


def accuracy(path, images, labels):
    session = onnxruntime_sessions.session(path, optimized=True)
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


def test_reports_the_ranking_and_the_accuracy(cli, tmp_path, images):
    pixels, labels = images
    np.savez(tmp_path / "calibration.npz", image=pixels[:4])
    (tmp_path / "labels.txt").write_text("\n".join(str(label) for label in labels[:4]), encoding="utf-8")
    common = ["--calibration", tmp_path / "calibration.npz", "--shape", "batch=1", "--max-accuracy-drop", "5", "--labels", tmp_path / "labels.txt"]
    outcome = cli("quantize", MODEL, *common, "-o", tmp_path / "q.onnx", "--report", "--json")
    assert outcome.status == 0
    report = outcome.json()
    assert report["score"]["float"] - report["score"]["quantized"] <= 0.05
    ratios = [row["output_db"] for row in report["sensitivity"]]
    assert ratios == sorted(ratios) and {row["source"] for row in report["sensitivity"]} == {"rounding", "weights"}
    assert {row["precision"] for row in report["layers"]} == {"int8"}
    compiled = cli("compile", MODEL, *common[:4], "--samples", "2", "--quantize", "int8", "--target", "generic-c", "-o", tmp_path / "out", "--json")
    assert compiled.status == 0 and compiled.json()["quantization"]["outputs"][0]["snr_db"] > 15
    assert compiled.json()["name"] == "digits" and (tmp_path / "out").is_dir()


def test_only_weights(cli, tmp_path, images):
    np.savez(tmp_path / "calibration.npz", image=images[0][:2])
    out = tmp_path / "w.onnx"
    outcome = cli("quantize", MODEL, "--weights", "int4", "--block-size", "16", "--method", "rtn", "--shape", "batch=1", "-o", out, "--json")
    assert outcome.status == 0 and outcome.json()["bytes"] == out.stat().st_size and outcome.json()["layers"]
    assert any(node.op_type == "MatMulNBits" for node in onnx.load(out).graph.node)
    assert ", weights of 1 product\n" in cli("quantize", MODEL, "--weights", "int8", "--block-size", "16", "--shape", "batch=1", "-o", out).out
    for arguments in (["--block-size", "32"], ["--weights", "int4", "--percentile", "99"], ["--weights", "int3"], ["--weights", "int4", "--method", "gptq"], ["--weights", "int4", "--block-size", "5"]):
        assert cli("quantize", MODEL, *arguments, "--shape", "batch=1", "-o", tmp_path / "none.onnx").status == 2


def test_options_that_belong_together(cli, tmp_path, images):
    np.savez(tmp_path / "calibration.npz", image=images[0][:2])
    data = ["--calibration", tmp_path / "calibration.npz"]
    for arguments in (["quantize", MODEL], ["quantize", MODEL, *data, "--labels", "x.txt"], ["quantize", MODEL, *data, "--min-sqnr", "nan"],
                      ["quantize", MODEL, *data, "--max-accuracy-drop", "-1"], ["compile", MODEL, *data],
                      ["compile", MODEL, "--quantize", "int8"], ["compile", MODEL, "--quantize", "int3", *data]):
        outcome = cli(*arguments, "--shape", "batch=1", "-o", tmp_path / "out")
        assert outcome.status == 2 and "E001" in outcome.err and not (tmp_path / "out").exists()


def test_errors_leave_nothing_behind(cli, tmp_path):
    np.savez(tmp_path / "wrong.npz", image=np.zeros((4, 1, 9, 9), np.float32))
    out = tmp_path / "out.onnx"
    for arguments, status in ((["--calibration", tmp_path / "wrong.npz"], 2), (["--calibration", tmp_path / "nothing.npz"], 2),
                              (["--calibration", tmp_path / "wrong.npz", "--method", "guess"], 2),
                              (["--calibration", tmp_path / "wrong.npz", "--pictures", "fit=zoom"], 2),
                              (["--calibration", tmp_path / "wrong.npz", "--samples", "0"], 2)):
        outcome = cli("quantize", MODEL, "--shape", "batch=1", "-o", out, *arguments)
        assert outcome.status == status and "Traceback" not in outcome.err and not out.exists()
