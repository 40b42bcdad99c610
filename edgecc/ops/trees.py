"""Ensembles of decision trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.op import Op, present, register, required
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops import rules

TREE_AGGREGATES = ("sum", "average", "min", "max")


@register
@dataclass(frozen=True)
class TreeEnsemble(Op):
    """y[i,t] = the weights for target t of the leaves that row i reaches in all trees, combined; 0 where there are none.

    From node k a row goes on to yes[k] where x[i, feature[k]] <= split[k], or where that element is NaN and missing[k]
    is not 0; else to no[k]. It takes `depth` steps from each root, so leaves name themselves. Leaf k has the entries
    from first[k] to first[k+1] of target and weight. "average" divides by the number of trees.

    Shapes: x [R,F], feature, yes, no, missing i32 [K], split [K], first i32 [K+1], target i32 [M], weight [M], roots i32 [T]
        -> y [R,targets].
    Attributes: targets >= 1; depth >= 0; aggregate, one of TREE_AGGREGATES.
    Raises: E110 for types or shapes that do not fit.
    Source: ONNX ai.onnx.ml TreeEnsemble-5; other comparisons are expressed by this one. Indices are clamped.
    """

    name: ClassVar[str] = "tree_ensemble"
    inputs: ClassVar[tuple[str, ...]] = ("x", "feature", "split", "yes", "no", "missing", "first", "target", "weight", "roots")

    targets: int
    depth: int
    aggregate: str = "sum"

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """A row of targets for each row of x."""
        x, feature, split, yes, no, missing, first, target, weight, roots = required(inputs)
        if self.aggregate not in TREE_AGGREGATES:
            raise self.fail(f"aggregate is {self.aggregate!r}, wanted one of {', '.join(TREE_AGGREGATES)}", inputs)
        rules.check_minimum(self, inputs, 1, targets=(self.targets,))
        rules.check_minimum(self, inputs, 0, depth=(self.depth,))
        rules.check_float(self, "x", x, inputs)
        if x.rank != 2:
            raise self.fail("wanted x [R,F]", inputs)
        for what, operand, dims in (("split", split, feature.dims), ("weight", weight, target.dims)):
            rules.check_dtype(self, what, operand, x.dtype, inputs)
            rules.check_dims(self, what, operand, dims, inputs)
        for what, operand in (("feature", feature), ("yes", yes), ("no", no), ("missing", missing), ("first", first), ("target", target),
                              ("roots", roots)):
            rules.check_dtype(self, what, operand, DType.I32, inputs)
        if feature.rank != 1 or not feature.dims[0] or target.rank != 1 or roots.rank != 1 or not x.shape[1]:
            raise self.fail("wanted tables of one axis, with at least one node, and at least one feature", inputs)
        for what, operand, size in (("yes", yes, 0), ("no", no, 0), ("missing", missing, 0), ("first", first, 1)):
            rules.check_dims(self, what, operand, (feature.dims[0] + size,), inputs)
        return (rules.result_type(self, x.dtype, (x.shape[0], self.targets), inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """All rows take a step at once; leaves one by one."""
        x = present(inputs)[0]
        return (self._combined(inputs, absolute=False).astype(x.dtype),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The sum of the magnitudes of the weights."""
        return (self._combined(inputs, absolute=True),)

    def _combined(self, inputs: Sequence[Array | None], absolute: bool) -> Array:
        x, feature, split, yes, no, missing, first, target, weight, roots = present(inputs)
        kind = "sum" if absolute and self.aggregate != "average" else self.aggregate
        start = {"min": np.inf, "max": -np.inf}.get(kind, 0.0)
        out = np.full((len(x), self.targets), start)
        weights = np.abs(rules.wide(weight)) if absolute else rules.wide(weight)
        nodes, held = clamped(yes, len(yes)), clamped(no, len(yes))
        rows = np.arange(len(x))
        for root in clamped(roots, len(yes)):
            at = np.full(len(x), root)
            for _ in range(self.depth):
                element = x[rows, clamped(feature, x.shape[1])[at]]
                goes = (element <= split[at]) | (np.isnan(element) & (missing[at] != 0))
                at = np.where(goes, nodes[at], held[at])
            for row in rows:
                for entry in range(*clamped(first, len(weights) + 1)[at[row]:at[row] + 2]):
                    place = row, clamped(target, self.targets)[entry]
                    out[place] = {"min": min, "max": max}.get(kind, lambda a, b: a + b)(out[place], weights[entry])
        if kind == "average":
            return out / max(len(roots), 1)
        return np.where(np.isinf(out), 0.0, out) if kind in ("min", "max") else out


def clamped(table: Array, size: int) -> Array:
    """Indices moved to 0..size-1."""
    return np.clip(table, 0, max(size - 1, 0))
