"""The issue rules of cores that execute in order, on loops whose cycles the sources of the rules state."""

import pytest

from benches.in_order import cycles

FMLA = [f"fmla v{i}.4s, v30.4s, v31.s[0]" for i in range(12)]


@pytest.mark.parametrize(("lines", "expected"), [
    (FMLA, 12),  # one 128-bit multiply-add a cycle
    (["fmla v0.4s, v30.4s, v31.s[0]"], 4),  # onto one accumulator: one every four cycles
    ([*FMLA, "ldr q28, [x0]"], 14),  # a 128-bit load keeps multiply-adds out of two cycles
    ([*FMLA, "ldp q28, q29, [x0]"], 16),
    ([FMLA[0], "ldr d28, [x0]", *FMLA[1:]], 12),  # one of 64 bits goes beside them
    ([FMLA[0], "add x1, x1, #16", *FMLA[1:]], 12),
    (["ldr q28, [x0]", "fmla v0.4s, v28.4s, v31.s[0]", *FMLA[1:]], 16),  # four cycles until the load's use, then the others
    (["add x0, x0, #16", "add x1, x1, #16"], 1),
    (["add x0, x0, #16", "add x0, x0, #16"], 2),
])
@pytest.mark.parametrize("target", ["cortex-a53", "cortex-a55"])
def test_cycles(lines, expected, target):
    wait = target == "cortex-a53" and any(line.startswith("ldr d") for line in lines)
    assert cycles(lines, 40, target=target) == pytest.approx(expected + wait, abs=0.6)


@pytest.mark.parametrize(("target", "alternating", "side_by_side"), [("cortex-a55", 12, 15), ("cortex-a53", 16, 16)])
def test_stores_of_vectors(target, alternating, side_by_side):
    """slothy's model of Cortex-A55: a cycle each, and none in the one behind; gcc's of Cortex-A53: two cycles."""
    sums, stores = FMLA[:8], [f"str q{i + 16}, [x0, #{16 * i}]" for i in range(4)]
    apart = [line for i in range(4) for line in (stores[i], *sums[2 * i:2 * i + 2])]
    assert cycles(apart, 40, target=target) == pytest.approx(alternating, abs=0.6)
    assert cycles([*stores, *sums], 40, target=target) == pytest.approx(side_by_side, abs=0.6)


HALVES = ["ldr d28, [x0]", "ldr x1, [x0, #8]", "ins v28.d[1], x1"]


@pytest.mark.parametrize(("target", "expected"), [("cortex-a55", 12), ("cortex-a53", 14)])
def test_a_vector_in_halves(target, expected):
    """ncnn: half a vector and an insertion each start beside a multiply-add on Cortex-A55, in a cycle of their own on Cortex-A53."""
    lines = [*FMLA[:2], HALVES[0], *FMLA[2:4], HALVES[1], *FMLA[4:9], HALVES[2], *FMLA[9:]]
    assert cycles(lines, 40, target=target) == pytest.approx(expected, abs=0.6)
    together = [*FMLA[:2], "ldr x1, [x0, #8]", *FMLA[2:9], "ldr d29, [x0, #16]", "ins v28.d[1], x1", *FMLA[9:]]
    assert cycles(together, 40, target=target) == pytest.approx(12 + (target == "cortex-a53"), abs=0.6)
