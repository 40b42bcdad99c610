"""recognize-normalization: layer and RMS normalisation written as arithmetic."""

from __future__ import annotations

import pytest

from tests.support.graph_passes import declined, fired

LAYER = """
    graph "g" (%x: f32[2,3,8] "x") {
      %m = reduce(%x) {kind="mean", axes=(2), keepdims=true} : f32[2,3,1] loc("Mean")
      %d = elementwise(%x, %m) {expr=`sub($0:f32, $1:f32)`} : f32[2,3,8] loc("Sub")
      %q = elementwise(%d) {expr=`mul($0:f32, $0:f32)`} : f32[2,3,8] loc("Pow")
      %v = reduce(%q) {kind="mean", axes=(2), keepdims=true} : f32[2,3,1] loc("Variance")
      %s = elementwise(%v) {expr=`sqrt(add($0:f32, 0.01:f32))`} : f32[2,3,1] loc("Add", "Sqrt")
      %y = elementwise(%d, %s) {expr=`div($0:f32, $1:f32)`} : f32[2,3,8] loc("Div")
      return %y "y"
    }"""

RMS = """
    graph "g" (%x: f32[2,3,8] "x") {
      %q = elementwise(%x) {expr=`mul($0:f32, $0:f32)`} : f32[2,3,8] loc("Pow")
      %v = reduce(%q) {kind="mean", axes=(2), keepdims=true} : f32[2,3,1] loc("Mean")
      %a = elementwise(%v) {expr=`add($0:f32, 0.01:f32)`} : f32[2,3,1] loc("Add")
      %s = elementwise(%a) {expr=`sqrt($0:f32)`} : f32[2,3,1] loc("Sqrt")
      %r = elementwise(%s) {expr=`div(1.0:f32, $0:f32)`} : f32[2,3,1] loc("Reciprocal")
      %y = elementwise(%x, %r) {expr=`mul($0:f32, $1:f32)`} : f32[2,3,8] loc("Mul")
      return %y "y"
    }"""

NORMAL = '%n = normalize(%x{operands}) {{axes=(2), epsilon=0.01, rms=false}} : f32[2,3,8] loc("Norm")'


def affine(expr: str, operands: str = "%n, %c", constants: str = "%c = constant f32[8] random", own: str = "",
           result: str = "f32[2,3,8]", returned: str = "", source: str = '%x: f32[2,3,8] "x"', more: str = "") -> str:
    return f"""
        graph "g" ({source}) {{
          {constants}
          {NORMAL.format(operands=own)}
          {more}
          %y = elementwise({operands}) {{expr=`{expr}`}} : {result} loc("E")
          return %y "y"{returned}
        }}"""


FUSED = """
    graph "g" (%x: f32[2,3,8] "x") {
      %m = reduce(%x) {kind="mean", axes=(2), keepdims=true} : f32[2,3,1] loc("Mean")
      %q = elementwise(%x, %m) {expr=`mul(sub($0:f32, $1:f32), sub($0:f32, $1:f32))`} : f32[2,3,8] loc("Pow")
      %v = reduce(%q) {kind="mean", axes=(2), keepdims=true} : f32[2,3,1] loc("Variance")
      %y = elementwise(%x, %m, %v) {expr=`mul(div(1.0:f32, sqrt(add($2:f32, 0.01:f32))), sub($0:f32, $1:f32))`} \
: f32[2,3,8] loc("Div")
      return %y "y"
    }"""

TWO = """%c = constant f32[8] random
          %d = constant f32[3,1] random"""

