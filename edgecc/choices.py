"""Why a compiled network computes each call the way it does: the candidates there were and what the cost model thinks of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgecc.kernels.base import Request, candidates, signature
from edgecc.loop.ir import For
from edgecc.lowering import NO_TUNING, LoweredModel
from edgecc.lowering.cycles import calls_cycles

ONLY, MODELLED, MEASURED = "only way", "cost model", "measured"


@dataclass(frozen=True)
class Choice:
    """One call.

    Attributes:
        position: in the order of the run, from 0.
        nodes: the user's nodes it stands for; the value's name where there are none.
        op, kernel: the operator and the function.
        types: the element types of what it reads first and of its result: "i8", "f32 to u8".
        candidate: the name of what was chosen, "" where there is one way only.
        decided: `ONLY`, `MODELLED` or `MEASURED` (by a tuning file).
        reason: why the kernel looks as it does.
        cycles: modelled, of one run.
        share: of `cycles` in the sum over all calls.
        alternatives: the other candidates with their modelled cycles, the cheapest first.
        threads: how many share the work.
    """

    position: int
    nodes: tuple[str, ...]
    op: str
    kernel: str
    types: str
    candidate: str
    decided: str
    reason: str
    cycles: float
    share: float
    alternatives: tuple[tuple[str, float], ...]
    threads: int


def choices_of(lowered: LoweredModel, tuning: Mapping[str, str] = NO_TUNING) -> tuple[Choice, ...]:
    """Every call in the order of the run. `tuning` is what the network was lowered with."""
    counted = calls_cycles(lowered)
    modelled = [call.kernel.cycles or cycles for call, cycles in zip(lowered.calls, counted, strict=True)]
    total = sum(modelled) or 1.0
    divided = {function.name for function in lowered.module.functions
               if any(isinstance(statement, For) and statement.kind == "parallel" for statement in function.body)}
    ways: dict[Request, tuple[tuple[str, float], ...]] = {}
    found = []
    for position, (call, cycles) in enumerate(zip(lowered.calls, modelled, strict=True)):
        kernel, request = call.kernel, call.kernel.request
        if request is not None and request not in ways:
            ways[request] = tuple((candidate.name, candidate.cycles) for candidate in candidates(request))
        others = () if request is None else tuple(way for way in ways[request] if way[0] != kernel.candidate)
        measured = request is not None and tuning.get(signature(request)) == kernel.candidate
        decided = ONLY if not others else MEASURED if measured else MODELLED
        found.append(Choice(position, call.loc or (call.name,), call.op, call.function, _types(request), kernel.candidate, decided,
                            call.choice, cycles, cycles / total, others, lowered.module.threads if call.function in divided else 1))
    return tuple(found)


def _types(request: Request | None) -> str:
    """What a kernel reads and writes; "" where there is no single request behind it."""
    if request is None or not request.outputs:
        return ""
    first = next((operand.view.dtype for operand in request.inputs if operand is not None and not operand.is_constant), None)
    result = request.outputs[0].dtype
    return result.value if first is None or first is result else f"{first.value} to {result.value}"
