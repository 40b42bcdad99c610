"""Dialects compute the same numbers bit for bit, and put quantization where the vendor wants it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecc.api import compile as compile_model
from edgecc.backends.discovery import create_backend
from edgecc.backends.onnx.dialects import DIALECTS
from edgecc.errors import EdgeccError
from tests.support.assets import asset
from tests.support.onnxruntime_sessions import run
from tests.support.quantized_models import Quantized


def quantized_model(activations=np.int8, zeros=(-3, -128, 5, 0), weights_zero=0, last="Softmax"):
    """Conv, Relu, MaxPool, Reshape, Gemm, Clip, quantized as onnxruntime's quantizer does it."""
    generator = np.random.default_rng(0)
    constants, nodes = [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=f"node_{output}", **attributes))
        return output

    def quantized(x, name, scale, zero):
        zero = zero + {np.uint8: 128, np.uint16: 32768}.get(activations, 0)
        scale = scale / (256 if np.dtype(activations).itemsize == 2 else 1)
        parameters = [constant(f"{name}_s", np.float32(scale)), constant(f"{name}_z", activations(zero))]
        return node("DequantizeLinear", [node("QuantizeLinear", [x, *parameters], f"{name}_q"), *parameters], name)

    def weights(name, shape, scale):
        kind = np.int8 if weights_zero == 0 else np.uint8
        data = (generator.integers(-100, 100, shape) + weights_zero).astype(kind)
        each = [constant(f"{name}_ws", generator.uniform(0.5, 1.5, shape[0]).astype(np.float32) * scale),
                constant(f"{name}_wz", np.full(shape[0], weights_zero, kind))]
        bias = [constant(f"{name}_bs", generator.uniform(1e-4, 2e-4, shape[0]).astype(np.float32)), constant(f"{name}_bz", np.zeros(shape[0], np.int32))]
        return [node("DequantizeLinear", [constant(f"{name}_w", data), *each], f"{name}_wd", axis=0),
                node("DequantizeLinear", [constant(f"{name}_b", generator.integers(-999, 999, shape[0]).astype(np.int32)), *bias], f"{name}_bd", axis=0)]

    x = quantized("x", "xd", 0.031, zeros[0])
    y = node("Relu", [node("Conv", [x, *weights("c", (4, 3, 3, 3), 0.01)], "conv", pads=[1] * 4)], "relu")
    y = node("MaxPool", [quantized(y, "rd", 0.057, zeros[1])], "pool", kernel_shape=[2, 2], strides=[2, 2])
    y = node("Reshape", [y, constant("shape", np.array([1, 64], np.int64))], "flat")
    y = node("Gemm", [y, *weights("g", (6, 64), 0.003)], "gemm", transB=1)
    y = node("Clip", [y, constant("low", np.float32(-2.5)), constant("high", np.float32(3.3))], "clip")
    y = node(last, [quantized(y, "gd", 0.043, zeros[2])], "last")
    y = quantized(y, "y", 1 / 256, zeros[3])
    graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
                              [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 6])], constants)
    wide = np.dtype(activations).itemsize == 2
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21 if wide else 17)], ir_version=10 if wide else 8)


def written(model, dialect, **options):
    extra = "".join(f",{key}={value}" for key, value in options.items())
    artifact = compile_model(model, "generic-c", backend=f"onnx{{dialect={dialect}{extra}}}", name="net")
    return onnx.load_from_string(artifact.files["net.onnx"]), artifact.manifest.report


