"""fuse-activation: what follows a convolution or matrix product becomes its epilogue."""

from __future__ import annotations

import pytest

from tests.support.graph_passes import declined, fired

CONV = """%w = constant f32[3,2,2,2] random
          %b = constant f32[3] random
          %c = conv(%x, %w, %b) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1} : f32[1,3,4,4] loc("Conv")"""


def after(expr: str, constants: str = "", operands: str = "%c", contraction: str = CONV, result: str = "f32[1,3,4,4]",
          returned: str = "", source: str = '%x: f32[1,2,5,5] "x"') -> str:
    return f"""
        graph "g" ({source}) {{
          {contraction}
          {constants}
          %y = elementwise({operands}) {{expr=`{expr}`}} : {result} loc("Act")
          return %y "y"{returned}
        }}"""


TRANSPOSED = """%w = constant f32[2,3,2,2] random
          %c = conv_transpose(%x, %w) {strides=(1,1), pads=(1,1,1,1), dilations=(1,1), group=1, output_padding=()} \
: f32[1,3,4,4] loc("ConvTranspose")"""
MATMUL = """%w = constant f32[5,7] random
          %c = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[2,7] loc("MatMul")"""
MATRIX = '%x: f32[2,5] "x"'

FIRES = {
    "relu": after("max($0:f32, 0.0:f32)"),
    "relu6": after("min(max($0:f32, 0.0:f32), 6.0:f32)"),
    "hard swish": after("mul($0:f32, min(max(add(mul($0:f32, 0.1666666716337204:f32), 0.5:f32), 0.0:f32), 1.0:f32))"),
    "silu": after("mul($0:f32, sigmoid($0:f32))", contraction=TRANSPOSED),
    "gelu": after("mul(mul($0:f32, add(erf(mul($0:f32, 0.7071067690849304:f32)), 1.0:f32)), 0.5:f32)", contraction=MATMUL,
                  result="f32[2,7]", source=MATRIX),
    "prelu with a slope per channel": after("select(lt($0:f32, 0.0:f32), mul($0:f32, $1:f32), $0:f32)",
                                            "%s = constant f32[3,1,1] random", "%c, %s"),
    "scale and offset per channel": after("add(mul($2:f32, $0:f32), $1:f32)", """%s = constant f32[3,1,1] random
          %t = constant f32[1,3,1,1] random""", "%s, %t, %c"),
    "a full constant": after("mul($0:f32, $1:f32)", "%s = constant f32[4,1] random", "%c, %s"),
    "a narrower result": after("f16($0:f32)", contraction=MATMUL, result="f16[2,7]", source=MATRIX),
    "after an epilogue": after("mul($0:f32, $1:f32)", "%s = constant f32[3,1,1] random", "%c, %s", contraction="""%w = constant f32[3,2,2,2] random
          %t = constant f32[3,1,1] random
          %c = conv(%x, %w, none, %t) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1, \
epilogue=`max($0:f32, $1:f32)`} : f32[1,3,4,4] loc("Conv")"""),
    "one constant for both epilogues": after("mul($0:f32, $1:f32)", operands="%c, %t", contraction="""%w = constant f32[3,2,2,2] random
          %t = constant f32[3,1,1] random
          %c = conv(%x, %w, none, %t) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1, \
epilogue=`max($0:f32, $1:f32)`} : f32[1,3,4,4] loc("Conv")"""),
}

MANY = "\n".join(f"%k{i} = constant f32[3,1,1] random" for i in range(7))
ROUNDED = CONV.replace("group=1}", "group=1, epilogue=`mul($0:f32, 0.1:f32)`}")

DECLINES = {
    "1 returned": after("max($0:f32, 0.0:f32)", returned=', %c "c"'),
    "1 another reader": after("max($0:f32, 0.0:f32)", '%d = softmax(%c) {axis=1, log=false} : f32[1,3,4,4]', returned=', %d "d"'),
    "2 broadcast": after("mul($0:f32, $1:f32)", "%s = constant f32[2,1,1,1] random", "%c, %s", result="f32[2,3,4,4]"),
    "3 too many operands": after("mul($0:f32, " + "".join(f"mul(${i}:f32, " for i in range(1, 7)) + "$7:f32" + ")" * 7, MANY,
                                 "%c, " + ", ".join(f"%k{i}" for i in range(7))),
    "3 too many operations": after("tanh(" * 65 + "$0:f32" + ")" * 65),
    "4 a comparison with what an epilogue rounds": after("select(lt($0:f32, 0.5:f32), 1.0:f32, 2.0:f32)", contraction=ROUNDED),
}

QUIET = {
    "another tensor": after("add($0:f32, $1:f32)", operands="%c, %z", source='%x: f32[1,2,5,5] "x", %z: f32[1,3,4,4] "z"'),
    "another producer": after("max($0:f32, 0.0:f32)", contraction="", operands="%x", result="f32[1,2,5,5]"),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("fuse-activation", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("fuse-activation", DECLINES[case]), "txt")


@pytest.mark.parametrize("case", QUIET)
def test_leaves_alone(case):
    assert declined("fuse-activation", QUIET[case]) == ""


def test_a_comparison_with_the_rounded_sum_itself_is_fused(golden):
    golden(fired("fuse-activation", after("select(lt($0:f32, 0.5:f32), 1.0:f32, 2.0:f32)")))
