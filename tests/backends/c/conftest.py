"""A small network as a module, which the tests of the C back end print, build and run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgecc.ir.types import DType, TensorType
from edgecc.loop.builder import Builder, add, cast, less, mul
from edgecc.loop.module import ArenaBytes, Call, Constant, InputBytes, Interface, Module, OutputBytes, WeightBytes

ROWS, COLUMNS = 6, 10


def network(*, input_name: str = "x", output_name: str = "y", name: str = "tiny", threads: int = 1,
            weight_rows: int = ROWS, loc: str = "Mul_0", lanes: int = 1) -> Module:
    """y = x * w + 1, flag = y < 0, n = count of rows: three kernels, an arena, weights."""
    elements = ROWS * COLUMNS
    b = Builder("scale", doc="y = x * w + 1")
    x = b.buffer("x", DType.F32, elements, "input")
    w = b.buffer("w", DType.F32, elements, "input")
    y = b.buffer("y", DType.F32, elements, "output")
    bias = b.let("bias", cast(b.load(w, 0), DType.F32))
    with b.loop("row", ROWS, kind="parallel") as row:
        for start in range(0, COLUMNS, lanes):
            valid = min(lanes, COLUMNS - start)
            at = row * COLUMNS + start
            scaled = mul(b.load(x, at, lanes, valid=valid), b.load(w, at, lanes, valid=valid))
            b.store(y, at, add(add(scaled, bias), add(mul(bias, -1.0), 1.0)), valid=valid)
    scale = b.function()
    b = Builder("negative", doc="flag = x < 0")
    x = b.buffer("x", DType.F32, elements, "input")
    flag = b.buffer("flag", DType.BOOL, elements, "output")
    with b.loop("i", elements) as i:
        b.store(flag, i, less(b.load(x, i), 0.0))
    negative = b.function()
    b = Builder("copy")
    x = b.buffer("x", DType.F32, elements, "input")
    y = b.buffer("y", DType.F32, elements, "output")
    unused = b.buffer("unused", DType.I64, 1, "input")
    assert unused.name == "unused"
    with b.loop("i", elements) as i:
        b.store(y, i, b.load(x, i))
    copy = b.function()
    weights = np.arange(weight_rows * COLUMNS, dtype=np.float32) / 8
    shape = TensorType(DType.F32, (ROWS, COLUMNS))
    return Module(
        name=name, inputs=(Interface(input_name, shape), Interface("k", TensorType(DType.I64, ()))),
        outputs=(Interface(output_name, shape), Interface("flag", TensorType(DType.BOOL, (ROWS, COLUMNS)))),
        functions=(scale, negative, copy),
        calls=(Call("scale", (InputBytes(0), WeightBytes(64), ArenaBytes(128)), (loc,)),
               Call("negative", (ArenaBytes(128), OutputBytes(1)), ("Less_1",)),
               Call("copy", (ArenaBytes(128), OutputBytes(0), InputBytes(1)), ())),
        constants=(Constant(64, weights),), weights_bytes=64 + weights.nbytes, arena_bytes=128 + elements * 4,
        arena_lower_bound=elements * 4, threads=threads)


def expected(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    w = np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS) / 8
    y = x * w + np.float32(1)
    return y, y < 0


@pytest.fixture
def make_network() -> Callable[..., Module]:
    """See `network`."""
    return network


@pytest.fixture
def network_expected() -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The outputs of `network` by numpy."""
    return expected
