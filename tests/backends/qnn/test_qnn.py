"""QNN: the driver with a stand-in for the plugin, and the plugin itself where it is installed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgecc import api
from edgecc.backends.discovery import create_backend
from edgecc.backends.onnx.between import computes_between_integers, dequantizes, quantizes
from edgecc.backends.qnn.backend import ARCHITECTURES, QNN
from edgecc.errors import EXIT_TOOL, EdgeccError
from edgecc.frontend import import_model
from edgecc.partition.plan import plan_partition
from edgecc.pipeline import backend_passes, prepare_graph, run_passes
from edgecc.reference.layerwise import follow
from edgecc.targets.schema import list_targets, load_target
from tests.support.fake_tools import fake_environment
from tests.support.quantized_models import Quantized, small_network

X = np.random.default_rng(0).uniform(-2.5, 2.5, (1, 3, 17, 20)).astype(np.float32)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGECC_QNN", str(fake_environment(tmp_path / "fake")))


def written(target="hexagon-v73", backend="qnn"):
    made = create_backend(backend)
    return made, api.export_model(small_network(0, np.int8), load_target(target), api.Options(), made, "qnn").artifact


@pytest.mark.usefixtures("fake")
class TestDriver:
    def test_the_context_and_the_model_that_names_it(self):
        _, artifact = written("hexagon-v79")
        main = artifact.manifest.main
        assert artifact.files[main.replace(".onnx", "_qnn.bin")] == b"context of v79"
        assert artifact.manifest.report["context_bytes"] == artifact.weights_bytes == 14
        assert len(artifact.files) == 3 and artifact.manifest.report["arch"] == "v79"

    def test_layer_by_layer_nothing_differs(self):
        layers = api.verify(small_network(0, np.uint8), target="hexagon-v68", backend="qnn", inputs={"x": X}).layers
        assert layers is not None and layers.layers > 8 and layers.steps <= 1 and layers.share < 0.001

    def test_equal_scales_of_all_channels_are_stated_once(self):
        _, artifact = written()
        model = onnx.load_from_string(artifact.files[artifact.manifest.main.replace(".onnx", "_qdq.onnx")])
        stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        scales = [stored[node.input[1]] for node in model.graph.node if node.op_type == "DequantizeLinear"]
        assert any(scale.size == 16 for scale in scales)
        assert all(scale.shape == () or len(set(scale.tolist())) > 1 for scale in scales)

    def test_what_the_tool_says_is_passed_on(self):
        with pytest.raises(EdgeccError) as raised:
            written(backend="qnn{arch=69}")
        assert raised.value.code == "E401" and "this processor lacks an operator" in " ".join(raised.value.details)


    def test_a_network_of_which_the_cpu_runs_a_part_is_an_error(self):
        with pytest.raises(EdgeccError) as raised:
            written(backend="qnn{arch=75}")
        assert raised.value.code == "E401" and "left to the CPU: Exp" in " ".join(raised.value.details)


def test_a_missing_tool_is_named_with_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.delenv("EDGECC_QNN", raising=False)
    monkeypatch.setenv("EDGECC_TOOLS", str(tmp_path))
    with pytest.raises(EdgeccError) as raised:
        written()
    assert (raised.value.code, raised.value.exit_status, raised.value.hint) == ("E400", EXIT_TOOL, "edgecc install qnn")


def test_floats_in_the_middle_are_refused():
    net = Quantized(3)
    x = net.quantize("x", 0.05, 0)
    w, s = net.weights(4, 4, 3, 3)
    y = net.quantize(net.node("Relu", net.node("Conv", x, w, net.bias(4, s, 0.05))), 0.1, -128)
    z = net.node("MaxPool", y, kernel_shape=[2, 2])
    z = net.quantize(net.node("Exp", net.node("Neg", z)), 1 / 256, -128)
    graph = import_model(net.model(z, (1, 4, 9, 9)))
    alone = [node.loc[0] for node in graph.nodes if not computes_between_integers(node)]
    names = {node.loc[0]: node for node in graph.nodes}
    assert len(alone) == 2 and all(names[name].op.name == "elementwise" for name in alone)
    made = create_backend("qnn")
    assert made.supports(names[alone[0]], load_target("hexagon-v73")) == "is computed in floats, and the processor computes on integers"


def test_normalizations_of_layers_are_refused_by_name():
    net = Quantized(3)
    numbers = (net.store(net.random.uniform(0.5, 2, 10).astype(np.float32)) for _ in range(2))
    y = net.quantize(net.node("LayerNormalization", net.quantize("x", 0.05, 3), *numbers), 0.03, 5)
    (node,) = (node for node in import_model(net.model(y, (1, 9, 10))).nodes if node.op.name == "normalize")
    assert "normalizations" in create_backend("qnn").supports(node, load_target("hexagon-v73"))


def test_error_functions_are_refused_and_gelu_is_not():
    net = Quantized(3)
    y = net.quantize(net.node("Erf", net.quantize(net.node("Gelu", net.quantize("x", 0.05, 3)), 0.04, -100)), 1 / 127, 0)
    model = net.model(y, (1, 9, 10))
    model.opset_import[0].version = 20
    gelu, erf = (node for node in import_model(model).nodes if not quantizes(node) and not dequantizes(node))
    made, target = create_backend("qnn"), load_target("hexagon-v73")
    assert made.supports(gelu, target) is None and "error functions" in made.supports(erf, target)


def test_each_operator_has_what_dequantizes_for_it_in_its_part():
    net = Quantized(4, np.uint8)
    w, s = net.weights(32, 32, 3, 3)
    x = net.quantize(net.node("Conv", net.quantize("x", 0.05, 100), w, net.bias(32, s, 0.05), pads=[1, 1, 1, 1]), 0.3, 128)
    here = net.quantize(net.node("Exp", net.node("Neg", x)), 0.1, 0)
    w, s = net.weights(32, 32, 3, 3)
    y = net.quantize(net.node("Conv", net.quantize(net.node("Mul", x, here), 0.2, 128), w, net.bias(32, s, 0.2), pads=[1, 1, 1, 1]), 2.0, 128)
    made, target = create_backend("qnn"), load_target("hexagon-v73")
    graph = import_model(net.model(y, (1, 32, 40, 40)))
    run_passes(graph, backend_passes(made, target))
    plan = plan_partition(graph, target, target.npu, {node: reason for node in graph.nodes if (reason := made.supports(node, target))})
    parts = {placed.node: placed.part for placed in plan.nodes}
    (product,) = (node for node in graph.nodes if node.op.name == "elementwise" and len({value.producer for value in node.inputs} - {None}) == 2)
    assert {parts[value.producer] for value in product.inputs} == {parts[product]} == {3}


def test_targets_and_options():
    for name in list_targets():
        if name.startswith("hexagon"):
            assert create_backend(load_target(name).npu.backend).arch in ARCHITECTURES
    assert "no Hexagon processor" in create_backend("qnn").accepts(load_target("generic-c"))
    with pytest.raises(EdgeccError) as raised:
        create_backend("qnn{arch=7}")
    assert raised.value.code == "E009"


@pytest.mark.skipif(not QNN.found(), reason="onnxruntime's QNN plugin is not installed: edgecc install qnn")
class TestPlugin:
    """Against the plugin itself; a part of `make test-vendors`."""

    @pytest.mark.parametrize("target", ["hexagon-v68", "hexagon-v73", "hexagon-v79"])
    def test_a_quantized_network_runs_in_the_emulation(self, target):
        made, artifact = written(target)
        (got,) = made.run(artifact, {"x": X}).values()
        assert got.shape == (1, 10) and abs(float(got.sum()) - 1) < 0.1

    def test_equal_scales_of_a_bias_are_understood(self):
        made, target = create_backend("qnn"), load_target("hexagon-v73")
        graph = prepare_graph(import_model(small_network(0, np.int8)), target, made).graph
        artifact = made.emit(graph, "net", target, "qnn")
        _, layers = follow(graph, {"x": X}, made.trace(graph, artifact, {"x": X}).integers, {})
        assert layers.steps < 20, "a bias that is read as another one is off by a hundred steps"

    def test_inputs_at_ties_and_softmax_are_right_to_a_step(self):
        net = Quantized(5)
        x = net.quantize("x", 2 / 255, -1)
        w, s = net.weights(16, 8, 3, 3)
        y = net.quantize(net.node("Conv", x, w, net.bias(16, s, 2 / 255), strides=[2, 2]), 0.02, 0)
        model = net.model(net.quantize(net.node("Softmax", y, axis=3), 1 / 256, -128), (1, 8, 33, 61))
        values = (np.random.default_rng(2).integers(0, 256, (1, 8, 33, 61)).astype(np.float32) - 127.5) / np.float32(127.5)
        layers = api.verify(model, target="hexagon-v73", backend="qnn", inputs={"x": values}).layers
        assert layers is not None and layers.layers == 3 and layers.steps <= 1 and layers.share < 0.03

    def test_equal_calls_give_equal_bytes(self):
        assert written()[1].files == written()[1].files
