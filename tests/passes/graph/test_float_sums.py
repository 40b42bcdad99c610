"""float-sums: convolutions and products of integers as those of floats that stand for them."""

import pytest

from tests.support.graph_passes import declined, fired

CONV = """
    graph "g" (%p: u8[1,3,5,5] "p") {
      %w = constant i8[2,3,1,1] [1, -2, 3, 4, 5, -128]
      %b = constant i32[2] [100, -7]
      %s = constant f32[1,2,1,1] [0.25, 0.125]
      %c = conv(%p, %w, %b) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1, x_zero=131} : i32[1,2,5,5] loc("Conv")
      %q = elementwise(%c, %s) {expr=`u8(add(round(mul(f32($0:i32), $1:f32)), 3.0:f32))`} : u8[1,2,5,5]
      return %q "q"
    }"""

BEHIND_EACH_OTHER = CONV.replace("return %q", """%v = constant i8[4,2,1,1] [1, -2, 3, 4, 5, -128, 7, 8]
      %d = conv(%q, %v) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1, x_zero=3} : i32[1,4,5,5] loc("Conv")
      %e = conv(%q, %v) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1, x_zero=3} : i32[1,4,5,5] loc("Conv")
      %r = elementwise(%d, %e) {expr=`i8(round(mul(f32(add($0:i32, $1:i32)), 0.5:f32)))`} : i8[1,4,5,5]
      return %r""")

PRODUCT = """
    graph "g" (%p: u8[2,3,4] "p", %q: i8[2,4,5] "q") {
      %y = matmul(%p, %q) {transpose_a=false, transpose_b=false, a_zero=131, b_zero=-9} : i32[2,3,5] loc("MatMul")
      %r = elementwise(%y) {expr=`mul(f32($0:i32), 0.5:f32)`} : f32[2,3,5]
      return %r "r"
    }"""

LARGE = CONV.replace("[100, -7]", "[16777216, -7]")


@pytest.mark.parametrize("text", [CONV, BEHIND_EACH_OTHER, PRODUCT], ids=["conv", "sums of sums", "two computed factors"])
def test_fires(text, golden):
    golden(fired("float-sums{layers=Conv+MatMul}", text))


def test_declines_sums_that_f32_does_not_hold():
    assert "sums may exceed 2^24" in declined("float-sums{layers=Conv}", LARGE)


def test_leaves_other_layers_alone():
    assert declined("float-sums{layers=MatMul}", CONV) == ""
