"""simplify-movement: fewer and simpler movements of the same elements."""

from __future__ import annotations

import pytest

from tests.support.graph_passes import declined, fired


def movements(body: str, result: str = "%y", source: str = '%x: f32[2,3,4] "x"') -> str:
    return f"""
        graph "g" ({source}) {{
          {body}
          return {result} "y"
        }}"""


CONCATS = """
          %a = elementwise(%x) {expr=`neg($0:f32)`} : f32[2,3,4] loc("N")
          %b = concat(%x, %a) {axis=1} : f32[2,6,4] loc("A")
          %c = constant f32[2,1,4] random"""

FIRES = {
    "1 reshape of reshape": movements("""
          %a = reshape(%x) {shape=(6,4)} : f32[6,4] loc("A")
          %b = reshape(%a) {shape=(24)} : f32[24] loc("B")
          %y = reshape(%b) {shape=(8,3)} : f32[8,3] loc("C")"""),
    "1 transposes": movements("""
          %a = transpose(%x) {perm=(2,0,1)} : f32[4,2,3] loc("A")
          %y = transpose(%a) {perm=(0,2,1)} : f32[4,3,2] loc("B")"""),
    "1 slices": movements("""
          %a = slice(%x) {starts=(1,2,3), sizes=(1,3,2), steps=(1,-1,-2)} : f32[1,3,2] loc("A")
          %y = slice(%a) {starts=(0,2,0), sizes=(1,2,2), steps=(1,-2,1)} : f32[1,2,2] loc("B")"""),
    "1 expands": movements("""
          %a = expand(%x) {shape=(5,1,2,3,4)} : f32[5,1,2,3,4] loc("A")
          %y = expand(%a) {shape=(2,5,6,2,3,4)} : f32[2,5,6,2,3,4] loc("B")"""),
    "2 transpose of an axis of size 1": movements("""
          %y = transpose(%x) {perm=(1,2,0,3)} : f32[3,1,2,4] loc("T")""", source='%x: f32[2,3,1,4] "x"').replace(
        "perm=(1,2,0,3)} : f32[3,1,2,4]", "perm=(2,0,1,3)} : f32[1,2,3,4]"),
    "2 expand that only adds axes": movements('%y = expand(%x) {shape=(1,1,2,3,4)} : f32[1,1,2,3,4] loc("E")'),
    "3 concat of concat": movements(CONCATS + """
          %y = concat(%c, %b, %x) {axis=1} : f32[2,10,4] loc("B")"""),
    "3 empty operands": movements("""
          %a = slice(%x) {starts=(0,0,0), sizes=(2,0,4), steps=(1,1,1)} : f32[2,0,4] loc("S")
          %y = concat(%a, %x, %a, %x) {axis=1} : f32[2,6,4] loc("C")"""),
    "4 slice of one operand": movements(CONCATS + """
          %d = concat(%c, %b) {axis=1} : f32[2,7,4] loc("B")
          %y = slice(%d) {starts=(0,6,0), sizes=(2,2,4), steps=(1,-2,1)} : f32[2,2,4] loc("S")"""),
    "4 slice of one operand of a shared concat": movements(CONCATS + """
          %y = slice(%b) {starts=(1,1,0), sizes=(1,2,4), steps=(1,1,1)} : f32[1,2,4] loc("S")
          %unused = reshape(%b) {shape=(48)} : f32[48] loc("R")"""),
    "4 steps over one element": movements('%y = slice(%x) {starts=(1,2,0), sizes=(1,1,4), steps=(5,-1,1)} : f32[1,1,4] loc("S")'),
    "4 starts of empty axes": movements('%y = slice(%x) {starts=(1,2,9), sizes=(1,1,0), steps=(1,1,-3)} : f32[1,1,0] loc("S")'),
    "5 pad that only removes": movements('%y = pad(%x) {before=(-1,0,0), after=(0,-1,-2), mode="constant"} : f32[1,2,2] loc("P")'),
    "6 gather of one index": movements("""
          %i = constant i64[] [-1]
          %y = gather(%x, %i) {axis=1} : f32[2,4] loc("G")"""),
    "6 gather backwards": movements("""
          %i = constant i64[2] [2, 0]
          %y = gather(%x, %i) {axis=1} : f32[2,2,4] loc("G")"""),
    "6 gather with a matrix of indices": movements("""
          %i = constant i32[2,2] [0, 1, 2, 3]
          %y = gather(%x, %i) {axis=2} : f32[2,3,2,2] loc("G")"""),
    "6 gather beyond the end reads the last": movements("""
          %i = constant i64[2] [1, 99]
          %y = gather(%x, %i) {axis=1} : f32[2,2,4] loc("G")"""),
    "7 gather from a widened table": movements("""
          %t = constant f16[9,4] random
          %w = elementwise(%t) {expr=`f32($0:f16)`} : f32[9,4] loc("Cast")
          %y = gather(%w, %x) {axis=0} : f32[2,3,4] loc("G")""", source='%x: i64[2,3] "x"'),
}

DECLINES = {
    "8 the inner concat has another reader": movements(CONCATS + """
          %y = concat(%b, %b) {axis=1} : f32[2,12,4] loc("B")
          %z = concat(%y, %x) {axis=0} : f32[2,12,4]""").replace('%z = concat(%y, %x) {axis=0} : f32[2,12,4]', "").replace(
        'return %y "y"', 'return %y "y", %b "b"'),
    "9 unevenly spaced": movements("""
          %i = constant i64[3] [0, 1, 3]
          %y = gather(%x, %i) {axis=2} : f32[2,3,3] loc("G")"""),
    "9 repeated": movements("""
          %i = constant i64[3] [1, 1, 1]
          %y = gather(%x, %i) {axis=2} : f32[2,3,3] loc("G")"""),
}

QUIET = {
    "another axis": movements("""
          %a = concat(%x, %x) {axis=0} : f32[4,3,4] loc("A")
          %y = concat(%a, %a) {axis=1} : f32[4,6,4] loc("B")"""),
    "a slice of two operands": movements("""
          %a = concat(%x, %x) {axis=0} : f32[4,3,4] loc("A")
          %y = slice(%a) {starts=(1,0,0), sizes=(2,3,4), steps=(1,1,1)} : f32[2,3,4] loc("S")"""),
    "a pad that also adds": movements('%y = pad(%x) {before=(-1,0,0), after=(0,1,0), mode="constant"} : f32[1,4,4] loc("P")'),
    "more rows than the table": movements("""
          %t = constant f16[2,4] random
          %w = elementwise(%t) {expr=`f32($0:f16)`} : f32[2,4] loc("Cast")
          %y = gather(%w, %x) {axis=0} : f32[2,3,4] loc("G")""", source='%x: i64[2,3] "x"'),
    "a narrowed table": movements("""
          %t = constant f32[9,4] random
          %w = elementwise(%t) {expr=`f16($0:f32)`} : f16[9,4] loc("Cast")
          %y = gather(%w, %x) {axis=0} : f16[2,3,4] loc("G")""", source='%x: i64[2,3] "x"'),
    "variable indices": movements('%y = gather(%x, %i) {axis=1} : f32[2,4] loc("G")', source='%x: f32[2,3,4] "x", %i: i64[] "i"'),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("simplify-movement", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("simplify-movement", DECLINES[case]), "txt")


@pytest.mark.parametrize("case", QUIET)
def test_leaves_alone(case):
    assert declined("simplify-movement", QUIET[case]) == ""
