"""Random graphs with branches and loops, nested, for property tests.

    @given(control_graphs())
    def test_something(graph): ...

The graph takes floats x0, x1, ..., a truth value and a trip count from 0 to `MOST_TRIPS`. Conditions depend on
truth values and numbers of iterations alone, so that rounding decides nothing.
"""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from edgecc.ir.graph import Graph, Value
from edgecc.ir.scalar import Arg, apply, convert
from edgecc.ir.types import Array, DType, Layout, TensorType
from edgecc.ir.verify import verify
from edgecc.ops.control import If, Loop
from edgecc.ops.elementwise import Elementwise
from tests.support.random_graphs import add_node

F32, I64, BOOL = DType.F32, DType.I64, DType.BOOL
MOST_TRIPS = 3
MOST_ELEMENTS = 120
KINDS = ("unary", "binary", "transpose", "slice", "reshape", "concat", "reduce", "matmul", "pad")


@st.composite
def control_graphs(draw: st.DrawFn) -> Graph:
    """A random graph with at least one branch or loop."""
    graph = Graph("random")
    values: list[Value] = []
    for number in range(draw(st.integers(1, 2))):
        shape = tuple(draw(st.lists(st.sampled_from((1, 2, 3, 5)), min_size=1, max_size=3)))
        values.append(graph.add_input(TensorType(F32, shape), f"x{number}"))
    flags = [graph.add_input(TensorType(BOOL, ()), "flag")]
    counts = [graph.add_input(TensorType(I64, ()), "count")]
    _grow(draw, graph, values, 2)
    for _ in range(draw(st.integers(1, 2))):
        _control(draw, graph, values, flags, counts, 2)
        _grow(draw, graph, values, 2)
    outputs = [values[-1], draw(st.sampled_from(values))]
    graph.set_outputs(outputs, ["y0", "y1"])
    for value in values:
        if value.producer is not None and not value.producer.regions and not graph.is_output(value) and draw(st.integers(0, 2)) == 0:
            value.layout = Layout(tuple(draw(st.permutations(range(value.type.rank)))))
    verify(graph)
    return graph


