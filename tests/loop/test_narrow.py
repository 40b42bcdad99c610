"""Operations around integers of 8 bits: their types, their text and their meaning."""

from dataclasses import replace

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.loop.index import ZERO
from edgecc.loop.interpreter import run_function
from edgecc.loop.ir import Buffer, Function, Load, Op, Store
from edgecc.loop.parser import parse
from edgecc.loop.rewrite import joined_by_shift
from edgecc.loop.text import to_text
from edgecc.loop.verify import verify_function


def nearest(dtype=DType.F32):
    value = Op("nearest", (Load("x", ZERO, dtype, 8),), DType.I32, 8)
    return Function("f", (Buffer("x", dtype, 8, "input"), Buffer("y", DType.I32, 8, "output")), (Store("y", ZERO, value),))


def interleave(dtype=DType.U8):
    parts = tuple(Load(name, ZERO, dtype, 4) for name in "abcd")
    value = Op("interleave", parts, DType.U32, 4)
    return Function("f", (*(Buffer(name, dtype, 4, "input") for name in "abcd"), Buffer("y", DType.U32, 4, "output")), (Store("y", ZERO, value),))


def join_words(dtype=DType.U8):
    value = Op("join_words", tuple(Load(name, ZERO, dtype, 4) for name in "ab"), DType.U32, 4)
    return Function("f", (*(Buffer(name, dtype, 4, "input") for name in "ab"), Buffer("y", DType.U32, 4, "output")), (Store("y", ZERO, value),))


@pytest.mark.parametrize("function", [nearest(), interleave(), interleave(DType.I8), join_words()])
def test_text(function):
    verify_function(function)
    assert parse(to_text(function)) == function


@pytest.mark.parametrize("function", [nearest(DType.F64), interleave(DType.I16)])
def test_types(function):
    with pytest.raises(EdgeccError, match="gives"):
        verify_function(function)


def test_nearest():
    x = np.array([0.5, 1.5, -0.5, -2.5, 2.0**30, -2.0**31, 2.0**31 - 128, 3.49], np.float32)
    y = np.zeros(8, np.int32)
    run_function(nearest(), {"x": x, "y": y})
    assert y.tolist() == [0, 2, 0, -2, 2**30, -2**31, 2**31 - 128, 3]
    with pytest.raises(ValueError, match="out of range"):
        run_function(nearest(), {"x": np.full(8, np.inf, np.float32), "y": y})


def test_interleave():
    arrays = {name: np.array([i, 10 + i, 200 + i, 255], np.uint8) for i, name in enumerate("abcd")}
    y = np.zeros(4, np.uint32)
    run_function(interleave(), {**arrays, "y": y})
    assert y.view(np.uint8).reshape(4, 4).tolist() == [[0, 1, 2, 3], [10, 11, 12, 13], [200, 201, 202, 203], [255] * 4]


@pytest.mark.parametrize("dtype", [DType.U8, DType.I8])
def test_join_words(dtype):
    """By the operation itself, and by the shift that takes its place."""
    a, b = (np.array(row, np.uint8).view(dtype.numpy) for row in ([0, 127, 128, 255], [255, 128, 1, 0]))
    function = join_words(dtype)
    (stored,) = function.body
    for value in (stored.value, joined_by_shift(stored.value)):
        y = np.zeros(4, np.uint32)
        run_function(replace(function, body=(replace(stored, value=value),)), {"a": a, "b": b, "y": y})
        assert y.view(np.int16).reshape(4, 2).tolist() == np.stack([a, b], axis=1).tolist()


@pytest.mark.parametrize(("op", "dtype"), [("max_s8", np.int8), ("max_u8", np.uint8)])
def test_larger_bytes(op, dtype):
    a, b = (np.array(row, np.uint8).view(np.uint32) for row in ([0, 127, 128, 255, 1, 2, 3, 4], [255, 128, 127, 0, 4, 3, 2, 1]))
    function = Function("f", (*(Buffer(name, DType.U32, 2, "input") for name in "ab"), Buffer("y", DType.U32, 2, "output")),
                        (Store("y", ZERO, Op(op, tuple(Load(name, ZERO, DType.U32, 2) for name in "ab"), DType.U32, 2)),))
    y = np.zeros(2, np.uint32)
    verify_function(function)
    run_function(function, {"a": a, "b": b, "y": y})
    np.testing.assert_array_equal(y.view(dtype), np.maximum(a.view(dtype), b.view(dtype)))
