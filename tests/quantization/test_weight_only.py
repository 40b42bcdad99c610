"""Weights of 4 and 8 bits: rounding with and without data, and the models that come out, as onnxruntime and the compiler read them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.ops.block_quantized import MatMulNBits
from edgecc.pipeline import default_graph_passes, run_passes
from edgecc.quantization.awq import awq_scales
from edgecc.quantization.blocks import BlockForm, output_error, round_to_nearest
from edgecc.quantization.driver import no_progress
from edgecc.quantization.gptq import gptq
from edgecc.quantization.gram import Gram, passes_over
from edgecc.quantization.weight_only import WeightScheme, packed, quantize_weights
from edgecc.reference.executor import execute
from tests.quantization.networks import network, samples
from tests.support.onnxruntime_sessions import run

pytestmark = pytest.mark.usefixtures("no_compiler")


def correlated(rows, terms, seed=0):
    """Operands whose terms depend on one another, and some of which are much larger."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((rows, terms // 4)) @ random.standard_normal((terms // 4, terms)) + 0.3 * random.standard_normal((rows, terms))
    return mixed * np.where(np.arange(terms) % 13 == 0, 12.0, 1.0)


def gram_of(rows):
    gram = Gram(rows.shape[1])
    gram.add(rows)
    return gram


def layers(seed=0):
    """matmul -> relu -> gemm, and a second product of the first operand."""
    random = np.random.default_rng(seed)
    constants = {"w1": (random.standard_normal((64, 48)) / 8).astype(np.float32), "w2": (random.standard_normal((24, 48)) / 7).astype(np.float32),
                 "b2": random.standard_normal(24).astype(np.float32), "w3": (random.standard_normal((64, 24)) / 8).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w1"], ["h"], "first"), helper.make_node("Relu", ["h"], ["r"], "act"),
             helper.make_node("Gemm", ["r", "w2", "b2"], ["g"], "second", transB=1), helper.make_node("MatMul", ["x", "w3"], ["s"], "side"),
             helper.make_node("Add", ["g", "s"], ["y"], "sum")]
    return network(nodes, {"x": [3, 64]}, {"y": [3, 24]}, constants)


@given(st.integers(1, 9), st.integers(1, 70), st.sampled_from([4, 8]), st.sampled_from([16, 32]), st.booleans(), st.integers(0, 99))
@settings(max_examples=30)
def test_the_nearest_code_is_within_half_a_step(channels, terms, bits, block, symmetric, seed):
    weights = np.random.default_rng(seed).standard_normal((channels, terms)) * np.exp(seed / 10 - 5)
    rounded = round_to_nearest(weights, BlockForm(bits, block, symmetric))
    steps = np.repeat(rounded.scales, block, axis=1)[:, :terms]
    assert (np.abs(rounded.real - weights) <= steps * (0.5 if symmetric else 1.0) * (1 + 1e-5)).all()
    assert rounded.codes.max(initial=0) < 1 << bits and (rounded.scales > 0).all()
    assert not symmetric or (rounded.zeros == 1 << (bits - 1)).all()


@pytest.mark.parametrize("block", [16, 64])
@pytest.mark.parametrize("symmetric", [False, True])
def test_data_makes_products_better(block, symmetric):
    every, form = correlated(500, 96), BlockForm(4, block, symmetric)
    rows, fresh = every[:400], every[400:]
    weights = np.random.default_rng(3).standard_normal((20, 96)).astype(np.float32)
    gram = gram_of(rows)
    nearest = output_error(weights, round_to_nearest(weights, form).real, gram.matrix)
    by_gptq = output_error(weights, gptq(weights, form, gram.matrix).real, gram.matrix)
    factors = awq_scales([weights], form, gram.matrix, gram.magnitude)
    by_awq = output_error(weights, round_to_nearest(weights * factors, form).real / factors, gram.matrix)
    assert by_gptq < 0.7 * nearest and by_awq < 0.9 * nearest
    unseen = [float(((fresh @ (w - weights).T) ** 2).mean()) for w in (gptq(weights, form, gram.matrix).real, round_to_nearest(weights, form).real)]
    assert unseen[0] < 0.9 * unseen[1]


