"""pair-products: what it makes, what it leaves alone, and that it computes the same."""

import numpy as np
import pytest

from edgecc.loop.interpreter import run_function
from edgecc.loop.ir import Assign, Op, walk
from edgecc.loop.parser import parse
from edgecc.passes.loop import apply_schedule

PAIR = ["pair-products"]
PRODUCT = "s = dot_s8_short(x[{0}, lanes 4], w[{0}, lanes 4], s)"


def source(body: str):
    return parse(f"function f(x: u32[32] input, w: u32[32] input, b: i32[16] input, y: i32[16] output) {{ {body} }}")


def pairs(function) -> int:
    return sum(isinstance(s, Assign) and isinstance(s.value, Op) and isinstance(s.value.args[-1], Op) for s in walk(function.body))


@pytest.mark.parametrize(("count", "wanted"), [(1, 0), (2, 1), (3, 1), (6, 3)])
def test_two_steps_at_a_time(count, wanted):
    steps = " ".join(f"let v{i} = x[{4 * i}, lanes 4] {PRODUCT.format(4 * i)} barrier" for i in range(count))
    before = source(f"var s = b[0, lanes 4] {steps} y[4, lanes 4] = s")
    after = apply_schedule(before, PAIR)
    assert pairs(after) == wanted
    results = []
    for function in (before, after):
        memory = {"x": np.arange(32, dtype=np.uint32) * 0x01FF8003, "w": np.arange(32, dtype=np.uint32) * 0x7F810203, "b": np.arange(16, dtype=np.int32),
                  "y": np.zeros(16, np.int32)}
        run_function(function, memory)
        results.append(memory["y"])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("between", [
    "y[4, lanes 4] = s", "s = b[8, lanes 4]", "let t = s y[4, lanes 4] = t", "for i in 0..2 { y[i] = b[i + 8] }"])
def test_it_declines(between):
    assert pairs(apply_schedule(source(f"var s = b[0, lanes 4] {PRODUCT.format(0)} {between} {PRODUCT.format(4)} y[0, lanes 4] = s"), PAIR)) == 0