def stored(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


SYMMETRIC = (0, 0, 0, 0)


@pytest.mark.parametrize("activations", [np.int8, np.uint8])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_compute_the_same(dialect, activations):
    if dialect == "tensorrt" and activations is np.int8:
        model = quantized_model(zeros=SYMMETRIC)
    elif dialect == "tensorrt":
        with pytest.raises(EdgeccError, match="cannot say 4 things"):
            written(quantized_model(activations), dialect)
        return
    else:
        model = quantized_model(activations)
    found, report = written(model, dialect)
    assert report["dialect"] == dialect and found.opset_import[0].version <= DIALECTS[dialect].newest_opset
    for seed in range(3):
        inputs = {"x": np.random.default_rng(seed).normal(0, 1.5, (1, 3, 8, 8)).astype(np.float32)}
        (want,), (got,) = run(model, inputs), run(found, inputs)
        assert len(np.unique(want)) > 2
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("activations", [np.int16, np.uint16])
@pytest.mark.parametrize(("dialect", "kind"), [("ort", None), ("openvino", None), ("qnn", np.uint16), ("tensorrt", None)])
def test_16_bits_are_quantized_by_nodes_too(dialect, kind, activations):
    model = quantized_model(activations)
    if dialect == "tensorrt":
        with pytest.raises(EdgeccError, match="where it must be 0 of int8"):
            written(model, dialect)
        return
    found, report = written(model, dialect)
    arrays = stored(found)
    kinds = {arrays[node.input[2]].dtype for node in found.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    assert kinds == {np.dtype(kind or activations), np.dtype(np.int8), np.dtype(np.int32)}
    assert "Round" not in report["nodes"] and report["opset"] == 21
    assert dialect != "qnn" or report["in floats"] == []
    inputs = {"x": np.random.default_rng(0).normal(0, 1.5, (1, 3, 8, 8)).astype(np.float32)}
    np.testing.assert_array_equal(run(found, inputs)[0], run(model, inputs)[0])


@pytest.mark.parametrize(("dialect", "kind"), [("rknn", np.int8), ("qnn", np.uint8)])
@pytest.mark.parametrize("activations", [np.int8, np.uint8])
def test_types(dialect, kind, activations):
    model, _ = written(quantized_model(activations, weights_zero=128 if activations is np.uint8 else 0), dialect)
    arrays = stored(model)
    assert {arrays[node.input[2]].dtype for node in model.graph.node if node.op_type == "QuantizeLinear"} == (
        {np.dtype(kind), np.dtype(np.uint16)} if dialect == "qnn" else {np.dtype(kind)})
    weights = [arrays[node.input[0]] for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in arrays]
    assert {w.dtype for w in weights} == ({np.dtype(np.int8)} if dialect == "rknn" else {np.dtype(np.int8), np.dtype(np.int32)})
    biases = [node.input[2] for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert all((name in arrays and arrays[name].dtype == np.float32) == (dialect == "rknn") for name in biases)


def test_qnn_quantizes_around_every_operator():
    model, report = written(quantized_model(), "qnn")
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    readers = {name: [n.op_type for n in model.graph.node if name in n.input] for name in made}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            assert all(made[name] == "DequantizeLinear" for name in node.input if name in made), node.name
            assert readers[node.output[0]] == ["QuantizeLinear"], node.name
    assert report["in floats"] == []
    plain, _ = written(quantized_model(), "ort")
    count = [sum(n.op_type == "QuantizeLinear" for n in m.graph.node) for m in (plain, model)]
    assert count == [4, 9]  # behind conv, pool, reshape and gemm as well, and twice behind softmax


def test_qnn_quantizes_softmax_to_16_bits_first():
    net = Quantized(0)
    model = net.model(net.quantize(net.node("Softmax", net.quantize("x", 0.1, 3)), 1 / 256, -128), (5, 40))
    found, _ = written(model, "qnn")
    arrays = stored(found)
    assert [arrays[node.input[2]].dtype.name for node in found.graph.node if node.op_type == "QuantizeLinear"] == ["uint8", "uint16", "uint8"]
    inputs = {"x": np.random.default_rng(1).normal(0, 4, (5, 40)).astype(np.float32)}
    (want,), (got,) = run(model, inputs), run(found, inputs)
    assert len(np.unique(want)) > 20 and np.abs(got - want).max() <= 1 / 256 and (got != want).mean() < 0.02


@pytest.mark.parametrize(("dialect", "codes", "kind"), [("qnn", np.int8, np.uint8), ("rknn", np.uint8, np.int8)])
def test_constant_operands_have_the_type_of_activations(dialect, codes, kind):
    net = Quantized(0, codes)
    offset = 128 if codes is np.uint8 else 0
    scale = net.store(np.float32(0.02))
    other = net.node("DequantizeLinear", net.store(np.arange(40).astype(codes)), scale, net.store(codes(3 + offset)))
    model = net.model(net.quantize(net.node("Add", net.quantize("x", 0.02, 5 + offset), other), 0.03, offset - 7), (5, 40))
    found, _ = written(model, dialect)
    assert {array.dtype for array in stored(found).values() if array.dtype != np.float32} == {np.dtype(kind)}
    inputs = {"x": np.random.default_rng(1).normal(0, 1, (5, 40)).astype(np.float32)}
    np.testing.assert_array_equal(run(found, inputs)[0], run(model, inputs)[0])


def test_what_stays_in_floats_is_said():
    model = quantized_model()
    del model.graph.node[-2:]
    model.graph.output[0].name = "last"
    _, report = written(model, "qnn")
    assert report["in floats"] == ["node_last"]


@pytest.mark.parametrize(("options", "dialect", "words"), [
    ({}, "tensorrt", ["node_xd_q: zero point -3", "node_rd_q: zero point -128", "node_gd_q: zero point 5"]),
    ({"weights_zero": 7}, "rknn", ["node_c_wd: weights with zero points", "node_g_wd"]),
])
def test_what_a_dialect_cannot_say_is_named_at_once(options, dialect, words):
    with pytest.raises(EdgeccError) as caught:
        written(quantized_model(**options), dialect)
    assert caught.value.code == "E114" and all(word in str(caught.value) for word in words)
    assert "edgecc quantize --symmetric" in caught.value.hint


def test_opsets():
    with pytest.raises(EdgeccError, match="up to 19, not 22"):
        written(quantized_model(), "rknn", opset=22)
    assert written(quantized_model(), "rknn", opset=17)[0].opset_import[0].version == 17
    assert {name: written(quantized_model(np.int8, SYMMETRIC), name)[1]["opset"] for name in DIALECTS} == {
        "ort": 20, "rknn": 19, "qnn": 21, "tensorrt": 20, "openvino": 20}
    with pytest.raises(EdgeccError, match="not one of"):
        create_backend("onnx{dialect=cobol}")


def test_the_command_line(cli, tmp_path):
    onnx.save(quantized_model(), tmp_path / "net.onnx")
    table = cli("compile", tmp_path / "net.onnx", "--emit", "onnx", "--dialect", "rknn", "-o", tmp_path / "out", "--json").json()
    assert table["report"]["dialect"] == "rknn" and table["files"] == ["net.onnx"]
    outcome = cli("verify", tmp_path / "net.onnx", "--dialect", "qnn")
    assert outcome.status == 0, outcome
    for arguments in (("--emit", "c", "--dialect", "qnn"), ("--backend", "c", "--dialect", "qnn")):
        outcome = cli("compile", tmp_path / "net.onnx", *arguments, "-o", tmp_path / "out")
        assert outcome.status == 2 and "--dialect is for --emit onnx" in outcome.err
    assert cli("compile", tmp_path / "net.onnx", "--emit", "onnx", "--dialect", "cobol").status == 2


def test_groups_with_scales_of_their_own_are_joined_for_rknn():
    net = Quantized(1)
    x = net.quantize("x", 0.05, 3)
    one, (w, s) = net.weights(6, 2, 3, 3, axis=None)[0], net.weights(6, 2, 3, 3)
    y = net.quantize(net.node("Conv", x, one, group=2), 0.3, -5)
    model = net.model(net.node("Concat", y, net.quantize(net.node("Conv", x, w, net.bias(6, s, 0.05), group=2), 0.3, -5), axis=1), (1, 4, 9, 10))
    made, _ = written(model, "rknn")
    groups = [{each.name: each.i for each in node.attribute}.get("group", 1) for node in made.graph.node if node.op_type == "Conv"]
    assert groups == [2, 1]
    feed = {"x": np.random.default_rng(0).normal(0, 2, (1, 4, 9, 10)).astype(np.float32)}
    np.testing.assert_array_equal(run(made, feed), run(model, feed))


def test_products_with_error_functions_have_those_first_for_rknn():
    net = Quantized(1)
    x = net.quantize("x", 0.05, 3)
    gate = net.quantize(net.node("Add", net.quantize(net.node("Erf", x), 1 / 128, 0), net.store(np.float32(1))), 1 / 128, -128)
    model = net.model(net.quantize(net.node("Mul", x, gate), 0.1, -5), (1, 4, 9, 10))
    made, _ = written(model, "rknn")
    (product,) = (node for node in made.graph.node if node.op_type == "Mul")
    producers = {name: node for node in made.graph.node for name in node.output}
    assert producers[producers[product.input[0]].input[0]].input[0] in next(node.output for node in made.graph.node if node.op_type == "Add")
    feed = {"x": np.random.default_rng(0).normal(0, 2, (1, 4, 9, 10)).astype(np.float32)}
    np.testing.assert_array_equal(run(made, feed), run(model, feed))


def test_onnxruntime_optimizes_products_of_rank_3_with_biases():
    net = Quantized(0)
    x = net.quantize(net.node("Transpose", net.quantize("x", 0.02, 3), perm=[0, 2, 1]), 0.02, 3)
    w, _ = net.weights(6, 5, axis=1)
    model = net.model(net.quantize(net.node("Add", net.node("MatMul", x, w), net.store(np.ones(5, np.float32))), 0.1, -7), (1, 6, 4))
    found, _ = written(model, "ort")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    inputs = {"x": np.random.default_rng(0).normal(0, 1, (1, 6, 4)).astype(np.float32)}
    got = onnxruntime.InferenceSession(found.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, inputs)
    assert np.abs(got[0] - run(found, inputs)[0]).max() < 0.11  # a step, where products saturate none


@pytest.mark.parametrize("dialect", ["ort", "rknn", "qnn", "openvino"])
def test_a_real_network(dialect):
    model = onnx.load(asset("models", "kws_dscnn_int8_qdq.onnx"))
    found, report = written(model, dialect)
    dims = [d.dim_value or 1 for d in model.graph.input[0].type.tensor_type.shape.dim]
    inputs = {model.graph.input[0].name: np.random.default_rng(0).standard_normal(dims).astype(np.float32)}
    np.testing.assert_array_equal(run(found, inputs)[0], run(model, inputs)[0])
    assert report["in floats"] == []
