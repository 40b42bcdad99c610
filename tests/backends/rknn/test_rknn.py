"""RKNN: the driver with a stand-in for the toolkit, and the toolkit itself where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc import api
from edgecc.backends.discovery import create_backend
from edgecc.backends.rknn.backend import PLATFORMS, RKNN
from edgecc.backends.rknn.figures import read_figures
from edgecc.errors import EXIT_TOOL, EdgeccError
from edgecc.frontend import import_model
from edgecc.ir.extract import extract
from edgecc.targets.schema import list_targets, load_target
from tests.support.fake_tools import fake_environment
from tests.support.quantized_models import Quantized, small_network

X = np.random.default_rng(0).uniform(-2.5, 2.5, (1, 3, 17, 20)).astype(np.float32)


def symmetric_network(codes):
    """Zero points of 0 (of int8), weights that use their range."""
    middle = 128 if codes is np.uint8 else 0
    net = Quantized(1, codes)
    w, s = net.weights(16, 3, 3, 3)
    a = net.quantize(net.node("Conv", net.quantize("x", 0.02, middle), w, net.bias(16, s, 0.02)), 0.3, middle)
    w, s = net.weights(16, 1, 3, 3)
    b = net.quantize(net.node("Conv", a, w, net.bias(16, s, 0.3), group=16), 0.9, middle)
    w, s = net.weights(32, 16, 1, 1)
    c = net.quantize(net.node("Conv", b, w, net.bias(32, s, 0.9)), 2.5, middle)
    return net.model(net.quantize(net.node("GlobalAveragePool", c), 0.5, middle), (1, 3, 17, 20))


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGECC_RKNN", str(fake_environment(tmp_path / "fake")))


def written(backend="rknn", target="rk3588-npu", model=None):
    made = create_backend(backend)
    return made, api.export_model(model or small_network(0, np.uint8), load_target(target), api.Options(), made, "rknn").artifact


@pytest.mark.usefixtures("fake")
class TestDriver:
    def test_the_report_has_cycles_and_memory(self):
        _, artifact = written()
        report = artifact.manifest.report
        assert artifact.files[artifact.manifest.main] == b"RKNNrk3588"
        assert (report["cycles"], report["npu_cycles"], report["ddr_cycles"]) == (112903, 112896, 23540)
        assert (report["npu_layers"], report["cpu_operators"]) == (1, {"Reshape": 1})
        assert (artifact.arena_bytes, artifact.weights_bytes) == (12 * 1024, 3584)
        assert report["layers"][0]["name"] == "Conv:conv_16_n" and report["layers"][0]["traffic_bytes"] == 151 * 1024

    def test_layer_by_layer_nothing_differs(self):
        layers = api.verify(small_network(0, np.int8), target="rk3588-npu", backend="rknn", inputs={"x": X}).layers
        assert layers is not None and layers.layers > 8 and layers.steps <= 1 and layers.share < 0.001

    def test_sigmoid_is_no_output_of_what_is_traced(self):
        made, artifact = written()
        graph = import_model(small_network(0, np.uint8))
        traced = made.trace(graph, artifact, {"x": X}).integers
        read = [value.producer.operand(0).producer for value in traced]
        assert len(traced) > 8 and not any(node is not None and "sigmoid" in str(node.op) for node in read)

    def test_integers_at_the_border_are_converted_on_the_way(self):
        graph, target, made = import_model(small_network(0, np.int8)), load_target("rk3588-npu"), create_backend("rknn")
        (want,) = made.run(made.emit(graph, "whole", target, "rknn"), {"x": X}).values()
        # The network between its first integers and its last ones.
        first, last = graph.inputs[0].users[0], graph.outputs[0].producer
        inner, _ = extract([node for node in graph.nodes if node not in (first, last)], [last.operand(0)])
        artifact = made.emit(inner, "inner", target, "rknn")
        assert artifact.manifest.report["quantization"][inner.input_names[0]] == {"scale": pytest.approx(0.02), "zero_point": 3}
        codes = np.clip(np.rint(X / np.float32(0.02)) + 3, -128, 127).astype(np.int8)
        (got,) = made.run(artifact, {inner.input_names[0]: codes}).values()
        assert got.dtype == np.int8
        np.testing.assert_array_equal((got.astype(np.float32) + 128) / 256, want)

    def test_what_the_tool_says_is_passed_on(self):
        with pytest.raises(EdgeccError) as raised:
            written("rknn{platform=rv1103}")
        assert raised.value.code == "E401" and "this platform lacks an operator" in " ".join(raised.value.details)

    def test_a_crash_of_the_tool_is_called_one(self):
        with pytest.raises(EdgeccError) as raised:
            written("rknn{platform=rv1126b}")
        assert raised.value.code == "E401" and "crashed (signal 9)" in raised.value.message


def test_a_missing_tool_is_named_with_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.delenv("EDGECC_RKNN", raising=False)
    monkeypatch.setenv("EDGECC_TOOLS", str(tmp_path))
    with pytest.raises(EdgeccError) as raised:
        written()
    assert (raised.value.code, raised.value.exit_status, raised.value.hint) == ("E400", EXIT_TOOL, "edgecc install rknn")


def test_targets_and_options():
    for name in list_targets():
        target = load_target(name)
        if target.npu is not None and target.npu.backend.startswith("rknn"):
            assert create_backend(target.npu.backend).platform in PLATFORMS
    assert "no Rockchip NPU" in create_backend("rknn").accepts(load_target("generic-c"))
    for options in ("platform=rk1", "optimization=4"):
        with pytest.raises(EdgeccError) as raised:
            create_backend(f"rknn{{{options}}}")
        assert raised.value.code == "E009"


def test_another_version_of_the_tool_is_an_error():
    with pytest.raises(EdgeccError) as raised:
        read_figures("nothing that is known")
    assert raised.value.code == "E401"


@pytest.mark.skipif(not RKNN.found(), reason="RKNN-Toolkit2 is not installed: edgecc install rknn")
class TestToolkit:
    """Against the toolkit itself; a part of `make test-vendors`."""

    @pytest.mark.parametrize("platform", ["rk3588", "rk3566", "rv1106"])
    def test_a_quantized_network_runs_in_the_simulator(self, platform):
        made, artifact = written(f"rknn{{platform={platform}}}", model=small_network(0, np.int8))
        report = artifact.manifest.report
        assert artifact.files[artifact.manifest.main][:4] == b"RKNN" and report["cycles"] > 0 and report["memory_bytes"] > 0
        (got,) = made.run(artifact, {"x": X}).values()
        assert got.shape == (1, 10) and abs(float(got.sum()) - 1) < 0.1

    @pytest.mark.parametrize("codes", [np.int8, np.uint8])
    def test_layer_by_layer_the_simulator_computes_what_the_model_says(self, codes):
        # Values of zero point 0 and weights keep their scales.
        layers = api.verify(symmetric_network(codes), target="rk3588-npu", backend="rknn", inputs={"x": X}).layers
        assert layers is not None and layers.layers == 5 and layers.steps <= 1 and layers.share < 0.001

    def test_swish_is_compared_as_a_whole(self):
        layers = api.verify(small_network(0, np.int8), target="rk3588-npu", backend="rknn", inputs={"x": X}).layers
        assert layers is not None and layers.layers > 8 and layers.steps <= 1 and layers.share < 0.01

    def test_equal_calls_give_equal_bytes(self):
        assert written()[1].files == written()[1].files
