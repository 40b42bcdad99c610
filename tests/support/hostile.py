"""Hostile models, made by families: what an attacker would try, each with how the compiler has to answer.

A model is refused (exit status 3 and one clear message), or it is compiled, and then the code has to be right. `ANY` leaves
the choice open where both are fine; nothing may crash, hang, take memory without bound, or leave files behind.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

REFUSED, COMPILED, ANY = "refused", "compiled", "any"

BIG = 2**31
FLOAT = TensorProto.FLOAT


@dataclass(frozen=True)
class Hostile:
    """A hostile model: `write` makes its files in a folder, the model as model.onnx."""

    name: str
    wanted: str
    write: Callable[[Path], None]


def info(name: str, dims: Sequence[int | str] | None, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    """A declared input or output."""
    return helper.make_tensor_value_info(name, dtype, dims)


def model(nodes: Sequence[onnx.NodeProto], *, inputs: Sequence[onnx.ValueInfoProto] = (), outputs: Sequence[str] = ("y",),
          weights: Sequence[TensorProto] = (), opset: int = 18, functions: Sequence[onnx.FunctionProto] = (),
          domains: Sequence[str] = (), name: str = "g") -> onnx.ModelProto:
    """A model without any check; its input is x of 1 x 4 floats unless others are given."""
    graph = helper.make_graph(list(nodes), name, list(inputs) or [info("x", (1, 4))],
                              [helper.make_empty_tensor_value_info(o) for o in outputs], list(weights))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9, functions=list(functions))


def node(op_type: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    """A node; names of operands and results have spaces between them."""
    return helper.make_node(op_type, inputs.split(), outputs.split(), **attributes)


def ints(name: str, *values: int) -> TensorProto:
    """An initializer of one axis."""
    return numpy_helper.from_array(np.array(values, np.int64), name)


def floats(name: str, shape: Sequence[int] = (4, 4)) -> TensorProto:
    """An initializer of ones."""
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def _saved(content: onnx.ModelProto | bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        data = content if isinstance(content, bytes) else content.SerializeToString()
        (folder / "model.onnx").write_bytes(data)

    return write


# -- sizes ------------------------------------------------------------------------------------


def bombs() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Small files that ask for much memory or time."""
    image = [info("x", (1, 2, 6, 6))]
    kernel = floats("w", (2, 2, 3, 3))
    for size in (2**31, 2**62, -1):
        yield f"expand_{size}", REFUSED, model([node("Expand", "x s")], weights=[ints("s", size, size, 4)])
        yield f"tile_{size}", REFUSED, model([node("Tile", "x r")], weights=[ints("r", size, size)])
        yield f"constant_of_shape_{size}", REFUSED, model([node("ConstantOfShape", "s", "c"), node("Add", "x c")],
                                                          weights=[ints("s", size, size)])
        yield f"pad_{size}", ANY, model([node("Pad", "x p")], weights=[ints("p", 0, size, size, 0)])
        yield f"range_{size}", ANY, model([node("Range", "a b c")], weights=[numpy_helper.from_array(np.array(v), n)
                                                                          for n, v in (("a", 0), ("b", size), ("c", 1))])
        yield f"resize_{size}", REFUSED, model([helper.make_node("Resize", ["x", "", "", "s"], ["y"], mode="nearest")], inputs=image,
                                               weights=[ints("s", 1, 2, size, size)])
        yield f"one_hot_{size}", ANY, model([node("OneHot", "i d v")], inputs=[info("i", (4,), TensorProto.INT64)],
                                                weights=[ints("d", size), floats("v", (2,))])
        yield f"conv_pads_{size}", REFUSED, model([node("Conv", "x w", pads=[size] * 4)], inputs=image, weights=[kernel])
        yield f"conv_dilations_{size}", REFUSED, model([node("Conv", "x w", dilations=[size] * 2)], inputs=image, weights=[kernel])
        yield f"conv_group_{size}", REFUSED, model([node("Conv", "x w", group=size)], inputs=image, weights=[kernel])
        yield f"conv_transpose_pads_{size}", REFUSED, model([node("ConvTranspose", "x w", output_padding=[size] * 2)],
                                                            inputs=image, weights=[kernel])
        yield f"conv_transpose_strides_{size}", REFUSED, model([node("ConvTranspose", "x w", strides=[size] * 2)], inputs=image,
                                                               weights=[kernel])
        yield f"conv_transpose_shape_{size}", REFUSED, model([node("ConvTranspose", "x w", output_shape=[size] * 2)],
                                                             inputs=image, weights=[kernel])
        yield f"depth_to_space_{size}", REFUSED, model([node("DepthToSpace", "x", blocksize=size)], inputs=image)
        yield f"space_to_depth_{size}", REFUSED, model([node("SpaceToDepth", "x", blocksize=size)], inputs=image)
        yield f"pool_kernel_{size}", ANY, model([node("MaxPool", "x", kernel_shape=[size] * 2)], inputs=image)
        yield f"pool_pads_{size}", REFUSED, model([node("AveragePool", "x", kernel_shape=[2, 2], pads=[size] * 4)], inputs=image)
        yield f"top_k_{size}", REFUSED, model([node("TopK", "x k", "y z")], weights=[ints("k", size)])
        yield f"split_{size}", REFUSED, model([node("Split", "x s", "y z")], weights=[ints("s", size, size)])
        yield f"input_{size}", REFUSED, model([node("Relu", "x")], inputs=[info("x", (max(size, 2**20), max(size, 2**20)))])
        yield f"hidden_size_{size}", REFUSED, model([node("GRU", "x w r", hidden_size=size)], inputs=[info("x", (2, 1, 4))],
                                                    weights=[floats("w", (1, 12, 4)), floats("r", (1, 12, 4))])
    yield "pool_of_padding", ANY, model([node("AveragePool", "x", kernel_shape=[2], pads=[2**27] * 2)], inputs=[info("x", (1, 1, 32))])
    yield "window_of_thousands", ANY, model([node("MaxPool", "x", kernel_shape=[20_000], pads=[9000] * 2)], inputs=[info("x", (1, 1, 50_000))])
    yield "depthwise_of_padding", ANY, model([node("Conv", "x w", group=2, pads=[2**25, 1, 2**25, 1])], inputs=[info("x", (1, 2, 6, 6))],
                                             weights=[floats("w", (2, 1, 3, 3))])
    yield "phases", REFUSED, model([node("ConvTranspose", "x w", strides=[100, 100])], inputs=[info("x", (1, 2, 6, 6))],
                                   weights=[floats("w", (2, 2, 3, 3))])
    yield "mask_of_millions", ANY, model([node("Trilu", "x")], inputs=[info("x", (2**25, 4))])
    yield "slice_extremes", ANY, model([node("Slice", "x a b c d")], weights=[
        ints("a", -(2**63)), ints("b", 2**63 - 1), ints("c", 1), ints("d", 2**62)])
    yield "slice_step_of_least", COMPILED, model([node("Slice", "x a b c d")], weights=[
        ints("a", 2**63 - 1), ints("b", -(2**63)), ints("c", 1), ints("d", -(2**63))])
    yield "outer_sums", REFUSED, model([node("Reshape", "x s", "a"), node("Add", "x a", "b"), *(
        part for i in range(6) for part in (node("Reshape", f"{'b' if i == 0 else f'm{i - 1}'} flat", f"f{i}"),
                                            node("Unsqueeze", f"f{i} axis", f"u{i}"), node("Add", f"f{i} u{i}", f"m{i}"))),
        node("Relu", "m5")], weights=[ints("s", 4, 1), ints("flat", -1), ints("axis", 1)])
    yield "einsum_blowup", REFUSED, model([node("Einsum", " ".join("x" * 16), equation=",".join(
        a + b for a, b in zip("abcdefghijklmnop", "ABCDEFGHIJKLMNOP", strict=True)) + "->abcdefghijklmnopABCDEFGHIJKLMNOP")])
    yield "einsum_letters", REFUSED, model([node("Einsum", "x", equation="z" * 5000 + "->" + "z" * 5000)])
    doubling = [node("Concat", f"{'x' if i == 0 else f'c{i - 1}'} {'x' if i == 0 else f'c{i - 1}'}", f"c{i}", axis=0) for i in range(40)]
    yield "concat_doubling", REFUSED, model([*doubling, node("Relu", "c39")])
    folded = [node("Concat", f"{'w' if i == 0 else f'c{i - 1}'} {'w' if i == 0 else f'c{i - 1}'}", f"c{i}", axis=0) for i in range(24)]
    yield "concat_doubling_of_constants", ANY, model([*folded, node("ReduceSum", "c23", "s"), node("Add", "x s")], weights=[floats("w")])
    yield "concat_of_thousands", ANY, model([node("Concat", " ".join(["x"] * 5000), axis=0)])
    yield "sum_of_thousands", ANY, model([node("Sum", " ".join(["x"] * 3000))])
    squares = [node("MatMul", f"{'w' if i == 0 else f'm{i - 1}'} w", f"m{i}") for i in range(60)]
    yield "matmul_folding", ANY, model([*squares, node("ReduceSum", "m59", "s"), node("Add", "x s")], weights=[floats("w", (400, 400))])
    far = [numpy_helper.from_array(np.array(v), n) for n, v in (("a", 0), ("b", 10**9), ("c", 1))]
    summed = [node("Cast", "m", "f", to=FLOAT), node("ReduceMean", "f", "r", keepdims=0), node("Add", "x r")]
    yield "range_within_the_limit_on_elements", REFUSED, model([node("Range", "a b c", "m"), *summed], weights=far)
    yield "window_of_a_billion", REFUSED, model([node("HannWindow", "b", "m"), *summed], weights=far)
    yield "random_numbers", REFUSED, model([node("RandomNormal", "", "m", shape=[10**9]), *summed])
    yield "random_mask", REFUSED, model([node("Bernoulli", "x")], inputs=[info("x", (10**8,))])
    yield "padding_that_wraps", COMPILED, model([node("Pad", "w p", "m", mode="wrap"), *summed], opset=19, weights=[floats("w", (3,)), ints("p", 10**9, 1)])
    yield "texts_of_numbers", ANY, model([node("ConstantOfShape", "s", "n"), node("Cast", "n", "t", to=TensorProto.STRING), node("Cast", "t", "m", to=FLOAT),
                                          *summed], weights=[ints("s", 10**7)])
    yield "rank_of_many", REFUSED, model([node("Reshape", "x s")], weights=[ints("s", 4, *[1] * 40)])
    yield "transposed_chain", ANY, model([*(node("Transpose", f"t{i}" if i else "x", f"t{i + 1}") for i in range(800)), node("Relu", "t800")])
    kinds = ("Relu", "Exp", "Neg", "Abs")
    yield "elementwise_chain", COMPILED, model([*(node(kinds[i % 4], f"t{i}" if i else "x", f"t{i + 1}") for i in range(1500)), node("Relu", "t1500")])
    yield "too_many_nodes", REFUSED, model([*(node("Relu", f"t{i}" if i else "x", f"t{i + 1}") for i in range(15_000)), node("Relu", "t15000")])
    yield "bit_casts", COMPILED, model([*(part for i in range(40) for part in (
        node("BitCast", f"t{i}" if i else "x", f"b{i}", to=TensorProto.INT32), node("Neg", f"b{i}", f"n{i}"),
        node("BitCast", f"n{i}", f"t{i + 1}", to=FLOAT))), node("Relu", "t40")], opset=26)
    yield "residual_doubling", ANY, model([*(node("Add", f"a{i} a{i}" if i else "x x", f"a{i + 1}") for i in range(300)), node("Relu", "a300")])
    yield "product_of_shared_terms", ANY, model([*(node("Mul", f"a{i} a{i}" if i else "x x", f"b{i}") if j else node("Exp", f"b{i}", f"a{i + 1}")
                                                    for i in range(150) for j in (1, 0)), node("Relu", "a150")])


