"""Further operators of onnxruntime: quantized products and layers, mixtures of experts, plain tensors."""

import numpy as np
import pytest

MS = {"domain": "com.microsoft", "by": "ort"}


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("to_float", [False, True])
def test_qgemm(check_node, random, per_column, to_float):
    a = random.integers(0, 256, (3, 5), np.uint8)
    columns = 4 if per_column else 1
    constants = {"as": np.float32(0.02), "az": np.uint8(120), "b": random.integers(-128, 128, (4, 5), np.int8),
                 "bs": (random.integers(1, 9, (columns,)) / 100).astype(np.float32), "bz": np.zeros(columns, np.int8),
                 "c": random.integers(-500, 500, (4,), np.int32)}
    if not to_float:
        constants |= {"ys": np.float32(0.5), "yz": np.uint8(7)}
    check_node("QGemm", {"a": a}, constants, transB=1, alpha=0.5, tolerance=1e-6, **MS)


@pytest.mark.parametrize("mask", [None, np.int32([3, 5])])
def test_qattention(check_node, random, mask):
    constants = {"w": random.integers(-128, 128, (6, 24), np.int8), "b": random(24), "xs": np.float32(0.02), "ws": np.float32(0.01),
                 **({} if mask is None else {"m": mask}), "xz": np.uint8(128), "wz": np.int8(3)}
    order = ["x", "w", "b", "xs", "ws", "" if mask is None else "m", "xz", "wz"]
    check_node("QAttention", {"x": random.integers(0, 256, (2, 5, 6), np.uint8)}, constants, order=order, num_heads=2, unidirectional=1,
               tolerance=2e-5, **MS)


def test_qattention_with_a_past(check_node, random):
    constants = {"w": random.integers(0, 256, (6, 24), np.uint8), "b": random(24), "xs": np.float32(0.02),
                 "ws": (random.integers(1, 9, (24,)) / 100).astype(np.float32), "xz": np.uint8(128), "wz": np.full(24, 128, np.uint8)}
    check_node("QAttention", {"x": random.integers(0, 256, (2, 3, 6), np.uint8), "past": random(2, 2, 2, 4, 4)}, constants,
               order=["x", "w", "b", "xs", "ws", "", "xz", "wz", "past"], outputs="y present", num_heads=2, unidirectional=1, tolerance=2e-5, **MS)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("per_column", [False, True])
def test_dynamic_quantize_lstm(check_node, random, direction, per_column):
    """onnxruntime also quantizes inputs and states, to 8 bits: the results differ by that."""
    d, hidden = (2 if direction == "bidirectional" else 1), 6
    scale = (random.integers(1, 5, (d, 4 * hidden) if per_column else (d,)) / 300).astype(np.float32)
    constants = {"w": random.integers(-128, 128, (d, 5, 4 * hidden), np.int8), "r": random.integers(-128, 128, (d, hidden, 4 * hidden), np.int8),
                 "b": random(d, 8 * hidden) * np.float32(0.2), "ws": scale, "wz": np.zeros(scale.shape, np.int8), "rs": scale,
                 "rz": np.zeros(scale.shape, np.int8)}
    order = ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"]
    check_node("DynamicQuantizeLSTM", {"x": random(7, 2, 5)}, constants, order=order, outputs="y h c", hidden_size=hidden, direction=direction,
               tolerance=0.03, **MS)


def test_qembed_layer_normalization(check_node, random):
    tables = {name: random.integers(0, 256, shape, np.uint8) for name, shape in
              (("words", (9, 8)), ("places", (5, 8)), ("table", (2, 8)), ("gamma", (8,)), ("beta", (8,)))}
    scales = {f"s{i}": np.float32(0.01 * (i + 1)) for i in range(5)} | {f"z{i}": np.uint8(100 + i) for i in range(5)}
    ids = {"i": random.integers(0, 9, (2, 3), np.int32), "g": random.integers(0, 2, (2, 3), np.int32), "m": np.int32([[1, 1, 0], [1, 1, 1]])}
    check_node("QEmbedLayerNormalization", ids, tables | scales, order=["i", "g", *tables, "m", *scales], outputs="y n", tolerance=2e-5, **MS)


