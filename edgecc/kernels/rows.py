"""Ranges of rows: how a kernel computes a part of its result, so that a chain of kernels can run stripe by stripe.

The function of a request with `rows` has two parameters and computes the rows [row_start, row_stop) of
its result. What it reads of its operands are the rows these need, and no others; a ring then only has
to hold as many rows as are needed between two calls. Calls with an empty range do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edgecc.kernels.request import Request
from edgecc.kernels.view import ROW_AXIS, View
from edgecc.loop.builder import Builder
from edgecc.loop.index import ZERO, Index, const, var
from edgecc.loop.ir import Body, For, Parameter

START, STOP = "row_start", "row_stop"

Bounds = tuple[Index, Index]


def row_parameters(request: Request) -> tuple[Parameter, ...]:
    """The parameters of the function of a request: none unless a range of rows is wanted."""
    if not request.rows:
        return ()
    height = request.outputs[0].dims[ROW_AXIS]
    return Parameter(START, 0, height), Parameter(STOP, 0, height)


def row_bounds(request: Request) -> Bounds | None:
    """The first row to compute and the one after the last; None where all rows are."""
    return (var(START), var(STOP)) if request.rows else None


def axis_loop(name: str, extent: int, bounds: Bounds | None, body: Body) -> Body:
    """`body` for every position of an axis, or for those within `bounds`; one position alone needs no loop."""
    if bounds is not None:
        return (For(name, *bounds, body),)
    return (For(name, ZERO, const(extent), body),) if extent > 1 else body


def axis_position(name: str, extent: int, bounds: Bounds | None) -> Index:
    """The variable of `axis_loop`, or 0 where it needs no loop."""
    return var(name) if bounds is not None or extent > 1 else ZERO


def rows_suffix(request: Request) -> str:
    """What the names of functions that compute ranges of rows end in."""
    return "_rows" if request.rows else ""


@contextmanager
def each_row(b: Builder, request: Request, views: Sequence[View]) -> Iterator[tuple[Index, ...]]:
    """Opens the loop over the wanted rows of a kernel written with a builder; yields where the row starts in each view.

    Without a range of rows there is no loop, and the offsets are zero.
    """
    if not request.rows:
        yield (ZERO,) * len(views)
        return
    first, last = (b.parameter(p.name, p.minimum, p.maximum) for p in row_parameters(request))
    with b.loop("row", last, start=first) as row:
        yield tuple(view.at([row if axis == ROW_AXIS else 0 for axis in range(len(view.dims))]) for view in views)
