"""Converters of layers against onnxruntime: convolutions, pools, products, normalizations, recurrent layers, resizing."""

import numpy as np
import pytest

from edgecc.errors import EdgeccError

F = np.float32


@pytest.mark.parametrize("attributes", [
    {}, {"strides": [2, 1], "pads": [1, 0, 2, 1]}, {"dilations": [2, 1]}, {"group": 2},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"auto_pad": "VALID"},
    {"auto_pad": "SAME_LOWER", "strides": [3, 2], "kernel_shape": [3, 2]},
])
@pytest.mark.parametrize("opset", [7, 22])
def test_conv(check_node, random, attributes, opset):
    w = random(4, 4 // attributes.get("group", 1), 3, 2)
    check_node("Conv", {"x": random(2, 4, 9, 8)}, {"w": w, "b": random(4)}, by="ort", opset=opset, **attributes)


@pytest.mark.parametrize(("shape", "kernel"), [((1, 3, 7), (4, 3, 3)), ((1, 2, 4, 5, 6), (3, 2, 2, 3, 1))])
def test_conv_of_other_ranks_and_run_time_weights(check_node, random, shape, kernel):
    check_node("Conv", {"x": random(*shape), "w": random(*kernel)}, by="ort")


@pytest.mark.parametrize("attributes", [
    {}, {"strides": [2, 3], "pads": [1, 0, 0, 1]}, {"strides": [2, 2], "output_padding": [1, 1]}, {"dilations": [1, 2]}, {"group": 2},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, {"strides": [3, 2], "auto_pad": "SAME_LOWER"},
    {"strides": [2, 2], "output_shape": [9, 8]}, {"strides": [2, 2], "output_shape": [8, 7], "auto_pad": "SAME_UPPER"},
    {"strides": [3, 3], "output_shape": [12, 13]},
])
def test_conv_transpose(check_node, random, attributes):
    w = random(4, 6 // attributes.get("group", 1), 3, 2)
    check_node("ConvTranspose", {"x": random(2, 4, 4, 5)}, {"w": w, "b": random(6)}, by="ort", **attributes)


@pytest.mark.parametrize("attributes", [
    {}, {"strides": [2, 3]}, {"strides": [3, 2], "pads": [1, 0, 2, 1], "dilations": [2, 1], "output_padding": [1, 1]},
    {"group": 2, "strides": [2, 2]}, {"pads": [2, 2, 2, 2]},
])
def test_transposed_convolution_by_computed_weights(check_node, random, attributes):
    w = random(4, 6 // attributes.get("group", 1), 3, 2)
    graph = check_node("ConvTranspose", {"x": random(2, 4, 4, 5), "w": w}, {"b": random(6)}, by="ort", **attributes)
    assert "conv" in [node.op.name for node in graph.nodes]



@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("attributes", [
    {}, {"strides": [2, 2], "pads": [1, 1, 0, 1]}, {"strides": [2, 3], "ceil_mode": 1}, {"strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, {"strides": [2, 2], "auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID", "strides": [2, 1]},
    {"dilations": [2, 1]},
])
def test_pools(check_node, random, op_type, attributes):
    check_node(op_type, {"x": random(1, 2, 8, 7)}, by="ort", kernel_shape=[3, 2], **attributes)


@pytest.mark.parametrize("attributes", [{"pads": [1, 1, 1, 1]}, {"pads": [1, 1, 1, 1], "ceil_mode": 1, "strides": [2, 2]}])
def test_average_pool_that_counts_padding(check_node, random, attributes):
    check_node("AveragePool", {"x": random(1, 2, 8, 7)}, by="ort", kernel_shape=[3, 3], count_include_pad=1, opset=19, **attributes)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("attributes", [{}, {"strides": [2, 2], "pads": [1, 0, 1, 1]}, {"strides": [2, 3], "ceil_mode": 1}])
def test_lp_pool(check_node, random, p, attributes):
    check_node("LpPool", {"x": random(1, 2, 6, 7)}, by="ort", kernel_shape=[3, 2], p=p, tolerance=1e-5, **attributes)


@pytest.mark.parametrize(("op_type", "attributes"), [("GlobalAveragePool", {}), ("GlobalMaxPool", {}), ("GlobalLpPool", {"p": 1}),
                                                     ("GlobalLpPool", {}), ("GlobalLpPool", {"p": 3})])
@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 2, 4, 3)])
def test_global_pools(check_node, random, op_type, attributes, shape):
    check_node(op_type, {"x": random(*shape)}, by="ort", opset=17, **attributes)


@pytest.mark.parametrize(("a", "b"), [((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4, 5)),
                                      ((2, 1, 3, 4), (5, 4, 2)), ((4,), (2, 4, 5)), ((2, 3, 4), (4,)), ((3, 0), (0, 2))])
def test_matmul(check_node, random, a, b):
    check_node("MatMul", {"a": random(*a), "b": random(*b)}, by="onnx")


@pytest.mark.parametrize("attributes", [{}, {"transA": 1}, {"transB": 1}, {"alpha": 0.5}, {"beta": 2.0}, {"alpha": 0.5, "beta": 2.0}, {"beta": 0.0}])
@pytest.mark.parametrize("bias", [None, (3, 5), (5,), (3, 1), ()])
def test_gemm(check_node, random, attributes, bias):
    a, b = random(3, 4), random(4, 5)
    a, b = (a.T.copy() if attributes.get("transA") else a), (b.T.copy() if attributes.get("transB") else b)
    check_node("Gemm", {"a": a, "b": b, **({} if bias is None else {"c": random(*bias)})}, by="ort", **attributes)


@pytest.mark.parametrize(("equation", "shapes"), [
    ("ij,jk->ik", [(2, 3), (3, 4)]), ("ij,jk", [(2, 3), (3, 4)]), ("ij->ji", [(2, 3)]), ("ij->", [(2, 3)]), ("ii->i", [(3, 3)]), ("ii", [(3, 3)]),
    ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]), ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]), ("i,j->ij", [(3,), (4,)]),
    ("...ij,...jk->...ik", [(2, 3, 4), (5, 1, 4, 2)]), ("...ii->...i", [(2, 3, 3)]), ("ij,j->i", [(2, 3), (3,)]), ("i,i->", [(4,), (4,)]),
    ("ij,kl->ijkl", [(2, 3), (1, 2)]), ("abc,cd,d->ab", [(2, 3, 4), (4, 5), (5,)]), ("ab,abc->ac", [(2, 3), (2, 3, 4)]),
    (" b n h , h m -> b n m", [(2, 3, 4), (4, 5)]), ("a,b,c->cba", [(2,), (3,), (4,)]), ("ijk,ilm->", [(2, 3, 1), (2, 2, 2)]),
    ("abcd,ab->cd", [(2, 3, 4, 5), (2, 3)]), ("...a->...", [(2, 3)]), ("a...->a...", [(2, 3, 4)])])
