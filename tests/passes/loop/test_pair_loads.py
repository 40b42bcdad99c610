"""pair-loads: what it makes, what it leaves alone, and that it computes the same."""

import numpy as np
import pytest

from edgecc.loop.interpreter import run_function
from edgecc.loop.parser import parse
from edgecc.loop.text import to_text
from edgecc.passes.loop import apply_schedule

PAIR = ["pair-loads{buffer=w}"]


def source(body: str):
    return parse(f"function f(w: f32[16] input, y: f32[16] output) {{ {body} }}")


def body_text(function) -> str:
    return "".join(f"{line[2:]}\n" for line in to_text(function).splitlines()[1:-1])


BODY = ("var s = w[8, lanes 4] let a = w[0, lanes 4] s = add(s, a) let b = w[4, lanes 4] s = add(s, b) "
        "let c = w[8, lanes 4] s = add(s, c) y[0, lanes 4] = s")


def test_neighbours_stand_side_by_side():
    assert [line.split(" = ")[0] for line in body_text(apply_schedule(source(BODY), PAIR)).splitlines()] == [
        "var s", "let a", "let b", "s", "s", "let c", "s", "y[0]"]


@pytest.mark.parametrize("body", [
    "let a = w[0, lanes 4] y[0, lanes 4] = a let b = w[4, lanes 4] y[4, lanes 4] = b",
    "let a = w[0, lanes 4] var s = a let b = w[8, lanes 4] s = add(s, b) y[0, lanes 4] = s",
    "let a = w[0, lanes 4] var s = a for i in 0..2 { s = add(s, a) } let b = w[4, lanes 4] y[0, lanes 4] = add(s, b)",
])
def test_it_declines(body):
    assert apply_schedule(source(body), PAIR) == source(body)


def test_the_result_is_the_same():
    w, outputs = np.arange(16, dtype=np.float32), []
    for candidate in (source(BODY), apply_schedule(source(BODY), PAIR)):
        outputs.append(np.zeros(16, np.float32))
        run_function(candidate, {"w": w, "y": outputs[-1]})
    np.testing.assert_array_equal(*outputs)
