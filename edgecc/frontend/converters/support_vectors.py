"""Support vector machines, of the domain ai.onnx.ml."""

from __future__ import annotations

import itertools

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.converters.classical import DOMAIN, features_of, labels_of, post_transformed
from edgecc.frontend.converters.movement import concat
from edgecc.frontend.converters.pairwise_probabilities import check_sigmoids, class_probabilities
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, convert, literal
from edgecc.ir.types import Array, DType
from edgecc.ops.indexing import Gather
from edgecc.ops.matrix import MatMul
from edgecc.ops.reduction import ArgReduce, Reduce


@converter("SVMRegressor", domain=DOMAIN)
def _support_vectors(call: Call) -> Value:
    """The sum of kernel(x, support vector) * coefficient, plus rho; one_class gives the sign of it."""
    x = call.cast(call.input(), DType.F32)
    x = call.reshape(x, (1, *x.type.shape)) if x.type.rank == 1 else x
    count, weights = call.integer("n_supports", 0), call.floats("coefficients") or ()
    vectors = call.floats("support_vectors") or ()
    if x.type.rank != 2 or (len(weights) != count or len(vectors) != count * features_of(x) if count else len(weights) != features_of(x)):
        raise EdgeccError("E110", f"{count} support vectors of {len(vectors)} numbers and {len(weights)} coefficients do not fit {x.type}")
    column = call.constant(np.array(weights, np.float32).reshape(-1, 1))
    if count:
        x = _similarity(call, x, np.array(vectors, np.float32).reshape(count, -1))
    rho = literal((call.floats("rho") or (0.0,))[0], DType.F32)
    y = call.map(lambda a: apply("add", a, rho), call.add(MatMul(), x, column))
    if call.flag("one_class"):
        zero, one, other = (literal(value, DType.F32) for value in (0.0, 1.0, -1.0))
        return call.map(lambda a: apply("select", apply("lt", zero, a), one, other), y)
    return post_transformed(call, y, call.text("post_transform", "NONE"))


def _similarity(call: Call, x: Value, vectors: Array) -> Value:
    """The kernel of each row of x [rows, features] and each support vector [count, features]: [rows, count]."""
    kind = call.text("kernel_type", "LINEAR")
    gamma, constant, degree = (literal(value, DType.F32) for value in _kernel_parameters(call))
    if kind == "RBF":
        rows, features = x.type.shape
        call.importer.limits.check_dims((rows, *vectors.shape), "the differences to support vectors")
        away = call.map(lambda a, v: apply("mul", apply("sub", a, v), apply("sub", a, v)),
                        call.reshape(x, (rows, 1, features)), call.constant(vectors))
        return call.map(lambda d: apply("exp", apply("neg", apply("mul", gamma, d))), call.add(Reduce("sum", (2,), keepdims=False), away))
    product = call.add(MatMul(transpose_b=True), x, call.constant(vectors))
    match kind:
        case "LINEAR":
            return product
        case "POLY":
            return call.map(lambda a: apply("pow", apply("add", apply("mul", a, gamma), constant), degree), product)
        case "SIGMOID":
            return call.map(lambda a: apply("tanh", apply("add", apply("mul", a, gamma), constant)), product)
    raise EdgeccError("E102", f"kernel_type is '{printable(kind)}', wanted LINEAR, POLY, RBF or SIGMOID")


def _kernel_parameters(call: Call) -> tuple[float, ...]:
    """gamma, the constant and the degree."""
    given = call.floats("kernel_params") or (0.0, 0.0, 0.0)
    if len(given) < 3:
        raise EdgeccError("E102", f"kernel_params has {len(given)} numbers, wanted gamma, a constant and the degree")
    return given[:3]


@converter("SVMClassifier", domain=DOMAIN)
def _classifier(call: Call) -> list[Value]:
    """One class against each other one by support vectors, or one linear score a class where there are none.

    Source of what is returned in which case: onnxruntime's classifier.
    """
    x = call.cast(call.input(), DType.F32)
    x = call.reshape(x, (1, *x.type.shape)) if x.type.rank == 1 else x
    labels, weights, rho = labels_of(call, "classlabels_ints", "classlabels_strings"), call.floats("coefficients") or (), call.floats("rho") or ()
    if x.type.rank != 2 or not weights or not rho:
        raise EdgeccError("E110", f"{len(weights)} coefficients and {len(rho)} numbers rho do not fit the input {x.type}")
    if sum(call.ints("vectors_per_class") or ()) == 0:
        return _linear_classes(call, x, labels, np.array(weights, np.float32), rho[0])
    return _votes(call, x, labels, np.array(weights, np.float32), np.array(rho, np.float32))