def test_einsum(check_node, random, equation, shapes):
    operands = {f"x{i}": random(*s) for i, s in enumerate(shapes)}
    check_node("Einsum", operands, by=[np.einsum(equation, *operands.values()).astype(F)], equation=equation, tolerance=1e-5)


@pytest.mark.parametrize(("equation", "shape"), [("ij->ii", (2, 3)), ("ij->k", (2, 3)), ("i,j->i", (2, 3)), ("ijk->i", (2, 3)), ("i1->i", (2, 3))])
def test_einsum_refuses(check_node, random, equation, shape):
    with pytest.raises(EdgeccError) as caught:
        check_node("Einsum", {"x": random(*shape)}, equation=equation)
    assert caught.value.code in ("E110", "E102")


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize(("opset", "axis"), [(11, None), (11, 0), (12, 2), (7, 1), (11, -1), (13, None), (13, 0), (21, 1)])
def test_softmax_of_old_and_new_opsets(check_node, random, op_type, opset, axis):
    check_node(op_type, {"x": random(2, 3, 4)}, by="ort", opset=opset, tolerance=1e-5, **({} if axis is None else {"axis": axis}))


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_batch_normalization(check_node, random, opset):
    constants = {n: random(3) for n in ("s", "b", "m")} | {"v": np.abs(random(3)) + F(0.1)}
    check_node("BatchNormalization", {"x": random(2, 3, 4, 5)}, constants, by="ort", opset=opset, epsilon=1e-3)


def test_batch_normalization_of_half_floats(check_node, random):
    constants = {n: random(3) for n in ("s", "b", "m")} | {"v": np.abs(random(3)) + F(0.1)}
    check_node("BatchNormalization", {"x": random(2, 3, 4, dtype=np.float16)}, constants, by="onnx", opset=15, tolerance=2e-3)


