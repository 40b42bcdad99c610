"""Statements as C: scopes, control flow, indices, threads. Everything is compiled with -Wall -Wextra -Werror and run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgecc.backends.c.function import new_prelude, print_function
from edgecc.backends.c.isa import isa_of
from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.loop.builder import Builder, add, fma, less, mul
from edgecc.loop.index import Index, IndexOp, const, from_expr, maximum, minimum, var
from edgecc.loop.ir import (
    Assign,
    Barrier,
    Buffer,
    Cast,
    Comment,
    Const,
    Declare,
    For,
    FromIndex,
    Function,
    If,
    Let,
    Load,
    Op,
    Prefetch,
    Ref,
    Reload,
    Store,
)
from tests.support.ccompile import AVX512, MACHINES, PORTABLE, SANITIZERS, run_function

F32, I32 = DType.F32, DType.I32


def printed(function: Function, threads: int = 1) -> str:
    prelude = new_prelude(isa_of("generic", (), 0))
    return print_function(function, prelude, function.name, threads=threads).definition


def run(body, buffers, arrays, machine=PORTABLE, **options):
    return run_function(Function("kernel", buffers, tuple(body)), arrays, machine, flags=("-O1", *SANITIZERS)
                        if machine is PORTABLE else ("-O1",), **options)


X = Buffer("x", F32, 8, "input")
Y = Buffer("y", F32, 8, "output")


def x_at(index) -> Load:
    return Load("x", index, F32)


def test_inner_names_hide_outer_ones():
    i = var("i")
    body = [
        Let("v", Const(1.0, F32)),
        For("i", const(0), const(8), (
            Let("v", add(Ref("v", F32), x_at(i))),  # reads the outer v
            Let("v", mul(Ref("v", F32), 2.0)),
            Store("y", i, Ref("v", F32)),
        )),
        For("i", const(0), const(1), (Store("y", i, Ref("v", F32)),)),
    ]
    x = np.arange(8, dtype=np.float32)
    y = run(body, (X, Y), {"x": x})["y"]
    np.testing.assert_array_equal(y, np.concatenate([[1], (x[1:] + 1) * 2]))


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_what_nothing_reads_causes_no_warning(compiler):
    body = [
        Let("unused", x_at(const(0))),
        Declare("written", Const(0.0, F32)),
        Assign("written", x_at(const(1))),
        For("i", const(0), const(3), (Let("inner", Const(1, I32)),)),
    ]
    run_function(Function("kernel", (X, Y), tuple(body)), {"x": np.zeros(8, np.float32)}, PORTABLE, compiler=compiler)


@pytest.mark.parametrize("name", ["int", "register", "EOF", "_x", "a b", "edgecc_run", "0", "x-y", "é", "expf"])
def test_any_name_will_do(name):
    buffer = Buffer(name, F32, 8, "input")
    body = [For("i", const(0), const(8), (Let(f"{name}!", Load(name, var("i"), F32)), Store("y", var("i"), Ref(f"{name}!", F32))))]
    x = np.arange(8, dtype=np.float32)
    np.testing.assert_array_equal(run(body, (buffer, Y), {name: x})["y"], x)


def test_branches_registers_and_barriers():
    i = var("i")
    body = [
        Declare("total", Const(0.0, F32)),
        For("i", const(0), const(8), (
            If(less(x_at(i), 3.0),
               (Assign("total", fma(x_at(i), 2.0, Ref("total", F32))),),
               (Assign("total", add(Ref("total", F32), 1.0)),)),
            Barrier(),
            Prefetch("x", i * 1000 - 4000),
            Store("y", i, Ref("total", F32)),
        )),
    ]
    x = np.arange(8, dtype=np.float32)
    np.testing.assert_array_equal(run(body, (X, Y), {"x": x})["y"], np.cumsum(np.where(x < 3, 2 * x, 1)))


def test_reloaded_buffers_are_read_from_where_their_pointers_stand():
    i = var("i")
    inner = (Reload("x", i * 2), Store("y", i, x_at(i * 2 + 1)), Reload("x", i * 2), Store("y", i + 4, x_at(i * 3)),
             Reload("x", const(1)), Store("y", i + 8, x_at(i)))
    body = [Store("y", const(0), x_at(const(9))), For("i", const(0), const(4), inner), Store("y", const(12), x_at(const(2)))]
    x = np.arange(10, dtype=np.float32)
    want = [1, 3, 5, 7, 0, 3, 6, 9, 0, 1, 2, 3, 2]
    np.testing.assert_array_equal(run(body, (replace(X, elements=10), replace(Y, elements=13)), {"x": x})["y"], want)


def test_elements_are_read_by_the_nearest_pointer():
    body = [Reload("x", const(1)), Reload("x", const(5)), *(Store("y", const(i), x_at(const(i))) for i in range(8))]
    text = printed(Function("kernel", (X, Y), tuple(body)))
    assert [text.count(f"= {element};") for element in ("x_at[2]", "x_at_1[-1]", "x_at_1[0]", "x_at_1[2]")] == [1, 1, 1, 1]
    x = np.arange(8, dtype=np.float32)
    np.testing.assert_array_equal(run(body, (X, Y), {"x": x})["y"], x)


def test_pointers_of_a_loop_move_with_its_iterations():
    i, j = var("i"), var("j")
    inner = (Reload("x", i * 2 + j * 10), Reload("x", i.mod(3) + 40), Reload("y", j), Store("y", i + j * 7, add(x_at(i * 2 + j * 10 + 1), x_at(i.mod(3) + 42))))
    body = [For("j", const(0), const(2), (For("i", const(1), const(7), inner, step=2),)),
            For("i", const(1), const(1), (Reload("x", i * 2), Store("y", i, x_at(i * 2))))]
    function = Function("kernel", (replace(X, elements=50), replace(Y, elements=14)), tuple(body))
    text = printed(function)
    assert text.count("x_at += 4;") == 1
    x, want = np.arange(50, dtype=np.float32), np.zeros(14, np.float32)
    for row in range(2):
        for k in (1, 3, 5):
            want[k + 7 * row] = x[2 * k + 10 * row + 1] + x[k % 3 + 42]
    got = run(body, function.buffers, {"x": x})["y"]
    np.testing.assert_array_equal(got[want != 0], want[want != 0])


def test_comments_cannot_leave_their_comment():
    function = Function("kernel", (), (Comment("*/ int hostile; /* ??/\n \\"), Comment("x" * 1000)), doc="*/ {{{ \\")
    text = printed(function)
    assert "*/ int" not in text and "??/" not in text and "\\" not in text and "*/ {" not in text
    run_function(function, {}, PORTABLE, flags=("-trigraphs",))


def test_indices_divide_and_clamp_as_python_does():
    i = var("i")
    indices = [
        (i - 4).floordiv(3) + 4, (i - 4).mod(3), i.floordiv(3), (i * 5 + 2).mod(7), minimum(i, const(5)), maximum(i * 2 - 9, const(0)),
        minimum(maximum(i - 3, const(0)), const(2)), (i.mod(4) + 1).floordiv(2), const(7) - i, (i * -1).mod(8),
    ]
    out = Buffer("y", I32, 8 * len(indices), "output")
    body = [For("i", const(0), const(8), tuple(Store("y", i + 8 * k, FromIndex(index, I32)) for k, index in enumerate(indices)))]
    got = run(body, (out,), {})["y"].reshape(-1, 8)
    want = [[(v - 4) // 3 + 4, (v - 4) % 3, v // 3, (v * 5 + 2) % 7, min(v, 5), max(v * 2 - 9, 0), min(max(v - 3, 0), 2),
             (v % 4 + 1) // 2, 7 - v, -v % 8] for v in range(8)]
    np.testing.assert_array_equal(got, np.array(want).T)


def test_only_possibly_negative_dividends_need_a_helper():
    i = var("i")
    body = (For("i", const(0), const(8), (Store("y", i.floordiv(3) + i.mod(2), Const(1.0, F32)),)),)
    assert "edgecc_floor" not in printed(Function("kernel", (Y,), body))
    body = (For("i", const(-3), const(8), (Store("y", i.mod(2), Const(1.0, F32)),)),)
    assert "edgecc_floormod" in printed(Function("kernel", (Y,), body))


@pytest.mark.parametrize("dtype", [DType.I8, DType.U8])
def test_constant_bytes_of_a_word_are_one_number(dtype):
    buffers = (Buffer("x", dtype, 4, "input"), Buffer("y", DType.U32, 3, "output"))
    x, one = (Load("x", const(place), dtype) for place in (0, 3)), Const(1, dtype)
    first, last = x
    words = [(first, Const(0, dtype), last, Const(0, dtype)), (one, first, one, last), (one, one, Const(0, dtype), Const(2, dtype))]
    body = tuple(Store("y", const(place), Op("interleave", word, DType.U32)) for place, word in enumerate(words))
    text = printed(Function("kernel", buffers, body))
    assert text.count("|") == 1 + 2 and "65537" in text and str(0x2000101) in text
    data = np.array([250, 0, 0, 7], np.uint8)
    out = run(body, buffers, {"x": data.view(dtype.numpy), "y": np.zeros(3, np.uint32)})
    assert out["y"].tolist() == [0x0700FA, 0x0701FA01, 0x02000101]


def test_values_as_indices_and_indices_as_values():
    at = Buffer("at", DType.I64, 8, "input")
    i = var("i")
    body = [For("i", const(0), const(8), (Let("k", Load("at", i, DType.I64)),
                                           Store("y", from_expr(Ref("k", DType.I64)), FromIndex(i * 3 - 2, F32))))]
    order = np.array([3, 1, 0, 2, 7, 6, 5, 4], np.int64)
    want = np.zeros(8, np.float32)
    want[order] = np.arange(8) * 3 - 2
    np.testing.assert_array_equal(run(body, (at, Y), {"at": order})["y"], want)


def test_aliased_buffers_are_not_restricted():
    function = Function("kernel", (Buffer("x", F32, 8, "input", aliased=True), Buffer("y", F32, 8, "output")), ())
    text = printed(function)
    assert "const float *x," in text and "float *restrict y" in text


def parallel_function(lanes: int) -> Function:
    b = Builder("kernel", doc="two parallel loops that read locals")
    x = b.buffer("x", F32, 64, "input")
    y, z = b.buffer("y", F32, 64, "output"), b.buffer("z", F32, 64, "output")
    vector = b.let("vector", b.load(x, 0, lanes))
    scale = b.let("scale", b.load(x, 5))
    with b.loop("i", 64, step=lanes, kind="parallel") as i:
        b.store(y, i, fma(b.load(x, i, lanes), scale, vector))
    with b.loop("j", 64, start=3, step=2, kind="parallel") as j:
        b.store(z, j, mul(b.load(y, j), scale))
    return b.function()


def test_parallel_loops_become_functions_over_ranges():
    text = printed(parallel_function(1), threads=4)
    assert text.count("edgecc_parallel_for(") == 2
    assert ", 31, 4);" in text  # iterations 3, 5, ..., 63 on four threads
    assert "restrict x" in text and "scale;" in text
    assert "edgecc_parallel_for" not in printed(parallel_function(1))


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_parallel_loops_on_one_thread(machine):
    lanes = machine.vector_bits // 32 or 1
    x = np.arange(64, dtype=np.float32)
    z = np.zeros(64, np.float32)
    result = run_function(parallel_function(lanes), {"x": x, "z": z}, machine)
    y = x * x[5] + np.tile(x[:lanes], 64 // lanes)
    z[3::2] = y[3::2] * x[5]
    np.testing.assert_array_equal(result["y"], y)
    np.testing.assert_array_equal(result["z"], z)


def ranged_function() -> Function:
    b = Builder("kernel", doc="the positions [start, stop) of two rows in turn")
    y = b.buffer("y", F32, 12, "output")
    start, stop = b.parameter("start", 0, 24), b.parameter("stop", 0, 24)
    with b.loop("i", stop, start=start, kind="parallel") as i:
        b.store(y, (i + 3).mod(12), FromIndex(start + 100 * i, F32))
    return b.function()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_parameters_come_after_the_buffers(machine):
    expected = np.full(12, -1, np.float32)
    for start, stop in ((0, 5), (5, 5), (9, 14)):
        for i in range(start, stop):
            expected[(i + 3) % 12] = start + 100 * i
    start = np.full(12, -1, np.float32)
    result = run_function(ranged_function(), {"y": start}, machine, calls_of=((0, 5), (5, 5), (9, 14)))
    np.testing.assert_array_equal(result["y"], expected)


def test_parameters_have_bounds_and_reach_parallel_loops():
    plain, divided = printed(ranged_function()), printed(ranged_function(), threads=2)
    assert "ptrdiff_t start, ptrdiff_t stop)" in plain and "start: from 0 to 24" in plain
    assert "edgecc_wrap(i + 3, 12)" in plain  # a start that cannot be negative
    assert "const ptrdiff_t start = shared->start;" in divided and ", stop - (start), 2);" in divided


@pytest.mark.parametrize("body, message", [
    ((Store("y", const(0), Ref("nowhere", F32)),), "not in scope"),
    ((Assign("nowhere", Const(1.0, F32)),), "not in scope"),
    ((Store("y", Index(((IndexOp("power", (const(1), const(2))), 1),)), Const(1.0, F32)),), "no index operation"),
    ((Store("y", const(0), Op("add", (Const(True, DType.BOOL), Const(True, DType.BOOL)), DType.BOOL)),), "no operation add"),
])
def test_broken_programs_are_reported(body, message):
    with pytest.raises(EdgeccError, match=message):
        printed(Function("kernel", (Y,), body))


def test_every_f32_operation_has_a_vector_form():
    ops = ["load", "store", "fma", "add", "sub", "mul", "div", "min", "max", "neg", "abs", "sign", "floor", "ceil", "round", "sqrt",
           "exp", "log", "erf", "tanh", "sigmoid", "pow", "mod", "isnan", "isinf", "lt", "le", "eq", "select", "cast:i32", "horizontal:add",
           "horizontal:max"]
    for machine in MACHINES:
        isa = isa_of(machine.architecture, machine.features, machine.vector_bits)
        for lanes in isa.lanes_of(F32):
            assert [op for op in ops if not isa.supports_lanes(op, F32, lanes)] == []


def test_what_has_no_vector_form_is_known():
    isa = isa_of(AVX512.architecture, AVX512.features, AVX512.vector_bits)
    assert not isa.supports_lanes("div", I32, 16)
    assert not isa.supports_lanes("exp", DType.F64, 8)
    assert isa.supports_lanes("add", DType.I8, 16) and not isa.supports_lanes("shift_right", DType.I8, 16)
    assert isa.supports_lanes("mul", DType.F16, 16) and isa.supports_lanes("div", I32, 1)


def test_sixteen_lanes_of_avx2_lie_in_two_registers_in_an_order_of_their_own():
    """What goes through them in one piece is right; single lanes, and the first few, are not there to be had."""
    isa = isa_of("x86_64", ("avx2", "fma"), 256)
    assert isa.is_pair(I32, 16) and not isa.is_pair(I32, 8) and not isa_of(AVX512.architecture, AVX512.features, AVX512.vector_bits).is_pair(I32, 16)

    def doubled(valid):
        number = Op("nearest", (Op("mul", (Load("x", const(0), F32, 16, 1, valid), Const(2.0, F32, 16)), F32, 16),), I32, 16)
        limited = Op("min", (Op("max", (number, Const(-128, I32, 16)), I32, 16), Const(127, I32, 16)), I32, 16)
        return Function("kernel", (Buffer("x", F32, 16, "input"), Buffer("y", DType.I8, 16, "output")), (Store("y", const(0), Cast(limited, DType.I8)),))

    x = np.linspace(-90, 90, 16, dtype=np.float32)
    machine = next(machine for machine in MACHINES if "avx2" in machine.features and machine.vector_bits == 256)
    np.testing.assert_array_equal(run_function(doubled(0), {"x": x}, machine)["y"], np.clip(np.rint(2 * x), -128, 127).astype(np.int8))
    with pytest.raises(EdgeccError, match="no operation load:9 on 16 lanes"):
        print_function(doubled(9), new_prelude(isa), "kernel")
