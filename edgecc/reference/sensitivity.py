"""How far rounding alone moves the outputs of a network, where it moves them by more than a fixed tolerance says.

Where a network quantizes what it computes, or picks the largest of several numbers, the last bit of a sum decides between two integers,
and the network goes on with either. Two programs that are right then differ by far more than rounding, and a fixed tolerance says nothing.
What can be measured is how far such decisions move the outputs: the reference is executed in float64, and several times more with every
value off by a roundoff of float32 at random (`edgecc/reference/compare.py` has the method), and compared with its execution in the types
of the graph. A program that is right is one more sample of the same kind.

Of a network that is compiled in a half precision the samples are executions of the converted one (edgecc/reference/half_precision.py).

So a float output may be off by `FACTOR` times what the samples were off by, as its largest error and as its root mean square, which a
program that is wrong throughout does not keep to. An element of another type may be what any of the samples has there. Where the samples
are off by more than `LARGEST` of an output's magnitude, nothing is allowed: such a comparison would say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Apply, Convert, ScalarExpr, children
from edgecc.ir.strings import is_string_array
from edgecc.ir.types import Array, DType, is_float_array
from edgecc.ops.elementwise import Elementwise
from edgecc.reference.compare import OutputComparison, output_tolerance, perturbation, relative_tolerance
from edgecc.reference.executor import execute
from edgecc.reference.half_precision import HalfPrecision

FACTOR = 2.0
"""By how much an error may exceed the largest of the samples."""

SAMPLES = 4
"""Executions with values off by a roundoff."""

LARGEST = 1 / 8
"""The most that may be allowed, relative to the largest expected magnitude."""

ROUNDING = frozenset({"round", "floor", "ceil"})


@dataclass(frozen=True)
class Allowance:
    """What an output was allowed because rounding decides it.

    Attributes:
        name: the output.
        sensitivity: how far the samples lie from the reference at most; for outputs that are no floats how many elements they moved.
        tolerance: what was allowed without it.
        allowed: what the largest error may be with it.
        granted: whether the output is right by it.
        precision: the half precision that moves the output; "" where integers do that a run rounds floats to.
        floats: whether the output is of floats.
    """

    name: str
    sensitivity: float
    tolerance: float
    allowed: float
    granted: bool
    precision: str = ""
    floats: bool = True


def decided_by_rounding(graph: Graph) -> frozenset[str]:
    """The outputs that depend on an integer which was rounded or chosen from floats that vary."""
    varying: set[Value] = set(graph.inputs)
    decided: set[Value] = set()
    for node in graph.nodes:
        operands = [v for v in node.inputs if v is not None]
        if not any(v in varying for v in operands):
            continue
        varying.update(node.outputs)
        floats = any(v in varying and v.type.dtype.is_float for v in operands)
        if any(v in decided for v in operands) or (floats and _decides(node)):
            decided.update(node.outputs)
    return frozenset(name for name, value in zip(graph.output_names, graph.outputs, strict=True) if value in decided)


def allow_for_rounding(graph: Graph, inputs: Mapping[str, Array], results: Mapping[str, Array], expected: Mapping[str, Array],
                       compared: Sequence[OutputComparison], seed: int = 0) -> tuple[tuple[OutputComparison, ...], tuple[Allowance, ...]]:
    """Judges again the outputs that differ, where rounding decides them.

    Args:
        graph: what the reference executes.
        inputs: of the run.
        results: what the compiled network computed.
        expected: what was compared with; the reference's own or another implementation's.
        compared: the outcome of `compare_outputs`.
    Returns: the comparisons, with the tolerances that count now, and what was allowed.
    """
    decided = decided_by_rounding(graph)
    wanting = [one.name for one in compared if not one.ok and one.name in decided]
    if not wanting:
        return tuple(compared), ()
    samples = [execute(graph, inputs, wide=True)]
    samples += [execute(graph, inputs, wide=True, perturb=perturbation(np.random.default_rng([seed, number]))) for number in range(SAMPLES)]
    return _judged(wanting, compared, results, expected, execute(graph, inputs), samples, "")


def allow_for_precision(graph: Graph, converted: Graph, precision: str, inputs: Mapping[str, Array], results: Mapping[str, Array],
                        expected: Mapping[str, Array], compared: Sequence[OutputComparison],
                        seed: int = 0) -> tuple[tuple[OutputComparison, ...], tuple[Allowance, ...]]:
    """Judges again the outputs of a network in a half precision that differ.

    Args: as for `allow_for_rounding`; `converted` is what was compiled of `graph`.
    """
    wanting = [one.name for one in compared if not one.ok]
    return _judged(wanting, compared, results, expected, execute(graph, inputs), _samples(converted, inputs, seed), precision)


def errors_in_precision(graph: Graph, converted: Graph, unit_roundoff: float, inputs: Mapping[str, Array],
                        expected: Mapping[str, Array], seed: int = 0) -> dict[str, Array]:
    """What each output of a network in a half precision may be off by, for whom its results are not at hand yet.

    It is the largest error that `compare_outputs` and then `allow_for_precision` accept; for elements of other types than floats, how far
    the samples move each of them.

    Args: as for `allow_for_precision`.
        unit_roundoff: of the half precision.
        expected: what `graph` gives for `inputs`.
    Returns: arrays that broadcast to the outputs, by name; strings have none.
    """
    relative, samples = relative_tolerance(graph, unit_roundoff), _samples(converted, inputs, seed)
    found: dict[str, Array] = {}
    for name, wanted in expected.items():
        moved = [sample[name] for sample in samples]
        if is_float_array(wanted):
            found[name] = np.asarray(_allowed(output_tolerance(wanted, DType.from_numpy(wanted.dtype), relative), wanted, _moved(wanted, moved)))
        elif not is_string_array(wanted):
            found[name] = np.max([np.abs(sample.astype(np.float64) - wanted.astype(np.float64)) for sample in moved], axis=0)
    return found


def _samples(converted: Graph, inputs: Mapping[str, Array], seed: int) -> list[dict[str, Array]]:
    network = HalfPrecision(converted)
    return [network.run(inputs, seed + number) for number in range(SAMPLES)]


def _judged(wanting: Sequence[str], compared: Sequence[OutputComparison], results: Mapping[str, Array], expected: Mapping[str, Array],
            plain: Mapping[str, Array], samples: Sequence[Mapping[str, Array]],
            precision: str) -> tuple[tuple[OutputComparison, ...], tuple[Allowance, ...]]:
    again: dict[str, tuple[OutputComparison, Allowance]] = {}
    for one in compared:
        if one.name in wanting:
            judge = _judge_floats if is_float_array(plain[one.name]) else _judge_others
            judged, allowance = judge(one, results[one.name], np.asarray(expected[one.name]), plain[one.name],
                                      [sample[one.name] for sample in samples])
            again[one.name] = judged, replace(allowance, precision=precision)
    return tuple(again[one.name][0] if one.name in again else one for one in compared), tuple(found for _, found in again.values())


def _decides(node: Node) -> bool:
    """Whether a node makes integers of floats, or rounds them; comparisons alone do not count."""
    if node.regions:
        return any(_decides(inner) for region in node.regions for inner in region.nodes)
    if isinstance(node.op, Elementwise):
        return _rounds(node.op.expr)
    epilogue = getattr(node.op, "epilogue", None)
    return (epilogue is not None and _rounds(epilogue)) or any(not v.type.dtype.is_float for v in node.outputs)


def _rounds(expr: ScalarExpr) -> bool:
    here = (isinstance(expr, Apply) and expr.op in ROUNDING) or (
        isinstance(expr, Convert) and expr.arg.dtype.is_float and (not expr.dtype.is_float or expr.dtype.is_stored_only))
    return here or any(_rounds(child) for child in children(expr))


def _judge_floats(one: OutputComparison, result: Array, expected: Array, plain: Array,
                  samples: Sequence[Array]) -> tuple[OutputComparison, Allowance]:
    wanted = expected.astype(np.float64)
    finite = np.isfinite(wanted) & np.isfinite(plain)
    moved = _moved(np.where(finite, plain, np.nan), samples)
    allowed = _allowed(one.tolerance, np.where(finite, wanted, np.nan), moved)
    with np.errstate(all="ignore"):
        error = _root_mean_square(np.where(finite, result.astype(np.float64) - wanted, 0.0))
    typical = one.tolerance + FACTOR * max(map(_root_mean_square, moved))
    ok = one.max_abs_err <= allowed < math.inf and error <= typical
    return replace(one, tolerance=allowed, ok=ok), Allowance(one.name, _largest(moved), one.tolerance, allowed, ok)


def _moved(plain: Array, samples: Sequence[Array]) -> list[Array]:
    """How far the samples lie from the reference; 0 where one of them is not finite."""
    with np.errstate(all="ignore"):
        return [np.where(np.isfinite(plain) & np.isfinite(sample), sample - plain.astype(np.float64), 0.0) for sample in samples]


def _allowed(tolerance: float, expected: Array, moved: Sequence[Array]) -> float:
    """The largest error of an output whose samples moved so far."""
    more = FACTOR * _largest(moved)
    return tolerance + (more if more <= LARGEST * float(np.max(np.abs(expected), where=np.isfinite(expected), initial=0.0)) else 0.0)


def _largest(moved: Sequence[Array]) -> float:
    return max(float(np.max(np.abs(each), initial=0.0)) for each in moved)


def _judge_others(one: OutputComparison, result: Array, expected: Array, plain: Array,
                  samples: Sequence[Array]) -> tuple[OutputComparison, Allowance]:
    moved = np.zeros(plain.shape, bool)
    right = result == expected
    for sample in samples:
        moved |= sample != plain
        right |= (result == sample) & (sample != plain)
    ok = bool(np.all(right))
    return replace(one, ok=ok, tolerance=one.max_abs_err if ok else one.tolerance), Allowance(
        one.name, float(np.count_nonzero(moved)), one.tolerance, one.max_abs_err if ok else one.tolerance, ok, floats=False)


def _root_mean_square(array: Array) -> float:
    return float(np.sqrt(np.mean(array**2))) if array.size else 0.0
