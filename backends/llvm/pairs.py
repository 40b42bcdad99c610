"""Instructions on vectors twice as long as registers: done on both halves. What LLVM knows by itself it splits by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgecc.backends.llvm.memory import part
from edgecc.backends.llvm.types import vector_of
from edgecc.backends.llvm.writer import Writer


def in_halves(w: Writer, lanes: int, args: Sequence[tuple[str, str]], result: str, do: Callable[[list[str]], str]) -> str:
    """`do` on the lower and the upper half of each of `args`, pairs of an element type and a vector; `result` is its element type."""
    half = lanes // 2
    low, high = (do([part(w, element, lanes, value, start, half) for element, value in args]) for start in (0, half))
    kind, order = vector_of(result, half), ", ".join(f"i32 {lane}" for lane in range(lanes))
    return w.let(f"shufflevector {kind} {low}, {kind} {high}, <{lanes} x i32> <{order}>")
