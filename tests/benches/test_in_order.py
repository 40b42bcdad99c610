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
def test_cycles(lines, expected):
    assert cycles(lines, 40) == pytest.approx(expected, abs=0.6)