FIRES = {
    "layer": LAYER,
    "layer over two axes": LAYER.replace("axes=(2)", "axes=(1,2)").replace("f32[2,3,1]", "f32[2,1,1]"),
    "layer fused in one node": FUSED,
    "layer whose mean is also returned": LAYER.replace('%y "y"', '%y "y", %m "m"'),
    "layer of a difference": LAYER.replace('"x")', '"x", %z: f32[2,3,8] "z")').replace("%m = ", """%e = elementwise(%x, %z) \
{expr=`sub($0:f32, $1:f32)`} : f32[2,3,8] loc("Before")
      %m = """).replace("reduce(%x)", "reduce(%e)").replace("elementwise(%x, %m)", "elementwise(%e, %m)"),
    "rms": RMS,
    "rms of a difference": RMS.replace('"x")', '"x", %z: f32[2,3,8] "z")').replace("%q = ", """%e = elementwise(%x, %z) \
{expr=`sub($0:f32, $1:f32)`} : f32[2,3,8] loc("Before")
      %q = """).replace("elementwise(%x)", "elementwise(%e)").replace("elementwise(%x, %r)", "elementwise(%e, %r)"),
    "rms with the factors the other way round": RMS.replace("(%x, %r)", "(%r, %x)"),
    "rms of a centred value over other axes": LAYER.replace('reduce(%q) {kind="mean", axes=(2)', 'reduce(%q) {kind="mean", axes=(1,2)').replace(
        ': f32[2,3,1] loc("Variance")', ': f32[2,1,1] loc("Variance")').replace(
        'f32[2,3,1] loc("Add", "Sqrt")', 'f32[2,1,1] loc("Add", "Sqrt")'),
    "rms of a value centred by something else": LAYER.replace("elementwise(%x, %m) {expr=`sub", "elementwise(%z, %m) {expr=`sub").replace(
        '"x")', '"x", %z: f32[2,3,8] "z")'),
    "scale": affine("mul($0:f32, $1:f32)"),
    "scale on the left": affine("mul($0:f32, $1:f32)", "%c, %n"),
    "bias": affine("add($0:f32, $1:f32)"),
    "bias on the left": affine("add($0:f32, $1:f32)", "%c, %n"),
    "scale and bias": affine("add(mul($0:f32, $1:f32), $2:f32)", "%n, %d, %c", TWO),
    "bias after scale": affine("add($0:f32, $1:f32)", "%n, %c", TWO, own=", %d"),
}

DECLINES = {
    "1 not the last axes": LAYER.replace("axes=(2)", "axes=(1)").replace("f32[2,3,1]", "f32[2,1,8]"),
    "2 another reader": affine("mul($0:f32, $1:f32)", returned=', %d "d"', more="%d = softmax(%n) {axis=1, log=false} : f32[2,3,8]"),
    "2 returned": affine("mul($0:f32, $1:f32)", returned=', %n "n"'),
    "2 the result is larger": affine("mul($0:f32, $1:f32)", constants="%c = constant f32[2,1,1,1] random", result="f32[2,2,3,8]"),
    "2 a second scale": affine("mul($0:f32, $1:f32)", "%n, %c", TWO, own=", %d"),
    "2 a second bias": affine("add($0:f32, $1:f32)", "%n, %c", TWO, own=", none, %d"),
    "2 scale after bias": affine("mul($0:f32, $1:f32)", "%n, %c", TWO, own=", none, %d"),
    "2 a variable scale": affine("mul($0:f32, $1:f32)", constants="", source='%x: f32[2,3,8] "x", %c: f32[8] "c"'),
}

QUIET = {
    "a sum": RMS.replace('kind="mean"', 'kind="sum"'),
    "another numerator": LAYER.replace("elementwise(%d, %s)", "elementwise(%x, %s)"),
    "a negative epsilon": RMS.replace("0.01:f32", "-0.01:f32"),
    "another numerator than one": RMS.replace("div(1.0:f32", "div(2.0:f32"),
    "dropped axes": """
        graph "g" (%x: f32[8] "x") {
          %q = elementwise(%x) {expr=`mul($0:f32, $0:f32)`} : f32[8]
          %v = reduce(%q) {kind="mean", axes=(0), keepdims=false} : f32[]
          %y = elementwise(%x, %v) {expr=`div($0:f32, sqrt(add($1:f32, 0.01:f32)))`} : f32[8]
          return %y "y"
        }""",
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("recognize-normalization", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("recognize-normalization", DECLINES[case]), "txt")


@pytest.mark.parametrize("case", QUIET)
def test_leaves_alone(case):
    assert declined("recognize-normalization", QUIET[case]) == ""
