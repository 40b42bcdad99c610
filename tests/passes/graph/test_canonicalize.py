"""canonicalize: one form for elementwise arithmetic, batch normalisation and trivial reductions."""

from __future__ import annotations

import pytest

from tests.support.graph_passes import declined, fired


def one(expr: str, operands: str = "%x", inputs: str = '%x: f32[2,3] "x", %z: f32[2,3] "z"', constants: str = "",
        result: str = "f32[2,3]") -> str:
    return f"""
        graph "g" ({inputs}) {{
          {constants}
          %y = elementwise({operands}) {{expr=`{expr}`}} : {result} loc("E")
          return %y "y"
        }}"""


BATCH_NORM = """
    graph "g" (%x: f32[2,3,4,5] "x") {
      %s = constant f32[3] random
      %t = constant f32[3] random
      %m = constant f32[3] random
      %v = constant f32[3] positive
      %y = batch_norm(%x, %s, %t, %m, %v) {epsilon=0.1} : f32[2,3,4,5] loc("BN")
      return %y "y"
    }"""


def reduction(kind: str, axes: str, keepdims: str, result: str, source: str = "f32[2,1,3]") -> str:
    return f"""
        graph "g" (%x: {source} "x") {{
          %y = reduce(%x) {{kind="{kind}", axes=({axes}), keepdims={keepdims}}} : {result} loc("R")
          return %y "y"
        }}"""


FIRES = {
    "1 literal to the right": one("add(2.0:f32, $0:f32)"),
    "1 literals computed": one("mul($0:f32, add(2.0:f32, 3.0:f32))"),
    "1 division by a power of two": one("div($0:f32, -8.0:f32)"),
    "1 subtraction of a literal": one("sub($0:f32, 0.5:f32)"),
    "1 square": one("pow($0:f32, 2.0:f32)"),
    "1 sigmoid": one("div(1.0:f32, add(1.0:f32, exp(neg($0:f32))))"),
    "2 scalar constant": one("mul($0:f32, $1:f32)", "%x, %c", constants="%c = constant f32[1,1] [3.0]"),
    "2 constant of equal elements": one("mul($1:f32, $0:f32)", "%x, %c", constants="%c = constant f32[2,3] splat 3.0"),
    "2 exponent": one("pow($0:f32, $1:f32)", "%x, %c", constants="%c = constant f32[] [3.0]"),
    "2 one of two equal scalars must give the shape": one(
        "mul($0:f32, mul($1:f32, $2:f32))", "%x, %c, %d", result="f32[1,2,3]",
        constants="%c = constant f32[1,1,1] [3.0]\n %d = constant f32[1,1,1] [5.0]"),
    "3 expanded operand": """
        graph "g" (%x: f32[2,3] "x", %z: f32[3] "z") {
          %e = expand(%z) {shape=(2,3)} : f32[2,3] loc("Expand")
          %y = elementwise(%x, %e) {expr=`sub($0:f32, $1:f32)`} : f32[2,3] loc("Sub")
          return %y "y"
        }""",
    "3 expanded operand with another reader": """
        graph "g" (%x: f32[2,3] "x", %z: f32[3] "z") {
          %e = expand(%z) {shape=(2,3)} : f32[2,3] loc("Expand")
          %y = elementwise(%x, %e) {expr=`sub($0:f32, $1:f32)`} : f32[2,3] loc("Sub")
          return %y "y", %e "e"
        }""",
    "4 one operand twice": one("add(mul($0:f32, $1:f32), $2:f32)", "%x, %z, %x"),
    "4 an operand that is not read": one("neg($1:f32)", "%z, %x"),
    "4 an operand that is not read but gives the shape": one(
        "add($1:f32, $2:f32)", "%z, %x, %x", inputs='%x: f32[3] "x", %z: f32[2,3] "z"'),
    "4 constants last": one("sub($0:f32, $1:f32)", "%c, %x", constants="%c = constant f32[3] [1.0, 2.0, 3.0]"),
    "5 nothing but broadcasting": one("$1:f32", "%z, %x", inputs='%x: f32[3] "x", %z: f32[2,1] "z"'),
    "6 constant batch norm": BATCH_NORM,
    "6 variable batch norm": BATCH_NORM.replace('"x")', '"x", %s: f32[3] "s")').replace("%s = constant f32[3] random", ""),
    "6 batch norm of a matrix": BATCH_NORM.replace("2,3,4,5", "2,3"),
    "7 sum over no axes": reduction("sum", "", "true", "f32[2,1,3]"),
    "7 max over axes of size one": reduction("max", "1", "false", "f32[2,3]"),
    "7 mean over axes of size one": reduction("mean", "1", "true", "f32[2,1,3]"),
    "7 product over axes of size one": reduction("prod", "1", "true", "f32[2,1,3]"),
    "7 squares over no axes": reduction("sum_square", "", "false", "f32[2,1,3]"),
    "7 l1 over axes of size one": reduction("l1", "1", "false", "f32[2,3]"),
    "7 l2 of floats": reduction("l2", "1", "true", "f32[2,1,3]"),
    "7 mean of integers": reduction("mean", "1", "false", "i32[2,3]", source="i32[2,1,3]"),
}

DECLINES = {
    "8 a constant gives the shape": one("neg($0:f32)", "%x, %c", result="f32[2,2,3]",
                                        constants="%c = constant f32[2,1,1] [1.0, 1.0]").replace("neg($0:f32)", "mul($0:f32, $1:f32)"),
    "8 an expanded operand gives the shape": """
        graph "g" (%x: f32[3] "x", %z: f32[3] "z") {
          %e = expand(%z) {shape=(2,3)} : f32[2,3] loc("Expand")
          %y = elementwise(%x, %e) {expr=`sub($0:f32, $1:f32)`} : f32[2,3] loc("Sub")
          return %y "y"
        }""",
    "9 all operands are constant": one("sub($0:f32, $1:f32)", "%c, %d", result="f32[2,3]", constants="""
          %c = constant f32[2,3] random
          %d = constant f32[3] random"""),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("canonicalize", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("canonicalize", DECLINES[case]), "txt")


@pytest.mark.parametrize("text", [
    reduction("max", "2", "true", "f32[2,1,1]"), reduction("l2", "1", "true", "i32[2,1,3]", source="i32[2,1,3]"),
    one("div($0:f32, 3.0:f32)"), one("add($0:f32, 0.0:f32)"), one("add($0:f32, $1:f32)", "%x, %z")])
def test_leaves_alone(text):
    assert declined("canonicalize", text) == ""
