"""Neighbouring stores: vectors that saturate to bytes, or whose lanes alternate in memory, leave by one instruction.

Which statements leave together is what the C back end decides (backends/c/saturating.py, interleaved_stores.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgecc.backends.c.interleaved_stores import groups_of, joined_parts
from edgecc.backends.c.saturating import Run, low_bits, runs_of
from edgecc.backends.c.table import Key
from edgecc.backends.llvm import memory
from edgecc.backends.llvm.expression import ExpressionWriter
from edgecc.backends.llvm.machine import Machine
from edgecc.backends.llvm.memory import joined, permuted
from edgecc.backends.llvm.saturating import saturated, saturated_low, turned
from edgecc.backends.llvm.types import suffix, vector_of
from edgecc.ir.types import DType
from edgecc.loop.ir import Store

_OPERATIONS = frozenset({"store_saturated", "store_turned", "store_low", "store_low_plus", "store_interleaved"})


def joins(machine: Machine) -> Callable[[str, DType, int], bool]:
    """Whether a machine has an operation that stores vectors together; vectors in two registers have none."""
    def has_row(op: str, dtype: DType, lanes: int) -> bool:
        return op.partition(":")[0] in _OPERATIONS and not machine.isa.is_pair(dtype, lanes) and Key(op, dtype, lanes) in machine.isa.rows
    return has_row


def write_stores(printer: ExpressionWriter, stores: Sequence[Store]) -> None:
    """Writes neighbouring statements, in an order of its own."""
    has_row = joins(printer.w.machine)
    alone: list[Store] = []
    for group in groups_of(stores, has_row):
        if len(group) == 1:
            alone += group
        else:
            _interleaved(printer, group)
    for run in runs_of(alone, has_row):
        if isinstance(run, Run):
            _run(printer, run, has_row)
        else:
            text, value = printer.expr(run.value), run.value
            memory.store(printer.w, value.dtype, value.lanes, printer.pointer(run.buffer, run.index), text, run.valid or value.lanes, run.stride)


def _interleaved(printer: ExpressionWriter, group: Sequence[Store]) -> None:
    """One store of vectors with alternating lanes (ST2, ST3, ST4; shuffles of x86-64, which LLVM finds)."""
    w, first = printer.w, group[0]
    dtype, count = first.value.dtype, first.stride
    lanes = first.value.lanes * len(group) // count
    if len(group) == count:
        vectors = [printer.expr(store.value) for store in group]
    else:
        vectors = [_bytes(printer, op, dtype, first.value.lanes, [printer.expr(part) for part in parts]) for op, parts in joined_parts(group)]
    element = "half" if dtype is DType.F16 else "i8"
    kind = vector_of(element, lanes)
    if w.machine.architecture == "x86_64":
        held = joined(w, element, lanes, [*vectors, *(["poison"] if count == 3 else [])])
        mixed = permuted(w, element, lanes * (4 if count == 3 else count), held, [place % count * lanes + place // count for place in range(lanes * count)])
        w.emit(f"store {vector_of(element, lanes * count)} {mixed}, ptr {printer.pointer(first.buffer, first.index)}, align 1")
        return
    w.call_void(f"llvm.aarch64.neon.st{count}.{suffix(kind)}.p0", *((kind, vector) for vector in vectors),
                ("ptr", printer.pointer(first.buffer, first.index)))


def _bytes(printer: ExpressionWriter, op: str, dtype: DType, lanes: int, values: Sequence[str]) -> str:
    return turned(printer.w, lanes, values) if op.endswith("turned") else saturated(printer.w, lanes, values, signed=dtype.is_signed)


def _run(printer: ExpressionWriter, run: Run, has_row: Callable[[str, DType, int], bool]) -> None:
    w, first, short = printer.w, run.first, low_bits(run)
    dtype, lanes = first.value.dtype, first.value.lanes
    if short is not None and has_row(f"store_low:{len(short.words)}", dtype, lanes):
        words, offset = [printer.expr(word) for word in short.words], ""
        if short.offset is not None:
            number = w.convert("trunc", "i32", printer.scalar(short.offset), "i16")
            offset = memory.broadcast(w, "i16", number, lanes * len(words))
        found = saturated_low(w, words, offset, signed=dtype.is_signed)
    else:
        found = _bytes(printer, run.row.partition(":")[0], dtype, lanes, [printer.expr(value) for value in run.values])
    w.emit(f"store {vector_of('i8', lanes * len(run.values))} {found}, ptr {printer.pointer(first.buffer, first.index)}, align 1")
