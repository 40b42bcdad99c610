"""Each invariant of the Graph IR is checked: one broken graph for each way to break it."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir import verify as module
from edgecc.ir.graph import Graph, Use, Value
from edgecc.ir.scalar import Arg, apply
from edgecc.ir.types import DType, Layout, TensorType
from edgecc.ir.verify import verify
from edgecc.ops.control import If
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.movement import Transpose
from edgecc.ops.reduction import TopK

F32 = DType.F32
NEG = Elementwise(apply("neg", Arg(0, F32)))
ADD = Elementwise(apply("add", Arg(0, F32), Arg(1, F32)))


def sample() -> tuple[Graph, dict[str, Value]]:
    graph = Graph("sample")
    x = graph.add_input(TensorType(F32, (1, 2, 4, 4)), "x")
    w = graph.constant(np.ones((3, 2, 1, 1), np.float32), "w")
    y = graph.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), x, w, loc=("Conv_0",), name="y")
    z = graph.add(NEG, y, name="z")
    values, indices = graph.add_node(TopK(2, 1), [z], names=("values", "indices")).outputs
    graph.set_outputs([values, indices, y], ["a", "b", "c"])
    return graph, {"x": x, "w": w, "y": y, "z": z, "values": values, "indices": indices}


def test_a_valid_graph_is_accepted():
    verify(sample()[0])
    verify(Graph("empty"))


Break = Callable[[Graph, dict[str, Value]], object]


def operand_of_another_graph(graph: Graph, values: dict[str, Value]) -> None:
    other, foreign = sample()
    graph.set_operand(graph.nodes[1], 0, foreign["y"])
    assert other is not graph


def operand_of_an_erased_node(graph: Graph, values: dict[str, Value]) -> None:
    dead = graph.add(NEG, values["x"], before=graph.nodes[0])
    graph.set_operand(graph.nodes[2], 0, dead)
    node = dead.producer
    assert node is not None
    graph._unlink(node)


def forgotten_use(graph: Graph, values: dict[str, Value]) -> None:
    values["y"]._uses.clear()


def stale_use(graph: Graph, values: dict[str, Value]) -> None:
    values["x"]._uses[(1, 2)] = Use(graph.nodes[0], 2)


def other_producer(graph: Graph, values: dict[str, Value]) -> None:
    values["y"].producer = graph.nodes[1]


def other_index(graph: Graph, values: dict[str, Value]) -> None:
    values["indices"].result_index = 0


def result_twice(graph: Graph, values: dict[str, Value]) -> None:
    node = graph.nodes[2]
    node.outputs = (values["values"], values["values"])


def wrong_type(graph: Graph, values: dict[str, Value]) -> None:
    values["z"].type = TensorType(F32, (1, 3, 4, 5))


def unfit_operand(graph: Graph, values: dict[str, Value]) -> None:
    graph.set_operand(graph.nodes[0], 1, graph.constant(np.ones((3, 5, 1, 1), np.float32)))


def missing_operand(graph: Graph, values: dict[str, Value]) -> None:
    graph.set_operand(graph.nodes[0], 1, None)


def too_many_operands(graph: Graph, values: dict[str, Value]) -> None:
    node = graph.add_node(Transpose((0, 1, 2, 3)), [values["x"]])
    node.inputs = (values["x"], values["x"])


def constant_with_producer(graph: Graph, values: dict[str, Value]) -> None:
    values["w"].producer = graph.nodes[0]


def writable_constant(graph: Graph, values: dict[str, Value]) -> None:
    values["w"].constant = np.ones((3, 2, 1, 1), np.float32)


def constant_of_another_type(graph: Graph, values: dict[str, Value]) -> None:
    array = np.ones((3, 2, 1, 1), np.float64)
    array.setflags(write=False)
    values["w"].constant = array


def strided_constant(graph: Graph, values: dict[str, Value]) -> None:
    array = np.ones((6, 2, 1, 1), np.float32)[::2]
    array.setflags(write=False)
    values["w"].constant = array


def unnamed_output(graph: Graph, values: dict[str, Value]) -> None:
    graph.outputs.append(values["z"])


def same_input_names(graph: Graph, values: dict[str, Value]) -> None:
    graph.add_input(TensorType(F32, ()), "x")


def same_output_names(graph: Graph, values: dict[str, Value]) -> None:
    graph.set_outputs([values["y"], values["z"]], ["a", "a"])


def foreign_output(graph: Graph, values: dict[str, Value]) -> None:
    graph.set_outputs([sample()[1]["y"]], ["a"])


def layout_of_another_rank(graph: Graph, values: dict[str, Value]) -> None:
    values["z"].layout = Layout((0, 1))


def layout_of_an_output(graph: Graph, values: dict[str, Value]) -> None:
    values["y"].layout = Layout((0, 2, 3, 1))


def layout_of_an_input(graph: Graph, values: dict[str, Value]) -> None:
    values["x"].layout = Layout((0, 2, 3, 1))


def layout_of_a_constant(graph: Graph, values: dict[str, Value]) -> None:
    values["w"].layout = Layout((3, 2, 1, 0))


def used_before_defined(graph: Graph, values: dict[str, Value]) -> None:
    graph.reorder(graph.nodes[::-1])


def input_with_data(graph: Graph, values: dict[str, Value]) -> None:
    values["x"].constant = np.zeros((1, 2, 4, 4), np.float32)


BROKEN: list[tuple[int, Break]] = [
    (1, used_before_defined), (1, operand_of_another_graph), (1, operand_of_an_erased_node), (1, input_with_data),
    (2, forgotten_use), (2, stale_use), (3, other_producer), (3, other_index), (3, result_twice), (4, wrong_type),
    (4, unfit_operand), (5, missing_operand), (5, too_many_operands), (6, constant_with_producer), (6, writable_constant),
    (6, constant_of_another_type), (6, strided_constant), (7, unnamed_output), (7, same_input_names), (7, same_output_names),
    (8, foreign_output), (9, layout_of_another_rank), (9, layout_of_an_output), (9, layout_of_an_input), (9, layout_of_a_constant),
]


@pytest.mark.parametrize(("invariant", "damage"), BROKEN, ids=[damage.__name__ for _, damage in BROKEN])
def test_a_broken_graph_is_refused(invariant, damage):
    graph, values = sample()
    damage(graph, values)
    with pytest.raises(EdgeccError, match=f"invariant {invariant}:") as caught:
        verify(graph)
    assert caught.value.code == "E900"


def test_regions_share_no_constants():
    graph = Graph("g")
    condition, regions = graph.add_input(TensorType(DType.BOOL, ()), "c"), [Graph("then"), Graph("else")]
    shared = regions[0].constant(np.zeros(3, np.float32))
    for region in regions:
        region.set_outputs([shared], ["r"])
    node = graph.add_node(If(), [condition], regions=regions)
    graph.set_outputs([node.output], ["y"])
    with pytest.raises(EdgeccError, match="invariant 10:"):
        verify(graph)
    regions[1].set_outputs([regions[1].own_constant(shared)], ["r"])
    verify(graph)


def test_the_message_names_the_node():
    graph, values = sample()
    unfit_operand(graph, values)
    with pytest.raises(EdgeccError, match=r"conv \(Conv_0\): invariant 4: conv: w f32\[3,5,1,1\]"):
        verify(graph)


def test_every_invariant_has_a_case():
    listed = {int(number) for number in re.findall(r"^ (\d+)\.", module.__doc__ or "", re.MULTILINE)}
    assert listed == {invariant for invariant, _ in BROKEN}
