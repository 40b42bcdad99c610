"""Attention and layout operators of onnxruntime, against onnxruntime."""

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from tests.support import onnxruntime_sessions

MS = {"domain": "com.microsoft", "by": "ort", "tolerance": 2e-5}


@pytest.mark.parametrize("attributes", [{}, {"unidirectional": 1}, {"scale": 0.3}, {"qkv_hidden_sizes": [8, 8, 4]}])
@pytest.mark.parametrize("mask", [None, np.int32([3, 5]), np.int32([4, 5, 1, 0]), np.int32([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])])
def test_attention(check_node, random, attributes, mask):
    width = sum(attributes.get("qkv_hidden_sizes", (8, 8, 8)))
    inputs = {"x": random(2, 5, 6)} | ({} if mask is None else {"m": mask})
    check_node("Attention", inputs, {"w": random(6, width), "b": random(width)}, order=["x", "w", "b", *(["m"] if mask is not None else [])],
               num_heads=2, **attributes, **MS)


def test_attention_with_a_past(check_node, random):
    inputs = {"x": random(2, 3, 6), "past": random(2, 2, 2, 4, 4)}
    check_node("Attention", inputs, {"w": random(6, 24), "b": random(24)}, order=["x", "w", "b", "", "past"], outputs="y present",
               num_heads=2, unidirectional=1, **MS)


def test_attention_with_a_mask_for_each_row_and_a_bias(check_node, random):
    mask = random.integers(0, 2, (2, 5, 5), np.int32) | np.eye(5, dtype=np.int32)
    check_node("Attention", {"x": random(2, 5, 6), "m": mask, "bias": random(2, 2, 5, 5)}, {"w": random(6, 24), "b": random(24)},
               order=["x", "w", "b", "m", "", "bias"], num_heads=2, **MS)


@pytest.mark.parametrize("attributes", [{}, {"unidirectional": 1}, {"scale": 0.2}])
def test_multi_head_attention(check_node, random, attributes):
    operands = {"q": random(2, 3, 8), "k": random(2, 5 if not attributes.get("unidirectional") else 3, 8)}
    operands["v"] = random(*operands["k"].shape)
    check_node("MultiHeadAttention", operands, {"b": random(24)}, num_heads=2, **attributes, **MS)
    check_node("MultiHeadAttention", operands, num_heads=2, **attributes, **MS)


def test_multi_head_attention_with_masks_and_a_past(check_node, random):
    q, k, v = (random(2, 3, 8) for _ in range(3))
    check_node("MultiHeadAttention", {"q": q, "k": k, "v": v, "m": np.int32([[1, 1, 0], [1, 0, 1]])}, order=["q", "k", "v", "", "m"],
               num_heads=2, **MS)
    check_node("MultiHeadAttention", {"q": q, "k": k, "v": v, "bias": random(1, 2, 3, 7), "pk": random(2, 2, 4, 4), "pv": random(2, 2, 4, 4)},
               order=["q", "k", "v", "", "", "bias", "pk", "pv"], outputs="y present_k present_v", num_heads=2, **MS)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("positions", [np.int64([2]), np.int64([[0, 3, 1], [4, 5, 2]])])
def test_rotary_embedding(check_node, random, interleaved, positions):
    tables = {"c": random(8, 2), "s": random(8, 2)}
    check_node("RotaryEmbedding", {"x": random(2, 3, 8), "p": positions}, tables, interleaved=interleaved, **MS)
    check_node("RotaryEmbedding", {"x": random(2, 2, 3, 4), "p": positions}, tables, interleaved=interleaved, **MS)


@pytest.mark.parametrize("attributes", [{}, {"do_rotary": 1}, {"do_rotary": 1, "rotary_interleaved": 1}, {"softcap": 2.0},
                                        {"local_window_size": 2}, {"scale": 0.3}])
