"""Checks of indices that are computed at run time: one pass over them before the kernel that uses them."""

from __future__ import annotations

from typing import NamedTuple

from edgecc.backends.c.checks import INDEX_STATUS, open_dims
from edgecc.backends.llvm.sizes import Sizes, dim_value
from edgecc.backends.llvm.types import memory_type
from edgecc.backends.llvm.writer import Shared, Writer
from edgecc.ir.dims import Dim, SymbolicDim
from edgecc.loop.module import IndexRange, Module


class IndexChecks:
    """The functions that look at indices, each once, in order of first use."""

    status = INDEX_STATUS

    def __init__(self, module: Module, shared: Shared) -> None:
        self._module, self._shared = module, shared
        self._names: dict[IndexRange, str] = {}

    def call(self, w: Writer, address: str, indices: IndexRange, sizes: Sizes) -> str:
        """An i1: whether all indices at `address` are in range."""
        name = self._names.setdefault(indices, f"indices_fit_{len(self._names)}")
        arguments = [("i64", dim_value(w, dim, sizes)) for dim in open_dims(indices)]
        return w.call(name, "i1", ("ptr", address), *arguments, internal=True)

    @property
    def definitions(self) -> list[str]:
        """The functions."""
        return [_definition(self._shared, name, indices) for indices, name in self._names.items()]


class _Loop(NamedTuple):
    """A loop over an axis: its counter and what was found so far, with the places of their phis, and its blocks."""

    counter: str
    before: str
    count_place: int
    wrong: str
    wrong_place: int
    first: str
    head: str
    done: str


def _definition(shared: Shared, name: str, indices: IndexRange) -> str:
    """A function that is true where all indices fit; the loops have no exit, so that they can be vectorized."""
    w, dims = Writer(shared), open_dims(indices)
    signed, element = indices.dtype.is_signed, memory_type(indices.dtype)

    def extent(dim: Dim) -> str:
        return f"%n{dims.index(dim)}" if isinstance(dim, SymbolicDim) else str(dim)

    size = extent(indices.size)
    least = w.op("sub", "i64", "0", size) if signed else ""
    loops: list[_Loop] = []
    position, wrong = str(indices.offset), "false"
    for axis, (dim, stride) in enumerate(indices.axes):
        head, body, done = (w.fresh(f"{part}{axis}") for part in ("loop", "body", "done"))
        before = w.block
        w.emit(f"br label %{head}")
        w.start(head)
        count, place = f"%{w.fresh(f'i{axis}')}", w.reserve()
        found, slot = f"%{w.fresh('wrong')}", w.reserve()
        w.emit(f"br i1 {w.op('icmp slt', 'i64', count, extent(dim))}, label %{body}, label %{done}")
        w.start(body)
        loops.append(_Loop(count, before, place, found, slot, wrong, head, done))
        wrong = found
        position = w.op("add", "i64", position, w.op("mul", "i64", count, str(stride)))
    value = w.let(f"load {element}, ptr {w.let(f'getelementptr {element}, ptr %memory, i64 {position}')}")
    index = w.convert("sext" if signed else "zext", element, value, "i64")
    outside = w.op("icmp sge" if signed else "icmp uge", "i64", index, size)
    if signed:
        outside = w.op("or", "i1", outside, w.op("icmp slt", "i64", index, least))
    wrong = w.op("or", "i1", wrong, outside)
    for loop in reversed(loops):
        following = w.op("add", "i64", loop.counter, "1")
        w.emit(f"br label %{loop.head}")
        w.fill(loop.count_place, f"{loop.counter} = phi i64 [ 0, %{loop.before} ], [ {following}, %{w.block} ]")
        w.fill(loop.wrong_place, f"{loop.wrong} = phi i1 [ {loop.first}, %{loop.before} ], [ {wrong}, %{w.block} ]")
        wrong = loop.wrong
        w.start(loop.done)
    w.emit(f"ret i1 {w.op('xor', 'i1', wrong, 'true')}")
    parameters = "".join(f", i64 %n{number}" for number in range(len(dims)))
    return f"; whether all of these are indices of an axis of {indices.size}\ndefine internal i1 @{name}(ptr %memory{parameters}) nounwind {{\n{w.text}}}\n"
