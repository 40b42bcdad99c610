"""Operators on quantized numbers beside what they mean, over random weights and numbers."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benches.literal import has_operators, literal
from benches.ties import compared


def small_network():
    """Two convolutions, their sum, a concatenation, a product, a mean and a matrix product; scales that make ties."""
    random = np.random.default_rng(4)
    weights = {
        "xs": np.float32(0.0625), "xz": np.uint8(120), "ws": random.choice(np.array([0.5, 0.25, 0.013], np.float32), 6), "wz": np.zeros(6, np.int8),
        "b": random.integers(-900, 900, 6).astype(np.int32), "ys": np.float32(2.0), "yz": np.uint8(101),
        "zs": np.float32(3.1), "zz": np.uint8(99), "ms": np.float32(30.0), "gw": random.integers(-127, 128, (6, 5)).astype(np.int8),
        "gs": random.random(5).astype(np.float32), "gz": np.zeros(5, np.int8), "gb": random.integers(-90, 90, 5).astype(np.int32),
    }
    for name, channels in (("v", 3), ("w", 6)):
        weights[name] = random.integers(-127, 128, (6, channels, 3, 3)).astype(np.int8)
    y, z = ["ys", "yz"], ["zs", "zz"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("QLinearConv", ["q", "xs", "xz", "v", "ws", "wz", *y, "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("QLinearConv", ["c", *y, "w", "ws", "wz", *z], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node("QLinearAdd", ["c", *y, "d", *z, *z], ["a"], domain="com.microsoft"),
        helper.make_node("QLinearMul", ["a", *z, "c", *y, "ms", "yz"], ["m"], domain="com.microsoft"),
        helper.make_node("QLinearConcat", [*y, "m", "ms", "yz", "a", *z], ["k"], domain="com.microsoft", axis=1),
        helper.make_node("QLinearGlobalAveragePool", ["a", *z, *z], ["g"], domain="com.microsoft", channels_last=0),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("QGemm", ["f", *z, "gw", "gs", "gz", "gb", *z], ["h"], domain="com.microsoft"),
        helper.make_node("DequantizeLinear", ["h", *z], ["out"]),
        helper.make_node("DequantizeLinear", ["k", *y], ["more"]),
    ]
    graph = helper.make_graph(nodes, "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 7, 9))],
                              [helper.make_tensor_value_info("out", TensorProto.FLOAT, (1, 5)), helper.make_tensor_value_info("more", TensorProto.FLOAT, (1, 12, 7, 9))],
                              [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)], ir_version=8)


def test_numbers_differ_at_ties_only(tmp_path):
    path = tmp_path / "small.onnx"
    path.write_bytes(small_network().SerializeToString())
    report = compared(path)
    pixels = 7 * 9 * 6
    assert not report.problems
    assert report.compared == 4 * pixels + 2 * pixels + 6 + 5


def test_operators_become_what_they_mean():
    model = small_network()
    meaning = literal(model)
    assert has_operators(model) and not has_operators(meaning)
    onnx.checker.check_model(meaning)
    kinds = [node.op_type for node in meaning.graph.node]
    assert kinds.count("QuantizeLinear") == 8 and {"Conv", "Add", "Mul", "Concat", "GlobalAveragePool", "Gemm"} <= set(kinds)
