"""The verifier of the Loop IR: one broken program for each invariant, and none for sound ones."""

import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.loop import index as ix
from edgecc.loop.ir import (
    Assign,
    Bitcast,
    Body,
    Broadcast,
    Buffer,
    Cast,
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
    Ref,
    Store,
)
from edgecc.loop.parser import parse
from edgecc.loop.verify import verify_function

F32, F64, I32, BOOL = DType.F32, DType.F64, DType.I32, DType.BOOL
ONE, WIDE, INT = Const(1.0, F32), Const(1.0, F32, 4), Const(1, I32)
X = Buffer("x", F32, 8, "input")
Y = Buffer("y", F32, 8, "output")
I = ix.var("i")  # noqa: E741


def loop(*body: object, stop: int = 8, step: int = 1, kind: str = "serial") -> For:
    return For("i", ix.ZERO, ix.const(stop), body, step, kind)  # type: ignore[arg-type]


def store(value: object) -> Store:
    return Store("y", ix.ZERO, value)  # type: ignore[arg-type]


def verify(*body: object, buffers: tuple[Buffer, ...] = (X, Y)) -> None:
    program: Body = body  # type: ignore[assignment]
    verify_function(Function("f", buffers, program))


def test_sound_programs_pass() -> None:
    verify_function(parse("""function f(x: f32[8] input, n: i64[1] input, y: f32[8] output) {
      parallel for i in 0..8 step 4 {
        var acc = 0.0:f32x4
        for k in 0..min(i + 4, 8) { acc = fma(broadcast(x[k], 4), acc, acc) }
        y[i] = acc
      }
      for i in 0..8 { let v = x[i]  if lt(v, 0.0:f32) { y[i + 8] = v } }
      for i in 0..9 step 4 { y[floordiv(i, 2)] = x[mod(i + 5, 8)] }
      y[[n[0]]] = lane(x[7, lanes 4, stride -2], 3)
      y[3, stride 4, valid 2] = 0.0:f32x4
    }"""))


@pytest.mark.parametrize(("invariant", "body"), [
    (1, (Let("a b", ONE),)),
    (1, (Let("x", ONE),)),
    (1, (Let("a", ONE), Let("a", ONE))),
    (1, (Let("a", ONE), loop(Let("a", ONE)))),
    (1, (loop(loop()),)),
    (2, (store(Ref("a", F32)),)),
    (2, (loop(Let("a", ONE)), store(Ref("a", F32)))),
    (2, (Let("a", ONE), store(Ref("a", F32, 4)))),
    (2, (Let("a", ONE), store(Op("add", (Cast(Ref("a", F64), F32), ONE), F32)))),
    (2, (Store("y", I, ONE),)),
    (3, (Let("a", ONE), Assign("a", ONE))),
    (3, (Declare("a", ONE), Assign("a", WIDE))),
    (3, (Assign("a", ONE),)),
    (4, (Store("z", ix.ZERO, ONE),)),
    (4, (Store("x", ix.ZERO, ONE),)),
    (4, (store(INT),)),
    (4, (store(Load("x", ix.ZERO, F64)),)),
    (4, (store(Load("x", ix.ZERO, F32, 4, 1, 5)),)),
    (5, (store(Op("add", (ONE, WIDE), F32)),)),
    (5, (store(Op("add", (ONE, INT), F32)),)),
    (5, (store(Op("add", (ONE,), F32)),)),
    (5, (store(Op("fma", (ONE, ONE), F32)),)),
    (5, (store(Op("bogus", (ONE, ONE), F32)),)),
    (5, (store(Op("lt", (ONE, ONE), F32)),)),
    (5, (store(Op("and", (ONE, ONE), F32)),)),
    (5, (store(Op("select", (ONE, ONE, ONE), F32)),)),
    (5, (store(Cast(Op("sqrt", (INT,), I32), F32)),)),
    (6, (store(Broadcast(WIDE, 4)),)),
    (6, (store(Lane(WIDE, 4)),)),
    (6, (store(Horizontal("add", Const(1.0, F32, 6))),)),
    (6, (store(Horizontal("sub", WIDE)),)),
    (6, (store(Bitcast(Const(1.0, F64), F32)),)),
    (6, (Let("a", FromIndex(ix.ZERO, BOOL)),)),
    (7, (If(ONE, ()),)),
    (7, (If(Const(True, BOOL, 4), ()),)),
    (7, (Store("y", ix.from_expr(ONE), ONE),)),
    (7, (loop(Store("y", ix.Index(((ix.IndexOp("mod", (I, ix.ZERO)), 1),)), ONE)),)),
    (8, (loop(step=0),)),
    (8, (loop(kind="vector"),)),
    (8, (If(Const(True, BOOL), (loop(kind="parallel"),)),)),
    (8, (Declare("a", ONE), loop(Assign("a", ONE), kind="parallel"))),
    (9, (Store("y", ix.const(8), ONE),)),
    (9, (Store("y", ix.const(-1), ONE),)),
    (9, (loop(Store("y", I + 1, ONE)),)),
    (9, (loop(Store("y", I * -1 + 6, ONE)),)),
    (9, (loop(store(Load("x", I, F32, 2))),)),
    (9, (loop(store(Load("x", I, F32, 2, -1))),)),
    (9, (loop(Store("y", I.floordiv(2) + 5, ONE)),)),
    (9, (loop(Store("y", I.mod(3) + 8, ONE)),)),
    (9, (loop(Store("y", I, WIDE), step=3),)),
])
def test_each_invariant_is_checked(invariant: int, body: tuple[object, ...]) -> None:
    with pytest.raises(EdgeccError, match=rf"invariant {invariant}:") as caught:
        verify(*body)
    assert caught.value.code == "E904"
    assert caught.value.where.startswith("f: ")


