"""Operations around integers of 8 bits that machines have instructions for, and that are no lane-by-lane primitive.

    Op("interleave", (a, b, c, d), u32)   bytes a, b, c, d as one group of four, the first in the lowest bits (edgecc/loop/dot.py)
    Op("join_words", (a, b), u32)         bytes a, b, widened to words, as one group of two
    Op("nearest", (x,), i32)              x, an f32 of magnitude below 2**31, rounded to the nearest integer, ties to even
    Op("lookup", (a, b, c, d, x), u8)     byte x of the table of 256 bytes that a, b, c and d hold one after the other
    Op("lookup_groups", (t0 .. t15, x), u32)   groups of four bytes: for each byte of x that of a table of 256, of which each t holds 16

    Op("max_s8", (a, b), u32)             groups of four signed bytes: the larger of each two bytes; "max_u8" of unsigned ones

Operands of "interleave" and "join_words" are i8 or u8, all of one type; each lane of the result is a group of its own. Whoever writes
"nearest" knows that the operand is in range: nothing is said of others, which machines convert in different ways.
A "lookup" has LOOKUP_LANES lanes: vectors of bytes that lie side by side in registers, which nothing else computes with. Every 128 bits of a
part of the table of a "lookup_groups" hold the same 16 bytes, as machines look up within 128 bits.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecc.ir.types import Array, DType

BYTES = (DType.I8, DType.U8)

LOOKUP_LANES = 64
"""Lanes of a lookup: the table is four vectors."""

TABLE_PARTS, PART_LANES = 16, 4
"""Parts of the table of a lookup of groups, and the groups in one of them, which are repeated."""


@dataclass(frozen=True)
class Narrow:
    """One operation: the types its operands may have (all the same one), how many there are, and the type of the result."""

    operands: tuple[DType, ...]
    arity: int
    result: DType


NARROW: Mapping[str, Narrow] = types.MappingProxyType({
    "interleave": Narrow(BYTES, 4, DType.U32), "join_words": Narrow(BYTES, 2, DType.U32), "nearest": Narrow((DType.F32,), 1, DType.I32),
    "lookup": Narrow((DType.U8,), 5, DType.U8), "lookup_groups": Narrow((DType.U32,), TABLE_PARTS + 1, DType.U32),
    "max_s8": Narrow((DType.U32,), 2, DType.U32), "max_u8": Narrow((DType.U32,), 2, DType.U32)})
"""The operations there are."""


def meaning(op: str, args: tuple[Any, ...]) -> Array:
    """What an operation of `NARROW` computes, on arrays or scalars."""
    if op == "nearest":
        rounded = np.rint(np.asarray(args[0], np.float32))
        if not (np.abs(rounded) <= 2.0**31).all():
            raise ValueError(f"nearest: {rounded} is out of range")
        return np.asarray(rounded.astype(np.int64).astype(np.int32))
    if op == "lookup":
        *table, places = args
        return np.asarray(np.concatenate(table)[places])
    if op == "lookup_groups":
        *parts, groups = (np.ascontiguousarray(np.asarray(arg, np.uint32)) for arg in args)
        entries = np.concatenate([part[:PART_LANES] for part in parts]).view(np.uint8)
        return np.asarray(entries[groups.view(np.uint8)].view(np.uint32))
    if op in ("max_s8", "max_u8"):
        dtype = np.int8 if op == "max_s8" else np.uint8
        first, second = (np.ascontiguousarray(np.asarray(arg, np.uint32)).view(dtype) for arg in args)
        return np.maximum(first, second).view(np.uint32).reshape(np.shape(args[0]))
    part = np.uint8 if op == "interleave" else np.uint16
    total = np.zeros(np.shape(args[0]), np.uint32)
    for number, arg in enumerate(args):
        total = total | (np.asarray(arg).astype(part).astype(np.uint32) << np.uint32(8 * np.dtype(part).itemsize * number))
    return np.asarray(total)
