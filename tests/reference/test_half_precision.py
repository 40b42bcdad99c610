import numpy as np
import pytest

from edgecc.ir.graph import Graph
from edgecc.ir.scalar import Arg, Convert, apply, literal
from edgecc.ir.types import DType, TensorType
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.pipeline import default_graph_passes, run_passes
from edgecc.reference.compare import compare_outputs
from edgecc.reference.executor import execute
from edgecc.reference.half_precision import HalfPrecision, terms_of
from edgecc.reference.sensitivity import allow_for_precision

F16, F32 = DType.F16, DType.F32


def product(terms, *, epilogue=None, rows=64):
    """x [rows, terms] f32 times constant weights in f16, as a converted network has it."""
    generator = np.random.default_rng(terms)
    graph = Graph()
    x = graph.add_input(TensorType(F32, (rows, terms)), "x")
    w = graph.constant(generator.standard_normal((terms, 16)).astype(np.float16), "w")
    half = graph.add(Elementwise(Convert(Arg(0, F32), F16)), x)
    graph.set_outputs([graph.add(Elementwise(Convert(Arg(0, F16), F32)), graph.add(MatMul(epilogue=epilogue), half, w))], ["y"])
    return graph, {"x": generator.standard_normal((rows, terms)).astype(np.float32)}, w.constant


def summed_in_f16(x, w):
    """Products added one after the other, each sum rounded: fused multiply-adds in f16."""
    x, total = x.astype(np.float16).astype(np.float64), np.zeros((len(x), w.shape[1]), np.float16)
    for k in range(x.shape[1]):
        total = (total.astype(np.float64) + x[:, k, None] * w[k].astype(np.float64)).astype(np.float16)
    return total.astype(np.float32)


@pytest.mark.parametrize("terms", [32, 128, 512])
def test_errors_of_sums_are_as_large_as_those_of_sums_in_f16(terms):
    graph, inputs, w = product(terms)
    exact = inputs["x"].astype(np.float16).astype(np.float64) @ w.astype(np.float64)
    real = np.sqrt(np.mean((summed_in_f16(inputs["x"], w) - exact) ** 2))
    network = HalfPrecision(graph)
    simulated = np.sqrt(np.mean((network.run(inputs, 0)["y"] - exact) ** 2))
    assert 0.6 < simulated / real < 1.7
    stored = np.sqrt(np.mean((network.run(inputs, 0, longest=terms - 1)["y"] - exact) ** 2))
    assert stored < simulated
    assert np.array_equal(network.run(inputs, 3)["y"], network.run(inputs, 3)["y"])


def test_the_error_stands_before_the_epilogue_and_the_network_stays_as_it_is():
    relu = apply("max", Arg(0, F16), literal(0.0, F16))
    graph, inputs, _ = product(256, epilogue=relu)
    before = execute(graph, inputs)["y"]
    y = HalfPrecision(graph).run(inputs, 0)["y"]
    assert np.min(y) == 0.0 and np.mean(y == 0.0) == pytest.approx(0.5, abs=0.1)
    assert np.array_equal(execute(graph, inputs)["y"], before)


def test_sums_in_f32_have_no_errors_of_their_own():
    wide = Convert(Arg(0, F32), F16)
    assert list(HalfPrecision(product(64)[0]).terms.values()) == [64]
    assert HalfPrecision(product(64, epilogue=wide)[0]).terms == {}


def test_the_number_of_terms():
    graph = Graph()
    x = graph.add_input(TensorType(F16, (1, 8, 6, 6)), "x")
    conv = graph.add(Conv((1, 1), (0, 0, 0, 0), (1, 1), 2), x, graph.constant(np.zeros((4, 4, 3, 3), np.float16), "w"))
    assert terms_of(conv.producer, conv.producer.op) == 36


def test_an_output_is_allowed_what_the_precision_does_to_it_and_no_more():
    graph = Graph()
    value = graph.add_input(TensorType(F32, (8, 512)), "x")
    generator = np.random.default_rng(0)
    inputs = {"x": generator.standard_normal((8, 512)).astype(np.float32)}
    for layer in range(4):
        w = graph.constant((generator.standard_normal((512, 512)) / 22).astype(np.float32), f"w{layer}")
        value = graph.add(MatMul(epilogue=apply("max", Arg(0, F32), literal(0.0, F32))), value, w)
    graph.set_outputs([graph.add(MatMul(), value, graph.constant((generator.standard_normal((512, 2)) / 2000).astype(np.float32), "last"))], ["y"])
    converted = graph.copy()
    run_passes(converted, [p for p in default_graph_passes("fp16") if p.name == "convert-precision"])
    expected = execute(graph, inputs)
    right = HalfPrecision(converted).run(inputs, 99)
    errors = {"y": (right["y"] - expected["y"])}
    strict = 0.5 * float(np.max(np.abs(errors["y"]))) / float(np.max(np.abs(expected["y"])))

    def judged(results):
        compared = compare_outputs(results, expected, relative=strict)
        return allow_for_precision(graph, converted, "fp16", inputs, results, expected, compared)

    (one,), (allowance,) = judged(right)
    assert one.ok and allowance.granted and allowance.precision == "fp16"
    for wrong in (expected["y"] + 6 * errors["y"], np.zeros_like(expected["y"]), expected["y"] * np.float32(np.nan)):
        (one,), (allowance,) = judged({"y": wrong})
        assert not one.ok and not allowance.granted
