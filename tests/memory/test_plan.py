"""Memory plans, executed: the operators' references run in the planned bytes and must give what the graph means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings

from edgecc.ir.graph import Graph
from edgecc.ir.op import Op, present, required
from edgecc.ir.scalar import Arg, apply
from edgecc.ir.types import Array, DType, Layout, TensorType
from edgecc.loop.module import ArenaBytes, InputBytes, OutputBytes
from edgecc.memory.lifetime import Needs, liveness
from edgecc.memory.offsets import lower_bound
from edgecc.memory.order import candidate_orders, greedy
from edgecc.memory.placement import Placement, Step, place_values
from edgecc.memory.places import Place
from edgecc.memory.plan import MemoryPlan, plan_memory
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.ops.reduction import Softmax
from edgecc.reference.executor import execute, sample_inputs
from tests.support.random_graphs import graphs, relu

F32 = DType.F32
RELU = Elementwise(relu())
ADD = Elementwise(apply("add", Arg(0, F32), Arg(1, F32)))


def split_and_joined(parts: Sequence[tuple[int, int]], order: Sequence[int]) -> Graph:
    """relu(x), sliced along the channels, and the slices joined in some order with what is computed from the last one."""
    graph = Graph("split")
    x = graph.add_input(TensorType(F32, (1, 6, 4, 4)), "x")
    whole = graph.add(RELU, x)
    whole.layout = Layout.channels_last(4)
    slices = [graph.add(Slice((0, start, 0, 0), (1, size, 4, 4), (1, 1, 1, 1)), whole) for start, size in parts]
    more = graph.add(ADD, slices[-1], slices[-1])
    joined = graph.add(Concat(1), *(slices[i] for i in order), more)
    joined.layout = Layout.channels_last(4)
    graph.set_outputs([graph.add(RELU, joined)], ["y"])
    return graph


@pytest.mark.parametrize(("parts", "order", "copies"), [
    ([(0, 3), (3, 3)], [0, 1], 0),
    ([(0, 2), (2, 1), (3, 3)], [0, 1, 2], 0),
    ([(0, 3), (3, 3)], [1, 0], 2),      # in another order
    ([(0, 3), (2, 4)], [0, 1], 2),      # one channel twice
    ([(0, 3), (4, 2)], [0, 1], 2),      # one channel not at all
    ([(0, 3), (3, 3)], [1], 1),         # a part only
])
def test_what_is_split_and_joined_again_is_written_there_at_once(parts, order, copies):
    graph = split_and_joined(parts, order)
    plan = plan_of(graph)
    assert sum(isinstance(step.op, Reshape) for step in plan.placement.steps) == copies
    inputs = sample_inputs(graph)
    for name, expected in execute(graph, inputs).items():
        np.testing.assert_allclose(run_plan(graph, plan, inputs)[name], expected, rtol=1e-5)


def needs_of(step: Step) -> Needs:
    """What real kernels would say: elementwise results may overwrite any operand; some operators want scratch memory."""
    match step.op:
        case Elementwise():
            return Needs(tuple((0, i) for i in range(len(step.inputs))))
        case Softmax():
            return Needs(((0, 0),), (40, 8))
    return Needs()


def plan_of(graph: Graph) -> MemoryPlan:
    placement = place_values(graph)
    return plan_memory(placement, [needs_of(step) for step in placement.steps])


def run_plan(graph: Graph, plan: MemoryPlan, inputs: dict[str, Array]) -> dict[str, Array]:
    """Runs the steps on bytes: results are computed from copies of the operands and then written to their places."""
    placement = plan.placement
    arena = np.full(plan.arena_bytes, 0xA5, np.uint8)
    outputs = [np.full(v.type.size_bytes, 0xA5, np.uint8) for v in graph.outputs]
    given = [np.frombuffer(inputs[name].tobytes(), np.uint8) for name in graph.input_names]

    def shown(place: Place) -> Array:
        root = placement.roots[place.root]
        if root.kind == "constant":
            data = placement.constants[root.index].constant
            assert data is not None
            memory, offset = np.frombuffer(data.tobytes(), np.uint8), place.byte_offset
        else:
            argument = plan.argument(place)
            offset = argument.offset
            match argument:
                case ArenaBytes():
                    memory = arena
                case InputBytes(index=index):
                    memory = given[index]
                case OutputBytes(index=index):
                    memory = outputs[index]
        view, size = place.view, place.view.dtype.size
        assert offset % size == 0
        assert offset >= 0 and offset + view.span * size <= memory.size
        elements = memory[offset:offset + view.span * size].view(view.dtype.numpy)
        return np.lib.stride_tricks.as_strided(elements, view.dims, [s * size for s in view.strides])

    for number in plan.live.order:
        step = placement.steps[number]
        operands = [None if place is None else shown(place).copy() for place in step.inputs]
        results = step.op.reference(operands)
        for slot, size in enumerate(needs_of(step).workspaces):
            scratch = plan.workspace(number, slot)
            arena[scratch.offset:scratch.offset + size] = 0x5A  # kernels may write anything there
        for place, result in zip(step.outputs, results, strict=True):
            shown(place)[...] = result
    return {name: data.view(v.type.dtype.numpy).reshape(v.type.dims)
            for name, data, v in zip(graph.output_names, outputs, graph.outputs, strict=True)}


def check(graph: Graph) -> MemoryPlan:
    """Plans and runs a graph; returns the plan."""
    plan = plan_of(graph)
    inputs = sample_inputs(graph)
    expected = execute(graph, inputs)
    got = run_plan(graph, plan, inputs)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-5)
    return plan


@settings(max_examples=150)
@given(graphs())
def test_any_graph_computes_the_same_in_its_planned_memory(graph: Graph) -> None:
    plan = check(graph)
    assert plan.lower_bound <= plan.arena_bytes
    assert sorted(plan.live.order) == list(range(len(plan.placement.steps)))


@settings(max_examples=60)
@given(graphs())
def test_live_blocks_never_overlap(graph: Graph) -> None:
    plan = plan_of(graph)
    blocks, offsets = plan.live.blocks, plan.offsets.offsets
    for i, a in enumerate(blocks):
        for j, b in enumerate(blocks[:i]):
            if a.first <= b.last and b.first <= a.last:
                assert offsets[i] + a.size_bytes <= offsets[j] or offsets[j] + b.size_bytes <= offsets[i]


@settings(max_examples=60)
@given(graphs())
def test_orders_are_permutations_that_respect_dependencies(graph: Graph) -> None:
    placement = place_values(graph)
    needs = [needs_of(step) for step in placement.steps]
    for _, order in candidate_orders(placement, needs):
        position = {number: p for p, number in enumerate(order)}
        assert sorted(order) == list(range(len(placement.steps)))
        assert all(position[a] < position[n] for n, step in enumerate(placement.steps) for a in step.after)


# -- single decisions ---------------------------------------------------------------------------


def network(*shapes: tuple[int, ...]) -> tuple[Graph, list]:
    graph = Graph("net")
    return graph, [graph.add_input(TensorType(F32, s), f"x{i}") for i, s in enumerate(shapes)]


def finish(graph: Graph, *outputs) -> MemoryPlan:
    graph.set_outputs(outputs, [f"y{i}" for i in range(len(outputs))])
    return check(graph)


def ops(placement: Placement) -> list[str]:
    return [step.op.name for step in placement.steps]


def test_movement_that_is_a_view_costs_nothing() -> None:
    graph, (x,) = network((2, 3, 4))
    a = graph.add(RELU, x)
    b = graph.add(Reshape((6, 4)), graph.add(Transpose((1, 0, 2)), graph.add(Slice((0, 0, 0), (2, 3, 4), (1, 1, 1)), a)))
    plan = finish(graph, graph.add(RELU, graph.add(Expand((5, 3, 2, 4)), graph.add(Transpose((1, 0, 2)), a))),
                  graph.add(Softmax(1), b))
    assert ops(plan.placement) == ["elementwise", "reshape", "elementwise", "softmax"]  # a transposed (3, 2) does not merge


def test_reversed_slices_are_computed() -> None:
    graph, (x,) = network((5,))
    plan = finish(graph, graph.add(RELU, graph.add(Slice((4,), (5,), (-1,)), x)))
    assert ops(plan.placement) == ["slice", "elementwise"]


def test_outputs_are_written_in_place_through_views() -> None:
    graph, (x,) = network((2, 6))
    plan = finish(graph, graph.add(Reshape((3, 4)), graph.add(RELU, x)))
    assert ops(plan.placement) == ["elementwise"]
    assert plan.arena_bytes == 0


def test_concat_operands_are_computed_inside_the_result() -> None:
    graph, (x, y) = network((1, 2, 4, 4), (1, 3, 4, 4))
    a, b = graph.add(RELU, x), graph.add(RELU, y)
    plan = finish(graph, graph.add(Softmax(1), graph.add(Concat(1), a, b)))
    assert ops(plan.placement) == ["elementwise", "elementwise", "softmax"]


def test_concat_copies_inputs_constants_and_repeated_operands() -> None:
    graph, (x,) = network((1, 4))
    a = graph.add(RELU, x)
    joined = graph.add(Concat(0), x, a, a, graph.constant(np.ones((1, 4), np.float32)))
    plan = finish(graph, joined)
    assert ops(plan.placement) == ["elementwise", "reshape", "reshape", "reshape"]


def test_a_value_in_two_concats_is_copied_once() -> None:
    graph, (x,) = network((1, 4))
    a, b = graph.add(RELU, x), graph.add(ADD, x, x)
    plan = finish(graph, graph.add(Concat(0), a, b), graph.add(Concat(0), b, a))
    assert sorted(ops(plan.placement)) == ["elementwise", "elementwise", "reshape", "reshape"]


def test_heavy_kernels_are_not_made_to_scatter() -> None:
    graph, (x,) = network((1, 3, 4, 4))
    weights = graph.constant(np.ones((8, 3, 1, 1), np.float32))
    conv = graph.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), x, weights)
    conv.layout = Layout.channels_last(4)
    plan = finish(graph, graph.add(Reshape((1, 128)), conv))
    assert ops(plan.placement) == ["conv", "reshape"]
    conv_place = plan.placement.places[conv]
    assert conv_place.view.strides[1] == 1


def test_convolutions_get_a_dense_operand() -> None:
    graph, (x,) = network((1, 4, 4, 8))
    a = graph.add(RELU, x)
    weights = graph.constant(np.ones((2, 4, 1, 1), np.float32))
    sliced = graph.add(Slice((0, 0, 0, 0), (1, 4, 4, 4), (1, 1, 1, 2)), a)
    plan = finish(graph, graph.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), sliced, weights))
    assert ops(plan.placement) == ["elementwise", "reshape", "conv"]


def test_values_can_be_forced_into_their_own_layout() -> None:
    graph, (x,) = network((2, 3))
    t = graph.add(Transpose((1, 0)), graph.add(RELU, x))
    graph.set_outputs([graph.add(Softmax(0), t)], ["y"])
    assert ops(place_values(graph)) == ["elementwise", "softmax"]
    forced = place_values(graph, dense=[t])
    assert ops(forced) == ["elementwise", "reshape", "softmax"]
    assert forced.places[t].view.is_row_major


@pytest.mark.parametrize("twice", [False, True])
def test_elementwise_chains_run_in_place(twice: bool) -> None:
    graph, (x,) = network((64,))
    a = graph.add(Softmax(0), x)
    b = graph.add(ADD, a, a) if twice else graph.add(RELU, a)
    plan = finish(graph, graph.add(Reshape((8, 8)), graph.add(RELU, b)))
    assert len(plan.live.replaced) == 2
    assert {block.name.partition(".")[2] for block in plan.live.blocks} == {"workspace"}


def test_an_operand_is_computed_where_its_successor_lies_in_a_concat() -> None:
    graph, (x, y) = network((64,), (32,))
    a = graph.add(RELU, graph.add(Softmax(0), x))
    b = graph.add(RELU, graph.add(Softmax(0), y))
    plan = finish(graph, graph.add(Softmax(0), graph.add(RELU, graph.add(Concat(0), b, a))))
    big = [block for block in plan.live.blocks if block.root >= 0]
    assert big == []  # all of it in the output, the joined value included


def test_an_operand_is_computed_inside_a_concat_in_the_arena() -> None:
    graph, (x, y) = network((64,), (32,))
    b = graph.add(RELU, graph.add(Softmax(0), y))
    a = graph.add(RELU, graph.add(Softmax(0), x))
    joined = graph.add(Concat(0), b, a)
    plan = finish(graph, graph.add(MatMul(False, False), graph.add(Reshape((1, 96)), joined),
                                   graph.constant(np.eye(96, dtype=np.float32))))
    (block,) = [block for block in plan.live.blocks if block.root >= 0]
    assert block.size_bytes == 4 * 96


def test_nothing_is_overwritten_while_it_is_needed() -> None:
    graph, (x,) = network((64,))
    a = graph.add(Softmax(0), x)
    b = graph.add(RELU, a)
    plan = finish(graph, graph.add(Softmax(0), graph.add(ADD, b, a)))
    assert {(plan.placement.steps[s].op.name, o) for s, _, o in plan.live.replaced} == {("elementwise", 0), ("softmax", 0)}
    assert sum(map(len, plan.live.replacing.values())) == len(plan.live.replaced)


def test_another_view_of_the_operand_forbids_overwriting() -> None:
    graph, (x,) = network((4, 4))
    a = graph.add(Softmax(0), x)
    plan = finish(graph, graph.add(Softmax(0), graph.add(ADD, a, graph.add(Transpose((1, 0)), a))))
    assert not any(o == 0 and plan.placement.steps[s].op == ADD for s, _, o in plan.live.replaced)


def test_a_part_of_a_larger_piece_is_not_overwritten() -> None:
    graph, (x,) = network((64,))
    half = graph.add(Slice((0,), (32,), (1,)), graph.add(Softmax(0), x))
    plan = finish(graph, graph.add(Softmax(0), graph.add(RELU, half)))
    assert not any(plan.placement.steps[s].op == RELU for s, _, _ in plan.live.replaced)


@dataclass(frozen=True)
class Both(Op):
    """y = -x, z = 2x"""

    name: ClassVar[str] = "both"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        (x,) = required(inputs)
        return x, x

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        (x,) = present(inputs)
        return -x, 2 * x


def test_two_results_do_not_overwrite_one_operand() -> None:
    graph, (x,) = network((64,))
    node = graph.add_node(Both(), [graph.add(Softmax(0), x)])
    graph.set_outputs([graph.add(ADD, *node.outputs)], ["y"])
    placement = place_values(graph)
    needs = [Needs(((0, 0), (1, 0))) if isinstance(s.op, Both) else Needs() for s in placement.steps]
    live = liveness(placement, needs, range(len(placement.steps)))
    assert live.replaced == {(1, 0, 0)} and live.replacing == {1: {0}}


def test_inputs_outputs_and_constants_are_never_overwritten() -> None:
    graph, (x,) = network((64,))
    a = graph.add(Softmax(0), x)
    constant = graph.constant(np.ones(64, np.float32))
    plan = finish(graph, a, graph.add(Softmax(0), graph.add(ADD, a, constant)), graph.add(RELU, x))
    assert {plan.placement.steps[s].name for s, _, _ in plan.live.replaced} == {"softmax"}


def test_outputs_that_are_inputs_constants_or_repeated_are_copied() -> None:
    graph, (x,) = network((3,))
    a = graph.add(RELU, x)
    plan = finish(graph, x, graph.constant(np.arange(3, dtype=np.float32)), a, a)
    assert ops(plan.placement) == ["elementwise", "reshape", "reshape", "reshape"]
    assert plan.arena_bytes == 0


def test_empty_tensors_take_no_memory() -> None:
    graph, (x,) = network((0, 4))
    plan = finish(graph, graph.add(Concat(0), graph.add(RELU, x), graph.constant(np.ones((2, 4), np.float32))))
    assert plan.arena_bytes == 0


def test_the_order_is_chosen_to_lower_the_peak() -> None:
    """Two branches that expand and shrink: running them one after the other halves the peak."""
    graph, (x,) = network((16, 1))
    wide = [graph.add(Pad((0, 0), (0, 255)), x) for _ in range(4)]
    small = [graph.add(MatMul(False, False), w, graph.constant(np.ones((256, 1), np.float32))) for w in wide]
    plan = finish(graph, graph.add(ADD, graph.add(ADD, small[0], small[1]), graph.add(ADD, small[2], small[3])))
    given = liveness(plan.placement, [needs_of(s) for s in plan.placement.steps], range(len(plan.placement.steps)))
    assert plan.order_name != "given"
    assert plan.lower_bound * 3 < lower_bound(given.blocks)
    assert plan.arena_bytes == plan.lower_bound


def test_greedy_runs_first_what_frees_memory() -> None:
    graph, (x,) = network((16, 1))
    weights = graph.constant(np.ones((256, 1), np.float32))
    wide = [graph.add(Pad((0, 0), (0, 255)), x) for _ in range(2)]
    graph.set_outputs([graph.add(MatMul(False, False), w, weights) for w in wide], ["a", "b"])
    placement = place_values(graph)
    assert greedy(placement, [Needs()] * 4) == (0, 2, 1, 3)


def test_the_report_shows_totals_blocks_and_a_map() -> None:
    graph, (x,) = network((16, 1))
    a = graph.add(Pad((0, 0), (0, 3)), x, name="padded")
    text = finish(graph, graph.add(Softmax(1), graph.add(MatMul(False, True), a, a))).to_text()
    assert "arena                 256 bytes" in text
    assert "lower bound           256 bytes (gap 0.0 %)" in text
    assert "padded" in text
    assert "|" in text.splitlines()[-2]

