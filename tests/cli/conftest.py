"""Models and fixtures that the tests of the command line share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that every stage handles: a convolution with ReLU, a pooled copy and an integer input; dynamic batch.

    y = relu(conv(x, w) + b), flag = (k > 0)
    """
    generator = np.random.default_rng(0)
    weights = [numpy_helper.from_array(generator.standard_normal((5, 3, 3, 3)).astype(np.float32), "w"),
               numpy_helper.from_array(generator.standard_normal(5).astype(np.float32), "b"),
               numpy_helper.from_array(np.array(0, np.int64), "zero")]
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["c"], ["y"]),
             helper.make_node("Greater", ["k", "zero"], ["flag"])]
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "height", 6]),
                         helper.make_tensor_value_info("k", TensorProto.INT64, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None), helper.make_tensor_value_info("flag", TensorProto.BOOL, [])],
        weights)
    path = tmp_path_factory.mktemp("models") / "small model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@dataclass(frozen=True)
class Fixture:
    """Files with inputs of a model and the outputs that belong to them."""

    inputs: Path
    expected: Path
    outputs: dict[str, Any]


@pytest.fixture(scope="session")
def small_fixture(small_model: Path) -> Fixture:
    """Inputs and right outputs of `small_model`, computed by onnx.reference."""
    inputs = {"x": np.random.default_rng(1).standard_normal((1, 3, 7, 6)).astype(np.float32), "k": np.array(3, np.int64)}
    values = ReferenceEvaluator(onnx.load(small_model)).run(None, inputs)
    outputs = dict(zip(["y", "flag"], values, strict=True))
    folder = small_model.parent
    np.savez(folder / "in.npz", **inputs)
    np.savez(folder / "out.npz", **outputs)
    return Fixture(folder / "in.npz", folder / "out.npz", outputs)


@pytest.fixture
def reshaping(tmp_path: Path) -> Path:
    """A product whose operand, of dynamic size, is reshaped as an input says."""
    weights = numpy_helper.from_array(np.random.default_rng(0).standard_normal((64, 32), dtype=np.float32), "w")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"], "product")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]), helper.make_tensor_value_info("shape", TensorProto.INT64, [2])]
    graph = helper.make_graph(nodes, "net", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [weights])
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
