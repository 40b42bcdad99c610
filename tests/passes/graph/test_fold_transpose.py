"""fold-transpose: operators are applied before a transpose instead of after it."""

from __future__ import annotations

import pytest

from tests.support.graph_passes import declined, fired

T = '%t = transpose(%x) {perm=(0,2,3,1)} : f32[2,4,5,3] loc("T")'


def behind(body: str, returned: str = "%y", transpose: str = T, source: str = '%x: f32[2,3,4,5] "x"') -> str:
    return f"""
        graph "g" ({source}) {{
          {transpose}
          {body}
          return {returned} "y"
        }}"""


TWO = '%x: f32[2,3,4,5] "x", %z: f32[2,3,4,5] "z"'
BOTH = T + """
          %u = transpose(%z) {perm=(0,2,3,1)} : f32[2,4,5,3] loc("U")"""

FIRES = {
    "1 unary": behind('%y = elementwise(%t) {expr=`exp($0:f32)`} : f32[2,4,5,3] loc("E")'),
    "1 both operands": behind('%y = elementwise(%t, %u) {expr=`sub($0:f32, $1:f32)`} : f32[2,4,5,3] loc("E")',
                              transpose=BOTH, source=TWO),
    "1 constants of several ranks": behind("""%c = constant f32[3] random
          %d = constant f32[4,1,3] random
          %e = constant f32[2,1,5,1] random
          %f = constant f32[] random
          %y = elementwise(%c, %t, %d, %e, %f) {expr=`add(add(add(sub($0:f32, $1:f32), $2:f32), $3:f32), $4:f32)`} \
: f32[2,4,5,3] loc("E")"""),
    "1 a variable of one element": behind('%y = elementwise(%t, %z) {expr=`sub($0:f32, $1:f32)`} : f32[2,4,5,3] loc("E")',
                                          source='%x: f32[2,3,4,5] "x", %z: f32[1,1] "z"'),
    "1 concat": behind("""%c = constant f32[2,4,1,3] random
          %y = concat(%t, %c, %u) {axis=2} : f32[2,4,11,3] loc("C")""", transpose=BOTH, source=TWO),
    "1 through a chain of any length": behind("""%a = elementwise(%t) {expr=`exp($0:f32)`} : f32[2,4,5,3]
          %b = softmax(%a) {axis=3, log=false} : f32[2,4,5,3]
          %y = elementwise(%b) {expr=`neg($0:f32)`} : f32[2,4,5,3]"""),
    "2 reduce that keeps axes": behind('%y = reduce(%t) {kind="mean", axes=(1,3), keepdims=true} : f32[2,1,5,1] loc("R")'),
    "2 reduce that drops axes": behind('%y = reduce(%t) {kind="max", axes=(0,3), keepdims=false} : f32[4,5] loc("R")'),
    "2 reduce that drops other axes": behind('%y = reduce(%t) {kind="max", axes=(1), keepdims=false} : f32[2,5,3] loc("R")'),
    "2 softmax": behind('%y = softmax(%t) {axis=3, log=false} : f32[2,4,5,3] loc("S")'),
    "2 slice": behind('%y = slice(%t) {starts=(0,3,1,0), sizes=(2,2,4,2), steps=(1,-2,1,2)} : f32[2,2,4,2] loc("S")'),
    "2 pad": behind("""%v = constant f32[] [1.0]
          %y = pad(%t, %v) {before=(0,1,0,2), after=(0,0,3,0), mode="constant"} : f32[2,5,8,5] loc("P")"""),
    "3 matmul": behind("""%y = matmul(%t, %u) {transpose_a=true, transpose_b=false} : f32[2,4,4] loc("M")""",
                       transpose="""%t = transpose(%x) {perm=(0,2,1)} : f32[2,4,3] loc("T")
          %u = transpose(%z) {perm=(0,2,1)} : f32[2,3,4] loc("U")""", source='%x: f32[2,3,4] "x", %z: f32[2,4,3] "z"').replace(
        "f32[2,4,4] loc(\"M\")", "f32[2,3,4] loc(\"M\")").replace("transpose_a=true", "transpose_a=false").replace(
        "f32[2,3,4] loc(\"M\")", "f32[2,4,4] loc(\"M\")"),
    "3 one operand with a shared transpose": behind("""%y = matmul(%z, %t) {transpose_a=false, transpose_b=true} : f32[2,5,4] loc("M")
          %w = reshape(%t) {shape=(24)} : f32[24]""", transpose='%t = transpose(%x) {perm=(0,2,1)} : f32[2,4,3] loc("T")',
                                                    source='%x: f32[2,3,4] "x", %z: f32[2,5,3] "z"'),
    "4 all readers are slices": behind("""%a = slice(%t) {starts=(0,0,0,0), sizes=(2,1,5,3), steps=(1,1,1,1)} : f32[2,1,5,3] loc("A")
          %b = slice(%t) {starts=(0,1,0,0), sizes=(2,3,5,3), steps=(1,1,1,1)} : f32[2,3,5,3] loc("B")""", returned='%a "a", %b'),
}

