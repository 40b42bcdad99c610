"""`edgecc prune` on the example model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "examples/digits/digits.onnx"


def test_tells_the_effect(cli, tmp_path):
    with np.load(ROOT / "examples/digits/digits_test.npz") as data:
        np.savez(tmp_path / "data.npz", image=data["image"][:2].astype(np.float32) / 16)
    out = tmp_path / "p.onnx"
    outcome = cli("prune", MODEL, "--sparsity", "0.25", "--shape", "batch=1", "--calibration", tmp_path / "data.npz", "-o", out, "--json")
    assert outcome.status == 0
    report = outcome.json()
    assert report["bytes"] == out.stat().st_size and 0.15 < report["effect"]["sparsity"] <= 0.26
    assert report["effect"]["weights"][0] == report["effect"]["weights"][1] and report["effect"]["nonzero"][1] < report["effect"]["nonzero"][0]
    assert report["effect"]["score"]["float"] == 1.0 and report["effect"]["outputs"][0]["snr_db"] > 0
    onnx.checker.check_model(onnx.load(out), full_check=True)


def test_removes_channels(cli, tmp_path):
    random = np.random.default_rng(0)
    weights = [numpy_helper.from_array((random.standard_normal(dims) / 6).astype(np.float32), name) for name, dims in
               (("w1", (64, 8, 3, 3)), ("w2", (32, 64, 1, 1)))]
    nodes = [helper.make_node("Conv", ["x", "w1"], ["a"], "first"), helper.make_node("Relu", ["a"], ["r"], "act"),
             helper.make_node("Conv", ["r", "w2"], ["y"], "last")]
    graph = helper.make_graph(nodes, "two", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 20, 20])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32, 18, 18])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "two.onnx")
    outcome = cli("prune", tmp_path / "two.onnx", "--channels", "--target", "cortex-a76", "-o", tmp_path / "p.onnx", "--json")
    assert outcome.status == 0
    effect = outcome.json()["effect"]
    assert effect["weights"] == [6656, 3328] and effect["multiply_adds"][1] * 2 == effect["multiply_adds"][0]
    assert effect["cycles"][1] < 0.7 * effect["cycles"][0]
    assert "multiply-adds" in cli("prune", tmp_path / "two.onnx", "--channels", "--target", "cortex-a76", "-o", tmp_path / "q.onnx").out


def test_errors_leave_nothing_behind(cli, tmp_path):
    for arguments in (["--sparsity", "0"], ["--sparsity", "0.001", "--channels"]):
        outcome = cli("prune", MODEL, *arguments, "--shape", "batch=1", "-o", tmp_path / "p.onnx")
        assert outcome.status == 2 and "E001" in outcome.err and not (tmp_path / "p.onnx").exists()
