"""Loop passes: the text each one makes, what each one refuses, and that none changes what a program computes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.errors import EdgeccError
from edgecc.loop.index import const, substitute
from edgecc.loop.interpreter import run_function
from edgecc.loop.ir import For, Load, walk
from edgecc.loop.parser import parse
from edgecc.loop.text import to_text
from edgecc.loop.verify import verify_function as verify
from edgecc.passes.loop import LOOP_PASSES, apply_schedule, parse_loop_pass

PRODUCT = """function product(x: f32[{x}] input, w: f32[{w}] input, y: f32[{y}] output) "y = x w" {{
  for pixel in 0..{m} {{
    for channel in 0..{n} {{
      var acc = 0.0:f32
      for k in 0..{k} {{
        acc = fma(x[{k}*pixel + k], w[{n}*k + channel], acc)
      }}
      y[{n}*pixel + channel] = acc
    }}
  }}
}}
"""


def product(m: int, k: int, n: int):
    return parse(PRODUCT.format(m=m, k=k, n=n, x=m * k, w=k * n, y=m * n))


def body_text(function) -> str:
    return "".join(f"{line[2:]}\n" for line in to_text(function).splitlines()[1:-1])


def test_tile_peels_the_remainder():
    text = body_text(apply_schedule(parse("""function f(x: f32[7] input, y: f32[7] output) {
      for i in 0..7 { y[i] = x[i] }
    }"""), ["tile{loop=i,factor=3}"]))
    assert text == """for i_outer in 0..2 {
  for i_inner in 0..3 {
    y[i_inner + 3*i_outer] = x[i_inner + 3*i_outer]
  }
}
for i_inner in 0..1 {
  y[i_inner + 6] = x[i_inner + 6]
}
"""


def test_tile_of_a_loop_with_a_step_and_a_start():
    text = body_text(apply_schedule(parse("""function f(x: f32[9] input, y: f32[9] output) {
      parallel for i in 1..9 step 2 { y[i] = x[i] }
    }"""), ["tile{loop=i,factor=2}"]))
    assert text == """parallel for i_outer in 0..2 {
  for i_inner in 0..2 {
    y[2*i_inner + 4*i_outer + 1] = x[2*i_inner + 4*i_outer + 1]
  }
}
"""


def test_vectorize_cuts_into_vectors_that_run_side_by_side():
    text = body_text(apply_schedule(product(1, 2, 7), ["tile{loop=pixel,factor=1}", "vectorize{loop=channel,lanes=4}"]))
    assert text == """for pixel_inner in 0..1 {
  var acc_0 = 0.0:f32x4
  var acc_1 = 0.0:f32x4
  for k in 0..2 {
    acc_0 = fma(broadcast(x[k + 2*pixel_inner], 4), w[7*k, lanes 4], acc_0)
    acc_1 = fma(broadcast(x[k + 2*pixel_inner], 4), w[7*k + 4, lanes 4, valid 3], acc_1)
  }
  y[7*pixel_inner] = acc_0
  y[7*pixel_inner + 4, valid 3] = acc_1
}
"""


def test_vectorize_reads_whole_vectors_of_padded_buffers():
    scheduled = apply_schedule(product(1, 2, 7), ["vectorize{loop=channel,lanes=4,padded=w}"])
    loads = [e for s in walk(scheduled.body) for e in getattr(s, "value", Load("", None, None)).children() if isinstance(e, Load)]
    assert [e.valid for e in loads if e.buffer == "w"] == [0, 0]


def test_jam_shares_the_inner_loop():
    text = body_text(apply_schedule(product(2, 3, 1), ["jam{loop=pixel}"]))
    assert "for channel in 0..1 {\n  var acc_0 = 0.0:f32\n  var acc_1 = 0.0:f32\n  for k in 0..3 {" in text
    assert text.count("for k") == 1


def test_broadcast_by_lane_reads_neighbours_at_once_and_nothing_beyond():
    schedule = ["vectorize{loop=channel,lanes=4}", "unroll{loop=k}", "broadcast-by-lane{lanes=4}"]
    text = body_text(apply_schedule(product(1, 6, 4), schedule))
    assert text == """for pixel in 0..1 {
  var acc = 0.0:f32x4
  let x_lanes_0_0 = x[6*pixel, lanes 4]
  acc = fma(broadcast(lane(x_lanes_0_0, 0), 4), w[0, lanes 4], acc)
  acc = fma(broadcast(lane(x_lanes_0_0, 1), 4), w[4, lanes 4], acc)
  acc = fma(broadcast(lane(x_lanes_0_0, 2), 4), w[8, lanes 4], acc)
  acc = fma(broadcast(lane(x_lanes_0_0, 3), 4), w[12, lanes 4], acc)
  let x_lanes_0_2 = x[6*pixel + 2, lanes 4]
  acc = fma(broadcast(lane(x_lanes_0_2, 2), 4), w[16, lanes 4], acc)
  acc = fma(broadcast(lane(x_lanes_0_2, 3), 4), w[20, lanes 4], acc)
}
""".replace("acc)\n}", "acc)\n  y[4*pixel] = acc\n}")


def test_reuse_loads_binds_what_is_read_twice():
    text = body_text(apply_schedule(product(2, 1, 4), ["vectorize{loop=channel,lanes=4}", "jam{loop=pixel}", "unroll{loop=k}", "reuse-loads"]))
    assert text == """var acc_0 = 0.0:f32x4
