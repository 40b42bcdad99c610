"""More hostile models: files that are none, data that lies about itself, graphs inside graphs, sizes of numbers out of any range."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.hostile import (
    ANY,
    COMPILED,
    FLOAT,
    REFUSED,
    branch,
    floats,
    info,
    ints,
    message_field,
    model,
    node,
)

INT64 = TensorProto.INT64


def _number(name: str, value: object, dtype: type = np.int64) -> TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def other_files() -> Iterator[tuple[str, str, bytes]]:
    """Files of other formats, and messages nested to any depth."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.onnx", bytes(20_000_000))
    yield "zip_of_zeros", REFUSED, archive.getvalue()
    yield "git_lfs_pointer", REFUSED, b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"
    yield "pickle", REFUSED, b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."
    yield "tflite", REFUSED, b"\x1c\0\0\0TFL3" + bytes(200)
    yield "page", REFUSED, b"<!doctype html><html><body>404</body></html>"
    for depth, wanted in ((20, ANY), (60, ANY), (95, ANY), (3000, REFUSED)):
        graph = helper.make_graph([node("Relu", "x", "r")], "g", [], [info("r", (4,))]).SerializeToString()
        for _ in range(depth):
            attribute = message_field(1, b"then_branch") + message_field(6, graph) + b"\xa0\x01\x05"
            graph = message_field(1, message_field(1, b"x") + message_field(2, b"r") + message_field(4, b"If") + message_field(5, attribute))
        yield f"graphs_{depth}_deep", wanted, b"\x08\x08" + message_field(7, graph) + message_field(8, b"\x10\x11")
    kind = message_field(1, b"\x08\x01")
    for _ in range(90):
        kind = message_field(4, message_field(1, kind))
    yield "type_of_sequences_of_sequences", REFUSED, b"\x08\x08" + message_field(7, message_field(1, node("Relu", "x").SerializeToString()) + message_field(
        11, message_field(1, b"x") + message_field(2, kind)) + message_field(12, message_field(1, b"y"))) + message_field(8, b"\x10\x11")


def stored() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Weights that are not what they say, dense and sparse."""
    add = [node("Add", "x w")]
    for name, dims, data in (("claims_terabytes", [2**40], bytes(16)), ("negative", [-1, 4], bytes(16)), ("overflow", [2**33, 2**33], bytes(16)),
                             ("nothing_times_much", [0, 2**62, 2**62], b""), ("a_byte_short", [4], bytes(15)), ("a_byte_long", [4], bytes(17))):
        yield f"weights_{name}", REFUSED, model(add, weights=[TensorProto(name="w", data_type=FLOAT, dims=dims, raw_data=data)])
    yield "weights_of_other_field", REFUSED, model(add, weights=[TensorProto(name="w", data_type=FLOAT, dims=[4], int32_data=[1] * 4)])
    yield "weights_of_bytes_as_texts", REFUSED, model([node("StringConcat", "w w")], weights=[
        TensorProto(name="w", data_type=TensorProto.STRING, dims=[4], raw_data=b"abcd")], opset=20)
    yield "truth_of_200", COMPILED, model([node("Where", "w x x")], weights=[
        TensorProto(name="w", data_type=TensorProto.BOOL, dims=[1, 4], raw_data=b"\xc8\x01\x00\xff")])
    for name, places, dims in (("outside", [0, 4], [1, 4]), ("negative", [-1, 3], [1, 4]), ("pair_outside", [[0, 0], [0, 9]], [1, 4]),
                               ("fewer", [0], [1, 4]), ("huge", [0, 3], [2**31, 2**31]), ("negative_dim", [0, 3], [-1, 4]), ("cube", [[[0, 1]]], [1, 4])):
        made = model(add)
        sparse = made.graph.sparse_initializer.add()
        sparse.values.CopyFrom(numpy_helper.from_array(np.ones(2, np.float32), "w"))
        sparse.indices.CopyFrom(numpy_helper.from_array(np.array(places, np.int64), "places"))
        sparse.dims.extend(dims)
        yield f"sparse_{name}", REFUSED, made


def scopes() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Names of graphs inside nodes, and very many names."""
    inputs = [info("x", (1, 4)), info("t", (), TensorProto.BOOL)]

    def choice(part: onnx.GraphProto, *more: onnx.NodeProto) -> onnx.ModelProto:
        return model([node("If", "t", "a", then_branch=part, else_branch=part), *more], inputs=inputs)

    yield "branch_reads_what_follows", REFUSED, choice(branch([node("Relu", "later", "r")], "r"), node("Relu", "a", "later"), node("Relu", "later"))
    yield "branch_reads_its_own_node", REFUSED, choice(branch([node("Relu", "a", "r")], "r"), node("Relu", "a"))
    yield "result_of_a_branch_is_read_outside", REFUSED, choice(branch([node("Relu", "x", "hidden")], "hidden"), node("Add", "a hidden"))
    yield "scan_of_nothing", ANY, model([node("Scan", "x", body=helper.make_graph(
        [node("Relu", "e", "r")], "b", [info("e", (4,))], [info("r", (4,))]), num_scan_inputs=1)], inputs=[info("x", (0, 4))])
    yield "scan_in_direction_7", REFUSED, model([node("Scan", "x", body=helper.make_graph(
        [node("Relu", "e", "r")], "b", [info("e", (4,))], [info("r", (4,))]), num_scan_inputs=1, scan_input_directions=[7])])
    yield "thousands_of_outputs", COMPILED, model([node("Relu", "x"), *(node("Relu", "y", f"o{i}") for i in range(1500))],
                                                  outputs=[f"o{i}" for i in range(1500)])
    yield "parts_of_a_hundred_thousand", ANY, model([helper.make_node("Split", ["x"], [f"o{i}" for i in range(100_000)], num_outputs=100_000)],
                                                    outputs=("o0",), inputs=[info("x", (100_000,))])
    yield "escape_in_the_operator", REFUSED, model([node("Foo\x1b[2J\u202e", "x")])