def _linear_classes(call: Call, x: Value, labels: Array, weights: Array, rho: float) -> list[Value]:
    features, classes = features_of(x), len(labels)
    if len(weights) != classes * features:
        raise EdgeccError("E110", f"{len(weights)} coefficients do not fit {classes} classes and the input {x.type}")
    product = call.add(MatMul(transpose_b=True), x, call.constant(weights.reshape(classes, features)))
    scores = call.map(lambda a: apply("add", a, literal(rho, DType.F32)), product)
    best = call.add(ArgReduce("max", 1, keepdims=False), scores)
    if classes == 2 and not call.floats("prob_a"):  # the second class wins beyond a threshold, whichever score is the larger one
        threshold, compared = (0.5, "le") if np.all(weights >= 0) else (0.0, "lt")
        largest = call.add(Reduce("max", (1,), keepdims=False), scores)
        best = call.map(lambda b, s: apply("select", apply(compared, literal(threshold, DType.F32), s), literal(1, DType.I64), b), best, largest)
    return [call.add(Gather(0), call.constant(labels), best), post_transformed(call, scores, call.text("post_transform", "NONE"))]


def _votes(call: Call, x: Value, labels: Array, weights: Array, rho: Array) -> list[Value]:
    """Each pair of classes votes for one of the two; the first class with the most votes wins. The scores are those of the pairs."""
    vectors, counts, classes = call.floats("support_vectors") or (), call.ints("vectors_per_class") or (), len(labels)
    slopes, offsets = call.floats("prob_a") or (), call.floats("prob_b") or ()
    if slopes:
        check_sigmoids(slopes, offsets, classes)
    total = sum(counts)
    call.reserve((max(total, classes, 1), classes * (classes - 1) // 2), "the coefficients of the pairs", 4)
    pairs = list(itertools.combinations(range(classes), 2))
    if (len(counts) != classes or min(counts) < 0 or len(weights) != (classes - 1) * total or len(vectors) != total * features_of(x)
            or len(rho) < len(pairs) or not pairs):
        raise EdgeccError("E110", f"{list(counts)} support vectors of {len(vectors)} numbers, {len(weights)} coefficients and {len(rho)} numbers "
                                  f"rho do not fit {classes} classes and the input {x.type}")
    rows, start = weights.reshape(classes - 1, total), np.cumsum([0, *counts])
    columns = np.zeros((total, len(pairs)), np.float32)
    for column, (i, j) in enumerate(pairs):  # row k of the coefficients leaves out the class's own one
        columns[start[i]:start[i + 1], column] = rows[j - 1, start[i]:start[i + 1]]
        columns[start[j]:start[j + 1], column] = rows[i, start[j]:start[j + 1]]
    likeness = _similarity(call, x, np.array(vectors, np.float32).reshape(total, -1))
    scores = call.map(lambda a, r: apply("add", a, r), call.add(MatMul(), likeness, call.constant(columns)), call.constant(rho[:len(pairs)]))
    first, second = (np.array([[float(pair[side] == c) for c in range(classes)] for pair in pairs], np.float32) for side in (0, 1))
    wins = call.map(lambda s: convert(apply("lt", literal(0.0, DType.F32), s), DType.F32), scores)
    loses = call.map(lambda w: apply("sub", literal(1.0, DType.F32), w), wins)
    votes = call.map(lambda a, b: apply("add", a, b), call.add(MatMul(), wins, call.constant(first)), call.add(MatMul(), loses, call.constant(second)))
    label = call.add(Gather(0), call.constant(labels), call.add(ArgReduce("max", 1, keepdims=False), votes))
    post = call.text("post_transform", "NONE")
    if slopes:
        return [label, post_transformed(call, class_probabilities(call, scores, slopes, offsets, classes), post)]
    if classes > 2:
        return [label, post_transformed(call, scores, post)]
    if post == "PROBIT":
        raise Unsupported("post_transform PROBIT of two classes", "use NONE or LOGISTIC")
    other = call.map(lambda s: apply("neg", s) if post in ("NONE", "LOGISTIC") else apply("sub", literal(1.0, DType.F32), s), scores)
    both = concat(call, [other, scores], 1)
    return [label, post_transformed(call, both, post) if post == "LOGISTIC" else both]
