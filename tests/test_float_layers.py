"""Which quantized layers are computed in float, and why."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgecc.checking import check_model
from edgecc.cli import main
from edgecc.float_layers import NO_FORM, NOT_ROUNDED
from edgecc.targets.schema import load_target
from tests.support.quantized_models import Quantized, small_network

TARGET = load_target("generic-c")


def layers(net, output, shape=(1, 8, 6, 6)):
    return [(layer.op, layer.where, layer.why) for layer in check_model(net.model(output, shape), TARGET).float_layers]


def quantized_input(seed=0):
    net = Quantized(seed)
    return net, net.quantize("x", 0.02, 3)


def test_a_network_on_integers_throughout_has_none():
    assert check_model(small_network(0, np.int8), TARGET).float_layers == ()


def test_weights_and_operands_in_float():
    net = Quantized(0)
    w, _ = net.weights(4, 8, 3, 3)
    y = net.node("Conv", "x", w)
    assert layers(net, y) == [("conv", "node1", "operand 0 is in float")]
    net, x = quantized_input()
    y = net.node("Conv", x, net.store(np.ones((4, 8, 3, 3), np.float32)))
    assert layers(net, y) == [("conv", "node2", "operand 1 is in float")]


def test_scales_along_what_is_summed():
    net, x = quantized_input()
    w, _ = net.weights(4, 8, 3, 3, axis=1)
    assert layers(net, net.node("Conv", x, w)) == [("conv", "node3", "scales differ along an axis that is summed over")]


def test_transposed_convolutions():
    net, x = quantized_input()
    w, _ = net.weights(8, 4, 3, 3, axis=None)
    assert layers(net, net.node("ConvTranspose", x, w, dilations=[2, 2])) == [
        ("conv_transpose", "node3", "taps are dilated, or a size is open or nothing")]
    assert layers(net, net.node("ConvTranspose", x, w, strides=[2, 2])) == []


@pytest.mark.parametrize(("op", "attributes", "rounded", "why"), [
    ("Softmax", {}, False, NOT_ROUNDED), ("Softmax", {}, True, ""), ("LogSoftmax", {}, True, "logarithms are computed in float"),
    ("AveragePool", {"kernel_shape": [2, 2]}, True, ""), ("Relu", {}, True, ""), ("Relu", {}, False, NOT_ROUNDED),
    ("LpNormalization", {}, True, NO_FORM)])
def test_what_is_computed_on_integers_only_between_quantized_values(op, attributes, rounded, why):
    net, x = quantized_input()
    y = net.node(op, x, **attributes)
    found = layers(net, net.quantize(y, 0.01, 0) if rounded else y)
    assert [reason for _, _, reason in found][:1] == ([why] if why else [])


def test_check_tells_them_apart_with_what_they_take(tmp_path, capsys):
    net, x = quantized_input()
    w, _ = net.weights(4, 8, 3, 3, axis=1)
    path = tmp_path / "m.onnx"
    path.write_bytes(net.model(net.node("Conv", x, w), (1, 8, 6, 6)).SerializeToString())
    assert main(["check", str(path), "--target", "generic-c"]) == 0
    said = capsys.readouterr().out
    assert "1 quantized layer is computed in float" in said and "node3 f32[1,4,4,4]" in said and "one for each output channel" in said
    assert main(["check", str(path), "--target", "generic-c", "--json"]) == 0
    (layer,) = json.loads(capsys.readouterr().out)["float_layers"]
    assert (layer["float_bytes"], layer["quantized_bytes"]) == (4 * 8 * 9 * 4, 4 * 8 * 9)
