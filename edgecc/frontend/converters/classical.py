"""Linear models and preparations of features, of the domain ai.onnx.ml."""

from __future__ import annotations

import math

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.converters.indexing import check_range
from edgecc.frontend.converters.movement import concat
from edgecc.frontend.registry import converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, convert, literal
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops.indexing import Gather
from edgecc.ops.matrix import MatMul
from edgecc.ops.reduction import ArgReduce, Reduce, Softmax

DOMAIN = "ai.onnx.ml"
POST_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


# -- scores and labels --------------------------------------------------------------------------


def post_transformed(call: Call, scores: Value, kind: str) -> Value:
    """Scores [rows, classes] after the attribute post_transform."""
    match kind:
        case "NONE":
            return scores
        case "SOFTMAX":
            return call.add(Softmax(1), scores)
        case "LOGISTIC":
            return call.map(lambda a: apply("sigmoid", a), scores)
        case "SOFTMAX_ZERO":
            return _softmax_zero(call, scores)
        case "PROBIT":
            return call.map(_probit, scores)
    raise EdgeccError("E102", f"post_transform is '{printable(kind)}', wanted one of {', '.join(POST_TRANSFORMS)}")


def _softmax_zero(call: Call, scores: Value) -> Value:
    """Softmax in which scores of 0 stay 0; a row of zeros alone becomes 1/2."""

    def power(a: ScalarExpr, m: ScalarExpr) -> ScalarExpr:
        near_zero = apply("lt", apply("abs", a), literal(1e-7, a.dtype))
        return apply("select", near_zero, apply("mul", a, apply("exp", apply("neg", m))), apply("exp", apply("sub", a, m)))

    powers = call.map(power, scores, call.add(Reduce("max", (1,)), scores))
    zero, half = literal(0.0, scores.type.dtype), literal(0.5, scores.type.dtype)
    return call.map(lambda e, s: apply("select", apply("eq", s, zero), half, apply("div", e, s)), powers, call.add(Reduce("sum", (1,)), powers))


def _probit(x: ScalarExpr) -> ScalarExpr:
    """sqrt(2) * the inverse of erf at 2x-1, by Winitzki's approximation."""

    def number(value: float) -> ScalarExpr:
        return literal(value, x.dtype)

    centred = apply("sub", apply("mul", x, number(2.0)), number(1.0))
    product = apply("mul", apply("sub", number(1.0), centred), apply("add", number(1.0), centred))
    log = apply("log", product)
    v = apply("add", number(2.0 / (math.pi * 0.147)), apply("mul", number(0.5), log))
    root = apply("sqrt", apply("sub", apply("mul", v, v), apply("mul", number(1.0 / 0.147), log)))
    size = apply("mul", number(1.41421356), apply("sqrt", apply("sub", root, v)))
    signed = apply("select", apply("lt", centred, number(0.0)), apply("neg", size), size)
    return apply("select", apply("eq", product, number(0.0)), number(0.0), signed)


def labels_of(call: Call, integers: str, texts: str) -> Array:
    """The labels of classes: integers or strings."""
    labels, strings = call.ints(integers), call.string_data(texts)
    if strings is not None and strings.size:
        return strings
    if not labels:
        raise EdgeccError("E102", f"attribute {integers} is missing")
    return np.array(labels, np.int64)


def best_label(call: Call, scores: Value, labels: Array, post: str) -> list[Value]:
    """The label of the largest score of each row, and the scores after post_transform."""
    if scores.type.shape[1] != len(labels):
        raise EdgeccError("E110", f"{scores.type.shape[1]} scores for {len(labels)} classes")
    best = call.add(ArgReduce("max", 1, keepdims=False), scores)
    return [call.add(Gather(0), call.constant(labels), best), post_transformed(call, scores, post)]


def with_second_class(call: Call, score: Value, labels: Array, post: str, *, threshold: float, complement: bool) -> list[Value]:
    """Two classes by the score [rows, 1] of the second one, which wins above a threshold.

    The score of the first one is 1 - score with `complement`, else -score, both before post_transform.
    Source: onnxruntime's classifiers.
    """
    dtype = score.type.dtype
    wins = call.map(lambda s: convert(apply("lt", literal(threshold, dtype), s), DType.I64), call.reshape(score, score.type.shape[:1]))
    other = call.map(lambda s: apply("sub", literal(1.0, dtype), s) if complement else apply("neg", s), score)
    both = concat(call, [other, score], 1)
    return [call.add(Gather(0), call.constant(labels), wins), post_transformed(call, both, post)]


def features_of(x: Value) -> int:
    """The columns of x [rows, features]; how many rows there are may be the run's to say.

    Raises: EdgeccError E104 where the features are not known.
    """
    return TensorType(x.type.dtype, x.type.shape[1:]).dims[0]


# -- linear models ------------------------------------------------------------------------------


