"""integer-elementwise: functions between dequantized operands and a quantized result are computed on the integers."""

import pytest

from tests.support.graph_passes import declined, fired


def network(body: str, *, dtype: str = "i8", zero: int = -5, scale: float = 0.0317) -> str:
    """`body` computes %y from the dequantized %a (i8, zero point 3) and %b (u8, zero point 128); %y is quantized."""
    return f"""
    graph "g" (%p: i8[2,3,4] "p", %q: u8[3,1] "q") {{
      %sa = constant f32[] [0.0213]
      %za = constant i8[] [3]
      %a = elementwise(%p, %sa, %za) {{expr=`mul(f32(sub(i32($0:i8), i32($2:i8))), $1:f32)`}} : f32[2,3,4]
      %sb = constant f32[] [0.0127]
      %zb = constant u8[] [128]
      %b = elementwise(%q, %sb, %zb) {{expr=`mul(f32(sub(i32($0:u8), i32($2:u8))), $1:f32)`}} : f32[3,1]
      %sy = constant f32[] [{scale}]
      %zy = constant {dtype}[] [{zero}]
      {body}
      %r = elementwise(%y, %sy, %zy) {{expr=`{dtype}(add(round(div($0:f32, $1:f32)), f32($2:{dtype})))`}} : {dtype}[2,3,4] loc("Quantize")
      return %r "r"
    }}"""


def of_a(expr: str) -> str:
    return f"%y = elementwise(%a) {{expr=`{expr}`}} : f32[2,3,4] loc(\"F\")"


def of_both(expr: str) -> str:
    return f"%y = elementwise(%a, %b) {{expr=`{expr}`}} : f32[2,3,4] loc(\"F\")"


FIRES = {
    "other scale": network("%y = elementwise(%a) {expr=`add($0:f32, 0.0:f32)`} : f32[2,3,4]"),
    "relu": network(of_a("max($0:f32, 0.0:f32)")),
    "free relu": network(of_a("max($0:f32, 0.0:f32)"), zero=-128),
    "clip": network(of_a("min(max($0:f32, 0.0:f32), 1.5:f32)"), dtype="u8", zero=0),
    "limits that cross": network(of_a("max(min($0:f32, -1.0:f32), 1.0:f32)")),
    "same steps": network(of_a("max($0:f32, -9.0:f32)"), zero=3, scale=0.0213),
    "sum": network(of_both("add($0:f32, $1:f32)")),
    "difference and relu": network(of_both("max(sub($0:f32, $1:f32), 0.0:f32)")),
    "multiple and offset": network("""%c = constant f32[3,1] [1.5, -2.0, 0.25]
      %d = constant f32[3,1] [0.3, 0.0, -0.7]
      %y = elementwise(%a, %c, %d) {expr=`add(mul($0:f32, $1:f32), $2:f32)`} : f32[2,3,4]"""),
    "product": network(of_both("mul($0:f32, $1:f32)")),
    "quotient": network(of_both("div($0:f32, max($1:f32, 0.5:f32))")),
    "a table": network(of_a("mul($0:f32, sigmoid($0:f32))")),
    "a table of unsigned numbers": network("%y = elementwise(%b) {expr=`mul(tanh($0:f32), 2.0:f32)`} : f32[2,3,4]").replace(
        "[3,1]", "[2,3,4]"),
    "16 bits": network(of_both("add($0:f32, $1:f32)"), dtype="i16", zero=0, scale=0.00031),
}

DECLINES = {
    "6 a float operand": network(of_both("add($0:f32, $1:f32)")).replace('%q: u8[3,1] "q"', '%q: u8[3,1] "q", %e: f32[2,3,4] "e"').replace(
        "elementwise(%a, %b)", "elementwise(%a, %e)"),
    "7 scales of channels": network(of_a("max($0:f32, 0.0:f32)")).replace(
        "%sy = constant f32[] [0.0317]", "%sy = constant f32[3,1] [0.1, 0.2, 0.3]"),
    "8 approximated": network(of_both("mul($0:f32, tanh($1:f32))")),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("integer-elementwise", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("integer-elementwise", DECLINES[case]), "txt")
