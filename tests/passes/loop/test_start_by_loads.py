"""start-by-loads: what it makes, what it leaves alone, and that it computes the same."""

import numpy as np
import pytest

from edgecc.kernels.registry import lower
from edgecc.loop.interpreter import run_function
from edgecc.loop.ir import Declare, Ref, Reload, walk
from edgecc.loop.parser import parse
from edgecc.loop.text import to_text
from edgecc.loop.verify import verify_function
from edgecc.passes.loop import apply_schedule
from tests.support.assembly import CASES
from tests.support.kernel_check import request_for


def body_text(function) -> str:
    return "".join(f"{line[2:]}\n" for line in to_text(function).splitlines()[1:-1])


def source(body: str):
    return parse(f"function f(b: f32[9] input, y: f32[9] output) {{ {body} }}")


def test_declarations_stand_in_rounds_behind_reloads():
    function = source("for i in 0..2 { var s = b[i] var t = b[i] var u = b[i + 1] var v = b[i + 1] var w = b[i] y[i] = t }")
    assert body_text(apply_schedule(function, ["start-by-loads{buffer=b}", "reuse-loads"])) == """for i in 0..2 {
  reload b[i]
  var s = b[i]
  var u = b[i + 1]
  reload b[i]
  var t = b[i]
  var v = b[i + 1]
  reload b[i]
  var w = b[i]
  y[i] = t
}
"""


@pytest.mark.parametrize("body", [
    "var s = b[0] var t = b[1] y[0] = s y[1] = t",
    "var s = 0.0:f32 var t = 0.0:f32 y[0] = s y[1] = t",
    "var s = b[0] y[0] = s var t = b[0] y[1] = t",
    "var s = add(b[0], b[1]) var t = add(b[0], b[1]) y[0] = s y[1] = t",
])
def test_it_declines(body):
    assert apply_schedule(source(body), ["start-by-loads{buffer=b}"]) == source(body)


@pytest.mark.parametrize("name", ["pointwise 64 to 384, 14x14", "depthwise 3x3, 96 channels, 28x28"])
def test_no_sum_of_a_kernel_starts_as_a_copy(name):
    op, given, layouts = CASES[name]
    given = [*given, type(given[0])(np.zeros(given[1].array.shape[0], np.float32), True)]
    kernel = lower(request_for(op, given, "cortex-a76", layouts))
    function = apply_schedule(kernel.function, kernel.schedule)
    verify_function(function)
    statements = list(walk(function.body))
    assert any(isinstance(stmt, Reload) for stmt in statements)
    assert not any(isinstance(stmt, Declare) and isinstance(stmt.value, Ref) for stmt in statements)


def test_the_result_is_the_same():
    function = source("for i in 0..4 { var s = b[i] var t = b[i] var u = b[i + 1] y[2*i] = add(s, u) y[2*i + 1] = t }")
    b, outputs = np.arange(9, dtype=np.float32), []
    for candidate in (function, apply_schedule(function, ["start-by-loads{buffer=b}"])):
        outputs.append(np.zeros(9, np.float32))
        run_function(candidate, {"b": b, "y": outputs[-1]})
    np.testing.assert_array_equal(*outputs)
