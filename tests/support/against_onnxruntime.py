"""Results of onnxruntime, as another reading of the same model, and where ours differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from tests.support.onnxruntime_sessions import session

Array = np.ndarray[Any, Any]

EXTREMES = frozenset({"Max", "Min", "Clip", "Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "RoiAlign", "Sign", "Shrink",
                      "HardSigmoid", "HardSwish", "Elu", "Celu", "Selu"})
"""Operators that compare numbers, for which ONNX does not say what becomes of NaN."""


POLES = frozenset({"Acos", "Acosh", "Asin", "Atanh", "Det", "Div", "Log", "Mod", "Pow", "Reciprocal", "ReduceLogSum", "ReduceLogSumExp", "ReduceL2", "Sqrt", "Tan", "LpNormalization",
                   "LpPool", "GlobalLpPool", "LRN", "MeanVarianceNormalization"})
"""Operators beside whose poles, and at the ends of whose domains, a rounding decides between numbers, infinities and NaN."""


LESS_EXACT = {"DynamicQuantizeLSTM": 2e-2}
"""Operators whose definition lets the other quantize on the way what stays in floats here, and the tolerance that takes."""


def first_difference(model: onnx.ModelProto, got: Mapping[str, Array], right: Sequence[Any], *, tolerance: float = 1e-3, largest: float = math.inf) -> str:
    """Where the results of a model, by name, differ from those of onnxruntime, or "".

    Infinities and NaN have to be the same in both but where the model has operators of `POLES`, and NaN but with `EXTREMES`; what is larger
    than `largest` is left out with them. What onnxruntime does in another way than ONNX says is left out by name: without trips of a loop, or
    elements to reduce, its results have no elements in another shape; NonZero gives an axis to the positions within a number; the factors of
    QLinear operators are rounded on the way, so that results next to a half differ by one; Attention shows the least float for -inf; and the
    weights of experts are those of the chosen ones, which sum to 1, whatever normalize_routing_weights says.
    """
    if any(node.op_type in ("MoE", "QMoE") and not any(a.name == "normalize_routing_weights" and a.i for a in node.attribute) for node in model.graph.node):
        return ""
    operators = set(operators_of(model.graph.node))
    odd = largest < math.inf or bool(operators & POLES)
    tolerance = max(tolerance, *(LESS_EXACT.get(o, 0.0) for o in operators))
    for (name, one), expected in zip(got.items(), right, strict=True):
        a, b = np.asarray(one), np.asarray(expected)
        if "NonZero" in operators and a.ndim == 2 and a.shape[0] == 0 and b.shape == (1, a.shape[1]):
            continue
        if "Attention" in operators and b.dtype == np.float32:
            b = np.where(b == np.finfo(np.float32).min, -np.float32(np.inf), b)
        if a.size == b.size == 0 and a.dtype == b.dtype and any(o == "Loop" or o.startswith("Reduce") for o in operators):
            continue
        if a.dtype == b.dtype and a.dtype.itemsize == 1 and a.dtype.kind in "iu" and a.shape == b.shape and any("QLinear" in o for o in operators):
            b = np.where(np.abs(a.astype(np.int32) - b) <= 1, a, b)
        if "Pow" in operators and a.dtype == b.dtype and a.dtype.kind in "iu" and a.shape == b.shape:  # what integers make of an infinity is open
            b = np.where(np.isin(b, (np.iinfo(b.dtype).min, np.iinfo(b.dtype).max)), a, b)
        if problem := difference(a, b, tolerance, any_nan=bool(operators & EXTREMES), any_odd=odd, most=largest):
            return f"{name}: {problem}"
    return ""


def difference(got: Array, right: Array, tolerance: float = 1e-3, *, any_nan: bool = False, any_odd: bool = False, most: float = math.inf) -> str:
    """Where two results differ, or ""; with `any_nan` not where one is NaN, with `any_odd` not where one is infinite, NaN or beyond `most`.

    Floats may differ by `tolerance` of the largest number of the result, those of 16 bits or less by a hundredth.
    """
    if got.dtype.itemsize == 1 and right.dtype == np.uint8 and got.dtype.kind not in "iubOSTU":
        right = right.view(got.dtype)  # the other's arrays have no floats of 8 bits
    if got.shape != right.shape or got.dtype != right.dtype:
        return f"{got.dtype}{list(got.shape)} for {right.dtype}{list(right.shape)}"
    if got.dtype.kind in "iubOSTU":
        return "" if np.array_equal(got, right) else f"{int(np.sum(got != right))} of {got.size} differ"
    with np.errstate(all="ignore"):
        a, b = got.astype(np.float64), right.astype(np.float64)
        left_out = np.isnan(a) | np.isnan(b) if any_nan else np.zeros(a.shape, bool)
        if any_odd:
            left_out |= ~np.isfinite(a) | ~np.isfinite(b) | (np.abs(b) > most)
        a, b = a[~left_out], b[~left_out]
        finite = np.isfinite(a) & np.isfinite(b)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return f"{a[~finite][:4]} for {b[~finite][:4]}"
        if not finite.any():
            return ""
        worst, scale = float(np.max(np.abs(a - b)[finite])), max(1.0, float(np.max(np.abs(b[finite]))))
    return "" if worst <= (tolerance if got.dtype.itemsize > 2 else max(tolerance, 1e-2)) * scale else f"differs by {worst:g} of {scale:g}"


def session_of(model: onnx.ModelProto) -> Any | None:
    """A session of onnxruntime that changes nothing of the model; None where it refuses it."""
    try:
        return session(model)
    except Exception:
        return None


def run_session(session: Any, inputs: Mapping[str, Array]) -> list[Any] | None:
    """The results, or None where the run fails."""
    try:
        return list(session.run(None, {i.name: inputs[i.name].copy() for i in session.get_inputs()}))  # it may write to them
    except Exception:
        return None


def operators_of(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """The operators of nodes, and of those within them."""
    found = []
    for node in nodes:
        found.append(node.op_type)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += operators_of(attribute.g.node)
    return found