def control_inputs(graph: Graph, seed: int) -> dict[str, Array]:
    """Inputs for a graph of `control_graphs`."""
    generator = np.random.default_rng(seed)
    inputs: dict[str, Array] = {name: generator.standard_normal(value.type.dims).astype(np.float32)
                                for name, value in zip(graph.input_names, graph.inputs, strict=True)}
    return inputs | {"flag": np.array(seed % 2 == 0), "count": np.array(seed // 2 % (MOST_TRIPS + 1), np.int64)}


def _grow(draw: st.DrawFn, graph: Graph, values: list[Value], most: int) -> None:
    """Adds up to `most` computations."""
    for _ in range(draw(st.integers(0, most))):
        small = [v for v in values if v.type.elements <= MOST_ELEMENTS]
        if not small:
            return
        result = add_node(draw, graph, draw(st.sampled_from(KINDS)), draw(st.sampled_from(small)), values)
        if result is not None and 0 < result.type.elements <= MOST_ELEMENTS:
            values.append(result)


def _control(draw: st.DrawFn, graph: Graph, values: list[Value], flags: list[Value], counts: list[Value], depth: int) -> None:
    """Adds a branch or a loop and its results."""
    if draw(st.booleans()):
        _branch(draw, graph, values, flags, counts, depth)
    else:
        _loop(draw, graph, values, flags, counts, depth)


def _region(name: str, types: list[TensorType]) -> Graph:
    region = Graph(name)
    for number, tensor_type in enumerate(types):
        region.add_input(tensor_type, f"in{number}")
    return region


def _sorted(region: Graph, inputs: list[Value]) -> tuple[list[Value], list[Value], list[Value]]:
    """Floats, truth values and numbers among the inputs of a region."""
    floats = [v for v in inputs if v.type.dtype is F32]
    return floats, [v for v in inputs if v.type.dtype is BOOL], [v for v in inputs if v.type.dtype is I64]


def _captured(draw: st.DrawFn, values: list[Value], flags: list[Value], counts: list[Value]) -> list[Value]:
    return [*draw(st.lists(st.sampled_from(values), min_size=1, max_size=3)), draw(st.sampled_from(flags)),
            draw(st.sampled_from(counts))]


def _fill(draw: st.DrawFn, region: Graph, floats: list[Value], flags: list[Value], counts: list[Value], depth: int) -> None:
    _grow(draw, region, floats, 3)
    if depth > 1 and floats and draw(st.booleans()):
        _control(draw, region, floats, flags, counts, depth - 1)


def _of_type(draw: st.DrawFn, region: Graph, floats: list[Value], wanted: TensorType) -> Value:
    """A value of this type, as a rule one that is computed; a constant where there is none."""
    found = [v for v in floats if v.type == wanted]
    if found and draw(st.integers(0, 4)):
        chosen = found[-1] if draw(st.booleans()) else draw(st.sampled_from(found))
        if draw(st.booleans()):
            return region.add(Elementwise(apply("sigmoid", Arg(0, F32))), chosen)
        return chosen
    return region.constant(np.full(wanted.dims, 0.25, np.float32))


def _branch(draw: st.DrawFn, graph: Graph, values: list[Value], flags: list[Value], counts: list[Value], depth: int) -> None:
    captures = _captured(draw, values, flags, counts)
    types = [draw(st.sampled_from(values)).type for _ in range(draw(st.integers(1, 2)))]
    regions = []
    for name in If.regions:
        region = _region(name, [v.type for v in captures])
        floats, own_flags, own_counts = _sorted(region, region.inputs)
        _fill(draw, region, floats, own_flags, own_counts, depth)
        region.set_outputs([_of_type(draw, region, floats, t) for t in types], [f"out{i}" for i in range(len(types))])
        regions.append(region)
    node = graph.add_node(If(), [draw(st.sampled_from(flags)), *captures], regions=regions, names=[f"if{i}" for i in range(len(types))])
    values.extend(node.outputs)


def _loop(draw: st.DrawFn, graph: Graph, values: list[Value], flags: list[Value], counts: list[Value], depth: int) -> None:
    states = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    captures = _captured(draw, values, flags, counts)
    rows = draw(st.integers(1, MOST_TRIPS))
    scanned = [v for v in values if v.type.rank and v.type.dims[0] == rows][:1] if draw(st.booleans()) else []
    ends = draw(st.booleans())
    exact = not ends and draw(st.booleans())
    types = [TensorType(I64, ()), *(v.type for v in states), *(TensorType(F32, v.type.dims[1:]) for v in scanned),
             *(v.type for v in captures)]
    body = _region("body", types)
    floats, own_flags, own_counts = _sorted(body, body.inputs)
    floats.append(body.add(Elementwise(convert(Arg(0, I64), F32)), body.inputs[0]))
    _fill(draw, body, floats, own_flags, own_counts, depth)
    again = body.constant(np.array(True))
    if ends:
        less = apply("lt", Arg(0, I64), Arg(1, I64))
        again = body.add(Elementwise(less), *(draw(st.sampled_from(own_counts)) for _ in range(2))) if draw(
            st.booleans()) else own_flags[0]
    next_states = [_of_type(draw, body, floats, v.type) for v in states]
    if len(states) > 1 and states[0].type == states[1].type and draw(st.booleans()):
        next_states[:2] = body.inputs[2], body.inputs[1]
    stacked = [v for v in draw(st.lists(st.sampled_from(floats), max_size=2)) if rows * math.prod(v.type.dims) <= MOST_ELEMENTS]
    body.set_outputs([again, *next_states, *stacked], [f"out{i}" for i in range(1 + len(states) + len(stacked))])
    has_rows = bool(scanned or stacked)
    trips = graph.constant(np.array(rows)) if has_rows or draw(st.booleans()) else draw(st.sampled_from(counts))
    backwards = [draw(st.booleans()) and exact for _ in range(len(scanned) + len(stacked))]
    op = Loop(len(states), MOST_TRIPS, tuple(backwards[:len(scanned)]), tuple(backwards[len(scanned):]), rows if has_rows else 0,
              has_rows and not exact)
    condition = graph.constant(np.array(True)) if exact else draw(st.sampled_from(flags))
    node = graph.add_node(op, [trips, condition, *states, *scanned, *captures], regions=[body],
                          names=[f"loop{i}" for i in range(len(states) + len(stacked))])
    values.extend(node.outputs)
