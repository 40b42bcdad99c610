"""Graphs inside nodes as regions: converted on their own, with what they read from outside as captures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import onnx

from edgecc.errors import printable
from edgecc.frontend.call import Call
from edgecc.frontend.emit import Emitter
from edgecc.frontend.items import Item, Unknown
from edgecc.frontend.registry import Unsupported
from edgecc.ir.dims import symbols_within, upper_bound
from edgecc.ir.graph import Graph, Value
from edgecc.ir.types import Dim, TensorType
from edgecc.ops.indexing import Gather

NO_SHAPES: Mapping[int, Sequence[Dim]] = MappingProxyType({})
"""No result has to be of some shape."""


@dataclass(frozen=True)
class Region:
    """A region while it is built.

    Attributes:
        emitter: adds to it; its parent adds to the graph around it.
        inputs: the inputs that are no captures.
    """

    emitter: Emitter
    inputs: tuple[Value, ...]


def new_region(call: Call, name: str, inputs: Sequence[tuple[str, TensorType, Value | None]] = ()) -> Region:
    """An empty region of the node.

    Args:
        name: of the region, as its operator calls it.
        inputs: its inputs but for captures: name, type, and the value they stand for at first, if there is one.
    """
    emitter = Emitter(Graph(name), call.importer.limits, call.importer.emitter)
    own = []
    for input_name, tensor_type, source in inputs:
        own.append(emitter.input(tensor_type, input_name))
        if source is not None:
            call.importer.sources[own[-1]] = source
    return Region(emitter, tuple(own))


@contextmanager
def inside(call: Call, region: Region) -> Iterator[None]:
    """Within this context, converters add to the region."""
    importer = call.importer
    outer, importer.emitter = importer.emitter, region.emitter
    try:
        yield
    finally:
        importer.emitter = outer
        importer.sources.update((inner, source) for source, inner in region.emitter.captures.items())


def own_sizes(call: Call, region: Region, shape: Sequence[Dim]) -> bool:
    """Whether a shape depends on sizes that are computed in the region."""
    return not symbols_within(tuple(shape)).isdisjoint(symbols_within(tuple(
        size for (emitter, _), size in call.importer.computed_sizes.items() if emitter is region.emitter)))


def converted(call: Call, region: Region, body: onnx.GraphProto, given: Sequence[Item | None], *, open_results: bool = False,
              shapes: Mapping[int, Sequence[Dim]] = NO_SHAPES) -> list[Value] | None:
    """Converts a graph of the node into the region; returns its results, or None where some part cannot be converted.

    `shapes` are those that results, by position, must have: others than those end the run.

    Raises: Unsupported where a result is no tensor, or, unless `open_results`, has a size that is computed in the region.
    """
    problems, failures = len(call.importer.unsupported), call.importer.failures
    with inside(call, region):
        items = call.importer.run_body(body, call.scope, given)
    if (any(isinstance(item, Unknown) for item in items) or len(call.importer.unsupported) != problems
            or call.importer.failures != failures):
        return None
    values = []
    for position, (item, output) in enumerate(zip(items, body.output, strict=True)):
        if not isinstance(item, Value):
            raise Unsupported(f"result '{printable(output.name)}' of the graph '{printable(body.name)}' is no tensor, "
                              "which it would have to be at run time")
        value = region.emitter.local(item)
        if position in shapes:
            with inside(call, region):
                value = _of_shape(call, value, shapes[position])
        values.append(value)
        if not open_results and own_sizes(call, region, value.type.shape):
            raise Unsupported(f"result '{printable(output.name)}' of the graph '{printable(body.name)}' is {value.type}, whose size "
                              "is computed in the graph", "compute it outside of the graph")
    return values


def _of_shape(call: Call, x: Value, shape: Sequence[Dim]) -> Value:
    """`x`, whose sizes the run computes, with sizes that they must be: an index behind the end of a shorter axis is trapped."""
    for axis, (size, wanted) in enumerate(zip(x.type.shape, shape, strict=False)):
        if not isinstance(size, int) and upper_bound(size) <= upper_bound(wanted) and size != wanted:
            x = call.add(Gather(axis), x, call.positions(wanted))
    return x


def finish(regions: Sequence[Region], results: Sequence[Sequence[Value]]) -> tuple[list[Graph], list[Value]]:
    """Gives all regions the same captures, in the same order, and their outputs.

    Returns: the graphs, and the captured values of the graph around them.
    """
    captured = list(dict.fromkeys(value for region in regions for value in region.emitter.captures))
    for region, values in zip(regions, results, strict=True):
        graph, emitter = region.emitter.graph, region.emitter
        inner = [emitter.captures.get(value) or emitter.input(value.type, "capture") for value in captured]
        graph.inputs = [*region.inputs, *inner]
        graph.input_names = [*graph.input_names[:len(region.inputs)], *(f"capture_{i}" for i in range(len(inner)))]
        graph.set_outputs(values, [f"result_{i}" for i in range(len(values))])
    return [region.emitter.graph for region in regions], captured