SCALED = "function f(x: f32[{size}] input, y: f32[8] output, first: from {low} to 8, last: from 0 to 8) {{\n{body}\n}}"


@pytest.mark.parametrize("body", [
    "for i in first..last { y[i] = x[i] }",
    "for i in first..last { for j in first..last { y[mod(i, 8)] = x[j] } }",
    "for i in first..last { y[i - first] = x[mod(i + 3, 5)] }",
])
def test_parameters_are_variables_with_bounds(body: str) -> None:
    verify_function(parse(SCALED.format(size=8, low=0, body=body)))


@pytest.mark.parametrize(("invariant", "size", "low", "body"), [
    (9, 7, 0, "for i in first..last { y[i] = x[i] }"),
    (9, 8, -1, "for i in first..last { y[i] = x[i] }"),
    (9, 8, 0, "y[first] = 0.0:f32"),
    (1, 8, 0, "let first = 0.0:f32"),
    (1, 8, 0, "for last in 0..8 { y[0] = 0.0:f32 }"),
    (2, 8, 0, "y[middle] = 0.0:f32"),
    (10, 8, 9, "y[0] = 0.0:f32"),
])
def test_bounds_of_parameters_are_checked(invariant: int, size: int, low: int, body: str) -> None:
    with pytest.raises(EdgeccError, match=rf"invariant {invariant}:"):
        verify_function(parse(SCALED.format(size=size, low=low, body=body)))


@pytest.mark.parametrize(("invariant", "buffers"), [
    (1, (X, Buffer("x", F32, 4, "output"))),
    (1, (Buffer("1x", F32, 4, "output"),)),
    (10, (Buffer("t", F32, 4, "scratch"),)),
    (10, (Buffer("t", F32, 4, "output", 12),)),
    (10, (Buffer("t", F32, -1, "output"),)),
])
def test_buffers_are_checked(invariant: int, buffers: tuple[Buffer, ...]) -> None:
    with pytest.raises(EdgeccError, match=rf"invariant {invariant}:"):
        verify(buffers=buffers)