# -- graphs inside nodes ----------------------------------------------------------------------


def branch(nodes: Sequence[onnx.NodeProto], result: str) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "branch", [], [helper.make_empty_tensor_value_info(result)])


def loop_body(inner: Sequence[onnx.NodeProto], result: str) -> onnx.GraphProto:
    return helper.make_graph([*inner, helper.make_node("Identity", ["go"], ["on"])], "body",
                             [info("i", (), TensorProto.INT64), info("go", (), TensorProto.BOOL), info("v", None)],
                             [helper.make_empty_tensor_value_info("on"), helper.make_empty_tensor_value_info(result)])


def control() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Loops, conditions, functions."""
    true, false = (numpy_helper.from_array(np.array(v), n) for n, v in (("t", True), ("f", False)))
    for trips in (2**62, 2**31, 10**6, -1, -(2**63)):
        body = loop_body([node("Relu", "v", "r")], "r")
        yield f"loop_{trips}", ANY, model([node("Loop", "n t x", body=body)], weights=[ints("n", trips), true])
    body = loop_body([node("Relu", "v", "r")], "r")
    yield "loop_without_end", ANY, model([helper.make_node("Loop", ["", "t", "x"], ["y"], body=body)], weights=[true])
    nested = loop_body([node("Relu", "v", "r")], "r")
    for _ in range(6):
        nested = loop_body([node("Loop", "n t v", "r", body=nested)], "r")
    yield "loops_in_loops", REFUSED, model([node("Loop", "n t x", body=nested)], weights=[ints("n", 1000), true])
    growing = loop_body([node("Concat", "v v", "r", axis=0)], "r")
    yield "loop_that_doubles", REFUSED, model([node("Loop", "n t x", body=growing)], weights=[ints("n", 200), true])
    deep = branch([node("Relu", "x", "r")], "r")
    for _ in range(25):
        deep = branch([node("If", "t", "r", then_branch=deep, else_branch=deep)], "r") if deep.ByteSize() < 200_000 else deep
    yield "ifs_in_ifs", ANY, model([node("If", "t", then_branch=deep, else_branch=deep)], weights=[true])
    slim, other = branch([node("Relu", "x", "r")], "r"), branch([node("Neg", "x", "r")], "r")
    for _ in range(22):
        slim = branch([node("If", "t", "r", then_branch=slim, else_branch=other)], "r")
    yield "if_deep", ANY, model([node("If", "t", then_branch=slim, else_branch=other)], weights=[true])
    yield "if_without_branch", REFUSED, model([node("If", "t")], weights=[true])
    yield "if_on_floats", ANY, model([node("If", "x", then_branch=other, else_branch=other)])
    yield "if_empty_branch", REFUSED, model([node("If", "f", then_branch=other, else_branch=branch([], "ghost"))], weights=[false])
    yield "scan_axis", REFUSED, model([node("Scan", "x", body=branch([node("Relu", "x", "r")], "r"), num_scan_inputs=2**62)])
    yield "loop_body_of_wrong_arity", REFUSED, model([node("Loop", "n t x", body=branch([], "x"))], weights=[ints("n", 2), true])
    chain = [helper.make_function("f", f"F{i}", ["a"], ["b"], [helper.make_node(f"F{i + 1}", ["a"], ["c"], domain="f"),
                                                                helper.make_node(f"F{i + 1}", ["c"], ["b"], domain="f")],
                                  [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]) for i in range(24)]
    last = helper.make_function("f", "F24", ["a"], ["b"], [node("Relu", "a", "b")], [helper.make_opsetid("", 18)])
    call = helper.make_node("F0", ["x"], ["y"], domain="f")
    yield "functions_doubling", REFUSED, model([call], functions=[*chain, last], domains=["f"])
    yield "functions_in_a_circle", REFUSED, model([call], functions=[
        helper.make_function("f", f"F{i}", ["a"], ["b"], [helper.make_node(f"F{(i + 1) % 5}", ["a"], ["b"], domain="f")],
                             [helper.make_opsetid("f", 1)]) for i in range(5)], domains=["f"])
    hidden = helper.make_node("If", ["t"], ["b"], then_branch=branch([helper.make_node("F0", ["a"], ["r"], domain="f")], "r"),
                              else_branch=other)
    yield "function_calling_itself_in_a_branch", REFUSED, model([call], functions=[helper.make_function(
        "f", "F0", ["a"], ["b"], [node("Constant", "", "t", value=true), hidden], [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)])],
        domains=["f"])
    yield "function_of_onnx_shadowed", ANY, model([node("Relu", "x")], functions=[
        helper.make_function("", "Relu", ["a"], ["b"], [node("Relu", "a", "b")], [helper.make_opsetid("", 18)])])
    yield "function_reading_its_caller", REFUSED, model([call], functions=[helper.make_function(
        "f", "F0", ["a"], ["b"], [node("Add", "a x", "b")], [helper.make_opsetid("", 18)])], domains=["f"])
    yield "function_twice", ANY, model([helper.make_node("F24", ["x"], ["y"], domain="f")], functions=[last, last], domains=["f"])
    yield "function_with_too_many_operands", ANY, model([helper.make_node("F24", ["x"] * 9, ["y"], domain="f")], functions=[last], domains=["f"])


# -- structure --------------------------------------------------------------------------------


def structure() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Graphs, names, versions and tensors that break rules."""
    relu = [node("Relu", "x")]
    for version in (0, 1, 6, 999, 2**31, 2**63 - 1, -1):
        yield f"opset_{version}", ANY if 0 < version < 10 else REFUSED, model(relu, opset=version)
        changed = model(relu)
        changed.ir_version = version if version not in (1, 6) else 2**40
        yield f"ir_{changed.ir_version}", REFUSED, changed
    twice = model(relu)
    twice.opset_import.append(helper.make_opsetid("", 17))
    yield "opset_twice", REFUSED, twice
    none = model(relu)
    del none.opset_import[:]
    yield "opset_missing", REFUSED, none
    yield "no_outputs", ANY, model(relu, outputs=())
    yield "output_undefined", REFUSED, model(relu, outputs=("ghost",))
    yield "output_twice", ANY, model(relu, outputs=("y", "y"))
    yield "result_twice", REFUSED, model([node("Relu", "x"), node("Neg", "x")])
    yield "result_is_input", REFUSED, model([node("Relu", "x", "x")], outputs=("x",))
    yield "input_twice", REFUSED, model(relu, inputs=[info("x", (1, 4)), info("x", (1, 4))])
    yield "self_loop", REFUSED, model([node("Add", "x y")])
    yield "ring", REFUSED, model([node("Relu", f"r{(i + 1) % 900}" if i else "r1", f"r{i}") for i in range(900)], outputs=("r0",))
    yield "no_operand", REFUSED, model([node("Add", "")])
    yield "too_many_operands", REFUSED, model([node("Add", "x x x")])
    yield "too_many_results", REFUSED, model([node("Relu", "x", "y z")])
    yield "unknown_operator", REFUSED, model([node("Frobnicate", "x")])
    yield "empty_operator", REFUSED, model([node("", "x")])
    yield "operator_is_a_path", REFUSED, model([node("../../../../etc/passwd", "x")])
    yield "attribute_twice", REFUSED, _with(model([node("Softmax", "x", axis=1)]), lambda m: m.graph.node[0].attribute.append(
        helper.make_attribute("axis", 0)))
    yield "attribute_unknown", REFUSED, model([node("Relu", "x", frobnicate=3)])
    yield "attribute_reference", ANY, _with(model([node("Softmax", "x")]), lambda m: m.graph.node[0].attribute.append(
        AttributeProto(name="axis", ref_attr_name="ghost", type=AttributeProto.INT)))
    yield "dim_negative", ANY, model(relu, inputs=[info("x", (-4, 4))])
    yield "dim_overflow", REFUSED, model(relu, inputs=[info("x", (2**62, 2**62))])
    yield "dim_zero_and_huge", REFUSED, model(relu, inputs=[info("x", (0, 2**62))])
    yield "input_of_strings", REFUSED, model([node("Abs", "x")], inputs=[info("x", (4,), TensorProto.STRING)])
    for what, pattern in ("nested", "(" * 5000), ("exploding", "(a|b)*a(a|b){30}"), ("long", "(?i)" + "é*" * 20_000), ("endless", "(((((a{90}){90}){90}"):
        yield f"pattern_{what}", REFUSED, model([node("RegexFullMatch", "x", pattern=pattern)], inputs=[info("x", (4,), TensorProto.STRING)])
    yield "input_without_type", REFUSED, model(relu, inputs=[onnx.ValueInfoProto(name="x")])
    yield "input_of_type_99", REFUSED, model(relu, inputs=[info("x", (4,), 99)])
    sequence = onnx.ValueInfoProto(name="x", type=helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, (4,))))
    yield "input_of_sequences", REFUSED, model([node("SequenceLength", "x")], inputs=[sequence])
    yield "sparse_input", REFUSED, model(relu, inputs=[onnx.ValueInfoProto(
        name="x", type=helper.make_sparse_tensor_type_proto(FLOAT, (4,)))])
    add = [node("Add", "x w")]
    for what, change in {
        "short_raw": lambda t: setattr(t, "raw_data", b"\0" * 15), "long_raw": lambda t: setattr(t, "raw_data", b"\0" * 17),
        "no_data": lambda t: t.ClearField("raw_data"), "type_99": lambda t: setattr(t, "data_type", 99),
        "type_string": lambda t: setattr(t, "data_type", TensorProto.STRING), "huge_dim": lambda t: t.dims.__setitem__(0, 2**62),
        "negative_dims": lambda t: t.dims.extend([-1, -1]), "wrapping_dims": lambda t: t.dims.extend([2**32, 2**32]),
        "segment": lambda t: setattr(t.segment, "end", 99), "both": lambda t: t.float_data.extend([1.0] * 99),
        "other_field": lambda t: (t.ClearField("raw_data"), t.int64_data.extend([1] * 4)),
        "too_many_values": lambda t: (t.ClearField("raw_data"), t.float_data.extend([1.0] * 5)), "nameless": lambda t: setattr(t, "name", ""),
    }.items():
        tensor = floats("w", (4,))
        change(tensor)
        yield f"tensor_{what}", ANY if what == "both" else REFUSED, model(add, weights=[tensor])
    for what, indices, dims in (("negative", [-1, 2], (4,)), ("outside", [0, 4], (4,)), ("huge", [0, 2**62], (2**62,)), ("many", [0, 1, 2, 3], (4,)),
                                ("zero_dim", [0, 1], (0,))):
        sparse = onnx.SparseTensorProto(values=floats("w", (2,)), indices=ints("", *indices), dims=dims)
        yield f"sparse_{what}", REFUSED, _with(model(add), lambda m, s=sparse: m.graph.sparse_initializer.append(s))
    for scale in (0.0, -1.0, float("nan"), float("inf"), 1e-45):
        linear = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z")]
        yield f"quantization_scale_{scale}", ANY, model(linear, weights=[
            numpy_helper.from_array(np.float32(scale), "s"), numpy_helper.from_array(np.int8(3), "z")])
    weights = np.array([[np.nan, np.inf, -np.inf, 1e-45]] * 4, np.float32)
    yield "weights_without_numbers", COMPILED, model([node("MatMul", "x w")], weights=[numpy_helper.from_array(weights, "w")])
    yield "constants_without_numbers", COMPILED, model([node("Mul", "x n", "a"), node("Add", "a i", "b"), node("Max", "b d")], weights=[
        numpy_helper.from_array(np.float32(v), n) for n, v in (("n", np.nan), ("i", -np.inf), ("d", 1e-45))])
    yield "epsilon_without_number", ANY, model([node("LayerNormalization", "x w", epsilon=float("nan"))], weights=[floats("w", (4,))])
    yield "clip_bounds", COMPILED, model([node("Clip", "x a b")], weights=[numpy_helper.from_array(np.float32(v), n)
                                                                       for n, v in (("a", np.inf), ("b", -np.inf))])
    for what, divisor in (("zero", 0), ("minus_one", -1)):
        data = [numpy_helper.from_array(np.array([-(2**31), 5, 7, 0], np.int32), "w"), numpy_helper.from_array(np.int32(divisor), "d")]
        integers = [info("x", (4,), TensorProto.INT32)]
        yield f"divided_by_{what}", ANY, model([node("Div", "x d")], inputs=integers, weights=data)
        yield f"constants_divided_by_{what}", ANY, model([node("Div", "w d", "q"), node("Add", "x q")], inputs=integers, weights=data)
        yield f"modulo_{what}", ANY, model([node("Mod", "x d")], inputs=integers, weights=data)
    yield "shift_too_far", ANY, model([node("BitShift", "x s", direction="LEFT")], inputs=[info("x", (4,), TensorProto.UINT8)],
                                      weights=[numpy_helper.from_array(np.uint8(200), "s")])
    yield "cast_of_no_number", ANY, model([node("Mul", "x n", "a"), node("Cast", "a", to=TensorProto.INT8)],
                                          weights=[numpy_helper.from_array(np.float32(np.nan), "n")])