@pytest.mark.parametrize("axis", [-1, 1, 2])
@pytest.mark.parametrize("outputs", ["y", "y mean inv"])
def test_layer_normalization(check_node, random, axis, outputs):
    shape = (2, 3, 4)[axis:]
    check_node("LayerNormalization", {"x": random(2, 3, 4)}, {"s": random(*shape), "b": random(*shape)}, outputs=outputs, by="ort",
               opset=17, axis=axis, epsilon=1e-3, tolerance=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_statistics_of_layer_normalization_are_f32(check_node, random, dtype):
    check_node("LayerNormalization", {"x": random(2, 3, 4, dtype=dtype)}, {"s": random(4, dtype=dtype)}, outputs="y mean inv", by="ort", opset=17, tolerance=2e-3)


def test_layer_normalization_before_it_was_in_onnx(check_node, random):
    check_node("LayerNormalization", {"x": random(2, 3, 4)}, {"s": random(4)}, by="ort", opset=12, tolerance=1e-5)


@pytest.mark.parametrize(("op_type", "attributes", "opset"), [
    ("InstanceNormalization", {"epsilon": 1e-3}, 22), ("GroupNormalization", {"num_groups": 2}, 18),
    ("GroupNormalization", {"num_groups": 2, "epsilon": 1e-3}, 21)])
@pytest.mark.parametrize("shape", [(2, 4, 5), (1, 4, 3, 2)])
def test_channel_normalizations(check_node, random, op_type, attributes, opset, shape):
    count = 2 if opset == 18 else 4
    check_node(op_type, {"x": random(*shape)}, {"s": random(count), "b": random(count)}, opset=opset, tolerance=1e-5, by="onnx", **attributes)


@pytest.mark.parametrize(("op_type", "attributes"), [
    ("LRN", {"size": 3}), ("LRN", {"size": 5, "alpha": 0.5, "beta": 0.6, "bias": 2.0}), ("LpNormalization", {"p": 1, "axis": 1}),
    ("LpNormalization", {}), ("MeanVarianceNormalization", {}), ("MeanVarianceNormalization", {"axes": [1, 3]})])
def test_other_normalizations(check_node, random, op_type, attributes):
    check_node(op_type, {"x": random(2, 5, 4, 3)}, by="ort", tolerance=1e-5, **attributes)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("op_type", "gates", "attributes"), [
    ("LSTM", 4, {}), ("LSTM", 4, {"clip": 0.5, "input_forget": 1}), ("GRU", 3, {}), ("GRU", 3, {"linear_before_reset": 1}), ("RNN", 1, {}),
    ("LSTM", 4, {"activations": ["HardSigmoid", "LeakyRelu", "Tanh"], "activation_alpha": [0.3, 0.1], "activation_beta": [0.4]}),
    ("GRU", 3, {"activations": ["elu", "softsign"], "activation_alpha": [0.5]})])
def test_recurrent_layers(check_node, random, direction, op_type, gates, attributes):
    d, s, b, i, h = (2 if direction == "bidirectional" else 1), 5, 2, 3, 4
    attributes = {k: v * d if isinstance(v, list) else v for k, v in attributes.items()}
    weights = {"w": random(d, gates * h, i), "r": random(d, gates * h, h), "b": random(d, 2 * gates * h)}
    check_node(op_type, {"x": random(s, b, i)}, weights, outputs="y yh" + (" yc" if op_type == "LSTM" else ""), by="ort",
               hidden_size=h, direction=direction, tolerance=1e-5, **attributes)


def test_recurrent_layers_with_state_and_lengths(check_node, random):
    inputs = {"x": random(4, 3, 2), "h": random(1, 3, 5), "c": random(1, 3, 5)}
    weights = {"w": random(1, 20, 2), "r": random(1, 20, 5), "lens": np.array([4, 2, 3], np.int32), "p": random(1, 15)}
    check_node("LSTM", inputs, weights, order=["x", "w", "r", "", "lens", "h", "c", "p"], outputs="y yh yc", by="ort", hidden_size=5, tolerance=1e-5)


# -- resizing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", [(1, 1, 2, 3), (1, 1, 0.5, 0.6), (1, 1, 1, 1)])
def test_old_resizes(check_node, random, mode, scales):
    x, s = random(1, 2, 4, 5), np.array(scales, F)
    check_node("Resize", {"x": x}, {"s": s}, by="ort", opset=10, mode=mode)
    if min(scales) >= 1:
        check_node("Upsample", {"x": x}, {"s": s}, by="ort", opset=9, mode=mode)
        check_node("Upsample", {"x": x}, by="ort", opset=7, mode=mode, scales=[float(v) for v in scales])


