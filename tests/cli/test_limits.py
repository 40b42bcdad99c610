"""Limits of the command line: which there are, how they are raised and lowered, what is said when one is crossed."""

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

import edgecc
from edgecc.backends.c.backend import CBackend
from edgecc.cli.arguments import parse_limits
from edgecc.errors import EdgeccError
from edgecc.frontend import Limits
from tests.support.hostile import branch, floats, info, ints, model, node

LAYERS = model([node("Reshape", "x s", "a"), node("Transpose", "a", "t", perm=[1, 0]), node("MatMul", "t w", "b"), node("MatMul", "b w")],
               inputs=[info("x", (1, 4, 4))], weights=[floats("w"), ints("s", 4, 4)])
CROSSED = {"file_bytes": 50, "nodes": 3, "operands": 1, "rank": 1, "elements": 15, "constant_bytes": 60, "arena_bytes": 63,
           "generated_bytes": 1000, "kernels": 0}


@pytest.mark.parametrize("name", CROSSED)
def test_every_limit_is_kept_and_named(name):
    data = LAYERS.SerializeToString()
    with pytest.raises(EdgeccError) as caught:
        edgecc.compile(data, "generic-c", limits=Limits(**{name: CROSSED[name]}))
    assert caught.value.code == "E101" and f"{CROSSED[name]}" in str(caught.value)
    if name != "rank":
        assert f"--limits {name}=NUMBER" in caught.value.hint
    edgecc.compile(data, "generic-c", limits=Limits(**{name: 2**31}))


def test_lists_of_the_file_are_counted_before_they_are_looked_into():
    many = model([node("Relu", "x")], weights=[floats(f"w{number}", (1,)) for number in range(30)])
    with pytest.raises(EdgeccError, match="30 entries in the list initializer; the limit is 20"):
        edgecc.compile(many.SerializeToString(), "generic-c", limits=Limits(entries=20))


def test_operands_of_all_nodes_are_counted_together():
    wide = model([node("Max", " ".join(["x"] * 30), f"y{number}") for number in range(4)], outputs=[f"y{number}" for number in range(4)])
    with pytest.raises(EdgeccError, match="124 operands and results together; the limit is 123"):
        edgecc.compile(wide, "generic-c", limits=Limits(entries=123))
    edgecc.compile(wide, "generic-c", limits=Limits(entries=124))


def test_values_that_branches_read_are_counted_like_operators():
    names = [f"x{number}" for number in range(8)]
    branches = {f"{side}_branch": branch([node(op, " ".join(names), "r")], "r") for side, op in (("then", "Max"), ("else", "Min"))}
    made = model([node("If", "c", f"y{number}", **branches) for number in range(4)], outputs=[f"y{number}" for number in range(4)],
                 inputs=[info("c", (), TensorProto.BOOL), *(info(name, (1, 4)) for name in names)])
    with pytest.raises(EdgeccError, match="expands to more than 40 operators"):
        edgecc.compile(made, "generic-c", limits=Limits(nodes=20))
    edgecc.compile(made, "generic-c", limits=Limits(nodes=80))


def test_unlike_kernels_and_their_code_are_counted_before_there_are_thousands(monkeypatch):
    pads = [(top, left) for top in range(4) for left in range(4)]
    made = model([node("Conv", "x w", f"y{top}{left}", pads=[top, left, 0, 0]) for top, left in pads], outputs=[f"y{top}{left}" for top, left in pads],
                 inputs=[info("x", (1, 2, 9, 9))], weights=[floats("w", (2, 2, 3, 3))])
    with pytest.raises(EdgeccError, match="more than 9 unlike kernels"):
        edgecc.compile(made, "generic-c", limits=Limits(kernels=9))
    monkeypatch.setattr(CBackend, "emit", lambda *_: pytest.fail("printed all the same"))
    with pytest.raises(EdgeccError, match="more than 20000 bytes"):
        edgecc.compile(made, "generic-c", limits=Limits(generated_bytes=20_000))


def test_phases_of_transposed_convolutions_count_like_kernels():
    made = model([node("ConvTranspose", "x w", f"y{stride}", strides=[8, stride]) for stride in (4, 5)], outputs=["y4", "y5"],
                 inputs=[info("x", (1, 2, 5, 5))], weights=[floats("w", (2, 2, 3, 3))])
    with pytest.raises(EdgeccError, match="more than 8 unlike kernels"):
        edgecc.compile(made, "generic-c", limits=Limits(kernels=8))
    edgecc.compile(made, "generic-c", limits=Limits(kernels=9))


@pytest.mark.parametrize("maker", [
    node("Range", "zero n one", "m"), node("RandomNormal", "", "m", shape=[1000]), node("Multinomial", "x", "m", sample_size=1000),
    node("EyeLike", "w", "m"), node("HannWindow", "n", "m"), node("DFT", "s", "m", axis=0)], ids=lambda node: node.op_type)
def test_what_only_sizes_decide_is_counted_before_it_is_made(maker):
    made = model([maker, node("Cast", "m", "f", to=1), node("ReduceMean", "f", "r", keepdims=0), node("Add", "x r")], opset=17, weights=[
        numpy_helper.from_array(np.array(value), name) for name, value in (("zero", 0), ("n", 1000), ("one", 1))] + [
        floats("w", (1000, 1)), floats("s", (50, 1, 1))])
    with pytest.raises(EdgeccError, match="the limit for all such arrays together is 7000 bytes") as caught:
        edgecc.compile(made.SerializeToString(), "generic-c", limits=Limits(made_bytes=7000))
    assert caught.value.code == "E101" and "--limits made_bytes=NUMBER" in caught.value.hint
    edgecc.compile(made.SerializeToString(), "generic-c")


def test_limits_are_read_from_the_command_line():
    assert parse_limits(["nodes=5,rank=3", "elements=2e9"]) == Limits(nodes=5, rank=3, elements=2 * 10**9)
    assert parse_limits([]) == Limits()
    for wrong in ("nodes", "nodes=", "nodes=-1", "nodes=x", "nods=5", "=5", "nodes=1e999", "nodes=" + "9" * 99):
        with pytest.raises(EdgeccError) as caught:
            parse_limits([wrong])
        assert caught.value.code == "E001"
    with pytest.raises(EdgeccError, match="did you mean nodes=NUMBER"):
        parse_limits(["nods=5"])
