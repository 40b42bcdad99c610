"""recognize-activation: activations that are spelled out in arithmetic."""

from __future__ import annotations

import pytest

from tests.support.graph_passes import declined, fired


def spelled(*rows: str, constants: str = "", result: str = "y", shape: str = "2,3,4") -> str:
    """A graph over x; rows are `name = operands: expression`."""
    made = []
    for row in rows:
        name, rest = row.split(" = ", 1)
        operands, expr = rest.split(": ", 1)
        kind = "bool" if expr.startswith("lt(") else "f32"
        made.append(f"%{name} = elementwise({operands}) {{expr=`{expr}`}} : {kind}[{shape}] loc(\"{name}\")")
    lines = "\n          ".join(made)
    return f"""
        graph "g" (%x: f32[{shape}] "x") {{
          {constants}
          {lines}
          return %{result} "y"
        }}"""


CLIPPED = ("a = %x: add($0:f32, 3.0:f32)", "b = %a: min(max($0:f32, 0.0:f32), 6.0:f32)")
SLOPED = ("n = %x: lt($0:f32, 0.0:f32)", "s = %x, %c: mul($0:f32, $1:f32)", "y = %n, %s, %x: select($0:bool, $1:f32, $2:f32)")
SOFTPLUS = ("e = %x: exp($0:f32)", "o = %e: add($0:f32, 1.0:f32)", "l = %o: log($0:f32)")

FIRES = {
    "hard swish, divided at the end": spelled(*CLIPPED, "m = %x, %b: mul($0:f32, $1:f32)", "y = %m: div($0:f32, 6.0:f32)"),
    "hard swish by hard sigmoid": spelled(*CLIPPED, "h = %b: mul($0:f32, 0.16666667:f32)", "y = %h, %x: mul($0:f32, $1:f32)"),
    "sigmoid": spelled("n = %x: neg($0:f32)", "e = %n: exp($0:f32)", "o = %e: add($0:f32, 1.0:f32)", "y = %o: div(1.0:f32, $0:f32)"),
    "prelu by selection": spelled(*SLOPED, constants="%c = constant f32[3,1] random"),
    "prelu of two limits": spelled("p = %x: max($0:f32, 0.0:f32)", "q = %x: min($0:f32, 0.0:f32)", "s = %c, %q: mul($0:f32, $1:f32)",
                                   "y = %p, %s: add($0:f32, $1:f32)", constants="%c = constant f32[3,1] random"),
    "leaky relu": spelled(SLOPED[0], "s = %x: mul($0:f32, 0.3:f32)", SLOPED[2]),
    "elu": spelled(SLOPED[0], "e = %x: exp($0:f32)", "s = %e: sub($0:f32, 1.0:f32)", SLOPED[2]),
    "softplus": spelled(*SOFTPLUS, result="l"),
    "mish": spelled(*SOFTPLUS, "t = %l: tanh($0:f32)", "y = %t, %x: mul($0:f32, $1:f32)"),
    "gelu": spelled("d = %x: div($0:f32, 1.4142135:f32)", "e = %d: erf($0:f32)", "o = %e: add($0:f32, 1.0:f32)", "m = %x, %o: mul($0:f32, $1:f32)",
                    "y = %m: mul($0:f32, 0.5:f32)"),
}

DECLINES = {
    "1 other limits": spelled("a = %x: add($0:f32, 3.0:f32)", "b = %a: min(max($0:f32, 0.0:f32), 5.0:f32)", "m = %x, %b: mul($0:f32, $1:f32)",
                              "y = %m: div($0:f32, 6.0:f32)"),
    "1 a coarse constant": spelled(*CLIPPED, "y = %b: mul($0:f32, 0.167:f32)"),
    "1 the slope above zero": spelled("n = %x: lt($0:f32, 0.0:f32)", "s = %x, %c: mul($0:f32, $1:f32)", "y = %n, %x, %s: select($0:bool, $1:f32, $2:f32)",
                                      constants="%c = constant f32[3,1] random"),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("recognize-activation", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("recognize-activation", DECLINES[case]), "txt")


def test_what_is_read_elsewhere_stays():
    text = spelled(*CLIPPED, "h = %b: mul($0:f32, 0.16666667:f32)", "y = %h, %x: mul($0:f32, $1:f32)").replace('return %y "y"', 'return %y "y", %a "a"')
    assert "hard" not in declined("recognize-activation", text)
