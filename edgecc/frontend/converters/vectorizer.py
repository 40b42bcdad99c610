"""Counts of n-grams of numbers or strings."""

from __future__ import annotations

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.dims import upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, convert, literal
from edgecc.ir.types import Array, DType
from edgecc.ops.indexing import Gather
from edgecc.ops.movement import Concat
from edgecc.ops.reduction import Reduce

MAX_COMPARISONS = 1 << 24
"""Comparisons of one row of the operand with the pool, above which the operator is refused."""


def _pool(call: Call) -> dict[int, Array]:
    """The n-grams [count, n] of each length n that has some, in the order of the attribute.

    Raises: EdgeccError E110 where the pool does not fit its counts.
    """
    numbers, strings, starts = call.ints("pool_int64s"), call.string_data("pool_strings"), call.ints("ngram_counts")
    items = np.array(numbers, np.int64) if strings is None and numbers is not None else strings
    if items is None or starts is None:
        raise EdgeccError("E102", "attributes pool_int64s, or pool_strings, and ngram_counts are missing")
    if not starts:
        raise EdgeccError("E102", "attribute ngram_counts is empty")
    out: dict[int, Array] = {}
    for length, (start, stop) in enumerate(zip(starts, (*starts[1:], len(items)), strict=True), start=1):
        if not 0 <= start <= stop <= len(items) or (stop - start) % length:
            raise EdgeccError("E110", f"ngram_counts is {list(starts)}; the pool has {len(items)} items")
        if stop > start:
            out[length] = items[start:stop].reshape(-1, length)
    return out


def _counts(call: Call, x: Value, grams: Array, skips: range) -> Value:
    """How often each n-gram occurs in each row of x [N,C], whose items may lie skips + 1 apart: i32 [N, count]."""
    rows, columns = x.type.shape
    count, length = grams.shape
    total = call.expand(call.scalar(0, DType.I32), (rows, count))
    for skip in skips:
        reach = (length - 1) * (skip + 1)
        if upper_bound(columns) <= reach:
            continue
        # Where the run alone knows how many there are, windows that begin near the end have items behind it, and count for nothing.
        behind = 0 if isinstance(columns, int) else reach
        positions = columns - (0 if behind else reach)
        padded = call.add(Concat(1), x, call.expand(call.scalar(0, x.type.dtype), (rows, behind))) if behind else x
        windows = [call.reshape(call.slice(padded, 1, j * (skip + 1), positions), (rows, 1, positions)) for j in range(length)]
        items = [call.constant(grams[:, j].reshape(1, count, 1)) for j in range(length)]

        def found(*args: ScalarExpr) -> ScalarExpr:
            half = len(args) // 2
            equal = [apply("eq", a, b) for a, b in zip(args[:half], args[half:], strict=True)]
            whole = equal[0]
            for one in equal[1:]:
                whole = apply("and", whole, one)
            return convert(whole, DType.I32)

        hits = call.map(found, *windows, *items)
        if behind:
            inside = call.add(Concat(0), call.expand(call.scalar(1, DType.I32), (columns,)), call.expand(call.scalar(0, DType.I32), (behind,)))
            hits = call.map(lambda a, b: apply("mul", a, b), hits, call.slice(inside, 0, behind, columns))
        occurrences = call.add(Reduce("sum", (2,), keepdims=False), hits)
        total = call.map(lambda a, b: apply("add", a, b), total, occurrences)
    return total


@converter("TfIdfVectorizer", since=9)
def _tf_idf(call: Call) -> Value:
    """Each n-gram of the pool is looked for at every position and with every number of items skipped."""
    x, mode, indexes = call.input(), call.text("mode"), call.ints("ngram_indexes")
    least, most, skip = call.integer("min_gram_length"), call.integer("max_gram_length"), call.integer("max_skip_count")
    if mode not in ("TF", "IDF", "TFIDF") or indexes is None:
        raise EdgeccError("E102", f"mode is {mode!r} and ngram_indexes {'missing' if indexes is None else 'given'}")
    pool = _pool(call)
    grams = sum(len(g) for g in pool.values())
    if x.type.rank not in (1, 2) or len(indexes) != grams or len(set(indexes)) != grams or min(indexes, default=0) < 0:
        raise EdgeccError("E110", f"the operand is {x.type}, the pool has {grams} n-grams and ngram_indexes is {list(indexes)}")
    rows, columns = (1, *x.type.shape)[-2:]
    if grams * upper_bound(columns) * (skip + 1) * max(pool, default=1) > MAX_COMPARISONS or max(indexes, default=0) >= MAX_COMPARISONS:
        raise Unsupported(f"a pool of {grams} n-grams over {columns} items", "do this step in the program around the model")
    if call.has("pool_strings") != (x.type.dtype is DType.STRING):
        raise EdgeccError("E110", f"the pool does not have the type of the input, {x.type}")
    items = call.reshape(x, (rows, columns))
    items = items if x.type.dtype is DType.STRING else call.cast(items, DType.I64)
    counts = [_counts(call, items, own, range(skip + 1 if length > 1 else 1)) if least <= length <= most
              else call.expand(call.scalar(0, DType.I32), (rows, len(own))) for length, own in pool.items()]
    if rows == 0 or columns == 0 or not counts:
        counts = [call.expand(call.scalar(0, DType.I32), (rows, grams))]
    # One column more, of zeros, for places of the result that no n-gram has.
    joined = call.add(Concat(1), *counts, call.expand(call.scalar(0, DType.I32), (rows, 1)))
    call.reserve((max(indexes, default=-1) + 1,), "the table of n-grams")
    places = np.full(max(indexes, default=-1) + 1, grams, np.int64)
    places[list(indexes)] = np.arange(grams)
    y = call.cast(call.add(Gather(1), joined, call.constant(places)), DType.F32)
    if mode != "TF":
        y = _weighted(call, y, mode, indexes, len(places))
    return y if x.type.rank == 2 else call.reshape(y, (y.type.count,))


def _weighted(call: Call, counts: Value, mode: str, indexes: tuple[int, ...], width: int) -> Value:
    given = call.floats("weights") or (1.0,) * len(indexes)
    if len(given) != len(indexes):
        raise EdgeccError("E110", f"{len(given)} weights are given for {len(indexes)} n-grams")
    table = np.zeros(width, np.float32)
    table[list(indexes)] = given
    if mode == "TFIDF":
        return call.map(lambda c, w: apply("mul", c, w), counts, call.constant(table))
    return call.map(lambda c, w: apply("select", apply("lt", literal(0.0, DType.F32), c), w, literal(0.0, DType.F32)), counts, call.constant(table))
