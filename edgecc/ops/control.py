"""Control flow: operators that run the graphs their nodes own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.dims import upper_bound
from edgecc.ir.op import RegionOp, RunRegion, Signature, present, register, required
from edgecc.ir.types import Array, DType, TensorType


@register
@dataclass(frozen=True)
class If(RegionOp):
    """results = then(captures) if condition else otherwise(captures). Only one of the regions runs.

    Shapes: condition bool with one element; both regions take the captures and return the same types.
    Attributes: none; regions then and else.
    Raises: E110 where the condition is no single truth value or the regions differ in their types.
    Source: ONNX If-25, whose branches may also return different shapes.
    """

    name: ClassVar[str] = "if"
    inputs: ClassVar[tuple[str, ...]] = ("condition", "capture*")
    regions: ClassVar[tuple[str, ...]] = ("then", "else")

    def infer_regions(self, inputs: Sequence[TensorType | None], regions: Sequence[Signature]) -> tuple[TensorType, ...]:
        """What both regions return."""
        condition, *captures = required(inputs)
        _check_scalar(self, "the condition", condition, DType.BOOL)
        then, otherwise = regions
        for name, region in zip(self.regions, regions, strict=True):
            _check_types(self, f"region {name} takes", region.inputs, captures)
        _check_types(self, "region else returns", otherwise.outputs, then.outputs)
        if not then.outputs:
            raise self.fail("the regions return nothing")
        return then.outputs

    def reference_regions(self, inputs: Sequence[Array | None], regions: Sequence[RunRegion],
                          zeros: Sequence[Array]) -> tuple[Array, ...]:
        """Runs the region that is chosen."""
        condition, *captures = present(inputs)
        return regions[0 if condition.reshape(-1)[0] else 1](captures)


@register
@dataclass(frozen=True)
class Loop(RegionOp):
    """Runs the body for iteration 0, 1, ... while iteration < trip_count and the condition holds.

        states = initial states; i = 0; go_on = condition
        while i < trip_count and go_on:
            go_on, states, stacked[at(i)] = body(i, states, scanned[at(i)], captures)
            i = i + 1
        results = states, stacked

    where at(i) = i, or rows - 1 - i for what is handed over backwards.

    Shapes: trip_count i64 and condition bool with one element; each state keeps its type; scanned operands are
        [rows, ...], or fewer than rows if padded, and give the body [...]; stacked results are [rows, ...] of the body's [...].
    Attributes: states, how many there are. scanned, stacked: of each scanned operand and each stacked result, whether it
        goes backwards. rows: see above, 0 without either. limit: how many iterations there may be at most. padded:
        whether fewer iterations than rows are allowed; the rows that are left are zero then.
    Raises: E110 where operands and body do not fit; while running E402 where more iterations than `limit` are due, or with
        scanned or stacked values another number than `rows`.
    Source: ONNX Loop-25 and Scan-25. There the number of rows may be known after the last iteration only, and the
        types of states may change.
    """

    name: ClassVar[str] = "loop"
    inputs: ClassVar[tuple[str, ...]] = ("trip_count", "condition", "operand*")
    regions: ClassVar[tuple[str, ...]] = ("body",)

    states: int
    limit: int
    scanned: tuple[bool, ...] = ()
    stacked: tuple[bool, ...] = ()
    rows: int = 0
    padded: bool = False

    @property
    def has_rows(self) -> bool:
        """Whether something is scanned or stacked."""
        return bool(self.scanned or self.stacked)

    @property
    def first_capture(self) -> int:
        """Number of the first operand that is a capture."""
        return 2 + self.states + len(self.scanned)

    def infer_regions(self, inputs: Sequence[TensorType | None], regions: Sequence[Signature]) -> tuple[TensorType, ...]:
        """The types of the states, and of the stacked results with the axis of the rows in front."""
        trip_count, condition, *operands = required(inputs)
        _check_scalar(self, "the trip count", trip_count, DType.I64)
        _check_scalar(self, "the condition", condition, DType.BOOL)
        (body,) = regions
        self._check_attributes(len(operands))
        states, scanned = operands[:self.states], operands[self.states:self.first_capture - 2]
        for row in scanned:
            if row.rank == 0 or (row.shape[0] != self.rows and not (self.padded and upper_bound(row.shape[0]) == self.rows)):
                raise self.fail(f"a scanned operand is {row}, wanted {self.rows} rows")
        given = [TensorType(DType.I64, ()), *states, *(TensorType(t.dtype, t.shape[1:]) for t in scanned),
                 *operands[self.first_capture - 2:]]
        _check_types(self, "the body takes", body.inputs, given)
        if len(body.outputs) != 1 + self.states + len(self.stacked):
            raise self.fail(f"the body returns {len(body.outputs)} values, wanted {1 + self.states + len(self.stacked)}")
        _check_scalar(self, "the body's condition", body.outputs[0], DType.BOOL)
        _check_types(self, "the body returns as states", body.outputs[1:1 + self.states], states)
        stacked = [TensorType(t.dtype, (self.rows, *t.shape)) for t in body.outputs[1 + self.states:]]
        if not states and not stacked:
            raise self.fail("the loop returns nothing")
        return (*states, *stacked)

    def _check_attributes(self, operands: int) -> None:
        if not 0 <= self.states <= operands - len(self.scanned):
            raise self.fail(f"{self.states} states and {len(self.scanned)} scanned operands do not fit {operands} operands")
        if self.limit < 0 or self.rows < 0 or (self.has_rows and self.limit < self.rows):
            raise self.fail(f"a limit of {self.limit} iterations does not fit {self.rows} rows")
        if self.padded and any((*self.scanned, *self.stacked)):
            raise self.fail("rows are padded at their end, so that none may go backwards")

    def reference_regions(self, inputs: Sequence[Array | None], regions: Sequence[RunRegion],
                          zeros: Sequence[Array]) -> tuple[Array, ...]:
        """Runs the body."""
        trip_count, condition, *operands = present(inputs)
        states, scanned = list(operands[:self.states]), operands[self.states:self.first_capture - 2]
        captures = operands[self.first_capture - 2:]
        stacked = [np.array(rows) for rows in zeros[self.states:]]
        trips, go_on, iteration = int(trip_count.reshape(-1)[0]), bool(condition.reshape(-1)[0]), 0
        while iteration < trips and go_on:
            if iteration >= (self.rows if self.has_rows else self.limit):
                raise self._stopped(f"more than {iteration} iterations")
            rows = [np.asarray(x[self._at(iteration, back)]) for x, back in zip(scanned, self.scanned, strict=True)]
            again, *results = regions[0]([np.array(iteration, np.int64), *states, *rows, *captures])
            go_on, states = bool(again.reshape(-1)[0]), results[:self.states]
            for rows_of_result, row, back in zip(stacked, results[self.states:], self.stacked, strict=True):
                rows_of_result[self._at(iteration, back)] = row
            iteration += 1
        if self.has_rows and iteration != self.rows and not self.padded:
            raise self._stopped(f"{iteration} iterations for {self.rows} rows")
        return (*states, *stacked)

    def _at(self, iteration: int, backwards: bool) -> int:
        return self.rows - 1 - iteration if backwards else iteration

    def _stopped(self, what: str) -> EdgeccError:
        return EdgeccError("E402", f"the loop would run {what}")


def _check_scalar(op: RegionOp, what: str, given: TensorType, dtype: DType) -> None:
    if given.dtype is not dtype or given.elements != 1:
        raise op.fail(f"{what} is {given}, wanted one {dtype.value}")


def _check_types(op: RegionOp, what: str, given: Sequence[TensorType], wanted: Sequence[TensorType]) -> None:
    if tuple(given) != tuple(wanted):
        raise op.fail(f"{what} ({', '.join(map(str, given))}), wanted ({', '.join(map(str, wanted))})")
