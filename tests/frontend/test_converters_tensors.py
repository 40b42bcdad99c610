"""Converters of tensor operators in all the forms that opsets gave them, and of onnxruntime's own operators."""

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from tests.support.onnx_models import model

F = np.float32


def refused(code, model):
    with pytest.raises(EdgeccError) as caught:
        import_model(model)
    assert caught.value.code == code, caught.value
    return caught.value


# -- shapes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "allowzero"), [([4, 6], 0), ([0, -1], 0), ([-1], 0), ([0, 0, 0], 0), ([2, 3, 2, 2], 0), ([1, 2, 1, 12], 0)])
def test_reshape(check_node, random, shape, allowzero):
    check_node("Reshape", {"x": random(2, 3, 4)}, {"s": np.array(shape)}, allowzero=allowzero)


def test_reshape_of_empty_tensors(check_node):
    check_node("Reshape", {"x": np.zeros((0, 3), F)}, {"s": np.array([3, 0])}, allowzero=1)
    check_node("Reshape", {"x": np.zeros((0, 3), F)}, {"s": np.array([0, 1, 3])}, by=[np.zeros((0, 1, 3), F)])


@pytest.mark.parametrize("shape", [[-1, -1], [5], [-1, 5], [0, 0, 0, 0], [-2, 3]])
def test_reshapes_that_do_not_fit(make, op, shape):
    refused("E110", make([op("Reshape", "x s", "y")], {"x": [2, 3, 4]}, constants={"s": np.array(shape)}))


@pytest.mark.parametrize("axis", [0, 1, 3, -1])
def test_flatten(check_node, random, axis):
    check_node("Flatten", {"x": random(2, 3, 4)}, axis=axis)


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axes", [None, [0], [-1, 0]])
def test_squeeze(check_node, random, opset, axes):
    attributes = {"axes": axes} if opset == 11 and axes is not None else {}
    constants = {"a": np.array(axes)} if opset == 13 and axes is not None else {}
    check_node("Squeeze", {"x": random(1, 3, 1)}, constants, opset=opset, by="ort", **attributes)


@pytest.mark.parametrize("axes", [[0], [-1, 0], [3, 1]])
def test_unsqueeze(check_node, random, axes):
    check_node("Unsqueeze", {"x": random(2, 3)}, opset=11, by="ort", axes=axes)
    check_node("Unsqueeze", {"x": random(2, 3)}, {"a": np.array(axes)}, opset=13, by="ort")


@pytest.mark.parametrize(("op_type", "axes"), [("Squeeze", [1]), ("Squeeze", [5]), ("Unsqueeze", [0, 0]), ("Unsqueeze", [9])])
def test_axes_that_do_not_fit(make, op, op_type, axes):
    refused("E110", make([op(op_type, "x a", "y")], {"x": [1, 3]}, constants={"a": np.array(axes)}))


@pytest.mark.parametrize("shape", [[3, 4], [2, 1, 4], [1], [3, 1], [5, 3, 4]])
def test_expand(check_node, random, shape):
    check_node("Expand", {"x": random(3, 1)}, {"s": np.array(shape)})


@pytest.mark.parametrize("repeats", [[1, 1, 1], [2, 1, 3], [1, 3, 1], [2, 2, 2], [0, 1, 1]])
@pytest.mark.parametrize("shape", [(2, 3, 1), (1, 1, 4)])
def test_tile(check_node, random, repeats, shape):
    check_node("Tile", {"x": random(*shape)}, {"r": np.array(repeats)})


@pytest.mark.parametrize(("opset", "constants", "attributes", "parts"), [
    (11, None, {}, 2), (11, None, {"split": [1, 2, 3]}, 3), (13, [1, 0, 5], {}, 3), (13, None, {}, 3), (18, None, {"num_outputs": 3}, 3),
    (18, [4, 2], {}, 2), (11, None, {"axis": -1}, 2)])
def test_split(check_node, random, opset, constants, attributes, parts):
    stored = {} if constants is None else {"s": np.array(constants)}
    check_node("Split", {"x": random(6, 4)}, stored, outputs=" ".join(f"y{i}" for i in range(parts)), opset=opset, by="ort", **attributes)


def test_split_with_a_smaller_last_part(check_node, random):
    check_node("Split", {"x": random(7)}, outputs="a b c", by="ort", num_outputs=3)


