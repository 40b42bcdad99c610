"""More of what `Growth` adds to a graph: layers of networks, quantized layers, sequences, strings, branches and loops."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgecc.frontend.limits import subgraphs
from tests.support import malformed
from tests.support.growth import Drawn, Growth, Known
from tests.support.recipes import (
    binary,
    cast,
    compared,
    indexed,
    integer,
    moved,
    ranged,
    reduced,
    rounded,
    through_bfloat16,
    unary,
)
from tests.support.recipes_of_transforms import transformed

NOT_COMPARED = frozenset({
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",  # another generator
    "MaxUnpool", "MoE", "QMoE",  # which of two that fall on one place, or of two experts that are as good, is open
    "BatchNormalization",  # in training onnxruntime writes means over its operands, and whoever reads these next
    "GroupQueryAttention",  # the rows of its caches behind the sequences are open
    "QLinearAveragePool",  # halves are rounded with the zero point, or before it
    "TreeEnsembleClassifier",  # for two classes onnxruntime answers with labels that are none of the model's
})
"""Operators whose results may differ from onnxruntime's in `spliced`."""

# -- layers -----------------------------------------------------------------------------------


def image(g: Growth) -> Known | None:
    """Something with channels and one to three axes of space, of a number of channels that is known."""
    x = g.pick(ranks=(3, 4, 4, 5))
    if x is not None and x.fixed[1]:
        return x
    if g.outer is not None:
        return None
    dims = (g.one_of((1, 2, "n")), g.one_of((2, 3, 4)), *g.one_of(((7,), (6, 5), (5, 5), (4, 5, 3))))
    return g.add_input(Drawn("quarters", np.dtype(np.float32), dims if g.probes[0] != g.probes[-1] else tuple(2 if d == "n" else d for d in dims)))


