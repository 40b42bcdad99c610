"""Passes are found by name, take typed options, and say why they did nothing."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest

import edgecc.ops  # noqa: F401 - the parser looks operators up
from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Node
from edgecc.ir.parser import parse
from edgecc.options import options_of
from edgecc.passes import base
from edgecc.passes.base import (
    PASSES,
    GraphPass,
    NodePass,
    check_requirements,
    collect_declines,
    create_pass,
    load_passes,
    parse_passes,
)

CHAIN = """\
graph "g" (%x: f32[2] "x") {
  %a = elementwise(%x) {expr=`neg($0:f32)`} : f32[2] loc("A")
  %b = elementwise(%a) {expr=`abs($0:f32)`} : f32[2] loc("B")
  return %b "y"
}
"""


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Leaves the registry as it was, so that passes of tests stay in their tests."""
    before = dict(load_passes())
    yield
    base._TABLE.clear()
    base._TABLE.update(before)


def define(**body: object) -> type[GraphPass]:
    """A pass class with this body."""
    cls = types.new_class("Defined", (GraphPass,), {}, lambda space: space.update(
        {"run": lambda self, graph: False, "__module__": "somewhere", **body}))
    return cls


def test_every_file_of_the_folder_brings_passes():
    names = {module.rpartition(".")[2] for cls in PASSES.values() for module in [cls.__module__]
             if module.startswith("edgecc.passes.graph.")}
    files = {path.stem for path in (Path(base.__file__).parent / "graph").glob("*.py")} - {"__init__"}
    assert names == files


@pytest.mark.parametrize("name", sorted(n for n, c in load_passes().items() if issubclass(c, GraphPass) and "." not in n))
def test_built_in_passes_state_their_contract(name):
    cls = PASSES[name]
    assert issubclass(cls, GraphPass)
    assert cls.__doc__
    assert "tolerance" in cls.__dict__
    assert cls.tolerance >= 0
    module = sys.modules[cls.__module__]
    assert "->" in (module.__doc__ or ""), "the module's docstring draws before -> after"
    assert module.__name__.rpartition(".")[2].replace("_", "-") == name
    assert str(create_pass(name)) == name


def test_two_passes_of_one_name_are_an_error_naming_both_modules():
    define(name="twin", __module__="package.one")
    with pytest.raises(TypeError, match=r"'twin'.*package\.one.*package\.two"):
        define(name="twin", __module__="package.two")


def test_defining_the_same_class_again_is_no_error():
    first = define(name="again")
    second = define(name="again")
    assert PASSES["again"] is second is not first


def test_a_class_without_a_name_of_its_own_is_not_registered():
    first = define(name="named")
    types.new_class("Variant", (first,))
    assert PASSES["named"] is first


def with_options() -> type[GraphPass]:
    @dataclass(frozen=True)
    class WithOptions(GraphPass):
        name = "with-options"
        count: int = 3
        factor: float = 0.5
        fast: bool = False
        mode: Literal["near", "far"] = "near"
        sizes: tuple[int, ...] = (8, 8)
        limit: int | None = None
        label: str = ""

        def run(self, graph: Graph) -> bool:
            return False

    return WithOptions


@pytest.mark.parametrize(("spec", "option", "value"), [
    ("count=7", "count", 7), ("count=-1", "count", -1), ("factor=1e-3", "factor", 1e-3), ("factor=2", "factor", 2.0),
    ("fast=true", "fast", True), ("mode=far", "mode", "far"), ("sizes=4x16x1", "sizes", (4, 16, 1)),
    ("limit=5", "limit", 5), ("limit=none", "limit", None), ("label=a b", "label", "a b")])
def test_options_have_the_types_of_the_fields(spec, option, value):
    with_options()
    (made,) = parse_passes(f"with-options{{{spec}}}")
    got = getattr(made, option)
    assert (got, type(got)) == (value, type(value))
    assert parse_passes(str(made)) == (made,)


@pytest.mark.parametrize(("spec", "message"), [
    ("with-options{count=x}", "option count of pass with-options: 'x' is not an integer"),
    ("with-options{factor=x}", "'x' is not a number"),
    ("with-options{fast=1}", "'1' is neither true nor false"),
    ("with-options{mode=middle}", "'middle' is not one of near, far"),
    ("with-options{counts=1}", "has no option 'counts'\n  hint: did you mean count?"),
    ("with-options{zzz=1}", "hint: its options: count, factor, fast"),
    ("with-options{count}", "option 'count' of pass with-options has no value"),
    ("with-options{count=1", "not closed"),
    ("eliminat", "there is no graph pass 'eliminat'\n  hint: did you mean eliminate?"),
    ("qqqqqq", "hint: see `edgecc passes`"),
    ("eliminate,,eliminate", "a pass name was expected before ',eliminate'"),
    ("{count=1}", "a pass name was expected"),
])
def test_bad_specifications_say_what_was_meant(spec, message):
    with_options()
    with pytest.raises(EdgeccError) as caught:
        parse_passes(spec)
    assert caught.value.code == "E004"
    assert message in str(caught.value)


