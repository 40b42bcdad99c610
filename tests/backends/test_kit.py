"""The kit for authors of back ends, on the back ends of edgecc."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from edgecc.artifact.folder import make_export
from edgecc.backends.onnx.backend import OnnxBackend
from edgecc.backends.op_table import op_table
from edgecc.backends.testing import BackendTests, kit
from edgecc.errors import EdgeccError
from edgecc.ir.op import OPS
from edgecc.ir.scalar import PRIMITIVES

DIGITS = ("examples/digits/digits.onnx", {"image": (2, 1, 8, 8)})


class TestC(BackendTests):
    backend = "c"
    target = "generic-c"
    batch = 200  # one call of the C compiler
    least = 160
    models = (DIGITS,)


class TestOnnx(BackendTests):
    backend = "onnx{opset=21}"
    batch = 200
    least = 140
    models = (DIGITS,)


def test_the_table_has_every_operator_and_primitive():
    ops = [case.op for case in op_table()]
    assert {op.split()[0] for op in ops} == set(OPS) and ops == sorted(ops)
    assert {op.partition(" ")[2] for op in ops if op.startswith("elementwise")} == {*PRIMITIVES, "convert"}
    assert len(set(map(str, op_table()))) == len(ops)


RUN = OnnxBackend.run
COUNTER = itertools.count()
MISTAKES = {
    "a reason that says nothing": ("supports", lambda self, node, target: "" if node.op.name == "conv" else None, "test_support"),
    "another result": ("run", lambda self, artifact, inputs: {k: v + 1 for k, v in RUN(self, artifact, inputs).items()}, "test_results"),
    "a lost output": ("run", lambda self, artifact, inputs: {}, "test_results"),
    "a path": ("emit", lambda self, graph, name, target, form: make_export(
        self.name, graph, name, target, {"x.txt": f"{Path.cwd()}/x".encode()}, "x.txt"), "test_no_trace_of_this_machine"),
    "what differs between calls": ("emit", lambda self, graph, name, target, form: make_export(
        self.name, graph, name, target, {"x.txt": str(next(COUNTER)).encode()}, "x.txt"), "test_equal_arguments_give_equal_bytes"),
    "another name": ("emit", lambda self, graph, name, target, form: make_export(
        self.name, graph, "always", target, {"x.txt": b""}, "x.txt"), "test_artifact"),
    "a pass that breaks the meaning": ("passes", lambda self, default, target: (*default, "narrow"), "test_passes_keep_the_graph_valid"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_noticed(mistake, monkeypatch):
    method, replacement, test = MISTAKES[mistake]
    kit._reasons.cache_clear()  # which outlives the mistake of one test
    monkeypatch.setattr(OnnxBackend, method, replacement, raising=False)

    class Subject(BackendTests):
        backend = "onnx"
        batch = 200

        @classmethod
        def supported(cls):
            return [case for case in op_table() if case.op in ("conv", "pool") and case.name.endswith("f32")]

    case = next(case for case in op_table() if case.op == "conv")
    with pytest.raises((AssertionError, EdgeccError)):
        getattr(Subject(), test)(*((case,) if test == "test_support" else ()))
    kit._reasons.cache_clear()