def convolution(g: Growth) -> object:
    """Convolutions, forth and back, of all kinds of borders and groups."""
    x = image(g)
    if x is None:
        return None
    spatial, channels = x.rank - 2, x.shape[1]
    group = g.one_of([d for d in (1, 1, 2, channels) if channels % d == 0])
    out = group * g.one_of((1, 2, 3))
    kernel = [g.one_of((1, 2, 3)) for _ in range(spatial)]
    attributes: dict[str, Any] = {"group": group}
    if g.chance(2):
        attributes["strides"] = [g.one_of((1, 2, 3)) for _ in range(spatial)]
    if g.chance(3):
        attributes["dilations"] = [g.one_of((1, 2)) for _ in range(spatial)]
    if g.chance(3):
        attributes["auto_pad"] = g.one_of(("SAME_UPPER", "SAME_LOWER", "VALID"))
    elif g.chance(2):
        attributes["pads"] = [g.one_of((0, 1, 2)) for _ in range(2 * spatial)]
    bias = [g.constant(g.quarters((out,), x.dtype))] if g.chance(2) else []
    if g.chance(4):
        if "SAME" in attributes.get("auto_pad", "") and not _windows_meet(attributes | {"kernel_shape": kernel}):
            return None  # onnxruntime leaves out what lies between windows, although the size is to be that of the input times the stride
        if "auto_pad" not in attributes and g.chance(2):
            attributes["output_padding"] = [g.one_of((0, 1)) for _ in range(spatial)]
        return g.add("ConvTranspose", [x, g.constant(g.quarters((channels, out // group, *kernel), x.dtype)), *bias], **attributes)
    weights = g.constant(g.quarters((out, channels // group, *kernel), x.dtype))
    if g.chance(8) and x.dtype == np.float32:
        return g.add("FusedConv", [x, weights, *bias], domain="com.microsoft", activation="Relu", **attributes)
    return g.add("Conv", [x, weights, *bias], **attributes)


def _windows_meet(attributes: dict[str, Any]) -> bool:
    kernel = attributes["kernel_shape"]
    ones = [1] * len(kernel)
    return all((k - 1) * d + 1 >= s for k, d, s in zip(kernel, attributes.get("dilations", ones), attributes.get("strides", ones), strict=True))


def pool(g: Growth) -> object:
    """Pools."""
    x = image(g)
    if x is None:
        return None
    spatial = x.rank - 2
    attributes: dict[str, Any] = {"kernel_shape": [g.one_of((1, 2, 3)) for _ in range(spatial)], "strides": [g.one_of((1, 2, 3)) for _ in range(spatial)]}
    if g.chance(3):
        attributes["auto_pad"] = g.one_of(("SAME_UPPER", "SAME_LOWER", "VALID"))
    elif g.chance(2):
        attributes["pads"] = [g.source.randrange(k) for k in attributes["kernel_shape"] * 2]
    if "SAME" in attributes.get("auto_pad", "") and not _windows_meet(attributes):
        return None  # onnxruntime pads by less than nothing then; onnx's inference of shapes says nothing
    if g.chance(3) and attributes.get("auto_pad") != "VALID":  # for which onnxruntime uses the formula of padding that is given
        attributes["ceil_mode"] = 1
    match g.source.randrange(4):
        case 0:
            return g.add("LpPool", [x], p=g.one_of((1, 2)), **{k: v for k, v in attributes.items() if k != "ceil_mode"})
        case 1:
            return g.add("AveragePool", [x], count_include_pad=g.source.randrange(2), **attributes)
        case 2 if x.exact and x.is_fixed:
            found = g.add("MaxPool", [x], results=2, exact=True, storage_order=g.source.randrange(2), **attributes)
            return found and g.chance(2) and g.add("MaxUnpool", found, **{k: v for k, v in attributes.items() if k in ("kernel_shape", "strides", "pads")})
    if g.chance(3) and "SAME" not in attributes.get("auto_pad", ""):  # with which onnxruntime pads as if there were no dilations
        attributes["dilations"] = [g.one_of((1, 2)) for _ in range(spatial)]
    return g.add("MaxPool", [x], exact=x.exact, **attributes)


def normalization(g: Growth) -> object:
    """Normalizations."""
    x = image(g) if g.chance(2) else g.pick(ranks=(2, 3, 4))
    if x is None:
        return None

    def weights(*shape: int) -> str:
        return g.constant(g.quarters(shape, x.dtype) if g.chance(2) else np.ones(shape, x.dtype))

    channels, last = x.fixed[1], x.fixed[-1]
    name = g.one_of(("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization", "SkipLayerNormalization", "BiasGelu"))
    if name in ("BatchNormalization", "InstanceNormalization", "GroupNormalization"):
        if not channels or x.rank < 3:
            return None
        scale, bias = weights(channels), weights(channels)
        if name == "BatchNormalization":
            return g.add(name, [x, scale, bias, weights(channels), g.constant(np.ones(channels, x.dtype) / 2)], epsilon=0.01)
        if name == "GroupNormalization":
            if g.opset < 18:
                return None
            groups = g.one_of([d for d in (1, 2, channels) if channels % d == 0])
            return g.add(name, [x, *((scale, bias) if g.opset >= 21 else (weights(groups), weights(groups)))], num_groups=groups, epsilon=0.01)
        return g.add(name, [x, scale, bias], epsilon=0.01)
    if not last:
        return None
    match name:
        case "SkipLayerNormalization":
            return x.rank == 3 and g.add(name, [x, x, weights(last), weights(last)], domain="com.microsoft", epsilon=0.01)
        case "BiasGelu":
            return x.dtype == np.float32 and g.add(name, [x, weights(last)], domain="com.microsoft")
        case "RMSNormalization":
            return g.opset >= 23 and g.add(name, [x, weights(last)], epsilon=0.01)
    if g.chance(2) and x.fixed[-2]:
        return g.opset >= 17 and g.add(name, [x, weights(x.shape[-2], last)], axis=-2, epsilon=0.01)
    return g.opset >= 17 and g.add(name, [x, weights(last), *([weights(last)] if g.chance(2) else [])], epsilon=0.01)


def product(g: Growth) -> object:
    """Products of matrices, and contractions."""
    x = g.pick(ranks=(1, 2, 2, 3, 4))
    if x is None:
        return None
    last = x.fixed[-1]
    if last and g.chance(2):
        shape = g.one_of(((last, 3), (last, 5), (last,), (2, last, 3)))
        name = g.one_of(("MatMul", "MatMul", "FusedMatMul"))
        if name == "FusedMatMul":
            return x.dtype == np.float32 and x.rank > 1 and g.add(name, [x, g.constant(g.quarters((3, last)))], domain="com.microsoft", transB=1, alpha=0.5)
        return g.add(name, [x, g.constant(g.quarters(shape, x.dtype))])
    if x.rank == 2:
        equation, count = g.one_of((("ij->ji", 1), ("ij->i", 1), ("ij,kj->ik", 2), ("ij,ij->j", 2), ("...j,...j->...", 2), ("ij,ij", 2)))
        return g.add("Einsum", [x] * count, equation=equation)
    if x.rank == 3:
        equation, count = g.one_of((("bij,bkj->bik", 2), ("bij->bj", 1), ("bij,bij->b", 2), ("b...->...b", 1)))
        return g.add("Einsum", [x] * count, equation=equation)
    turned = g.add("Transpose", [x], perm=[*range(x.rank - 2), x.rank - 1, x.rank - 2]) if x.rank > 1 else None
    return turned and g.add("MatMul", [x, turned[0]])


def resized(g: Growth) -> object:
    """Resizing, and sampling at places."""
    x = image(g)
    if x is None:
        return None
    spatial = x.rank - 2
    name = g.one_of(("Resize", "Resize", "Resize", "GridSample", "RoiAlign", "AffineGrid"))
    if name == "GridSample" and x.rank == 4 and x.fixed[0] and g.opset >= 16:
        grid = g.quarters((x.shape[0], 3, 2, 2), x.dtype) * np.asarray(0.7, x.dtype)
        mode = g.one_of(("linear", "nearest", "cubic") if g.opset >= 20 else ("bilinear", "bicubic"))
        return mode != "nearest" and g.add(name, [x, g.constant(grid)], mode=mode, padding_mode=g.one_of(("zeros", "border", "reflection")), align_corners=g.source.randrange(2))
    if name == "RoiAlign" and x.rank == 4 and x.fixed[0] and g.opset >= 16:
        boxes = np.array([[0, 0, 3, 3], [1, 0.5, 4.25, 2]], x.dtype)
        return g.add(name, [x, g.constant(boxes), g.constant([0, x.shape[0] - 1], np.int64)], output_height=2, output_width=3, sampling_ratio=g.one_of((0, 2)),
                     mode=g.one_of(("avg", "max")), spatial_scale=g.one_of((1.0, 0.5)))
    if name == "AffineGrid":
        return g.opset >= 20 and g.add(name, [g.constant(g.quarters((2, 2, 3))), g.constant([2, 1, 3, 4], np.int64)], align_corners=g.source.randrange(2))
    mode = g.one_of(("nearest", "linear", "linear", "cubic"))
    if mode == "cubic" and spatial != 2:
        mode = "linear"
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": g.one_of(("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"))}
    if mode == "nearest":
        attributes["nearest_mode"] = g.one_of(("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"))
    if mode == "cubic" and g.chance(2):
        attributes["cubic_coeff_a"] = -0.5
    if mode == "cubic" and g.chance(3):
        attributes["exclude_outside"] = 1
    if g.chance(3) and g.opset >= 18 and mode != "nearest":
        attributes["antialias"] = 1
    # Of sizes onnxruntime makes factors that are rounded, so that it may take the neighbour of what lies on a place.
    if mode == "nearest" or g.chance(2):
        factors = [g.one_of((1.0, 2.0, 0.5, 1.5)) for _ in range(spatial)]
        if "align" in attributes["coordinate_transformation_mode"] and not all(d and d * f % 1 == 0 for d, f in zip(x.fixed[2:], factors, strict=True)):
            return None  # where the size is rounded, onnx's own tests divide by what it was before, and onnxruntime by the rounded one
        return g.add("Resize", [x, "", g.constant([1.0, 1.0, *factors], np.float32)], **attributes)
    sizes = [g.one_of((1, 2, 3, 7)) for _ in range(spatial)]
    if x.fixed[0] is None:
        return g.opset >= 18 and g.add("Resize", [x, "", "", g.constant(sizes, np.int64)], axes=list(range(2, x.rank)), **attributes)
    return g.add("Resize", [x, "", "", g.constant([*x.shape[:2], *sizes], np.int64)], **attributes)


def recurrent(g: Growth) -> object:
    """LSTM, GRU and RNN in every direction, with their options."""
    x = g.pick(ranks=(3,))
    if x is None or not x.fixed[2] or not all(x.shape):
        return None
    name = g.one_of(("LSTM", "GRU", "RNN"))
    gates, hidden = {"LSTM": 4, "GRU": 3, "RNN": 1}[name], g.one_of((2, 3, 4))
    direction = g.one_of(("forward", "reverse", "bidirectional"))
    count = 2 if direction == "bidirectional" else 1
    operands = [x, g.constant(g.quarters((count, gates * hidden, x.shape[2]), x.dtype) / 2), g.constant(g.quarters((count, gates * hidden, hidden), x.dtype) / 2)]
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if g.chance(2):
        operands.append(g.constant(g.quarters((count, 2 * gates * hidden), x.dtype)))
        if g.chance(2) and x.is_fixed:
            operands.append(g.constant([g.source.randrange(1, x.shape[0] + 1) for _ in range(x.shape[1])], np.int32) if g.chance(2) else "")
            operands.append(g.constant(g.quarters((count, x.shape[1], hidden), x.dtype)))
    if name == "GRU":
        attributes["linear_before_reset"] = g.source.randrange(2)
    if g.chance(4):
        attributes["clip"] = 0.75
    if g.chance(4) and name == "RNN":
        attributes["activations"] = [g.one_of(("Relu", "Sigmoid", "Tanh"))] * count
    return g.add(name, operands, results=3 if name == "LSTM" and g.chance(2) else 2, **attributes)


def attention(g: Growth) -> object:
    """Attention on one tensor of four axes, with its options; rotations of positions."""
    x = g.pick(ranks=(4,))
    if x is None or g.opset < 23 or x.dtype != np.float32:
        return None
    if g.chance(3) and x.fixed[3] and x.shape[3] % 2 == 0 and x.fixed[2]:
        half = (x.shape[0], x.shape[2], x.shape[3] // 2)
        return x.is_fixed and g.add("RotaryEmbedding", [x, g.constant(g.quarters(half)), g.constant(g.quarters(half))], interleaved=g.source.randrange(2))
    attributes: dict[str, Any] = {"is_causal": g.source.randrange(2), "scale": 0.5}
    if g.chance(3):
        attributes["softcap"] = 2.0
    return g.add("Attention", [x, x, x], **attributes)


# -- quantization -----------------------------------------------------------------------------


def quantized(g: Growth) -> object:
    """Patterns of quantization: around a layer, in integers, of each channel or block of the weights."""
    x = g.pick(ranks=(2, 3, 4), exact=True)
    if x is None or x.dtype != np.float32:
        return None
    kind = g.one_of((np.uint8, np.int8))
    zero = g.constant(g.one_of((0, 3, 7)), kind)
    scale = g.constant(g.one_of((0.25, 0.125)), np.float32)
    if g.chance(5):
        return all(a.size for a in x.arrays) and g.add("DynamicQuantizeLinear", [x], results=3)
    codes = g.add("QuantizeLinear", [x, scale, zero] if not g.chance(8) else [x, scale], exact=True)
    if codes is None:
        return None
    q = codes[0]
    last = x.fixed[-1]
    match g.source.randrange(6):
        case 0 if last:
            weights = g.constant(np.asarray(g.quarters((last, 3)) * 4).astype(np.int8))
            return g.add("MatMulInteger", [q, weights, *([zero] if q.dtype == kind else [])])
        case 1 if last and q.dtype == kind:
            shape = (last, 4)
            weights = g.constant(np.abs(g.quarters(shape) * 8).astype(kind))
            return g.add("QLinearMatMul", [q, scale, zero, weights, scale, zero, scale, zero])
        case 2 if x.rank == 4 and x.fixed[1] and q.dtype == np.uint8:
            weights = g.constant(np.asarray(g.quarters((2, x.shape[1], 2, 2)) * 4).astype(np.int8))
            scales, zeros = g.constant([0.25, 0.5], np.float32), g.constant([0, 0], np.int8)
            if g.chance(2):
                return g.add("ConvInteger", [q, weights, zero], pads=[1, 0, 1, 0])
            return g.add("QLinearConv", [q, scale, zero, weights, scales, zeros, scale, zero], strides=[1, 2])
        case 3 if q.dtype == kind and x.is_fixed:
            return g.add(g.one_of(("QLinearAdd", "QLinearMul")), [q, scale, zero, q, scale, zero, g.constant(0.3719, np.float32), zero], domain="com.microsoft")
    real = g.add("DequantizeLinear", [q, scale, zero] if q.dtype == kind else [q, scale], exact=True)
    if real is None or not last:
        return real
    if x.rank == 4 and x.fixed[1] and g.chance(2):
        channels = x.shape[1]
        stored = g.constant(np.asarray(g.quarters((3, channels, 2, 2)) * 8).astype(np.int8))
        weights = g.add("DequantizeLinear", [stored, g.constant([0.25, 0.5, 0.125], np.float32), g.constant([0, 0, 0], np.int8)], exact=True, axis=0)
        out = weights and g.add("Conv", [real[0], weights[0]], exact=True)
    else:
        stored = g.constant(np.asarray(g.quarters((last, 4)) * 8).astype(np.int8))
        weights = g.add("DequantizeLinear", [stored, scale], exact=True)
        out = weights and g.add("MatMul", [real[0], weights[0]], exact=True)
    if not out:
        return None
    if g.chance(2):
        out = g.add(g.one_of(("Relu", "Clip")), out[:1] if g.chance(2) else out, exact=True) or out
    again = g.add("QuantizeLinear", [out[0], g.constant(0.3719, np.float32), zero])
    return again and g.add("DequantizeLinear", [again[0], g.constant(0.3719, np.float32), zero])


# -- sequences, strings -----------------------------------------------------------------------


def sequence(g: Growth) -> object:
    """Sequences that are made, changed and read."""
    x = g.pick(ranks=(1, 2, 3))
    if x is None:
        return None
    made, more, out = g.fresh("q"), g.fresh("q"), g.fresh()
    y = g.one_of([v for v in g.visible() if v.dtype == x.dtype and v.fixed == x.fixed])
    first = helper.make_node("SequenceConstruct", [x.name, y.name, x.name], [made])
    if g.chance(3) and x.fixed[0]:
        first = helper.make_node("SplitToSequence", [x.name], [made], axis=0, keepdims=g.source.randrange(2))
    second = g.one_of((helper.make_node("SequenceInsert", [made, y.name, g.constant(g.one_of((0, -1)), np.int64)], [more]),
                       helper.make_node("SequenceErase", [made, g.constant(g.one_of((0, -1)), np.int64)], [more]), helper.make_node("Identity", [made], [more])))
    last = g.one_of((helper.make_node("ConcatFromSequence", [more], [out], axis=0), helper.make_node("ConcatFromSequence", [more], [out], axis=0, new_axis=1),
                     helper.make_node("SequenceAt", [more, g.constant(g.one_of((0, -1)), np.int64)], [out]), helper.make_node("SequenceLength", [more], [out])))
    return g.add_nodes([first, second, last], [out], exact=x.exact and y.exact)


def text(g: Growth) -> object:
    """Strings."""
    x = g.pick(kinds="O")
    if x is None or g.chance(4):
        if g.outer is not None:
            return None
        x = g.add_input(Drawn("words", np.dtype(object), g.one_of(((3,), (2, 2)))))
    words = g.constant(np.array(["Ab c"], dtype=object))
    match g.source.randrange(5):
        case 0 if g.opset >= 20:
            return g.add("StringConcat", [x, words])
        case 1:
            return x.rank == 1 and g.add("StringNormalizer", [x], case_change_action=g.one_of(("LOWER", "UPPER", "NONE")))
        case 2 if g.opset >= 20:
            return g.add("RegexFullMatch", [x], pattern=g.one_of(("a|1", "[A-Z].*", ".")))
        case 3 if g.opset >= 19:
            return g.add("Equal", [x, words])
    return moved(g)


# -- any operator -----------------------------------------------------------------------------


def spliced(g: Growth) -> object:
    """The sound model of any operator, its operands taken from what there is where type and shape are the same."""
    if g.outer is not None:
        return None
    chosen = g.one_of(operators())
    node = onnx.NodeProto()
    node.CopyFrom(chosen.graph.node[0])
    if node.op_type in NOT_COMPARED or list(subgraphs(node)):
        return None
    names: dict[str, str] = {t.name: g.constant(numpy_helper.to_array(t)) for t in chosen.graph.initializer}
    for value in chosen.graph.input:
        tensor = value.type.tensor_type
        dims = tuple(d.dim_value for d in tensor.shape.dim)
        if not value.type.HasField("tensor_type"):
            return None
        dtype = np.dtype(object) if tensor.elem_type == TensorProto.STRING else helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if dtype.kind not in "fiubO" or dtype.isbuiltin != 1:
            return None
        same = [v for v in g.visible() if v.dtype == dtype and v.fixed == dims and (v.exact or dtype.kind != "f")]
        kind = {"f": "quarters" if len(dims) > 1 else "positive", "O": "words", "b": "bits"}.get(dtype.kind, "counts")
        names[value.name] = g.one_of(same).name if same and not g.chance(3) else g.add_input(Drawn(kind, dtype, dims)).name
    outputs = [g.fresh() if name else "" for name in node.output]
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = outputs
    return g.add_nodes([node], [o for o in outputs if o])


@functools.cache
def operators() -> list[malformed.Sound]:
    """A sound model of every operator."""
    return malformed.sound_models()


# -- control flow -----------------------------------------------------------------------------


def branch(g: Growth) -> object:
    """If on a truth value that is computed, given or stored; its branches read what is around."""
    flag = g.pick(kinds="b", ranks=(0,))
    if flag is None and g.outer is None:
        flag = g.add_input(Drawn("bits", np.dtype(bool), ()))
    if flag is None:
        return None
    bodies = [grown(g) for _ in range(2)]
    for wanted in reversed(bodies[0].known):
        fitting = [v for v in bodies[1].known if v.dtype == wanted.dtype and v.fixed == wanted.fixed]
        if fitting:
            chosen = g.one_of(fitting)
            exact = wanted.exact and chosen.exact
            return g.add("If", [flag], exact=exact, then_branch=bodies[0].body_graph([], [wanted]), else_branch=bodies[1].body_graph([], [chosen]))
    return None


def grown(g: Growth) -> Growth:
    """A body with a few nodes."""
    body = g.body()
    depth, around = 0, g
    while around.outer is not None:
        depth, around = depth + 1, around.outer
    for _ in range(g.source.randrange(1, 5)):
        g.one_of(IN_BODIES if depth == 0 else SIMPLE)(body)
    for v in ([g.pick()] if not body.known else []):
        if v is not None:
            body.add("Identity", [v], exact=v.exact)
    return body


def loop(g: Growth) -> object:
    """Loop with a state, a trip count that is stored or given, an end that may come early, and results that it collects."""
    state = g.pick(ranks=(0, 1, 2, 3))
    if state is None:
        return None
    body = g.body()
    i, go, carried = g.fresh("i"), g.fresh("b"), g.fresh("s")
    probes = len(g.probes)
    body.known += [Known(i, (np.array(1),) * probes, True), Known(go, (np.array(True),) * probes, True), Known(carried, state.arrays, False)]
    for _ in range(g.source.randrange(1, 4)):
        g.one_of(SIMPLE)(body)
    following = [v for v in body.known if v.dtype == state.dtype and v.fixed == state.fixed]
    ends = body.add("Less", [body.known[0], g.constant(g.one_of((1, 2, 9)), np.int64)]) if g.chance(3) else body.add("Identity", [body.known[1]])
    if ends is None:
        return None
    out = [following[-1]]
    collected = [v for v in body.known[3:] if v.is_fixed]
    static = g.chance(2)
    if collected and (static or g.chance(3)):
        out.append(g.one_of(collected))
    trips: Known | str = g.constant(g.one_of((1, 2, 3)), np.int64)
    if not static and g.outer is None:
        trips = g.add_input(Drawn("counts", np.dtype(np.int64), (), 3))
    graph = body.body_graph([helper.make_tensor_value_info(i, TensorProto.INT64, []), helper.make_tensor_value_info(go, TensorProto.BOOL, []),
                             helper.make_tensor_value_info(carried, helper.np_dtype_to_tensor_dtype(state.dtype), [None] * state.rank)], [ends[0], *out])
    return g.add("Loop", [trips, g.constant(True), state], results=len(out), body=graph)


def scan(g: Growth) -> object:
    """Scan over an axis, with a state."""
    x, state = g.pick(ranks=(2, 3)), g.pick(ranks=(0, 1, 2))
    if x is None or state is None or not all(a.shape[0] for a in x.arrays):
        return None
    body = g.body()
    carried, row = g.fresh("s"), g.fresh("r")
    body.known += [Known(carried, state.arrays, False), Known(row, tuple(a[0] for a in x.arrays), x.exact)]
    for _ in range(g.source.randrange(1, 4)):
        g.one_of(SIMPLE)(body)
    following = [v for v in body.known if v.dtype == state.dtype and v.fixed == state.fixed]
    copied = body.add("Identity", [following[-1]])
    if copied is None:
        return None
    graph = body.body_graph([helper.make_tensor_value_info(carried, helper.np_dtype_to_tensor_dtype(state.dtype), [None] * state.rank),
                             helper.make_tensor_value_info(row, helper.np_dtype_to_tensor_dtype(x.dtype), [None] * (x.rank - 1))], [copied[0], body.known[-2]])
    more = {"scan_input_directions": [1]} if g.chance(3) else {}
    return g.add("Scan", [state, x], results=2, body=graph, num_scan_inputs=1, **more)


SIMPLE = (unary, unary, binary, binary, binary, rounded, integer, compared, cast, reduced, reduced, moved, moved, product, normalization)
"""What may be in bodies within bodies."""
IN_BODIES = (*SIMPLE, moved, indexed, ranged, quantized, convolution, pool, branch, loop, scan)
RECIPES = (*SIMPLE, moved, moved, indexed, indexed, ranged, through_bfloat16, convolution, convolution, pool, resized, resized, recurrent, attention, transformed, transformed,
           quantized, quantized, quantized, spliced, spliced, spliced, sequence, text, branch, branch, loop, loop, scan)
