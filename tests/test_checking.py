"""`edgecc check` finds everything at once, and says where, why and what to change."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from edgecc.api import Options
from edgecc.checking import check_model
from edgecc.cli import main
from edgecc.errors import EdgeccError
from edgecc.frontend import Limits
from edgecc.targets.schema import load_target
from tests.support.hostile import floats, info, ints, model, node

TARGET = load_target("generic-c")


def kinds(proto, target=TARGET, **options):
    return [(finding.kind, finding.where) for finding in check_model(proto, target, Options(**options)).findings]


def test_operators_shapes_and_types_are_reported_together():
    proto = model([node("Frobnicate", "x", "a", name="one"), node("Reshape", "x s", "b", name="two"), node("Softmax", "x", "c", axis=9),
                   node("MatMul", "x n", "d", name="four"), node("Add", "a b", "y")], outputs=("y", "c", "d"),
                  weights=[ints("s", 5), ints("n", 1, 2, 3, 4)])
    found = check_model(proto, TARGET).findings
    assert {(f.kind, f.where) for f in found} == {("operator", "one (Frobnicate)"), ("shape or type", "two (Reshape)"),
                                                  ("shape or type", "Softmax_2 (Softmax)"), ("shape or type", "four (MatMul)")}
    assert all(f.why and f.code in ("E105", "E110") for f in found)


def test_operators_are_looked_at_although_a_size_is_missing():
    proto = model([node("Frobnicate", "x", "a"), node("Relu", "a")], inputs=[info("x", ("length", None, 4))])
    assert kinds(proto) == [("shape", "model"), ("operator", "Frobnicate_0 (Frobnicate)")]
    assert kinds(proto, shapes={"x": (2, 2, 4)}) == [("operator", "Frobnicate_0 (Frobnicate)")]


def test_a_precision_the_target_lacks_hides_nothing():
    proto = model([node("Frobnicate", "x")])
    assert kinds(proto, precision="bf16") == [("precision", "generic-c"), ("operator", "Frobnicate_0 (Frobnicate)")]
    with pytest.raises(EdgeccError, match="fp17"):
        check_model(proto, TARGET, Options(precision="fp17"))


def test_memory_of_the_target():
    proto = model([node("MatMul", "x w")], weights=[floats("w", (4, 100))])
    small = replace(TARGET, memories=tuple(replace(memory, limit=1000) for memory in TARGET.memories))
    (finding,) = check_model(proto, small).findings
    assert (finding.kind, finding.code) == ("memory", "E113") and "1600" in finding.why and "1000" in finding.why and finding.change
    large = replace(TARGET, memories=tuple(replace(memory, limit=10_000) for memory in TARGET.memories))
    assert check_model(proto, large).ok


def test_weights_that_overflow_a_precision_are_noted():
    proto = model([node("MatMul", "x w", name="big")], weights=[numpy_helper.from_array(np.full((4, 4), 1e5, np.float32), "w")])
    (note,) = check_model(proto, load_target("cortex-a76"), Options(precision="fp16")).notes
    assert "16 weights" in note and "--keep-fp32 big" in note


def test_limits_and_files():
    assert kinds(model([node("Relu", "x")]), limits=Limits(elements=3)) == [("limit", "model")]
    assert kinds(b"nothing") == [("file", "model")]


def test_indices_are_counted(tmp_path, capsys):
    proto = model([node("Gather", "w i")], inputs=[info("i", (3,), TensorProto.INT64)], weights=[floats("w")])
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert main(["check", str(path), "--target", "generic-c"]) == 0
    assert "indices of 1 operands are computed at run time" in capsys.readouterr().out
    assert main(["check", str(path), "--target", "generic-c", "--checks", "clamp", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["index_checks"] == 0


def test_the_command_line_shows_all(tmp_path, capsys):
    path = tmp_path / "m.onnx"
    path.write_bytes(model([node("Frobnicate", "x", "a"), node("Softmax", "x", "b", axis=5), node("Add", "a b")]).SerializeToString())
    assert main(["check", str(path)]) == 3
    shown = capsys.readouterr().err
    assert shown.startswith("[E105] m.onnx: 2 problems") and "operator: Frobnicate_0" in shown and "shape or type: Softmax_1" in shown
    assert main(["check", str(path), "--json"]) == 3
    assert [p["kind"] for p in json.loads(capsys.readouterr().out)["problems"]] == ["operator", "shape or type"]
