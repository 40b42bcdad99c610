"""Networks with open dimensions, compiled once and run at the corners of their bounds and between."""

from __future__ import annotations

import itertools
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgecc
from edgecc.artifact.load import load
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.frontend.bind import Range
from edgecc.ir.instance import graph_symbols
from edgecc.lowering import lower_graph
from edgecc.lowering.options import LoweringOptions
from edgecc.pipeline import compile_graph, emit_c
from edgecc.reference.executor import execute, sample_inputs
from edgecc.targets.schema import load_target
from tests.support.ccompile import require
from tests.support.onnx_models import model


def agrees(proto, shapes, *, target="host", isolated=False, flags=(), tolerance=2e-5):
    """Compiles once, and compares with the reference at small, odd and large sizes."""
    graph = import_model(proto, shapes=shapes)
    compiled = compile_graph(graph, load_target(target), name="net")
    lower_graph(compiled.graph, load_target(target), name="net", options=LoweringOptions(verified=True))
    symbols = graph_symbols(graph)
    choices = [sorted({s.lower, min(s.lower + 1, s.upper), (s.lower + s.upper) // 2 | 1, s.upper}) for s in symbols]
    with load(emit_c(compiled), cc="gcc" if target == "host" else None, isolated=isolated, flags=flags) as built:
        for chosen in itertools.product(*choices):
            sizes = {s.name: size for s, size in zip(symbols, chosen, strict=True)}
            inputs = sample_inputs(graph, 1, sizes)
            results = built.run(inputs)
            for name, want in execute(graph, inputs).items():
                assert results[name].shape == want.shape and results[name].dtype == want.dtype
                np.testing.assert_allclose(results[name], want, rtol=tolerance, atol=tolerance, err_msg=f"{name} at {sizes}")
    return compiled


CASES = {
    "relu, outermost": ([("Relu", "x", "y", {})], {"x": ["n", 5]}),
    "add, inner, in place": ([("Add", "x x", "a", {}), ("Mul", "a x", "y", {})], {"x": [3, "n"]}),
    "softmax along an open axis": ([("Softmax", "x", "y", {"axis": -1})], {"x": ["m", 3, "n"]}),
    "softmax across an open axis": ([("Softmax", "x", "y", {"axis": 1})], {"x": ["m", 3, "n"]}),
    "mean over an open axis": ([("ReduceMean", "x", "y", {"keepdims": 0})], {"x": ["m", 3, "n"]}),
    "max over a middle axis": ([("ReduceMax", "x a", "y", {"keepdims": 0})], {"x": ["m", "n", 5]}),
    "layer normalization": ([("LayerNormalization", "x s", "y", {})], {"x": ["m", "n", 17]}),
    "transposition": ([("Transpose", "x", "t", {"perm": [2, 0, 1]}), ("Add", "t t", "y", {})], {"x": ["m", 3, "n"]}),
    "broadcast": ([("Transpose", "x", "t", {"perm": [1, 0]}), ("Add", "x t", "y", {})], {"x": ["n", "n"]}),
    "join and split": ([("Concat", "x x", "c", {"axis": 1}), ("Relu", "c", "y", {})], {"x": ["m", "n", 2]}),
    "reshape that merges open axes": ([("Relu", "x", "r", {}), ("Flatten", "r", "f", {"axis": 2}), ("Neg", "f", "y", {})],
                                      {"x": ["m", "n", 3]}),
    "slice from the end": ([("Slice", "x last big a", "s", {}), ("Relu", "s", "y", {})], {"x": ["m", "n", 3]}),
    "gather": ([("Shape", "x", "s", {}), ("Gather", "s a", "d", {}), ("Gather", "x zero", "g", {"axis": 1}),
                ("Cast", "d", "f", {"to": 1}), ("Mul", "g f", "y", {})], {"x": ["m", "n", 3]}),
    "product, open rows": ([("MatMul", "x w", "p", {}), ("Relu", "p", "r", {}), ("MatMul", "r v", "y", {})], {"x": ["m", "n", 24]}),
    "product, open rows and columns": ([("Transpose", "x", "t", {"perm": [0, 2, 1]}), ("MatMul", "x t", "p", {}), ("Add", "p k", "y", {})],
                                       {"x": ["m", "n", 24], "k": ["m", 1, "n"]}),
    "product, columns of an operand with gaps": (
        [("Transpose", "x", "t", {"perm": [0, 2, 1]}), ("Transpose", "k", "b", {"perm": [2, 0, 1]}), ("MatMul", "x t", "p", {}), ("Add", "p b", "y", {})],
        {"x": [3, "n", 24], "k": ["n", "n", 3]}),
    "what is not 0, and how much": ([("Relu", "x", "r", {}), ("NonZero", "r", "places", {}), ("Transpose", "places", "at", {"perm": [1, 0]}),
                                     ("GatherND", "x at", "y", {})], {"x": ["m", "n", 3]}),
    "product, open terms": ([("MatMul", "p x", "y", {})], {"p": ["m", "n", "n"], "x": ["m", "n", 24]}),
    "product, few open terms": ([("MatMul", "p x", "y", {})], {"p": ["few", "few"], "x": ["few", 24]}),
    "product, all sizes open": ([("MatMul", "p x", "y", {})], {"p": ["m", "n", "few"], "x": ["m", "few", "n"]}),
    "flip of axes, one of them open": ([("Slice", "x ends far axes back", "y", {})], {"x": ["m", "n", 5]}),
    "flip of an open axis": ([("Relu", "x", "r", {}), ("Slice", "r one_back far1 a minus", "s1", {}), ("Add", "s1 r", "y", {})], {"x": ["m", "n", 3]}),
    "flip of a part that begins where the size of another axis says": (
        [("Shape", "x", "d", {"end": 1}), ("Sub", "d two", "e", {}), ("Slice", "x d e a minus", "y", {})], {"x": ["n", 40]}),
    "diagonal": ([("EyeLike", "x", "e", {"k": -1}), ("Mul", "e x", "y", {})], {"x": ["m", "n"]}),
    "mask of a dropout": ([("Dropout", "x", "z y", {})], {"x": ["m", "n"]}),
    "attention of one row": ([("Transpose", "k", "t", {"perm": [0, 2, 1]}), ("MatMul", "q t", "s1", {}), ("Softmax", "s1", "p", {}),
                              ("MatMul", "p k", "y", {})], {"q": [4, 1, 8], "k": [4, "n", 8]}),
}
CONSTANTS = {"w": np.linspace(-1, 1, 24 * 40, dtype=np.float32).reshape(24, 40),
             "v": np.linspace(1, -1, 40 * 13, dtype=np.float32).reshape(40, 13), "a": np.array([1]), "s": np.ones(17, np.float32), "last": np.array([-2]), "big": np.array([99]), "zero": np.int64(0),
             "ends": np.array([-1, -1]), "far": np.array([-99, -99]), "axes": np.array([1, 2]), "back": np.array([-1, -2]), "one_back": np.array([-1]), "far1": np.array([-99]), "minus": np.array([-1]), "two": np.array([2])}
BOUNDS = {"m": (Range(1, 3),), "n": (Range(2, 37),)}
FEW_BOUNDS = BOUNDS | {"few": (Range(1, 6),)}


def case(name):
    nodes, inputs = CASES[name]
    read = {operand for _, ins, _, _ in nodes for operand in ins.split()}
    made = {result for _, _, outs, _ in nodes for result in outs.split()}
    dims = {dim for shape in inputs.values() for dim in shape}
    return (model(nodes, inputs, constants={n: c for n, c in CONSTANTS.items() if n in read - made - set(inputs)}),
            {n: r for n, r in FEW_BOUNDS.items() if n in dims})


def test_products_of_open_sizes_are_computed_in_vectors():
    proto, shapes = case("product, all sizes open")
    calls = compile_graph(import_model(proto, shapes=shapes), load_target("cortex-a76"), name="net").lowered.calls
    assert any("packed at run time" in call.choice and "vectors of 4" in call.choice for call in calls)


@pytest.mark.parametrize("name", CASES)
def test_one_artifact_runs_at_every_size(name):
    agrees(*case(name))


def test_batches_of_images():
    """Convolutions, pools and resizing run once for each member; the layers behind them on all members."""
    nodes = [("Conv", "x k", "c", {"pads": [1, 1, 1, 1]}), ("Relu", "c", "r", {}), ("Conv", "r d", "e", {"group": 6, "strides": [2, 2]}),
             ("MaxPool", "e", "m", {"kernel_shape": [2, 2]}), ("GlobalAveragePool", "m", "g", {}), ("Flatten", "g", "f", {}),
             ("Gemm", "f w6", "y", {}), ("Resize", "e  scales", "z", {"mode": "linear"})]
    generator = np.random.default_rng(0)
    constants = {"k": generator.standard_normal((6, 3, 3, 3)).astype(np.float32), "w6": generator.standard_normal((6, 5)).astype(np.float32),
                 "d": generator.standard_normal((6, 1, 3, 3)).astype(np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    agrees(model(nodes, {"x": ["n", 3, 11, 9]}, ("y", "z"), constants=constants), {"n": (Range(1, 4),)})


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
def test_images_of_any_size(target):
    """Dense and depthwise convolutions with borders and strides, pools, a residual sum and a mean over the image."""
    generator = np.random.default_rng(0)
    nodes = [("Conv", "x k", "c", {"pads": [1, 1, 1, 1], "strides": [2, 2]}), ("Relu", "c", "r", {}),
             ("Conv", "r d", "e", {"group": 20, "pads": [1, 2, 1, 0], "dilations": [1, 1]}), ("Conv", "e o", "f", {}), ("Add", "f r", "s1", {}),
             ("MaxPool", "s1", "m", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
             ("AveragePool", "m", "y", {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1]}), ("GlobalAveragePool", "y", "z", {})]
    constants = {"k": generator.standard_normal((20, 3, 3, 3)).astype(np.float32), "d": generator.standard_normal((20, 1, 3, 3)).astype(np.float32),
                 "o": generator.standard_normal((20, 20, 1, 1)).astype(np.float32)}
    agrees(model(nodes, {"x": [1, 3, "h", "w"]}, ("y", "z"), constants=constants), {"h": (Range(5, 19),), "w": (Range(6, 40),)},
           target=target)


@pytest.mark.parametrize("storage_order", [0, 1])
def test_positions_of_maxima_in_images_of_any_size(storage_order):
    """Also behind the padding, where sizes are rounded up, and put back by MaxUnpool."""
    nodes = [("MaxPool", "x", "m i", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1, "storage_order": storage_order}),
             ("MaxPool", "x", "p j", {"kernel_shape": [2, 2], "strides": [2, 2]}), ("MaxUnpool", "p j", "u", {"kernel_shape": [2, 2], "strides": [2, 2]}),
             ("MaxPool", "x", "q k", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1})]
    agrees(model(nodes, {"x": ["n", 3, "h", "w"]}, ("i", "u", "k")), {"n": (Range(1, 2),), "h": (Range(4, 8, 2),), "w": (Range(4, 12, 4),)})


def test_averages_that_count_padding_but_nothing_behind_it():
    nodes = [("AveragePool", "x", "y", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1, "count_include_pad": 1})]
    agrees(model(nodes, {"x": ["n", 3, "h", "w"]}), {"n": (Range(1, 2),), "h": (Range(2, 9),), "w": (Range(4, 11),)})


def test_windows_that_move_in_images_of_any_size():
    random = np.random.default_rng(1)
    nodes = [("Conv", "x o", "moves", {"pads": [1, 1, 1, 1], "strides": [1, 2]}), ("DeformConv", "x w moves", "y", {"pads": [1, 1, 1, 1], "strides": [1, 2]})]
    proto = model(nodes, {"x": ["n", 2, "h", "w2"]}, constants={"o": random.standard_normal((18, 2, 3, 3)).astype(np.float32),
                                                                "w": random.standard_normal((3, 2, 3, 3)).astype(np.float32)})
    proto.opset_import[0].version = 20
    agrees(proto, {"n": (Range(1, 2),), "h": (Range(1, 5),), "w2": (Range(1, 8),)})


def test_batches_of_matrices_and_of_windows():
    nodes = [("Det", "x", "y", {}), ("Reshape", "x rows", "r", {}), ("Col2Im", "r size block", "z", {})]
    agrees(model(nodes, {"x": ["n", 4, 4]}, ("y", "z"), constants={"rows": np.array([0, 8, 2]), "size": np.array([2, 3]), "block": np.array([2, 2])}), {"n": (Range(1, 4),)})


def test_batches_of_samples():
    """Images read at positions that are computed, deformable convolutions and trees, for batches of any size."""
    random = np.random.default_rng(1)
    trees = {"n_targets": 2, "nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [1, 0, 0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
             "nodes_values": [0.1, 0.0, 0.0], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0], "target_treeids": [0, 0],
             "target_nodeids": [1, 2], "target_ids": [0, 1], "target_weights": [1.5, -2.0], "domain": "ai.onnx.ml"}
    nodes = [("Conv", "x o", "moves", {"pads": [1, 1, 1, 1]}), ("DeformConv", "x w moves", "d", {"pads": [1, 1, 1, 1]}),
             ("Conv", "x g", "planes", {}), ("Transpose", "planes", "grid", {"perm": [0, 2, 3, 1]}), ("GridSample", "d grid", "y", {}),
             ("ReduceMean", "d axes", "m", {"keepdims": 0}), ("TreeEnsembleRegressor", "m", "z", trees)]
    constants = {"o": random.standard_normal((18, 2, 3, 3)).astype(np.float32), "w": random.standard_normal((3, 2, 3, 3)).astype(np.float32),
                 "g": random.standard_normal((2, 2, 1, 1)).astype(np.float32), "axes": np.array([2, 3])}
    proto = model(nodes, {"x": ["n", 2, 6, 5]}, ("y", "z"), constants=constants)
    proto.opset_import[0].version = 20
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    agrees(proto, {"n": (Range(1, 3),)})


def test_batches_of_sequences():
    generator = np.random.default_rng(0)
    constants = {"w": generator.standard_normal((1, 16, 3)).astype(np.float32), "r": generator.standard_normal((1, 16, 4)).astype(np.float32)}
    agrees(model([("LSTM", "x w r", "y h", {"hidden_size": 4})], {"x": [5, "n", 3]}, ("y", "h"), constants=constants), {"n": (Range(1, 4),)})


@pytest.mark.parametrize(("op", "gates", "direction"), [("LSTM", 4, "reverse"), ("GRU", 3, "bidirectional")])
def test_sequences_of_any_length(op, gates, direction):
    generator = np.random.default_rng(0)
    both = 2 if direction == "bidirectional" else 1
    constants = {"w": generator.standard_normal((both, gates * 5, 3)).astype(np.float32),
                 "r": generator.standard_normal((both, gates * 5, 5)).astype(np.float32)}
    agrees(model([(op, "x w r", "y h", {"hidden_size": 5, "direction": direction})], {"x": ["t", "n", 3]}, ("y", "h"), constants=constants),
           {"n": (Range(1, 3),), "t": (Range(1, 9),)})


@pytest.mark.parametrize("name", ["product, open rows and columns", "softmax along an open axis"])
def test_vectors_of_other_machines(name):
    agrees(*case(name), target="cortex-a76")


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
def test_weights_of_few_bits(target):
    """Products in float and in integers, with zero points and without; channels that leave a vector partly empty, terms a block."""
    random, domain = np.random.default_rng(3), {"domain": "com.microsoft"}
    nodes, constants = [], {}
    for index, (bits, block, level, zeros) in enumerate([(4, 16, 0, True), (4, 32, 4, True), (8, 64, 4, False)]):
        depth, blocks, channels = 70, -(-70 // block), 37
        constants |= {f"w{index}": random.integers(0, 256, (channels, blocks, block * bits // 8), np.uint8),
                      f"s{index}": random.random(channels * blocks).astype(np.float32) / 10,
                      f"z{index}": random.integers(0, 256, channels * -(-blocks * bits // 8), np.uint8)}
        nodes.append(("MatMulNBits", f"x w{index} s{index}" + (f" z{index}" if zeros else ""), f"y{index}",
                      {"K": depth, "N": channels, "bits": bits, "block_size": block, "accuracy_level": level, **domain}))
    read = {operand for _, operands, _, _ in nodes for operand in operands.split()}
    proto = model(nodes, {"x": ["m", "n", 70]}, [f"y{index}" for index in range(3)], constants={n: c for n, c in constants.items() if n in read})
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    agrees(proto, {"m": (Range(1, 2),), "n": (Range(1, 7),)}, target=target, tolerance=1e-4)


def test_growing_cache():
    nodes = [("Concat", "a b", "c", {"axis": 1}), ("Relu", "c", "y", {})]
    proto = model(nodes, {"a": ["m", "past", 2], "b": ["m", "past + 1", 2]})
    agrees(proto, {"past": (Range(0, 4),), "m": (Range(1, 2),)})


def test_sizes_that_do_not_fit_are_refused_by_the_code():
    graph = import_model(model([("Add", "x z", "y", {})], {"x": [2, "n"], "z": [2, "n"]}), shapes={"n": (Range(2, 9),)})
    with load(emit_c(compile_graph(graph, load_target("host"), name="net"))) as built:
        assert str(built.inputs[0]) == "float32[2,2..9]"
        for dims, other in ((3, 4), (10, 10), (1, 1)):
            with pytest.raises(EdgeccError) as raised:
                built.run({"x": np.zeros((2, dims), np.float32), "z": np.zeros((2, other), np.float32)})
            assert raised.value.code == "E005"


def test_every_size_that_a_size_was_not_read_from_is_checked():
    graph = import_model(model([("Add", "x z", "y", {})], {"x": [2, "n"], "z": [2, "n"]}), shapes={"n": (Range(4, 12, 4),)})
    text = emit_c(compile_graph(graph, load_target("generic-c"), name="net")).files["net.c"].decode()
    checks = [line.strip() for line in text.splitlines() if "_dims[" in line and "return 6" in line]
    size = re.escape(re.search(r"const int64_t (\w+) = in->x_dims\[1\] / 4;", text)[1])
    assert re.fullmatch(rf"if \(in->x_dims\[0\] != 2 \|\| in->x_dims\[1\] != \({size} \* 4\)\) return 6;", checks[0]), checks
    assert re.fullmatch(rf"if \(in->z_dims\[0\] != 2 \|\| in->z_dims\[1\] != \({size} \* 4\)\) return 6;", checks[1]), checks
    graph = import_model(model([("Add", "x z", "y", {})], {"x": [2, "n"], "z": [2, "n"]}), shapes={"n": (Range(4, 12),)})
    text = emit_c(compile_graph(graph, load_target("generic-c"), name="net")).files["net.c"].decode()
    assert "if (in->x_dims[0] != 2) return 6;" in text and "if (in->z_dims[0] != 2 || in->z_dims[1] != size_n) return 6;" in text


def test_indices_outside_of_an_open_axis_end_the_run():
    nodes = [("Cast", "i", "k", {"to": TensorProto.INT64}), ("Gather", "x k", "y", {"axis": 1})]
    proto = model(nodes, {"x": [2, "n"], "i": ["m", 3]})
    graph = import_model(proto, shapes=BOUNDS)
    with load(emit_c(compile_graph(graph, load_target("host"), name="net")), cc="gcc") as built:
        x = np.arange(10, dtype=np.float32).reshape(2, 5)
        fits = np.array([[0, 4, -5], [1, 2, 3]], np.float32)
        np.testing.assert_array_equal(built.run({"x": x, "i": fits})["y"], x[:, fits.astype(int)])
        for wrong in (5, -6):
            with pytest.raises(EdgeccError) as raised:
                built.run({"x": x, "i": np.where(fits == 3, np.float32(wrong), fits)})
            assert raised.value.code == "E403"


def test_what_no_kernel_can_do_names_the_dimension():
    graph = import_model(model([("Det", "x", "y", {})], {"x": [2, "n", "n"]}),
                         shapes={"n": (Range(2, 9),)})
    with pytest.raises(EdgeccError, match=r"determinant.*known only at run time") as raised:
        compile_graph(graph, load_target("host"), name="net")
    assert raised.value.code == "E112" and "--shape" in raised.value.hint


def test_sanitizers_find_nothing():
    nodes = [("Relu", "x", "a", {}), ("Neg", "z", "b", {}), ("Concat", "a b", "c", {"axis": 1}), ("Softmax", "c", "y", {})]
    agrees(model(nodes, {"x": [3, "n"], "z": [3, "k"]}), {"n": (Range(1, 37),), "k": (Range(0, 20),)}, isolated=True,
           flags=("-fsanitize=address,undefined", "-fno-sanitize-recover=all"))


def test_open_networks_take_several_threads():
    proto, shapes = case("product, open rows and columns")
    graph = import_model(proto, shapes=shapes)
    lowered = lower_graph(compile_graph(graph, load_target("host"), name="net").graph, load_target("host"), name="net", options=LoweringOptions(threads=2, verified=True))
    assert lowered.module.is_open


def region(nodes, inputs, outputs):
    return helper.make_graph([helper.make_node(op, ins.split(), outs.split(), **attributes) for op, ins, outs, attributes in nodes], "body",
                             [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in inputs.items()],
                             [helper.make_empty_tensor_value_info(name) for name in outputs])


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
def test_branches_with_open_sizes(target):
    """What branches read from outside, and what they return, has the sizes of the run; it is no input and an input."""
    then = region([("Softmax", "a", "s", {}), ("MatMul", "s t", "p", {}), ("Relu", "x", "q", {})], {}, ["p", "q"])
    orelse = region([("MatMul", "x t", "m", {}), ("Neg", "m", "p", {}), ("Add", "a x", "q", {})], {}, ["p", "q"])
    nodes = [("Add", "x x", "a", {}), ("Transpose", "x", "t", {"perm": [0, 2, 1]}), ("ReduceSum", "x", "sum", {"keepdims": 0}), ("Less", "sum zero", "c", {}),
             ("If", "c", "y z", {"then_branch": then, "else_branch": orelse}), ("Relu", "z", "w", {})]
    proto = model(nodes, {"x": ["m", "n", 5]}, ("y", "z", "w"), constants={"zero": np.float32(0)})
    agrees(proto, BOUNDS, target=target)


@pytest.mark.parametrize("inner", [False, True])
def test_loops_with_states_of_open_sizes(inner):
    """The initial state is an input, whose array is as large as the run says and not as large as it might be."""
    nodes = [("Add", "state x", "sum", {}), ("Mul", "sum half", "next", {}), ("ReduceMean", "next axis", "row", {"keepdims": 0}),
             ("Identity", "going", "on", {})]
    body = region(nodes, {"i": (TensorProto.INT64, []), "going": (TensorProto.BOOL, []), "state": (TensorProto.FLOAT, None)}, ["on", "next", "row"])
    proto = model([], {"x": ["m", "n"]}, ("y", "rows"), constants={"half": np.float32(0.5), "axis": np.array([1]), "trips": np.int64(3000)})
    proto.graph.node.extend([helper.make_node("Relu", ["x"], ["first"]),
                             helper.make_node("Loop", ["trips", "", "first" if inner else "x"], ["y", "rows"], body=body)])
    agrees(proto, BOUNDS, isolated=True, flags=("-fsanitize=address,undefined", "-fno-sanitize-recover=all"))


@pytest.mark.parametrize("backwards", [0, 1])
def test_scans_of_open_length(backwards):
    body = region([("Add", "state row", "next", {}), ("Mul", "next row", "out", {})],
                  {"state": (TensorProto.FLOAT, [5]), "row": (TensorProto.FLOAT, [5])}, ["next", "out"])
    scan = {"body": body, "num_scan_inputs": 1, "scan_input_directions": [backwards], "scan_output_directions": [backwards]}
    agrees(model([("Scan", "first x", "last y", scan)], {"first": [5], "x": ["n", 5]}, ("last", "y")), {"n": (Range(0, 19),)})


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
@pytest.mark.parametrize("attributes", [{"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, {"mode": "linear"},
                                        {"mode": "cubic"}])
def test_resampling_by_whole_factors(target, attributes):
    """By 2 and 3, and by a half, of channels side by side and of rows."""
    w = np.random.default_rng(0).standard_normal((20, 3, 1, 1)).astype(np.float32)
    nodes = [("Conv", "x w", "c", {}), ("Resize", "c  up", "u", attributes), ("Relu", "u", "y", {}), ("Resize", "x  down", "z", attributes)]
    proto = model(nodes, {"x": [1, 3, "h", "w0"]}, ("y", "z"), constants={
        "w": w, "up": np.array([1, 1, 2, 3], np.float32), "down": np.array([1, 1, 0.5, 2], np.float32)})
    agrees(proto, {"h": (Range(4, 11),), "w0": (Range(2, 17),)}, target=target)


OPEN_IMAGES = {
    "groups": [("Conv", "x w", "c", {"group": 2, "pads": [1, 1, 1, 1]}), ("Relu", "c", "y", {})],
    "transposed": [("ConvTranspose", "x t", "c", {"strides": [2, 1], "pads": [1, 0, 1, 1], "output_padding": [1, 0]}), ("Relu", "c", "y", {})],
    "transposed, a channel each": [("ConvTranspose", "x d", "c", {"strides": [2, 3], "group": 4, "dilations": [1, 2]}), ("Relu", "c", "y", {})],
    "transposed, groups": [("ConvTranspose", "x d", "c", {"strides": [3, 2], "group": 2, "pads": [4, 1, 0, 2], "dilations": [2, 1]}), ("Relu", "c", "y", {})],
    "constant border": [("Relu", "x", "r", {}), ("Pad", "r sides five", "y", {})],
    "border cut off": [("Relu", "x", "r", {}), ("Pad", "r cut", "y", {})],
    "mirrored border": [("Relu", "x", "r", {}), ("Pad", "r sides", "y", {"mode": "reflect"})],
    "repeated border": [("Relu", "x", "r", {}), ("Pad", "r sides", "p", {"mode": "edge"}), ("Neg", "p", "y", {})],
}


@pytest.mark.parametrize("name", OPEN_IMAGES)
def test_other_layers_of_images_of_any_size(name):
    generator = np.random.default_rng(0)
    constants = {"w": generator.standard_normal((6, 2, 3, 3)).astype(np.float32), "t": generator.standard_normal((4, 5, 3, 2)).astype(np.float32),
                 "d": generator.standard_normal((4, 1, 3, 4)).astype(np.float32),
                 "sides": np.array([0, 0, 1, 2, 0, 0, 3, 0]), "cut": np.array([0, 0, -1, 2, 0, 0, 1, -2]), "five": np.float32(5)}
    read = {operand for _, ins, _, _ in OPEN_IMAGES[name] for operand in ins.split()}
    agrees(model(OPEN_IMAGES[name], {"x": [1, 4, "h", "w0"]}, constants={n: c for n, c in constants.items() if n in read}),
           {"h": (Range(4, 9),), "w0": (Range(4, 21),)})


@pytest.mark.parametrize("target", ["cortex-a55", "cortex-a76"])
def test_short_floats(target):
    """Convolutions and products of open sizes with weights and activations of 16 bits."""
    generator = np.random.default_rng(0)
    nodes = [("Conv", "x k", "c", {"pads": [1, 1, 1, 1]}), ("Relu", "c", "r", {}), ("Transpose", "r", "t", {"perm": [0, 2, 3, 1]}), ("MatMul", "t w", "p", {}),
             ("Softmax", "p", "y", {})]
    constants = {"k": generator.standard_normal((8, 3, 3, 3)).astype(np.float32), "w": generator.standard_normal((8, 13)).astype(np.float32)}
    graph = import_model(model(nodes, {"x": [1, 3, "h", "w0"]}, constants=constants), shapes={"h": (Range(3, 6),), "w0": (Range(3, 17),)})
    compiled = compile_graph(graph, load_target(target), name="net", options=LoweringOptions(precision="fp16"))
    with load(emit_c(compiled), cc=None) as built:
        for sizes in ({"h": 3, "w0": 3}, {"h": 6, "w0": 17}, {"h": 5, "w0": 7}):
            inputs = sample_inputs(graph, 1, sizes)
            results, want = built.run(inputs)["y"], execute(graph, inputs)["y"]
            assert results.shape == want.shape
            np.testing.assert_allclose(results, want, atol=0.01)


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
@pytest.mark.parametrize(("group", "kernel", "channels", "stride", "dtype"), [(1, 3, (5, 7), 1, np.uint8), (16, 3, (16, 16), 2, np.int8)])
def test_integer_convolutions_of_images_of_any_size(target, group, kernel, channels, stride, dtype):
    generator = np.random.default_rng(0)
    parameters = [onnx.numpy_helper.from_array(np.array(value, kind), name) for name, value, kind in (
        ("xs", 0.02, np.float32), ("xz", -7 if dtype is np.int8 else 131, dtype), ("ws", 0.01, np.float32), ("wz", 0, np.int8),
        ("ys", 0.5, np.float32), ("yz", 3, dtype))]
    weights = [onnx.numpy_helper.from_array(generator.integers(-127, 128, (channels[1], channels[0] // group, kernel, kernel)).astype(np.int8), "w"),
               onnx.numpy_helper.from_array(generator.integers(-999, 999, channels[1]).astype(np.int32), "b")]
    node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["y"], group=group, pads=[1] * 4, strides=[stride] * 2)
    x = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), ["n", channels[0], "rows", "columns"])
    graph = helper.make_graph([node], "g", [x], [helper.make_empty_tensor_value_info("y")], [*parameters, *weights])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    result = edgecc.verify(proto, target=target, shapes={"n": (Range(1, 2),), "rows": (Range(3, 13),), "columns": (Range(3, 20),)})
    assert result.ok and result.outputs[0].max_abs_err == 0


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("target", "precision"), [("x86-64-v4-bf16", "bf16"), ("cortex-a76", "fp16")])
def test_products_of_short_floats_of_any_number_of_rows(target, precision, threads):
    require(load_target(target))
    weights = np.random.default_rng(0).standard_normal((24, 40)).astype(np.float32)
    nodes = [("MatMul", "x w", "a", {}), ("Relu", "a", "b", {}), ("Transpose", "b", "t", {"perm": [1, 0]}), ("MatMul", "t b", "y", {})]
    result = edgecc.verify(model(nodes, {"x": ["n", 24]}, constants={"w": weights}), target=target, precision=precision, threads=threads,
                           shapes={"n": (Range(1, 9),)})
    assert result.ok


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
def test_means_of_integers_over_images_of_any_size(target):
    """They are sums of integers, exact, so that rounding them again never falls on the other side of a tie."""
    stored = [onnx.numpy_helper.from_array(np.array(value, kind), name) for name, value, kind in (
        ("xs", 0.25, np.float32), ("xz", 3, np.uint8), ("ys", 0.125, np.float32), ("yz", 7, np.uint8))]
    nodes = [helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["d"]), helper.make_node("GlobalAveragePool", ["d"], ["m"]),
             helper.make_node("QuantizeLinear", ["m", "ys", "yz"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 20, "rows", "columns"])
    graph = helper.make_graph(nodes, "g", [x], [helper.make_empty_tensor_value_info("y")], stored)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    shapes = {"n": (Range(1, 2),), "rows": (Range(1, 13),), "columns": (Range(3, 20),)}
    reduced = [node.op for node in compile_graph(import_model(proto, shapes=shapes), load_target(target), name="net").graph.nodes if node.op.name == "reduce"]
    assert [op.kind for op in reduced] == ["wide_sum"]
    result = edgecc.verify(proto, target=target, shapes=shapes)
    assert result.ok and result.outputs[0].max_abs_err == 0