def test_terms_that_never_occur_do_no_harm():
    rows = correlated(50, 32)
    rows[:, 5] = 0
    weights = np.random.default_rng(1).standard_normal((4, 32))
    rounded = gptq(weights, BlockForm(4, 16), gram_of(rows).matrix)
    assert np.isfinite(rounded.real).all() and (rounded.real[:, 5] == 0).all()
    alike = np.repeat(rows[:, :1], 32, axis=1)  # moments of rank 1
    assert np.isfinite(gptq(weights, BlockForm(4, 16), gram_of(alike).matrix).real).all()


def test_memory_is_bounded_by_looking_again():
    assert list(passes_over({"a": 10, "b": 10, "c": 30, "d": 10}, budget=1600)) == [("a", "b"), ("c",), ("d",)]


def test_halves_are_packed_low_first():
    np.testing.assert_array_equal(packed(np.array([[1, 2, 3]], np.uint8), 4), [[0x21, 0x03]])


@pytest.mark.parametrize("output", ["matmulnbits", "qdq"])
@pytest.mark.parametrize(("bits", "symmetric"), [(4, False), (4, True), (8, False)])
@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
def test_other_tools_read_the_model(output, bits, symmetric, method):
    net, data = layers(), samples(6, (3, 64))
    scheme = WeightScheme(BlockForm(bits, 16, symmetric), method, output)
    done = quantize_weights(net, scheme, data, no_progress)
    assert [(w.layer, w.terms, w.channels) for w in done.layers] == [("first", 64, 48), ("second", 48, 24), ("side", 64, 24)]
    assert all(w.ratio > (15 if bits == 4 else 35) and (method != "rtn" or w.ratio == w.nearest) for w in done.layers)
    if output == "qdq":
        onnx.checker.check_model(done.model, full_check=True)
    feeds = samples(1, (3, 64), seed=7)[0]
    expected, plain = run(done.model, feeds)[0], run(net.model, feeds)[0]
    assert np.abs(expected - plain).max() < (1.0 if bits == 4 else 0.1)
    graph = import_model(done.model)
    run_passes(graph, default_graph_passes())
    assert sum(isinstance(node.op, MatMulNBits) for node in graph.nodes) == 3
    np.testing.assert_allclose(execute(graph, feeds)["y"], expected, rtol=1e-4, atol=1e-4)


def test_operands_may_be_quantized():
    done = quantize_weights(layers(), WeightScheme(BlockForm(4, 16), quantize_operands=True), None, no_progress)
    graph = import_model(done.model)
    assert all(node.op.quantized for node in graph.nodes if isinstance(node.op, MatMulNBits))
    assert all(w.ratio is None for w in done.layers)


def test_what_is_excluded_or_too_small_stays():
    done = quantize_weights(layers(), WeightScheme(BlockForm(4, 64), exclude=frozenset({"side"})), None, no_progress)
    assert [w.layer for w in done.layers] == ["first"]
    assert {t.name for t in done.model.graph.initializer} >= {"w2", "w3"}
    assert not any(t.name == "w1" or t.data_type == TensorProto.DOUBLE for t in done.model.graph.initializer)


@pytest.mark.parametrize(("scheme", "message"), [
    (lambda: WeightScheme(method="best"), "method 'best'"), (lambda: WeightScheme(BlockForm(4, 33)), "block size 33"),
    (lambda: WeightScheme(output="gguf"), "output format"), (lambda: WeightScheme(output="qdq", quantize_operands=True), "only MatMulNBits"),
    (lambda: WeightScheme(method="gptq"), "needs data"), (lambda: WeightScheme(exclude=frozenset({"nobody"})), "no node 'nobody'"),
    (lambda: WeightScheme(BlockForm(4, 128)), "no matrix product")])
def test_what_cannot_be(scheme, message):
    with pytest.raises(EdgeccError, match=message) as caught:
        quantize_weights(layers(), scheme(), None, no_progress)
    assert caught.value.code == "E001"