@pytest.mark.parametrize(("starts", "ends", "axes", "steps"), [
    ([1], [3], None, None), ([0, 1], [2, -1], [1, 0], None), ([-3], [100], [0], [2]), ([4], [0], [0], [-1]), ([-1], [-100], [1], [-2]),
    ([100], [-100], [0], [-1]), ([3], [1], [0], None), ([2**62], [-(2**63)], [0], [-1]), ([1], [2**63 - 1], [1], [1]), ([0], [2], [0], [5])])
def test_slice(check_node, random, starts, ends, axes, steps):
    constants = {"s": np.array(starts), "e": np.array(ends)}
    order = ["x", "s", "e"]
    if axes is not None:
        constants["a"] = np.array(axes)
        order.append("a")
    if steps is not None:
        constants["t"] = np.array(steps)
        order.append("t")
    check_node("Slice", {"x": random(5, 4)}, constants, order=order, by="ort")


def test_slice_by_attributes(check_node, random):
    check_node("Slice", {"x": random(5, 4)}, opset=9, by="ort", starts=[1, -2], ends=[100, -1], axes=[0, 1])


@pytest.mark.parametrize(("mode", "pads"), [("constant", [1, 0, 2, 3]), ("reflect", [2, 1, 0, 3]), ("edge", [4, 1, 0, 2]), ("wrap", [2, 1, 1, 3]),
                                            ("constant", [-1, 2, 1, -1])])
def test_pad(check_node, random, mode, pads):
    check_node("Pad", {"x": random(4, 5)}, {"p": np.array(pads)}, by="ort", opset=19, mode=mode)


def test_pad_of_older_and_newer_opsets(check_node, random):
    x = random(4, 5)
    check_node("Pad", {"x": x}, by="ort", opset=10, pads=[1, 0, -1, 2], value=2.5)
    check_node("Pad", {"x": x, "v": np.array(1.5, F)}, {"p": np.array([1, 0, 0, 2])}, order=["x", "p", "v"], by="ort", opset=11)
    check_node("Pad", {"x": x}, {"p": np.array([1, 2]), "a": np.array([-1])}, order=["x", "p", "", "a"], by="ort", opset=18)
    check_node("Pad", {"x": x}, {"p": np.array([-1, 2, -1, 1])}, by=[np.pad(x[1:3], [(0, 0), (2, 1)], mode="edge")], mode="edge")


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space(check_node, random, mode):
    check_node("DepthToSpace", {"x": random(2, 8, 2, 3)}, by="ort", blocksize=2, mode=mode)
    check_node("SpaceToDepth", {"x": random(2, 3, 4, 6)}, by="ort", blocksize=2)


@pytest.mark.parametrize(("start", "end"), [(None, None), (1, None), (-2, None), (0, -1), (-100, 100), (2, 1)])
def test_shape_of_a_part(check_node, random, start, end):
    attributes = {n: v for n, v in (("start", start), ("end", end)) if v is not None}
    check_node("Shape", {"x": random(2, 3, 4)}, **attributes)


@pytest.mark.parametrize(("start", "limit", "delta"), [(1, 10, 3), (10, 1, -4), (0, 0, 1), (5, 1, 1), (0.5, 3.0, 0.5), (3.0, 0.0, -0.7)])
def test_range(make, op, check, start, limit, delta):
    constants = {n: np.array(v, F if isinstance(delta, float) else np.int64) for n, v in (("s", start), ("l", limit), ("d", delta))}
    check(make([op("Range", "s l d", "y")], {}, constants=constants), {}, by="ort")


@pytest.mark.parametrize("value", [{"value_int": 3}, {"value_ints": [1, 2]}, {"value_float": 0.5}, {"value_floats": [1.0, 2.0]}])
def test_constants(make, op, check, value):
    check(make([op("Constant", [], "y", **value)], {}), {})


def test_eye_like(check_node, random):
    for k in (0, 2, -1, 100, -(2**62)):
        check_node("EyeLike", {"x": random(3, 4)}, by=[np.eye(3, 4, max(min(k, 5), -5), dtype=np.int32)], k=k, dtype=6)


# -- reductions -------------------------------------------------------------------------------

REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum",
              "ReduceLogSumExp")


@pytest.mark.parametrize(("op_type", "attributes"), [("ArgMin", {"keepdims": 2}), ("ReduceSum", {"noop_with_empty_axes": -1})])
def test_flags_are_0_or_1(op_type, attributes):
    assert "not 0 or 1" in refused("E102", model([(op_type, "x", "y", attributes)], {"x": [4]})).message


