"""Command streams of Ethos-U55 and U65, executed: the bytes are those of LiteRT's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc import api
from edgecc.backends.discovery import create_backend
from edgecc.targets.schema import load_target
from tests.support import assets

pytest.importorskip("ai_edge_litert")
pytest.importorskip("ethosu")

from tests.support.ethosu import scaling
from tests.support.ethosu.compiler import compile_network, reference
from tests.support.ethosu.layers import LAYERS, Bundle
from tests.support.ethosu.machine import simulate
from tests.support.ethosu.network import read_network
from tests.support.ethosu.stream import decode
from tests.support.quantized_models import Quantized

ACCELERATORS = ("ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256", "ethos-u65-256", "ethos-u65-512")
ONLY_INT8 = ("logistic", "tanh", "hard_swish", "batch_matmul")
"""What takes no int16, or is a function of the hardware there."""
ROUNDED_ONCE = ("fully_connected",)
"""What LiteRT rounds once, other than the accelerator and than its own convolutions: a step of difference now and then."""


def layers(seed: int, kind: str, names: tuple[str, ...]) -> Bundle:
    bundle = Bundle(np.random.default_rng(seed), kind)
    for name in names:
        LAYERS[name](bundle)
    return bundle


def check(bundle: Bundle, names: tuple[str, ...], accelerator: str, *options: str) -> None:
    model, inputs = bundle.finish(), bundle.feed()
    results = simulate(compile_network(model, accelerator, *options), inputs)
    wanted = reference(model, inputs)
    steps = {name: np.abs(got.astype(int) - want).max() for name, got, want in zip(names, results, wanted, strict=True)}
    assert {name: most for name, most in steps.items() if most > (name in ROUNDED_ONCE)} == {}


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_layers_of_int8_are_those_of_the_reference_kernels(accelerator):
    seed = 100 + ACCELERATORS.index(accelerator)
    check(layers(seed, "INT8", tuple(LAYERS)), tuple(LAYERS), accelerator)


def test_layers_of_int16_are_those_of_the_reference_kernels():
    names = tuple(name for name in LAYERS if name not in ONLY_INT8)
    for half in (names[::2], names[1::2]):
        check(layers(3, "INT16", half), half, "ethos-u55-128")


def chain(bundle: Bundle) -> None:
    """Layers that each need a few rows of the one before."""
    x = bundle.input(1, 48, 40, 3)
    for channels, size, stride in ((32, 3, 1), (0, 3, 1), (40, 1, 1), (0, 5, 2), (24, 3, 1)):
        _, rows, columns, depth = bundle.writer.tensors[x].shape
        deep = channels == 0
        shape = (1, size, size, depth) if deep else (channels, size, size, depth)
        weights, bias, result = bundle.weights(shape, 3 if deep else 0, x)
        made = bundle.writer.tensor("value", (1, -(-rows // stride), -(-columns // stride), depth if deep else channels), "INT8", result)
        more = {"depthMultiplier": 1} if deep else {}
        bundle.writer.operator("DEPTHWISE_CONV_2D" if deep else "CONV_2D", [x, weights, bias], [made],
                               "DepthwiseConv2DOptions" if deep else "Conv2DOptions", 3, padding=bundle.writer.value("Padding", "SAME"),
                               strideH=stride, strideW=stride, dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=0, **more)
        x = made
    bundle.outputs.append(x)


@pytest.mark.parametrize("options", [(), ("--optimise", "Size")])
def test_cascades_pass_rows_through_rolling_buffers(options):
    bundle = Bundle(np.random.default_rng(3))
    chain(bundle)
    model, (x,) = bundle.finish(), bundle.feed()
    compiled = compile_network(model, "ethos-u55-128", *options)
    _, operations = decode(read_network(compiled).stream)
    assert any(operation.kind != "DMA_START" and operation["IFM_BASE2"] for operation in operations) == bool(options)
    (got,), (want,) = simulate(compiled, [x]), reference(model, [x])
    np.testing.assert_array_equal(got, want)
    assert np.unique(want).size > 20


def test_the_keyword_spotter_runs_on_the_accelerators_bit_by_bit():
    path = assets.asset("models", "kws_dscnn_int8_qdq.onnx")
    backend = create_backend("ethosu")
    artifact = api.finish(api.export_model(path, load_target("ethos-u55-128"), api.Options(), backend, "ethosu"), "ethosu")
    report = artifact.manifest.report
    assert report["cpu_operators"] == {} and report["npu_multiply_adds"] >= 0.99 * report["model_multiply_adds"]
    integers = artifact.files[f"{artifact.manifest.name}_int8.tflite"]
    for compiled in (artifact.files[artifact.manifest.main], compile_network(integers, "ethos-u65-256")):
        x = np.random.default_rng(0).integers(-128, 128, read_network(compiled).inputs[0].shape).astype(np.int8)
        (got,), (want,) = simulate(compiled, [x]), reference(integers, [x])
        np.testing.assert_array_equal(got, want)


def test_rounding():
    values = np.array([-5, -3, -1, 0, 1, 3, 5])
    assert scaling.shifted(values, 1, scaling.NATURAL).tolist() == [-2, -1, 0, 0, 1, 2, 3]
    assert scaling.shifted(values, 1, scaling.TRUNCATE).tolist() == [-2, -1, 0, 0, 0, 1, 2]
    # Past 31 bits TFLite rounds a second time, half away from zero.
    assert scaling.scaled(values, 1 << 31, 32, scaling.DOUBLE).tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert scaling.scaled(values, 1 << 31, 32, scaling.SINGLE).tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert scaling.shifted(np.array([0x7FFFFFFF]), 32, scaling.DOUBLE).tolist() == [1]
    assert scaling.shifted(np.array([0x7FFFFFFF]), 32, scaling.SINGLE).tolist() == [0]
    assert scaling.shifted(np.array([0x7FFFFFFF]), 32, scaling.NATURAL).tolist() == [0]


def test_sums_of_one_scale_and_twice_it_round_ties_away_from_zero():
    net = Quantized(1)
    x = net.quantize("x", 0.05, 3)
    model = net.model(net.quantize(net.node("Add", x, net.quantize(net.node("Transpose", x, perm=[0, 1, 3, 2]), 0.05, 3)), 0.1, -12), (1, 4, 9, 9))
    artifact = api.export_model(model, load_target("ethos-u55-128"), api.Options(), create_backend("ethosu"), "ethosu").artifact
    x = np.random.default_rng(0).integers(-128, 128, (1, 9, 9, 4)).astype(np.int8)
    (got,) = simulate(artifact.files[artifact.manifest.main], [x])
    (want,) = reference(artifact.files[f"{artifact.manifest.name}_int8.tflite"], [x])
    np.testing.assert_array_equal(got, want)
    total = x.astype(int) + x.transpose(0, 2, 1, 3) - 6
    assert np.count_nonzero((total < 0) & (total % 2 == 1)) > 20
