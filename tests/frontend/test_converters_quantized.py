"""Integer and quantized operators: against onnxruntime, and their bytes as C on three machines against the reference."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgecc.artifact.load import load
from edgecc.frontend import import_model
from edgecc.pipeline import compile_graph, emit_c
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target
from tests.support import onnxruntime_sessions
from tests.support.ccompile import distinct, require

RANDOM = np.random.default_rng(5)
S = np.float32


def of(dtype, *shape):
    info = np.iinfo(dtype)
    return RANDOM.integers(info.min, info.max + 1, shape).astype(dtype)


def positive(*shape):
    return (np.abs(RANDOM.standard_normal(shape)) / 50 + 0.001).astype(np.float32)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def _cases():
    """name -> (operator, operands, numbers of the operands that are inputs, attributes)."""
    cases = {}
    for dtype, zero in ((np.uint8, 128), (np.int8, -3)):
        z, nine, i8 = dtype(zero), dtype(9), np.int8
        window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        own = {
            "add": ("QLinearAdd", [of(dtype, 3, 5, 17), S(.02), z, of(dtype, 1, 5, 1), S(.03), dtype(7), S(.05), nine], (0, 3), {}),
            "mul": ("QLinearMul", [of(dtype, 3, 5, 17), S(.02), z, of(dtype, 5, 17), S(.03), dtype(7), S(.15), nine], (0, 3), {}),
            "concat": ("QLinearConcat", [S(.05), z, of(dtype, 3, 5), S(.02), nine, of(dtype, 3, 4), S(.05), z], (2, 5), {"axis": 1}),
            "global average": ("QLinearGlobalAveragePool", [of(dtype, 2, 13, 7, 9), S(.02), z, S(.01), nine], (0,), {}),
            "average": ("QLinearAveragePool", [of(dtype, 2, 13, 7, 9), S(.02), z, S(.015), nine], (0,), window),
            "average, padding counted": ("QLinearAveragePool", [of(dtype, 2, 13, 7, 9), S(.02), z, S(.015), nine], (0,),
                                         window | {"count_include_pad": 1}),
            "average, cut windows": ("QLinearAveragePool", [of(dtype, 1, 3, 8, 9), S(.02), z, S(.015), nine], (0,),
                                     {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}),
            "sigmoid": ("QLinearSigmoid", [of(dtype, 3, 50), S(.05), z, S(1 / 256), dtype(0)], (0,), {}),
            "leaky": ("QLinearLeakyRelu", [of(dtype, 3, 50), S(.05), z, S(.043), nine], (0,), {"alpha": 0.1}),
            "softmax": ("QLinearSoftmax", [of(dtype, 3, 50), S(.05), z, S(1 / 256), dtype(0)], (0,), {"axis": -1, "opset": 13}),
            "convolution": ("QLinearConv", [of(dtype, 2, 8, 9, 11), S(.02), z, of(i8, 13, 8, 3, 3), positive(13), np.zeros(13, i8), S(.3), nine,
                                            RANDOM.integers(-5000, 5000, 13).astype(np.int32)], (0,), {"pads": [1, 1, 1, 1]}),
            "depthwise": ("QLinearConv", [of(dtype, 1, 16, 19, 11), S(.02), z, of(i8, 16, 1, 3, 3), S(.01), i8(0), S(.05), nine], (0,),
                          {"group": 16, "pads": [1, 1, 1, 1], "strides": [2, 1]}),
            "product": ("QLinearMatMul", [of(dtype, 7, 33), S(.02), z, of(i8, 33, 19), S(.01), i8(0), S(.3), nine], (0,), {}),
            "product of activations": ("QLinearMatMul", [of(dtype, 2, 7, 33), S(.02), z, of(dtype, 2, 33, 19), S(.01), z, S(.3), nine],
                                       (0, 3), {}),
            "integer product": ("MatMulInteger", [of(dtype, 7, 33), of(dtype, 33, 19), z, z], (0,), {}),
            "float product": ("MatMulIntegerToFloat", [of(dtype, 7, 33), of(i8, 33, 19), S(.02), positive(19), z, np.zeros(19, i8),
                                                       normal(19)], (0,), {}),
        }
        cases |= {f"{name} of {np.dtype(dtype)}": case for name, case in own.items()}
    cases["pointwise, unsigned weights"] = ("QLinearConv", [of(np.uint8, 1, 16, 9, 11), S(.02), np.uint8(5), of(np.uint8, 24, 16, 1, 1),
                                                            S(.01), np.uint8(120), S(.3), np.uint8(4)], (0,), {})
    cases["integer convolution"] = ("ConvInteger", [of(np.uint8, 1, 4, 9, 9), of(np.uint8, 5, 4, 3, 3), np.uint8(99), np.uint8(3)], (0,),
                                    {"pads": [1, 1, 1, 1]})
    cases["integer convolution, all computed"] = ("ConvInteger", [of(np.uint8, 1, 4, 9, 9), of(np.uint8, 5, 4, 3, 3), np.uint8(99)],
                                                  (0, 1, 2), {"pads": [1, 0, 1, 0]})
    cases["dynamic product"] = ("DynamicQuantizeMatMul", [normal(7, 33), of(np.int8, 33, 19), positive(19), np.zeros(19, np.int8),
                                                          normal(19)], (0,), {})
    return cases


CASES = _cases()
STANDARD = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


def model_of(names):
    """One model with the nodes of all cases called `names`, and its inputs."""
    nodes, inputs, outputs, constants, feeds = [], [], [], [], {}
    for number, name in enumerate(names):
        op, operands, given, attributes = CASES[name]
        operand_names = [f"x{number}_{index}" for index in range(len(operands))]
        nodes.append(helper.make_node(op, operand_names, [f"y{number}"], domain="" if op in STANDARD else "com.microsoft", **attributes))
        outputs.append(onnx.ValueInfoProto(name=f"y{number}"))
        for index, (own, array) in enumerate(zip(operand_names, map(np.asarray, operands), strict=True)):
            if index in given:
                inputs.append(helper.make_tensor_value_info(own, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
                feeds[own] = array
            else:
                constants.append(numpy_helper.from_array(array, own))
    graph = helper.make_graph(nodes, "quantized", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)], ir_version=8), feeds


@pytest.mark.parametrize("name", CASES)
def test_results_are_those_of_onnxruntime(name):
    pytest.importorskip("onnxruntime")
    model, feeds = model_of([name])
    (expected,) = onnxruntime_sessions.run(model, feeds)
    (got,) = execute(import_model(model), feeds).values()
    assert got.dtype == expected.dtype and got.shape == expected.shape
    if got.dtype == np.float32:
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-3)
        return
    steps = np.abs(got.astype(np.int64) - expected.astype(np.int64))
    # onnxruntime rounds scales and intermediate results to f32: a step at a tie, here and there.
    assert steps.max() <= (0 if got.dtype == np.int32 else 1) and np.count_nonzero(steps) <= 0.03 * steps.size


@pytest.mark.parametrize("machine", distinct("generic-c", "host", "x86-64-v3", "cortex-a76"))
def test_integers_have_the_same_bytes_everywhere(machine):
    target = load_target(machine)
    require(target)
    if machine != "cortex-a76":
        target = dataclasses.replace(target, toolchain=dataclasses.replace(target.toolchain, gcc_triple="", zig_target=""))
    model, feeds = model_of(list(CASES))
    graph = import_model(model)
    expected = execute(graph, feeds)
    compiled = compile_graph(graph, target, name="quantized", verify_each=feeds if machine == "host" else None)
    with load(emit_c(compiled), isolated=machine == "host") as built:
        got = built.run(feeds)
    for name, (key, want) in zip(CASES, expected.items(), strict=True):
        if want.dtype == np.float32:
            np.testing.assert_allclose(got[key], want, rtol=1e-5, atol=1e-4, err_msg=name)
        else:
            np.testing.assert_array_equal(got[key], want, err_msg=name)


def test_a_requantized_convolution_is_one_kernel():
    model, _ = model_of(["convolution of uint8"])
    compiled = compile_graph(import_model(model), load_target("generic-c"), name="one")
    assert [call.op for call in compiled.lowered.calls] == ["conv"]
    (weights,) = [c for c in compiled.module.constants if c.data.dtype == np.int8]
    assert weights.data.size >= 13 * 8 * 9


def block_case(bits, zero, rows, level=0, kind=np.float32):
    channels, depth, block = 19, 80, 32
    blocks = -(-depth // block)
    constants = {"w": of(np.uint8, channels, blocks, block * bits // 8), "s": positive(channels * blocks).astype(kind)}
    if zero:
        constants["z"] = of(np.uint8, channels * -(-blocks * bits // 8))
    node = helper.make_node("MatMulNBits", ["x", *constants], ["y"], domain="com.microsoft", K=depth, N=channels, bits=bits, block_size=block,
                            accuracy_level=level)
    return node, {"x": normal(rows, depth).astype(kind)}, constants


def gather_case(zero):
    columns, block, rows = 64, 16, 20
    constants = {"d": of(np.uint8, rows, columns // 2), "s": positive(rows, columns // block)}
    if zero:
        constants["z"] = of(np.uint8, rows, columns // block // 2)
    names = ["d", "i", *list(constants)[1:]]
    node = helper.make_node("GatherBlockQuantized", names, ["y"], domain="com.microsoft", block_size=block, bits=4, quantize_axis=1)
    return node, {"i": np.array([[3, 19, 0], [7, 7, 1]], np.int64)}, constants


@pytest.mark.parametrize("case", [block_case(4, False, 3), block_case(4, True, 1), block_case(8, True, 2), block_case(4, True, 3, level=4),
                                  block_case(4, True, 3, kind=np.float16), gather_case(False), gather_case(True)],
                         ids=["4 bits", "4 bits, zero points", "8 bits", "operand quantized", "halves", "rows", "rows, zero points"])
def test_weights_in_blocks(case):
    pytest.importorskip("onnxruntime")
    node, feeds, constants = case
    inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()]
    graph = helper.make_graph([node], "blocks", inputs, [onnx.ValueInfoProto(name="y")],
                              [numpy_helper.from_array(a, n) for n, a in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=8)
    (expected,) = onnxruntime_sessions.run(model, feeds)
    imported = import_model(model)
    precision = 1e-5 if expected.dtype == np.float32 else 3e-3
    np.testing.assert_allclose(execute(imported, feeds)["y"], expected, rtol=precision, atol=10 * precision)
    compiled = compile_graph(imported, load_target("generic-c"), name="blocks", verify_each=feeds)
    assert compiled.module.weights_bytes < 1.3 * sum(a.nbytes for a in constants.values()) + 2048


@pytest.mark.parametrize("x", [[0.0, 0.0], [0.0, 2.0], [-1.0, -1.0]])
def test_ranges_found_while_running(x):
    pytest.importorskip("onnxruntime")
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])]
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])]
    graph = helper.make_graph(nodes, "dynamic", inputs, [onnx.ValueInfoProto(name=name) for name in ("y", "scale", "zero")])
    model, feeds = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), {"x": np.array(x, np.float32)}
    for got, expected in zip(execute(import_model(model), feeds).values(), onnxruntime_sessions.run(model, feeds), strict=True):
        np.testing.assert_array_equal(got, expected, strict=True)