@pytest.mark.parametrize("op_type", REDUCTIONS)
@pytest.mark.parametrize(("axes", "keepdims"), [(None, 1), ([1], 0), ([-1, 0], 1)])
def test_reductions(check_node, random, op_type, axes, keepdims):
    x = np.abs(random(2, 3, 4)) + F(0.1)
    attributes = {} if axes is None else {"axes": axes}
    check_node(op_type, {"x": x}, by="ort", opset=11, keepdims=keepdims, tolerance=1e-5, **attributes)
    check_node(op_type, {"x": x}, {} if axes is None else {"a": np.array(axes)}, by="ort", opset=18, keepdims=keepdims, tolerance=1e-5)


@pytest.mark.parametrize("op_type", REDUCTIONS)
def test_reductions_over_no_axes(check_node, random, op_type):
    x = np.abs(random(2, 3)) + F(0.1)
    check_node(op_type, {"x": x}, {"a": np.zeros(0, np.int64)}, by="onnx", noop_with_empty_axes=0, tolerance=1e-5)
    expected = {"ReduceSumSquare": x * x, "ReduceL1": np.abs(x), "ReduceL2": np.abs(x), "ReduceLogSum": np.log(x)}.get(op_type, x)
    check_node(op_type, {"x": x}, {"a": np.zeros(0, np.int64)}, by=[expected], noop_with_empty_axes=1, tolerance=1e-5)


def test_log_sum_exp_does_not_overflow(check_node):
    x = np.array([[1000, 1001], [-np.inf, -np.inf], [-1000, -1002]], F)
    with np.errstate(all="ignore"):
        check_node("ReduceLogSumExp", {"x": x}, {"a": np.array([1])}, by=[np.logaddexp(x[:, :1], x[:, 1:]).astype(F)], tolerance=1e-6)


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("attributes", [{}, {"axis": 1, "keepdims": 0}, {"axis": -1, "select_last_index": 1}])
def test_arg_max(check_node, random, op_type, attributes):
    check_node(op_type, {"x": random.integers(0, 3, (4, 5), F)}, by="ort", opset=13, **attributes)


def test_top_k_of_all_opsets(check_node, random):
    x, k = random(3, 6), {"k": np.array([2])}
    check_node("TopK", {"x": x}, outputs="v i", by="ort", opset=9, k=2)
    check_node("TopK", {"x": x}, k, outputs="v i", by="ort", opset=10, axis=0)
    check_node("TopK", {"x": x}, k, outputs="v i", by="ort", opset=11, largest=0)


@pytest.mark.parametrize("attributes", [{}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}])
def test_cum_sum(check_node, random, attributes):
    check_node("CumSum", {"x": random(3, 5)}, {"a": np.array(-1, np.int32)}, by="ort", **attributes)


# -- indexing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("indices", [np.array(1), np.array(-1), np.array([0, -1]), np.array([[2], [0]], np.int32)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_by_constants(check_node, random, indices, axis):
    check_node("Gather", {"x": random(3, 4, 5)}, {"i": indices}, axis=axis)


def test_constant_indices_are_checked(make, op):
    for op_type, indices in (("Gather", [3]), ("Gather", [-4]), ("GatherElements", [[3, 0]]), ("ScatterElements", [[7, 0]])):
        operands = "x i u" if op_type.startswith("Scatter") else "x i"
        model = make([op(op_type, operands, "y")], {"x": [3, 2], "u": [1, 2]}, constants={"i": np.array(indices)})
        assert "outside" in refused("E110", model).message


def test_gather_at_run_time(check_node, random):
    check_node("Gather", {"x": random(3, 4), "i": np.array([[2, -1], [0, 1]])}, axis=1)
    check_node("GatherElements", {"x": random(3, 4), "i": np.array([[2, -1], [0, 1]])}, by="ort", axis=0)
    check_node("GatherND", {"x": random(3, 4, 2), "i": np.array([[2, -1], [0, 1]])}, by="ort")


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
def test_scatter(check_node, random, reduction):
    check_node("ScatterElements", {"x": random(3, 4), "i": np.array([[2, 0]]), "u": random(1, 2)}, by="ort", opset=18, reduction=reduction)
    check_node("ScatterND", {"x": random(3, 4), "i": np.array([[2], [0]]), "u": random(2, 4)}, by="ort", opset=18, reduction=reduction)


