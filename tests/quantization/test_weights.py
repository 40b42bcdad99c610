"""Weights and biases as integers, and what improves on rounding to nearest."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgecc.quantization.correct import corrected
from edgecc.quantization.equalize import equalized
from edgecc.quantization.rounding import Moments, can_round, round_adaptively
from edgecc.quantization.weights import along, least_scales, round_bias, round_weights, weight_scales
from tests.quantization.networks import convolutions, network, samples
from tests.support.onnxruntime_sessions import run


@settings(max_examples=60)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=4), st.data(), st.booleans())
def test_weights_lie_half_a_step_away_at_most(dims, data, per_channel):
    axis = data.draw(st.integers(0, len(dims) - 1))
    weights = np.random.default_rng(data.draw(st.integers(0, 99))).standard_normal(dims).astype(np.float32)
    weights[tuple(slice(0, 1) if a == axis else slice(None) for a in range(len(dims)))] = 0  # a channel without weights
    scales = weight_scales(weights, axis, per_channel=per_channel)
    done = round_weights(weights, axis, scales)
    assert done.integers.dtype == np.int8 and np.abs(done.integers.astype(int)).max() <= 127 and scales.dtype == np.float32
    assert scales.shape == ((dims[axis],) if per_channel else ())
    assert (np.abs(done.real - weights) <= along(scales, axis, len(dims)) * 0.5001).all()


def test_biases_fit_because_scales_grow():
    weights, bias = np.full((2, 3), 1e-9, np.float32), np.array([5.0, 0.0], np.float32)
    scales = weight_scales(weights, 0, per_channel=True, least=least_scales(bias, 0.02))
    integers = round_bias(bias, np.float32(0.02) * scales)
    np.testing.assert_allclose(integers * (0.02 * scales.astype(np.float64)), bias, rtol=1e-6)
    assert np.abs(integers.astype(np.int64)).max() <= 2**30 + 2**10


def test_equalizing_changes_weights_but_not_results():
    before = convolutions()
    after, pairs = equalized(before)
    assert pairs == 1  # the first result is read by the sum as well
    feeds = samples(1)[0]
    np.testing.assert_allclose(run(after.model, feeds)[0], run(before.model, feeds)[0], atol=2e-5)
    own = np.abs(after.constants["w2"]).reshape(8, -1).max(axis=1)
    following = np.abs(after.constants["w3"]).max(axis=(0, 2, 3))
    np.testing.assert_allclose(own, following, rtol=1e-4)


def test_limits_other_than_zero_are_not_equalized():
    assert equalized(convolutions(activation="Clip"))[1] == 0


@pytest.mark.parametrize(("groups", "form", "size"), [(1, {}, (6, 6)), (2, {}, (6, 6)), (4, {}, (6, 6)),
                                                      (2, {"pads": [1, 2, 0, 1], "strides": [2, 1]}, (4, 9)),
                                                      (1, {"pads": [2] * 4, "dilations": [1, 2]}, (10, 8))])
def test_corrected_biases_have_no_mean_error(groups, form, size):
    rng = np.random.default_rng(groups)
    weights = rng.standard_normal((8, 4 // groups, 3, 3)).astype(np.float32)
    net = network([helper.make_node("Conv", ["x", "w"], ["y"], "c", group=groups, **form)], {"x": [1, 4, 8, 8]}, {"y": [1, 8, *size]}, {"w": weights})
    node = net.nodes[0]
    coarse = round_weights(weights, 0, 8 * weight_scales(weights, 0, per_channel=True))
    means = np.array([3.0, -1.0, 0.5, 2.0])
    bias = corrected(net, node, coarse, means)
    x = np.broadcast_to(means.reshape(1, 4, 1, 1), (1, 4, 8, 8)).astype(np.float32)
    exact = run(net.model, {"x": x})[0]
    rounded = network([helper.make_node("Conv", ["x", "w", "b"], ["y"], "c", group=groups, **form)], {"x": [1, 4, 8, 8]}, {"y": [1, 8, *size]},
                      {"w": coarse.real.astype(np.float32), "b": bias.astype(np.float32)})
    np.testing.assert_allclose(run(rounded.model, {"x": x})[0].mean(axis=(2, 3)), exact.mean(axis=(2, 3)), atol=1e-4)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 4))
def test_adaptive_rounding_never_loses_and_stays_next_to_the_weights(seed, terms, channels):
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((channels, terms)).astype(np.float32)
    mixing = rng.standard_normal((terms, terms))
    moments = mixing @ mixing.T
    scales = weight_scales(weights, 0, per_channel=True) * np.float32(9)
    nearest, adaptive = round_weights(weights, 0, scales), round_adaptively(weights, 0, scales, moments[np.newaxis])
    steps = weights / scales[:, np.newaxis]
    assert (np.abs(adaptive.integers - steps) < 1 + 1e-5).all()

    def cost(integers):
        error = integers.astype(np.float64) - steps
        return np.einsum("ok,kl,ol->o", error, moments, error)

    assert (cost(adaptive.integers) <= cost(nearest.integers) * (1 + 1e-9) + 1e-12).all()
    best = np.min([cost(np.floor(steps) + np.array(ups)) for ups in itertools.product((0, 1), repeat=terms)], axis=0)
    assert (cost(adaptive.integers) >= best - 1e-9).all()


def test_moments_are_those_of_the_taps():
    """H of a layer, from its definition: the sums are weights times taps, so their mean square is w' H w."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((6, 2, 3, 2)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], "c", group=3, pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2])
    net = network([node], {"x": [2, 6, 9, 7]}, {"y": [2, 6, 5, 6]}, {"w": weights})
    x = rng.standard_normal((2, 6, 9, 7)).astype(np.float32)
    moments = Moments(net, net.nodes[0])
    moments.add(x)
    y = run(net.model, {"x": x})[0]
    flat = weights.reshape(3, 2, -1).astype(np.float64)
    np.testing.assert_allclose(np.einsum("gok,gkl,gol->go", flat, moments.mean, flat).reshape(-1), (y**2).mean(axis=(0, 2, 3)), rtol=1e-5)
    assert can_round(net, net.nodes[0])


@pytest.mark.parametrize("transposed", [0, 1])
def test_moments_of_matrix_products(transposed):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((5, 4) if transposed else (4, 5)).astype(np.float32)
    net = network([helper.make_node("Gemm", ["x", "w"], ["y"], "g", transB=transposed)], {"x": [7, 4]}, {"y": [7, 5]}, {"w": weights})
    x = rng.standard_normal((7, 4)).astype(np.float32)
    moments = Moments(net, net.nodes[0])
    moments.add(x)
    np.testing.assert_allclose(moments.mean[0], x.T.astype(np.float64) @ x / 7, rtol=1e-6)
    axis = 0 if transposed else 1
    scales = weight_scales(weights, axis, per_channel=True)
    assert round_adaptively(weights, axis, scales, moments.mean).integers.shape == weights.shape
