"""The committed example model: its size, its interface, and the accuracy its README states."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def test_data() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "digits_test.npz") as data:
        return dict(data)


def test_model_is_small_and_valid():
    path = FOLDER / "digits.onnx"
    assert path.stat().st_size < 200_000
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert f"{path.stat().st_size:,} bytes" in (FOLDER / "README.md").read_text()


def test_model_leaves_the_fusing_to_the_compiler():
    kinds = [node.op_type for node in onnx.load(FOLDER / "digits.onnx").graph.node]
    assert kinds.count("BatchNormalization") == kinds.count("Conv") == 5
    assert {"Relu", "Clip", "Add", "GlobalAveragePool", "Gemm", "Softmax"} < set(kinds)


def test_stored_reference_is_what_onnxruntime_computes(test_data):
    session = onnxruntime.InferenceSession(FOLDER / "digits.onnx", providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"image": test_data["image"].astype(np.float32) / 16})
    np.testing.assert_allclose(probabilities, test_data["probabilities"], rtol=0, atol=2e-6)


def test_accuracy_is_the_stated_one(test_data):
    right = int((test_data["probabilities"].argmax(1) == test_data["label"]).sum())
    stated = re.search(r"Accuracy: (\d+) of the (\d+) test images \(([\d.]+) %\)", (FOLDER / "README.md").read_text())
    assert stated is not None
    assert (right, len(test_data["label"])) == (int(stated[1]), int(stated[2]))
    assert f"{100 * right / len(test_data['label']):.2f}" == stated[3]
    assert right / len(test_data["label"]) >= 0.98