def test_scatter_under_its_old_name(check_node, random):
    check_node("Scatter", {"x": random(3, 4), "i": np.array([[2, 0]]), "u": random(1, 2)}, by="ort", opset=9, axis=1)


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, F])
def test_one_hot(check_node, axis, dtype):
    indices = np.array([[0, -1, 3], [9, 2, -4]], dtype)
    check_node("OneHot", {"i": indices, "v": np.array([2, 5], F)}, {"d": np.array(4)}, order=["i", "d", "v"], by="onnx", axis=axis)


@pytest.mark.parametrize("k", [None, 0, 1, -2, 100, -(2**62)])
@pytest.mark.parametrize("upper", [0, 1])
def test_trilu(check_node, random, k, upper):
    x = random(2, 3, 4)
    offset = 0 if k is None else max(min(k, 10), -10)
    constants = {} if k is None else {"k": np.array(k)}
    check_node("Trilu", {"x": x}, constants, by=[np.triu(x, offset) if upper else np.tril(x, offset)], upper=upper)


def test_sequences_in_reverse(check_node, random):
    for time, batch in ((0, 1), (1, 0)):
        check_node("ReverseSequence", {"x": random(4, 4, 2)}, {"l": np.array([1, 4, 3, 2])}, by="ort", time_axis=time, batch_axis=batch)


def test_compress_and_non_zero_of_constants(check_node, make, op, check, random):
    x, chosen = random(3, 4), {"c": np.array([False, True, True])}
    check_node("Compress", {"x": x}, chosen, by="ort", axis=0)
    check_node("Compress", {"x": x}, chosen, by="ort")
    check_node("Compress", {"x": x}, {"c": np.array([False, True, True, False, True])}, by="ort", axis=0)
    model = make([op("NonZero", "w", "i"), op("Transpose", "i", "t"), op("GatherND", "x t", "y")], {"x": [2, 2]},
                 constants={"w": np.array([[1, 0], [0, 2]], F)})
    x = random(2, 2)
    check(model, {"x": x}, by=[np.diag(x)])


# -- elementwise operators of older opsets, types -----------------------------------------------


def test_clip_by_attributes_and_operands(check_node, random):
    x = random(3, 4)
    check_node("Clip", {"x": x}, by="ort", opset=6 + 1, min=-0.5, max=0.25)
    check_node("Clip", {"x": x, "low": np.array(-0.5, F)}, by="ort", opset=13)
    check_node("Clip", {"x": x}, {"high": np.array(0.5, F)}, order=["x", "", "high"], by="ort", opset=13)


@pytest.mark.parametrize("op_type", ["Sum", "Max", "Min", "Mean"])
@pytest.mark.parametrize("count", [1, 2, 40])
def test_many_operands(check_node, random, op_type, count):
    operands = {f"x{i}": random(3, 1 if i % 2 else 4) for i in range(count)}
    graph = check_node(op_type, operands, by="ort", tolerance=1e-5)
    assert all(len(n.inputs) <= 16 for n in graph.nodes)


@pytest.mark.parametrize(("opset", "attributes"), [(7, {"ratio": 0.3}), (10, {"ratio": 0.3}), (13, {})])
def test_dropout_does_nothing(check_node, random, opset, attributes):
    check_node("Dropout", {"x": random(3, 4)}, opset=opset, by="ort", **attributes)


def test_dropout_mask(check_node, random):
    x = random(3, 4)
    check_node("Dropout", {"x": x}, outputs="y mask", by=[x, np.ones((3, 4), bool)])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.int64, np.uint8, bool])
def test_cast(check_node, random, dtype):
    from onnx.helper import np_dtype_to_tensor_dtype
    x = np.abs(random(3, 4)) * F(3)
    check_node("Cast", {"x": x}, by=[x.astype(dtype)], to=np_dtype_to_tensor_dtype(np.dtype(dtype)))


def test_floats_are_not_written_as_text_at_run_time(make, op):
    error = refused("E105", make([op("Cast", "x", "y", to=8)], {"x": [2]}))
    assert "f32[2] is written as text at run time" in error.details[0]


