"""Graphs keep order, uses and membership true while they are edited."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Value
from edgecc.ir.scalar import Arg, apply
from edgecc.ir.types import DType, TensorType
from edgecc.ir.verify import verify
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.reduction import TopK

F32 = DType.F32
NEG = Elementwise(apply("neg", Arg(0, F32)))
ADD = Elementwise(apply("add", Arg(0, F32), Arg(1, F32)))


def chain(length: int) -> tuple[Graph, list[Value]]:
    graph = Graph("chain")
    values = [graph.add_input(TensorType(F32, (2, 3)), "x")]
    for _ in range(length):
        values.append(graph.add(NEG, values[-1]))
    graph.set_outputs([values[-1]], ["y"])
    return graph, values


def producer(value: Value):
    assert value.producer is not None
    return value.producer


def test_nodes_keep_the_order_they_were_inserted_in():
    graph, values = chain(2)
    first, second = graph.nodes
    middle = producer(graph.add(NEG, values[1], before=second))
    front = producer(graph.add(NEG, values[0], before=first))
    back = producer(graph.add(NEG, values[2]))
    assert graph.nodes == (front, first, middle, second, back)
    assert list(graph.nodes_before(second)) == [middle, first, front]
    assert len(graph) == 5
    verify(graph)


def test_nodes_is_a_snapshot():
    graph, values = chain(3)
    for node in graph.nodes:
        graph.add(NEG, values[0], before=node)
        graph.add(NEG, values[0])
    assert len(graph) == 9


@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_erased_node_is_gone(position):
    graph, values = chain(1)
    extra = [producer(graph.add(NEG, values[0])) for _ in range(3)]
    kept = [node for node in graph.nodes if node is not extra[position]]
    graph.erase(extra[position])
    assert extra[position] not in graph
    assert list(graph.nodes) == kept
    assert len(graph) == 3
    with pytest.raises(EdgeccError, match="not in the graph"):
        graph.erase(extra[position])
    verify(graph)


def test_a_node_of_another_graph_is_refused_as_a_place():
    graph, values = chain(1)
    other, _ = chain(1)
    with pytest.raises(EdgeccError, match="cannot insert before"):
        graph.add(NEG, values[0], before=other.nodes[0])
    assert len(values[0].uses) == 1, "a refused insertion leaves no use behind"


def test_replacing_reaches_operands_and_outputs():
    graph, values = chain(2)
    graph.set_outputs([values[1], values[2], values[1]], ["a", "b", "c"])
    new = graph.add(NEG, values[0], before=graph.nodes[1])
    graph.replace_all_uses(values[1], new)
    assert graph.outputs == [new, values[2], new]
    assert [use.node for use in new.uses] == [producer(values[2])]
    assert values[1].uses == ()
    verify(graph)


def test_replacing_refuses_another_type():
    graph, values = chain(1)
    with pytest.raises(EdgeccError, match="replacing"):
        graph.replace_all_uses(values[1], graph.constant(np.zeros((1, 3), np.float32)))


def test_one_value_may_be_read_twice_by_a_node():
    graph, values = chain(1)
    total = graph.add(ADD, values[1], values[1])
    assert [use.index for use in values[1].uses] == [0, 1]
    assert values[1].users == (producer(total),)
    graph.set_operand(producer(total), 0, values[0])
    assert [use.index for use in values[1].uses] == [1]


def test_erasing_refuses_what_is_used_or_returned():
    graph, _ = chain(2)
    for node in graph.nodes:
        with pytest.raises(EdgeccError, match="still used"):
            graph.erase(node)


def test_erase_dead_follows_what_only_the_dead_kept_alive():
    graph, values = chain(1)
    unused = values[0]
    for _ in range(5000):
        unused = graph.add(NEG, unused)
    graph.erase_dead([producer(unused)])
    assert len(graph) == 1


def test_reorder_and_sort():
    graph, values = chain(1)
    for _ in range(3):
        graph.add(NEG, values[0])
    order = graph.nodes
    graph.reorder(order[::-1])
    assert graph.nodes == order[::-1]
    graph.sort()
    assert graph.nodes == order[::-1], "what is topological is left alone"
    for wrong in (order[:-1], (*order[:-1], order[0])):
        with pytest.raises(EdgeccError, match="permutation"):
            graph.reorder(wrong)


def test_sort_puts_producers_first():
    graph, values = chain(4)
    graph.reorder(graph.nodes[::-1])
    graph.sort()
    assert graph.nodes == tuple(producer(v) for v in values[1:])


def test_a_copy_is_equal_and_independent():
    graph, values = chain(2)
    weights = graph.constant(np.ones((2, 3), np.float32))
    total = graph.add(ADD, values[2], weights)
    top = graph.add_node(TopK(2, 1), [total])
    graph.set_outputs([*top.outputs, weights], ["values", "indices", "weights"])
    copy = graph.copy()
    verify(copy)
    assert copy.outputs[2].constant is weights.constant
    copy.set_outputs([copy.inputs[0]], ["x"])
    copy.erase_dead(copy.nodes)
    assert (len(copy), len(graph)) == (0, 4)
    verify(graph)


def test_constants_are_copied_and_read_only():
    graph = Graph()
    array = np.ones((2, 2), np.float32)
    value = graph.constant(array.T)
    array[0, 0] = 5
    assert value.constant is not None
    assert value.constant[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        value.constant[0, 0] = 2


def test_digests_tell_constants_apart_by_type_and_bits():
    graph = Graph()
    arrays = [np.zeros((2, 3), np.float32), -np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32),
              np.zeros((2, 3), np.int32), np.zeros((), np.float32)]
    digests = [graph.constant(array).digest for array in arrays]
    assert len(set(digests)) == len(arrays)
    assert graph.constant(arrays[0]).digest == digests[0]
