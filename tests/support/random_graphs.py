"""Random well-typed graphs for property tests.

    @given(graphs())
    def test_something(graph): ...

A graph has one to three inputs and up to `most_nodes` nodes. Values are shared, returned and used, returned twice;
axes of size 1 and odd sizes are common; values inside the graph may have any memory layout.
"""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from edgecc.ir.graph import Graph, Value
from edgecc.ir.scalar import Arg, ScalarExpr, apply, literal
from edgecc.ir.types import Array, DType, Layout, TensorType
from edgecc.ir.verify import verify
from edgecc.ops.convolution import Conv, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.ops.reduction import Reduce, Softmax

F32 = DType.F32
MOST_ELEMENTS = 400

MOVEMENTS = ("transpose", "reshape", "slice", "concat", "expand")
COMPUTATIONS = ("unary", "binary", "pad", "reduce", "softmax", "matmul", "conv", "pool")


def relu() -> ScalarExpr:
    """max(x, 0)"""
    return apply("max", Arg(0, F32), literal(0.0, F32))


def constant_array(shape: tuple[int, ...], seed: int) -> Array:
    """Numbers of a size that keeps results of deep graphs within range."""
    return (np.random.default_rng(seed).standard_normal(shape) * 0.5).astype(np.float32)


@st.composite
def graphs(draw: st.DrawFn, *, kinds: tuple[str, ...] = MOVEMENTS + COMPUTATIONS, most_nodes: int = 12,
           layouts: bool = True) -> Graph:
    """A random graph of float32 values; see the module's docstring. `kinds` limits the operators."""
    graph = Graph("random")
    values: list[Value] = []
    for number in range(draw(st.integers(1, 3))):
        shape = tuple(draw(st.lists(st.sampled_from((1, 2, 3, 4, 5, 8)), min_size=1, max_size=4)))
        while math.prod(shape) > MOST_ELEMENTS:
            shape = shape[1:]
        values.append(graph.add_input(TensorType(F32, shape), f"x{number}"))
    for _ in range(draw(st.integers(1, most_nodes))):
        operand = values[-1] if draw(st.booleans()) else draw(st.sampled_from(values))
        result = add_node(draw, graph, draw(st.sampled_from(kinds)), operand, values)
        if result is not None:
            values.append(result)
    computed = [v for v in values if v.producer is not None] or values
    outputs = [computed[-1], *draw(st.lists(st.sampled_from(values), max_size=2))]
    unused = [v for v in computed if not v.uses and v is not computed[-1]]
    outputs += unused if draw(st.booleans()) else []
    graph.set_outputs(outputs, [f"y{n}" for n in range(len(outputs))])
    if layouts:
        for value in values:
            if value.producer is not None and not graph.is_output(value) and draw(st.integers(0, 2)) == 0:
                value.layout = Layout(tuple(draw(st.permutations(range(value.type.rank)))))
    verify(graph)
    return graph


