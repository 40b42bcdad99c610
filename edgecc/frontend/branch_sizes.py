"""Results of branches whose sizes are not the same, or that only a branch computes.

    if there are no boxes: an empty list        else: those that NonMaxSuppression keeps

Both branches return as many elements as there may be at most, and a number that says how many there are, by which what follows takes the
first of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecc.frontend.call import Call
from edgecc.frontend.computed_sizes import first_of
from edgecc.frontend.regions import Region, inside, own_sizes
from edgecc.ir.dims import upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.types import Dim, DType
from edgecc.ops.movement import Concat

Sizes = tuple[Dim, ...]
"""A dimension of one result, in each branch."""


@dataclass(frozen=True)
class OpenResults:
    """What the branches return beside the results that were asked for.

    Attributes:
        counts: sizes whose numbers they return, in order, behind the results.
        axes: of each result, the axes of which only the first elements count, with their sizes.
    """

    counts: tuple[Sizes, ...]
    axes: tuple[tuple[tuple[int, Sizes], ...], ...]


def with_counts(call: Call, regions: Sequence[Region], results: Sequence[list[Value]]) -> OpenResults:
    """Gives results of one rank and element type one type in all branches; `results`, a list for each of them, changes in place."""
    counts: dict[Sizes, None] = {}
    axes: list[tuple[tuple[int, Sizes], ...]] = []
    for position, values in enumerate(zip(*results, strict=True)):
        own: list[tuple[int, Sizes]] = []
        if len({(value.type.dtype, value.type.rank) for value in values}) == 1:
            for axis in range(values[0].type.rank):
                sizes = tuple(value.type.shape[axis] for value in values)
                if len(set(sizes)) > 1 or any(own_sizes(call, region, (size,)) for region, size in zip(regions, sizes, strict=True)):
                    own.append((axis, sizes))
        for axis, sizes in own:
            counts[sizes] = None
            for region, branch in zip(regions, results, strict=True):
                with inside(call, region):
                    branch[position] = region.emitter.local(_filled(call, branch[position], axis, max(map(upper_bound, sizes))))
        axes.append(tuple(own))
    for sizes in counts:
        for region, branch, size in zip(regions, results, sizes, strict=True):
            with inside(call, region):
                branch.append(region.emitter.local(call.reshape(call.sizes((size,)), ())))
    return OpenResults(tuple(counts), tuple(axes))


def _filled(call: Call, x: Value, axis: int, most: int) -> Value:
    """`x` with zeros behind its elements along an axis, so that there are `most`."""
    if x.type.shape[axis] == most:
        return x
    room = call.expand(call.scalar(0, x.type.dtype), (*x.type.shape[:axis], most, *x.type.shape[axis + 1:]))
    return call.slice(call.add(Concat(axis), x, room), axis, 0, most)


def without_rest(call: Call, values: Sequence[Value], names: Sequence[str], found: OpenResults) -> list[Value]:
    """The results as the model knows them. Args: values: those of the operator, numbers included. names: what the results are called."""
    numbers = dict(zip(found.counts, values[len(found.axes):], strict=True))
    out = []
    for value, name, axes in zip(values, names, found.axes, strict=False):
        for axis, sizes in axes:
            value = first_of(call, value, axis, call.cast(numbers[sizes], DType.I64), f"the size of '{name}'", name=name)  # noqa: PLW2901
        out.append(value)
    return out
