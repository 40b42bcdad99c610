"""`edgecc inspect`: contents of a model, with the multiply-adds that the operators really take."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

SHARED = Path(os.environ.get("EDGECC_SHARED", Path(__file__).parents[2].parent / "shared"))
F32 = TensorProto.FLOAT


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def save(path: Path, nodes, inputs, outputs, weights) -> Path:
    graph = helper.make_graph(nodes, "net\x1b[31m", inputs, outputs, weights)
    model = helper.make_model(graph, producer_name="hand", opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return save(tmp_path / "net.onnx", [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], group=2),        # 8x6x5 outputs, 2 channels of 3x3
        helper.make_node("ConvTranspose", ["a", "t"], ["b"], strides=[2, 2]),           # 8x6x5 inputs, 3 channels of 2x2
        helper.make_node("Reshape", ["b", "shape"], ["c"]),
        helper.make_node("MatMul", ["c", "m"], ["d"]),                                  # 36x10 rows, 7 results: 10 each
        helper.make_node("LSTM", ["d", "lw", "lr"], ["y"], hidden_size=4),              # 36 steps of batch 10
    ], [helper.make_tensor_value_info("x", F32, ["batch", 4, 6, 5])], [helper.make_tensor_value_info("y", F32, None)], [
        weight("w", 8, 2, 3, 3), weight("t", 8, 3, 2, 2), weight("m", 10, 7), weight("lw", 1, 16, 7), weight("lr", 1, 16, 4),
        numpy_helper.from_array(np.array([36, -1, 10]), "shape")])


def test_counts(cli, network):
    table = cli("inspect", network, "--json").json()
    assert table["name"] == "net\\x1b[31m" and table["producer"] == "hand" and table["opsets"] == {"ai.onnx": 17}
    assert table["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 4, 6, 5]}]
    assert table["outputs"] == [{"name": "y", "dtype": "float32", "shape": None}]
    assert table["ops"] == {"Conv": 1, "ConvTranspose": 1, "LSTM": 1, "MatMul": 1, "Reshape": 1}
    assert table["parameters"] == 8 * 2 * 9 + 8 * 3 * 4 + 70 + 16 * 7 + 16 * 4
    assert table["parameter_bytes"] == 4 * table["parameters"]
    rows = 3 * 12 * 10 // 10
    assert table["macs"] == 240 * 18 + 240 * 12 + rows * 10 * 7 + rows * (16 * 7 + 16 * 4)
    assert cli("inspect", network, "--json", "--shape", "batch=3").json()["macs"] == 3 * table["macs"]


def test_what_cannot_be_compiled_is_still_shown(cli, tmp_path):
    model = save(tmp_path / "net.onnx", [helper.make_node("NoSuchOp", ["x"], ["y"], domain="my.domain")],
                 [helper.make_tensor_value_info("x", F32, [1])], [helper.make_tensor_value_info("y", F32, [1])], [])
    outcome = cli("inspect", model)
    assert outcome.status == 0 and "my.domain.NoSuchOp 1" in outcome.out and "unknown: " in outcome.out
    assert cli("inspect", model, "--json").json()["macs"] is None
    assert all(line == line.rstrip() for line in outcome.out.splitlines())


@pytest.mark.parametrize(("content", "code"), [(None, "E007"), (b"", "E100"), (b"not a model at all", "E100")])
def test_files_that_are_no_models(cli, tmp_path, content, code):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    outcome = cli("inspect", path)
    assert f"[{code}]" in outcome.err and outcome.out == "" and outcome.status == (2 if code == "E007" else 3)


def test_a_truncated_model(cli, network):
    network.write_bytes(network.read_bytes()[:-20])
    outcome = cli("inspect", network)
    assert outcome.status == 3 and "[E100]" in outcome.err and outcome.out == ""


@pytest.mark.parametrize("shape", ["x", "x=", "=1", "x=1x", "x=-1", "x=1,2", "x=1x3x"])
def test_shapes_that_are_not_understood(cli, network, shape):
    outcome = cli("inspect", network, "--shape", shape)
    if shape == "x=":  # the shape of a scalar; x is none, so the count is not known
        assert outcome.status == 0 and "unknown" in outcome.out
    else:
        assert outcome.status == 2 and "[E001]" in outcome.err and "--shape input=1x3x224x224" in outcome.err
    twice = cli("inspect", network, "--shape", "batch=1", "--shape", "batch=2")
    assert twice.status == 2 and "given twice" in twice.err


@pytest.mark.parametrize(("name", "parameters", "macs"), [
    ("mobilenet_v2_fp32", 3_489_167, 300_775_552), ("fastestdet", 240_305, 121_491_744),
    ("gtcrn_stream_simple", 48_228, 496_976), ("silero_vad_16k_static", 309_635, 679_552),
])
def test_real_models(cli, name, parameters, macs):
    model = SHARED / "assets" / "models" / f"{name}.onnx"
    if not model.exists():
        pytest.skip(f"{model} is not there; EDGECC_SHARED names the folder of shared models")
    table = cli("inspect", model, "--json").json()
    assert (table["parameters"], table["macs"]) == (parameters, macs)