def numbers() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Sizes, steps and factors that are too large, negative, or no numbers."""
    picture = [info("x", (1, 3, 8, 8))]
    for scale in (1e9, -1.0, 0.0, float("nan"), float("inf")):
        yield f"resize_by_{scale:g}", REFUSED, model([helper.make_node("Resize", ["x", "", "s"], ["y"])], inputs=picture,
                                                    weights=[_number("s", [1, 1, scale, scale], np.float32)])
    yield "cubic_on_twelve_axes", COMPILED, model([helper.make_node("Resize", ["x", "", "s"], ["y"], mode="cubic")], inputs=[info("x", (2,) * 12)],
                                                  weights=[_number("s", [1.5] * 12, np.float32)])
    yield "resize_to_trillions", REFUSED, model([helper.make_node("Resize", ["x", "", "", "z"], ["y"])], inputs=picture,
                                                weights=[ints("z", 1, 3, 2**40, 2**40)])
    yield "range_of_denormal_steps", REFUSED, model([node("Range", "a b c")], weights=[_number(n, v, np.float32) for n, v in zip(
        "abc", (0, 1, 1e-45), strict=True)])
    yield "range_over_all_integers", REFUSED, model([node("Range", "a b c")], weights=[_number(n, v) for n, v in zip(
        "abc", (2**63 - 1, -(2**63), -1), strict=True)])
    yield "one_hot_of_trillions", REFUSED, model([node("OneHot", "i d v")], inputs=[info("i", (4,), INT64)],
                                                 weights=[_number("d", 2**40), _number("v", [0, 1], np.float32)])
    for op, axes in (("ReduceSum", (0, -2)), ("Squeeze", (0, 0)), ("Unsqueeze", (1, 1))):
        yield f"{op}_of_one_axis_twice", REFUSED, model([node(op, "x a")], weights=[ints("a", *axes)])
    yield "feature_of_quintillions", REFUSED, model([helper.make_node("ArrayFeatureExtractor", ["x", "i"], ["y"], domain="ai.onnx.ml")],
                                                    weights=[ints("i", 2**62)], domains=["ai.onnx.ml"])
    yield "regions_of_no_image", REFUSED, model([node("RoiAlign", "x r b", output_height=2, output_width=2)], inputs=picture,
                                                weights=[floats("r", (1, 4)), ints("b", 99)])
    yield "top_of_quintillions", REFUSED, model([node("TopK", "x k", "y z")], weights=[ints("k", 2**62)])
    yield "mel_weights_of_billions", REFUSED, model([node("MelWeightMatrix", "a b c d e")], weights=[
        _number("a", 2**31), _number("b", 2**31), _number("c", 16000), _number("d", 0, np.float32), _number("e", 8000, np.float32)])
    yield "pattern_of_repetitions", REFUSED, model([node("RegexFullMatch", "x", pattern="((a{1000}){1000}){1000}")], opset=20,
                                                   inputs=[info("x", (4,), TensorProto.STRING)])
    yield "outer_product_by_letters", REFUSED, model([node("Einsum", "x x x x", equation="ab,cd,ef,gh->abcdefgh")], inputs=[info("x", (100, 100))])
    doubled = [node("StringConcat", f"t{i} t{i}", f"t{i + 1}") for i in range(40)]
    yield "text_that_doubles", ANY, model([*doubled, node("StringConcat", "x t40")], opset=20, inputs=[info("x", (1,), TensorProto.STRING)],
                                          weights=[TensorProto(name="t0", data_type=TensorProto.STRING, dims=[1], string_data=[b"abcdefgh"])])
    yield "text_many_times", ANY, model([node("Expand", "t s", "e"), node("StringConcat", "e e", "d"), node("Equal", "x d")], opset=20,
                                        inputs=[info("x", (1,), TensorProto.STRING)], weights=[ints("s", 100_000), TensorProto(
                                            name="t", data_type=TensorProto.STRING, dims=[1], string_data=[b"a" * 100_000])])
    yield "votes_of_millions_of_pairs", REFUSED, model([helper.make_node(
        "SVMClassifier", ["x"], ["l", "y"], domain="ai.onnx.ml", classlabels_ints=range(3000), vectors_per_class=[1] * 3000, rho=[0.0],
        support_vectors=[0.5] * 12000, coefficients=[1.0] * 3000)], domains=["ai.onnx.ml"])
    yield "experts_of_trillions", REFUSED, model([node("MoE", "x r a  c".replace("  ", " b "), domain="com.microsoft", k=2**40)], weights=[
        floats("r", (1, 3)), floats("a", (3, 6, 4)), floats("b", (3, 6)), floats("c", (3, 4, 6))])
    yield "blocks_of_trillions", REFUSED, model([node("MatMulNBits", "x b s", domain="com.microsoft", K=2**40, N=2**40, block_size=2**40)], weights=[
        TensorProto(name="b", data_type=TensorProto.UINT8, dims=[1, 1, 8], raw_data=bytes(8)), floats("s", (1,))])


def endless() -> Iterator[tuple[str, str, bytes]]:
    """Lists without end that lie deep in the file, and more inputs and outputs than anything has."""
    sound = model([node("Relu", "x")]).SerializeToString()
    body = message_field(6, b"\x2a\x00" * 150_000)
    for what, kind, content in (("graphs", b"\x0a", b"\x5a\x00" * 150_000), ("tensors", b"\x09", b"\x52\x00" * 150_000), ("weights_in_a_graph", b"\x05", body)):
        attribute = message_field(5, message_field(1, b"a") + b"\xa0\x01" + kind + content)
        yield f"attribute_of_endless_{what}", REFUSED, sound + message_field(7, message_field(1, message_field(2, b"q") + message_field(4, b"If") + attribute))
    few = message_field(5, message_field(1, b"a") + b"\xa0\x01\x0a" + b"\x5a\x00" * 20_000)
    yield "attribute_of_many_graphs", REFUSED, sound + message_field(7, message_field(1, message_field(2, b"q") + message_field(4, b"If") + few))
    dims = message_field(2, message_field(1, b"\x08\x01" + message_field(2, message_field(1, b"\x08\x01") * 150_000)))
    yield "type_of_endless_rank", REFUSED, sound + message_field(7, message_field(13, message_field(1, b"q") + dims))
    yield "metadata_of_a_node_without_end", REFUSED, sound + message_field(7, message_field(1, message_field(2, b"q") + message_field(4, b"Relu") + b"\x4a\x00" * 150_000))
    yield "inputs_without_end", REFUSED, sound + message_field(7, b"".join(message_field(11, info(f"v{i}", (1,)).SerializeToString()) for i in range(20_000)))
    yield "outputs_without_end", REFUSED, sound + message_field(7, message_field(12, message_field(1, b"y")) * 100_000)


def copies() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Little that is asked for again and again while compiling."""
    inner = [node("Constant", "", "k", value=floats("k", (300, 300))), node("MatMul", "a k", "b")]
    function = helper.make_function("f", "F", ["a"], ["b"], inner, [helper.make_opsetid("", 18)])
    yield "constant_of_a_function_thousands_of_times", REFUSED, model(
        [helper.make_node("F", [f"t{i}" if i else "x"], [f"t{i + 1}"], domain="f") for i in range(3000)], outputs=("t3000",), domains=["f"],
        functions=[function], inputs=[info("x", (1, 300))])
    text = [info("x", (1,), TensorProto.STRING)]
    ends = [_number("a", 0), _number("b", 2_000_000), _number("c", 1)]
    yield "texts_of_two_million_numbers", REFUSED, model([node("Range", "a b c", "r"), node("Cast", "r", "t", to=TensorProto.STRING), node("Equal", "t x")],
                                                         opset=19, inputs=text, weights=ends)
    words = [TensorProto(name=name, data_type=TensorProto.STRING, dims=dims, string_data=[b"word"] * 3000) for name, dims in (("a", (3000, 1)), ("b", (3000,)))]
    yield "pairs_of_thousands_of_texts", COMPILED, model([node("StringConcat", "a b", "t"), node("Equal", "t x")], opset=20, inputs=text, weights=words)


FAMILIES = (other_files, stored, scopes, numbers, endless, copies)
