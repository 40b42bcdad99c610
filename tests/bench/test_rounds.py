"""Who takes turns when, and which turns count, with engines and clocks that are made up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from edgecc.bench.process import EngineError
from edgecc.bench.rounds import Plan, Times, is_quiet, measure


@dataclass
class FakeMachine:
    """Time that only passes when an engine runs, and processor time that others use besides."""

    now: float = 0.0
    busy: float = 0.0
    log: list[str] = field(default_factory=list)


@dataclass
class FakeEngine:
    """An engine whose runs take the given seconds each; `foreign` cores are used by others in the n-th of its turns."""

    machine: FakeMachine
    name: str
    seconds: float
    foreign: dict[int, float] = field(default_factory=dict)
    fails_at: int = -1
    turns: int = 0

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self.machine.log.append(self.name)
        if self.turns == self.fails_at:
            raise EngineError("broken")
        wall = max(request["seconds"], request["least"] * self.seconds)
        self.machine.now += wall
        self.machine.busy += wall * (1 + self.foreign.get(self.turns, 0.0))
        slower = 1 + self.foreign.get(self.turns, 0.0)
        self.turns += 1
        return {"times": [self.seconds * slower] * 3, "cpu_seconds": wall, "wall_seconds": wall, "cpu_total": wall,
                "wall_total": wall, "peak_bytes": 1000 * self.turns}


def plan(**changes: Any) -> Plan:
    return Plan(**{"rounds": 3, "turn_seconds": 0.25, "limit_seconds": 100.0, "threads": 1, "cores": 2, **changes})


def run(machine: FakeMachine, engines: list[FakeEngine], how: Plan) -> list[Times]:
    return measure(engines, how, clock=lambda: machine.now, busy=lambda: machine.busy, pause=lambda _: None)


def test_the_order_turns_round_each_round():
    machine = FakeMachine()
    found = run(machine, [FakeEngine(machine, name, 0.01) for name in "abc"], plan())
    assert "".join(machine.log) == "abccbaabc"
    assert [(t.quiet_turns, t.turns, t.peak_bytes) for t in found] == [(3, 3, 3000)] * 3


def test_disturbed_turns_are_dropped_and_made_again():
    machine = FakeMachine()
    busy = FakeEngine(machine, "a", 0.01, foreign={1: 1.5})
    found = run(machine, [busy, FakeEngine(machine, "b", 0.02)], plan())
    assert "".join(machine.log) == "abbaaba"
    assert (found[0].quiet_turns, found[0].turns) == (3, 4)
    assert found[0].median == found[0].minimum == 0.01 and found[0].spread == 0.0
    assert found[0].disturbed == [0.025] * 3


def test_a_core_left_free_may_be_used_by_others():
    machine = FakeMachine()
    found = run(machine, [FakeEngine(machine, "a", 0.01, foreign=dict.fromkeys(range(9), 1.0))], plan())
    assert (found[0].quiet_turns, found[0].turns) == (3, 3)


def test_waiting_for_quiet_turns_ends():
    machine = FakeMachine()
    found = run(machine, [FakeEngine(machine, "a", 0.01, foreign=dict.fromkeys(range(99), 2.0))], plan(limit_seconds=2.0))
    assert found[0].quiet_turns == 0 and found[0].turns == 8
    assert found[0].median == pytest.approx(0.03)


def test_an_engine_that_fails_has_no_further_turns():
    machine = FakeMachine()
    found = run(machine, [FakeEngine(machine, "a", 0.01, fails_at=1), FakeEngine(machine, "b", 0.01)], plan())
    assert "".join(machine.log) == "abbab"
    assert found[0].error == "broken" and found[1].quiet_turns == 3


ANSWER = {"cpu_seconds": 1.0, "wall_seconds": 1.0, "cpu_total": 2.0, "wall_total": 2.0}


@pytest.mark.parametrize(("used", "changes", "threads", "quiet"), [
    (2.0, {}, 1, True),
    (None, {}, 1, True),
    (4.1, {}, 1, True),
    (4.3, {}, 1, False),
    (None, {"cpu_seconds": 0.9}, 1, False),
    (2.0, {"cpu_seconds": 0.9}, 2, True),
    (2.3, {}, 2, False),
])
def test_is_quiet(used: float | None, changes: dict[str, float], threads: int, quiet: bool):
    assert is_quiet(used, {**ANSWER, **changes}, plan(threads=threads)) is quiet
