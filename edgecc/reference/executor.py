"""Reference execution: runs a graph with the operators' own meaning, in numpy.

Two modes. In the plain one every operator computes in float64 and rounds its results once to their types:
the best a program that stores values in those types can do. In the wide one all floats are float64 from the
graph's inputs to its outputs and every expression is evaluated without narrow types, so what is left is the
meaning of the graph without its rounding; two graphs that are equal in exact arithmetic agree there to about
1e-15 of the magnitudes (edgecc/reference/compare.py builds on that).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.instance import graph_symbols, operator_at, sizes_of, within_bounds
from edgecc.ir.op import Op, RegionOp, RunRegion
from edgecc.ir.scalar import Apply, Arg, Bitcast, Convert, Literal, widen
from edgecc.ir.strings import sample_strings, zeros
from edgecc.ir.types import Array, DType, TensorType

Observer = Callable[[Node, tuple[Array, ...]], None]
Perturbation = Callable[[Array], Array]
Replacement = Callable[[Node, Value, Array], Array]


def execute(graph: Graph, inputs: Mapping[str, Array], *, wide: bool = False, observe: Observer | None = None,
            perturb: Perturbation | None = None, replace: Replacement | None = None) -> dict[str, Array]:
    """Runs `graph` and returns its outputs by name.

    A value is forgotten after its last use, so memory stays near the graph's own peak.

    Args:
        graph: the graph; its order must be topological (the verifier checks it).
        inputs: one array for each graph input, by interface name, of the input's type. In wide mode float
            inputs may also be float64.
        wide: whether floats are float64 throughout; outputs of float types are then float64 too.
        observe: called with each node of the graph itself and its results, in order, before operands are forgotten. The arrays are
            not to be written to.
        perturb: given the array of each value of a float type (inputs, constants, results), returns what is used
            instead; for error estimates.
        replace: given each result of each node of the graph itself, returns what is used instead.
    Raises: EdgeccError E005 where an input is missing, unknown, or of another type.
    """
    results = execute_values(graph, inputs, graph.outputs, wide=wide, observe=observe, perturb=perturb, replace=replace)
    return dict(zip(graph.output_names, results, strict=True))


def execute_values(graph: Graph, inputs: Mapping[str, Array], values: Sequence[Value], *, wide: bool = False,
                   observe: Observer | None = None, perturb: Perturbation | None = None,
                   replace: Replacement | None = None, outer: Mapping[str, int] | None = None) -> tuple[Array, ...]:
    """Runs `graph` and returns the arrays of `values`, any values of the graph. See `execute`.

    `outer` are the sizes by name of a run of the graph around a region.
    """
    sizes = check_inputs(graph, inputs, wide=wide) if outer is None else dict(outer)

    def perturbed(value: Value, array: Array) -> Array:
        return perturb(array) if perturb is not None and value.type.dtype.is_float else array

    def entering(value: Value, array: Array) -> Array:
        held = np.asarray(array)
        return perturbed(value, held.astype(np.float64) if wide and value.type.dtype.is_float else held)

    arrays: dict[Value, Array] = {
        value: entering(value, inputs[name])
        for name, value in zip(graph.input_names, graph.inputs, strict=True)}
    remaining = _use_counts(graph, values)

    def read(value: Value) -> Array:
        if value not in arrays:
            if value.constant is None:
                raise EdgeccError("E900", f"%{value.name} is read before it is computed")
            arrays[value] = entering(value, value.constant)
        return arrays[value]

    for node in graph.nodes:
        operands = tuple(None if v is None else read(v) for v in node.inputs)
        if node.op.binds is not None and operands[0] is not None:
            sizes[node.op.binds.name] = _bound(node, operands[0])
        results = run_node(operator_at(node.op, sizes), operands, tuple(v.type.at(sizes) for v in node.outputs), wide=wide,
                           where=", ".join(map(printable, node.loc)),
                           regions=[_runner(region, wide, perturb, sizes) for region in node.regions])
        results = tuple(perturbed(v, r) for v, r in zip(node.outputs, results, strict=True))
        if replace is not None:
            results = tuple(replace(node, v, r) for v, r in zip(node.outputs, results, strict=True))
        if observe is not None:
            observe(node, results)
        for value, result in zip(node.outputs, results, strict=True):
            if remaining.get(value, 0) > 0:
                arrays[value] = result
        for operand in node.inputs:
            if operand is not None:
                remaining[operand] -= 1
                if remaining[operand] == 0:
                    del arrays[operand]
    return tuple(np.array(read(value), copy=True, order="C") for value in values)


def sample_inputs(graph: Graph, seed: int = 0, sizes: Mapping[str, int] | None = None) -> dict[str, Array]:
    """Arrays that fit the graph's inputs, the same for the same seed: floats from N(0, 1), integers 0..3, random bools, short
    words for strings.

    Symbolic dimensions have the given sizes; without them the largest.
    """
    generator = np.random.default_rng(seed)
    chosen = {s.name: s.upper for s in graph_symbols(graph)} if sizes is None else sizes
    out = {}
    for name, value in zip(graph.input_names, graph.inputs, strict=True):
        dims, dtype = value.type.at(chosen).dims, value.type.dtype
        if dtype is DType.STRING:
            out[name] = sample_strings(dims, generator)
            continue
        drawn = generator.standard_normal(dims) if dtype.is_float else generator.integers(
            0, 2 if dtype is DType.BOOL else 4, dims)
        out[name] = np.asarray(np.abs(drawn) if dtype is DType.F8E8M0 else drawn).astype(dtype.numpy)  # which has no sign
    return out


def check_inputs(graph: Graph, inputs: Mapping[str, Array], *, wide: bool = False) -> dict[str, int]:
    """Checks that `inputs` holds exactly what the graph takes, and returns the sizes of its symbolic dimensions.

    Raises: EdgeccError E005 listing every missing, unknown or ill-typed input.
    """
    problems = []
    sizes: dict[str, int] | None = {}
    symbols = graph_symbols(graph)
    if symbols and all(name in inputs for name in graph.input_names):
        sizes = sizes_of([v.type for v in graph.inputs], [np.shape(inputs[name]) for name in graph.input_names])
        if not within_bounds(symbols, sizes):
            sizes = None
    for name, value in zip(graph.input_names, graph.inputs, strict=True):
        if name not in inputs:
            problems.append(f"{printable(name)}: missing, wanted {value.type}")
            continue
        array = np.asarray(inputs[name])
        wanted = [value.type.dtype.numpy, np.dtype(np.float64)] if wide and value.type.dtype.is_float else [
            value.type.dtype.numpy]
        if array.dtype not in wanted or (
                sizes is None or (array.shape != value.type.at(sizes).shape)):
            problems.append(f"{printable(name)}: got {_described(array)}, wanted {value.type}")
    problems += [f"{printable(name)}: the model has no such input" for name in inputs if name not in graph.input_names]
    if problems:
        raise EdgeccError("E005", "the inputs do not fit the model", details=problems,
                          hint="the model takes " + ", ".join(
                              f"{printable(n)} {v.type}" for n, v in zip(graph.input_names, graph.inputs, strict=True)))
    return sizes or {}


def widened(op: Op) -> Op:
    """The operator with every scalar expression among its attributes computed in f64."""
    changes = {}
    for field in dataclasses.fields(op):
        value = getattr(op, field.name)
        if isinstance(value, Arg | Literal | Apply | Convert | Bitcast):
            changes[field.name] = widen(value)
    return dataclasses.replace(op, **changes) if changes else op


def run_node(op: Op, operands: tuple[Array | None, ...], types: tuple[TensorType, ...], *, wide: bool = False,
             where: str = "", regions: Sequence[RunRegion] = ()) -> tuple[Array, ...]:
    """Runs one operator, with its `regions`, and checks that the results have the types its shape rule promised.

    Raises: EdgeccError E900 where a reference breaks its own shape rule; E402 where a loop leaves its bounds.
    """
    if isinstance(op, RegionOp):
        results = op.reference_regions(operands, regions, [
            zeros(t.dims, DType.F64 if wide and t.dtype.is_float else t.dtype) for t in types])
    else:
        results = (widened(op) if wide else op).reference(operands)
    if len(results) != len(types):
        raise EdgeccError("E900", f"the reference of {op.name} gave {len(results)} results, wanted {len(types)}", where=where)
    out = []
    for result, wanted in zip(results, types, strict=True):
        dtype = np.dtype(np.float64) if wide and wanted.dtype.is_float else wanted.dtype.numpy
        if result.shape != wanted.dims or result.dtype != dtype:
            raise EdgeccError("E900", f"the reference of {op.name} gave {_described(result)}, its shape rule {wanted}",
                              where=where)
        out.append(result)
    return tuple(out)


def _bound(node: Node, operand: Array) -> int:
    """The size that a node binds. Raises: EdgeccError E406 where it is out of its bounds."""
    node.op.reference((operand,))
    return int(operand)


def _runner(region: Graph, wide: bool, perturb: Perturbation | None, sizes: Mapping[str, int]) -> RunRegion:
    """The region as a function of the arrays of its inputs; `sizes` are those known where its node stands."""

    def run(arrays: Sequence[Array]) -> tuple[Array, ...]:
        inputs = dict(zip(region.input_names, arrays, strict=True))
        return execute_values(region, inputs, region.outputs, wide=wide, perturb=perturb, outer=sizes)

    return run


def _use_counts(graph: Graph, wanted: Sequence[Value]) -> dict[Value, int]:
    counts: dict[Value, int] = {}
    for value in (*wanted, *(v for node in graph.nodes for v in node.inputs if v is not None)):
        counts[value] = counts.get(value, 0) + 1
    return counts


def _described(array: Array) -> str:
    try:
        return str(TensorType.of(array))
    except EdgeccError:
        return f"{array.dtype}{list(array.shape)}"