# -- quantize and dequantize ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
@pytest.mark.parametrize("axis", [None, 1])
def test_quantize_and_dequantize(make, op, check, random, dtype, axis):
    count = () if axis is None else (3,)
    scale, zero = np.abs(random(*count)) * F(0.02) + F(0.01), random.integers(3, 9, count, dtype)
    attributes = {} if axis is None else {"axis": axis}
    nodes = [op("QuantizeLinear", "x s z", "q", **attributes), op("DequantizeLinear", "q s z", "y", **attributes)]
    check(make(nodes, {"x": [2, 3, 4]}, ["q", "y"], {"s": scale, "z": zero}, opset=21), {"x": random(2, 3, 4)}, by="ort")


def test_quantize_without_zero_point_and_in_blocks(make, op, check, random):
    check(make([op("QuantizeLinear", "x s", "y")], {"x": [2, 3]}, constants={"s": F(0.02)}), {"x": random(2, 3)}, by="ort")
    constants = {"s": np.array([[0.5], [0.25]], F), "z": np.array([[1], [2]], np.int8), "q": random.integers(-9, 9, (2, 3), np.int8)}
    model = make([op("DequantizeLinear", "q s z", "d", axis=1, block_size=3), op("Add", "d x", "y")], {"x": [2, 3]}, constants=constants)
    x = random(2, 3)
    check(model, {"x": x}, by=[x + (constants["q"] - constants["z"].astype(F)) * constants["s"]])


def test_dequantized_biases_keep_large_integers(make, op, check):
    q = np.array([2**24 + 1, -(2**30) - 64], np.int32)
    model = make([op("DequantizeLinear", "q s", "y")], {"q": q}, constants={"s": F(0.5)})
    check(model, {"q": q}, by="ort")


# -- onnxruntime's own operators --------------------------------------------------------------

MS = {"domain": "com.microsoft", "by": "ort", "tolerance": 1e-5}


def test_fused_convolution(check_node, random):
    operands = {"x": random(1, 2, 5, 5)}, {"w": random(3, 2, 3, 3), "b": random(3)}
    for attributes in ({"activation": "Relu"}, {"activation": "LeakyRelu", "activation_params": [0.3]},
                       {"activation": "Clip", "activation_params": [-0.2, 0.4]},
                       {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]}, {"activation": "Tanh"}):
        check_node("FusedConv", *operands, pads=[1, 1, 1, 1], **MS, **attributes)
    check_node("FusedConv", {**operands[0], "z": random(1, 3, 3, 3)}, operands[1], order=["x", "w", "b", "z"], activation="Relu", **MS)


def test_fused_products(check_node, random):
    check_node("FusedGemm", {"a": random(3, 4), "b": random(5, 4), "c": random(5)}, transB=1, activation="Relu", alpha=0.5, **MS)
    check_node("FusedMatMul", {"a": random(2, 4, 3), "b": random(2, 5, 4)}, transA=1, transB=1, alpha=0.25, **MS)
    check_node("FusedMatMul", {"a": random(3, 2, 4), "b": random(4, 2, 5)}, transBatchA=1, transBatchB=1, **MS)


@pytest.mark.parametrize(("op_type", "operands", "attributes"), [
    ("Gelu", 1, {}), ("BiasGelu", 2, {}), ("FastGelu", 1, {}), ("FastGelu", 2, {}), ("QuickGelu", 1, {}), ("QuickGelu", 1, {"alpha": 0.5})])
def test_gelus(check_node, random, op_type, operands, attributes):
    check_node(op_type, {"x": random(3, 8), **({"b": random(8)} if operands == 2 else {})}, **MS, **attributes)


def test_skip_layer_normalization(check_node, make, op, check, random):
    inputs, constants = {"x": random(2, 3, 8), "s": random(2, 3, 8)}, {"g": random(8), "b": random(8), "bias": random(8)}
    check_node("SkipLayerNormalization", inputs, constants, epsilon=1e-3, **MS)
    node = op("SkipLayerNormalization", ["x", "s", "g"], ["y", "", "", "sum"], domain="com.microsoft")
    check(make([node], inputs, ["y", "sum"], {"g": random(8)}, domains=[("com.microsoft", 1)]), inputs, by="ort", tolerance=1e-5)


def test_simplified_layer_normalization(check_node, random):
    check_node("SimplifiedLayerNormalization", {"x": random(2, 3, 8)}, {"g": random(8)}, by="ort", opset=17, epsilon=1e-3, axis=-1, tolerance=1e-5)
    check_node("SkipSimplifiedLayerNormalization", {"x": random(2, 3, 8), "s": random(2, 3, 8)}, {"g": random(8)}, epsilon=1e-3, **MS)
