"""Operators of gated delta nets, Mamba and the like, which builders of generative models export in the domain com.microsoft."""

import numpy as np
import pytest

MS = {"domain": "com.microsoft", "by": "ort"}


@pytest.mark.parametrize("activation", ["none", "silu"])
@pytest.mark.parametrize("past", [False, True])
def test_causal_convolution_with_a_state(check_node, random, activation, past):
    operands = {"x": random(2, 6, 5)} | ({"p": random(2, 6, 3)} if past else {})
    check_node("CausalConvWithState", operands, {"w": random(6, 1, 4), "b": random(6)}, order=["x", "w", "b", *(["p"] if past else [])],
               outputs="y state", activation=activation, **MS)


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize(("queries", "shared", "shared_keys", "wide_decay"), [(2, 2, 0, False), (4, 2, 0, True), (2, 4, 0, False), (2, 4, 1, False)])
def test_linear_attention(check_node, random, rule, queries, shared, shared_keys, wide_decay):
    rows, size = 3, 4
    operands = {"q": random(2, rows, queries * size), "k": random(2, rows, (min(queries, shared) if shared_keys else shared) * size) * np.float32(0.4),
                "v": random(2, rows, shared * 6), "s": random(2, shared, size, 6)}
    if "gated" in rule:
        operands["g"] = -np.abs(random(2, rows, shared * (size if wide_decay else 1)))
    if "delta" in rule:
        operands["b"] = np.abs(random(2, rows, shared)) / 4
    order = ["q", "k", "v", "s", "g" if "g" in operands else "", *(["b"] if "b" in operands else [])]
    check_node("LinearAttention", operands, order=order, outputs="y state", update_rule=rule, q_num_heads=queries, kv_num_heads=shared, tolerance=2e-5, **MS)


def test_gates(check_node, random):
    check_node("LinearAttentionGate", {"a": 30 * random(2, 3, 4), "b": random(2, 3, 4)}, {"d": random(4), "s": -np.abs(random(4))}, order=["a", "d", "s", "b"],
               outputs="decay beta", **MS)
    check_node("LinearAttentionGate", {"a": random(2, 3, 4)}, {"d": random(4), "s": -np.abs(random(4))}, outputs="decay", **MS)
    check_node("GatedAdd", {"x": random(2, 3, 4), "y": random(2, 3, 4), "g": random(2, 3, 1)}, outputs="z", **MS)


@pytest.mark.parametrize("activation", ["silu", "swish", "sigmoid"])
@pytest.mark.parametrize("size", [4, 12])
def test_gated_rms_norm(check_node, random, activation, size):
    check_node("GatedRMSNorm", {"x": random(2, 3, 12), "g": random(2, 3, 12)}, {"s": random(size)}, order=["x", "s", "g"], activation=activation, epsilon=0.01,
               tolerance=1e-5, **MS)


@pytest.mark.parametrize(("layout", "sections"), [(0, [2, 1, 3]), (1, [2, 2, 2]), (1, [4, 1, 1]), (0, [6, 0, 0])])
@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding_of_three_positions(check_node, random, layout, sections, rank, interleaved):
    x = random(2, 5, 3 * 16) if rank == 3 else random(2, 3, 5, 16)
    angles = random(9, 6)
    check_node("MRotaryEmbedding", {"x": x, "p": random.integers(0, 9, (3, 2, 5))}, {"c": np.cos(angles), "s": np.sin(angles)}, mrope_section=sections,
               mrope_layout=layout, interleaved=interleaved, num_heads=3, rotary_embedding_dim=12, **MS)


@pytest.mark.parametrize("limit", [0.0, 0.8])
@pytest.mark.parametrize("halves", [False, True])
def test_swiglu(check_node, random, halves, limit):
    """onnxruntime has it on accelerators only."""
    both = random(3, 8) * np.float32(2)
    gate, up = np.split(both, 2, axis=-1)
    g, line = (np.minimum(gate, limit), np.clip(up, -limit, limit)) if limit else (gate, up)
    wanted = (g / (1 + np.exp(-1.7 * g)) * (line + 1)).astype(np.float32)
    operands = {"x": both} if halves else {"x": np.ascontiguousarray(gate), "u": np.ascontiguousarray(up)}
    check_node("SwiGLU", operands, domain="com.microsoft", by=[wanted], activation_alpha=1.7, activation_beta=1.0, limit=limit)
