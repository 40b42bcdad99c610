"""Probabilities of classes from the scores of all pairs of classes, as support vector machines give them.

A sigmoid fitted in training makes a probability of each pair's score (J. Platt, Probabilistic outputs for support vector machines,
1999). The probabilities of the classes are those that agree best with all pairs: the second method of T.-F. Wu, C.-J. Lin and
R. C. Weng, Probability estimates for multi-class classification by pairwise coupling, JMLR 5 (2004), by its algorithm 2. Steps and
limits are those of libsvm, which onnxruntime has, too: what is left after its last iteration is part of the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.movement import concat
from edgecc.frontend.regions import finish, inside, new_region
from edgecc.frontend.registry import Unsupported
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, convert, literal
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops.control import Loop
from edgecc.ops.indexing import Gather
from edgecc.ops.matrix import MatMul
from edgecc.ops.reduction import Reduce

LEAST = 1e-7
"""Probabilities of pairs keep this distance from 0 and 1."""
TOLERANCE = 0.005
"""Iteration ends where all conditions of the optimum hold to this, divided by the number of classes."""
ITERATIONS = 100
MOST_CLASSES = 128
"""Each class is a step of an iteration, written out."""


def class_probabilities(call: Call, scores: Value, slopes: Sequence[float], offsets: Sequence[float], classes: int) -> Value:
    """Probabilities [rows, classes] of scores [rows, pairs], pairs (0,1), (0,2), ... (1,2), ... in order.

    Args:
        slopes, offsets: of the sigmoid of each pair: its probability is 1 / (1 + exp(slope * score + offset)).
    They fit (`check_sigmoids`).
    """
    system = _system(call, _pair_probabilities(call, scores, slopes, offsets, classes), classes)
    rows = scores.type.shape[0]
    start = call.expand(call.constant(np.full((1, 1), 1.0 / classes, np.float32)), (rows, classes))
    region = new_region(call, "body", [("iteration", TensorType(DType.I64, ()), None), ("estimates", start.type, start)])
    with inside(call, region):
        again, better = _iteration(call, region.emitter.local(system), region.inputs[1], classes)
        results = [region.emitter.local(again), region.emitter.local(better)]
    (graph,), captured = finish([region], [results])
    operands = [call.scalar(ITERATIONS, DType.I64), call.scalar(True, DType.BOOL), start, *captured]
    return call.importer.emitter.emit_regions(Loop(1, ITERATIONS), operands, [graph], call.loc)[0]


def check_sigmoids(slopes: Sequence[float], offsets: Sequence[float], classes: int) -> None:
    """Raises: EdgeccError E110 where there are other numbers of sigmoids than of pairs; Unsupported for many classes."""
    pairs = classes * (classes - 1) // 2
    if len(slopes) != pairs or len(offsets) != pairs:
        raise EdgeccError("E110", f"prob_a has {len(slopes)} numbers and prob_b {len(offsets)}, wanted {pairs} for {classes} classes")
    if classes > MOST_CLASSES:
        raise Unsupported(f"probabilities of {classes} classes by pairs; at most are {MOST_CLASSES}", "export the classifier without probabilities")


def _pair_probabilities(call: Call, scores: Value, slopes: Sequence[float], offsets: Sequence[float], classes: int) -> Value:
    """[rows, classes, classes]: at i, j that of i against j; 0 on the diagonal."""

    def sigmoid(score: ScalarExpr, slope: ScalarExpr, offset: ScalarExpr) -> ScalarExpr:
        p = apply("sigmoid", apply("neg", apply("add", apply("mul", score, slope), offset)))
        return apply("min", apply("max", p, literal(LEAST, DType.F32)), literal(float(np.float32(1.0) - np.float32(LEAST)), DType.F32))

    first = call.map(sigmoid, scores, call.constant(np.array(slopes, np.float32)), call.constant(np.array(offsets, np.float32)))
    second = call.map(lambda p: apply("sub", literal(1.0, DType.F32), p), first)
    none = call.map(lambda p: apply("mul", p, literal(0.0, DType.F32)), call.slice(first, 1, 0, 1))
    call.reserve((classes, classes), "the pairs of classes")
    pairs = classes * (classes - 1) // 2
    places = np.full((classes, classes), 2 * pairs, np.int64)
    for number, (i, j) in enumerate(itertools.combinations(range(classes), 2)):
        places[i, j], places[j, i] = number, pairs + number
    return call.add(Gather(1), concat(call, [first, second, none], 1), call.constant(places))


def _system(call: Call, probabilities: Value, classes: int) -> Value:
    """Q [rows, classes, classes] of the article's equation 17: sums of squares on the diagonal, products off it, negated."""
    other = call.transpose(probabilities, (0, 2, 1))
    squares = call.add(Reduce("sum", (2,)), call.map(lambda p: apply("mul", p, p), other))

    def element(p: ScalarExpr, q: ScalarExpr, square: ScalarExpr, on_diagonal: ScalarExpr) -> ScalarExpr:
        return apply("select", on_diagonal, square, apply("neg", apply("mul", p, q)))

    return call.map(element, probabilities, other, squares, call.constant(np.eye(classes, dtype=np.bool_)))


def _iteration(call: Call, system: Value, estimates: Value, classes: int) -> tuple[Value, Value]:
    """Whether any row goes on, and the estimates after this iteration; rows that have converged stay as they are."""
    rows = estimates.type.shape[0]
    product = call.reshape(call.add(MatMul(), system, call.reshape(estimates, (rows, classes, 1))), (rows, classes))
    total = call.add(Reduce("sum", (1,)), call.map(lambda p, q: apply("mul", p, q), estimates, product))
    error = call.add(Reduce("max", (1,)), call.map(lambda q, t: apply("abs", apply("sub", q, t)), product, total))
    going = call.map(lambda e: apply("not", apply("lt", e, literal(float(np.float32(TOLERANCE / classes)), DType.F32))), error)
    better = estimates
    one = literal(1.0, DType.F32)
    for i in range(classes):
        row = call.reshape(call.slice(system, 1, i, 1), (rows, classes))
        own, at = call.slice(row, 1, i, 1), call.slice(product, 1, i, 1)
        step = call.map(lambda t, q, d: apply("div", apply("sub", t, q), d), total, at, own)
        place = call.constant(_unit(i, classes))
        better = call.map(lambda p, d, u: apply("div", apply("add", p, apply("mul", d, u)), apply("add", one, d)), better, step, place)
        total = call.map(_moved_total, total, step, own, at)
        product = call.map(lambda q, d, r: apply("div", apply("add", q, apply("mul", d, r)), apply("add", one, d)), product, step, row)
    better = call.map(lambda g, new, old: apply("select", g, new, old), going, better, estimates)
    count = call.add(Reduce("max", (0, 1), keepdims=False), call.map(lambda g: convert(g, DType.I32), going))
    return call.map(lambda n: apply("lt", literal(0, DType.I32), n), count), better


def _moved_total(total: ScalarExpr, step: ScalarExpr, own: ScalarExpr, at: ScalarExpr) -> ScalarExpr:
    one, two = literal(1.0, DType.F32), literal(2.0, DType.F32)
    added = apply("mul", step, apply("add", apply("mul", step, own), apply("mul", two, at)))
    return apply("div", apply("div", apply("add", total, added), apply("add", one, step)), apply("add", one, step))


def _unit(index: int, size: int) -> Array:
    return np.eye(1, size, index, dtype=np.float32)
