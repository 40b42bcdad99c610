"""C types of the operations that have a helper function: of its result, and of its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase

from edgecc.backends.c import microcontroller, paired_sums
from edgecc.backends.c.isa import Isa
from edgecc.backends.c.table import STORAGE, Key
from edgecc.ir.scalar import PRIMITIVES
from edgecc.ir.types import DType
from edgecc.loop.dot import DOTS
from edgecc.loop.narrow import TABLE_PARTS

COMPARISONS = frozenset(name for name, primitive in PRIMITIVES.items() if primitive.result == "bool")
"""Primitives whose result is a bool."""

_ARITY = {"fma": 3, "min_const": 2, "max_const": 2, "normalize": 1}


@dataclass(frozen=True)
class Signature:
    """C types of a function: of its result, and of its parameters in order."""

    result: str
    parameters: tuple[str, ...]

    def declaration(self, name: str) -> str:
        """The head of a function: its parameters are called a, b, c ..."""
        listed = [f"{ctype}{'' if ctype.endswith('*') else ' '}{letter}" for ctype, letter in zip(self.parameters, ascii_lowercase, strict=False)]
        return f"static inline {self.result} {name}({', '.join(listed)})"


def signature(isa: Isa, key: Key) -> Signature:
    """The C types of an operation (see edgecc/backends/c/table.py for the names) on an instruction set."""
    for family in (_across, _memory, _stores_of_bytes, _products, _bytes, _lanes):
        found = family(isa, key)
        if found is not None:
            return found
    value = isa.type_name(key.dtype, key.lanes)
    result = isa.type_name(DType.BOOL, key.lanes) if key.op in COMPARISONS else value
    return Signature(result, (value,) * (_ARITY.get(key.op) or PRIMITIVES[key.op].arity))


def _across(isa: Isa, key: Key) -> Signature | None:
    """The product whose sum is one number, of cores that have vectors of groups and of nothing else."""
    if key.op != microcontroller.DOT_ACROSS:
        return None
    groups, total = isa.type_name(DType.U32, key.lanes), isa.type_name(key.dtype, 1)
    return Signature(total, (groups, groups, total))


def _memory(isa: Isa, key: Key) -> Signature | None:
    """Loads and stores of elements. A scalar load is given the element, others its address."""
    op, dtype, lanes = key
    value, memory = isa.type_name(dtype, lanes), STORAGE[dtype]
    match op.split(":")[0]:
        case "load":
            return Signature(value, (f"const {memory} *" if lanes > 1 else memory,))
        case "gather":
            return Signature(value, (f"const {memory} *", "ptrdiff_t"))
        case "scatter":
            return Signature("void", (f"{memory} *", "ptrdiff_t", value))
        case "store":
            return Signature("void", (f"{memory} *", value))
        case "group":
            return Signature("uint32_t", (f"const {memory} *",))
        case "groups":
            return Signature(isa.type_name(DType.U32, lanes), (f"const {memory} *",))
        case "bytes":
            return Signature(isa.bytes_type(dtype, lanes), (f"const {memory} *",))
    return None


def _stores_of_bytes(isa: Isa, key: Key) -> Signature | None:
    """Stores of several vectors at once."""
    op, dtype, lanes = key
    kind, _, count = op.partition(":")
    value, words, memory = isa.type_name(dtype, lanes), isa.type_name(DType.I32, lanes), f"{STORAGE[dtype]} *"
    match kind:
        case "store_words":
            return Signature("void", ("uint32_t *", *(value,) * 4))
        case "store_low" | "store_saturated" | "store_turned":
            return Signature("void", (memory, *(words,) * int(count)))
        case "store_low_plus":
            return Signature("void", (memory, *(words,) * int(count), "int16_t"))
        case "store_interleaved":
            held = isa.register_of_bytes(dtype, lanes) if dtype.size == 1 else value
            return Signature("void", (memory, *(held,) * int(count)))
    return None


def _products(isa: Isa, key: Key) -> Signature | None:
    """Grouped products, whose factors are words of several elements, and their sums."""
    op, dtype, lanes = key
    groups, value = isa.type_name(DType.U32, lanes), isa.type_name(dtype, lanes)
    match op.split(":")[0]:
        case dot if dot in DOTS:
            return Signature(value, (groups, groups, value))
        case "split_sums":
            return Signature(paired_sums.PAIR, (value,))
        case "dot_s8_short_pair":
            return Signature(paired_sums.PAIR, (groups, groups, paired_sums.PAIR))
        case "dot_s8_short_twice":
            return Signature(paired_sums.PAIR, (*(groups,) * 4, paired_sums.PAIR))
    return None


def _bytes(isa: Isa, key: Key) -> Signature | None:
    """Bytes that change their places, or are made of words."""
    op, dtype, lanes = key
    groups, value, words = isa.type_name(DType.U32, lanes), isa.type_name(dtype, lanes), isa.type_name(DType.I32, lanes)
    match op.split(":")[0]:
        case "interleave_pair":
            return Signature("uint32x4x2_t", (isa.bytes_type(dtype, lanes),) * 4)
        case "interleave_half":
            return Signature(groups, (isa.bytes_type(dtype, 2 * lanes),) * 4)
        case "interleave":
            return Signature(groups, (isa.bytes_type(dtype, lanes),) * 4)
        case "join_words":
            return Signature(groups, (isa.bytes_type(dtype, lanes),) * 2)
        case "lookup":
            return Signature(value, (value,) * 5)
        case "lookup_groups":
            return Signature(value, (value,) * (TABLE_PARTS + 1))
        case "max_s8" | "max_u8":
            return Signature(value, (value,) * 2)
        case "nearest" | "converted" | "rounded":
            return Signature(words, (value,))
        case "saturated" | "turned":
            return Signature(isa.register_of_bytes(dtype, 4 * lanes), (words,) * 4)
        case "to_bits":
            return Signature("uint16_t", (value,))
    return None


def _lanes(isa: Isa, key: Key) -> Signature | None:
    """Between scalars and vectors, and between types."""
    op, dtype, lanes = key
    kind, _, detail = op.partition(":")
    scalar, value = isa.type_name(dtype, 1), isa.type_name(dtype, lanes)
    match kind:
        case "broadcast":
            return Signature(value, (scalar,))
        case "cast" | "bitcast":
            return Signature(isa.type_name(DType(detail), lanes), (value,))
        case "lane" | "horizontal":
            return Signature(scalar, (value,))
        case "round_odd":
            return Signature("float", (value,))
        case "select":
            return Signature(value, (isa.type_name(DType.BOOL, lanes), value, value))
    return None