def _with(changed: onnx.ModelProto, change: Callable[[onnx.ModelProto], Any]) -> onnx.ModelProto:
    change(changed)
    return changed


# -- attributes and operands ------------------------------------------------------------------


def attributes() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Lists of wrong lengths, wrong types of attributes, operands of wrong ranks."""
    image, kernel = [info("x", (1, 2, 6, 6))], floats("w", (2, 2, 3, 3))
    for name, values in (("strides", []), ("strides", [1]), ("strides", [1, 1, 1]), ("pads", [1]), ("pads", [1] * 64), ("dilations", [0, 1]),
                         ("kernel_shape", [5, 5]), ("kernel_shape", [])):
        yield f"conv_{name}_{len(values)}", REFUSED, model([node("Conv", "x w", **{name: helper.make_attribute(
            name, values, attr_type=AttributeProto.INTS).ints or []})] if values else [_empty_list(node("Conv", "x w"), name)],
            inputs=image, weights=[kernel])
    for wrong in (1.5, "x", [1.5], floats("t"), branch([], "x")):
        yield f"softmax_axis_{type(wrong).__name__}", REFUSED, model([node("Softmax", "x", axis=wrong)])
    for perm in ([], [0], [0, 0], [1, 2], [-1, 0], [2**62, 0], [0, 1, 2]):
        changed = node("Transpose", "x", perm=perm) if perm else _empty_list(node("Transpose", "x"), "perm")
        yield f"transpose_{perm}", REFUSED if perm else ANY, model([changed])
    for axis in (7, -8, 2**31, 2**63 - 1, -(2**63)):
        for op, more in (("Softmax", {}), ("Flatten", {}), ("Concat", {}), ("Hardmax", {}), ("LogSoftmax", {})):
            yield f"{op}_axis_{axis}", REFUSED, model([node(op, "x x" if op == "Concat" else "x", axis=axis, **more)])
        yield f"squeeze_{axis}", REFUSED, model([node("Squeeze", "x a")], weights=[ints("a", axis)])
        yield f"unsqueeze_{axis}", REFUSED, model([node("Unsqueeze", "x a")], weights=[ints("a", axis)])
        yield f"reduce_{axis}", REFUSED, model([node("ReduceMean", "x a")], weights=[ints("a", axis)])
        yield f"gather_{axis}", REFUSED, model([node("Gather", "x i")], weights=[ints("i", axis)])
        yield f"cumsum_{axis}", REFUSED, model([node("CumSum", "x a")], weights=[ints("a", axis)])
        yield f"gather_nd_{axis}", REFUSED, model([node("GatherND", "x i")], weights=[numpy_helper.from_array(np.array([[0, axis]]), "i")])
        yield f"scatter_nd_{axis}", REFUSED, model([node("ScatterND", "x i u")], weights=[
            numpy_helper.from_array(np.array([[0, axis]]), "i"), floats("u", (1,))])
    for shape in ([-1, -1], [-2, 4], [3, -1], [0, -1], [2**62, 4], [2**32, 2**32], [5], [0, 0, 0]):
        yield f"reshape_{shape}", ANY if shape == [0, -1] else REFUSED, model([node("Reshape", "x s")], weights=[ints("s", *shape)])
    for equation in ("", "->", "ij->", "ij,jk->ik", "...->...", "i j->j i", "ii->i", "ij->ijk", "i1->i1", "ij->ii", "(i)->i", "é->é"):
        yield f"einsum_{equation.encode().hex()}", ANY, model([node("Einsum", "x", equation=equation)])
    yield "matmul_of_scalars", REFUSED, model([node("MatMul", "s s")], weights=[numpy_helper.from_array(np.float32(1), "s")])
    yield "matmul_of_integers_and_floats", REFUSED, model([node("MatMul", "x w")], weights=[ints("w", 1, 2, 3, 4)])
    yield "conv_of_scalars", REFUSED, model([node("Conv", "s s")], weights=[numpy_helper.from_array(np.float32(1), "s")])
    yield "text_not_utf8", REFUSED, model([node("Einsum", "x", equation=b"\xff\xfe->")])
    yield "text_of_megabytes", REFUSED, model([node("Pad", "x p", mode="x" * 2**20)], weights=[ints("p", 0, 0, 0, 0)])


def _empty_list(changed: onnx.NodeProto, name: str) -> onnx.NodeProto:
    changed.attribute.append(AttributeProto(name=name, type=AttributeProto.INTS))
    return changed


# -- names ------------------------------------------------------------------------------------

NAMES = (
    "*/ int main(){} /*", "// \\\n int y;", "??/", "??>", "%s%n%1000000d", "$(touch pwned)`touch pwned`;touch pwned", '"); system("touch pwned"); ("',
    "__attribute__((constructor))", "#include </etc/passwd>", "\x1b]0;owned\x07\x1b[2J", "\u202eevil\u2066", "a\0b", "../../../../tmp/pwned",
    "C:\\windows\\x", "<script>alert(1)</script>", "${CMAKE_COMMAND}", "$ENV{HOME}", "[[]=]x]=]", "[bold red]x[/bold red]", "x" * 100_000, "main", "int",
    "run", "in", "out", "arena", "w", "a", "edgecc_abi", "memcpy", "", " ", "\n", "\r\n#error", "\\", "\\u0022", "😀" * 50, "é", "-o", "@file", "%0A", "\u2028",
    "'; DROP TABLE x; --", "{}", "{0.__class__}", "\ufeff", "A" * 63 + "1",
)


def names() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Names and texts that would do harm in C, shells, build files, pages or terminals; one model with each everywhere."""
    for number, name in enumerate(NAMES):
        x, y = f"in{name}", f"out{name}"
        changed = model([helper.make_node("Mul", [x, "w"], [f"m{name}"], name=name, doc_string=name),
                         helper.make_node("Add", [f"m{name}", f"k{name}"], [y], name=name + "2")],
                        inputs=[info(x, (1, 4))], outputs=(y,), weights=[floats("w", (4,)), floats(f"k{name}", (4,))], name=name)
        changed.producer_name = changed.producer_version = changed.doc_string = changed.graph.doc_string = changed.domain = name
        changed.metadata_props.append(onnx.StringStringEntryProto(key=name, value=name))
        yield f"name_{number}", COMPILED, changed
        if number % 5:
            continue
        yield f"operator_name_{number}", REFUSED, model([helper.make_node(name or "?", ["x"], ["y"], domain=name or "?", name=name)])
    yield "dim_name", ANY, model([node("Relu", "x")], inputs=[info("x", ("\x1b[2J*/", 4))])


