"""Ethos-U: what runs on the accelerator, what is said about it, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgecc import api
from edgecc.backends.discovery import create_backend
from edgecc.backends.ethosu.backend import ACCELERATORS
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.ir.types import DType
from edgecc.partition.run import PartitionedModel
from edgecc.reference.executor import execute
from edgecc.targets.schema import list_targets, load_target
from tests.support import onnxruntime_sessions
from tests.support.quantized_models import Quantized, product, small_network

pytest.importorskip("ai_edge_litert")
pytest.importorskip("ethosu")

from edgecc.partition.artifact import part_artifacts
from tests.support.ethosu.compiler import reference
from tests.support.ethosu.machine import simulate


def written(model, target="ethos-u55-128", backend="ethosu"):
    made = create_backend(backend)
    done = api.export_model(model, load_target(target), api.Options(), made, "ethosu")
    return made, api.finish(done, "ethosu")


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u65-256", "ethos-u85-256"])
def test_a_quantized_network_is_one_command_stream(target):
    model = small_network(0, np.int8)
    made, artifact = written(model, target)
    report = artifact.manifest.report
    assert report["accelerator"] == target and report["command_streams"] == 1 and report["cpu_operators"] == {}
    assert report["npu_multiply_adds"] > 0 and report["vela"]["cycles"] > 1000 and report["vela"]["sram_bytes"] == artifact.arena_bytes
    assert artifact.files[artifact.manifest.main][4:8] == b"TFL3"
    # What the back end says it computes is what the TFLite model before Vela computes.
    port = report["inputs"]["x"]
    x = np.random.default_rng(0).integers(-128, 128, (1, 17, 20, 3)).astype(np.int8)
    (want,) = reference(artifact.files[f"{artifact.manifest.name}_int8.tflite"], [x])
    given = (x.transpose(0, 3, 1, 2).astype(np.float32) - port["zero_point"]) * np.float32(port["scale"])
    (got,) = made.run(artifact, {"x": given}).values()
    np.testing.assert_array_equal(got, (want.astype(np.float32) + 128) / 256)


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u65-256"])
def test_movement_and_resizes_give_the_bytes_of_the_reference_kernels(target):
    net = Quantized(3)
    x = net.quantize("x", 0.05, 3)
    y = net.quantize(net.node("Gather", x, net.store(np.array([0, 3, 3, 15, 1, 2, 4, 5], np.int64)), axis=1), 0.05, 3)
    y = net.quantize(net.node("DepthToSpace", y, blocksize=2, mode="CRD"), 0.05, 3)
    y = net.quantize(net.node("Resize", y, "", net.store(np.array([1, 1, 2, 2], np.float32)), mode="linear"), 0.05, 3)
    y = net.quantize(net.node("Gather", y, net.store(np.array(5, np.int64)), axis=2), 0.05, 3)
    _, artifact = written(net.model(y, (1, 16, 9, 7)), target)
    assert artifact.manifest.report["cpu_operators"] == {} and artifact.manifest.report["command_streams"] == 1
    inputs = [np.random.default_rng(0).integers(-128, 128, (1, 9, 7, 16)).astype(np.int8)]
    (got,), (want,) = simulate(artifact.files[artifact.manifest.main], inputs), reference(artifact.files[f"{artifact.manifest.name}_int8.tflite"], inputs)
    np.testing.assert_array_equal(got, want)


def test_equal_calls_give_equal_bytes():
    model = small_network(1, np.uint8)
    assert written(model)[1].files == written(model)[1].files


def test_networks_of_floats_are_refused():
    net = Quantized(0)
    w = net.store(np.ones((4, 3, 3, 3), np.float32))
    with pytest.raises(EdgeccError) as raised:
        written(net.model(net.node("Conv", "x", w), (1, 3, 8, 8)))
    assert raised.value.code == "E115" and "floats" in str(raised.value)


def test_floats_in_the_middle_run_on_the_cpu():
    net = Quantized(3)
    x = net.quantize("x", 0.05, 0)
    w, s = net.weights(16, 4, 3, 3)
    y = net.quantize(net.node("Relu", net.node("Conv", x, w, net.bias(16, s, 0.05), pads=[1, 1, 1, 1])), 0.1, -128)
    z = net.quantize(net.node("Exp", net.node("Neg", y)), 1 / 256, -128)
    w, s = net.weights(8, 16, 3, 3)
    z = net.quantize(net.node("Conv", z, w, net.bias(8, s, 1 / 256), pads=[1, 1, 1, 1]), 0.05, 0)
    model = net.model(z, (1, 4, 32, 32))
    division = api.compile_for(model, load_target("ethos-u55-128"))
    plan = division.partitioned.plan
    assert 0 < plan.npu_share <= 1
    cpu = {placed.node.op.name for placed in plan.nodes if not placed.on_npu}
    npu = {placed.node.op.name for placed in plan.nodes if placed.on_npu}
    assert "conv" in npu and cpu == {"elementwise"}
    inner = [crossing for crossing in plan.crossings if crossing.source and crossing.readers]
    assert {crossing.value.type.dtype for crossing in inner} >= {DType.I8}, "what crosses inside of the network is of integers"
    feed = {"x": np.random.default_rng(0).uniform(-6, 6, (1, 4, 32, 32)).astype(np.float32)}
    pytest.importorskip("onnxruntime")
    (want,) = onnxruntime_sessions.run(model, feed)
    with PartitionedModel(division.partitioned.artifact, division.partitioned.npu, division.partitioned.cpu) as both:
        (got,) = both.run(feed).values()
    assert np.abs(np.rint((got - want) / 0.05)).max() <= 2 and np.ptp(want) > 1


def test_products_are_rounded_as_the_accelerator_rounds():
    _, artifact = written(product(0))
    assert artifact.manifest.report["operators"]["CONV_2D"] == 1 and "FULLY_CONNECTED" not in artifact.manifest.report["operators"]
    x = np.random.default_rng(0).integers(-128, 128, (40, 30)).astype(np.int8)
    (got,) = simulate(artifact.files[artifact.manifest.main], [x])
    (want,) = reference(artifact.files[f"{artifact.manifest.name}_int8.tflite"], [x])
    np.testing.assert_array_equal(got, want)
    assert np.unique(want).size > 30


def test_verify_compares_each_layer_on_the_integers_it_was_given():
    outcome = api.verify(small_network(0, np.uint8), "ethos-u55-128")
    assert outcome.ok and outcome.layers is not None and outcome.layers.layers > 10 and outcome.layers.steps == 1
    assert 0 < outcome.layers.share < 0.05 and outcome.layers.where


def test_a_part_with_nothing_to_do_goes_to_the_cpu():
    net = Quantized(4)
    w, s = net.weights(8, 4, 3, 3)
    y = net.node("Mish", net.node("Conv", net.quantize("x", 0.05, 0), w, net.bias(8, s, 0.05)))
    model = net.model(net.quantize(y, 0.1, 0), (1, 4, 64, 64))
    plan = api.compile_for(model, load_target("ethos-u55-128")).partitioned.plan
    assert not any(placed.on_npu for placed in plan.nodes) and all(placed.reason for placed in plan.nodes)


def test_what_vela_does_not_take_is_restated():
    net = Quantized(6)
    x = net.quantize("x", 0.05, -3)
    w, s = net.weights(4, 6, 5, 4, axis=1)
    y = net.quantize(net.node("ConvTranspose", x, w, net.bias(6, s, 0.05), strides=[3, 3]), 0.3, 5)
    numbers = (net.store(net.random.uniform(low, high, 6).astype(np.float32)) for low, high in ((-2, 2), (-1, 1), (-3, 3), (0.5, 4)))
    y = net.quantize(net.node("Relu", net.node("BatchNormalization", y, *numbers)), 0.2, -128)
    y = net.quantize(net.node("Mul", y, net.store(np.linspace(-1, 2, 25, dtype=np.float32))), 0.21, 4)
    y = net.quantize(net.node("MatMul", net.node("Transpose", y, perm=[0, 1, 3, 2]), y), 30.0, -9)
    _, artifact = written(net.model(y, (1, 4, 7, 8)))
    report = artifact.manifest.report
    assert report["cpu_operators"] == {} and "TRANSPOSE_CONV" not in report["operators"]
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL"} <= set(report["operators"])
    x = np.random.default_rng(1).integers(-128, 128, (1, 7, 8, 4)).astype(np.int8)
    (got,), (want,) = simulate(artifact.files[artifact.manifest.main], [x]), reference(artifact.files[f"{artifact.manifest.name}_int8.tflite"], [x])
    np.testing.assert_array_equal(got, want)
    assert np.unique(want).size > 50


@pytest.mark.parametrize(("dims", "channels", "kernel", "group", "attributes"), [
    ((3, 35, 33), 12, (11, 10), 1, {"strides": [4, 4], "pads": [2, 2, 2, 2]}), ((4, 22, 23), 8, (6, 5), 2, {"strides": [5, 2], "pads": [1, 2, 0, 1]}),
    ((1, 303), 6, (80,), 1, {"strides": [4], "pads": [38, 38]}), ((8, 66), 8, (4,), 1, {"strides": [4]})])
def test_windows_take_strides_that_the_accelerator_has_not(dims, channels, kernel, group, attributes):
    net = Quantized(5)
    w, s = net.weights(channels, dims[0] // group, *kernel)
    y = net.node("Conv", net.quantize("x", 0.05, 3), w, net.bias(channels, s, 0.05), group=group, **attributes)
    model = net.model(net.quantize(y, 0.5, -3), (1, *dims))
    made, artifact = written(model)
    assert artifact.manifest.report["cpu_operators"] == {} and artifact.manifest.report["command_streams"] == 1
    x = np.random.default_rng(1).integers(-128, 128, (1, *dims[1:], dims[0]) if len(dims) == 3 else (1, *dims)).astype(np.int8)
    (got,), (want,) = simulate(artifact.files[artifact.manifest.main], [x]), reference(artifact.files[f"{artifact.manifest.name}_int8.tflite"], [x])
    np.testing.assert_array_equal(got, want)
    assert np.unique(want).size > 30
    inputs = {"x": np.random.default_rng(2).normal(0, 2, (1, *dims)).astype(np.float32)}
    ((got,), (want,)) = (results.values() for results in (made.run(artifact, inputs), execute(import_model(model), inputs)))
    assert np.abs(got - want).max() <= 0.5 and np.count_nonzero(got != want) <= 0.005 * want.size


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u65-256"])
def test_positions_of_extrema_come_from_the_accelerator(target):
    net = Quantized(5)
    positions, y, given = [], "x", 0.05
    for channels in (4, 20):
        w, s = net.weights(20, channels, 3, 3)
        y = net.quantize(net.node("Conv", net.quantize(y, given, 3), w, net.bias(20, s, given), strides=[2, 2]), 0.5, -3)
        positions.append(net.node("ArgMax", y, axis=1, keepdims=0))
        given = 0.5
    model = net.model(positions[0], (1, 4, 40, 40))
    model.graph.output.append(helper.make_tensor_value_info(positions[1], TensorProto.INT64, None))
    division = api.compile_for(model, load_target(target))
    assert all(placed.on_npu for placed in division.partitioned.plan.nodes)
    ((_, artifact),) = part_artifacts(division.artifact)
    assert artifact.manifest.report["cpu_operators"] == {} and {port["type"] for port in artifact.manifest.report["outputs"].values()} == {"int32"}
    x = np.random.default_rng(1).integers(-128, 128, (1, 40, 40, 4)).astype(np.int8)
    results = zip(simulate(artifact.files[artifact.manifest.main], [x]), reference(artifact.files[f"{artifact.manifest.name}_int8.tflite"], [x]), strict=True)
    for got, want in results:
        np.testing.assert_array_equal(got, want)
        assert np.unique(want).size > 10
    outcome = api.verify_compilation(division, inputs=None, expected=None)
    assert outcome.ok and {port.type.dtype for port in division.artifact.manifest.outputs} == {DType.I64}


def test_what_vela_leaves_runs_on_the_cpu():
    net = Quantized(8)
    w, s = net.weights(16, 4, 3, 3)
    y = net.quantize(net.node("Conv", net.quantize("x", 0.05, 0), w, net.bias(16, s, 0.05), pads=[1, 1, 1, 1]), 0.1, 5)
    y = net.node("Resize", y, "", "", net.store(np.array([1, 16, 45, 45], np.int64)), mode="linear")
    w, s = net.weights(8, 16, 3, 3)
    y = net.quantize(net.node("Conv", net.quantize(y, 0.1, 5), w, net.bias(8, s, 0.1)), 0.9, 0)
    division = api.compile_for(net.model(y, (1, 4, 32, 32)), load_target("ethos-u55-128"))
    plan = division.partitioned.plan
    (resize,) = (placed for placed in plan.nodes if placed.node.op.name == "resize")
    assert not resize.on_npu and "Vela" in resize.reason and plan.npu_share == 1
    reports = [part.manifest.report for entry, part in part_artifacts(division.artifact) if entry["side"] == "npu"]
    assert len(reports) == 2 and all(report["cpu_operators"] == {} for report in reports)


def test_integers_cross_where_numbers_are_wanted_on_both_sides():
    net = Quantized(7)
    w, s = net.weights(16, 4, 3, 3)
    y = net.quantize(net.node("Conv", net.quantize("x", 0.05, 0), w, net.bias(16, s, 0.05), pads=[1, 1, 1, 1]), 0.1, 5)
    y = net.node("Reshape", y, net.store(np.array([1, 16, 32, 32], np.int64)))
    there = net.quantize(net.node("Transpose", y, perm=[0, 1, 3, 2]), 0.1, 5)
    here = net.quantize(net.node("Mish", there), 0.1, -100)
    y = net.quantize(net.node("Mul", there, here), 0.5, 0)
    w, s = net.weights(8, 16, 3, 3)
    model = net.model(net.quantize(net.node("Conv", y, w, net.bias(8, s, 0.5)), 2.0, 0), (1, 4, 32, 32))
    plan = api.compile_for(model, load_target("ethos-u55-128")).partitioned.plan
    assert plan.npu_share == 1 and {placed.on_npu for placed in plan.nodes} == {True, False}
    border = {"x", plan.crossings[-1].value.name}
    assert all(crossing.value.type.dtype is DType.I8 for crossing in plan.crossings if crossing.value.name not in border)


def test_functions_and_movement_at_the_end_run_on_the_accelerator():
    net = Quantized(5)
    x = net.quantize("x", 0.05, -3)
    y = net.quantize(net.node("LeakyRelu", x, alpha=0.2), 0.041, -60)
    y = net.quantize(net.node("HardSigmoid", y), 1 / 256, -128)
    y = net.quantize(net.node("Mul", y, net.quantize(net.node("Clip", x, net.store(np.float32(-1)), net.store(np.float32(2))), 0.02, 0)), 0.01, 3)
    w, s = net.weights(4, 6, 3, 3, axis=1)
    y = net.node("Relu", net.node("ConvTranspose", y, w, net.bias(6, s, 0.01), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]))
    y = net.node("Transpose", net.quantize(y, 0.1, -100), perm=[0, 2, 1, 3])
    _, artifact = written(net.model(y, (1, 4, 9, 10)))
    report = artifact.manifest.report
    assert report["cpu_operators"] == {} and {"LEAKY_RELU", "MINIMUM", "MAXIMUM", "TRANSPOSE_CONV"} <= set(report["operators"])
    x = np.random.default_rng(1).integers(-128, 128, (1, 9, 10, 4)).astype(np.int8)
    (got,), (want,) = simulate(artifact.files[artifact.manifest.main], [x]), reference(artifact.files[f"{artifact.manifest.name}_int8.tflite"], [x])
    np.testing.assert_array_equal(got, want)
    assert np.unique(want).size > 30


def test_every_target_names_an_accelerator():
    for name in list_targets():
        if name.startswith("ethos-u"):
            assert create_backend(load_target(name).npu.backend).accelerator == name
            assert name in ACCELERATORS
    assert create_backend("ethosu").accepts(load_target("generic-c")) is not None


@pytest.mark.parametrize("options", ["accelerator=ethos-u99-1", "optimise=Luck"])
def test_options_are_checked(options):
    with pytest.raises(EdgeccError) as raised:
        create_backend(f"ethosu{{{options}}}")
    assert raised.value.code == "E009"


def test_what_vela_says_is_passed_on():
    with pytest.raises(EdgeccError) as raised:
        written(small_network(0, np.int8), backend="ethosu{system=Nowhere}")
    assert raised.value.code == "E401" and "Nowhere" in " ".join(raised.value.details)
