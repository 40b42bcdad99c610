"""integer-contraction: convolutions and products of dequantized operands sum integers."""

import pytest

from tests.support.graph_passes import declined, fired

CONV = """
    graph "g" (%p: u8[1,3,5,5] "p") {
      %s = constant f32[] [0.5]
      %z = constant u8[] [131]
      %x = elementwise(%p, %s, %z) {expr=`mul(f32(sub(i32($0:u8), i32($2:u8))), $1:f32)`} : f32[1,3,5,5]
      %q = constant i8[2,3,1,1] [1, -2, 3, 4, 5, -128]
      %t = constant f32[2,1,1,1] [0.25, 0.125]
      %w = elementwise(%q, %t) {expr=`mul(f32($0:i8), $1:f32)`} : f32[2,3,1,1]
      %c = constant i32[2] [100, -7]
      %u = constant f32[2] [0.125, 0.0625]
      %b = elementwise(%c, %u) {expr=`mul(f32($0:i32), $1:f32)`} : f32[2]
      %y = conv(%x, %w, %b) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1} : f32[1,2,5,5] loc("Conv")
      return %y "y"
    }"""

MATMUL = """
    graph "g" (%p: u8[2,3,4] "p", %q: i8[2,4,5] "q") {
      %s = constant f32[] [0.5]
      %z = constant u8[] [131]
      %x = elementwise(%p, %s, %z) {expr=`mul(f32(sub(i32($0:u8), i32($2:u8))), $1:f32)`} : f32[2,3,4]
      %t = constant f32[] [0.25]
      %a = constant i8[] [-9]
      %w = elementwise(%q, %t, %a) {expr=`mul(f32(sub(i32($0:i8), i32($2:i8))), $1:f32)`} : f32[2,4,5]
      %y = matmul(%x, %w) {} : f32[2,3,5] loc("MatMul")
      return %y "y"
    }"""

FLOAT_BIAS = CONV.replace("%c = constant i32[2] [100, -7]", "%b = constant f32[2] [0.3, -1.7]").replace(
    "%u = constant f32[2] [0.125, 0.0625]\n", "").replace(
    "%b = elementwise(%c, %u) {expr=`mul(f32($0:i32), $1:f32)`} : f32[2]\n", "")

UNSIGNED = CONV.replace("%q = constant i8[2,3,1,1] [1, -2, 3, 4, 5, -128]", """%q = constant u8[2,3,1,1] [1, 2, 255, 4, 5, 0]
      %zq = constant u8[] [120]""").replace(
    "elementwise(%q, %t) {expr=`mul(f32($0:i8), $1:f32)`}", "elementwise(%q, %t, %zq) {expr=`mul(f32(sub(i32($0:u8), i32($2:u8))), $1:f32)`}")

DECLINES = {
    "3 float weights": CONV.replace("%w = elementwise(%q, %t) {expr=`mul(f32($0:i8), $1:f32)`} : f32[2,3,1,1]",
                                    "%w = constant f32[2,3,1,1] random"),
    "4 scales of input channels": CONV.replace("%t = constant f32[2,1,1,1] [0.25, 0.125]", "%t = constant f32[1,3,1,1] [0.25, 0.125, 1.0]"),
    "5 large sums": CONV.replace("[100, -7]", "[2147483647, -7]"),
    "6 transposed": CONV.replace("i8[2,3,1,1]", "i8[3,2,1,1]").replace("f32[2,1,1,1] [0.25, 0.125]", "f32[] [0.25]").replace(
        "f32[2,3,1,1]", "f32[3,2,1,1]").replace("= conv(", "= conv_transpose("),
}


@pytest.mark.parametrize("text", [CONV, MATMUL, FLOAT_BIAS, UNSIGNED], ids=["conv", "matmul", "float bias", "unsigned weights"])
def test_fires(text, golden):
    golden(fired("integer-contraction", text))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("integer-contraction", DECLINES[case]), "txt")
