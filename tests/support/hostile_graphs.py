"""Still more hostile models: names that look alike, declarations that lie, functions, texts with zeros in them, endless lists, scales that are no numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from tests.support.hostile import ANY, COMPILED, FLOAT, REFUSED, branch, floats, info, ints, loop_body, model, node

INT64, INT8, STRING, BOOL = TensorProto.INT64, TensorProto.INT8, TensorProto.STRING, TensorProto.BOOL


def _number(name: str, value: object, dtype: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def _texts(name: str, *values: bytes) -> TensorProto:
    return TensorProto(name=name, data_type=STRING, dims=[len(values)], string_data=values)


def declared() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """What a model says of its values and what they are; values of one name."""
    for what, entry in (("type", info("m", (1, 4), INT64)), ("rank", info("m", (4,))), ("dims", info("m", (1, 5))), ("huge", info("m", (2**62, 2**62))),
                        ("negative", info("m", (-1, -4))), ("strings", info("m", (1, 4), STRING)), ("no_such_type", info("m", (1, 4), 77))):
        made = model([node("Relu", "x", "m"), node("Neg", "m")])
        made.graph.value_info.append(entry)
        yield f"told_of_between_{what}", ANY, made
        made = model([node("Relu", "x", "m")], outputs=("m",))
        made.graph.output[0].CopyFrom(entry)
        yield f"told_of_output_{what}", ANY, made
    sequence = onnx.ValueInfoProto(name="m", type=helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, (1, 4))))
    made = model([node("Relu", "x", "m")], outputs=("m",))
    made.graph.output[0].CopyFrom(sequence)
    yield "told_of_output_sequence", ANY, made
    for what, weight in (("same", floats("x", (1, 4))), ("shape", floats("x", (3, 3, 3))), ("type", ints("x", 1, 2))):
        yield f"weight_shadows_input_{what}", ANY, model([node("Relu", "x")], weights=[weight])
    yield "weight_twice", REFUSED, model([node("Add", "x w")], weights=[floats("w", (4,)), floats("w", (1, 4))])
    yield "weight_is_result", REFUSED, model([node("Relu", "x", "w"), node("Neg", "w")], weights=[floats("w", (1, 4))])
    yield "weight_is_output", ANY, model([node("Relu", "x", "z")], outputs=("w", "z"), weights=[floats("w", (4,))])
    yield "input_is_output", ANY, model([], outputs=("x",))
    yield "nodes_of_one_name", COMPILED, model([node("Relu", "x", f"t{i}", name="one") if i == 0 else node("Relu", f"t{i - 1}", f"t{i}", name="one")
                                                for i in range(30)], outputs=("t29",))
    alike = ["a.b", "a_b", "a/b", "a b", "a\u00a0b", "A_B", "a__b", "a_b_2", "a\u0301", "\u00e1", "a\u200bb", "\uff41_b", "run", "init", "NULL", "errno"]
    yield "names_that_look_alike", COMPILED, model([helper.make_node("Neg", [n], [f"y{n}"], name=n) for n in alike],
                                                   inputs=[info(n, (1, 2)) for n in alike], outputs=[f"y{n}" for n in alike])
    ends = [f"{'n' * 5000}{i}" for i in range(40)]
    yield "names_that_differ_at_the_end", COMPILED, model([helper.make_node("Neg", [n], [f"y{n}"], name=n) for n in ends], inputs=[info(n, (2,)) for n in ends],
                                                          outputs=[f"y{n}" for n in ends])
    yield "dims_of_one_name_that_differ", ANY, model([node("Add", "x z")], inputs=[info("x", ("n", 4)), info("z", (4, "n"))])
    for version in (2**31, 2**62, -5, 29, 99):
        made = model([node("Relu", "x")])
        made.opset_import.append(helper.make_opsetid("com.microsoft", version))
        yield f"version_of_microsoft_{version}", ANY, made
    made = model([node("Relu", "x")])
    made.opset_import.extend(helper.make_opsetid(f"d{i}", 1) for i in range(200_000))
    yield "domains_without_end", REFUSED, made
    made = model([node("Add", "x w")], weights=[floats("w", (4,))])
    made.graph.quantization_annotation.append(onnx.TensorAnnotation(tensor_name="w", quant_parameter_tensor_names=[
        onnx.StringStringEntryProto(key="SCALE_TENSOR", value="ghost")]))
    yield "annotation_of_nothing", COMPILED, made
    made = model([node("Relu", "x")])
    made.training_info.add().algorithm.CopyFrom(made.graph)
    yield "training", ANY, made


def functions() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Functions of the model."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]

    def call(*bodies: onnx.FunctionProto, **attributes: object) -> onnx.ModelProto:
        return model([helper.make_node("F", ["x"], ["y"], domain="f", **attributes)], functions=bodies, domains=["f"])

    def function(name: str, nodes: list[onnx.NodeProto], results: tuple[str, ...] = ("b",), operands: tuple[str, ...] = ("a",), **more: object) -> onnx.FunctionProto:
        return helper.make_function("f", name, list(operands), list(results), nodes, opsets, **more)  # type: ignore[arg-type]

    through = helper.make_node("G", ["a"], ["b"], domain="f")
    yield "function_calls_itself", REFUSED, call(function("F", [helper.make_node("F", ["a"], ["b"], domain="f")]))
    yield "functions_call_each_other", REFUSED, call(function("F", [through]), function("G", [helper.make_node("F", ["a"], ["b"], domain="f")]))
    looped = loop_body([helper.make_node("F", ["v"], ["r"], domain="f")], "r")
    yield "function_calls_itself_in_a_loop", REFUSED, call(function("F", [
        node("Constant", "", "n", value=_number("n", 2, np.int64)), node("Constant", "", "t", value=_number("t", True, np.bool_)),
        node("Loop", "n t a", "b", body=looped)]))
    yield "function_without_nodes", ANY, call(function("F", [], results=("a",)))
    yield "function_gives_nothing", REFUSED, call(function("F", [node("Relu", "a", "c")], results=()))
    yield "function_result_undefined", REFUSED, call(function("F", [node("Relu", "a", "c")], results=("ghost",)))
    yield "function_results_twice", ANY, call(function("F", [node("Relu", "a", "b")], results=("b", "b")))
    yield "function_operands_twice", ANY, call(function("F", [node("Relu", "a", "b")], operands=("a", "a")))
    yield "function_assigns_its_operand", ANY, call(function("F", [node("Relu", "a", "a")], results=("a",)))
    refers = node("Softmax", "a", "b")
    refers.attribute.append(AttributeProto(name="axis", ref_attr_name="axis", type=AttributeProto.INT))
    yield "attribute_of_function", COMPILED, call(function("F", [refers], attributes=["axis"]), axis=1)
    yield "attribute_of_function_of_other_type", REFUSED, call(function("F", [refers], attributes=["axis"]), axis="one")
    yield "attribute_of_function_refers_to_itself", ANY, call(function("F", [refers], attribute_protos=[
        AttributeProto(name="axis", ref_attr_name="axis", type=AttributeProto.INT)]))
    yield "function_of_thousands_thousands_of_times", REFUSED, model(
        [helper.make_node("F", [f"t{i}" if i else "x"], [f"t{i + 1}"], domain="f") for i in range(400)], outputs=("t400",), domains=["f"],
        functions=[function("F", [node("Relu", f"a{i}" if i else "a", f"a{i + 1}" if i < 399 else "b") for i in range(400)])])
    made = call(function("F", [node("Relu", "a", "b")]))
    made.functions[0].opset_import[0].version = 2**40
    yield "function_of_a_version_to_come", REFUSED, made
    made = call(function("F", [node("Relu", "a", "b")]), function("F", [node("Neg", "a", "b")]))
    made.functions[0].overload, made.functions[1].overload = "one", "two"
    made.graph.node[0].overload = "three"
    yield "function_of_an_overload_that_is_not", REFUSED, made
    text = "\x1b[31m*/\u202e\n#error"
    made = model([helper.make_node(text, ["x"], ["y"], domain="f")], functions=[function(text, [node("Relu", "a", "b", name=text)], doc_string=text)], domains=["f"])
    yield "function_with_escapes_in_its_name", COMPILED, made


def texts() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Strings with zeros, strings that are no UTF-8, and many of them."""
    inputs = [info("x", (3,), STRING)]
    for what, value in (("zero", b"a\0b"), ("leading_zero", b"\0"), ("quotes", b'"\\"); /* ??/ %s \n'), ("emoji", "\U0001f600".encode()), ("escape", b"\x1b[2J")):
        yield f"text_with_{what}", ANY, model([node("Equal", "x w")], inputs=inputs, weights=[_texts("w", value, b"a", b"")], opset=19)
        yield f"output_of_text_with_{what}", ANY, model([node("Where", "c x w")], inputs=[*inputs, info("c", (3,), BOOL)], weights=[_texts("w", value, b"a", b"")], opset=19)
    for what, value in (("no_utf8", b"\xff\xfe"), ("half_a_character", b"\xe2\x82"), ("surrogate", b"\xed\xa0\x80")):
        yield f"text_{what}", REFUSED, model([node("StringConcat", "x w")], inputs=inputs, weights=[_texts("w", value, b"a", b"")], opset=20)
    yield "text_of_ten_megabytes", ANY, model([node("StringConcat", "x w")], inputs=[info("x", (1,), STRING)], weights=[_texts("w", b"a" * 10_000_000)], opset=20)
    yield "texts_by_the_hundred_thousand", ANY, model([node("Gather", "w i")], inputs=[info("i", (2,), INT64)], weights=[_texts("w", *[b"ab"] * 200_000)])
    for what, keys in (("text_with_zero", [b"a\0b", b"a"]), ("one_key_twice", [b"a", b"a"])):
        made = model([helper.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_strings=keys, values_int64s=[1, 2])], inputs=inputs, domains=["ai.onnx.ml"])
        made.opset_import[-1].version = 3
        yield f"map_of_{what}", ANY, made


