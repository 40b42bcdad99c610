"""Lines of results that register tiles run along: rows of a map, and columns where windows meet its left and right border.

At the border a row has one or two results whose windows lack the same number of taps. A tile of so few reads weights for hardly
any product each: a pair takes as long as six results inside of the map do. Down a column all results but the outermost lack the same taps, so
that whole tiles find room there.

    1 2 2 2 2 1      1: pairs in a row, as before     the results of a map of 6 x 4, windows of 3 x 3
    3 . . . . 3      2 and .: runs in a row
    3 . . . . 3      3: columns
    1 2 2 2 2 1
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgecc.kernels.contraction import PIXEL
from edgecc.kernels.spatial import Axis, Run, Segment
from edgecc.loop.index import ZERO, Index, const, var

LEAST_COLUMN = 3
"""Shorter columns are left in pairs with their partners at the other border."""


@dataclass(frozen=True)
class Line:
    """Results that one tile nest computes, numbered by its loop.

    Attributes:
        run: the run of the last axis they belong to; position: which place in it.
        rows: positions along the other axes. row_taps: valid taps [start, stop) along these.
        loop: the name of the nest's loop over results; extent: how many there are.
    """

    run: Run
    position: Index
    rows: tuple[Index, ...]
    row_taps: tuple[tuple[Index, Index], ...]
    loop: str
    extent: int

    @property
    def column(self) -> Index:
        """Position along the last axis."""
        return self.run.column(self.position)

    @property
    def shares_weights(self) -> bool:
        """Whether the windows of all results have the same taps."""
        return self.run.tap_step == 0 or self.position.is_const


@dataclass(frozen=True)
class Edges:
    """Runs of single columns, of which `columns` segments of rows are walked downwards and `ends` in the row."""

    runs: tuple[Run, ...]
    columns: tuple[Segment, ...]
    ends: tuple[Segment, ...]

    def lines(self, axes: Sequence[Axis]) -> Iterator[Line]:
        """All results of the runs in a map with two axes."""
        for run in self.runs:
            for rows in self.columns:
                for place in range(run.extent):
                    yield Line(run, const(place), (var(PIXEL) + rows.start,), (axes[0].loop_bounds(rows, ZERO),), PIXEL, rows.extent)
            for rows in self.ends:
                for row in range(rows.start, rows.stop):
                    yield Line(run, var(PIXEL), (const(row),), (axes[0].loop_bounds(rows, ZERO),), PIXEL, run.extent)


def edges_of(runs: Sequence[Run], rows: Axis) -> Edges | None:
    """The runs of one or two columns that lie apart, and how rows divide; None where there is nothing to gain."""
    segments = rows.segments()
    narrow = tuple(run for run in runs if run.segment.extent == 1 and run.taps is not None and (run.extent == 1 or run.step > 1))
    columns = tuple(s for s in segments if s.extent >= LEAST_COLUMN)
    if not narrow or not columns or len(narrow) == len(runs) or any(s.tap_start is None for s in segments):
        return None
    return Edges(narrow, columns, tuple(s for s in segments if s.extent < LEAST_COLUMN))
