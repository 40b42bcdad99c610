"""move-quantization: what moves elements or compares them works on integers."""

import pytest

from tests.support.graph_passes import declined, fired


def behind(body: str, dims: str) -> str:
    """`body` computes %y from the dequantized %x [1,2,4,4]."""
    return f"""
    graph "g" (%p: u8[1,2,4,4] "p") {{
      %s = constant f32[] [0.25]
      %z = constant u8[] [131]
      %x = elementwise(%p, %s, %z) {{expr=`mul(f32(sub(i32($0:u8), i32($2:u8))), $1:f32)`}} : f32[1,2,4,4]
      {body} : f32[{dims}] loc("M")
      return %y "y"
    }}"""


def in_front(body: str, dims: str) -> str:
    """`body` computes %y, which is quantized, from %a and %b [1,2,4,4]."""
    return f"""
    graph "g" (%a: f32[1,2,4,4] "a", %b: f32[1,2,4,4] "b") {{
      {body} : f32[{dims}] loc("M")
      %s = constant f32[] [0.0317]
      %z = constant i8[] [-5]
      %q = elementwise(%y, %s, %z) {{expr=`i8(add(round(div($0:f32, $1:f32)), f32($2:i8)))`}} : i8[{dims}] loc("Q")
      return %q "q"
    }}"""


POOL = 'pool(%x) {kind="max", kernel=(2,2), strides=(2,2), pads=(1,1,0,0), dilations=(1,1), count_include_pad=false, ceil_mode=false}'
RESIZE = 'resize(%x) {mode="nearest", sizes=(1,2,8,8), scales=(1.0,1.0,2.0,2.0)}'
CONCAT = "%y = concat(%a, %b) {axis=1}"

FIRES = {
    "reshape": behind("%y = reshape(%x) {shape=(2,16)}", "2,16"),
    "transpose": behind("%y = transpose(%x) {perm=(0,2,3,1)}", "1,4,4,2"),
    "slice": behind("%y = slice(%x) {starts=(0,1,0,0), sizes=(1,1,4,4), steps=(1,1,1,1)}", "1,1,4,4"),
    "pad": behind("%v = constant f32[] [-0.5]\n%y = pad(%x, %v) {before=(0,0,1,1), after=(0,0,0,0), mode=\"constant\"}", "1,2,5,5"),
    "largest": behind(f"%y = {POOL}", "1,2,2,2"),
    "largest of axes": behind('%y = reduce(%x) {kind="max", axes=(2,3), keepdims=false}', "1,2"),
    "resize": behind(f"%y = {RESIZE}", "1,2,8,8"),
    "twice the same": behind("%y = concat(%x, %x) {axis=1}", "1,4,4,4"),
    "position": behind('%y = arg_reduce(%x) {kind="max", axis=1, keepdims=false, select_last=false}', "1,4,4").replace(
        ": f32[1,4,4]", ": i64[1,4,4]"),
    "joined": in_front(CONCAT, "1,4,4,4"),
    "a chain": in_front("%c = concat(%a, %b) {axis=1} : f32[1,4,4,4]\n%y = reshape(%c) {shape=(4,16)}", "4,16"),
    "quantized twice": in_front(CONCAT, "1,4,4,4").replace(
        'return %q "q"', """%t = constant f32[] [0.1]
      %r = elementwise(%y, %t) {expr=`u8(round(div($0:f32, $1:f32)))`} : u8[1,4,4,4] loc("R")
      return %q "q", %r "r" """),
}

DECLINES = {
    "3 scales of channels": behind("%y = reshape(%x) {shape=(2,16)}", "2,16").replace(
        "%s = constant f32[] [0.25]", "%s = constant f32[2,1,1] [0.25, 0.1]"),
    "3 a float operand": behind("%y = concat(%x, %f) {axis=1}", "1,3,4,4").replace('"p")', '"p", %f: f32[1,1,4,4] "f")'),
    "4 few elements": in_front("%c = elementwise(%a) {expr=`exp($0:f32)`} : f32[1,2,4,4]\n%y = slice(%c) {starts=(0,1,0,0), "
                               "sizes=(1,1,4,4), steps=(1,1,1,1)}", "1,1,4,4").replace('return %q "q"', 'return %q "q", %c "c"'),
    "5 no quantized number": behind("%v = constant f32[] [0.1]\n%y = pad(%x, %v) {before=(0,0,1,1), after=(0,0,0,0), mode=\"constant\"}",
                                    "1,2,5,5"),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("move-quantization", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("move-quantization", DECLINES[case]), "txt")