def test_group_query_attention_of_a_prompt(check_node, random, attributes):
    inputs = {"q": random(2, 3, 64), "k": random(2, 3, 32), "v": random(2, 3, 32)}
    constants = {"pk": np.zeros((2, 2, 0, 16), np.float32), "pv": np.zeros((2, 2, 0, 16), np.float32),
                 "last": np.int32([2, 2]), "total": np.int32(3), "c": random(8, 8), "s": random(8, 8)}
    if "do_rotary" not in attributes:
        constants = {name: array for name, array in constants.items() if name not in "cs"}
    check_node("GroupQueryAttention", inputs, constants, outputs="y present_k present_v", num_heads=4, kv_num_heads=2,
               **attributes, **MS)


@pytest.mark.parametrize("attributes", [{}, {"do_rotary": 1}, {"local_window_size": 3}])
def test_group_query_attention_goes_on(check_node, random, attributes):
    inputs = {"q": random(2, 1, 64), "k": random(2, 1, 32), "v": random(2, 1, 32), "pk": random(2, 2, 6, 16), "pv": random(2, 2, 6, 16),
              "last": np.int32([6, 6])}
    constants = {"total": np.int32(7), **({"c": random(8, 8), "s": random(8, 8)} if attributes.get("do_rotary") else {})}
    check_node("GroupQueryAttention", inputs, constants, outputs="y present_k present_v", num_heads=4, kv_num_heads=2,
               **attributes, **MS)


@pytest.mark.parametrize("attributes", [{}, {"smooth_softmax": 1}, {"local_window_size": 2}])
def test_group_query_attention_with_a_sink(check_node, random, attributes):
    constants = {"last": np.int32([2, 2]), "total": np.int32(3), **({} if "smooth_softmax" in attributes else {"sink": random(4)})}
    check_node("GroupQueryAttention", {"q": random(2, 3, 128)}, constants,
               order=["q", "", "", "", "", "last", "total", "", "", "", "", "sink"][:12 if "sink" in constants else 7],
               outputs="y present_k present_v", num_heads=4, kv_num_heads=2, **attributes, **MS)


def test_group_query_attention_of_packed_operands(check_node, random):
    check_node("GroupQueryAttention", {"q": random(2, 3, 128)}, {"last": np.int32([2, 2]), "total": np.int32(3)},
               order=["q", "", "", "", "", "last", "total"], outputs="y present_k present_v", num_heads=4, kv_num_heads=2, **MS)


def test_group_query_attention_of_normalized_heads(make, op, check_node, random):
    """onnxruntime has it on accelerators; on the CPU it is given the normalized heads."""
    q, k, v, weights = random(2, 3, 64), random(2, 3, 32), random(2, 3, 32), random(2, 16)
    normal = [(h / np.sqrt((h * h).mean(-1, keepdims=True) + e) * w).reshape(x.shape) for x, w, e in zip((q, k), weights, (0.5, 0.01), strict=True)
              for h in [x.reshape(2, 3, -1, 16)]]
    known, heads = {"last": np.int32([2, 2]), "total": np.int32(3)}, {"num_heads": 4, "kv_num_heads": 2}
    plain = make([op("GroupQueryAttention", ["q", "k", "v", "", "", "last", "total"], ["y", "k2", "v2"], domain="com.microsoft", **heads)],
                 {"q": q, "k": k, "v": v}, ["y", "k2", "v2"], constants=known, domains=[("com.microsoft", 1)])
    wanted = onnxruntime_sessions.run(plain, {"q": normal[0], "k": normal[1], "v": v})
    check_node("GroupQueryAttention", {"q": q, "k": k, "v": v}, known | {"qw": weights[0], "kw": weights[1]}, outputs="y k2 v2", **heads,
               order=["q", "k", "v", "", "", "last", "total", *[""] * 7, "qw", "kw"], q_norm_epsilon=0.5, qk_norm_epsilon=0.01, **{**MS, "by": wanted})


def test_heads_must_divide_the_width(check_node, random):
    with pytest.raises(EdgeccError, match="cut into 3 heads"):
        check_node("MultiHeadAttention", {"q": random(1, 2, 8), "k": random(1, 2, 8), "v": random(1, 2, 8)}, num_heads=3,
                   **{**MS, "by": [random(1)]})


