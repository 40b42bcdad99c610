"""Cycles of a loop on Cortex-A53 and A55 by their issue rules, for what llvm-mca's models leave out.

Two instructions start in a cycle, in program order, when their operands are there. A vector instruction
of 128 bits takes the first slot. A load of 128 bits starts alone and keeps the first slot busy for one
more cycle, so that no vector multiply-add starts in these two; one load of up to 64 bits starts a cycle. So do stores of 128 bits on
Cortex-A53; on Cortex-A55 they take a cycle, though not two neighbouring ones. On
Cortex-A55 that and an insertion into a vector start beside anything; on Cortex-A53 each takes one of the two pipes of 64 bits
that a multiply-add of 128 bits needs, so that two of them start together, but none beside a multiply-add. Sources: gcc/config/arm/cortex-a53.md (contributed by Arm) for the slots and latencies;
ncnn's docs/developer-guide/arm-a53-a55-dual-issue.md, measured, and the model of Cortex-A55 of
slothy-optimizer/slothy, checked on hardware, agree on the two cycles of a 128-bit load; ncnn's measurements for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

REGISTER = re.compile(r"\b([vqdswx])(\d+)\b")


ACCUMULATING = frozenset({"fmla", "fmls", "sdot", "udot", "smlal", "smlal2", "smlsl", "smlsl2", "umlal", "umlal2", "sadalp", "uadalp", "mla"})


@dataclass(frozen=True)
class Instruction:
    """What the rules need: registers written and read, cycles until the result, slots."""

    writes: frozenset[str]
    reads: frozenset[str]
    latency: int
    first_slot: bool
    loads: int
    is_half: bool = False
    """Whether half a vector is loaded or inserted."""
    is_store: bool = False


def decode(line: str) -> Instruction:
    """One line of AArch64 assembly. Registers are named by file and number, whatever part of them is used."""
    name, _, rest = line.partition(" ")
    operands, _, address = rest.partition("[") if name.startswith(("ld", "st")) else (rest, "", "")
    found = [("v" if file in "vqds" else "x") + number for file, number in REGISTER.findall(operands)]
    pointers = frozenset("x" + number for _, number in REGISTER.findall(address))
    wide = bool(re.search(r"\bq\d|\.(4s|16b|2d|8h)", operands))
    if name.startswith("ld"):
        updates = pointers if line.rstrip().endswith("!") or "]," in line else frozenset()
        return Instruction(frozenset(found) | updates, pointers, 4 if wide or "x" in operands else 3, wide, len(found) if wide else 1,
                           is_half=operands.startswith("d"))
    if name.startswith("st"):
        return Instruction(frozenset(), frozenset(found) | pointers, 1, wide, len(found), is_store=True)
    writes = frozenset(found[:1]) if name not in ("cmp", "b") and not name.startswith(("b.", "cb", "tb")) else frozenset()
    if name in ("ins", "mov") and "[" in operands.split(",")[0]:
        return Instruction(writes, frozenset(found), 2, wide, 0, is_half=True)
    accumulates = name in ACCUMULATING
    return Instruction(writes, frozenset(found if accumulates else found[1:] if writes else found), 4 if wide or accumulates else 1, wide, 0)


def cycles(lines: Sequence[str], iterations: int = 8, *, target: str = "cortex-a55") -> float:
    """Cycles of one iteration of a loop whose branch is predicted, on Cortex-A53 or A55."""
    body = [decode(line) for line in lines]
    ready: dict[str, int] = {}
    now = slots = first_busy = load_busy = store_busy = pipes = 0
    starts = []
    for _ in range(iterations):
        starts.append(now)
        for instruction in body:
            earliest = max([now, *(ready.get(register, 0) for register in instruction.reads)])
            quick_store = instruction.is_store and instruction.first_slot and target == "cortex-a55"
            vector_load = instruction.loads > 0 and instruction.first_slot and not quick_store
            needs = 2 if instruction.first_slot else int(instruction.is_half and target == "cortex-a53")
            while True:
                if earliest > now:
                    now, slots, pipes = earliest, 0, 0
                busy = slots == 2 or pipes + needs > 2 or (vector_load and slots) or (
                    store_busy > now if quick_store else instruction.loads and load_busy > now)
                if not busy and not (instruction.first_slot and first_busy > now):
                    break
                earliest = now + 1
            if vector_load:
                slots, first_busy, load_busy = 2, now + 2 * instruction.loads, now + 2 * instruction.loads
            elif quick_store:
                slots, first_busy, store_busy = slots + 1, now + instruction.loads, now + 2 * instruction.loads
            else:
                slots += 1
                first_busy = now + 1 if instruction.first_slot else first_busy
                load_busy = now + 1 if instruction.loads else load_busy
            pipes += needs
            for register in instruction.writes:
                ready[register] = now + instruction.latency
    return (starts[-1] - starts[1]) / (iterations - 2)
