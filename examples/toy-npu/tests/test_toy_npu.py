"""The back end under the kit of edgecc, and what is its own: the stream, the simulator, the pass."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from toy_npu import simulator
from toy_npu.commands import Add, Conv, Limit, Stream, bits_of, joined, number_of, split

import edgecc
from edgecc import EdgeccError
from edgecc.backends.discovery import create_backend
from edgecc.backends.op_table import op_table
from edgecc.backends.testing import BackendTests
from edgecc.partition.artifact import parts_table
from edgecc.pipeline import prepare_graph
from edgecc.targets.schema import load_target


class TestToyNpu(BackendTests):
    backend = "toy-npu"
    target = "toy-npu-board"
    least = 8


def artifact_of(name):
    (case,) = (case for case in op_table() if str(case) == name)
    target, backend = load_target("toy-npu-board"), create_backend("toy-npu")
    return backend.emit(prepare_graph(case.build(), target, backend).graph, "net", target, "tnpu")


def test_a_convolution_is_one_command():
    artifact = artifact_of("conv, 3x3 requantized, a scale for each channel, i8")
    stream = Stream.from_bytes(artifact.files["net.tnpu"])
    (command,) = stream.commands
    assert isinstance(command, Conv) and split(command.kernel, 2) == (3, 3) and command.channels == 8
    assert artifact.manifest.report == {"commands": {"conv": 1, "add": 0, "limit": 0}, "multiply-adds": 6 * 6 * 8 * 4 * 9}


def test_streams_are_read_back():
    stream = Stream(64, ((0, 16),), ((32, 16),), (Limit(0, 32, 16, -5, 9), Add(0, 32, 32, 16, 1, bits_of(0.5), -2, bits_of(0.25), 3, -128, 127)), b"abc")
    assert Stream.from_bytes(stream.to_bytes()) == stream
    for damaged in (b"", b"TNPU", stream.to_bytes()[:-1], b"XXXX" + stream.to_bytes()[4:]):
        with pytest.raises(ValueError):
            Stream.from_bytes(damaged)


def test_small_numbers_share_a_word():
    assert split(joined(3, 15, 0, 7), 4) == (3, 15, 0, 7)
    assert number_of(bits_of(0.1)) == np.float32(0.1)


def test_the_simulator_adds_and_limits():
    stream = Stream(48, ((0, 3), (16, 3)), ((32, 3),), (
        Add(0, 16, 32, 3, 1, bits_of(0.5), -2, bits_of(0.25), 3, -128, 127), Limit(32, 32, 3, 4, 100)), b"")
    (got,) = simulator.run(stream.to_bytes(), [np.array([1, 5, 127], np.int8), np.array([-2, 0, 127], np.int8)])
    # round(0) + 3 = 3 -> 4; round(2 + 0.5) + 3 = 5, half to even; round(63 + 32.25) + 3 = 98
    np.testing.assert_array_equal(got, [4, 5, 98])
    with pytest.raises(ValueError, match="4 bytes instead of 3"):
        simulator.run(stream.to_bytes(), [np.zeros(4, np.int8), np.zeros(3, np.int8)])


def test_memory_that_is_too_small():
    (case,) = (case for case in op_table() if str(case) == "conv, pointwise requantized, one scale, i8")
    target, backend = load_target("toy-npu-board"), create_backend("toy-npu{memory=256}")
    with pytest.raises(EdgeccError) as caught:
        backend.emit(prepare_graph(case.build(), target, backend).graph, "net", target, "tnpu")
    assert caught.value.code == "E113" and "256" in caught.value.message


def quantized_model():
    """Float input; convolution, Relu, a residual addition, quantized by powers of two, so that nothing is rounded at ties; Softmax."""
    generator = np.random.default_rng(0)
    constants, nodes = [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def quantized(x, name, scale, zero):
        parameters = [constant(f"{name}_scale", np.float32(scale)), constant(f"{name}_zero", np.int8(zero))]
        nodes.append(helper.make_node("QuantizeLinear", [x, *parameters], [f"{name}_q"], name=f"{name}_quantize"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *parameters], [name], name=f"{name}_dequantize"))
        return name

    def convolved(x, name, channels, size):
        weights = constant(f"{name}_w", generator.integers(-20, 20, (8, channels, size, size)).astype(np.int8))
        each = [constant(f"{name}_w_scale", np.full(8, 2.0**-7, np.float32)), constant(f"{name}_w_zero", np.zeros(8, np.int8))]
        nodes.append(helper.make_node("DequantizeLinear", [weights, *each], [f"{name}_weights"], axis=0))
        nodes.append(helper.make_node("Conv", [x, f"{name}_weights"], [name], name=name, pads=[size // 2] * 4))
        return name

    x = quantized("image", "x", 2.0**-5, -3)
    nodes.append(helper.make_node("Relu", [convolved(x, "first", 3, 3)], ["limited"], name="limit"))
    first = quantized("limited", "a", 2.0**-4, -128)
    second = quantized(convolved(first, "second", 8, 1), "b", 2.0**-3, 5)
    nodes.append(helper.make_node("Add", [first, second], ["sum"], name="residual"))
    nodes.append(helper.make_node("Softmax", [quantized("sum", "c", 2.0**-3, 0)], ["y"], name="softmax", axis=1))
    graph = helper.make_graph(nodes, "quantized", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 24, 24])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 24, 24])], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_network_is_shared_with_the_cpu(tmp_path):
    artifact = edgecc.compile(quantized_model(), "toy-npu-board", tmp_path / "out")
    report = artifact.manifest.report
    assert report["npu_share_of_multiply_adds"] == 1.0 and report["npu_nodes"] >= 3
    assert all(node["side"] == "npu" for node in report["nodes"] if node["op"] == "conv")
    assert all(crossing["type"].startswith("i8") and crossing["zero_point"] is not None for crossing in report["crossings"])
    assert any(crossing["scale"] == 2.0**-5 and crossing["zero_point"] == -3 for crossing in report["crossings"])
    (arena,) = (part["arena_bytes"] for part in parts_table(artifact)["parts"] if part["side"] == "npu")
    assert arena == 3 * 8 * 24 * 24  # the two terms of the sum and the sum; the image's memory is used again
    assert edgecc.verify(quantized_model(), "toy-npu-board").ok
