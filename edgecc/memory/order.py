"""Orders of the steps: the given one and two that try to keep few bytes alive.

"depth-first" runs what leads to one result before it starts the next, the longer branch of each step
first. "greedy" always runs, among the steps that are ready, the one after which the fewest bytes are
alive. Which order is best is decided by planning with each (edgecc/memory/plan.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from edgecc.memory.lifetime import Needs
from edgecc.memory.placement import Placement

READY_LIMIT = 32
"""Steps the greedy order looks at each time: the earliest of those that are ready. Bounds its time."""


def candidate_orders(placement: Placement, needs: Sequence[Needs]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Named orders, each once; the given order first. All of them respect `Step.after`."""
    found: dict[tuple[int, ...], str] = {}
    for name, order in (("given", tuple(range(len(placement.steps)))), ("depth-first", depth_first(placement)),
                        ("greedy", greedy(placement, needs))):
        found.setdefault(order, name)
    return tuple((name, order) for order, name in found.items())


def depth_first(placement: Placement) -> tuple[int, ...]:
    """Every step directly after what it needs, deeper branches first."""
    depth: list[int] = []
    for step in placement.steps:
        depth.append(1 + max((depth[a] for a in step.after), default=0))
    order: list[int] = []
    state = [0] * len(placement.steps)  # 0: not visited, 1: waits for others, 2: done
    used = {a for step in placement.steps for a in step.after}
    roots = [number for number in range(len(placement.steps)) if number not in used]
    stack = sorted(roots, key=lambda number: (depth[number], -number))
    while stack:
        number = stack[-1]
        if state[number] == 0:
            state[number] = 1
            pending = [a for a in placement.steps[number].after if state[a] == 0]
            stack += sorted(pending, key=lambda a: (depth[a], -a))
            continue
        stack.pop()
        if state[number] == 1:
            state[number] = 2
            order.append(number)
    return tuple(order)


def greedy(placement: Placement, needs: Sequence[Needs]) -> tuple[int, ...]:
    """List scheduling: of the ready steps the one that leaves the fewest bytes alive, then needs the fewest, then is first."""
    touched = [tuple(dict.fromkeys(p.root for p in (*step.inputs, *step.outputs)
                                   if p is not None and placement.roots[p.root].kind == "arena")) for step in placement.steps]
    left = [0] * len(placement.roots)
    for roots in touched:
        for root in roots:
            left[root] += 1
    started = [False] * len(placement.roots)
    missing = [len(step.after) for step in placement.steps]
    users: list[list[int]] = [[] for _ in placement.steps]
    for number, step in enumerate(placement.steps):
        for before in step.after:
            users[before].append(number)
    ready = [number for number, count in enumerate(missing) if count == 0]
    heapq.heapify(ready)
    order: list[int] = []

    def cost(number: int) -> tuple[int, int, int]:
        born = sum(placement.roots[r].size_bytes for r in touched[number] if not started[r])
        dead = sum(placement.roots[r].size_bytes for r in touched[number] if left[r] == 1)
        return born - dead, born + sum(needs[number].workspaces), number

    while ready:
        considered = [heapq.heappop(ready) for _ in range(min(READY_LIMIT, len(ready)))]
        best = min(considered, key=cost)
        for number in considered:
            if number != best:
                heapq.heappush(ready, number)
        order.append(best)
        for root in touched[best]:
            started[root] = True
            left[root] -= 1
        for user in users[best]:
            missing[user] -= 1
            if missing[user] == 0:
                heapq.heappush(ready, user)
    return tuple(order)
