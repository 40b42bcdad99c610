"""Lowering: what the loop programs of a module compute, interpreted, is what the graph means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Value
from edgecc.ir.op import Op, required
from edgecc.ir.scalar import Arg, apply
from edgecc.ir.types import DType, TensorType
from edgecc.kernels import registry
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.registry import KERNELS
from edgecc.kernels.request import Request
from edgecc.loop.interpreter import run_module
from edgecc.loop.module import Module
from edgecc.lowering import LoweredModel, lower_graph
from edgecc.lowering.options import LoweringOptions
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Reshape, Slice, Transpose
from edgecc.ops.reduction import Reduce
from edgecc.pipeline import compile_graph
from edgecc.reference.executor import execute, sample_inputs
from edgecc.targets.schema import load_target
from tests.support.random_graphs import graphs, relu


def check(graph: Graph, target: str = "generic-c", threads: int = 1) -> None:
    lowered = lower_graph(graph, load_target(target), name="net", options=LoweringOptions(threads=threads, verified=True))
    inputs = sample_inputs(graph)
    got = run_module(lowered.module, inputs)
    for name, expected in execute(graph, inputs).items():
        np.testing.assert_allclose(got[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", ["generic-c", "x86-64-v4", "cortex-a76"])
@settings(max_examples=50)
@given(graph=graphs(most_nodes=8), threads=st.sampled_from((1, 3)))
def test_any_graph_computes_the_same_as_loop_programs(target: str, graph: Graph, threads: int) -> None:
    check(graph, target, threads)


# -- single decisions ---------------------------------------------------------------------------

F32 = DType.F32
RELU = Elementwise(relu())
ADD = Elementwise(apply("add", Arg(0, F32), Arg(1, F32)))


def network(*shapes: tuple[int, ...]) -> tuple[Graph, list[Value]]:
    graph = Graph("net")
    return graph, [graph.add_input(TensorType(F32, s), f"x{i}") for i, s in enumerate(shapes)]


def lowered(graph: Graph, *outputs: Value, target: str = "generic-c") -> LoweredModel:
    graph.set_outputs(outputs, [f"y{i}" for i in range(len(outputs))])
    return lower_graph(graph, load_target(target), name="net", options=LoweringOptions(verified=True))


def ones(graph: Graph, *shape: int, value: float = 1.0) -> Value:
    return graph.constant(np.full(shape, value, np.float32))


def test_equal_layers_share_a_function_and_equal_constants_are_stored_once() -> None:
    graph, (x,) = network((1, 4, 5, 5))
    for value in (1.0, 2.0, 1.0):
        x = graph.add(Conv((1, 1), (1, 1, 1, 1), (1, 1)), x, ones(graph, 4, 4, 3, 3, value=value), loc=[f"conv{value}"])
    model = lowered(graph, graph.add(RELU, x))
    assert len(model.module.calls) == 4
    assert [c.function for c in model.module.calls[:3]] == [model.module.functions[0].name] * 3
    assert len(model.module.constants) == 2
    assert all(c.offset % 64 == 0 for c in model.module.constants)
    assert model.module.calls[1].loc == ("conv2.0",)


def test_constants_are_aligned_whatever_their_size() -> None:
    graph, (x,) = network((3, 17))
    y = graph.add(ADD, graph.add(ADD, x, ones(graph, 3, 17)), ones(graph, 17, value=2.0))
    module = lowered(graph, graph.add(ADD, y, ones(graph, 3, 17, value=3.0))).module
    assert [c.offset for c in module.constants] == [0, 256, 384]
    assert module.weights_bytes == 384 + 3 * 17 * 4


def test_kernels_that_come_out_equal_are_emitted_once() -> None:
    graph, (x, y) = network((4, 6), (1, 4, 6))
    model = lowered(graph, graph.add(RELU, x), graph.add(RELU, y))
    assert len(model.module.functions) == 1


def test_a_part_of_a_constant_is_read_where_it_lies() -> None:
    graph, (x,) = network((2, 3))
    table = graph.constant(np.arange(60, dtype=np.float32).reshape(10, 6))
    y = graph.add(ADD, x, graph.add(Slice((4, 3), (2, 3), (1, 1)), table))
    model = lowered(graph, y)
    inputs = sample_inputs(graph)
    assert np.array_equal(run_module(model.module, inputs)["y0"], execute(graph, inputs)["y0"])
    assert [c.op for c in model.calls] == ["elementwise"]


def test_kernels_see_the_values_of_small_constants_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Request] = []
    plain = KERNELS[Elementwise]

    def spy(request: Request) -> Kernel:
        seen.append(request)
        return plain(request)

    monkeypatch.setitem(registry._TABLE, Elementwise, spy)
    graph, (x,) = network((3, 17))
    lowered(graph, graph.add(ADD, graph.add(ADD, x, graph.constant(np.float32([[1], [2], [3]]))), ones(graph, 17)))
    assert [r.operand(1).values for r in seen] == [(1.0, 2.0, 3.0), None]
    assert all(r.operand(1).is_constant and not r.operand(0).is_constant for r in seen)


def test_functions_have_distinct_readable_names() -> None:
    graph, (x, y) = network((4, 4), (6, 6))
    model = lowered(graph, graph.add(RELU, x), graph.add(RELU, y))
    names = [f.name for f in model.module.functions]
    assert len(set(names)) == 2
    assert names[1].startswith(names[0])
    assert all(name.isidentifier() and "max" in name for name in names)


def test_lowering_is_deterministic() -> None:
    def once() -> Module:
        graph, (x,) = network((1, 4, 5, 5))
        y = graph.add(Conv((1, 1), (1, 1, 1, 1), (1, 1)), x, ones(graph, 4, 4, 3, 3))
        return lowered(graph, graph.add(Concat(1), graph.add(RELU, y), y)).module

    a, b = once(), once()
    assert (a.functions, a.calls, a.arena_bytes) == (b.functions, b.calls, b.arena_bytes)


def test_buffers_promise_the_alignment_that_all_calls_have() -> None:
    graph, (x, y) = network((16,), (3,))
    joined = graph.add(Concat(0), graph.add(RELU, y), graph.add(ADD, x, x))
    module = lowered(graph, graph.add(Reduce("sum", (0,)), joined)).module
    (add,) = [f for f in module.functions if "add" in f.name]
    (relu_function,) = [f for f in module.functions if "max" in f.name]
    assert [b.align for b in add.buffers if b.role == "input"] == [4] * sum(b.role == "input" for b in add.buffers)
    assert add.buffers[-1].align == 4  # 12 bytes into the joined value
    assert relu_function.buffers[-1].align == 64


def test_only_buffers_that_share_memory_are_marked() -> None:
    graph, (x,) = network((64,))
    a = graph.add(ADD, x, x)
    b = graph.add(RELU, a)
    module = lowered(graph, graph.add(MatMul(False, False), graph.add(Reshape((1, 64)), b), ones(graph, 64, 1))).module
    by_name = {f.name: f for f in module.functions}
    kinds = {name: {b.aliased for b in f.buffers} for name, f in by_name.items()}
    assert next(k for n, k in kinds.items() if "add" in n) == {False}
    assert next(k for n, k in kinds.items() if "max" in n) == {True}


def test_every_node_without_a_kernel_is_reported() -> None:
    @dataclass(frozen=True)
    class Mystery(Op):
        """Nobody knows."""

        name: ClassVar[str] = "mystery"
        inputs: ClassVar[tuple[str, ...]] = ("x",)

        def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
            return required(inputs)

    graph, (x,) = network((3,))
    y = graph.add(RELU, graph.add(Mystery(), x, loc=["first"]))
    z = graph.add(Mystery(), y, loc=["second"])
    with pytest.raises(EdgeccError) as caught:
        lowered(graph, z)
    assert caught.value.code == "E112"
    assert caught.value.message == "2 nodes have no kernel"
    assert [line.partition(" ")[0] for line in caught.value.details] == ["first", "second"]


def test_a_kernel_that_refuses_strides_gets_dense_operands(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = KERNELS[MatMul]

    def picky(request: Request) -> Kernel:
        if any(o is not None and not o.view.is_row_major for o in request.inputs) or not request.outputs[0].is_row_major:
            raise EdgeccError("E112", "wants dense operands")
        return plain(request)

    graph, (x, y) = network((6, 4), (5, 4))
    t = graph.add(Transpose((1, 0)), graph.add(RELU, x))
    product = graph.add(MatMul(False, False), y, t)
    model = lowered(graph, graph.add(Concat(1), product, product, y))
    assert [c.op for c in model.calls].count("reshape") == 2
    monkeypatch.setitem(registry._TABLE, MatMul, picky)
    model = lowered(graph, *graph.outputs)
    assert [c.op for c in model.calls].count("reshape") == 4
    inputs = sample_inputs(graph)
    np.testing.assert_allclose(run_module(model.module, inputs)["y0"], execute(graph, inputs)["y0"], rtol=1e-5)


def test_empty_tensors_need_no_call() -> None:
    graph, (x, y) = network((0, 4), (2, 4))
    model = lowered(graph, graph.add(Concat(0), graph.add(RELU, x), y), graph.add(RELU, x))
    assert [c.op for c in model.calls] == ["reshape"]
    inputs = sample_inputs(graph)
    assert np.array_equal(run_module(model.module, inputs)["y0"], inputs["x1"])


def test_the_report_counts_work_and_traffic() -> None:
    graph, (x,) = network((1, 4, 5, 5))
    y = graph.add(Conv((1, 1), (1, 1, 1, 1), (1, 1)), x, ones(graph, 8, 4, 3, 3), loc=["c"], name="features")
    (report,) = lowered(graph, y).calls
    assert report.multiply_adds == 8 * 25 * 4 * 9
    assert report.bytes_read == 4 * (4 * 25 + 8 * 4 * 9)
    assert report.bytes_written == 4 * 8 * 25
    assert (report.name, report.loc, report.op) == ("features", ("c",), "conv")


@settings(max_examples=40)
@given(graph=graphs(most_nodes=10))
def test_the_whole_pipeline_computes_the_same(graph: Graph) -> None:
    """All default graph passes, with every check, then lowering and the interpreter."""
    inputs = sample_inputs(graph)
    compiled = compile_graph(graph, load_target("x86-64-v3"), name="net", verify_each=inputs)
    got = run_module(compiled.module, inputs)
    for name, expected in execute(graph, inputs).items():
        np.testing.assert_allclose(got[name], expected, rtol=1e-4, atol=1e-5)
