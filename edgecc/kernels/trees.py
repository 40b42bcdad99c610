"""Ensembles of decision trees: table lookups, row by row and tree by tree."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array, DType
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.iteration import PARALLEL_WORK
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.loop.builder import cast, mul, number, operation, select
from edgecc.loop.index import Index, from_expr
from edgecc.loop.ir import Buffer, Expr
from edgecc.ops.trees import TreeEnsemble, clamped


@kernel_for(TreeEnsemble, is_open=True)
def lower_tree_ensemble(request: Request) -> Kernel:
    """Tables are constants, so their indices are checked, and clamped, while compiling.

    Every row takes as many steps as the deepest tree has; leaves lead to themselves.
    """
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, TreeEnsemble):
        raise TypeError(op)
    if not all(request.operand(index).is_constant for index in range(1, 10)):
        raise EdgeccError("E112", "tree_ensemble has no kernel for trees that are computed at run time")
    nodes, entries, trees = (request.operand(index).view.dims[0] for index in (1, 7, 9))
    b = KernelBuilder(request, "tree_ensemble", f"{trees} trees of {nodes} nodes over {shape_text(x_view)}")

    def table(index: int, name: str, size: int, limit: int) -> Buffer:
        return b.packed(name, DType.I32, size, (index,), _checked(limit))

    x = b.input(0, "x")
    feature, yes, no = (table(i, name, nodes, limit) for i, name, limit in ((1, "feature", x_view.dims[1]), (3, "yes", nodes), (4, "no", nodes)))
    missing = b.packed("missing", DType.I32, nodes, (5,), _flags)
    first, target, roots = table(6, "first", nodes + 1, entries + 1), table(7, "target", entries, op.targets), table(9, "roots", trees, nodes)
    split, weight, y = b.input(2, "split"), b.input(8, "weight"), b.output(0, "y")
    wide = compute_type(x_view.dtype)
    # Sums of half precision are kept in scratch memory, which threads cannot share.
    sums = y if wide is y.dtype else b.workspace("sums", wide, op.targets)
    threads = request.threads if sums is y else 1
    start = {"min": math.inf, "max": -math.inf}.get(op.aggregate, 0.0)
    work = x_view.dims[0] * trees * (op.depth + 1) * 4
    with b.loop("i", x_view.size(0), kind="parallel" if threads > 1 and work >= PARALLEL_WORK else "serial") as i:

        def place_of(target_index: Index, row: Index = i) -> Index:
            return y_view.at([row, target_index]) if sums is y else target_index

        with b.loop("t", op.targets) as t:
            b.store(sums, place_of(t), number(start, wide))
        with b.loop("tree", trees) as tree:
            at = b.declare("at", b.load(roots, tree))
            with b.loop("step", op.depth):
                node = from_expr(at)
                e = b.let("e", cast(b.load(x, i * x_view.strides[0] + from_expr(b.load(feature, node)) * x_view.strides[1]), wide))
                is_missing = operation("and", operation("not", operation("eq", e, e)), operation("lt", 0, b.load(missing, node)))
                goes = operation("or", operation("le", e, cast(b.load(split, node), wide)), is_missing)
                b.assign(at, select(goes, b.load(yes, node), b.load(no, node)))
            leaf = from_expr(at)
            with b.loop("m", from_expr(b.load(first, leaf + 1)), start=from_expr(b.load(first, leaf))) as m:
                to = place_of(from_expr(b.load(target, m)))
                combine = {"min": "min", "max": "max"}.get(op.aggregate, "add")
                b.store(sums, to, operation(combine, b.load(sums, to), cast(b.load(weight, m), wide)))
        if op.aggregate != "sum" or sums is not y:
            with b.loop("t", op.targets) as t:
                total: Expr = b.let("total", b.load(sums, place_of(t)))
                if op.aggregate == "average":
                    total = mul(total, 1.0 / max(trees, 1))
                elif op.aggregate != "sum":
                    total = select(operation("isinf", total), 0.0, total)
                b.store(y, y_view.at([i, t]), cast(total, y.dtype))
    return b.kernel(choice=f"{op.depth} steps for each of {trees} trees")


def _checked(limit: int) -> Callable[[Array], Array]:
    """Packs a table of indices below `limit`."""
    def pack(array: Array) -> Array:
        # Buffers have an element at least, also where all leaves are empty.
        return np.ascontiguousarray(clamped(array, limit).astype(np.int32)) if array.size else np.zeros(1, np.int32)
    return pack


def _flags(array: Array) -> Array:
    """Packs a table of flags, which anything but 0 sets."""
    return np.asarray(array != 0).astype(np.int32)
