"""Operators of the domain com.microsoft on plain tensors, by their documented formulas.

Source: onnxruntime, docs/ContribOperators.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.computed_sizes import first_of
from edgecc.frontend.converters.elementwise import table_row
from edgecc.frontend.converters.movement import concat, stacked
from edgecc.frontend.converters.windows import per_axis
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, convert, literal
from edgecc.ir.types import DType
from edgecc.ops.convolution import ConvTranspose
from edgecc.ops.indexing import Gather
from edgecc.ops.reduction import Reduce
from edgecc.ops.sampling import GridSample
from edgecc.ops.selection import Unique

_DOMAIN = "com.microsoft"
LARGEST_INVERSE = 4
"""Rows of the largest matrix that is inverted."""


@converter("ExpandDims", domain=_DOMAIN)
def _expand_dims(call: Call) -> Value:
    """The operand with an axis of one element more, at a place counted in the result."""
    x, axis = call.input(), call.known_int(1, "axis")
    place = call.axis(axis, x.type.rank + 1)
    return call.reshape(x, (*x.type.shape[:place], 1, *x.type.shape[place:]))


@converter("TorchEmbedding", domain=_DOMAIN)
def _embedding(call: Call) -> Value:
    """Rows of a table; what is said of padding and frequencies matters to training alone."""
    return call.add(Gather(0), call.input(0), call.input(1))


@converter("Unique", domain=_DOMAIN)
def _unique(call: Call) -> list[Value]:
    """The different elements of a vector in the order in which they appear, where each element went, and how often each is there."""
    x = call.input()
    if x.type.rank != 1:
        raise EdgeccError("E110", f"the operand is {x.type}, wanted rank 1")
    y, _, inverse, counts, count = call.add_all(Unique(0, sorted=False), x)
    what = "the number of different elements"
    return [first_of(call, y, 0, count, what), inverse, first_of(call, counts, 0, count, what)]


@converter("UnfoldTensor", domain=_DOMAIN)
def _unfold(call: Call) -> Value:
    """Windows of `size` elements, `step` apart, along an axis: their elements become the last axis."""
    x, size, step = call.input(), call.integer("size"), call.integer("step", 1)
    axis = call.axis(call.integer("dim", -1), x.type.rank, "dim")
    length = x.type.dims[axis]
    if size < 1 or step < 1 or size > length:
        raise EdgeccError("E110", f"windows of {size} elements, {step} apart, do not fit axis {axis} of {x.type}")
    starts = np.arange(0, length - size + 1, step, dtype=np.int64)
    call.reserve((len(starts), size), "the positions of the windows")
    windows = call.add(Gather(axis), x, call.constant(starts[:, None] + np.arange(size, dtype=np.int64)))
    order = [a for a in range(x.type.rank + 1) if a != axis + 1]
    return call.transpose(windows, (*order, axis + 1))


@converter("IsAllFinite", domain=_DOMAIN)
def _is_all_finite(call: Call) -> Value:
    """Whether no element of any operand is infinite or NaN; one of two attributes leaves out the other question."""
    infinite, nan = not call.flag("isnan_only"), not call.flag("isinf_only")
    if not infinite and not nan:
        raise EdgeccError("E102", "isinf_only and isnan_only cannot both be 1")

    def bad(a: ScalarExpr) -> ScalarExpr:
        kinds = [apply(name, a) for name, asked in (("isinf", infinite), ("isnan", nan)) if asked]
        return convert(kinds[0] if len(kinds) == 1 else apply("or", *kinds), DType.I32)

    found = [call.reshape(call.add(Reduce("max", tuple(range(x.type.rank))), call.map(bad, x)), ()) if x.type.rank else call.map(bad, x)
             for x in call.values()]
    total = found[0]
    for one in found[1:]:
        total = call.map(lambda a, b: apply("max", a, b), total, one)
    return call.map(lambda a: apply("eq", a, literal(0, DType.I32)), total)


@converter("ScaledSiLU", domain=_DOMAIN)
def _scaled_silu(call: Call) -> Value:
    """x * sigmoid(alpha * x), times a scale that may be given."""
    y, scale = table_row(call, "Swish", call.input(), alpha=call.number("alpha", 1.0)), call.optional(1)
    return y if scale is None else call.map(lambda a, s: apply("mul", a, convert(s, a.dtype)), y, scale)


# -- complex numbers, as pairs along the last axis ----------------------------------------------


@converter("ComplexMul", "ComplexMulConj", domain=_DOMAIN)
def _complex_product(call: Call) -> Value:
    """a * b, or a times the conjugate of b."""
    sign = -1.0 if call.node.op_type == "ComplexMulConj" else 1.0
    for x in (call.input(0), call.input(1)):
        if x.type.rank < 1 or x.type.dims[-1] != 2:
            raise EdgeccError("E110", f"an operand is {x.type}, wanted pairs along the last axis")
    (ar, ai), (br, bi) = ([call.slice(x, x.type.rank - 1, part, 1) for part in range(2)] for x in (call.input(0), call.input(1)))

    def term(op: str) -> Value:
        first, second = ((ar, br), (ai, bi)) if op == "real" else ((ai, br), (ar, bi))
        factor = -sign if op == "real" else sign
        return call.map(lambda a, b, c, d: apply("add" if factor > 0 else "sub", apply("mul", a, b), apply("mul", c, d)), *first, *second)

    real, imaginary = term("real"), term("imaginary")
    return concat(call, [real, imaginary], real.type.rank - 1)


# -- distances and inverses ---------------------------------------------------------------------


@converter("CDist", domain=_DOMAIN)
def _distances(call: Call) -> Value:
    """The distance of each row of A [M,K] and each row of B [N,K]: euclidean, or its square."""
    a, b, metric = call.input(0), call.input(1), call.text("metric", "sqeuclidean")
    if metric not in ("euclidean", "sqeuclidean") or a.type.rank != 2 or b.type.rank != 2 or a.type.shape[1] != b.type.shape[1]:
        raise EdgeccError("E110", f"metric '{printable(metric)}' of {a.type} and {b.type}; wanted euclidean or sqeuclidean of [M,K] and [N,K]")
    (m, k), n = a.type.shape, b.type.shape[0]
    call.importer.limits.check_dims((m, n, k), "the differences")
    squares = call.map(lambda x, y: apply("mul", apply("sub", x, y), apply("sub", x, y)), call.reshape(a, (m, 1, k)), call.reshape(b, (1, n, k)))
    total = call.add(Reduce("sum", (2,), keepdims=False), squares)
    return total if metric == "sqeuclidean" else call.map(lambda s: apply("sqrt", s), total)


@converter("Inverse", domain=_DOMAIN)
def _inverse(call: Call) -> Value:
    """The inverses of square matrices in the last two axes: cofactors over the determinant."""
    x = call.input()
    if x.type.rank < 2 or x.type.dims[-1] != x.type.dims[-2]:
        raise EdgeccError("E110", f"the operand is {x.type}, wanted square matrices")
    size, batch = x.type.dims[-1], x.type.dims[:-2]
    if not 1 <= size <= LARGEST_INVERSE:
        raise Unsupported(f"the inverse of {size} x {size} matrices", f"use matrices of at most {LARGEST_INVERSE} rows, or a constant inverse")
    flat = call.reshape(x, (*batch, size * size))
    entries = [call.slice(flat, len(batch), k, 1) for k in range(size * size)]

    def determinant(args: Sequence[ScalarExpr], rows: Sequence[int], columns: Sequence[int]) -> ScalarExpr:
        if not rows:
            return literal(1.0, x.type.dtype)
        terms = []
        for place, column in enumerate(columns):
            minor = determinant(args, rows[1:], [*columns[:place], *columns[place + 1:]])
            terms.append(apply("mul", args[size * rows[0] + column], minor) if len(rows) > 1 else args[size * rows[0] + column])
        total = terms[0]
        for place, term in enumerate(terms[1:]):
            total = apply("add" if place % 2 else "sub", total, term)
        return total

    every = list(range(size))
    whole = call.map(lambda *args: determinant(args, every, every), *entries)
    cofactors = []
    for i, j in itertools.product(every, every):  # entry (i, j) of the inverse is the cofactor of (j, i)
        rows, columns = [r for r in every if r != j], [c for c in every if c != i]

        def entry(*args: ScalarExpr, rows: list[int] = rows, columns: list[int] = columns, odd: bool = bool((i + j) % 2)) -> ScalarExpr:
            minor = determinant(args[:-1], rows, columns)
            return apply("div", apply("neg", minor) if odd else minor, args[-1])

        cofactors.append(call.map(entry, *entries, whole))
    return call.reshape(concat(call, cofactors, len(batch)), x.type.dims)


# -- pictures -----------------------------------------------------------------------------------


@converter("ConvTransposeWithDynamicPads", domain=_DOMAIN)
def _conv_transpose(call: Call) -> Value:
    """ConvTranspose whose padding is an operand, which must be known."""
    x, w = call.input(0), call.input(1)
    rank = x.type.rank - 2
    if rank < 1 or w.type.rank != x.type.rank:
        raise EdgeccError("E110", f"x is {x.type} and the weights are {w.type}; wanted equal ranks from 3 on")
    pads = (0,) * (2 * rank) if call.optional(2) is None else call.known_ints(2, "pads")
    if len(pads) != 2 * rank:
        raise EdgeccError("E110", f"{len(pads)} pads are given for {rank} spatial axes")
    op = ConvTranspose(per_axis(call, "strides", rank, 1, 1), pads, per_axis(call, "dilations", rank, 1, 1), call.integer("group", 1),
                       per_axis(call, "output_padding", rank, 0, 0))
    return call.add(op, x, w, call.optional(3))


@converter("CropAndResize", domain=_DOMAIN)
def _crop_and_resize(call: Call) -> Value:
    """Regions [R,4] as (y1, x1, y2, x2) in units of the picture's size - 1, sampled at a grid from corner to corner; outside is a constant."""
    x, rois, numbers, size = call.input(0), call.input(1), call.input(2), call.known_ints(3, "crop_size")
    mode, fill = call.text("mode", "bilinear"), call.number("extrapolation_value", 0.0)
    if x.type.rank != 4 or rois.type.rank != 2 or rois.type.dims[1] != 4 or len(size) != 2 or min(size) < 1 or mode not in ("bilinear", "nearest"):
        raise EdgeccError("E110", f"the picture is {x.type}, the regions are {rois.type}, crop_size is {list(size)} and mode '{printable(mode)}'")
    count, spatial = rois.type.dims[0], x.type.dims[2:]
    call.importer.limits.check_dims((count, *x.type.dims[1:]), "the pictures of the regions")
    call.importer.limits.check_dims((count, x.type.dims[1], *size), "the result")
    places, parts = [], []
    for axis, length in enumerate(size):
        low, high = (call.slice(rois, 1, axis + 2 * end, 1) for end in range(2))
        extent = float(spatial[axis] - 1)
        steps = np.linspace(0.0, 1.0, length) if length > 1 else np.array([0.5])
        along = call.map(lambda a, b, t: apply("add", a, apply("mul", apply("sub", b, a), t)), low, high,
                         call.constant(steps.astype(x.type.dtype.numpy).reshape(1, length)))
        inside = call.map(lambda v: apply("and", apply("le", literal(0.0, v.dtype), v), apply("le", v, literal(1.0, v.dtype))), along)
        shape = (count, length, 1) if axis == 0 else (count, 1, length)
        grid = call.map(lambda v: apply("sub", apply("mul", v, literal(2.0, v.dtype)), literal(1.0, v.dtype)), along)
        places.append(call.expand(call.reshape(grid, shape), (count, *size)))
        parts.append(call.reshape(inside, shape))
        if extent < 1.0:
            raise Unsupported(f"pictures of one row or column, {x.type}")
    pictures = call.add(Gather(0), x, numbers)
    op = GridSample("linear" if mode == "bilinear" else "nearest", "border", "corners")
    sampled = call.add(op, pictures, stacked(call, [places[1], places[0]], 3))
    mask = call.reshape(call.map(lambda a, b: apply("and", a, b), *parts), (count, 1, *size))
    return call.map(lambda v, k: apply("select", k, v, literal(fill, v.dtype)), sampled, mask)


