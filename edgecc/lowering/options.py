"""How a graph is lowered: what a caller may ask of kernels, memory and checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from edgecc.frontend.limits import DEFAULT_LIMITS
from edgecc.lowering.functions import Room
from edgecc.memory.depth_first import Limits
from edgecc.targets.precision import FP32

NO_TUNING: Mapping[str, str] = MappingProxyType({})
STRING_BYTES = 2**16
"""Room for the text of strings that a run makes, unless the caller wants another."""
MOST_STRING_BYTES = 2**31
STANDARD_ROOM = Room.within(DEFAULT_LIMITS)


@dataclass(frozen=True)
class LoweringOptions:
    """How a graph is lowered.

    Attributes:
        threads: how many threads parallel loops are divided among.
        precision: the shortest float type that arithmetic may be done in, one of `PRECISIONS` (targets/precision.py).
        depth_first: whether chains may run stripe by stripe. With several threads none does: they divide whole maps.
        limits: of depth-first blocks, instead of the target's.
        winograd: whether convolutions may be computed by Winograd's algorithm, with larger rounding errors.
        tuning: names of candidates by signature of the request (edgecc/kernels/request.py); others are chosen by the model.
        checks: what becomes of indices computed at run time that are out of range: "off", "trap" or "clamp".
        string_bytes: room for the text of strings that a run makes.
        room: how much code there may be, and how many kernels.
        verified: whether every function is verified before and after its schedule.
    """

    threads: int = 1
    precision: str = FP32
    depth_first: bool = True
    limits: Limits | None = None
    winograd: bool = True
    tuning: Mapping[str, str] = field(default_factory=lambda: NO_TUNING)
    checks: str = "trap"
    string_bytes: int = STRING_BYTES
    room: Room = STANDARD_ROOM
    verified: bool = False


DEFAULT_LOWERING = LoweringOptions()