def add_node(draw: st.DrawFn, graph: Graph, kind: str, x: Value, values: list[Value]) -> Value | None:
    """Adds a node of this kind that reads `x`, or returns None where `x` does not suit it."""
    dims, rank = x.type.dims, x.type.rank
    match kind:
        case "unary":
            expr = draw(st.sampled_from((relu(), apply("neg", Arg(0, F32)), apply("sigmoid", Arg(0, F32)))))
            return graph.add(Elementwise(expr), x)
        case "binary":
            expr = apply(draw(st.sampled_from(("add", "mul", "max", "sub"))), Arg(0, F32), Arg(1, F32))
            return graph.add(Elementwise(expr), x, _partner(draw, graph, x, values))
        case "transpose":
            return graph.add(Transpose(tuple(draw(st.permutations(range(rank))))), x)
        case "reshape":
            return graph.add(Reshape(_shape_of(draw, x.type.elements)), x)
        case "slice":
            sizes = [draw(st.integers(1, d)) for d in dims]
            steps = [draw(st.sampled_from((1, 1, 2, -1))) for _ in dims]
            starts = []
            for axis, dim in enumerate(dims):
                sizes[axis] = min(sizes[axis], -(-dim // abs(steps[axis])))
                reach = (sizes[axis] - 1) * abs(steps[axis])
                first = draw(st.integers(0, dim - 1 - reach))
                starts.append(first if steps[axis] > 0 else first + reach)
            return graph.add(Slice(tuple(starts), tuple(sizes), tuple(steps)), x)
        case "concat" if rank:
            axis = draw(st.integers(0, rank - 1))
            same = [v for v in values if v.type.rank == rank and _without(v.type.dims, axis) == _without(dims, axis)]
            operands = [x, *draw(st.lists(st.sampled_from(same), min_size=1, max_size=3))]
            if draw(st.booleans()):
                operands.insert(draw(st.integers(0, len(operands))), graph.constant(constant_array(dims, 7)))
            if sum(v.type.elements for v in operands) > MOST_ELEMENTS:
                return None
            return graph.add(Concat(axis), *operands)
        case "expand" if x.type.elements * 3 <= MOST_ELEMENTS:
            widened = tuple(draw(st.sampled_from((1, 2, 3))) if d == 1 else d for d in dims)
            shape = (*draw(st.sampled_from(((), (1,), (2,)))), *widened)
            return graph.add(Expand(shape), x) if math.prod(shape) <= MOST_ELEMENTS else None
        case "pad" if x.type.elements <= MOST_ELEMENTS // 2 and rank <= 4:
            before = tuple(draw(st.sampled_from((0, 0, 1, 2))) for _ in dims)
            return graph.add(Pad(before, tuple(draw(st.sampled_from((0, 1))) for _ in dims)), x)
        case "reduce" if rank:
            axes = tuple(sorted(draw(st.sets(st.integers(0, rank - 1), min_size=1))))
            return graph.add(Reduce(draw(st.sampled_from(("sum", "mean", "max"))), axes, draw(st.booleans())), x)
        case "softmax" if rank:
            return graph.add(Softmax(draw(st.integers(0, rank - 1))), x)
        case "matmul" if rank >= 2:
            width = draw(st.sampled_from((1, 3, 8)))
            other = [v for v in values if v.type.rank == 2 and v.type.dims[0] == dims[-1]]
            if other and draw(st.booleans()):
                return graph.add(MatMul(False, False), x, draw(st.sampled_from(other)))
            return graph.add(MatMul(False, False), x, graph.constant(constant_array((dims[-1], width), width)))
        case "conv" if rank == 4 and min(dims[2:]) >= 2:
            channels, pad = draw(st.sampled_from((2, 8))), draw(st.sampled_from((0, 1)))
            if dims[0] * channels * (dims[2] + 1) * (dims[3] + 1) > MOST_ELEMENTS:
                return None
            weights = graph.constant(constant_array((channels, dims[1], 2, 2), 3), "w")
            return graph.add(Conv((1, 1), (pad, 0, 0, pad), (1, 1)), x, weights, graph.constant(constant_array((channels,), 4)))
        case "pool" if rank == 4 and min(dims[2:]) >= 2:
            return graph.add(Pool(draw(st.sampled_from(("max", "average"))), (2, 2), (1, 2), (0, 0, 0, 0), (1, 1)), x)
    return None


def _partner(draw: st.DrawFn, graph: Graph, x: Value, values: list[Value]) -> Value:
    """An operand that broadcasts to the shape of `x`, which may be `x` itself."""
    fits = [v for v in values if _broadcasts(v.type.dims, x.type.dims)]
    if draw(st.booleans()):
        return draw(st.sampled_from(fits))
    shape = tuple(draw(st.sampled_from((1, d))) for d in x.type.dims)
    return graph.constant(constant_array(shape, 11))


def _broadcasts(own: tuple[int, ...], dims: tuple[int, ...]) -> bool:
    return len(own) <= len(dims) and all(a in (1, b) for a, b in zip(reversed(own), reversed(dims), strict=False))


def _without(dims: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*dims[:axis], *dims[axis + 1:])


def _shape_of(draw: st.DrawFn, elements: int) -> tuple[int, ...]:
    """A shape of so many elements."""
    shape: list[int] = []
    left = elements
    while left > 1 and len(shape) < 4:
        divisors = [d for d in range(2, left + 1) if left % d == 0]
        shape.append(draw(st.sampled_from(divisors)))
        left //= shape[-1]
    if left > 1:
        shape[-1] *= left
    if len(shape) < 4 and draw(st.booleans()):
        shape.insert(draw(st.integers(0, len(shape))), 1)
    return tuple(shape)
