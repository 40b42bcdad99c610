"""The form of the instruction tables: what C text computes an operation on vectors of a type.

A table maps `Key(op, dtype, lanes)` to a `Row`. The operations are those of the Loop IR (primitives,
"fma") and the following, which the printer asks for:

    load, store                 memory to value and back; lanes are contiguous
    load:N, store:N             only the first N lanes (the others of a load are zero)
    gather                      a load with a stride
    broadcast                   a scalar in every lane
    zero, ones                  the vector of zeros; the mask that is true in every lane
    lane:P                      lane P as a scalar
    cast:D, bitcast:D           conversion to DType D; the key has the type converted from
    normalize                   brings lanes back into the range of a narrow type after arithmetic
    fma_lane:N, mul_lane:N      one factor is lane number {P} of a vector of N lanes (see below)
    min_const, max_const        operand 1 is a constant other than NaN
    shift_left_const, shift_right_const   operand 1 is a number of bits, 1 to size - 1
    horizontal:OP               all lanes combined
    keep, keep_lane             a sum of fma or fma_lane that stays in its register (an accumulator's new value)
    apart                       a product that must be rounded before a constant is added to it
    store_saturated:N, store_low:N, store_low_plus:N   stores of N vectors as bytes (saturating.py)
    nearest, interleave, bytes, group ...   edgecc/loop/narrow.py and interleaving.py
    store_words                 a store of words whose bytes are those of four vectors of bytes
    store_rounded               a store of floats that rounds them to the half-precision type of the key
    dot_NAME                    a grouped product (edgecc/loop/dot.py); the key has the type of the sums

Some types have no vectors of their own; `carrier` says which type holds them. f16 and bf16 values are
floats that are rounded after each operation, narrow integers are 32-bit integers that are brought
back into range, in registers (but for vectors of bytes that are looked up in tables); memory always has the narrow form. Bool vectors (masks) have one form
for each number of lanes, whatever the type that was compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from edgecc.ir.types import DType
from edgecc.loop.narrow import LOOKUP_LANES


class Key(NamedTuple):
    """What a row computes: an operation, the type of its operands, the number of lanes."""

    op: str
    dtype: DType
    lanes: int


@dataclass(frozen=True)
class Row:
    """C text of one operation.

    Attributes:
        text: an expression in which {0}, {1} ... stand for the operands, each at most once; or, if
            `body` is true, the body of a function of parameters a, b, c, d, which becomes a helper.
        needs: features of the target without which the row does not exist.
        uses: helper functions called in the text.
        body: see `text`.
    """

    text: str
    needs: tuple[str, ...] = ()
    uses: tuple[Key, ...] = ()
    body: bool = False


Table = Mapping[Key, Row]

STORAGE: Mapping[DType, str] = {
    DType.F64: "double", DType.F32: "float", DType.F16: "uint16_t", DType.BF16: "uint16_t",
    DType.I64: "int64_t", DType.I32: "int32_t", DType.I16: "int16_t", DType.I8: "int8_t",
    DType.U64: "uint64_t", DType.U32: "uint32_t", DType.U16: "uint16_t", DType.U8: "uint8_t",
    DType.BOOL: "uint8_t",
    **{dtype: "uint8_t" for dtype in DType if dtype.is_stored_only and dtype is not DType.STRING},
}
"""C type of one element in memory; of elements of less than 8 bits, of the bytes they are packed in. Kernels see no strings."""

HALF_TYPES = (DType.F16, DType.BF16)
NARROW_INTEGERS = (DType.I8, DType.I16, DType.U8, DType.U16)

CARRIED_INTEGER = frozenset({"add", "sub", "mul", "fma", "neg", "abs", "min", "max", "select", "lt", "le", "eq",
                              "bit_and", "bit_or", "bit_xor", "bit_not", "sign"})
"""Operations on narrow integers that their 32-bit carrier can do."""


def carrier(dtype: DType, lanes: int) -> DType:
    """The type that holds values of `dtype` in registers."""
    if dtype in HALF_TYPES:
        return DType.F32
    if lanes > 1 and dtype in NARROW_INTEGERS:
        return dtype if lanes == LOOKUP_LANES else DType.I32
    return dtype


def helper_name(key: Key) -> str:
    """Name of the helper function of a row: edgecc_exp_f32x16, edgecc_div_i32."""
    lanes = "" if key.lanes == 1 else f"x{key.lanes}"
    return f"edgecc_{key.op.replace(':', '_')}_{key.dtype.value}{lanes}"


IN_ORDER = "in-order"
"""Stands beside the features of machines that issue instructions in program order."""


def select_rows(rows: Iterable[tuple[Key, Row]], features: Iterable[str]) -> dict[Key, Row]:
    """The rows a machine with these features can use; a later row replaces an earlier one."""
    have = frozenset(features)
    return {key: row for key, row in rows if have.issuperset(row.needs)}


def is_scalar_result(op: str) -> bool:
    """Whether an operation on vectors gives a scalar."""
    return op.startswith(("lane:", "horizontal:"))