@pytest.mark.parametrize("spec", ["eliminate,with-options{count=4,fast=true},eliminate",
                                  "eliminate with-options { count=4 , fast=true } eliminate,",
                                  " eliminate ,\nwith-options{count=4,fast=true}eliminate"])
def test_names_are_separated_by_commas_or_spaces(spec):
    with_options()
    passes = parse_passes(spec)
    assert [p.name for p in passes] == ["eliminate", "with-options", "eliminate"]
    assert str(passes[1]) == "with-options{count=4,fast=true}"


def test_no_passes():
    assert parse_passes("  ") == ()


def test_options_can_be_listed():
    assert options_of(with_options())[:2] == (("count", "int", "3"), ("factor", "float", "0.5"))
    assert ("sizes", "tuple[int, ...]", "8x8") in options_of(with_options())


def test_requirements_are_checked():
    define(name="first")
    second = define(name="second", requires=("first",))
    check_requirements([create_pass("first"), second()])
    with pytest.raises(EdgeccError, match="pass second needs first before it"):
        check_requirements([second(), create_pass("first")])


class Endless(NodePass):
    """Turns the sign of a negation for ever."""

    def rewrite(self, graph: Graph, node: Node) -> bool:
        return "neg" in str(node.op)


def test_a_pass_that_does_not_terminate_is_named():
    with pytest.raises(EdgeccError, match=r"pass endless: still changes the graph after 10 sweeps") as caught:
        type("E", (Endless,), {"name": "endless"})().run(parse(CHAIN))
    assert caught.value.code == "E902"


class Visits(NodePass):
    """Records which nodes it sees."""

    seen: ClassVar[list[str]] = []

    def rewrite(self, graph: Graph, node: Node) -> bool:
        self.seen.append(node.loc[0])
        if node.loc == ("A",) and len(graph) == 2:
            graph.add(node.op, *node.inputs, before=node, loc=("N",))
            return True
        return False


@pytest.mark.parametrize(("order", "seen"), [("forward", ["A", "B", "N", "A", "B"]), ("backward", ["B", "A", "B", "A", "N"])])
def test_sweeps_go_in_order_until_nothing_changes(order, seen):
    Visits.seen.clear()
    assert type("V", (Visits,), {"order": order})().run(parse(CHAIN)) is True
    assert Visits.seen == seen


def test_a_failure_names_the_node():
    class Failing(NodePass):
        name = "failing"

        def rewrite(self, graph: Graph, node: Node) -> bool:
            raise {"A": EdgeccError("E110", "shapes differ", where="somewhere", hint="reshape"), "B": KeyError("k")}[node.loc[0]]

    graph = parse(CHAIN)
    with pytest.raises(EdgeccError) as caught:
        Failing().run(graph)
    assert str(caught.value) == ('[E903] pass failing: somewhere: shapes differ\n  at %a = elementwise(%x) '
                                 '{expr=`neg($0:f32)`} : f32[2] loc("A")\n  hint: reshape')
    graph.nodes[0].loc = ("B",)
    with pytest.raises(EdgeccError, match=r"pass failing: KeyError: 'k'") as caught:
        Failing().run(graph)
    assert caught.value.code == "E903"


class Shy(NodePass):
    """Declines everything."""

    name = "shy"

    def rewrite(self, graph: Graph, node: Node) -> bool:
        return self.decline(node, "not today")


del base._TABLE["shy"]  # other tests look at all passes


def test_declines_are_recorded_once_where_somebody_listens():
    graph = parse(CHAIN)
    assert Shy().run(graph) is False
    with collect_declines() as declines:
        Shy().run(graph)
        Shy().run(graph)
        graph.nodes[1].loc = ()
        Shy().run(graph)
    assert [str(d) for d in declines] == ["shy: elementwise A: not today", "shy: elementwise B: not today",
                                          "shy: elementwise %b: not today"]


def test_plug_ins_are_loaded_by_entry_point(package):
    package("acme", {"edgecc.passes": {"acme": "acme_passes"}}, {"acme_passes.py": """
from edgecc.passes.base import GraphPass
class P(GraphPass):
    name = "acme.nothing"
    def run(self, graph):
        return False
"""})
    assert "acme.nothing" in load_passes() and create_pass("acme.nothing").name == "acme.nothing"


def test_a_broken_plug_in_is_named(package):
    package("acme", {"edgecc.passes": {"acme": "acme_does_not_exist"}}, {})
    with pytest.raises(EdgeccError, match=r"acme \(acme_does_not_exist\) of the package acme cannot be imported: ModuleNotFoundError") as caught:
        load_passes()
    assert caught.value.code == "E404"
