"""replace-scatter: assignments of slices become concatenations."""

from __future__ import annotations

import itertools

import pytest

from tests.support.graph_passes import declined, fired


def positions(*ranges):
    """The text of all positions of a box (one range for each axis), in row-major order."""
    return ", ".join(str(number) for row in itertools.product(*ranges) for number in row)


def assignment(ranges, rows: str, updates: str, reduction: str = "none", data: str = "") -> str:
    return f"""
        graph "g" (%x: f32[4,5,3] "x", %u: f32[{updates}] "u", %n: i64[{rows},{len(ranges)}] "n") {{
          %i = constant i64[{rows},{len(ranges)}] [{data or positions(*ranges)}]
          %y = scatter_nd(%x, %i, %u) {{reduction="{reduction}"}} : f32[4,5,3] loc("Scatter")
          return %y "y"
        }}"""


FIRES = {
    "rows in the middle": assignment([range(1, 3)], "2", "2,5,3"),
    "the first row, from the end": assignment([range(-4, -3)], "1", "1,5,3"),
    "single elements of the last axis": assignment([range(4), range(5), range(1, 3)], "4,5,2", "4,5,2"),
    "columns up to the end": assignment([range(4), range(3, 5)], "4,2", "4,2,3"),
    "everything": assignment([range(4), range(5)], "20", "20,3"),
}

DECLINES = {
    "1 added": assignment([range(1, 3)], "2", "2,5,3", reduction="add"),
    "2 positions vary": assignment([range(1, 3)], "2", "2,5,3").replace("%x, %i", "%x, %n"),
    "3 out of order": assignment([range(1, 3)], "2", "2,5,3", data="2, 1"),
    "3 twice": assignment([range(1, 3)], "2", "2,5,3", data="1, 1"),
    "3 with a hole": assignment([range(1, 3)], "2", "2,5,3", data="1, 3"),
    "4 part of two axes": assignment([range(1, 3), range(1, 3)], "4", "4,3"),
}

PART_BY_PART = """
    graph "g" (%x: f32[3,2] "x", %u: f32[1,2] "u", %v: f32[2,2] "v") {
      %i = constant i64[1,1] [0]
      %j = constant i64[2,1] [1, 2]
      %a = scatter_nd(%x, %i, %u) {reduction="none"} : f32[3,2] loc("First")
      %b = scatter_nd(%a, %j, %v) {reduction="none"} : f32[3,2] loc("Second")
      return %b "y"
    }"""


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("replace-scatter", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("replace-scatter", DECLINES[case]), "txt")


def test_what_is_overwritten_part_by_part_is_not_needed(golden):
    golden(fired("replace-scatter,simplify-movement,eliminate", PART_BY_PART))
