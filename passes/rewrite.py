"""Small helpers shared by graph passes: reading constants, asking about uses, replacing nodes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.dims import Dim, Shape
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.op import Op
from edgecc.ir.types import Array, DType


def sole_user(graph: Graph, value: Value) -> Node | None:
    """The only node that reads `value` (at one or more operand positions), or None: also for values the graph returns."""
    return None if graph.is_output(value) else value.sole_user


MAX_NAMES = 256
"""Source names a node keeps. Thousands of nodes can become one, and each step on the way would hold all names again."""


def replace(graph: Graph, node: Node, op: Op, *operands: Value | None, absorbed: Iterable[Node] = ()) -> Value:
    """Puts `op(operands)` in the place of `node`, which has one result, and erases what is dead then.

    The new result keeps name, users and (if its rank is the same) layout; the new node stands for the
    sources of `absorbed` and of `node`.
    Raises: EdgeccError E900 if the result has another type.
    """
    loc = [name for one in (*absorbed, node) for name in one.loc]
    if len(loc) > MAX_NAMES:
        loc = [*loc[:MAX_NAMES // 2], "...", *loc[-MAX_NAMES // 2:]]
    old = node.output
    new = graph.add(op, *operands, before=node, loc=loc, name=old.name)
    if new.type.rank == old.type.rank:
        new.layout = old.layout
    _note(old, new)
    graph.replace_all_uses(old, new)
    graph.erase_dead([node])
    return new


def forward(graph: Graph, node: Node, value: Value) -> None:
    """Makes every reader of the only result of `node` read `value` instead, and erases the node."""
    _note(node.output, value)
    graph.replace_all_uses(node.output, value)
    graph.erase_dead([node])


_REPLACED: ContextVar[dict[Value, Value] | None] = ContextVar("replaced", default=None)


def _note(old: Value, new: Value) -> None:
    found = _REPLACED.get()
    if found is not None:
        found[old] = new


@contextmanager
def collect_replacements() -> Iterator[Mapping[Value, Value]]:
    """Within this context `replace` and `forward` record which value stands for which; yields the record.

    A context around this one gets the record as well.
    """
    found: dict[Value, Value] = {}
    around = _REPLACED.get()
    token = _REPLACED.set(found)
    try:
        yield found
    finally:
        _REPLACED.reset(token)
        if around is not None:
            around.update(found)


def can_forward(graph: Graph, old: Value, new: Value) -> str | None:
    """Why `new` cannot stand for `old`, or None where it can.

    A graph may return inputs and constants, and one value twice, but each costs a copy at run time
    that the node it stems from does just as well.
    """
    if old.type != new.type:
        return f"the type would change from {old.type} to {new.type}"
    if old.layout != new.layout:
        return f"it changes the layout from {new.layout} to {old.layout}"
    if graph.is_output(old):
        if new.producer is None:
            return "the graph would return an input or a constant"
        if graph.is_output(new):
            return "the graph would return one value twice"
    return None


def data(value: Value | None) -> Array:
    """The data of a value known to be constant."""
    if value is None or value.constant is None:
        raise EdgeccError("E900", "a constant operand was expected")
    return value.constant


def is_constant(value: Value | None) -> bool:
    """Whether the operand is present and constant."""
    return value is not None and value.constant is not None


def uniform_element(value: Value) -> float | int | bool | None:
    """The number a constant consists of if all its elements are the same bits, else None; strings are none."""
    array = value.constant
    if array is None or array.size == 0 or value.type.dtype is DType.STRING:
        return None
    flat = array.reshape(-1)
    if array.size > 1 and flat[:1].tobytes() * array.size != flat.tobytes():
        return None
    if value.type.dtype.is_float:
        return float(flat[0])
    return bool(flat[0]) if array.dtype == np.bool_ else int(flat[0])


def broadcast_shape(shapes: Iterable[Sequence[Dim]]) -> Shape:
    """The shape to which shapes that are known to fit broadcast by numpy's rules."""
    rows = [tuple(shape) for shape in shapes]
    rank = max((len(row) for row in rows), default=0)
    padded = [(*[1] * (rank - len(row)), *row) for row in rows]
    return tuple(next((d for d in column if d != 1), 1) for column in zip(*padded, strict=True))


def bytes_of(values: Iterable[Value | None]) -> int:
    """Bytes of all values that are present, at their largest."""
    return sum(value.type.capacity * value.type.dtype.size for value in values if value is not None)


def is_power_of_two(value: float) -> bool:
    """Whether a finite float is a power of two, of either sign."""
    return math.isfinite(value) and value != 0 and abs(math.frexp(value)[0]) == 0.5