# -- external data ----------------------------------------------------------------------------


def external() -> Iterator[Hostile]:
    """Weights outside of the model file: everything but a plain file in its folder is refused."""

    def case(name: str, wanted: str, prepare: Callable[[Path], Any] | None = None, /, **entries: str) -> Hostile:
        def write(folder: Path) -> None:
            (folder / "w.bin").write_bytes(np.ones(16, np.float32).tobytes())
            if prepare is not None:
                prepare(folder)
            tensor = TensorProto(name="w", data_type=FLOAT, dims=(4, 4), data_location=TensorProto.EXTERNAL)
            for key, value in {"location": "w.bin", **entries}.items():
                tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value.replace("FOLDER", str(folder))))
            _saved(model([node("MatMul", "x w")], weights=[tensor]))(folder)

        return Hostile(f"external_{name}", wanted, write)

    yield case("plain", COMPILED)
    yield case("dot", COMPILED, location="./w.bin")
    yield case("folder", COMPILED, lambda f: ((f / "sub").mkdir(), os.replace(f / "w.bin", f / "sub" / "w.bin")), location="sub/w.bin")
    for name, location in (("absolute", "FOLDER/w.bin"), ("parent", "../x/w.bin"), ("nested_parent", "sub/../../x"), ("etc", "/etc/hostname"),
                           ("device", "/dev/zero"), ("empty", ""), ("itself", "."), ("nul", "w.bin\0x"), ("backslash", "..\\w.bin"),
                           ("drive", "C:w.bin"), ("url", "file:///etc/passwd"), ("missing", "no.bin"), ("long", "d/" * 3000 + "w.bin"),
                           ("proc", "/proc/self/environ"), ("tilde", "~/w.bin"), ("stream", "w.bin:stream")):
        yield case(name, REFUSED, location=location)
    yield case("link", REFUSED, lambda f: os.symlink("/etc/hostname", f / "l.bin"), location="l.bin")
    yield case("link_to_folder", REFUSED, lambda f: os.symlink("/etc", f / "l"), location="l/hostname")
    yield case("link_inside", REFUSED, lambda f: os.symlink("w.bin", f / "l.bin"), location="l.bin")
    yield case("hard_link", REFUSED, lambda f: os.link(f / "w.bin", f / "l.bin"), location="l.bin")
    yield case("pipe", REFUSED, lambda f: os.mkfifo(f / "p.bin"), location="p.bin")
    yield case("is_folder", REFUSED, lambda f: (f / "d.bin").mkdir(), location="d.bin")
    yield case("sparse_file", REFUSED, lambda f: os.truncate(f / "w.bin", 2**40), length=str(2**40))
    yield case("end_of_sparse_file", COMPILED, lambda f: os.truncate(f / "w.bin", 2**40), offset=str(2**40 - 64))
    for key in ("offset", "length"):
        for value in ("-1", "1e3", "0x10", str(2**63), str(2**64), "9" * 5000, "", "4096", "\u0664", "64 ", "+64", "1"):
            yield case(f"{key}_{value[:24].encode().hex()}", ANY if value == "" else REFUSED, **{key: value})
    yield case("unknown_keys", COMPILED, __class__="x", name="other", basepath="/etc")
    yield case("key_twice", ANY, **{"checksum": "\x1b[2J"})

    def overlapping(folder: Path) -> None:
        (folder / "w.bin").write_bytes(np.ones(16, np.float32).tobytes())
        tensors = []
        for name in ("w", "v"):
            tensor = TensorProto(name=name, data_type=FLOAT, dims=(4, 4), data_location=TensorProto.EXTERNAL)
            tensor.external_data.append(onnx.StringStringEntryProto(key="location", value="w.bin"))
            tensors.append(tensor)
        _saved(model([node("MatMul", "x w", "a"), node("MatMul", "a v")], weights=tensors))(folder)

    yield Hostile("external_overlapping", COMPILED, overlapping)

    def inside_a_node(folder: Path) -> None:
        tensor = TensorProto(name="w", data_type=FLOAT, dims=(4,), data_location=TensorProto.EXTERNAL)
        tensor.external_data.append(onnx.StringStringEntryProto(key="location", value="/etc/hostname"))
        _saved(model([node("Constant", "", "w", value=tensor), node("Add", "x w")]))(folder)

    yield Hostile("external_inside_a_node", REFUSED, inside_a_node)


