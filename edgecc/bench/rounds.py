"""Interleaved measurement: in every round each engine has one turn, and turns that others disturbed are dropped.

A slow minute of the machine then hits all engines alike, and none of them has the machine warmed up by itself. The order
turns round from one round to the next (A B C, C B A, ...), so that no engine always follows the same one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgecc.bench.machine import busy_seconds
from edgecc.bench.process import EngineError

PAUSE_SECONDS = 0.03
"""Between two turns: threads of the engine before stop waiting actively in that time."""

FOREIGN_CORES = 0.1
"""A turn counts while others used no more than this, beyond the cores the engine leaves free."""

LEAST_SHARE = 0.96
"""With one thread a turn counts if the engine had at least this share of a core."""


class Engine(Protocol):
    """What takes turns: a `Worker` that has loaded its model."""

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request and its answer. Raises: EngineError."""


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        rounds: quiet turns each engine shall have.
        turn_seconds: length of a turn; a turn has at least two runs.
        limit_seconds: after this, no further turns are made in the hope that they are quiet.
        threads: how many the engines use. cores: how many there are.
    """

    rounds: int
    turn_seconds: float
    limit_seconds: float
    threads: int
    cores: int


@dataclass
class Times:
    """Times of one engine so far, in seconds."""

    quiet: list[float] = field(default_factory=list)
    disturbed: list[float] = field(default_factory=list)
    quiet_turns: int = 0
    turns: int = 0
    peak_bytes: int = 0
    error: str = ""

    @property
    def counted(self) -> list[float]:
        """The times that count: those of quiet turns, or all where no turn was quiet."""
        return self.quiet or self.disturbed

    @property
    def minimum(self) -> float:
        """The quickest run of all: others can make a run slower, but not quicker."""
        return min(self.quiet + self.disturbed)

    @property
    def median(self) -> float:
        """Of the times that count."""
        return statistics.median(self.counted)

    @property
    def spread(self) -> float:
        """Distance of the quartiles of the times that count, over their median."""
        if len(self.counted) < 2:
            return 0.0
        low, middle, high = statistics.quantiles(self.counted, n=4)
        return (high - low) / middle


def measure(engines: Sequence[Engine], plan: Plan, *, clock: Callable[[], float] = time.monotonic,
            busy: Callable[[], float | None] = busy_seconds, pause: Callable[[float], None] = time.sleep) -> list[Times]:
    """Gives every engine its turns; an engine that fails has no further ones.

    Args:
        clock, busy, pause: the time, processor time used by the whole machine (None: not known), and waiting.
    """
    times = [Times() for _ in engines]
    end = clock() + plan.limit_seconds
    number = 0
    while True:
        waiting = [i for i, t in enumerate(times) if not t.error and t.quiet_turns < plan.rounds]
        if not waiting or (number >= plan.rounds and clock() >= end):
            return times
        for index in waiting if number % 2 == 0 else reversed(waiting):
            pause(PAUSE_SECONDS)
            _take_turn(engines[index], times[index], plan, busy)
        number += 1


def _take_turn(engine: Engine, times: Times, plan: Plan, busy: Callable[[], float | None]) -> None:
    before = busy()
    try:
        answer = engine.ask({"seconds": plan.turn_seconds, "warm": 0 if times.turns else 2, "least": 2})
    except EngineError as error:
        times.error = str(error)
        return
    after = busy()
    times.turns += 1
    times.peak_bytes = max(times.peak_bytes, answer["peak_bytes"])
    used = None if before is None or after is None else after - before
    if is_quiet(used, answer, plan):
        times.quiet_turns += 1
        times.quiet += answer["times"]
    else:
        times.disturbed += answer["times"]


def is_quiet(used: float | None, answer: dict[str, Any], plan: Plan) -> bool:
    """Whether a turn counts.

    Args:
        used: processor time of the whole machine during the turn, None where that is not known.
        answer: what the worker said of the turn.
    """
    if plan.threads == 1 and answer["cpu_seconds"] < LEAST_SHARE * answer["wall_seconds"]:
        return False
    if used is None:
        return True
    foreign = max(0.0, used - answer["cpu_total"]) / answer["wall_total"]
    return bool(foreign <= plan.cores - plan.threads + FOREIGN_CORES)