def _linear(call: Call, rows: int | None) -> Value:
    """x times coefficients plus intercepts."""
    x = call.input()
    x = x if x.type.dtype is DType.F64 else call.cast(x, DType.F32)
    x = call.reshape(x, (1, *x.type.shape)) if x.type.rank == 1 else x
    weights = call.floats("coefficients") or ()
    if x.type.rank != 2 or not features_of(x) or len(weights) % features_of(x) or (rows is not None and len(weights) != rows * features_of(x)):
        raise EdgeccError("E110", f"{len(weights)} coefficients do not fit the input {x.type}")
    matrix = np.array(weights, x.type.dtype.numpy).reshape(-1, features_of(x))
    intercepts = call.floats("intercepts")
    if intercepts and len(intercepts) != len(matrix):
        raise EdgeccError("E110", f"{len(intercepts)} intercepts, wanted {len(matrix)}")
    bias = call.constant(np.array(intercepts, matrix.dtype)) if intercepts else None
    return call.cast(call.add(MatMul(transpose_b=True), x, call.constant(matrix), bias), DType.F32)


@converter("LinearRegressor", domain=DOMAIN)
def _linear_regressor(call: Call) -> Value:
    return post_transformed(call, _linear(call, call.integer("targets", 1)), call.text("post_transform", "NONE"))


@converter("LinearClassifier", domain=DOMAIN)
def _linear_classifier(call: Call) -> list[Value]:
    labels = labels_of(call, "classlabels_ints", "classlabels_strings")
    scores, post = _linear(call, None), call.text("post_transform", "NONE")
    if scores.type.shape[1] == 1 and len(labels) == 2:
        return with_second_class(call, scores, labels, post, threshold=0.0, complement=post == "NONE")
    return best_label(call, scores, labels, post)


# -- features -----------------------------------------------------------------------------------


@converter("ArrayFeatureExtractor", domain=DOMAIN)
def _array_feature_extractor(call: Call) -> Value:
    x, indices = call.input(0), call.input(1)
    if x.type.rank < 1:
        raise EdgeccError("E110", f"the input is {x.type}, wanted at least one axis")
    check_range(indices, x.type.shape[-1])
    chosen = call.add(Gather(x.type.rank - 1), x, call.reshape(indices, (indices.type.count,)))
    return call.reshape(chosen, (1, *chosen.type.shape)) if x.type.rank == 1 else chosen


@converter("Binarizer", domain=DOMAIN)
def _binarizer(call: Call) -> Value:
    x = call.input()
    threshold = literal(call.number("threshold", 0.0), x.type.dtype)
    return call.map(lambda a: convert(apply("lt", threshold, a), a.dtype), x)


def _per_feature(call: Call, name: str, default: float, x: Value) -> Value:
    """Floats, one for all features or one for each (the last axis)."""
    entries = call.floats(name) or (default,)
    if len(entries) not in (1, x.type.shape[-1] if x.type.rank else 1):
        raise EdgeccError("E110", f"{name} has {len(entries)} entries; the input is {x.type}")
    return call.constant(np.array(entries, np.float32))


@converter("Scaler", domain=DOMAIN)
def _scaler(call: Call) -> Value:
    x = call.cast(call.input(), DType.F32)
    offset, scale = _per_feature(call, "offset", 0.0, x), _per_feature(call, "scale", 1.0, x)
    return call.map(lambda a, o, s: apply("mul", apply("sub", a, o), s), x, offset, scale)


@converter("Normalizer", domain=DOMAIN)
def _normalizer(call: Call) -> Value:
    x, norm = call.cast(call.input(), DType.F32), call.text("norm", "MAX")
    if norm not in ("MAX", "L1", "L2") or x.type.rank not in (1, 2):
        raise EdgeccError("E102", f"norm '{printable(norm)}' of {x.type}; wanted MAX, L1 or L2 of one or two axes")
    size = call.add(Reduce({"MAX": "max", "L1": "l1", "L2": "l2"}[norm], (x.type.rank - 1,)), x)  # the formula of MAX has no absolute values
    zero = literal(0.0, DType.F32)
    return call.map(lambda a, s: apply("select", apply("eq", s, zero), a, apply("div", a, s)), x, size)


@converter("FeatureVectorizer", domain=DOMAIN)
def _feature_vectorizer(call: Call) -> Value:
    parts = [call.cast(x, DType.F32) for x in call.values()]
    return concat(call, [call.reshape(p, (1, *p.type.shape)) if p.type.rank == 1 else p for p in parts], 1)


@converter("Imputer", domain=DOMAIN)
def _imputer(call: Call) -> Value:
    """Elements equal to replaced_value (NaN equals NaN) become the imputed value of their feature."""
    x = call.input()
    if x.type.dtype.is_float:
        values, wanted = call.floats("imputed_value_floats") or (), call.number("replaced_value_float", 0.0)
    else:
        values, wanted = call.ints("imputed_value_int64s") or (), call.integer("replaced_value_int64", 0)
    if len(values) not in (1, x.type.shape[-1] if x.type.rank else 1):
        raise EdgeccError("E110", f"{len(values)} imputed values; the input is {x.type}")
    is_missing = math.isnan(wanted)

    def imputed(a: ScalarExpr, v: ScalarExpr) -> ScalarExpr:
        hit = apply("isnan", a) if is_missing else apply("eq", a, literal(wanted, a.dtype))
        return apply("select", hit, v, a)

    return call.map(imputed, x, call.constant(np.array(values, x.type.dtype.numpy)))