var acc_1 = 0.0:f32x4
let w_r0 = w[0, lanes 4]
acc_0 = fma(broadcast(x[0], 4), w_r0, acc_0)
acc_1 = fma(broadcast(x[1], 4), w_r0, acc_1)
y[0] = acc_0
y[4] = acc_1
"""


def test_reuse_loads_leaves_buffers_alone_that_the_block_writes():
    source = parse("""function f(y: f32[4] output) { y[0] = 1.0:f32 y[1] = y[0] y[0] = 2.0:f32 y[2] = y[0] }""")
    assert apply_schedule(source, ["reuse-loads"]) == source


def test_hoist_moves_what_does_not_change():
    source = parse("""function f(x: f32[4] input, w: f32[1] input, y: f32[4] output) {
      for i in 0..4 { let a = w[0] let b = x[i] y[i] = mul(a, b) }
    }""")
    assert body_text(apply_schedule(source, ["hoist-invariants{loop=i}"])) == """let a_fixed0 = w[0]
for i in 0..4 {
  let b = x[i]
  y[i] = mul(a_fixed0, b)
}
"""


def test_hoist_declines_where_the_loop_writes_the_buffer():
    source = parse("""function f(y: f32[4] output) { y[0] = 1.0:f32 for i in 1..4 { let a = y[0] y[i] = a } }""")
    assert apply_schedule(source, ["hoist-invariants{loop=i}"]) == source


def test_locals_of_one_name_become_distinct():
    source = parse("""function f(x: f32[2] input, y: f32[2] output) {
      for i in 0..1 { let a = x[i] y[i] = a }
      for i in 1..2 { let a = x[i] y[i] = a }
    }""")
    scheduled = apply_schedule(source, ["unroll{loop=i}"])
    verify(scheduled)
    assert "let a_v2 = x[1]" in to_text(scheduled)


@pytest.mark.parametrize("text, message", [
    ("tile{loop=k}", "needs loop, factor"),
    ("tile{loop=k,factr=2}", "no option 'factr'"),
    ("no-such-pass", "no loop pass"),
    ("tile{loop=k", "no loop pass"),
])
def test_a_bad_schedule_is_refused(text, message):
    with pytest.raises(EdgeccError, match=message) as caught:
        parse_loop_pass(text)
    assert caught.value.code == "E004"


@pytest.mark.parametrize("schedule, message", [
    ("unroll{loop=i}", "cannot be unrolled"),
    ("vectorize{loop=i,lanes=4}", "has extent None"),
])
def test_loops_of_unknown_extent_are_refused(schedule, message):
    source = parse("""function f(n: i64[1] input, y: f32[8] output) { for i in 0..min(8, [n[0]]) { y[i] = 1.0:f32 } }""")
    with pytest.raises(EdgeccError, match=message):
        apply_schedule(source, [schedule])


@pytest.mark.parametrize("size", range(9))
def test_tile_of_a_loop_whose_extent_the_run_decides(size):
    source = parse("""function f(n: i64[1] input, x: f32[8] input, y: f32[8] output) {
      for i in 0..min(8, [n[0]]) { y[i] = add(x[i], 1.0:f32) }
    }""")
    tiled = apply_schedule(source, ["tile{loop=i,factor=3,rest=2}", "unroll{loop=i_inner}"])
    verify(tiled)
    arrays = {"n": np.array([size]), "x": np.arange(8, dtype=np.float32), "y": np.zeros(8, np.float32)}
    run_function(tiled, arrays)
    np.testing.assert_array_equal(arrays["y"], [x + 1 if x < size else 0 for x in range(8)])
    assert "i_rest" in body_text(tiled)


def test_vectorize_refuses_a_sum_over_its_own_loop():
    source = parse("""function f(x: f32[8] input, y: f32[1] output) {
      var acc = 0.0:f32 for i in 0..8 { acc = add(acc, x[i]) } y[0] = acc
    }""")
    with pytest.raises(EdgeccError, match="bound outside"):
        apply_schedule(source, ["vectorize{loop=i,lanes=4}"])


STEPS = (
    "tile{loop=pixel,factor=%d}", "tile{loop=pixel,factor=%d,balanced=1}", "tile{loop=k,factor=%d}", "tile{loop=channel,factor=%d}", "vectorize{loop=channel,lanes=4}",
    "vectorize{loop=channel_inner,lanes=8}", "jam{loop=pixel}", "jam{loop=pixel_inner}", "jam{loop=channel_inner}",
    "unroll{loop=k}", "unroll{loop=k_inner}", "unroll{loop=channel}", "broadcast-by-lane", "reuse-loads",
    "hoist-invariants{loop=pixel}", "hoist-invariants{loop=k}", "pipeline-loads{loop=k,distance=%d}", "pipeline-loads{loop=k_outer,distance=%d}",
)


@settings(max_examples=150)
@given(m=st.integers(1, 7), k=st.integers(1, 9), n=st.integers(1, 13),
       steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 5)), max_size=6))
def test_no_schedule_changes_what_is_computed(m, k, n, steps):
    function = product(m, k, n)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(m * k).astype(np.float32), rng.standard_normal(k * n).astype(np.float32)
    plain = {"x": x, "w": w, "y": np.zeros(m * n, np.float32)}
    run_function(function, plain)
    for step, number in steps:
        try:
            function = apply_schedule(function, [step % number if "%d" in step else step])
        except EdgeccError as error:
            assert error.code == "E900"
    verify(function)
    scheduled = {"x": x, "w": w, "y": np.zeros(m * n, np.float32)}
    run_function(function, scheduled)
    np.testing.assert_array_equal(plain["y"], scheduled["y"])


def test_every_pass_draws_before_and_after():
    for cls in LOOP_PASSES.values():
        if cls.name:
            assert cls.__doc__ and "->" in cls.__doc__, cls


def test_a_parallel_loop_stays_parallel_when_tiled():
    source = parse("""function f(y: f32[8] output) { parallel for i in 0..8 { y[i] = 1.0:f32 } }""")
    loops = [s for s in walk(apply_schedule(source, ["tile{loop=i,factor=4}"]).body) if isinstance(s, For)]
    assert [s.kind for s in loops] == ["parallel", "serial"]


def parallel_loops(text: str, threads: int) -> list[str]:
    function = apply_schedule(parse(text), [f"parallelize{{threads={threads}}}"])
    verify(function)
    return [line for line in body_text(function).splitlines() if line.startswith(("parallel", "for"))]


NEST = """function f(y: f32[{size}] output) {{
  for p in 0..{p} {{
    for r in 0..{r} {{
      y[{r}*p + r] = 1.0:f32
    }}
  }}
}}
"""


@pytest.mark.parametrize(("p", "r", "threads", "loop"), [
    (4, 7, 2, "parallel for p in 0..4 {"),
    (3, 7, 2, "parallel for p_r in 0..21 {"),
    (1, 6, 2, "parallel for p_r in 0..6 {"),
    (3, 3, 4, "parallel for p in 0..3 {"),
    (3, 5, 4, "parallel for p_r in 0..15 {"),
    (1, 1, 2, "for p in 0..1 {"),
])
def test_parallelize_joins_loops_until_threads_get_equal_shares(p, r, threads, loop):
    assert parallel_loops(NEST.format(p=p, r=r, size=p * r), threads) == [loop]


def test_parallelize_leaves_loops_around_several_statements():
    text = """function f(y: f32[12] output) {
      for p in 0..3 { y[4*p] = 1.0:f32 for r in 1..4 { y[4*p + r] = 2.0:f32 } }
    }"""
    assert parallel_loops(text, 2) == ["parallel for p in 0..3 {"]


INSIDE = """function f(x: f32[{size}] input, y: f32[{size}] output) {{
  for p in 0..{p} {{ for q in 0..2 {{ for r in 0..{r} {{ y[{r}*q + {r2}*p + r] = x[{r}*q + {r2}*p + r] }} }} }}
}}
"""


@pytest.mark.parametrize(("p", "r", "threads", "divided"), [
    (4, 6, 2, "for r in 3*share_of_thread..3*share_of_thread + 3"),
    (3, 50, 3, "for r in floordiv(50*share_of_thread, 3)..floordiv(50*share_of_thread + 50, 3)"),
    (4, 5, 2, ""),  # one of two threads would have three of five
])
def test_parallelize_divides_a_loop_inside_others(p, r, threads, divided):
    plain = parse(INSIDE.format(p=p, r=r, r2=2 * r, size=2 * p * r))
    function = apply_schedule(plain, [f"parallelize{{threads={threads},inside=r}}"])
    verify(function)
    text = body_text(function)
    assert text.startswith(f"parallel for share_of_thread in 0..{threads}" if divided else f"parallel for p in 0..{p}")
    assert divided in text
    x, y = np.arange(2 * p * r, dtype=np.float32), np.full(2 * p * r, -1, np.float32)
    run_function(function, {"x": x, "y": y})
    assert np.array_equal(x, y)


@pytest.mark.parametrize(("m", "n", "threads"), [(13, 17, 2), (3, 49, 3), (1, 100, 4), (5, 1, 2)])
def test_parallel_products_compute_the_same(m, n, threads):
    plain = product(m, 7, n)
    divided = apply_schedule(plain, ["tile{loop=pixel,factor=4}", f"parallelize{{threads={threads}}}"])
    verify(divided)
    x, w = np.arange(m * 7, dtype=np.float32), np.arange(7 * n, dtype=np.float32)
    results = []
    for function in (plain, divided):
        y = np.zeros(m * n, np.float32)
        run_function(function, {"x": x, "w": w, "y": y})
        results.append(y)
    assert np.array_equal(*results)


TWO_LOOPS = """function f(x: f32[8] input, s: f32[8] workspace, y: f32[20] output) {{
  for p in 0..8 {{ {first}[p] = x[p] }}
  for q in 0..7 {{ y[8 + q] = {second}[q] }}
  for r in 0..5 {{ y[15 + r] = {second}[r] }}
}}
"""


@pytest.mark.parametrize("threads", (2, 3, 5))
def test_independent_neighbours_are_handed_out_together(threads):
    text = TWO_LOOPS.format(first="y", second="x")
    assert parallel_loops(text, threads) == [f"parallel for part_of_thread in 0..{threads} {{"]
    x, results = np.arange(8, dtype=np.float32), []
    for function in (parse(text), apply_schedule(parse(text), [f"parallelize{{threads={threads}}}"])):
        buffers = {"x": x, "s": np.zeros(8, np.float32), "y": np.full(20, -1, np.float32)}
        run_function(function, buffers)
        results.append(buffers["y"])
    assert np.array_equal(*results)


@pytest.mark.parametrize(("extents", "threads"), [((7, 5), 2), ((9, 9, 9), 2), ((4, 10, 3), 3)])
def test_what_is_left_over_goes_to_different_threads(extents, threads):
    loops = "".join(f"for i{n} in 0..{extent} {{ y[{100 * n} + i{n}] = 1.0:f32 }}" for n, extent in enumerate(extents))
    function = apply_schedule(parse(f"function f(y: f32[1000] output) {{ {loops} }}"), [f"parallelize{{threads={threads}}}"])
    (together,) = function.body
    counts = [0] * threads
    for loop, extent in zip(together.body, extents, strict=True):
        starts = [substitute(loop.start, {together.var: const(part)}).const for part in range(threads)]
        stops = [substitute(loop.stop, {together.var: const(part)}).const for part in range(threads)]
        assert starts == [0, *stops[:-1]] and stops[-1] == extent
        counts = [c + stop - start for c, start, stop in zip(counts, starts, stops, strict=True)]
    assert max(counts) - min(counts) <= 1


def test_loops_that_read_what_their_neighbour_writes_stay_apart():
    assert parallel_loops(TWO_LOOPS.format(first="s", second="s"), 2) == [
        "parallel for p in 0..8 {", "parallel for part_of_thread in 0..2 {"]


def test_parallelize_leaves_sums():
    text = """function f(x: f32[8] input, y: f32[1] output) {
      var acc = 0.0:f32
      for k in 0..8 { acc = add(acc, x[k]) }
      y[0] = acc
    }"""
    assert parallel_loops(text, 2) == ["for k in 0..8 {"]
def test_reuse_loads_carries_nothing_across_a_barrier():
    text = body_text(apply_schedule(parse("""function f(x: f32[4] input, y: f32[16] output) {
      y[0] = mul(x[0], x[1])
      y[1] = mul(x[0], x[2])
      barrier
      y[2] = mul(x[0], x[2])
      y[3] = mul(x[0], x[3])
    }"""), ["reuse-loads"]))
    assert text == """let x_r0 = x[0]