@converter("RelativePositionBias", domain=_DOMAIN)
def _relative_positions(call: Call) -> Value:
    """Rows of a table [buckets, heads] for each distance of a query and a key: [1, heads, queries, keys].

    Source of the buckets: T5, by the logarithm of the distance beyond half of them.
    """
    table, most = call.input(0), call.integer("max_distance")
    rows, columns = (call.known_int(index, what) for index, what in ((1, "the number of queries"), (2, "the number of keys")))
    if table.type.rank != 2 or min(rows, columns) < 1:
        raise EdgeccError("E110", f"the table is {table.type}, for {rows} queries and {columns} keys")
    buckets, both = table.type.dims[0], call.flag("is_bidirectional")
    half = buckets // 2 if both else buckets
    exact = half // 2
    if exact < 1 or most <= exact:
        raise EdgeccError("E110", f"{buckets} buckets do not fit distances up to {most}")
    call.reserve((rows, columns), "the distances", 32)
    away = np.arange(columns)[None, :] - np.arange(rows)[:, None]
    start = np.where(away > 0, half, 0) if both else np.zeros_like(away)
    distance = np.abs(away) if both else np.maximum(-away, 0)
    far = exact + np.floor(np.log(np.maximum(distance, 1) / exact) / np.log(most / exact) * (half - exact)).astype(np.int64)
    index = start + np.where(distance < exact, distance, np.minimum(far, half - 1))
    return call.transpose(call.reshape(call.add(Gather(0), table, call.constant(index)), (1, rows, columns, table.type.dims[1])), (0, 3, 1, 2))
