"""If and Loop: shape rules, meaning, text, structure."""

from __future__ import annotations

import numpy as np
import pytest

import edgecc.ops  # noqa: F401 - the parser looks operators up
from edgecc.errors import EdgeccError
from edgecc.ir.equal import first_difference, structural_hash
from edgecc.ir.parser import parse
from edgecc.ir.text import to_text
from edgecc.ir.types import Layout
from edgecc.ir.verify import verify
from edgecc.ops.control import Loop
from edgecc.ops.movement import Transpose
from edgecc.reference.executor import execute

BRANCH = """\
graph "branch" (%c: bool[] "c", %x: f32[3] "x") {
  %y = if(%c, %x) : f32[3]
    then (%x: f32[3] "x") {
      %y = elementwise(%x) {expr=`neg($0:f32)`} : f32[3]
      return %y "y"
    }
    else (%x: f32[3] "x") {
      return %x "y"
    }
  return %y "y"
}
"""

LOOP = """\
graph "sums" (%n: i64[] "n", %start: f32[2] "start", %rows: f32[4,2] "rows", %scale: f32[] "scale") {
  %go = constant bool[] [true]
  %sum, %all = loop(%n, %go, %start, %rows, %scale) {states=1, limit=4, scanned=(BACK), stacked=(BACK), rows=4, padded=PAD} : \
f32[2], f32[4,2]
    body (%i: i64[] "i", %s: f32[2] "s", %row: f32[2] "row", %scale: f32[] "scale") {
      %t = elementwise(%s, %row, %scale) {expr=`add($0:f32, mul($1:f32, $2:f32))`} : f32[2]
      %less = constant i64[] [2]
      %again = elementwise(%i, %less) {expr=`CONDITION`} : bool[]
      return %again "again", %t "t", %s "before"
    }
  return %sum "sum", %all "all"
}
"""


def loop_text(*, back: bool = False, padded: bool = False, condition: str = "le($0:i64, $0:i64)") -> str:
    return LOOP.replace("BACK", str(back).lower()).replace("PAD", str(padded).lower()).replace("CONDITION", condition)


ROWS = np.arange(8, dtype=np.float32).reshape(4, 2)


def feeds(count: int) -> dict[str, np.ndarray]:
    return {"n": np.array(count), "start": np.ones(2, np.float32), "rows": ROWS, "scale": np.array(2, np.float32)}


@pytest.mark.parametrize("text", [BRANCH, loop_text(), loop_text(padded=True), loop_text(back=True)])
def test_text_parses_back_and_copies_are_equal(text: str):
    graph = parse(text)
    assert to_text(graph) == text
    copy = graph.copy()
    verify(copy)
    assert first_difference(graph, copy) is None
    assert copy.nodes[0].regions[0] is not graph.nodes[0].regions[0]
    assert structural_hash(graph) == structural_hash(copy)


def test_graphs_that_differ_in_a_region_differ():
    one, other = parse(BRANCH), parse(BRANCH.replace("neg(", "abs("))
    assert first_difference(one, other) is not None
    assert structural_hash(one) != structural_hash(other)


@pytest.mark.parametrize(("condition", "sign"), [(True, -1), (False, 1)])
def test_if_runs_one_region(condition: bool, sign: int):
    x = np.array([1, -2, 3], np.float32)
    assert execute(parse(BRANCH), {"c": np.array(condition), "x": x})["y"].tolist() == (sign * x).tolist()


def test_loop_adds_rows_and_stacks_states():
    result = execute(parse(loop_text()), feeds(4))
    assert result["sum"].tolist() == [25, 33]
    assert result["all"].tolist() == [[1, 1], [1, 3], [5, 9], [13, 19]]
    backwards = execute(parse(loop_text(back=True)), feeds(4))
    assert backwards["sum"].tolist() == [25, 33]
    assert backwards["all"].tolist() == [[25, 31], [21, 25], [13, 15], [1, 1]]


def test_a_loop_that_ends_early_is_an_error_unless_rows_may_be_left():
    early = "lt($0:i64, $1:i64)"
    for count, condition in ((3, "le($0:i64, $0:i64)"), (5, "le($0:i64, $0:i64)"), (0, "le($0:i64, $0:i64)"), (4, early)):
        with pytest.raises(EdgeccError, match="E402"):
            execute(parse(loop_text(condition=condition)), feeds(count))
    padded = execute(parse(loop_text(padded=True, condition=early)), feeds(9))
    assert padded["all"].tolist() == [[1, 1], [1, 3], [5, 9], [0, 0]]
    assert execute(parse(loop_text(padded=True)), feeds(0))["all"].tolist() == [[0, 0]] * 4
    assert execute(parse(loop_text(padded=True)), feeds(-1))["sum"].tolist() == [1, 1]


def test_regions_that_do_not_fit_are_refused():
    for old, new, message in (
            ("else (%x: f32[3]", "else (%x: f32[4]", "region else takes"),
            ("else (%x: f32[3] \"x\") {\n      return", "else (%x: f32[3] \"x\") {\n      %z = constant f32[2] [1.0, 2.0]\n      return %z \"z\",",
             "region else returns"), ("bool[]", "f32[]", "wanted one bool")):
        with pytest.raises(EdgeccError, match=message):
            parse(BRANCH.replace(old, new))
    for old, new, message in (
            ("rows=4", "rows=5", "limit of 4|wanted 5 rows"), ("states=1", "states=9", "do not fit"),
            ("%again \"again\", ", "", "returns 2 values"), ("%t \"t\", %s", "%scale \"t\", %s", "returns as states")):
        with pytest.raises(EdgeccError, match=message):
            parse(loop_text().replace(old, new))
    with pytest.raises(EdgeccError, match="none may go backwards"):
        parse(loop_text(back=True, padded=True))
    with pytest.raises(EdgeccError, match="regions body are missing"):
        Loop(0, 0).infer([])


def test_the_verifier_looks_into_regions():
    graph = parse(BRANCH)
    region = graph.nodes[0].regions[0]
    region.nodes[0].outputs[0].name = "z"
    verify(graph)
    region.outputs = [graph.inputs[1]]
    with pytest.raises(EdgeccError, match="invariant 8"):
        verify(graph)
    turned = parse(BRANCH.replace("f32[3]", "f32[3,2]"))
    turned.add(Transpose((0, 1)), turned.nodes[0].output)
    turned.set_outputs([turned.nodes[1].output], ["y"])
    turned.nodes[0].output.layout = Layout((1, 0))
    with pytest.raises(EdgeccError, match="invariant 9"):
        verify(turned)
    shared = parse(BRANCH)
    shared.nodes[0].regions = (shared.nodes[0].regions[1],) * 2
    with pytest.raises(EdgeccError, match="invariant 10"):
        verify(shared)


def test_nesting_is_bounded():
    inner = "{ return %x \"y\" }"
    for _ in range(200):
        inner = ("{ %c = constant bool[] [true] %y = if(%c, %x) : f32[3] then (%x: f32[3] \"x\") " + inner
                 + " else (%x: f32[3] \"x\") { return %x \"y\" } return %y \"y\" }")
    with pytest.raises(EdgeccError, match="nested too deeply"):
        parse(f'graph "deep" (%x: f32[3] "x") {inner}')
