"""From symbolic dimensions to numbers: which input tells a size, and graphs at given sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from edgecc.errors import EdgeccError
from edgecc.ir.dims import Dim, Symbol, SymbolicDim, symbols_of, symbols_within
from edgecc.ir.graph import Graph, Value
from edgecc.ir.op import Op
from edgecc.ir.types import TensorType

Operator = TypeVar("Operator", bound=Op)


@dataclass(frozen=True)
class Source:
    """Where a size is read from: dimension `axis` of input `input` is `scale` * size + `rest`.

    `rest` depends on sizes that are known by then.
    """

    symbol: Symbol
    input: int
    axis: int
    scale: int
    rest: Dim


def graph_symbols(graph: Graph) -> tuple[Symbol, ...]:
    """The sizes that the types of a graph's inputs leave open, by name."""
    return symbols_of(dim for value in graph.inputs for dim in value.type.shape)


def bound_symbols(graph: Graph) -> tuple[Symbol, ...]:
    """The sizes that nodes of a graph, and of the regions inside, compute, in order."""
    return tuple(dict.fromkeys(node.op.binds for inner in graph.all_graphs() for node in inner.nodes if node.op.binds is not None))


def sources(types: Sequence[TensorType]) -> tuple[Source, ...]:
    """How the sizes of a run follow from the shapes of its inputs, in the order in which they can be found.

    Raises: EdgeccError E104 for a size that no dimension gives.
    """
    wanted = list(symbols_of(dim for t in types for dim in t.shape))
    found: dict[str, Source] = {}
    places = [(index, axis, dim) for index, t in enumerate(types) for axis, dim in enumerate(t.shape)
              if isinstance(dim, SymbolicDim)]
    while len(found) < len(wanted):
        before = len(found)
        for index, axis, dim in sorted(places, key=lambda place: len(place[2].terms)):
            unknown = [s for s in dim.symbols if s.name not in found]
            linear = [(product, scale) for product, scale in dim.terms if product == tuple(unknown)]
            rest = sum((SymbolicDim(((product, scale),)) if product else scale for product, scale in dim.terms
                        if product != tuple(unknown)), start=cast("Dim", 0))
            if len(unknown) == 1 and len(linear) == 1 and unknown[0] not in symbols_of([rest]):
                found[unknown[0].name] = Source(unknown[0], index, axis, linear[0][1], rest)
        if len(found) == before:
            names = ", ".join(f"'{s.name}'" for s in wanted if s.name not in found)
            raise EdgeccError("E104", f"no dimension of an input gives the size {names}", hint="give it one size with --shape")
    return tuple(found.values())


def sizes_of(types: Sequence[TensorType], shapes: Sequence[Sequence[int]]) -> dict[str, int]:
    """The sizes by name, read off the shapes of a run's inputs. Whether shapes fit the types is not looked at."""
    sizes: dict[str, int] = {}
    for source in sources(types):
        shape = shapes[source.input]
        dim = shape[source.axis] if source.axis < len(shape) else 0
        rest = source.rest if isinstance(source.rest, int) else source.rest.evaluate(sizes)
        sizes[source.symbol.name] = (dim - rest) // source.scale
    return sizes


def corners(symbols: Sequence[Symbol]) -> tuple[dict[str, int], ...]:
    """Sizes worth trying: the largest, the smallest, odd ones between, and each largest where the others are smallest."""
    found = [{s.name: s.upper for s in symbols}, {s.name: s.lower for s in symbols},
             {s.name: min(max((s.lower + s.upper) // 2 | 1, s.lower), s.upper) for s in symbols}]
    found += [{s.name: s.upper if s is chosen else s.lower for s in symbols} for chosen in symbols if len(symbols) > 1]
    return tuple({tuple(sizes.items()): sizes for sizes in found}.values())


def within_bounds(symbols: Iterable[Symbol], sizes: Mapping[str, int]) -> bool:
    """Whether every size is within the bounds of its symbol."""
    return all(s.lower <= sizes[s.name] <= s.upper for s in symbols)


def operator_at(op: Operator, sizes: Mapping[str, int]) -> Operator:
    """An operator with its symbolic attributes replaced by numbers; the same object where it has none."""
    changed = {f.name: new for f in dataclasses.fields(op)
               if (new := _value_at(old := getattr(op, f.name), sizes)) is not old}
    return dataclasses.replace(op, **changed) if changed else op


def is_open(op: Op) -> bool:
    """Whether an attribute of an operator depends on sizes known only at run time."""
    return any(symbols_within(getattr(op, f.name)) for f in dataclasses.fields(op))


def _value_at(value: object, sizes: Mapping[str, int]) -> object:
    match value:
        case SymbolicDim():
            return value.evaluate(sizes)
        case tuple():
            new = tuple(_value_at(item, sizes) for item in value)
            return value if all(a is b for a, b in zip(new, value, strict=True)) else new
    return value


def graph_at(graph: Graph, sizes: Mapping[str, int]) -> tuple[Graph, Mapping[Value, Value]]:
    """The static graph for these sizes, node by node and constant by constant, and its value for each of `graph`."""
    out = graph.copy()
    pairs: dict[Value, Value] = dict(zip(graph.inputs, out.inputs, strict=True))
    for value in out.inputs:
        value.type = value.type.at(sizes)
    for old, new in zip(graph.nodes, out.nodes, strict=True):
        new.op = operator_at(new.op, sizes)
        pairs.update((a, b) for a, b in zip((*old.inputs, *old.outputs), (*new.inputs, *new.outputs), strict=True)
                     if a is not None and b is not None)
        for value, tensor_type in zip(new.outputs, new.op.infer(new.input_types), strict=True):
            value.type = tensor_type
    pairs.update(zip(graph.outputs, out.outputs, strict=True))
    return out, pairs
