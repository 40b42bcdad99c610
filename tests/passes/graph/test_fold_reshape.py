"""fold-reshape: elementwise work is done before a reshape, where it can join what computes the value."""

from __future__ import annotations

import pytest

from tests.support.graph_passes import declined, fired


def behind(body: str, first: str = '%m = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[6,4] loc("M")',
           reshape: str = '%r = reshape(%m) {shape=(2,3,4)} : f32[2,3,4] loc("R")', returned: str = "%y",
           source: str = '%x: f32[6,5] "x"', constants: str = "") -> str:
    return f"""
        graph "g" ({source}) {{
          %w = constant f32[5,4] random
          {first}
          {reshape}
          {constants}
          {body}
          return {returned} "y"
        }}"""


UNARY = '%y = elementwise(%r) {expr=`sigmoid($0:f32)`} : f32[2,3,4] loc("E")'
BINARY = '%y = elementwise(%r, %c) {expr=`mul($0:f32, $1:f32)`} : f32[2,3,4] loc("E")'
CONV = '%k = constant f32[4,6,1] random\n %m = conv(%x, %k) {strides=(1), pads=(0,0), dilations=(1), group=1} : f32[1,4,6] loc("C")'

FIRES = {
    "matmul": behind(UNARY),
    "conv": behind(UNARY, first=CONV, source='%x: f32[1,6,6] "x"'),
    "elementwise": behind(UNARY, first='%m = elementwise(%x) {expr=`neg($0:f32)`} : f32[6,4] loc("N")', source='%x: f32[6,4] "x"'),
    "a constant along the last axis": behind(BINARY, constants="%c = constant f32[4] random"),
    "a constant of one element": behind(BINARY, constants="%c = constant f32[1,1] random"),
    "a chain": behind("""%a = elementwise(%r) {expr=`sigmoid($0:f32)`} : f32[2,3,4] loc("E")
          %y = elementwise(%a) {expr=`exp($0:f32)`} : f32[2,3,4] loc("F")"""),
    "read twice by one node": behind('%y = elementwise(%r, %r) {expr=`mul($0:f32, sigmoid($1:f32))`} : f32[2,3,4] loc("E")'),
}

DECLINES = {
    "1 an input": behind(UNARY, first="", reshape='%r = reshape(%x) {shape=(2,3,4)} : f32[2,3,4] loc("R")', source='%x: f32[6,4] "x"'),
    "1 another operator": behind(UNARY, first='%m = softmax(%x) {axis=1, log=false} : f32[6,4]', source='%x: f32[6,4] "x"'),
    "2 the reshaped value is returned": behind(UNARY, returned='%r "r", %y'),
    "2 the value before is returned": behind(UNARY, returned='%m "m", %y'),
    "2 another reader": behind(UNARY + "\n%z = softmax(%r) {axis=1, log=false} : f32[2,3,4]", returned='%z "z", %y'),
    "3 a variable": behind(BINARY, source='%x: f32[6,5] "x", %c: f32[4] "c"'),
    "3 a constant along another axis": behind(BINARY, constants="%c = constant f32[3,1] random"),
    "3 the last axis changes": behind(BINARY.replace("2,3,4", "2,2,6"), constants="%c = constant f32[6] random",
                                      reshape='%r = reshape(%m) {shape=(2,2,6)} : f32[2,2,6] loc("R")'),
    "3 one element of higher rank": behind(BINARY.replace("2,3,4", "24"), constants="%c = constant f32[1] random",
                                           reshape='%r = reshape(%m) {shape=(24)} : f32[24] loc("R")').replace(
        "f32[1] random", "f32[1,1] random").replace(": f32[24] loc(\"E\")", ": f32[1,24] loc(\"E\")"),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("fold-reshape", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("fold-reshape", DECLINES[case]), "txt")


def test_the_work_ends_in_the_epilogue(golden):
    golden(fired("fold-reshape,fuse-activation", FIRES["matmul"]))
