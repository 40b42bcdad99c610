"""What happens to every result before it is stored: the zero point, limits, and a table.

Tables of 8 bits have 256 entries of the output's size; those of 16 bits have 512 of a base and a slope, 16 bits each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.support.ethosu.memory import FeatureMap, Memory
from tests.support.ethosu.stream import Machine, Operation

Array = np.ndarray[Any, Any]

FIRST_TABLE = 16
SLOT_BYTES = 256
_AREA = 2048


def rounding_of(operation: Operation) -> int:
    """The rounding mode of the scaling in front of the output."""
    return operation["OFM_PRECISION"] >> 14


def has_global_scale(operation: Operation) -> bool:
    """Whether OFM_SCALE scales all results."""
    return bool(operation["OFM_PRECISION"] >> 8 & 1)


def store(memory: Memory, machine: Machine, operation: Operation, values: Array) -> None:
    """Stores scaled results [H,W,C]."""
    ofm = FeatureMap(operation, "OFM")
    values = values + ofm.zero_point
    function = operation["ACTIVATION"] & 0x1F
    limits = np.iinfo(ofm.dtype)
    if ofm.dtype.itemsize < 4 or operation["ACTIVATION"] >> 12:
        signed = ofm.dtype.kind == "i"
        low, high = (operation.signed(name) if signed else operation[name] for name in ("ACTIVATION_MIN", "ACTIVATION_MAX"))
        values = np.clip(values, low, high)
    if function >= FIRST_TABLE:
        values = _looked_up(memory, machine, values, function - FIRST_TABLE, ofm)
    else:
        assert function == 0, f"activation {function}"
    ofm.write(memory, np.clip(values, limits.min, limits.max))


def _looked_up(memory: Memory, machine: Machine, values: Array, slot: int, ofm: FeatureMap) -> Array:
    start = machine.ram_bytes - _AREA + slot * SLOT_BYTES
    if ofm.dtype.itemsize == 2:
        entries = np.frombuffer(memory.tables, "<i2", 1024, start).reshape(512, 2).astype(np.int64)
        place = values + (1 << 15)
        base, slope = entries[place >> 7, 0], entries[place >> 7, 1]
        return base + ((slope * (place & 127) + 64) >> 7)
    entries = np.frombuffer(memory.tables, ofm.dtype, 256, start).astype(np.int64)
    offset = 128 if ofm.dtype.kind == "i" else 0
    return np.asarray(entries[values + offset])