def lists() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Attributes with very many entries, and a node with very many attributes."""
    many = [1] * 300_000
    picture, kernel = [info("x", (1, 2, 6, 6))], floats("w", (2, 2, 3, 3))
    for op, name in (("Transpose", "perm"), ("Conv", "pads"), ("Conv", "strides"), ("Conv", "kernel_shape"), ("MaxPool", "kernel_shape")):
        more = {"kernel_shape": [1, 1]} if op == "MaxPool" and name != "kernel_shape" else {}
        yield f"{op}_{name}_of_many", REFUSED, model([helper.make_node(op, ["x", "w"][:2 if op == "Conv" else 1], ["y"], **{name: many}, **more)],
                                                          inputs=picture, weights=[kernel])
    yield "axes_of_many", REFUSED, model([node("ReduceSum", "x a")], weights=[ints("a", *many)])
    yield "scaler_of_many", REFUSED, model([helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[1.0] * 300_000, scale=[1.0] * 300_000)],
                                                domains=["ai.onnx.ml"])
    odd = node("Relu", "x")
    odd.attribute.extend(helper.make_attribute(f"a{i}", 1) for i in range(200_000))
    yield "attributes_without_end", REFUSED, model([odd])
    count = 40_000
    tree = {"nodes_treeids": [0] * count, "nodes_nodeids": list(range(count)), "nodes_featureids": [0] * count, "nodes_modes": ["BRANCH_LEQ"] * (count - 1) + ["LEAF"],
            "nodes_values": [0.0] * count, "nodes_truenodeids": [*range(1, count), 0], "nodes_falsenodeids": [*range(1, count), 0],
            "target_treeids": [0], "target_nodeids": [count - 1], "target_ids": [0], "target_weights": [1.0], "n_targets": 1}
    yield "tree_as_deep_as_it_is_long", ANY, model([helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **tree)], domains=["ai.onnx.ml"])
    ring = tree | {k: v[:4] if isinstance(v, list) and len(v) == count else v for k, v in tree.items()} | {
        "nodes_nodeids": [0, 1, 2, 3], "nodes_truenodeids": [1, 2, 0, 0], "nodes_falsenodeids": [3, 3, 3, 0], "nodes_modes": ["BRANCH_LEQ"] * 3 + ["LEAF"], "target_nodeids": [3]}
    yield "tree_in_a_circle", REFUSED, model([helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **ring)], domains=["ai.onnx.ml"])


def scales() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Quantization by scales that are zero, negative or no numbers, alone and within patterns that are rewritten."""
    image, kernel = [info("x", (1, 2, 6, 6))], numpy_helper.from_array(np.ones((2, 2, 3, 3), np.int8), "w")
    for value in (0.0, -0.5, float("nan"), float("inf"), 1e-45, 3e38):
        s, one, z = _number("s", value), _number("one", 0.5), _number("z", 3, np.int8)
        each = _number("each", [0.5, value])
        none = numpy_helper.from_array(np.zeros(2, np.int8), "none")
        pattern = [node("QuantizeLinear", "x one z", "q"), node("DequantizeLinear", "q one z", "d"), node("DequantizeLinear", "w each none", "e", axis=0),
                   node("Conv", "d e", "c"), node("QuantizeLinear", "c s z", "r"), node("DequantizeLinear", "r s z")]
        yield f"pattern_of_scale_{value:g}", ANY, model(pattern, inputs=image, weights=[s, one, z, each, none, kernel])
        yield f"convolution_of_scale_{value:g}", ANY, model([node("QLinearConv", "x one z w each none s z")], inputs=[info("x", (1, 2, 6, 6), INT8)],
                                                            weights=[s, one, z, each, none, kernel])
        yield f"product_of_scale_{value:g}", ANY, model([node("QLinearMatMul", "x one z v s z s z")], inputs=[info("x", (2, 3), INT8)],
                                                        weights=[s, one, z, numpy_helper.from_array(np.ones((3, 2), np.int8), "v")])
        yield f"sum_of_scale_{value:g}", ANY, model([node("QLinearAdd", "x s z x one z s z", domain="com.microsoft")], inputs=[info("x", (2, 3), INT8)],
                                                    weights=[s, one, z], domains=["com.microsoft"])
        yield f"blocks_of_scale_{value:g}", ANY, model([node("DequantizeLinear", "w b", "d", axis=1, block_size=2), node("MatMul", "x d")], opset=21, weights=[
            numpy_helper.from_array(np.ones((4, 4), np.int8), "w"), _number("b", [[1, value]] * 4)])
        yield f"scale_at_run_time_beside_{value:g}", COMPILED, model([node("QuantizeLinear", "x g z", "q"), node("DequantizeLinear", "q s z")],
                                                                   inputs=[info("x", (1, 4)), info("g", ())], weights=[s, z])
    for what, zero in (("type", _number("z", 3, np.int32)), ("rank", numpy_helper.from_array(np.array([[3]], np.int8), "z")),
                       ("length", numpy_helper.from_array(np.array([3, 4, 5], np.int8), "z")), ("fraction", _number("z", 0.5))):
        yield f"zero_point_of_other_{what}", REFUSED, model([node("QuantizeLinear", "x s z")], weights=[_number("s", 0.5), zero])
    for size, wanted in ((-1, REFUSED), (3, ANY), (2**40, REFUSED)):
        yield f"blocks_of_{size}", wanted, model([node("DequantizeLinear", "w b", "d", axis=1, block_size=size), node("MatMul", "x d")], opset=21, weights=[
            numpy_helper.from_array(np.ones((4, 4), np.int8), "w"), _number("b", [[1, 1]] * 4)])


