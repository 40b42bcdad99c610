"""fold-expand: a matrix product broadcasts batch axes instead of reading copies."""

from __future__ import annotations

import pytest

from tests.support.graph_passes import declined, fired


def grouped(product: str, expand: str = '%e = expand(%k) {shape=(1,4,2,9,8)} : f32[1,4,2,9,8] loc("Expand")',
            reshape: str = '%r = reshape(%e) {shape=(1,8,9,8)} : f32[1,8,9,8] loc("Reshape")', k: str = "1,4,1,9,8",
            q: str = "1,8,3,8", more: str = "", returned: str = "") -> str:
    return f"""
        graph "g" (%q: f32[{q}] "q", %k: f32[{k}] "k"{more}) {{
          {expand}
          {reshape}
          {product}
          return %y "y"{returned}
        }}"""


SCORES = '%y = matmul(%q, %r) {transpose_a=false, transpose_b=true} : f32[1,8,3,9] loc("MatMul")'

FIRES = {
    "keys": grouped(SCORES),
    "values, as the first operand": grouped('%y = matmul(%r, %q) {transpose_a=false, transpose_b=true} : f32[1,8,9,3] loc("MatMul")'),
    "a scale and masks in the epilogue": grouped("""%b = constant f32[8,1,1] random
          %s = constant f32[9] random
          %y = matmul(%q, %r, none, %m, %b, %s) {transpose_a=false, transpose_b=true, \
epilogue=`mul(add(add($0:f32, $1:f32), $2:f32), $3:f32)`} : f32[1,8,3,9] loc("MatMul")""", more=', %m: f32[1,1,3,9] "m"'),
    "a bias": grouped(SCORES.replace("%r)", "%r, %c)").replace("%y =", "%c = constant f32[1,8,1,9] random\n %y =")),
    "the other operand is broadcast elsewhere": grouped(
        '%y = matmul(%q, %r) {transpose_a=false, transpose_b=true} : f32[5,8,3,9] loc("MatMul")', q="8,3,8", k="5,4,1,9,8",
        expand='%e = expand(%k) {shape=(5,4,2,9,8)} : f32[5,4,2,9,8] loc("Expand")',
        reshape='%r = reshape(%e) {shape=(5,8,9,8)} : f32[5,8,9,8] loc("Reshape")'),
    "two axes joined behind one": grouped(
        '%y = matmul(%q, %r) {transpose_a=false, transpose_b=true} : f32[5,8,3,9] loc("MatMul")', q="5,8,3,8", k="5,1,4,9,8",
        expand='%e = expand(%k) {shape=(5,2,4,9,8)} : f32[5,2,4,9,8] loc("Expand")',
        reshape='%r = reshape(%e) {shape=(5,8,9,8)} : f32[5,8,9,8] loc("Reshape")'),
}

DECLINES = {
    "1 the copies are returned": grouped(SCORES, returned=', %r "r"'),
    "1 the copies have another reader": grouped(SCORES + "\n%z = softmax(%e) {axis=1, log=false} : f32[1,4,2,9,8]", returned=', %z "z"'),
    "2 rows are repeated": grouped(SCORES, k="1,4,2,1,8"),
    "3 matrices change": grouped('%y = matmul(%q, %r) {transpose_a=false, transpose_b=true} : f32[1,8,3,9] loc("MatMul")',
                                 k="1,8,1,8,9", q="1,8,3,8", expand='%e = expand(%k) {shape=(1,8,1,8,9)} : f32[1,8,1,8,9]'),
    "3 other axes are joined": grouped(
        '%y = matmul(%q, %r) {transpose_a=false, transpose_b=true} : f32[6,4,3,9] loc("MatMul")', q="6,4,3,8", k="1,3,2,9,8",
        expand='%e = expand(%k) {shape=(4,3,2,9,8)} : f32[4,3,2,9,8]', reshape='%r = reshape(%e) {shape=(6,4,9,8)} : f32[6,4,9,8]'),
    "3 the other operand has more batch axes": grouped(
        '%y = matmul(%q, %r) {transpose_a=false, transpose_b=true} : f32[2,1,8,3,9] loc("MatMul")', q="2,1,8,3,8"),
    "4 the other operand is broadcast": grouped(SCORES, q="1,1,3,8"),
    "4 the other operand has no batch axes": grouped(SCORES, q="3,8"),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("fold-expand", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("fold-expand", DECLINES[case]), "txt")
