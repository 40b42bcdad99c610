"""recognize-bias: constant summands become bias operands."""

from __future__ import annotations

import pytest

from tests.support.graph_passes import declined, fired


def summed(contraction: str, constant: str, expr: str = "add($0:f32, $1:f32)", operands: str = "%p, %c", result: str = "f32[2,3,4,4]",
           source: str = '%x: f32[2,5,4,4] "x"', returned: str = "", more: str = "") -> str:
    return f"""
        graph "g" ({source}) {{
          {contraction}
          {constant}
          {more}
          %y = elementwise({operands}) {{expr=`{expr}`}} : {result} loc("Add")
          return %y "y"{returned}
        }}"""


CONV = """%w = constant f32[3,5,1,1] random
          %p = conv(%x, %w) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1} : f32[2,3,4,4] loc("Conv")"""
BIASED = CONV.replace("%p =", "%b = constant f32[3] random\n %p =").replace("%w)", "%w, %b)")
MATMUL = """%w = constant f32[5,3] random
          %p = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[2,4,3] loc("MatMul")"""
MATRIX = {"source": '%x: f32[2,4,5] "x"', "result": "f32[2,4,3]"}

FIRES = {
    "conv": summed(CONV, "%c = constant f32[3,1,1] random"),
    "conv with bias": summed(BIASED, "%c = constant f32[1,3,1,1] random"),
    "conv transpose": summed(CONV.replace("= conv(", "= conv_transpose(").replace("f32[3,5,1,1]", "f32[5,3,1,1]").replace(
        "group=1}", "group=1, output_padding=()}"), "%c = constant f32[3,1,1] random"),
    "matmul": summed(MATMUL, "%c = constant f32[3] random", **MATRIX),
    "matmul with a matrix": summed(MATMUL, "%c = constant f32[2,1,3] random", **MATRIX),
    "matmul with bias": summed(MATMUL.replace("%p =", "%b = constant f32[4,1] random\n %p =").replace("%w)", "%w, %b)"),
                               "%c = constant f32[3] random", **MATRIX),
    "integers": summed("""%w = constant i32[2,2] [1, 2, 3, 4]
          %b = constant i32[2] [2147483647, 1]
          %p = matmul(%x, %w, %b) {transpose_a=false, transpose_b=false} : i32[2,2] loc("MatMul")""",
                       "%c = constant i32[2] [1, 2]", "add($0:i32, $1:i32)", source='%x: i32[2,2] "x"', result="i32[2,2]"),
}

DECLINES = {
    "1 another reader": summed(CONV, "%c = constant f32[3,1,1] random", returned=', %d "d"',
                               more="%d = softmax(%p) {axis=1, log=false} : f32[2,3,4,4]"),
    "1 an epilogue": summed(CONV.replace("group=1}", "group=1, epilogue=`max($0:f32, 0.0:f32)`}"), "%c = constant f32[3,1,1] random"),
    "2 the result is larger": summed(MATMUL, "%c = constant f32[7,1,1,3] random", source=MATRIX["source"], result="f32[7,2,4,3]"),
    "3 not per channel": summed(CONV, "%c = constant f32[4] random"),
    "4 a variable bias": summed(CONV.replace("%w)", "%w, %b)"), "%c = constant f32[3,1,1] random",
                                source='%x: f32[2,5,4,4] "x", %b: f32[3] "b"'),
}

QUIET = {
    "another operation": summed(CONV, "%c = constant f32[3,1,1] random", "mul($0:f32, $1:f32)"),
    "a variable": summed(CONV, "", source='%x: f32[2,5,4,4] "x", %c: f32[3,1,1] "c"'),
    "no contraction": summed("%p = softmax(%x) {axis=1, log=false} : f32[2,5,4,4]", "%c = constant f32[4] random", result="f32[2,5,4,4]"),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("recognize-bias", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("recognize-bias", DECLINES[case]), "txt")


@pytest.mark.parametrize("case", QUIET)
def test_leaves_alone(case):
    assert declined("recognize-bias", QUIET[case]) == ""
