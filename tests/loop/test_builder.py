"""The Loop IR builder: names, blocks, derived types."""

import pytest

from edgecc.ir.types import DType
from edgecc.loop.builder import Builder, add, fma, less, number, operation, repeat, select
from edgecc.loop.index import const, var
from edgecc.loop.ir import Assign, Broadcast, Const, For, If, Let, Load, Op, Parameter, Ref, Store

F32 = DType.F32


def test_builds_a_loop_with_fresh_names():
    b = Builder("f")
    x = b.buffer("x", F32, 8, "input")
    y = b.buffer("y", F32, 8, "output")
    for _ in range(2):
        with b.loop("i", 8) as i:
            value = b.let("v", b.load(x, i))
            b.store(y, i, fma(value, 2.0, value))
    function = b.function()
    first, second = function.body
    assert isinstance(first, For) and isinstance(second, For)
    assert (first.var, second.var) == ("i", "i_1")
    v = Ref("v_1", F32)
    assert second.body == (
        Let("v_1", Load("x", var("i_1"), F32)),
        Store("y", var("i_1"), Op("fma", (v, Const(2.0, F32), v), F32)),
    )


def test_fresh_skips_names_given_literally():
    b = Builder("f")
    assert [b.fresh("a"), b.fresh("a_1"), b.fresh("a"), b.fresh("a_1")] == ["a", "a_1", "a_2", "a_1_1"]


def test_short_loops_vanish_unless_kept():
    b = Builder("f")
    y = b.buffer("y", F32, 8, "output")
    with b.loop("i", 4, start=3) as i:
        assert i == const(3)
        b.store(y, i, 1.0)
    with b.loop("j", 0) as j:
        b.store(y, j, 1.0)
    with b.loop("k", 1, keep=True) as k:
        b.store(y, k, 1.0)
    body = b.function().body
    assert [type(s) for s in body] == [Store, For]


def test_parameters_share_the_names_of_the_function():
    b = Builder("rows")
    y = b.buffer("y", DType.F32, 8, "output")
    start, stop = b.parameter("row", 0, 8), b.parameter("row", 0, 8)
    with b.loop("row", stop, start=start) as i:
        b.store(y, i, 1.0)
    function = b.function()
    assert function.parameters == (Parameter("row", 0, 8), Parameter("row_1", 0, 8))
    assert function.body == (For("row_2", start, stop, (Store("y", var("row_2"), Const(1.0, DType.F32)),)),)


def test_conditions():
    b = Builder("f")
    y = b.buffer("y", F32, 8, "output")
    register = b.declare("r", number(0.0, F32))
    with b.when(less(register, 1.0)):
        b.assign(register, 2.0)
    with b.otherwise():
        b.store(y, 0, register)
    statement = b.function().body[-1]
    assert isinstance(statement, If)
    assert statement.then == (Assign("r", Const(2.0, F32)),)
    assert isinstance(statement.orelse[0], Store)
    with pytest.raises(ValueError, match="otherwise"), b.otherwise():
        pass


def test_lanes_and_types_are_derived():
    vector = Load("x", const(0), F32, 4)
    scalar = Load("x", const(0), F32)
    assert add(vector, scalar).args[1] == Broadcast(scalar, 4)
    assert add(1, vector).args[0] == Const(1.0, F32, 4)
    condition = less(vector, 0)
    assert (condition.dtype, condition.lanes) == (DType.BOOL, 4)
    assert select(condition, vector, 0).dtype is F32
    assert repeat(number(3, DType.I64), 2) == Const(3, DType.I64, 2)
    with pytest.raises(ValueError, match="types"):
        add(vector, number(1, DType.I32))
    with pytest.raises(ValueError, match="lanes"):
        add(vector, Load("x", const(0), F32, 8))
    with pytest.raises(ValueError, match="no operation"):
        operation("exp", vector, vector)


def test_loads_and_stores_are_canonical():
    b = Builder("f")
    x = b.buffer("x", F32, 8, "input")
    assert b.load(x, 0, 4, stride=0) == Broadcast(Load("x", const(0), F32), 4)
    assert b.load(x, 0, 4, valid=4) == Load("x", const(0), F32, 4)
    assert b.load(x, 0, stride=7) == Load("x", const(0), F32)
    with pytest.raises(ValueError, match="storing"):
        b.store(x, 0, number(1, DType.I64))
