"""pipeline-loads: what it makes, what it leaves alone, and that it computes and reads the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.loop.interpreter import run_function
from edgecc.loop.parser import parse
from edgecc.loop.text import to_text
from edgecc.loop.verify import verify_function
from edgecc.passes.loop import apply_schedule

PIPELINE = "pipeline-loads{loop=k,distance=2}"


def body_text(function) -> str:
    return "".join(f"{line[2:]}\n" for line in to_text(function).splitlines()[1:-1])


def test_loads_stand_ahead_and_the_first_ones_move_to_the_iteration_before():
    source = parse("""function f(x: f32[8] input, w: f32[16] input, y: f32[2] output) {
      var s = 0.0:f32 var t = 0.0:f32
      for k in 0..8 {
        let a = x[k] let b = w[2*k]
        s = fma(a, b, s) t = fma(b, b, t)
        let c = w[2*k + 1]
        s = fma(a, c, s) t = fma(c, c, t)
      }
      y[0] = s y[1] = t
    }""")
    assert body_text(apply_schedule(source, [PIPELINE])) == """var s = 0.0:f32
var t = 0.0:f32
var a_ahead0 = x[0]
var b_ahead0 = w[0]
for k in 0..7 {
  s = fma(a_ahead0, b_ahead0, s)
  let c = w[2*k + 1]
  t = fma(b_ahead0, b_ahead0, t)
  s = fma(a_ahead0, c, s)
  b_ahead0 = w[2*k + 2]
  t = fma(c, c, t)
  a_ahead0 = x[k + 1]
}
s = fma(a_ahead0, b_ahead0, s)
let c_ahead0 = w[15]
t = fma(b_ahead0, b_ahead0, t)
s = fma(a_ahead0, c_ahead0, s)
t = fma(c_ahead0, c_ahead0, t)
y[0] = s
y[1] = t
"""


@pytest.mark.parametrize("loop", [
    "for k in 0..1 { let a = x[k] s = fma(a, a, s) }",
    "for k in 0..min(8, [n[0]]) { let a = x[k] s = fma(a, a, s) }",
    "for k in 0..8 { let a = x[k] s = fma(a, a, s) y[k] = s }",
    "for k in 0..8 { let a = add(x[k], 1.0:f32) s = fma(a, a, s) }",
    "for k in 0..8 { s = fma(x[k], x[k], s) }",
])
def test_it_declines(loop):
    source = parse(f"""function f(n: i64[1] input, x: f32[8] input, y: f32[8] output) {{ var s = 0.0:f32 {loop} y[0] = s }}""")
    assert apply_schedule(source, [PIPELINE]) == source


@settings(max_examples=60)
@given(m=st.integers(1, 11), depth=st.integers(1, 49), n=st.sampled_from([1, 4, 13, 17]), rows=st.integers(1, 6), distance=st.integers(1, 12))
def test_micro_kernels_compute_the_same_and_read_nothing_beyond_their_buffers(m, depth, n, rows, distance):
    function = parse(f"""function product(x: f32[{m * depth}] input, w: f32[{depth * n}] input, y: f32[{m * n}] output) {{
      for pixel in 0..{m} {{ for channel in 0..{n} {{
        var acc = 0.0:f32
        for k in 0..{depth} {{ acc = fma(x[{depth}*pixel + k], w[{n}*k + channel], acc) }}
        y[{n}*pixel + channel] = acc
      }} }}
    }}""")
    schedule = [f"tile{{loop=pixel,factor={rows}}}", "vectorize{loop=channel,lanes=4,narrowest=2}", "jam{loop=pixel_inner}", "tile{loop=k,factor=4}",
                "unroll{loop=k_inner,fence=0}", "broadcast-by-lane{lanes=4}", "reuse-loads"]
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal(m * depth).astype(np.float32), "w": rng.standard_normal(depth * n).astype(np.float32)}
    results = []
    for steps in (schedule, [*schedule, f"pipeline-loads{{loop=k_outer,distance={distance}}}"]):
        scheduled = apply_schedule(function, steps)
        verify_function(scheduled)
        results.append(np.zeros(m * n, np.float32))
        run_function(scheduled, {**arrays, "y": results[-1]})
    np.testing.assert_array_equal(*results)
