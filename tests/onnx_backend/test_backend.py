"""The backend of the onnx package: when a model is compiled, what is compiled in, what comes out."""

import unittest

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import TensorProto, helper

import edgecc.onnx_backend
from edgecc.errors import EdgeccError

GENERIC = {"target": "generic-c", "flags": ("-O1",)}


def model_of(nodes, inputs, outputs, **kwargs):
    graph = helper.make_graph(nodes, "graph", [helper.make_tensor_value_info(*value) for value in inputs],
                              [onnx.ValueInfoProto(name=name) for name in outputs], **kwargs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.fixture
def reshaped():
    """x under the shape s, made positive: both shapes are open."""
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"]), helper.make_node("Abs", ["y"], ["z"])]
    return model_of(nodes, [("x", TensorProto.FLOAT, ["n"]), ("s", TensorProto.INT64, [2])], ["z"])


def test_inputs_that_must_be_known_are_bound_by_value(reshaped):
    rep = edgecc.onnx_backend.prepare(reshaped, **GENERIC)
    assert rep.bound_inputs == () and not rep.is_folded
    for sign, shape in ((1, (2, 3)), (-1, (2, 3)), (1, (3, 2))):
        x = sign * np.arange(6, dtype=np.float32)
        (z,) = rep.run([x, np.array(shape)])
        assert rep.bound_inputs == ("s",) and not rep.is_folded
        np.testing.assert_array_equal(z, np.abs(x).reshape(shape))


def test_open_dimensions_are_compiled_for_each_shape(reshaped):
    rep = edgecc.onnx_backend.prepare(reshaped, **GENERIC)
    for count in (4, 6, 4):
        (z,) = rep.run({"s": np.array([2, count // 2]), "x": np.full(count, -2, np.float32)})
        np.testing.assert_array_equal(z, np.full((2, count // 2), 2, np.float32))


def test_a_model_with_fixed_shapes_is_compiled_ahead_and_refuses_others():
    model = model_of([helper.make_node("Neg", ["x"], ["y"])], [("x", TensorProto.FLOAT, [3])], ["y"])
    rep = edgecc.onnx_backend.prepare(model, "CPU:0", **GENERIC)
    assert rep.run([np.ones(3, np.float32)]).y.tolist() == [-1, -1, -1]
    with pytest.raises(EdgeccError, match="E005"):
        rep.run([np.ones(4, np.float32)])


def test_a_result_that_is_known_when_compiling_is_called_folded():
    model = model_of([helper.make_node("Range", ["a", "b", "c"], ["y"])], [(n, TensorProto.INT32, []) for n in "abc"], ["y"])
    rep = edgecc.onnx_backend.prepare(model, **GENERIC)
    (y,) = rep.run([np.int32(1), np.int32(9), np.int32(3)])
    assert y.dtype == np.int32 and y.tolist() == [1, 4, 7]
    assert rep.is_folded and rep.bound_inputs == ("a", "b", "c")


def test_weights_among_the_inputs_may_be_left_out_or_repeated():
    weight = onnx.numpy_helper.from_array(np.full(3, 2, np.float32), "w")
    model = model_of([helper.make_node("Mul", ["x", "w"], ["y"])], [(n, TensorProto.FLOAT, [3]) for n in "xw"], ["y"],
                     initializer=[weight])
    x = np.arange(3, dtype=np.float32)
    for inputs in ([x], [x, np.full(3, 2, np.float32)], {"x": x}):
        assert edgecc.onnx_backend.run_model(model, inputs, **GENERIC)[0].tolist() == [0, 2, 4]
    with pytest.raises(EdgeccError, match="E005"):
        edgecc.onnx_backend.run_model(model, [x, x, x], **GENERIC)


def test_single_nodes_run():
    node = helper.make_node("Sub", ["a", "a"], ["y"])
    assert edgecc.onnx_backend.run_node(node, [np.ones(2, np.float32)], **GENERIC)[0].tolist() == [0, 0]
    node = helper.make_node("Clip", ["x", "", "high"], ["y"])
    assert edgecc.onnx_backend.run_node(node, [np.float32([1, 5]), np.float32(3)], opset_version=13, **GENERIC)[0].tolist() == [1, 3]
    with pytest.raises(EdgeccError, match="E005"):
        edgecc.onnx_backend.run_node(node, [np.ones(2, np.float32)], **GENERIC)


def test_models_are_protos_bytes_or_files(tmp_path):
    model = model_of([helper.make_node("Neg", ["x"], ["y"])], [("x", TensorProto.FLOAT, [3])], ["y"])
    onnx.save(model, tmp_path / "neg.onnx")
    for source in (model.SerializeToString(), tmp_path / "neg.onnx", str(tmp_path / "neg.onnx")):
        rep = edgecc.onnx_backend.prepare(source, **GENERIC)
        assert rep.input_names == ("x",)
    for source, code in ((None, "E100"), (b"no model", "E100"), (tmp_path / "other.onnx", "E007")):
        with pytest.raises(EdgeccError, match=code):
            edgecc.onnx_backend.prepare(source)
    with pytest.raises(EdgeccError, match="no input 'z'"):
        rep.run({"x": np.ones(3, np.float32), "z": [1, 2]})


def test_is_compatible_says_whether_there_is_everything(reshaped):
    backend = edgecc.onnx_backend
    assert backend.is_compatible(reshaped) and backend.is_compatible(reshaped.SerializeToString(), "CPU:0")
    assert not backend.is_compatible(reshaped, "CUDA")
    assert not backend.is_compatible(model_of([helper.make_node("Nope", ["x"], ["y"])], [("x", TensorProto.FLOAT, [3])], ["y"]))


def test_operands_of_a_node_come_by_place_or_by_name():
    run, x, y = edgecc.onnx_backend.run_node, np.float32([1, 2]), np.float32([3, 5])
    node = helper.make_node("Sub", ["x", "y"], ["z"])
    for inputs in ((x, y), {"y": y, "x": x}):
        assert run(node, inputs, **GENERIC).z.tolist() == [-2, -3]
    twice = helper.make_node("Add", ["x", "x"], ["z"])
    assert run(twice, x, **GENERIC).z.tolist() == run(twice, [x, x], **GENERIC).z.tolist() == [2, 4]
    joined = helper.make_node("StringConcat", ["a", "b"], ["c"])
    texts = run(joined, [np.array([b"a", "\u00e9".encode()]), np.array([b"x", b"yz"], object)], **GENERIC).c
    assert texts.tolist() == ["ax", "\u00e9yz"]
    for wrong, inputs in ((node, {"x": x}), (node, [x]), (joined, [np.array([b"\xff"])] * 2), (twice, [np.array(["2020-01-01"], "M8[D]")])):
        with pytest.raises(EdgeccError, match="E005"):
            run(wrong, inputs, **GENERIC)


def test_without_a_compiler_models_run_through_llvm(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edgecc.api.running.lacks_compiler", lambda target: True)
    monkeypatch.setenv("PATH", "")
    model = model_of([helper.make_node("Neg", ["x"], ["y"])], [("x", TensorProto.FLOAT, [3])], ["y"])
    assert edgecc.onnx_backend.run_model(model, [np.ones(3, np.float32)]).y.tolist() == [-1, -1, -1]


def test_what_cannot_be_compiled_is_an_error():
    node = helper.make_node("NoSuchOperator", ["x"], ["y"])
    with pytest.raises(EdgeccError, match="E105"):
        edgecc.onnx_backend.run_node(node, [np.ones(2, np.float32)])
    with pytest.raises(EdgeccError, match=r"E001.*device"):
        edgecc.onnx_backend.run_node(node, [np.ones(2, np.float32)], "CUDA")
    with pytest.raises(EdgeccError, match=r"E001.*unknown option"):
        edgecc.onnx_backend.run_node(node, [np.ones(2, np.float32)], speed="high")


def test_devices():
    assert edgecc.onnx_backend.supports_device("CPU") and edgecc.onnx_backend.supports_device("CPU:0")
    assert not edgecc.onnx_backend.supports_device("CUDA") and not edgecc.onnx_backend.supports_device("toaster")


@pytest.mark.filterwarnings("ignore")
def test_the_official_runner_takes_the_module():
    runner = onnx.backend.test.BackendTest(edgecc.onnx_backend, __name__)
    runner.include(r"^test_(sub_bcast|operator_flatten)_cpu$")
    result = unittest.TestResult()
    runner.test_suite.run(result)
    assert result.wasSuccessful(), result.errors + result.failures
    assert result.testsRun - len(result.skipped) == 2


def test_sequences_are_lists_and_empty_optionals_none():
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 21]>
        g (seq(float[n]) s, optional(float[2]) extra) => (seq(float[n]) t, optional(float[2]) rest) {
            t = SequenceMap <body = b (float[n] v) => (float[n] w) { w = Neg (v) }> (s)
            rest = Identity (extra)
        }""")
    rep = edgecc.onnx_backend.prepare(model, **GENERIC)
    for count, extra in ((2, None), (1, np.float32([7, 8])), (2, None)):
        t, rest = rep.run([[np.full(size + 1, size, np.float32) for size in range(count)], extra])
        assert [array.tolist() for array in t] == [[-size] * (size + 1) for size in range(count)]
        assert rest is None if extra is None else rest.tolist() == [7, 8]