DECLINES = {
    "4 another reader": behind("""%a = reshape(%t) {shape=(120)} : f32[120]
          %y = elementwise(%t) {expr=`exp($0:f32)`} : f32[2,4,5,3] loc("E")""", returned='%a "a", %y'),
    "4 returned": behind('%y = elementwise(%t) {expr=`exp($0:f32)`} : f32[2,4,5,3] loc("E")', returned='%t "t", %y'),
    "5 not transposed": behind('%y = elementwise(%t, %z) {expr=`sub($0:f32, $1:f32)`} : f32[2,4,5,3] loc("E")',
                               source='%x: f32[2,3,4,5] "x", %z: f32[2,4,5,3] "z"'),
    "5 transposed differently": behind('%y = elementwise(%t, %u) {expr=`sub($0:f32, $1:f32)`} : f32[2,4,5,3] loc("E")',
                                       transpose=BOTH.replace("perm=(0,2,3,1)} : f32[2,4,5,3] loc(\"U\")", "perm=(0,1,3,2)} : f32[2,4,5,3] loc(\"U\")"),
                                       source='%x: f32[2,3,4,5] "x", %z: f32[2,4,3,5] "z"'),
    "5 another rank": behind('%y = elementwise(%t, %z) {expr=`sub($0:f32, $1:f32)`} : f32[6,2,4,5,3] loc("E")',
                             source='%x: f32[2,3,4,5] "x", %z: f32[6,1,1,1,1] "z"'),
    "6 the result is larger": behind("""%c = constant f32[3,1,2] random
          %y = elementwise(%t, %c) {expr=`sub($0:f32, $1:f32)`} : f32[3,5,2] loc("E")""",
                                     transpose='%t = transpose(%x) {perm=(1,0,2)} : f32[1,5,2] loc("T")', source='%x: f32[5,1,2] "x"'),
    "7 batch axes": behind('%y = matmul(%t, %u) {transpose_a=false, transpose_b=true} : f32[2,4,5,5] loc("M")', transpose=BOTH, source=TWO),
}

QUIET = {
    "no transpose": behind('%y = elementwise(%x) {expr=`exp($0:f32)`} : f32[2,3,4,5] loc("E")', transpose=""),
    "another operator": behind('%y = reshape(%t) {shape=(120)} : f32[120] loc("R")'),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("fold-transpose", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("fold-transpose", DECLINES[case]), "txt")


@pytest.mark.parametrize("case", QUIET)
def test_leaves_alone(case):
    assert declined("fold-transpose", QUIET[case]) == ""


def test_transposes_around_a_chain_cancel(golden):
    golden(fired("fold-transpose,simplify-movement,eliminate", behind("""%a = elementwise(%t) {expr=`exp($0:f32)`} : f32[2,4,5,3]
          %b = pad(%a) {before=(0,1,0,0), after=(0,0,1,0), mode="edge"} : f32[2,5,6,3]
          %u = transpose(%b) {perm=(0,3,1,2)} : f32[2,3,5,6]
          %y = elementwise(%u) {expr=`neg($0:f32)`} : f32[2,3,5,6]""")))


def test_transposes_of_a_long_chain_move_behind_it_at_once(golden):
    perms, lines = [(1, 2, 0), (0, 2, 1), (2, 1, 0)], []
    for number in range(14):
        lines += [f"%t{number} = transpose(%s{number}) {{perm=({','.join(map(str, perms[number % 3]))})}} : f32[2,2,2]",
                  f"%s{number + 1} = softmax(%t{number}) {{axis={number % 3}, log=false}} : f32[2,2,2]"]
    text = behind("\n          ".join(lines), "%s14", transpose="", source='%s0: f32[2,2,2] "x"')
    golden(fired("fold-transpose,simplify-movement,eliminate", text))


def test_a_transpose_that_something_else_reads_stays_where_it_is(golden):
    golden(fired("fold-transpose", behind("""%u = transpose(%t) {perm=(1,0,2,3)} : f32[4,2,5,3]
          %a = softmax(%u) {axis=3, log=false} : f32[4,2,5,3]
          %y = reshape(%t) {shape=(120)} : f32[120]""", "%a, %y").replace('%a, %y "y"', '%a "a", %y "y"')))
