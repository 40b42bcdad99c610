"""The pipeline runs passes in order and checks each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg, apply, literal
from edgecc.ir.text import to_text
from edgecc.ir.types import DType, Layout, TensorType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.reduction import Softmax
from edgecc.passes import base
from edgecc.passes.base import PASSES, GraphPass, NodePass, create_pass, load_passes
from edgecc.pipeline import DEFAULT_GRAPH_PASSES, PassReport, default_graph_passes, run_passes
from edgecc.reference.executor import sample_inputs
from tests.support.graph_passes import graph_of

CHAIN = """
    graph "g" (%x: f32[2,3] "x") {
      %c = constant f32[3] [1.0, 2.0, 3.0]
      %a = elementwise(%x, %c) {expr=`mul($0:f32, $1:f32)`} : f32[2,3] loc("A")
      %b = elementwise(%a) {expr=`abs($0:f32)`} : f32[2,3] loc("B")
      return %b "y"
    }"""


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    before = dict(load_passes())
    yield
    base._TABLE.clear()
    base._TABLE.update(before)


class Nothing(GraphPass):
    """Changes nothing."""

    name = "nothing"

    def run(self, graph: Graph) -> bool:
        return False


del base._TABLE["nothing"]


@dataclass(frozen=True)
class Sign(NodePass):
    """Wrongly takes |x| for x."""

    name: ClassVar[str] = "sign"

    def rewrite(self, graph: Graph, node: Node) -> bool:
        if "abs" not in str(node.op):
            return False
        graph.replace_all_uses(node.output, node.operand(0))
        graph.erase(node)
        return True


del base._TABLE["sign"]


def test_reports_what_each_pass_did():
    seen: list[tuple[str, int]] = []

    def observe(report: PassReport, graph: Graph) -> None:
        seen.append((str(report.graph_pass), len(graph)))

    graph = graph_of(CHAIN)
    reports = run_passes(graph, [Nothing(), create_pass("fuse-elementwise"), create_pass("eliminate")], observer=observe)
    assert [(r.changed, r.nodes_before, r.nodes_after) for r in reports] == [(False, 2, 2), (True, 2, 1), (False, 1, 1)]
    assert seen == [("nothing", 2), ("fuse-elementwise", 1), ("eliminate", 1)]
    assert all(r.seconds >= 0 for r in reports)


def test_declines_are_part_of_the_report():
    graph = graph_of(CHAIN.replace('%b "y"', '%b "y", %a "a"'))
    (report,) = run_passes(graph, [create_pass("fuse-elementwise")])
    assert [str(d) for d in report.declines] == ["fuse-elementwise: elementwise B: %a: it is needed elsewhere too"]


def test_a_wrong_pass_is_named_with_the_passes_before_it():
    graph = graph_of(CHAIN)
    with pytest.raises(EdgeccError) as caught:
        run_passes(graph, [Nothing(), Sign()], verify_each=sample_inputs(graph))
    assert caught.value.code == "E901"
    text = str(caught.value)
    assert text.startswith("[E901] pass sign: the results differ from those before the pass\n  output y: changed by")
    assert text.endswith("passes before it: nothing")


def test_without_inputs_nothing_is_executed():
    graph = graph_of(CHAIN)
    run_passes(graph, [Sign()])
    assert len(graph) == 1


def test_a_difference_within_the_stated_tolerance_is_accepted():
    @dataclass(frozen=True)
    class Rescale(GraphPass):
        tolerance: ClassVar[float] = 2.0
        units: float = 1.0

        def run(self, graph: Graph) -> bool:
            last = graph.nodes[-1]
            factor = literal(float(np.float32(1.0 + self.units * 2.0**-23)), DType.F32)
            scaled = graph.add(Elementwise(apply("mul", Arg(0, DType.F32), factor)), last.output)
            graph.set_outputs([scaled], graph.output_names)
            return True

    graph = graph_of(CHAIN)
    run_passes(graph, [Rescale()], verify_each=sample_inputs(graph))
    with pytest.raises(EdgeccError, match="changed by"):
        run_passes(graph, [Rescale(units=64)], verify_each=sample_inputs(graph))


def broken_changes() -> dict[str, tuple[object, str]]:
    def says_nothing(graph: Graph) -> bool:
        return Sign().run(graph) and False

    def says_something(graph: Graph) -> bool:
        return True

    def invalid(graph: Graph) -> bool:
        graph.reorder(graph.nodes[::-1])
        return True

    def other_interface(graph: Graph) -> bool:
        graph.set_outputs(graph.outputs, ["z"])
        return True

    def other_type(graph: Graph) -> bool:
        value = graph.add(Elementwise(apply("lt", Arg(0, DType.F32), literal(0.0, DType.F32))), graph.outputs[0])
        graph.set_outputs([value], graph.output_names)
        return True

    def layout(graph: Graph) -> bool:
        graph.outputs[0].layout = Layout((1, 0))
        return True

    def uses(graph: Graph) -> bool:
        graph.inputs[0]._uses.clear()
        return False

    def wrong_type(graph: Graph) -> bool:
        value = graph.nodes[0].outputs[0]
        value.type = TensorType(value.type.dtype, (*value.type.shape, 1))
        value.layout = Layout.row_major(value.type.rank)
        return True

    def exception(graph: Graph) -> bool:
        return bool(graph.nodes[99])

    return {
        "says it changed nothing": (says_nothing, "[E900] pass broken: says it changed nothing, and changed something"),
        "says it changed something": (says_something, "[E900] pass broken: says it changed something, and changed nothing"),
        "invalid order": (invalid, "[E900] pass broken: elementwise (B): invariant 1"),
        "interface name": (other_interface, "[E900] pass broken: the inputs and outputs of the graph changed"),
        "interface type": (other_type, "[E900] pass broken: the inputs and outputs of the graph changed"),
        "layout of an output": (layout, "[E900] pass broken: invariant 9"),
        "uses": (uses, "[E900] pass broken: invariant 2"),
        "type of a result": (wrong_type, "[E900] pass broken: elementwise (A): invariant 4"),
        "exception": (exception, "[E903] pass broken: IndexError: tuple index out of range"),
    }


@pytest.mark.parametrize("what", broken_changes())
def test_broken_passes_are_caught(what):
    change, message = broken_changes()[what]
    broken = type("Broken", (GraphPass,), {"name": "broken", "run": lambda self, graph: change(graph)})
    with pytest.raises(EdgeccError) as caught:
        run_passes(graph_of(CHAIN), [create_pass("eliminate"), broken()])
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("passes before it: eliminate")


def test_an_invalid_graph_is_refused_before_any_pass():
    graph = graph_of(CHAIN)
    graph.reorder(graph.nodes[::-1])
    with pytest.raises(EdgeccError, match="invariant 1") as caught:
        run_passes(graph, [Nothing()])
    assert "pass" not in caught.value.where


def test_requirements_are_checked_before_anything_runs():
    needy = type("Needy", (Nothing,), {"name": "needy", "requires": ("eliminate",)})
    graph = graph_of(CHAIN)
    before = to_text(graph)
    with pytest.raises(EdgeccError, match="needs eliminate"):
        run_passes(graph, [Sign(), needy()])
    assert to_text(graph) == before


def test_the_default_pipeline_holds_every_built_in_pass():
    names = [p.name for p in default_graph_passes()]
    assert [name for name in names if not PASSES[name].place] == list(DEFAULT_GRAPH_PASSES)
    # Those of a back end have its name in front of theirs.
    ours = {name for name, cls in PASSES.items() if issubclass(cls, GraphPass) and cls.tolerance < float("inf") and "." not in name}
    assert set(names) == ours - {"activation-signs", "convert-precision", "float-sums", "recognize-activation", "unroll-recurrent"}  # where they are asked for


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precisions_are_converted_to_before_layouts_are_chosen(precision):
    passes = [str(p) for p in default_graph_passes(precision)]
    added = "convert-precision" if precision == "fp16" else "convert-precision{precision=bf16}"
    position = passes.index(added)
    assert passes[position + 1] == "assign-layout"
    assert passes[:position] + passes[position + 1:] == [str(p) for p in default_graph_passes()]


def place(name: str, where: str) -> None:
    type("Placed", (Nothing,), {"name": name, "place": where, "__module__": name})


def test_a_pass_states_its_own_place():
    place("b-after", "after fuse-conv-bn")
    place("a-after", "after fuse-conv-bn")
    place("last", "before assign-layout")
    place("second", "after last")
    place("unplaced", "")
    names = [p.name for p in default_graph_passes()]
    at = names.index("fuse-conv-bn")
    assert names[at:at + 3] == ["fuse-conv-bn", "a-after", "b-after"]
    at = names.index("assign-layout")
    assert names[at - 2:at] == ["last", "second"]
    assert "unplaced" not in names


def test_a_place_that_does_not_exist_is_an_error():
    place("lost", "after nowhere")
    with pytest.raises(EdgeccError, match="pass lost wants its place 'after nowhere'"):
        default_graph_passes()


def long_chain(length: int, every: int) -> Graph:
    """Elementwise nodes in a row, with a softmax among `every` of them."""
    graph = Graph("chain")
    value: Value = graph.add_input(TensorType(DType.F32, (1, 2, 3, 4)), "x")
    kinds = [apply("max", Arg(0, DType.F32), literal(0.0, DType.F32)), apply("neg", Arg(0, DType.F32)),
             apply("mul", Arg(0, DType.F32), literal(1.0, DType.F32))]
    for index in range(length):
        op = Softmax(1) if index % every == every - 1 else Elementwise(kinds[index % 3])
        value = graph.add(op, value, loc=(f"N{index}",))
    graph.set_outputs([value], ["y"])
    return graph


@pytest.mark.parametrize(("length", "every", "left"), [(10_000, 5, 4000), (2_000, 2_001, 22)])
def test_thousands_of_nodes_need_no_recursion(length, every, left):
    graph = long_chain(length, every)
    run_passes(graph, default_graph_passes())
    assert len(graph) <= left
