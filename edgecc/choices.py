"""Why a compiled network computes each call the way it does: the candidates there were and what the cost model thinks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from edgecc.kernels.registry import candidates
from edgecc.kernels.request import Request, signature
from edgecc.loop.ir import For
from edgecc.lowering import LoweredModel
from edgecc.lowering.cycles import calls_cycles
from edgecc.lowering.options import NO_TUNING
from edgecc.lowering.precision import INTEGERS, LayerPrecision
from edgecc.ops.rules import NARROW_INTEGERS

NARROW = frozenset(dtype.value for dtype in NARROW_INTEGERS)
REASONS: Mapping[str, str] = MappingProxyType({
    "conv": "products of integers are summed as such: no choice was asked for, or it is inside of a loop or branch",
    "matmul": "products of integers are summed as such: no choice was asked for, or it is inside of a loop or branch",
    "elementwise": "arithmetic is in f32 registers either way; operands and results of floats would be four times the bytes",
    "gather": "a table, for a function that machines approximate differently in float",
    "reduce": "sums and extrema of integers are exact in any order; floats would be four times the bytes",
})
OTHERWISE = "elements are moved or compared as they are; floats would be four times the bytes"
"""Why layers between whose forms there is no choice are computed on integers, by operator."""

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


def precisions_of(choices: Sequence[Choice], chosen: Sequence[LayerPrecision]) -> tuple[LayerPrecision, ...]:
    """How every layer of a quantized network is computed, and why, in the order of the run.

    Args: chosen: those between whose forms there was a choice; the others read integers, and are told here.
    """
    by_node = {node: layer for layer in chosen for node in layer.nodes[:1]}
    found: dict[LayerPrecision, None] = {}
    for choice in choices:
        own = [by_node[node] for node in choice.nodes if node in by_node]
        if not own and choice.types.partition(" ")[0] in NARROW:
            own = [LayerPrecision(choice.nodes, choice.op, INTEGERS, choice.cycles, 0.0, 0.0, REASONS.get(choice.op, OTHERWISE))]
        found.update(dict.fromkeys(own))
    return tuple(found)


def _types(request: Request | None) -> str:
    """What a kernel reads and writes; "" where there is no single request behind it."""
    if request is None or not request.outputs:
        return ""
    first = next((operand.view.dtype for operand in request.inputs if operand is not None and not operand.is_constant), None)
    result = request.outputs[0].dtype
    return result.value if first is None or first is result else f"{first.value} to {result.value}"
