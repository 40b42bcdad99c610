"""Indices that are computed at run time: whatever they are, no run reads or writes outside of a tensor."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgecc
from edgecc.artifact import runner
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target
from tests.support.ccompile import SANITIZERS, build, require, run_program
from tests.support.hostile import floats, info, ints, model, node

SIZE = 6
TYPES = {TensorProto.INT64: np.int64, TensorProto.INT32: np.int32}


def network(op: str, dtype: int = TensorProto.INT64) -> onnx.ModelProto:
    """An operator that addresses an axis of six elements by its input `i`."""
    x = floats("w", (SIZE, 5))
    match op:
        case "Gather" | "GatherElements":
            return model([node(op, "w i")], inputs=[info("i", (3, 4), dtype)], weights=[x])
        case "GatherND":
            return model([node(op, "w i")], inputs=[info("i", (7, 1), dtype)], weights=[x])
        case "ScatterElements":
            return model([node(op, "x i u", reduction="add")], inputs=[info("x", (SIZE, 5)), info("i", (3, 4), dtype)],
                         weights=[floats("u", (3, 4))])
        case "ScatterND":
            return model([node(op, "x i u")], inputs=[info("x", (SIZE, 5)), info("i", (3, 1), dtype)], weights=[floats("u", (3, 5))])
        case "turned":  # a view with the strides exchanged, and an offset
            return model([node("Transpose", "i", "t", perm=[1, 0]), node("Slice", "t a b", "s"), node("Gather", "w s")],
                         inputs=[info("i", (3, 4), dtype)], weights=[x, ints("a", 1), ints("b", 3)])
        case "pairs":  # rows of two entries for axes of different sizes
            return model([node("GatherND", "w i")], inputs=[info("i", (4, 2), dtype)], weights=[x])
        case "branch":
            then = helper.make_graph([node("Gather", "w i", "g")], "then", [], [helper.make_empty_tensor_value_info("g")])
            other = helper.make_graph([node("Gather", "v i", "g")], "else", [], [helper.make_empty_tensor_value_info("g")])
            return model([node("If", "c", then_branch=then, else_branch=other)], weights=[x, floats("v", (SIZE, 5))],
                         inputs=[info("c", (), TensorProto.BOOL), info("i", (3,), dtype)])
        case "loop":  # the index of each iteration is its own
            body = helper.make_graph(
                [node("Add", "n i", "at"), node("Gather", "w at", "g"), node("Identity", "go", "on")], "body",
                [info("n", (), TensorProto.INT64), info("go", (), TensorProto.BOOL), info("s", (5,))],
                [info("on", (), TensorProto.BOOL), info("g", (5,))])
            return model([node("Loop", "trips go0 s0", body=body)],
                         inputs=[info("trips", (), TensorProto.INT64), info("i", (), TensorProto.INT64)],
                         weights=[x, floats("s0", (5,)), numpy_helper.from_array(np.array(True), "go0")])
    raise AssertionError(op)


def arrays(proto: onnx.ModelProto, fill: int) -> dict[str, np.ndarray]:
    """Inputs whose indices are all valid but, where `fill` is not, the one in the middle."""
    found = {}
    for value in proto.graph.input:
        tensor = value.type.tensor_type
        shape = tuple(d.dim_value for d in tensor.shape.dim)
        array = np.ones(shape, helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        if tensor.elem_type in TYPES:
            array.flat[array.size // 2] = fill
        found[value.name] = array
    return found


OPS = ("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "turned", "pairs", "branch")
WRONG = (SIZE, -SIZE - 1, 10**9, -10**9, 2**31 - 1, -2**31)


@pytest.mark.parametrize("op", OPS)
def test_trap_ends_the_run_and_clamp_moves_indices(op):
    require(load_target("generic-c"))
    proto = network(op)
    graph = import_model(proto)
    for checks in ("trap", "clamp"):
        with edgecc.load(edgecc.compile(proto, "generic-c", checks=checks), cc="gcc") as compiled:
            for fill in (0, 4, -1, -SIZE if op != "pairs" else -5):
                given = arrays(proto, fill)
                np.testing.assert_array_equal(compiled.run(given)["y"], execute(graph, given)["y"])
            for fill in (*WRONG, 2**62, -2**63):
                given = arrays(proto, fill)
                if checks == "clamp":
                    np.testing.assert_array_equal(compiled.run(given)["y"], execute(graph, given)["y"])
                    continue
                with pytest.raises(EdgeccError) as caught:
                    compiled.run(given)
                assert caught.value.code == "E403"
            given = arrays(proto, 3)  # a run that ended leaves nothing behind
            np.testing.assert_array_equal(compiled.run(given)["y"], execute(graph, given)["y"])


def test_a_loop_ends_at_the_iteration_whose_index_is_wrong():
    require(load_target("generic-c"))
    proto = network("loop")
    graph = import_model(proto)
    with edgecc.load(edgecc.compile(proto, "generic-c"), cc="gcc") as compiled:
        for trips, start, fits in ((3, 0, True), (2, 4, True), (3, 4, False), (2, -6, True), (1, -7, False), (3, 2**40, False)):
            given = {"trips": np.array(trips), "i": np.array(start)}
            if fits:
                np.testing.assert_array_equal(compiled.run(given)["y"], execute(graph, given)["y"])
            else:
                with pytest.raises(EdgeccError) as caught:
                    compiled.run(given)
                assert caught.value.code == "E403"


@pytest.mark.parametrize("target", ["generic-c", "cortex-a76"])
@pytest.mark.parametrize("checks", ["trap", "clamp"])
def test_wrong_indices_do_no_harm(target, checks, tmp_path):
    """All operators in one program with the sanitizers where the machine has them."""
    machine = load_target(target)
    require(machine)
    for op in OPS if target == "generic-c" else ("Gather", "pairs", "ScatterElements"):
        proto = network(op, TensorProto.INT32)
        artifact = edgecc.compile(proto, machine, checks=checks)
        files = {n: t for n, t in artifact.files.items() if n.endswith((".h", ".bin")) or n in artifact.manifest.sources}
        files |= {path.name: path.read_bytes() for path in (runner.RUNNER_SOURCE, runner.RUNNER_SOURCE.with_name("runner_strings.h"))}
        flags = ("-O1", *(SANITIZERS if target == "generic-c" else ()))
        program = build(files, machine, flags=flags)
        for number, fill in enumerate((*WRONG, -SIZE if op != "pairs" else -5)):
            given = [tmp_path / f"{op}{number}.{name}" for name in arrays(proto, fill)]
            for path, array in zip(given, arrays(proto, fill).values(), strict=True):
                path.write_bytes(array.tobytes())
            paths = [*map(str, given), str(tmp_path / "out")]
            if checks == "clamp" or fill not in WRONG:
                run_program(program, machine, arguments=paths)
            else:
                with pytest.raises(AssertionError, match=r"status 5|ended with 1"):
                    run_program(program, machine, arguments=paths)


def test_checks_stand_once_and_only_where_an_index_could_be_wrong():
    def run_of(proto: onnx.ModelProto, checks: str) -> str:
        return edgecc.compile(proto, "generic-c", checks=checks).files["g.c"].decode()

    twice = model([node("Gather", "w i", "a"), node("Gather", "v i", "b")], outputs=("a", "b"),
                  inputs=[info("i", (3,), TensorProto.INT64)], weights=[floats("w", (SIZE, 2)), floats("v", (SIZE, 3))])
    text = run_of(twice, "trap")
    assert text.count("static int indices_fit") == 1 and text.count("return 5;") == 2
    assert "return 5" not in run_of(twice, "clamp") + run_of(twice, "off")
    narrow = model([node("Cast", "i", "n", to=TensorProto.INT32), node("Gather", "w n")], inputs=[info("i", (3,), TensorProto.UINT8)],
                   weights=[floats("w", (256, 2))])
    assert "return 5" in run_of(narrow, "trap")  # the type alone does not say where it came from
    constant = model([node("Gather", "x i")], weights=[ints("i", 0, -1, 0)])
    assert "return 5" not in run_of(constant, "trap")


def test_the_header_says_what_a_status_means():
    for checks, said in (("trap", True), ("clamp", False)):
        header = edgecc.compile(network("Gather"), "generic-c", checks=checks).files["g.h"].decode()
        assert ("5 = an index that is computed at run time" in header) is said


def test_unknown_checks_are_refused():
    with pytest.raises(EdgeccError) as caught:
        edgecc.compile(network("Gather"), "generic-c", checks="maybe")
    assert caught.value.code == "E001"
