"""Hostile models of damaged protobuf: fields of other types, lists twice, lengths below zero, types within types; and graphs of unlike parts in great number."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper

from tests.support.hostile import ANY, FLOAT, REFUSED, branch, floats, info, message_field, model, node


def _varint(value: int) -> bytes:
    value, out = value & 2**64 - 1, b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def damaged() -> Iterator[tuple[str, str, bytes]]:
    """Fields of a sound model again, and as they should not be."""
    sound = model([node("Relu", "x")]).SerializeToString()

    def graph(content: bytes) -> bytes:
        return message_field(7, content)

    def one_more(*parts: bytes, op: bytes = b"Softmax") -> bytes:
        return sound + graph(_bytes(1, _bytes(1, b"y") + _bytes(2, b"z") + _bytes(4, op) + b"".join(parts)) + _bytes(12, _bytes(1, b"z")))

    tensor = _bytes(1, _number(1, 1) + _bytes(2, _bytes(1, _number(1, 4))))
    sequence = tensor
    for depth in range(3000):
        sequence = _bytes(4, _bytes(1, sequence))
        if depth in (30, 2999):
            yield f"sequences_{depth + 1}_deep", ANY if depth == 30 else REFUSED, graph(_bytes(11, _bytes(1, b"q") + _bytes(2, sequence))) + sound
    every = tensor + _bytes(4, _bytes(1, tensor)) + _bytes(5, _number(1, 7) + _bytes(2, tensor)) + _bytes(9, _bytes(1, tensor))
    yield "type_of_every_kind", ANY, graph(_bytes(11, _bytes(1, b"q") + _bytes(2, every))) + sound
    yield "operator_twice", ANY, one_more(_bytes(4, b"Neg"))
    yield "attribute_of_two_types", ANY, one_more(_bytes(5, _bytes(1, b"axis") + _number(20, 2) + _number(3, 1) + _number(20, 4)))
    yield "attribute_of_ten_bytes_and_more", ANY, one_more(_bytes(5, _bytes(1, b"axis") + _number(20, 2) + b"\x18" + b"\x80" * 9 + b"\x7f"))
    yield "attribute_of_floats_as_number", ANY, one_more(_bytes(5, _bytes(1, b"alpha") + _number(20, 1) + _number(2, 5)), op=b"LeakyRelu")
    yield "operator_no_utf8", REFUSED, one_more(op=b"Relu\xc0\x80")
    yield "version_of_eleven_bytes", REFUSED, sound + _bytes(8, b"\x10" + b"\x80" * 10 + b"\x01")
    for length in (2**31, 2**63, -5):
        yield f"length_of_{length}", REFUSED, sound + b"\x3a" + _varint(length) + b"a"
    yield "numbers_cut_off", REFUSED, sound + graph(_bytes(5, _bytes(8, b"w") + _number(2, 7) + _number(1, 1) + _bytes(7, b"\x80")))
    yield "text_for_integers", ANY, sound + graph(_bytes(5, _bytes(8, b"w") + _number(2, 7) + _number(1, 2) + _bytes(6, b"one") + _bytes(6, b"two"))) + graph(
        _bytes(1, _bytes(1, b"y") + _bytes(1, b"w") + _bytes(2, b"z") + _bytes(4, b"Add")) + _bytes(12, _bytes(1, b"z")))
    yield "inputs_of_nothing", REFUSED, sound + graph(_bytes(11, b"") * 3000)
    yield "function_of_onnx_without_domain", ANY, sound + _bytes(25, _bytes(1, b"Relu") + _bytes(4, b"a") + _bytes(5, b"b") + _bytes(
        7, _bytes(1, b"a") + _bytes(2, b"b") + _bytes(4, b"Relu")))
    yield "metadata_of_megabytes", ANY, sound + _bytes(14, _bytes(1, b"k" * 1_000_000) + _bytes(2, b"*/\x1b\n" * 300_000))
    yield "pickle", REFUSED, b"\x80\x04cposix\nsystem\n(S'touch harm'\ntR."


def stored() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Tensors whose dims multiply to what memory has, and which say two things."""
    add = [node("Add", "x w")]
    for what, dims in (("wraps_to_sixteen_bytes", (2**62 + 1, 4)), ("wraps_to_nothing", (2**32, 2**32)), ("of_many_axes", (1,) * 100_001)):
        yield f"weight_{what}", REFUSED, model(add, weights=[TensorProto(name="w", data_type=FLOAT, dims=dims, raw_data=bytes(16))])
    for code in (TensorProto.UINT4, TensorProto.INT4, TensorProto.FLOAT4E2M1):
        yield f"nibbles_short_{code}", REFUSED, model([node("Cast", "w", "c", to=FLOAT), node("Add", "x c")], opset=25, weights=[
            TensorProto(name="w", data_type=code, dims=[9], raw_data=b"\xff")])


def unlike() -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """Small files whose parts share nothing."""
    names = [f"x{number}" for number in range(300)]
    sides = {f"{side}_branch": branch([node(op, " ".join(names), "r")], "r") for side, op in (("then", "Max"), ("else", "Min"))}
    many = [f"y{number}" for number in range(400)]
    yield "branches_that_read_everything", REFUSED, model([node("If", "c", name, **sides) for name in many], outputs=many,
                                                          inputs=[info("c", (), TensorProto.BOOL), *(info(name, (1, 4)) for name in names)])
    wide = [helper.make_node("Max", ["x"] * 4000, [f"y{number}"]) for number in range(30)]
    yield "operands_by_the_hundred_thousand", REFUSED, model(wide, outputs=[f"y{number}" for number in range(30)])
    yield "pools_of_other_windows", ANY, model([node("MaxPool", "x", f"y{number}", kernel_shape=[1 + number % 20, 1 + number // 20]) for number in range(60)],
                                               outputs=[f"y{number}" for number in range(60)], inputs=[info("x", (1, 2, 64, 64))])
    yield "sums_of_other_constants", ANY, model([node("Add", f"t{number} w{number}" if number else "x w0", f"t{number + 1}") for number in range(250)],
                                                outputs=("t250",), weights=[floats(f"w{number}", (1, 4)) for number in range(250)])


FAMILIES = (damaged, stored, unlike)