# -- files ------------------------------------------------------------------------------------


def files() -> Iterator[tuple[str, str, bytes]]:
    """Damaged files, and files that are none."""
    sound = model([node("MatMul", "x w", "m"), node("Softmax", "m")], weights=[floats("w")]).SerializeToString()
    for cut in range(0, len(sound), max(1, len(sound) // 12)):
        yield f"cut_{cut}", REFUSED if cut < 8 else ANY, sound[:cut]
    generator = random.Random(7)
    for number in range(24):
        damaged = bytearray(sound)
        for _ in range(generator.choice((1, 1, 2, 12))):
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        yield f"bits_{number}", ANY, bytes(damaged)
    yield "appended", ANY, sound + b"\0" * 100
    yield "doubled", ANY, sound + sound
    yield "nested_groups", REFUSED, b"\x3b" * 5000
    yield "lengths_of_gigabytes", REFUSED, b"\x3a\xff\xff\xff\xff\x07" * 20
    yield "zeros", REFUSED, bytes(10_000)
    yield "text", REFUSED, b"ir_version: 8\ngraph { }\n"


def lists() -> Iterator[tuple[str, str, bytes]]:
    """Files with a million entries in one list."""
    sound = model([node("Relu", "x")])
    for what, entry, field in (("nodes", onnx.GraphProto(node=[node("Relu", "x", "z")]), 7), ("tensors", onnx.GraphProto(initializer=[floats("q", (1,))]), 7),
                               ("types", onnx.GraphProto(value_info=[info("z", (1,))]), 7),
                               ("texts", onnx.ModelProto(metadata_props=[onnx.StringStringEntryProto()]), None)):
        many = entry.SerializeToString() * (1_000_000 if field is None else 300_000)
        yield f"many_{what}", REFUSED, sound.SerializeToString() + (many if field is None else message_field(field, many))


def message_field(number: int, content: bytes) -> bytes:
    """A message as a field of another; two of one number are merged by the parser."""
    size, length = b"", len(content)
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


Family = Callable[[], Iterator[tuple[str, str, onnx.ModelProto]]] | Callable[[], Iterator[tuple[str, str, bytes]]]


def everything(more: Sequence[Family] = ()) -> Iterator[Hostile]:
    """All hostile models, those of further families too, each name once."""
    seen: set[str] = set()
    for family in (bombs, control, structure, attributes, names, files, lists, *more):
        for name, wanted, content in family():
            unique = name
            number = 2
            while unique in seen:
                unique, number = f"{name}_{number}", number + 1
            seen.add(unique)
            yield Hostile(unique, wanted, _saved(content))
    yield from external()