y[0] = mul(x_r0, x[1])
y[1] = mul(x_r0, x[2])
barrier
let x_r1 = x[0]
y[2] = mul(x_r1, x[2])
y[3] = mul(x_r1, x[3])
"""


def test_balanced_blocks_differ_by_one():
    text = body_text(apply_schedule(parse("""function f(x: f32[10] input, y: f32[10] output) {
      for i in 0..10 { y[i] = x[i] }
    }"""), ["tile{loop=i,factor=4,balanced=1}"]))
    assert text == """for i_inner in 0..4 {
  y[i_inner] = x[i_inner]
}
for i_outer in 0..2 {
  for i_inner in 0..3 {
    y[i_inner + 3*i_outer + 4] = x[i_inner + 3*i_outer + 4]
  }
}
"""


def test_copies_share_prefetches_of_the_same_element():
    source = """function f(x: f32[8] input, y: f32[8] output) {
      for p in 0..2 {
        for i in 0..4 {
          prefetch x[100 + p]
          y[4*p + i] = x[4*p + i]
        }
      }
    }"""
    assert body_text(apply_schedule(parse(source), ["vectorize{loop=i,lanes=2}", "jam{loop=p}"])) == """prefetch x[100]
prefetch x[101]
y[0] = x[0, lanes 2]
y[4] = x[4, lanes 2]
y[2] = x[2, lanes 2]
y[6] = x[6, lanes 2]
"""


def test_reuse_loads_forgets_names_that_are_bound_anew():
    text = body_text(apply_schedule(parse("""function f(x: f32[4] input, y: f32[4] output) {
      let a = x[0]
      y[0] = mul(x[0], a)
      let a = x[1]
      y[1] = mul(x[0], a)
      y[2] = mul(x[1], x[0])
    }"""), ["reuse-loads"]))
    assert text == """let a = x[0]
y[0] = mul(a, a)
let a_v2 = x[1]
let x_r0 = x[0]
y[1] = mul(x_r0, a_v2)
y[2] = mul(a_v2, x_r0)
"""