@pytest.mark.parametrize("last", [0, 1])
def test_qlinear_conv_with_the_channels_last(check_node, random, last):
    x = random.integers(0, 256, (1, 5, 6, 2) if last else (1, 2, 5, 6), np.uint8)
    constants = {"xs": np.float32(0.02), "xz": np.uint8(120), "w": random.integers(-128, 128, (3, 2, 3, 3), np.int8), "ws": np.float32([0.01, 0.02, 0.03]),
                 "wz": np.zeros(3, np.int8), "ys": np.float32(0.2), "yz": np.uint8(100), "b": random.integers(-500, 500, (3,), np.int32)}
    check_node("QLinearConv", {"x": x}, constants, channels_last=last, pads=[1, 1, 1, 1], strides=[2, 1], **MS)


def test_qlinear_where(check_node, random):
    sides = {name: random.integers(0, 256, (2, 9), np.uint8) for name in "ab"}
    constants = {"xs": np.float32(0.02), "xz": np.uint8(120), "ys": np.float32(0.03), "yz": np.uint8(90), "zs": np.float32(0.025), "zz": np.uint8(128)}
    check_node("QLinearWhere", {"c": random.integers(0, 2, (2, 1), bool), **sides}, constants,
               order=["c", "a", "xs", "xz", "b", "ys", "yz", "zs", "zz"], **MS)


def test_products_of_wide_integers(check, make, op, random):
    a, b = random.integers(-900, 900, (3, 5), np.int16), random.integers(-900, 900, (5, 4), np.int16)
    wide = a.astype(np.int32) @ b.astype(np.int32)
    check(make([op("MatMulInteger16", "a b", domain="com.microsoft")], {"a": a}, ["y"], {"b": b}), {"a": a}, by=[wide])


def test_products_and_sums_of_narrow_integers(check, make, op, random):
    a, b = random.integers(0, 256, (3, 5), np.uint8), random.integers(0, 256, (3, 5), np.uint8)
    wide = (a.astype(np.int32) - 3) * (b.astype(np.int32) - 200)
    check(make([op("MulInteger", "a az b bz", domain="com.microsoft")], {"a": a, "b": b}, ["y"], {"az": np.uint8(3), "bz": np.uint8(200)}),
          {"a": a, "b": b}, by=[wide])
    check(make([op("ReduceSumInteger", "a", axes=[1], keepdims=0, domain="com.microsoft")], {"a": a}, ["y"]), {"a": a}, by=[a.sum(1, dtype=np.int32)])


def test_qlinear_reduce_mean(check, make, op, random):
    x = random.integers(0, 256, (2, 5, 4), np.uint8)
    real = (x.astype(np.float64) - 100).mean(1, keepdims=True) * 0.02
    wanted = np.clip(np.rint(real / np.float32(0.03)) + 90, 0, 255).astype(np.uint8)
    check(make([op("QLinearReduceMean", "x s z t u", axes=[1], keepdims=1, domain="com.microsoft")], {"x": x}, ["y"],
               {"s": np.float32(0.02), "z": np.uint8(100), "t": np.float32(0.03), "u": np.uint8(90)}), {"x": x}, by=[wanted])


