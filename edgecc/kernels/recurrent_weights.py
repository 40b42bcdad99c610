"""Weights of recurrent layers in the order in which their inner loop reads them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels.copying import fill
from edgecc.kernels.iteration import Axis, nest
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.loop.builder import add, cast, number
from edgecc.loop.index import Index, as_index, const
from edgecc.loop.ir import Buffer, Expr


@dataclass(frozen=True)
class Units:
    """How the hidden units of a layer are divided: vectors of `lanes`, blocks of up to `vectors` of them.

    Memory for one number per unit is padded to whole vectors (`padded`).
    """

    hidden: int
    lanes: int
    vectors: int

    @property
    def padded(self) -> int:
        """Units including those that fill the last vector."""
        return -(-self.hidden // self.lanes) * self.lanes

    @property
    def whole(self) -> int:
        """Units in blocks of the full number of vectors, none of them partial."""
        block = self.lanes * self.vectors
        return self.hidden // block * block

    def blocks(self, b: KernelBuilder) -> Iterator[tuple[Index, int]]:
        """Opens a loop over whole blocks, then yields what is left: (first unit, vectors) each time.

        Statements added between two yields belong to the block yielded before.
        """
        if self.whole:
            with b.loop("unit", self.whole, step=self.lanes * self.vectors) as unit:
                yield unit, self.vectors
        if self.whole < self.padded:
            yield const(self.whole), (self.padded - self.whole) // self.lanes


@dataclass(frozen=True)
class Panel:
    """The rows of one weight matrix that belong to some gates: [direction][block of units][k][gate][unit of the block].

    Attributes:
        operand: index of the matrix [D, G*H, depth] among the operands.
        gates: numbers of the gates, in the order of the accumulators.
        depth: length of the sums.
    """

    operand: int
    gates: tuple[int, ...]
    depth: int
    units: Units
    directions: int

    @property
    def elements(self) -> int:
        """Elements of the packed panel."""
        return self.directions * self.depth * len(self.gates) * self.units.padded

    def start(self, direction: int, unit: Index | int) -> Index:
        """Where the block begins whose first unit is `unit`."""
        return as_index(unit) * (self.depth * len(self.gates)) + direction * (self.elements // self.directions)

    def add_to(self, b: KernelBuilder, name: str, dtype: DType) -> Buffer:
        """The packed panel as a buffer: from the weights if the matrix is constant, else rearranged at run time."""
        operand = b.request.operand(self.operand)
        if operand.is_constant:
            return b.packed(name, dtype, self.elements, (self.operand,), functools.partial(_pack_panel, self, dtype))
        source, panel = b.input(self.operand, f"{name}_source"), b.workspace(name, dtype, self.elements)
        fill(b, panel, [Axis(self.elements, (1,))], number(0, dtype))
        units, view = self.units, operand.view
        block = units.lanes * units.vectors
        parts = [(0, units.hidden // block, block, block)] if units.hidden >= block else []
        done = units.hidden // block * block
        if done < units.hidden:  # the last block holds fewer units, and maybe fewer vectors
            parts.append((done, 1, units.hidden - done, min(block, units.padded - done)))
        for direction in range(self.directions):
            for first, count, valid, width in parts:
                for position, gate in enumerate(self.gates):
                    row = width * len(self.gates)
                    axes = [Axis(count, (row * self.depth, valid * view.strides[1])),
                            Axis(self.depth, (row, view.strides[2])), Axis(valid, (1, view.strides[1]))]
                    start = (self.start(direction, first) + position * width,
                             const(direction * view.strides[0] + (gate * units.hidden + first) * view.strides[1]))
                    with nest(b, axes, "p", start=start) as (to, at):
                        b.store(panel, to, cast(b.load(source, at), dtype))
        return panel


def _pack_panel(panel: Panel, dtype: DType, matrix: Array) -> Array:
    """See `Panel`; `matrix` is [D, G*H, depth]."""
    units = panel.units
    parts = []
    for direction in range(panel.directions):
        chosen = np.zeros((len(panel.gates), units.padded, panel.depth), dtype.numpy)
        for position, gate in enumerate(panel.gates):
            chosen[position, :units.hidden] = matrix[direction, gate * units.hidden:(gate + 1) * units.hidden]
        for first in range(0, units.padded, units.lanes * units.vectors):
            block = chosen[:, first:first + units.lanes * units.vectors]
            parts.append(block.transpose(2, 0, 1).reshape(-1))
    return np.concatenate(parts) if parts else np.zeros(0, dtype.numpy)


@dataclass(frozen=True)
class UnitRows:
    """Numbers of units, such as biases, padded to whole vectors: [direction][row][unit].

    Row j is the sum of the rows `sums[j]` of the operand, an array [D, rows*H].
    """

    operand: int
    sums: tuple[tuple[int, ...], ...]
    units: Units
    directions: int

    @property
    def elements(self) -> int:
        """Elements of the padded rows."""
        return self.directions * len(self.sums) * self.units.padded

    def at(self, direction: int, row: int, unit: Index) -> Index:
        """The address of the number of `unit` in `row`."""
        return unit + (direction * len(self.sums) + row) * self.units.padded

    def add_to(self, b: KernelBuilder, name: str, dtype: DType) -> Buffer:
        """The rows as a buffer: from the weights if the operand is constant, else arranged at run time."""
        operand = b.request.operand(self.operand)
        if operand.is_constant:
            return b.packed(name, dtype, self.elements, (self.operand,), functools.partial(_pack_rows, self, dtype))
        source, rows = b.input(self.operand, f"{name}_source"), b.workspace(name, dtype, self.elements)
        fill(b, rows, [Axis(self.elements, (1,))], number(0, dtype))
        stride_d, stride = operand.view.strides
        for direction in range(self.directions):
            for row, terms in enumerate(self.sums):
                with b.loop("p", self.units.hidden) as unit:
                    values: list[Expr] = [
                        cast(b.load(source, (unit + t * self.units.hidden) * stride + direction * stride_d), dtype)
                        for t in terms]
                    b.store(rows, self.at(direction, row, unit), functools.reduce(add, values))
        return rows


def _pack_rows(rows: UnitRows, dtype: DType, array: Array) -> Array:
    """See `UnitRows`; sums are rounded once."""
    hidden = rows.units.hidden
    out = np.zeros((rows.directions, len(rows.sums), rows.units.padded))
    for position, terms in enumerate(rows.sums):
        for term in terms:
            out[:, position, :hidden] += array[:, term * hidden:(term + 1) * hidden].astype(np.float64)
    return out.astype(dtype.numpy).reshape(-1)
