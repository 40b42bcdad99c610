"""Operators of onnxruntime, and quantized ones, with open dimensions: imported once, they agree with onnxruntime at all corners."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgecc.frontend import import_model
from edgecc.frontend.bind import Range
from edgecc.ir.instance import graph_at, graph_symbols
from edgecc.ir.verify import verify
from edgecc.reference.executor import execute, sample_inputs
from tests.support import onnxruntime_sessions

MS = {"domain": "com.microsoft"}
F32, U8, I64, I32 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64, TensorProto.INT32
RANDOM = np.random.default_rng(5)
BATCH, ROWS, PAST = Range(1, 2), Range(1, 5), Range(0, 4)


def floats(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def nodes_to_model(nodes, inputs, outputs, constants):
    """`nodes`: (operator, operands, results, attributes); `inputs`: name -> (type, dims); `outputs`: name -> type."""
    graph = helper.make_graph(
        [helper.make_node(op, ins.split(" "), outs.split(" "), **attributes) for op, ins, outs, attributes in nodes], "g",
        [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)], ir_version=10)


def agrees(proto, shapes, *, apart=0):
    """`apart`: by how much integers may differ."""
    graph = import_model(proto, shapes=shapes)
    verify(graph)
    symbols = graph_symbols(graph)
    assert symbols
    session = onnxruntime_sessions.session(proto, optimized=True)
    for chosen in itertools.product(*({s.lower, (s.lower + s.upper) // 2, s.upper} for s in symbols)):
        sizes = {s.name: size for s, size in zip(symbols, chosen, strict=True)}
        inputs = sample_inputs(graph, 1, sizes)
        inputs |= {name: np.ones_like(array) for name, array in inputs.items() if name == "mask"}
        if not any(node.regions for node in graph.nodes):
            verify(graph_at(graph, sizes)[0])
        wanted = session.run(None, {i.name: inputs[i.name] for i in session.get_inputs()})
        for got, want in zip(execute(graph, inputs).values(), wanted, strict=True):
            assert got.shape == want.shape, sizes
            np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=0, atol=apart or 1e-4, err_msg=str(sizes))


SHARED_CACHE = [("ReduceSum", "mask one", "count", {"keepdims": 1}), ("Sub", "count one", "last", {}), ("Cast", "last", "lengths", {"to": I32}),
                ("Shape", "mask", "size", {}), ("Gather", "size second", "all", {}), ("Cast", "all", "total", {"to": I32})]
HALF_TURNS = {"cos": np.cos(np.arange(20)[:, None] * 0.7 ** np.arange(8)).astype(np.float32), "sin": np.sin(np.arange(20)[:, None] * 0.7 ** np.arange(8)).astype(np.float32)}
SHARED_CACHE_INPUTS = {"q": (F32, ["b", "s", 64]), "k": (F32, ["b", "s", 32]), "v": (F32, ["b", "s", 32]), "mask": (I64, ["b", "t"]),
                       "pk": (F32, ["b", 2, "p", 16]), "pv": (F32, ["b", 2, "p", 16])}
SHARED_CACHE_CONSTANTS = {"one": np.array([1]), "second": np.int64(1), **HALF_TURNS}


@pytest.mark.parametrize("attributes", [{"do_rotary": 1}, {"local_window_size": 3, "do_rotary": 1, "rotary_interleaved": 1}, {"softcap": 5.0}])
@pytest.mark.parametrize(("batch", "rows"), [(1, ROWS), (2, 1)])  # onnxruntime takes several rows of one sequence only
def test_heads_that_share_a_cache(batch, rows, attributes):
    operands = "q k v pk pv lengths total" + (" cos sin" if attributes.get("do_rotary") else "")
    nodes = [*SHARED_CACHE, ("GroupQueryAttention", operands, "y k2 v2", {"num_heads": 4, "kv_num_heads": 2, **attributes, **MS})]
    agrees(nodes_to_model(nodes, SHARED_CACHE_INPUTS, dict.fromkeys(("y", "k2", "v2"), F32), SHARED_CACHE_CONSTANTS),
           {"b": (batch,), "s": (rows,), "p": (PAST,), "t": ("p + s",)})


ATTENTION = {"w": floats(8, 24), "bias": floats(24)}
MULTI_HEAD = {"q": (F32, ["b", "s", 8]), "k": (F32, ["b", "t", 8]), "v": (F32, ["b", "t", 8])}
CASES = {
    "attention, causal, past": (
        [("Attention", "x w bias  past", "y present", {"num_heads": 2, "unidirectional": 1, **MS})],
        {"x": (F32, ["b", "s", 8]), "past": (F32, [2, "b", 2, "p", 4])}, {"y": F32, "present": F32}, ATTENTION, {"b": BATCH, "s": ROWS, "p": PAST}),
    "attention, mask": ([("Attention", "x w bias mask", "y", {"num_heads": 2, **MS})],
                        {"x": (F32, ["b", "s", 8]), "mask": (I32, ["b", "s"])}, {"y": F32}, ATTENTION, {"b": BATCH, "s": ROWS}),
    "multi-head attention": ([("MultiHeadAttention", "q k v bias", "y", {"num_heads": 2, **MS})], MULTI_HEAD, {"y": F32}, {"bias": floats(24)},
                             {"b": BATCH, "s": ROWS, "t": Range(1, 3)}),
    "multi-head attention, causal, past": (
        [("MultiHeadAttention", "q k v    pk pv", "y k2 v2", {"num_heads": 2, "unidirectional": 1, **MS})],
        {**{name: (F32, ["b", "s", 8]) for name in "qkv"}, "pk": (F32, ["b", 2, "p", 4]), "pv": (F32, ["b", 2, "p", 4])},
        {"y": F32, "k2": F32, "v2": F32}, {}, {"b": BATCH, "s": ROWS, "p": Range(1, 4)}),
    "rotary embedding": ([("RotaryEmbedding", "x first cos sin", "y", {"num_heads": 2, **MS})], {"x": (F32, ["b", "s", 32])}, {"y": F32},
                         {"first": np.array([3]), **HALF_TURNS}, {"b": BATCH, "s": ROWS}),
    "skip normalization": ([("SkipLayerNormalization", "x r g h", "y m i t", {**MS}), ("SkipSimplifiedLayerNormalization", "t r g", "z", {**MS})],
                           {"x": (F32, ["b", "s", 8]), "r": (F32, ["b", "s", 8])}, {"y": F32, "z": F32}, {"g": floats(8), "h": floats(8)},
                           {"b": BATCH, "s": ROWS}),
    "embedding": ([("EmbedLayerNormalization", "ids  words places  g h", "y count", {**MS})], {"ids": (I32, ["b", "s"])}, {"y": F32, "count": I32},
                  {"words": floats(9, 8), "places": floats(6, 8), "g": floats(8), "h": floats(8)}, {"b": BATCH, "s": ROWS}),
    "product of integers": ([("DynamicQuantizeLinear", "x", "q s z", {}), ("MatMulInteger", "q w z", "y", {})], {"x": (F32, ["b", "s", 8])}, {"y": I32},
                            {"w": RANDOM.integers(-99, 99, (8, 5), np.int8)}, {"b": BATCH, "s": ROWS}),
    "quantized product": (
        [("Transpose", "x", "rows", {"perm": [0, 2, 1]}), ("QuantizeLinear", "rows sa z", "q", {}), ("QLinearMatMul", "q sa z w sb zb sa z", "p", {}), ("QLinearSoftmax", "p sa z so z", "y", {"opset": 13, **MS})],
        {"x": (F32, ["b", 8, "s"])}, {"y": U8}, {"w": RANDOM.integers(-99, 99, (8, 8), np.int8), "sa": np.float32(0.03), "sb": floats(8) ** 2 + 0.01,
                                                "zb": np.zeros(8, np.int8), "z": np.uint8(128), "so": np.float32(1 / 256)}, {"b": BATCH, "s": ROWS}),
    "quantized mean": ([("QuantizeLinear", "x sa z", "q", {}), ("QLinearGlobalAveragePool", "q sa z sa z", "y", {**MS})],
                       {"x": (F32, [1, 3, "s", "b"])}, {"y": U8}, {"sa": np.float32(0.03), "z": np.uint8(128)}, {"s": ROWS, "b": BATCH}),
    "rows of few bits": ([("GatherBlockQuantized", "w ids s", "y", {"block_size": 16, "bits": 4, "quantize_axis": 1, **MS})],
                         {"ids": (I64, ["b", "s"])}, {"y": F32}, {"w": RANDOM.integers(0, 256, (7, 16), np.uint8), "s": floats(7, 2)}, {"b": BATCH, "s": ROWS}),
    "experts": ([("MatMul", "x r", "a", {}), ("Reshape", "a rows", "p", {}), ("MoE", "x p w1  w2", "y", {"k": 2, "activation_type": "silu", **MS})],
                {"x": (F32, ["b", "s", 8])}, {"y": F32}, {"r": floats(8, 4), "rows": np.array([-1, 4]), "w1": floats(4, 6, 8), "w2": floats(4, 8, 6)},
                {"b": BATCH, "s": ROWS}),
    "linear attention of a step": ([("LinearAttention", "x x x p g beta", "y state", {"q_num_heads": 2, "kv_num_heads": 2, **MS})],
                                   {"x": (F32, ["b", 1, 8]), "p": (F32, ["b", 2, 4, 4]), "g": (F32, ["b", 1, 2]), "beta": (F32, ["b", 1, 2])}, {"y": F32, "state": F32}, {},
                                   {"b": BATCH}),
    "quantized channels": ([("QuantizeLinear", "x s z", "q", {"axis": 1}), ("DequantizeLinear", "q s z", "y", {"axis": 1})], {"x": (F32, ["b", 3, "s"])}, {"y": F32},
                           {"s": np.float32([0.1, 0.2, 0.3]), "z": np.uint8([7, 128, 200])}, {"b": BATCH, "s": ROWS}),
    "linear attention": ([("LinearAttention", "x x x p g beta", "y state", {"q_num_heads": 2, "kv_num_heads": 2, **MS})],
                         {"x": (F32, ["b", "s", 8]), "p": (F32, ["b", 2, 4, 4]), "g": (F32, ["b", "s", 2]), "beta": (F32, ["b", "s", 2])}, {"y": F32, "state": F32}, {},
                         {"b": BATCH, "s": ROWS}),
    "causal convolution": ([("CausalConvWithState", "x w  p", "y state", {"activation": "silu", **MS})], {"x": (F32, ["b", 3, "s"]), "p": (F32, ["b", 3, 2])},
                           {"y": F32, "state": F32}, {"w": floats(3, 1, 3)}, {"b": BATCH, "s": ROWS}),
    "weights of few bits": ([("MatMulNBits", "x w s", "y", {"K": 32, "N": 3, "block_size": 32, **MS})], {"x": (F32, ["b", "s", 32])}, {"y": F32},
                            {"w": RANDOM.integers(0, 256, (3, 1, 16), np.uint8), "s": floats(3)}, {"b": BATCH, "s": ROWS}),
}


@pytest.mark.parametrize("case", CASES)
def test_open_dimensions(case):
    nodes, inputs, outputs, constants, ranges = CASES[case]
    agrees(nodes_to_model(nodes, inputs, outputs, constants), {name: (size,) for name, size in ranges.items()}, apart=1 if U8 in outputs.values() else 0)


@pytest.mark.parametrize(("kind", "low"), [(TensorProto.UINT8, 0), (TensorProto.INT8, -128), (TensorProto.INT32, -1000)])
@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners"])
def test_interpolated_integers(kind, low, coordinates):
    pixels = RANDOM.integers(low, low + 256, (1, 2, 5, 6)).astype(helper.tensor_dtype_to_np_dtype(kind))
    node = ("Resize", "x   sizes", "y", {"mode": "linear", "coordinate_transformation_mode": coordinates})
    proto = nodes_to_model([node], {"x": (kind, [1, 2, 5, 6])}, {"y": kind}, {"sizes": np.array([1, 2, 10, 15])})
    (want,) = onnxruntime_sessions.run(proto, {"x": pixels})
    got = execute(import_model(proto), {"x": pixels})["y"]
    assert got.dtype == want.dtype
    # Both compute in float, in another order, and cut off: what is a whole number but for rounding may become the next one.
    np.testing.assert_allclose(got.astype(np.int64), want.astype(np.int64), rtol=0, atol=1)
    assert np.mean(got == want) > 0.8