@pytest.mark.parametrize("opset", [11, 13, 19])
@pytest.mark.parametrize("coordinates", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("sizes", [(1, 2, 7, 3), (1, 2, 8, 10)])
def test_resizes_to_sizes(check_node, random, opset, coordinates, mode, sizes):
    constants = {"roi": np.zeros(0, F), "scales": np.zeros(0, F), "sizes": np.array(sizes)}
    check_node("Resize", {"x": random(1, 2, 4, 5)}, constants, by="ort", opset=opset, mode=mode, tolerance=1e-5,
               coordinate_transformation_mode=coordinates)


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("scales", [(1, 1, 2.5, 1.5), (1, 1, 0.75, 0.5)])
def test_resizes_by_scales(check_node, random, nearest, scales):
    check_node("Resize", {"x": random(1, 1, 4, 6)}, {"scales": np.array(scales, F)}, order=["x", "", "scales"], by="ort", mode="nearest",
               nearest_mode=nearest)


@pytest.mark.parametrize("sizes", [(1, 2, 7, 3), (1, 2, 8, 10), (1, 2, 3, 4)])
def test_resize_of_pixels_as_tensorflow_counts_them(check_node, random, sizes):
    constants = {"roi": np.zeros(0, F), "scales": np.zeros(0, F), "sizes": np.array(sizes)}
    check_node("Resize", {"x": random(1, 2, 4, 5)}, constants, by="ort", opset=11, mode="nearest", nearest_mode="floor",
               coordinate_transformation_mode="tf_half_pixel_for_nn")


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
def test_resize_policies_and_axes(check_node, random, policy):
    check_node("Resize", {"x": random(1, 2, 4, 6)}, {"sizes": np.array([7, 8])}, order=["x", "", "", "sizes"], by="ort", opset=18, mode="linear",
               axes=[2, 3], keep_aspect_ratio_policy=policy, tolerance=1e-5)


def test_resize_of_a_region(check_node, random):
    constants = {"roi": np.array([0, 0, 0.2, 0.1, 1, 1, 0.8, 1.3], F), "sizes": np.array([1, 1, 3, 4])}
    check_node("Resize", {"x": random(1, 1, 5, 6)}, constants, order=["x", "roi", "", "sizes"], by="ort", mode="linear",
               coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.0, tolerance=1e-5)


# -- Fourier transforms -----------------------------------------------------------------------


def spectrum(values):
    return np.stack([values.real, values.imag], axis=-1).astype(F)


@pytest.mark.parametrize(("attributes", "parts"), [({}, 1), ({}, 2), ({"inverse": 1}, 2), ({"onesided": 1}, 1)])
@pytest.mark.parametrize(("axis", "length"), [(1, None), (-2, None), (1, 12), (2, 4)])
def test_dft(check_node, random, attributes, parts, axis, length):
    x = random(2, 10, 7, parts)
    signal = x[..., 0] + (1j * x[..., 1] if parts == 2 else 0)
    transform = np.fft.ifft if attributes.get("inverse") else np.fft.rfft if attributes.get("onesided") else np.fft.fft
    expected = [spectrum(transform(signal, n=length, axis=axis if axis > 0 else axis + 1))]
    constants = {"a": np.array(axis), **({} if length is None else {"n": np.array(length)})}
    check_node("DFT", {"x": x}, constants, order=["x", "" if length is None else "n", "a"], by=expected, opset=20, tolerance=1e-5, **attributes)
    check_node("DFT", {"x": x}, {n: c for n, c in constants.items() if n == "n"}, by=expected, opset=17, tolerance=1e-5,
               axis=axis % 4, **attributes)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("window", [True, False])
def test_stft(check_node, random, onesided, window):
    x, w = random(2, 50), np.hanning(16).astype(F)
    frames = np.stack([x[:, i * 5:i * 5 + 16] for i in range(7)], axis=1) * (w if window else 1)
    constants = {"step": np.array(5), **({"w": w} if window else {"n": np.array(16)})}
    order = ["x", "step", "w"] if window else ["x", "step", "", "n"]
    check_node("STFT", {"x": x[..., None]}, constants, order=order, tolerance=1e-5, onesided=onesided,
               by=[spectrum((np.fft.rfft if onesided else np.fft.fft)(frames))])
    check_node("STFT", {"x": random(1, 20, 1)}, constants, order=order, tolerance=1e-5, onesided=onesided, by="ort", opset=17)


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_functions_of_older_opsets_hold_in_later_ones(check_node, random, opset):
    check_node("SoftmaxCrossEntropyLoss", {"x": random(3, 5), "labels": np.int32([0, 4, 2])}, outputs="loss log_prob", opset=opset, by="ort")
