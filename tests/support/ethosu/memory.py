"""Memory of the accelerator, and feature maps in it.

Regions 0 to 2 are what the network brings: constants, its arena, and its fast arena. Tables lie in RAM inside of the accelerator.

A feature map consists of up to four tiles: left of WIDTH0 those at BASE0 and, from HEIGHT0 on, BASE2; right of it those at BASE1
and, from HEIGHT1 on, BASE3. Rolling buffers of cascades are such maps. Layouts: NHWC, and NHCWB16, bricks of 16 channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.support.ethosu.stream import Operation

Array = np.ndarray[Any, Any]

BRICK = 16
_INTERNAL = 1 << 8


@dataclass(frozen=True)
class Memory:
    """Bytes of all regions, and of the RAM of tables."""

    regions: dict[int, bytearray]
    tables: bytearray

    def bytes_at(self, region: int, address: int, length: int) -> bytes:
        """A range of bytes of a region."""
        assert address >= 0 and address + length <= len(self.regions[region]), "an access is out of bounds"
        return bytes(self.regions[region][address:address + length])

    def copy(self, operation: Operation) -> None:
        """DMA_START: bytes from one region to another one, or to the RAM of tables."""
        assert operation["DMA0_SRC_REGION"] >> 9 == operation["DMA0_DST_REGION"] >> 9 == 0, "copies have one dimension"
        length = operation.address("DMA0_LEN")
        data = self.bytes_at(operation["DMA0_SRC_REGION"] & 7, operation.address("DMA0_SRC"), length)
        region = operation["DMA0_DST_REGION"]
        target = self.tables if region & _INTERNAL else self.regions[region & 7]
        address = operation.address("DMA0_DST")
        assert address >= 0 and address + length <= len(target), "a copy is out of bounds"
        target[address:address + length] = data


@dataclass(frozen=True)
class FeatureMap:
    """What the registers of one feature map say; `prefix` is IFM, IFM2 or OFM."""

    operation: Operation
    prefix: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its elements."""
        precision = self.operation[f"{self.prefix}_PRECISION"]
        bits = precision >> (1 if self.prefix == "OFM" else 2) & 3
        return np.dtype(f"<{'i' if precision & 1 else 'u'}{1 << bits}")

    @property
    def zero_point(self) -> int:
        """What stands for 0, in the signedness of the elements."""
        name = f"{self.prefix}_ZERO_POINT"
        return self.operation.signed(name) if self.dtype.kind == "i" else self.operation[name]

    def read(self, memory: Memory, height: int, width: int, depth: int) -> Array:
        """The elements [H,W,C] as int64, zero point and all."""
        result = np.empty((height, width, depth), self.dtype)
        for rows, columns, tile in self._tiles(memory, height, width, depth):
            for channels, part in tile:
                result[rows, columns, channels] = part
        return result.astype(np.int64)

    def write(self, memory: Memory, values: Array) -> None:
        """Stores elements [H,W,C] that fit the type."""
        limits = np.iinfo(self.dtype)
        assert values.size == 0 or (values.min() >= limits.min and values.max() <= limits.max), "a result does not fit its type"
        for rows, columns, tile in self._tiles(memory, *values.shape):
            for channels, part in tile:
                part[...] = values[rows, columns, channels]

    def _tiles(self, memory: Memory, height: int, width: int, depth: int) -> Iterator[tuple[slice, slice, list[tuple[slice, Array]]]]:
        left = min(self.operation[f"{self.prefix}_WIDTH0_M1"] + 1, width)
        for side, (start, end) in enumerate(((0, left), (left, width))):
            upper = min(self.operation[f"{self.prefix}_HEIGHT{side}_M1"] + 1, height)
            for half, (top, bottom) in enumerate(((0, upper), (upper, height))):
                if start < end and top < bottom:
                    base = self.operation.address(f"{self.prefix}_BASE{side + 2 * half}")
                    yield slice(top, bottom), slice(start, end), self._views(memory, base, bottom - top, end - start, depth)

    def _views(self, memory: Memory, base: int, height: int, width: int, depth: int) -> list[tuple[slice, Array]]:
        """A tile as arrays over the memory, each with the channels it has."""
        operation, size = self.operation, self.dtype.itemsize
        region = memory.regions[operation[f"{self.prefix}_REGION"] & 7]
        rows, columns, channels = (operation.address(f"{self.prefix}_STRIDE_{axis}") for axis in "YXC")
        if not operation[f"{self.prefix}_PRECISION"] >> 6 & 1:
            return [(slice(0, depth), np.ndarray((height, width, depth), self.dtype, region, base, (rows, columns, size)))]
        return [(slice(first, min(first + BRICK, depth)),
                 np.ndarray((height, width, min(BRICK, depth - first)), self.dtype, region, base + first // BRICK * channels,
                            (rows, BRICK * size, size)))
                for first in range(0, depth, BRICK)]