def loops() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Loops whose end the run decides, within each other."""
    inputs = [info("x", (1, 4)), info("n", (), INT64), info("t", (), BOOL)]
    body = loop_body([node("Relu", "v", "r")], "r")
    for _ in range(3):
        body = loop_body([node("Loop", "n t v", "r", body=body)], "r")
    yield "loops_of_the_run_in_loops", ANY, model([node("Loop", "n t x", body=body)], inputs=inputs)
    endless = loop_body([helper.make_node("Loop", ["", "go", "v"], ["r"], body=loop_body([node("Relu", "v", "r")], "r"))], "r")
    yield "endless_in_endless", ANY, model([helper.make_node("Loop", ["", "t", "x"], ["y"], body=endless)], inputs=inputs)
    collecting = helper.make_graph([node("Relu", "v", "r"), node("Identity", "go", "on"), node("Identity", "v", "row")], "body",
                                   [info("i", (), INT64), info("go", (), BOOL), info("v", None)], [helper.make_empty_tensor_value_info(o) for o in ("on", "r", "row")])
    yield "loop_that_collects_without_end", ANY, model([node("Loop", "n t x", "y rows", body=collecting)], inputs=inputs, outputs=("y", "rows"))
    yield "loop_reads_unknown", REFUSED, model([node("Loop", "n t x", body=loop_body([node("Add", "v ghost", "r")], "r"))], inputs=inputs)
    yield "branch_of_other_type", ANY, model([node("If", "t", then_branch=branch([node("Relu", "x", "r")], "r"), else_branch=branch([node("Shape", "x", "r")], "r"))], inputs=inputs)
    yield "branch_of_other_rank", ANY, model([node("If", "t", then_branch=branch([node("Relu", "x", "r")], "r"), else_branch=branch(
        [node("ReduceSum", "x", "r", keepdims=0)], "r"))], inputs=inputs)
    grows = loop_body([node("Concat", "v x", "r", axis=0)], "r")
    yield "loop_that_grows_at_run_time", ANY, model([node("Loop", "n t x", body=grows)], inputs=inputs)


def readers() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """A value that very many nodes read: first those that the output needs, then those that nothing does."""
    sums = [node("Add", "x x", f"a{i}") for i in range(8_000)]
    yield "many_readers_of_no_use", COMPILED, model([*sums, node("Max", " ".join(f"a{i}" for i in range(2_000)))])


FAMILIES = (declared, functions, texts, lists, scales, loops, readers)
