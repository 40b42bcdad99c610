"""The Python verbs: the same code as the command line, from the package itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgecc
from edgecc.api import Options, compilation
from edgecc.errors import EdgeccError
from edgecc.targets.schema import load_target


def test_compile_load_run(small_model, small_fixture, tmp_path):
    with np.load(small_fixture.inputs) as file:
        inputs = dict(file)
    artifact = edgecc.compile(small_model, target="host", output=tmp_path / "out", inputs=inputs)
    assert isinstance(artifact, edgecc.Artifact) and artifact.name == "small_model"
    with edgecc.load(tmp_path / "out") as model:
        assert isinstance(model, edgecc.Model)
        outputs = model.run(inputs)
        np.testing.assert_allclose(outputs["y"], small_fixture.outputs["y"], atol=1e-5)
        assert outputs["flag"] == small_fixture.outputs["flag"]
        assert model.arena_bytes == artifact.arena_bytes and model.weights_bytes == artifact.weights_bytes
        assert len(model.benchmark(2).times_ns) == 2


def test_models_as_bytes_and_protos(small_model):
    of_path = edgecc.compile(small_model, shapes={"height": (4,)}, name="m")
    of_bytes = edgecc.compile(small_model.read_bytes(), shapes={"height": (4,)}, name="m")
    of_proto = edgecc.compile(onnx.load(small_model), load_target("host"), shapes={"height": (4,)}, name="m")
    assert of_path == of_bytes == of_proto
    assert edgecc.compile(small_model.read_bytes(), shapes={"height": (4,)}).name == "small"


def test_verify(small_model, small_fixture):
    with np.load(small_fixture.inputs) as file:
        inputs = dict(file)
    outcome = edgecc.verify(small_model, "generic-c", inputs=inputs, expected=small_fixture.outputs)
    assert isinstance(outcome, edgecc.Verification) and outcome.ok and outcome.target == "generic-c"
    wrong = {**small_fixture.outputs, "flag": np.array(False)}
    outcome = edgecc.verify(small_model, inputs=inputs, expected=wrong)
    assert not outcome.ok and [o.ok for o in outcome.outputs] == [True, False]
    assert edgecc.verify(small_model, shapes={"height": (3,)}, seed=5, verify_each=True).ok


def test_the_tolerance_follows_the_narrowest_type_of_the_run(tmp_path):
    """Half precision on the way to a wide output counts; half precision of weights does not."""
    def model(run_in: int) -> onnx.ModelProto:
        nodes = [helper.make_node("Cast", ["w"], ["v"], to=run_in), helper.make_node("Cast", ["x"], ["a"], to=run_in),
                 helper.make_node("Mul", ["a", "v"], ["b"]), helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT)]
        ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
        graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(np.ones(4, np.float16), "w")])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    inputs = {"x": np.ones(4, np.float32)}
    for run_in, tolerance in ((TensorProto.FLOAT, 1e-4), (TensorProto.FLOAT16, 16 * 2**-11)):
        (output,) = edgecc.verify(model(run_in), inputs=inputs).outputs
        assert output.ok and output.tolerance == pytest.approx(tolerance + 1e-6)


def test_mistakes(small_model, tmp_path):
    with pytest.raises(EdgeccError, match="no back end emits 'object'"):
        edgecc.compile(small_model, emit="object")
    with pytest.raises(edgecc.EdgeccError, match="unknown target"):
        edgecc.compile(small_model, "nowhere")
    with pytest.raises(TypeError, match="colour"):
        edgecc.compile(small_model, colour="red")
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        _ = edgecc.colour


def test_the_package_is_quick_to_import_and_says_what_it_has():
    code = "import sys, edgecc; print(sorted({'numpy', 'onnx'} & set(sys.modules)), edgecc.__version__, *dir(edgecc))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "[]" and {"compile", "load", "verify"} <= set(done.stdout.split())


def test_the_version_is_the_packages():
    text = (Path(edgecc.__file__).parents[1] / "pyproject.toml").read_text()
    assert f'version = "{edgecc.__version__}"' in text


def test_a_self_test_of_integers_expects_what_they_are(monkeypatch):
    executed = []
    monkeypatch.setattr(compilation, "execute", lambda graph, arrays, run=compilation.execute: executed.append(graph) or run(graph, arrays))
    constants = {"s": np.float32(0.1), "z": np.int8(0), "w": np.eye(4, dtype=np.float32)}
    quantized = [node for name in ("x", "p") for node in (helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}q"]),
                                                          helper.make_node("DequantizeLinear", [f"{name}q", "s", "z"], [f"{name}d"]))]
    for integers in (True, False):
        nodes = [*quantized[:2], helper.make_node("Relu", ["xd"], ["p"]), *quantized[2:], helper.make_node("Identity", ["pd"], ["y"])]
        nodes = nodes if integers else [helper.make_node("MatMul", ["x", "w"], ["y"])]
        graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])], [numpy_helper.from_array(a, n) for n, a in constants.items()])
        executed.clear()
        done = compilation.compile_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), load_target("generic-c"),
                                         Options(self_test=True))
        assert (executed == [done.compiled.graph]) is integers and len(executed) == 1
