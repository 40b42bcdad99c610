"""Operations of machines that hold a table of 16 floats in a register. Only mathematical functions use them (math_tables.py).

    Op("pick", (c0, ..., c15, x), f32)   of each lane of x, an f32, the low four bits of its binary form say which of 16 scalars it gets
    Op("scale", (x, n), f32)             x times 2 to the power of n rounded down to an integer, rounded once

Both are instructions of AVX-512, VPERMPS and VSCALEFPS, for 16 lanes. A back end has them where its table of instructions does.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgecc.ir.types import Array

PLACES = 16
"""Numbers in a table."""

TABLES: Mapping[str, int] = types.MappingProxyType({"pick": PLACES + 1, "scale": 2})
"""The operations there are, with the number of their operands; all are f32, and so is the result."""


def meaning(op: str, args: tuple[Any, ...]) -> Array:
    """What an operation of `TABLES` computes, on arrays or scalars."""
    if op == "pick":
        *table, places = args
        return np.asarray(np.array(table, np.float32)[np.asarray(places, np.float32).view(np.uint32) % PLACES])
    number, power = (np.asarray(arg, np.float64) for arg in args)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(np.ldexp(number, np.where(np.isfinite(power), np.floor(power), 0).astype(np.int64)).astype(np.float32))
