"""The textual form of the Loop IR: what is printed parses back; what is malformed is refused with its place."""

import math

import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.loop import index as ix
from edgecc.loop.ir import (
    Assign,
    Barrier,
    Bitcast,
    Broadcast,
    Buffer,
    Cast,
    Comment,
    Const,
    Declare,
    For,
    FromIndex,
    Function,
    Horizontal,
    If,
    Lane,
    Let,
    Load,
    Op,
    Parameter,
    Prefetch,
    Ref,
    Reload,
    Store,
)
from edgecc.loop.parser import parse
from edgecc.loop.text import to_text

SCALE = '''function scale(x: f32[8] input, y: f32[8] output align 16 aliased) "y = 2x, \\"twice\\"" {
  parallel for i in 0..8 step 4 {
    # four at a time
    let a = x[i, lanes 4]
    var acc = broadcast(0.0:f32, 4)
    acc = fma(a, 2.0:f32x4, acc)
    y[i] = acc
  }
  if lt(index(1, i64), 3:i64) {
    barrier
  } else {
    y[0] = 1.0:f32
  }
}
'''


def everything() -> Function:
    """A function with every construct of the IR."""
    i, j = ix.var("i"), ix.var("j")
    f32, i32, i64 = DType.F32, DType.I32, DType.I64
    buffers = (Buffer("x", f32, 100, "input"), Buffer("n", i64, 4, "input", 8), Buffer("y", f32, 100, "output", 4, True),
               Buffer("t", i32, 7, "workspace"))
    gathered = ix.from_expr(Load("n", ix.const(0), i64))
    vector = Load("x", 3 * i - j + 7, f32, 4, 2, 3)
    body = (
        Comment("a comment with \"quotes\", a \\ and\na new line"),
        For("i", ix.var("first"), ix.var("last") + 1, (
            For("j", i, ix.minimum(i + 4, ix.const(10)), (
                Let("v", vector),
                Declare("s", Const(-math.inf, f32)),
                Assign("s", Op("max", (Ref("s", f32), Horizontal("max", Ref("v", f32, 4))), f32)),
                Store("y", i.floordiv(2) * 3 + j.mod(5), Ref("s", f32)),
                Store("y", gathered * 2 + 1, Ref("v", f32, 4), 3, 2),
                Store("t", ix.ZERO, Bitcast(Lane(Ref("v", f32, 4), 3), i32)),
            )),
        ), 2),
        If(Op("lt", (Const(math.nan, f32), Cast(FromIndex(ix.maximum(ix.const(3), gathered), i64), f32)), DType.BOOL),
           (Barrier(), Reload("x", i), Prefetch("y", i * 3 + 7)), (Store("y", ix.ZERO, Broadcast(Const(1e-30, f32), 4)),)),
        Let("p", Op("select", (Const(True, DType.BOOL), Const(1.5, f32), Const(-0.0, f32)), f32)),
        Let("w", Op("lt", (Const(1, i32, 4), Const(-2, i32, 4)), DType.BOOL, 4)),
    )
    return Function("everything", buffers, body, "all of it", (Parameter("first", 0, 9), Parameter("last", -3, 1000)))


def test_prints_the_documented_form() -> None:
    assert to_text(parse(SCALE)) == SCALE


def test_every_construct_survives_a_round_trip() -> None:
    function = everything()
    assert parse(to_text(function)) == function


@pytest.mark.parametrize(("broken", "place", "wanted"), [
    (SCALE.replace("a = x[i, lanes 4]", "a = z[i, lanes 4]"), "line 4, column 13", "the name of a buffer"),
    (SCALE.replace("fma(a,", "fma(b,"), "line 6, column 15", "a local that is in scope"),
    (SCALE.replace("fma(a, 2.0:f32x4, acc)", "fma(a, acc)"), "line 6, column 11", "3 operands of fma"),
    (SCALE.replace("fma(", "frobnicate("), "line 6", "a primitive"),
    (SCALE.replace("0.0:f32", "0.0:f33"), "line 5", "a type"),
    (SCALE.replace("lanes 4", "lane 4"), "line 4", "lanes, stride or valid"),
    (SCALE.replace("0..8", "0,8"), "line 2", "'..'"),
    (SCALE[:-2], "line 14", "a statement"),
    (SCALE + "x", "line 15", "the end of the text"),
    (SCALE.replace("y:", "n: from 0 to 4, y:"), "line 1", "buffers before parameters"),
    (SCALE.replace(" aliased", ", n: from 0 4"), "line 1", "'to'"),
    (SCALE.replace("8 step", "8 ? step"), "line 2, column 26", "unexpected character"),
])
def test_malformed_text_is_refused_with_its_place(broken: str, place: str, wanted: str) -> None:
    with pytest.raises(EdgeccError) as caught:
        parse(broken)
    assert caught.value.code == "E111"
    assert place in caught.value.where
    assert wanted in caught.value.message