def test_embed_layer_normalization(check_node, random):
    ids = {"i": random.integers(0, 7, (2, 3), np.int32), "s": random.integers(0, 2, (2, 3), np.int32)}
    tables = {"w": random(7, 4), "p": random(5, 4), "t": random(2, 4), "g": random(4), "b": random(4)}
    check_node("EmbedLayerNormalization", {**ids, "m": np.int32([[1, 1, 0], [1, 1, 1]])}, tables,
               order=["i", "s", "w", "p", "t", "g", "b", "m"], outputs="y n", **MS)
    check_node("EmbedLayerNormalization", {"i": ids["i"]}, tables, order=["i", "", "w", "p", "", "g", "b"], outputs="y n", **MS)


def test_sums_with_activations(check_node, random):
    x = random(2, 3, 8)
    left, right = np.split(x + x[0, 0], 2, axis=-1)
    erf = np.vectorize(__import__("math").erf)
    wanted = left * (0.5 * right * (1 + erf(right / np.sqrt(2)))).astype(np.float32)
    check_node("BiasSplitGelu", {"x": x, "b": x[0, 0]}, **{**MS, "by": [wanted]})
    check_node("BiasAdd", {"x": x, "b": x[0, 0], "s": x * 2}, **{**MS, "by": [x * 3 + x[0, 0]]})
    for shape, axis, inner in (((1, 1, 8), 2, 1), ((2, 8), 2, 0)):
        bias = random(*shape)
        powers = np.exp(x + bias.reshape(-1, 1, 8))
        check_node("BiasSoftmax", {"x": x, "b": bias}, axis=axis, is_inner_broadcast=inner,
                   **{**MS, "by": [powers / powers.sum(-1, keepdims=True)]})
    check_node("BiasDropout", {"x": x, "b": x[0, 0]}, **{**MS, "by": [x + x[0, 0]]})


@pytest.mark.parametrize("activation", [0, 1])
def test_group_norm_of_channels_last(check_node, random, activation):
    x, scale, shift = random(2, 3, 4, 6), random(6), random(6)
    grouped = x.reshape(2, 12, 3, 2)
    normal = (grouped - grouped.mean((1, 3), keepdims=True)) / np.sqrt(grouped.var((1, 3), keepdims=True) + 1e-5)
    wanted = normal.reshape(x.shape) * scale + shift
    wanted = wanted / (1 + np.exp(-wanted)) if activation else wanted
    check_node("GroupNorm", {"x": x}, {"g": scale, "b": shift}, groups=3, activation=activation, **{**MS, "by": [wanted]})
    check_node("SkipGroupNorm", {"x": x / 2, "s": x / 2}, {"g": scale, "b": shift}, order=["x", "g", "b", "s"], outputs="y sum",
               groups=3, activation=activation, **{**MS, "by": [wanted, x]})


def test_convolution_and_pooling_of_channels_last(check, check_node, random):
    x, w, b = random(1, 5, 6, 4), random(3, 4, 3, 3), random(3)
    wanted = np.stack([sum(np.einsum("hwc,c->hw", x[0, i:i + 3, j:j + 4], w[o, :, i, j]) for i in range(3) for j in range(3)) + b[o]
                       for o in range(3)], -1)[None]
    check_node("NhwcFusedConv", {"x": x}, {"w": w, "b": b}, **{**MS, "by": [wanted]})
    check_node("NhwcConv", {"x": x}, {"w": w, "b": b}, **{**MS, "by": [wanted]})
    check_node("NhwcFusedConv", {"x": x, "z": wanted}, {"w": w, "b": b}, order=["x", "w", "b", "z"], activation="Relu",
               **{**MS, "by": [np.maximum(2 * wanted, 0)]})
    pooled = x[:, :4].reshape(1, 2, 2, 3, 2, 4).max((2, 4))
    check_node("NhwcMaxPool", {"x": x[:, :4]}, kernel_shape=[2, 2], strides=[2, 2], **{**MS, "by": [pooled]})


def test_pooling_of_truth_values_is_refused(check_node):
    with pytest.raises(EdgeccError, match=r"E110.*wanted a float"):
        check_node("NhwcMaxPool", {"x": np.ones((1, 4, 4, 2), np.bool_)}, kernel_shape=[2, 2], **{**MS, "by": []})
