"""Lanes of integers combined in registers: as the interpreter combines them, sums that wrap included."""

import numpy as np
import pytest

from edgecc.ir.types import DType
from edgecc.loop.builder import Builder
from edgecc.loop.interpreter import run_function
from edgecc.loop.ir import Horizontal
from tests.support import ccompile


@pytest.mark.parametrize("machine", [ccompile.AVX2, ccompile.AVX512], ids=lambda own: own.name)
def test_integers_are_combined(machine):
    b = Builder("combined")
    most = machine.vector_bits // 32
    arrays = {}
    random = np.random.default_rng(1)
    for dtype in (DType.I32, DType.U32):
        lowest, highest = (int(limit) for limit in dtype.limits)
        x, y = b.buffer(f"x_{dtype.value}", dtype, 4 * most, "input"), b.buffer(f"y_{dtype.value}", dtype, 36, "output")
        arrays[x.name] = random.integers(lowest, highest, 4 * most, endpoint=True).astype(dtype.numpy)
        place = 0
        for lanes in (4, 8, 16):
            for first in range(0, 4 * lanes if lanes <= most else 0, lanes):
                for op in ("add", "min", "max"):
                    b.store(y, place, Horizontal(op, b.load(x, first, lanes)))
                    place += 1
    function = b.function()
    wanted = {name: array.copy() for name, array in arrays.items()}
    for buffer in function.buffers:
        wanted.setdefault(buffer.name, np.full(buffer.elements, 0x5A5A5A5A, buffer.dtype.numpy))
    given = {name: array.copy() for name, array in wanted.items()}
    run_function(function, wanted)
    for name, got in ccompile.run_function(function, given, machine).items():
        np.testing.assert_array_equal(got, wanted[name])
    source = ccompile.function_source(function, machine)
    assert "lanes[" not in source  # nothing goes through memory
