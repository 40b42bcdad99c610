"""What integer operators make of a network, compared with the literal meaning of its quantizations, value by value.

A rounding that falls the other way changes everything behind it, so the results of whole networks say little. Here each
value of the network before a pass is computed in float64 from what the network after it holds in front of that value,
and compared where a pass has put another value in its place. A quantized one may differ by one step, and only where what is
rounded lies at a tie, to the accuracy of float32; other integers not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.instance import operator_at
from edgecc.ir.types import Array
from edgecc.passes.scaled import rounding
from edgecc.reference.compare import UNIT
from edgecc.reference.executor import check_inputs, execute, run_node


@dataclass(frozen=True)
class Snapshot:
    """A graph as it was.

    Attributes:
        graph: a copy.
        sources: the value of the original for each value of the copy.
    """

    graph: Graph
    sources: Mapping[Value, Value]


@dataclass(frozen=True)
class TieReport:
    """What was found.

    Attributes:
        compared: elements of quantized values in whose place others stand.
        differing: those that differ.
        problems: differences that are not at a tie, in words.
    """

    compared: int
    differing: int
    problems: tuple[str, ...]


def snapshot(graph: Graph) -> Snapshot:
    """The graph as it is now."""
    copy = graph.copy()
    pairs = list(zip(copy.inputs, graph.inputs, strict=True))
    for own, other in zip(copy.nodes, graph.nodes, strict=True):
        pairs += zip(own.outputs, other.outputs, strict=True)
    return Snapshot(copy, dict(pairs))


def compare_at_ties(before: Snapshot, after: Graph, replaced: Mapping[Value, Value], inputs: Mapping[str, Array],
                    units: float) -> TieReport:
    """Compares the graph `after` passes with what it was.

    Args:
        replaced: what stands for values of the former graph, itself perhaps replaced (`collect_replacements`).
        units: how far what is rounded may lie from a tie, in roundings of float32 of the largest numbers of the type; for
            floats, how far they may differ, in roundings of the magnitude of their terms.
    """
    held: dict[Value, Array] = dict(zip(after.inputs, (np.asarray(inputs[name]) for name in after.input_names), strict=True))

    def keep(node: Node, results: Iterable[Array]) -> None:
        held.update(zip(node.outputs, results, strict=True))

    execute(after, inputs, observe=keep)
    arrays: dict[Value, Array] = {}

    def read(value: Value) -> Array:
        if value not in arrays:
            arrays[value] = np.asarray(value.constant if value.constant is not None else held[before.sources[value]])
        array = arrays[value]
        return array.astype(np.float64) if value.type.dtype.is_float else array

    sizes = check_inputs(after, inputs)
    compared = differing = 0
    problems: list[str] = []
    for node in before.graph.nodes:
        own = [before.sources[value] for value in node.outputs]
        if all(value in held for value in own):
            arrays.update(zip(node.outputs, (held[value] for value in own), strict=True))
            if node.op.binds is not None:
                sizes[node.op.binds.name] = int(held[own[0]])
            continue
        operands = tuple(None if v is None else read(v) for v in node.inputs)
        if node.op.binds is not None and operands[0] is not None:
            sizes[node.op.binds.name] = int(operands[0])
        results = run_node(operator_at(node.op, sizes), operands, tuple(v.type.at(sizes) for v in node.outputs), wide=True, where=", ".join(node.loc))
        magnitudes = node.op.magnitude(operands)
        for value, source, result, magnitude in zip(node.outputs, own, results, magnitudes, strict=True):
            arrays[value] = result
            other = _standing_for(source, replaced)
            found = other.constant if other.constant is not None else held.get(other)
            if found is None:
                continue
            arrays[value] = found
            if value.type.dtype.is_float:
                problem = _difference(result, found, magnitude, units)
            else:
                compared += result.size
                wrong = result != found
                differing += int(np.count_nonzero(wrong))
                problem = _not_at_ties(node, operands, result, found, wrong, units)
            if problem:
                problems.append(f"%{value.name} ({', '.join(node.loc) or node.op.name}): {problem}")
    return TieReport(compared, differing, tuple(problems))


def _standing_for(value: Value, replaced: Mapping[Value, Value]) -> Value:
    while value in replaced:
        value = replaced[value]
    return value


def _difference(expected: Array, found: Array, magnitude: Array, units: float) -> str:
    with np.errstate(all="ignore"):
        error = np.where(found == expected, 0.0, np.abs(found - expected))
        allowed = units * UNIT * np.maximum(np.abs(magnitude), np.abs(expected)) + 1e-37
        wrong = ~(error <= allowed)
    return f"{int(wrong.sum())} of {wrong.size} elements differ by up to {float(error[wrong].max())}" if wrong.any() else ""


def _not_at_ties(node: Node, operands: tuple[Array | None, ...], expected: Array, found: Array, wrong: Array, units: float) -> str:
    if not wrong.any():
        return ""
    form = rounding(node)
    if form is None:
        return f"{int(wrong.sum())} of {wrong.size} integers differ"
    (position,) = [i for i, v in enumerate(node.inputs) if v is form.operand][:1]
    real = operands[position]
    if real is None:
        return "its operand is absent"
    steps = np.asarray(real / form.scale)
    distance = np.abs(steps - np.floor(steps) - 0.5)
    allowed = units * UNIT * np.maximum(np.abs(steps), 2.0**form.dtype.bits)
    far = wrong & ((distance > allowed) | (np.abs(expected.astype(np.int64) - found.astype(np.int64)) > 1))
    if not far.any():
        return ""
    return f"{int(far.sum())} of {far.size} numbers are not at a tie, {float(distance[far].max())} steps away from it"
