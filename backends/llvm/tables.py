"""The operations of edgecc/loop/tables.py: both are instructions of AVX-512 (backends/c/lookup.py)."""

from __future__ import annotations

from edgecc.backends.llvm.types import vector_of
from edgecc.backends.llvm.writer import Writer


def looked_up(w: Writer, op: str, lanes: int, args: list[str]) -> str:
    """An operation of `TABLES` on `lanes` floats; the table of "pick" is all operands but the last."""
    floats, integers, bits = vector_of("float", lanes), vector_of("i32", lanes), 32 * lanes
    if op == "pick":
        table = f"<{', '.join(f'float {number}' for number in args[:-1])}>"
        places = w.convert("bitcast", floats, args[-1], integers)
        return w.call(f"llvm.x86.avx512.permvar.sf.{bits}", floats, (floats, table), (integers, places))
    mask = f"i{lanes}"  # every lane; those that a mask leaves out would be of the third operand
    current_rounding = "4"
    return w.call(f"llvm.x86.avx512.mask.scalef.ps.{bits}", floats, (floats, args[0]), (floats, args[1]), (floats, "zeroinitializer"), (mask, "-1"),
                  ("i32", current_rounding))
