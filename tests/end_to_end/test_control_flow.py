"""Random If, Loop and Scan models through generated C, against onnxruntime and onnx.reference.

onnx.reference (1.23) ends loops without a condition after one iteration, collects matrices without a new axis, and has
scans in one direction along the first axis alone, so that other models are compared with onnxruntime only.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from onnx.reference import ReferenceEvaluator

from edgecc.artifact.load import load
from edgecc.frontend import import_model
from edgecc.frontend.converters import loops
from edgecc.ir.types import Array
from edgecc.pipeline import compile_graph, emit_c
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target
from tests.support import onnxruntime_sessions
from tests.support.onnx_control import RandomModel, control_models


def by_onnxruntime(model: RandomModel) -> list[Array]:
    pytest.importorskip("onnxruntime")
    return onnxruntime_sessions.run(model.proto, model.inputs)


def check(got: list[Array], expected: list[Array]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("unrolled", [0, loops.UNROLLED_NODES])
def test_models_mean_what_onnxruntime_computes(unrolled: int, monkeypatch) -> None:
    monkeypatch.setattr(loops, "UNROLLED_NODES", unrolled)

    @settings(max_examples=40)
    @given(model=control_models())
    def run(model: RandomModel) -> None:
        check(list(execute(import_model(model.proto), model.inputs).values()), by_onnxruntime(model))

    run()


@settings(max_examples=40)
@given(model=control_models())
def test_models_mean_what_the_reference_computes(model: RandomModel) -> None:
    nodes = [node for graph in _graphs(model.proto.graph) for node in graph.node]
    if any(node.op_type == "Loop" and (not node.input[1] or len(node.output) > len(node.input) - 2) for node in nodes) or any(
            node.op_type == "Scan" and any(any(a.ints) for a in node.attribute) for node in nodes):
        return
    check(list(execute(import_model(model.proto), model.inputs).values()), ReferenceEvaluator(model.proto).run(None, model.inputs))


def _graphs(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


@pytest.mark.parametrize(("target", "examples"), [("host", 6), ("cortex-a76", 3)])
def test_generated_code_computes_what_onnxruntime_computes(target: str, examples: int, monkeypatch) -> None:
    monkeypatch.setattr(loops, "UNROLLED_NODES", 0)
    machine = load_target(target)

    @settings(max_examples=examples)
    @given(model=control_models())
    def run(model: RandomModel) -> None:
        compiled = compile_graph(import_model(model.proto), machine, name="net")
        with load(emit_c(compiled), cc="gcc" if target == "host" else None) as loaded:
            check(list(loaded.run(model.inputs).values()), by_onnxruntime(model))

    run()
