"""Sizes of the run that have to be equal because an operator says so, although each was computed for itself.

x[mask] + y[mask'] has sizes that only the run knows, one for each mask. An operator that refuses its operands because such sizes
differ gets operands of one size instead: the run compares the numbers, and ends with E406 where they are not equal. That
broadcasting would allow one of them to be 1 is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgecc.frontend.call import Call
from edgecc.frontend.items import Item
from edgecc.ir.dims import SymbolicDim, lower_bound, symbol, symbols_of, upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, literal
from edgecc.ir.types import Dim, DType
from edgecc.ops.indexing import Gather
from edgecc.ops.sizes import BindSize

Group = tuple[SymbolicDim, ...]


def groups_of(operands: Sequence[Item | None], computed: Iterable[Dim]) -> list[tuple[Group, ...]]:
    """Which dimensions of the operands of a node may have to be equal, the likeliest first.

    Those at equal distances from the last axis, as elementwise operators, concatenations and scatters have them; then, where only two sizes
    occur at all, these two, as in matrix products.

    Args: operands: of a node. computed: the sizes that the run computes.
    """
    symbols = frozenset(symbols_of(computed))
    shapes = [value.type.shape for value in operands if isinstance(value, Value)]
    by_axis: dict[int, dict[SymbolicDim, None]] = {}
    for shape in shapes:
        for distance, dim in enumerate(reversed(shape)):
            if isinstance(dim, SymbolicDim) and symbols.intersection(dim.symbols):
                by_axis.setdefault(distance, {})[dim] = None
    every = tuple(dict.fromkeys(dim for found in by_axis.values() for dim in found))
    aligned = _joined([tuple(found) for found in by_axis.values() if len(found) > 1])
    return list(dict.fromkeys(choice for choice in (aligned, (every,) if len(every) == 2 else ()) if choice))


def _joined(groups: Sequence[Group]) -> tuple[Group, ...]:
    """The groups, those with a dimension in common as one."""
    out: list[dict[SymbolicDim, None]] = []
    for group in groups:
        touched = [other for other in out if not other.keys().isdisjoint(group)]
        out = [other for other in out if other not in touched]
        out.append(dict.fromkeys([*(dim for other in touched for dim in other), *group]))
    return tuple(tuple(group) for group in out)


def with_equal_sizes(call: Call, groups: Sequence[Group]) -> list[Item | None] | None:
    """The operands of a node under one size for each group; None where the bounds say that they are not equal, or leave no choice."""
    sizes: dict[SymbolicDim, Dim] = {}
    for group in groups:
        common = _common_size(call, group)
        if common is None:
            return None
        sizes.update(dict.fromkeys(group, common))
    return [_renamed(call, item, sizes) if isinstance(item, Value) else item for item in call.inputs]


def _common_size(call: Call, group: Group) -> Dim | None:
    low, high = max(map(lower_bound, group)), min(map(upper_bound, group))
    if low >= high:
        return None
    first, *others = (call.reshape(call.sizes((dim,)), ()) for dim in group)
    for other in others:
        first = call.map(lambda a, b: apply("select", apply("eq", a, b), a, literal(-1, DType.I64)), first, other)
    size = symbol(call.importer.fresh_size(group[0].symbols[0].name), low, high)
    call.add(BindSize(size), first)
    call.importer.computed_sizes[call.importer.emitter, (first, 0)] = size
    return size


def _renamed(call: Call, value: Value, sizes: dict[SymbolicDim, Dim]) -> Value:
    for axis, dim in enumerate(value.type.shape):
        if isinstance(dim, SymbolicDim) and dim in sizes:
            value = call.add(Gather(axis), value, call.positions(sizes[dim]))
    return value
