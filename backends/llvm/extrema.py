"""Minimum and maximum as x86-64 has them: the first operand where it is smaller or larger, else, NaN included, the second one."""

from __future__ import annotations

from edgecc.backends.llvm.machine import Machine
from edgecc.backends.llvm.types import vector_of
from edgecc.backends.llvm.writer import Writer

_INSTRUCTIONS = {"<4 x float>": "sse.{}.ps", "<8 x float>": "avx.{}.ps.256", "<16 x float>": "avx512.{}.ps.512",
                 "<4 x double>": "avx.{}.pd.256", "<8 x double>": "avx512.{}.pd.512"}
"""Intrinsics by the type of their vectors."""


def has_extrema(machine: Machine, kind: str) -> bool:
    """Whether they are instructions on vectors of a type."""
    return kind in _INSTRUCTIONS and machine.isa.name in ("avx2", "avx512")


def extremum(w: Writer, name: str, kind: str, first: str, second: str) -> str:
    """What MINPS ("min") and MAXPS ("max") give."""
    if has_extrema(w.machine, kind):
        # By name: selects by two comparisons would be joined to one select by an `or` of masks.
        instruction = _INSTRUCTIONS[kind]
        rounding = [("i32", "4")] if "512" in instruction else []
        return w.call(f"llvm.x86.{instruction.format(name)}", kind, (kind, first), (kind, second), *rounding)
    mask = "i1" if not kind.startswith("<") else vector_of("i1", int(kind[1:].split(maxsplit=1)[0]))
    return w.select(mask, w.op("fcmp olt" if name == "min" else "fcmp ogt", kind, first, second), kind, first, second)
