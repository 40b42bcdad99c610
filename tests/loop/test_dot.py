"""Grouped dot products: the interpreter, the text form, the verifier, and every instruction set agree on each bit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.loop.builder import Builder
from edgecc.loop.dot import DOTS
from edgecc.loop.interpreter import run_function
from edgecc.loop.ir import Function, Op
from edgecc.loop.parser import parse
from edgecc.loop.text import to_text
from edgecc.loop.verify import verify_function
from tests.support.ccompile import AVX512_BF16, NEON, PORTABLE, Machine, run_functions

N = 48


def dot(lanes: int, name: str = "dot_bf16", operand: DType = DType.U32) -> Function:
    b = Builder(f"{name}_{lanes}")
    x, w = b.buffer("x", operand, N, "input"), b.buffer("w", operand, N, "input")
    y = b.buffer("y", DType.F32, N, "output")
    start = b.buffer("start", DType.F32, N, "input")
    with b.loop("i", N, step=lanes) as i:
        b.store(y, i, Op(name, (b.load(x, i, lanes), b.load(w, i, lanes), b.load(start, i, lanes)), DType.F32, lanes))
    return b.function()


def pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    both = np.stack([first, second], axis=-1).astype(ml_dtypes.bfloat16)
    return both.view(np.uint32).reshape(-1)


def interpreted(x: np.ndarray, w: np.ndarray, start: np.ndarray) -> np.ndarray:
    y = np.empty(N, np.float32)
    run_function(dot(1), {"x": x, "w": w, "start": start, "y": y})
    return y


def repeated(value: np.ndarray) -> np.ndarray:
    return np.resize(value, N)


def test_the_second_product_is_added_first_and_each_sum_rounds_once():
    big, one = np.float32(2.0**24), np.float32(1.0)
    # 2^24 + 1 rounds back to 2^24: the order of 1*1 and 2^24*1 with a start of 1 shows.
    got = interpreted(repeated(pairs(big[None], one[None])), repeated(pairs(one[None], one[None])), np.full(N, one))
    assert got[0] == 2.0**24 + 2
    got = interpreted(repeated(pairs(one[None], big[None])), repeated(pairs(one[None], one[None])), np.full(N, one))
    assert got[0] == 2.0**24
    # A product of 16 bits is not rounded before it is added.
    fine = np.float32(1 + 2.0**-7)
    got = interpreted(repeated(pairs(fine[None], np.zeros(1))), repeated(pairs(fine[None], np.zeros(1))), np.full(N, np.float32(-1)))
    assert got[0] == 2.0**-6 + 2.0**-14


def test_subnormal_numbers_are_zeros():
    tiny = np.float32(2.0**-130)
    large = np.float32(2.0**100)
    got = interpreted(repeated(pairs(tiny[None], np.zeros(1))), repeated(pairs(large[None], np.zeros(1))), np.full(N, tiny))
    assert got[0] == 0.0


def test_text_and_verifier():
    function = dot(4)
    verify_function(function)
    assert parse(to_text(function)) == function
    assert "dot_bf16(x[i, lanes 4], w[i, lanes 4], start[i, lanes 4])" in to_text(function)
    with pytest.raises(EdgeccError, match="invariant 5"):
        verify_function(dot(4, operand=DType.I32))
    assert DOTS["dot_bf16"].group == 2


@pytest.mark.parametrize("machine", [PORTABLE, NEON, AVX512_BF16], ids=lambda m: m.name)
def test_machines_give_the_interpreter_s_bits(machine: Machine):
    rng = np.random.default_rng(7)
    x, w = (rng.integers(0, 1 << 32, N, np.uint32) for _ in range(2))
    near = np.uint32(0x38003800), np.uint32(0x87FF87FF)  # exponents close to each other, so that rounding shows
    x[::2], w[::2] = x[::2] & near[1] | near[0], w[::2] & near[1] | near[0]
    start = (rng.standard_normal(N) * 2.0 ** rng.integers(-20, 8, N)).astype(np.float32)
    lanes = (1, 4, 8, 16) if machine is AVX512_BF16 else (1,)
    wanted = interpreted(x, w, start)
    results = run_functions([(dot(n), {"x": x, "w": w, "start": start}) for n in lanes], machine)
    for result in results:
        np.testing.assert_array_equal(result["y"].view(np.uint32)[~np.isnan(wanted)], wanted.view(np.uint32)[~np.isnan(wanted)])
        np.testing.assert_array_equal(np.isnan(result["y"]), np.isnan(wanted))


NEON_DOTPROD = Machine("neon-dotprod", "aarch64", ("neon", "dotprod"), 128, ("-march=armv8.2-a+dotprod",), zig_flags=("-mcpu=cortex_a76",))


@pytest.mark.parametrize(("name", "first", "second"), [
    ("dot_s8", np.int8, np.int8), ("dot_u8s8", np.uint8, np.int8), ("dot_u8s8_short", np.uint8, np.int8),
    ("dot_u8s8_halves", np.uint8, np.int8), ("dot_s16", np.int16, np.int16)])
@pytest.mark.parametrize("machine", [PORTABLE, NEON, NEON_DOTPROD, AVX512_BF16], ids=lambda m: m.name)
def test_groups_are_multiplied_and_summed_in_wrapping_integers(machine, name, first, second):
    if name == "dot_s16" and machine in (NEON, NEON_DOTPROD):
        pytest.skip("has no such instruction, and no kernel asks for it")

    def summed(lanes: int) -> Function:
        b = Builder(f"bytes_{lanes}")
        x, w = b.buffer("x", DType.U32, N, "input"), b.buffer("w", DType.U32, N, "input")
        start, y = b.buffer("start", kind, N, "input"), b.buffer("y", kind, N, "output")
        with b.loop("i", N, step=lanes) as i:
            b.store(y, i, Op(name, (b.load(x, i, lanes), b.load(w, i, lanes), b.load(start, i, lanes)), kind, lanes))
        return b.function()

    kind = DOTS[name].sum
    rng = np.random.default_rng(3)
    group = 4 // np.dtype(first).itemsize
    x, w = (rng.integers(np.iinfo(t).min, np.iinfo(t).max + 1, (N, group)).astype(t) for t in (first, second))
    x[0], w[0] = np.iinfo(first).max, 127
    if name in ("dot_u8s8_short", "dot_u8s8_halves"):
        x &= 15
    start = rng.integers(-2**31, 2**31, N).astype(np.int32)
    start[0] = 2**31 - 1
    products = x.astype(np.int64) * w
    wanted = (start.astype(np.int64) + products.sum(axis=1)).astype(np.int32)
    if name == "dot_u8s8_halves":
        wanted = (start.view(np.int16).reshape(N, 2) + products.reshape(N, 2, 2).sum(axis=2)).astype(np.int16).reshape(-1).view(np.uint32)
        start = start.view(np.uint32)
    arrays = {"x": x.view(np.uint32).reshape(-1), "w": w.view(np.uint32).reshape(-1), "start": start}
    for lanes in {PORTABLE: (1,), AVX512_BF16: (1, 4, 8, 16)}.get(machine, (1, 2, 4)):
        y = np.empty(N, kind.numpy)
        run_function(summed(lanes), {**arrays, "y": y})
        np.testing.assert_array_equal(y, wanted)
        (result,) = run_functions([(summed(lanes), arrays)], machine)
        np.testing.assert_array_equal(result["y"], wanted)