@pytest.mark.parametrize("kind", [0, 1])
def test_matmul_bnb4(check_node, random, kind):
    constants = {"b": random.integers(0, 256, (3 * 32 // 2,), np.uint8), "m": np.abs(random(6)) + np.float32(0.1)}
    check_node("MatMulBnb4", {"a": random(2, 32)}, constants, K=32, N=3, block_size=16, quant_type=kind, tolerance=1e-5, **MS)


# -- mixtures of experts ------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("normalized", [0, 1])
@pytest.mark.parametrize("kind", ["relu", "silu", "gelu", "identity"])
def test_mixture_of_experts(check_node, random, rows, normalized, kind):
    weights = {"w1": random(4, 6, 8), "b1": random(4, 6), "w2": random(4, 8, 6), "b2": random(4, 8)}
    check_node("MoE", {"x": random(rows, 8), "r": random(rows, 4)}, weights, k=2, activation_type=kind, normalize_routing_weights=normalized,
               tolerance=1e-3 if kind == "gelu" else 2e-5, **MS)


@pytest.mark.parametrize("rows", [1, 9])
def test_mixture_of_gated_experts(check_node, random, rows):
    weights = {"w1": random(4, 12, 8), "b1": random(4, 12), "w2": random(4, 8, 6), "b2": random(4, 8)}
    check_node("MoE", {"x": random(rows, 8), "r": random(rows, 4)}, weights, k=2, activation_type="swiglu", swiglu_fusion=1, swiglu_limit=2.0,
               activation_alpha=1.7, activation_beta=1.0, normalize_routing_weights=1, tolerance=2e-5, **MS)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [0, 16])
def test_mixture_of_quantized_experts(check_node, random, bits, block):
    """With blocks of 8 bits onnxruntime also quantizes the inputs of the products."""
    blocks = 32 // block if block else 1
    scale = lambda rows: (random.integers(1, 9, (4, rows, blocks) if block else (4, rows)) / 100).astype(np.float32)  # noqa: E731
    weights = {"w1": random.integers(0, 256, (4, 32, 32 * bits // 8), np.uint8), "s1": scale(32),
               "w2": random.integers(0, 256, (4, 32, 32 * bits // 8), np.uint8), "s2": scale(32)}
    check_node("QMoE", {"x": random(3, 32), "r": random(3, 4)}, weights, order=["x", "r", "w1", "s1", "", "w2", "s2"], k=2, expert_weight_bits=bits,
               activation_type="silu", normalize_routing_weights=1, tolerance=0.01 if block and bits == 8 else 1e-4, **MS, **({"block_size": block} if block else {}))


# -- plain tensors ------------------------------------------------------------------------------


def test_shapes_and_parts(check_node, random):
    x = random(2, 3, 4)
    check_node("ExpandDims", {"x": x}, {"axis": np.int32(-2)}, **MS)
    check_node("GatherND", {"x": x}, {"i": np.int64([[0, 1], [1, 2]])}, **MS)
    check_node("Trilu", {"x": x}, {"k": np.int64(1)}, upper=0, **MS)
    check_node("Pad", {"x": x}, {"p": np.int64([0, 1, 0, 2, 0, 1]), "v": np.float32([3])}, **MS)
    check_node("UnfoldTensor", {"x": random(2, 7, 3)}, dim=1, size=3, step=2, **MS)
    check_node("Unique", {}, {"x": np.float32([3, 1, 3, 2, 1])}, outputs="y i n", **MS)


def test_distances_and_inverses(check_node, random):
    for metric in ("euclidean", "sqeuclidean"):
        check_node("CDist", {"a": random(3, 5), "b": random(4, 5)}, metric=metric, tolerance=1e-5, **MS)
    for size in (1, 2, 3, 4):
        check_node("Inverse", {"x": random(2, size, size) + 3 * np.eye(size, dtype=np.float32)}, tolerance=2e-5, **MS)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_crop_and_resize(check_node, random, mode):
    rois = np.float32([[0.13, 0.2, 0.91, 0.71], [-0.21, 0, 1.3, 1], [0.63, 0.52, 0.21, 0.14]])  # no sample half way between two pixels
    check_node("CropAndResize", {"x": random(2, 3, 6, 5), "r": rois}, {"b": np.int32([0, 1, 1]), "s": np.int32([4, 3])}, mode=mode,
               extrapolation_value=1.5, tolerance=1e-5, **MS)


def test_conv_transpose_with_pads_as_an_operand(check_node, random):
    check_node("ConvTransposeWithDynamicPads", {"x": random(1, 2, 4, 5)}, {"w": random(2, 3, 3, 3), "p": np.int64([1, 0, 1, 1]), "b": random(3)},
               strides=[2, 2], tolerance=1e-5, **MS)


def test_finite_elements(check, make, op):
    x = np.float32([1, np.inf])
    for kept, wanted in (({}, False), ({"isnan_only": 1}, True), ({"isinf_only": 1}, False)):
        check(make([op("IsAllFinite", "x", domain="com.microsoft", **kept)], {"x": x}, ["y"]), {"x": x}, by=[np.array(wanted)])


def test_complex_products(check, make, op, random):
    a, b = random(3, 4, 2), random(3, 4, 2)
    for name, other in (("ComplexMul", b[..., 0] + 1j * b[..., 1]), ("ComplexMulConj", b[..., 0] - 1j * b[..., 1])):
        y = (a[..., 0] + 1j * a[..., 1]) * other
        check(make([op(name, "a b", domain="com.microsoft")], {"a": a, "b": b}, ["y"]), {"a": a, "b": b},
              by=[np.stack([y.real, y.imag], -1).astype(np.float32)])
