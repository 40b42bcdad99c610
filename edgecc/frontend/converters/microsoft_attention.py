"""Attention operators of onnxruntime (domain com.microsoft), by their documented formulas.

All of them end in the same product of softmax(scale * q @ k' + bias) with v, on [batch, heads, rows, size]. What
masks positions is made one bias, which is added to the scores. B is the batch, S the new rows, P those of the past,
T = P + S all rows, N the heads and H the size of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.movement import concat
from edgecc.frontend.items import Item
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.dims import larger, smaller
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, convert, literal
from edgecc.ir.types import Dim, DType
from edgecc.ops.indexing import Gather, GatherElements
from edgecc.ops.matrix import MatMul
from edgecc.ops.reduction import Normalize, Softmax

_DOMAIN = "com.microsoft"
_MASKED = -3.0e38
"""Added to scores that must not count at all; finite, so that a row without any other scores is no NaN."""


def _scores_dtype(q: Value) -> DType:
    """The type scores are computed in: half precision masks would overflow."""
    return DType.F32 if q.type.dtype.size < 4 else q.type.dtype


def attend(call: Call, q: Value, k: Value, v: Value, bias: Sequence[Value | None], scale: float | None, *,
           softcap: float = 0.0, sink: Value | None = None) -> Value:
    """Scaled dot-product attention.

    Args:
        call: the node.
        q: [B,N,S,H]; k: [B,N,T,H]; v: [B,N,T,Hv].
        bias: added to the scores, each broadcast to [B,N,S,T]; None entries do nothing.
        scale: factor of the scores; None for 1/sqrt(H).
        softcap: c > 0 replaces scaled scores s by c*tanh(s/c) before the bias is added.
        sink: [N], one more score of each row, whose weight goes to no value.
    Returns: [B,N,S,Hv], of q's type.
    """
    dtype = _scores_dtype(q)
    factor = scale or 1.0 / math.sqrt(int(q.type.shape[-1]))
    scores = call.add(MatMul(transpose_b=True), call.cast(q, dtype), call.cast(k, dtype))
    scores = call.map(lambda s: apply("mul", s, literal(factor, dtype)), scores)
    if softcap > 0:
        scores = call.map(lambda s: apply("mul", apply("tanh", apply("div", s, literal(softcap, dtype))), literal(softcap, dtype)), scores)
    for term in bias:
        if term is not None:
            scores = call.map(lambda s, b: apply("max", apply("add", s, b), literal(_MASKED, dtype)), scores, call.cast(term, dtype))
    *rows, total = scores.type.shape
    if sink is not None:
        column = call.expand(call.reshape(call.cast(sink, dtype), (1, sink.type.shape[0], 1, 1)), (*rows, 1))
        scores = concat(call, [scores, column], 3)
    weights = call.slice(call.add(Softmax(3, False), scores), 3, 0, total)
    return call.cast(call.add(MatMul(), weights, call.cast(v, dtype)), q.type.dtype)


def _heads(call: Call, x: Value, count: int) -> Value:
    """[B,S,N*H] as [B,N,S,H]."""
    if x.type.rank != 3 or count < 1 or x.type.shape[2] % count:
        raise EdgeccError("E110", f"{x.type} cannot be cut into {count} heads; wanted [B,S,N*H]")
    batch, rows, width = x.type.shape
    return call.transpose(call.reshape(x, (batch, rows, count, width // count)), (0, 2, 1, 3))


def _merged(call: Call, x: Value) -> Value:
    """[B,N,S,H] as [B,S,N*H]."""
    batch, heads, rows, size = x.type.shape
    return call.reshape(call.transpose(x, (0, 2, 1, 3)), (batch, rows, heads * size))


def _number(call: Call, size: Dim) -> Value:
    """A size as a tensor of one number."""
    return call.sizes([size])


def _causal(call: Call, rows: Dim, total: Dim) -> Value:
    """The bias [S,T] that hides later positions from each row; the last row sees all."""
    call.reserve((rows, total), "the mask of later positions")
    at = call.map(lambda r, p: apply("add", r, p), call.reshape(call.positions(rows), (rows, 1)), _number(call, total - rows))
    return _chosen(call, call.map(lambda p, a: apply("le", p, a), call.positions(total), at), _MASKED)


def _chosen(call: Call, counts: Value, value: float) -> Value:
    """`value` where `counts`, a truth value, is false, else 0."""
    return call.map(lambda c: apply("select", convert(c, DType.BOOL), literal(0.0, DType.F32), literal(value, DType.F32)), counts)


def _mask_bias(call: Call, mask: Value, batch: Dim, rows: Dim, total: Dim, value: float) -> Value:
    """The bias of a mask: lengths [B], ends and starts [2B], or whether positions count, [B,T] or [B,S,T]."""
    shape = mask.type.shape
    if mask.type.rank == 1 and shape[0] in (batch, 2 * batch):
        lengths = call.reshape(call.slice(mask, 0, 0, batch), (batch, 1))
        positions = call.cast(call.reshape(call.positions(total), (1, total)), mask.type.dtype)
        counts = call.map(lambda p, n: apply("lt", p, n), positions, lengths)
        if shape[0] == 2 * batch:
            starts = call.reshape(call.slice(mask, 0, batch, batch), (batch, 1))
            counts = call.map(lambda c, p, s: apply("and", c, apply("le", s, p)), counts, positions, starts)
        return call.reshape(_chosen(call, counts, value), (batch, 1, 1, total))
    if mask.type.rank == 1 and shape[0] == 3 * batch + 2:
        raise Unsupported("a mask of packed sequences")
    if mask.type.rank == 2 and shape == (batch, total):
        return call.reshape(_chosen(call, call.map(_is_positive, mask), value), (batch, 1, 1, total))
    if mask.type.rank == 3 and shape == (batch, rows, total):
        return call.reshape(_chosen(call, call.map(_is_positive, mask), value), (batch, 1, rows, total))
    if mask.type.rank == 4 and shape[:2] == (batch, 1) and smaller(shape[2], shape[3]) >= total:
        part = call.slice(call.slice(mask, 2, total - rows, rows), 3, 0, total)
        return _chosen(call, call.map(_is_positive, part), value)
    raise EdgeccError("E110", f"the mask is {mask.type}; wanted [B], [2B], [B,T], [B,S,T] or [B,1,M,M] with B = {batch}, "
                              f"S = {rows}, T = {total}")


def _is_positive(m: ScalarExpr) -> ScalarExpr:
    return apply("lt", literal(0, m.dtype), m)


@converter("Attention", domain=_DOMAIN)
def _attention(call: Call) -> list[Item | None]:
    """Projections, attention with a past, all in one. Result 1 is the past extended by this run."""
    projected = call.add(MatMul(), call.input(0), call.input(1), call.optional(2))
    return projected_attention(call, projected, mask=call.optional(3), past=call.optional(4), bias=call.optional(5))


def projected_attention(call: Call, projected: Value, *, mask: Value | None, past: Value | None, bias: Value | None) -> list[Item | None]:
    """What Attention computes of queries, keys and values side by side, [B,S,Q+K+V], by the node's attributes."""
    if call.flag("do_rotary") or call.flag("past_present_share_buffer"):
        raise Unsupported("rotary embedding, or a past that shares its memory")
    count = call.integer("num_heads")
    batch, rows, width = projected.type.shape
    width = int(width)
    sizes = call.ints("qkv_hidden_sizes") or (width // 3,) * 3
    if len(sizes) != 3 or sum(sizes) != width or min(sizes) < 1:
        raise EdgeccError("E110", f"the weights have {width} columns; qkv_hidden_sizes are {list(sizes)}")
    starts = (0, sizes[0], sizes[0] + sizes[1])
    q, k, v = (_heads(call, call.slice(projected, 2, start, size), count) for start, size in zip(starts, sizes, strict=True))
    present = None
    if past is not None:
        halves = [call.reshape(call.slice(past, 0, index, 1), past.type.shape[1:]) for index in range(2)]
        k, v = concat(call, [halves[0], k], 2), concat(call, [halves[1], v], 2)
    if call.wants(1):
        present = concat(call, [call.reshape(part, (1, *part.type.shape)) for part in (k, v)], 0)
    total = k.type.shape[2]
    terms = [None if mask is None else _mask_bias(call, mask, batch, rows, total, call.number("mask_filter_value", -10000.0)),
             _causal(call, rows, total) if call.flag("unidirectional") else None, bias]
    y = attend(call, q, k, v, terms, call.number("scale", 0.0) or None)
    return [_merged(call, y), present]


@converter("MultiHeadAttention", "DecoderMaskedMultiHeadAttention", domain=_DOMAIN)
def _multi_head_attention(call: Call) -> list[Item | None]:
    """Attention of projected operands. Results 1 and 2 are keys and values, the past ones before the new ones."""
    masked = call.node.op_type != "MultiHeadAttention"
    at = {name: index for index, name in enumerate(
        ("q", "k", "v", "mask", "bias", "past_k", "past_v", "length", "beam", "cache", "own") if masked
        else ("q", "k", "v", "own", "mask", "bias", "past_k", "past_v", "length", "cache"))}
    if call.optional(at["cache"]) is not None or call.optional(at["length"]) is not None or call.wants(3):
        raise Unsupported("a past that shares its memory, beams, or the scores as a result")
    count = call.integer("num_heads")
    q, k, v = call.input(0), call.optional(1), call.optional(2)
    own, width = call.optional(at["own"]), 0
    if q.type.rank == 5:  # [B,S,N,3,H]
        q, k, v = (_part(call, q, index) for index in range(3))
    elif k is not None and k.type.rank == 5:  # [B,T,N,2,H]
        k, v = (_part(call, k, index) for index in range(2))
    if k is None or v is None:
        raise Unsupported("keys or values are absent")
    operands = []
    for operand in (q, k, v):
        size = int(operand.type.shape[-1]) * (count if operand.type.rank == 4 else 1)
        summed = operand
        if own is not None:
            part = call.slice(own, 0, width, size)
            shape = (size,) if operand.type.rank == 3 else (count, 1, size // count)
            summed = call.map(lambda a, b: apply("add", a, b), operand, call.reshape(part, shape))
        width += size
        operands.append(summed if summed.type.rank == 4 else _heads(call, summed, count))
    q, k, v = operands
    past_k, past_v = call.optional(at["past_k"]), call.optional(at["past_v"])
    if past_k is not None and past_v is not None:
        k, v = concat(call, [past_k, k], 2), concat(call, [past_v, v], 2)
    batch, rows, total = q.type.shape[0], q.type.shape[2], k.type.shape[2]
    mask = call.optional(at["mask"])
    terms = [None if mask is None else _mask_bias(call, mask, batch, rows, total, call.number("mask_filter_value", -10000.0)),
             _causal(call, rows, total) if call.flag("unidirectional") else None, call.optional(at["bias"])]
    return [_merged(call, attend(call, q, k, v, terms, call.number("scale", 0.0) or None)), k, v]


def _part(call: Call, packed: Value, index: int) -> Value:
    """Part `index` of [B,S,N,parts,H] as [B,S,N*H]."""
    batch, rows, heads, _, size = packed.type.shape
    return call.reshape(call.slice(packed, 3, index, 1), (batch, rows, heads * size))


# -- rotary embedding ---------------------------------------------------------------------------


def rotated(call: Call, x: Value, cos: Value, sin: Value, *, interleaved: bool) -> Value:
    """x [B,N,S,H] with the first R entries of each row turned by pairs; cos and sin are [B|1,S,R/2].

    A pair is (2i, 2i+1) when interleaved, else (i, i + R/2).
    """
    batch, heads, rows, size = x.type.shape
    half = cos.type.shape[-1]
    cos, sin = (call.cast(call.reshape(t, (t.type.shape[0], 1, *t.type.shape[1:])), x.type.dtype) for t in (cos, sin))
    turned, rest = call.slice(x, 3, 0, 2 * half), call.slice(x, 3, 2 * half, size - 2 * half) if size > 2 * half else None
    if interleaved:
        pairs = call.reshape(turned, (batch, heads, rows, half, 2))
        first, second = (call.reshape(call.slice(pairs, 4, index, 1), (batch, heads, rows, half)) for index in range(2))
    else:
        first, second = call.slice(turned, 3, 0, half), call.slice(turned, 3, half, half)
    real = call.map(lambda a, b, c, s: apply("sub", apply("mul", a, c), apply("mul", b, s)), first, second, cos, sin)
    imaginary = call.map(lambda a, b, c, s: apply("add", apply("mul", b, c), apply("mul", a, s)), first, second, cos, sin)
    if interleaved:
        both = [call.reshape(part, (batch, heads, rows, half, 1)) for part in (real, imaginary)]
        out = call.reshape(concat(call, both, 4), (batch, heads, rows, 2 * half))
    else:
        out = concat(call, [real, imaginary], 3)
    return out if rest is None else concat(call, [out, rest], 3)


def _rows_of(call: Call, cache: Value, positions: Value) -> Value:
    """The rows of a table of cosines or sines at positions [B|1,S]."""
    return call.add(Gather(0), cache, positions)


@converter("RotaryEmbedding", domain=_DOMAIN)
def _rotary_embedding(call: Call) -> Value:
    """Turns pairs of entries by the angles of their positions: given ones [B,S], or counted from a first one, [1]."""
    x, positions, cos, sin = (call.input(index) for index in range(4))
    if call.flag("is_packed_batching"):
        raise Unsupported("packed sequences")
    if positions.type.rank == 1:
        rows = x.type.shape[-2]
        counted = call.reshape(call.positions(rows), (1, rows))
        positions = call.map(lambda p, c: apply("add", p, c), call.reshape(positions, (1, 1)), counted)
    return _rotated_heads(call, x, _rows_of(call, cos, positions), _rows_of(call, sin, positions))


def _rotated_heads(call: Call, x: Value, cos: Value, sin: Value) -> Value:
    """`rotated`, as the attributes say, for x [B,N,S,H] or [B,S,N*H] and angles [B|1,S,R/2]."""
    interleaved = call.flag("interleaved")
    if x.type.rank == 4:
        return rotated(call, x, cos, sin, interleaved=interleaved)
    size = call.integer("rotary_embedding_dim", 0) or 2 * int(cos.type.shape[-1])
    heads = _heads(call, x, call.integer("num_heads", 0) or int(x.type.shape[-1]) // size)
    return _merged(call, rotated(call, heads, cos, sin, interleaved=interleaved))


@converter("MRotaryEmbedding", domain=_DOMAIN)
def _several_rotary_embeddings(call: Call) -> Value:
    """RotaryEmbedding whose angles come from three positions a row, [3,B,S]: of time, height and width.

    Either the angles stand in sections of the three one after the other (mrope_layout 0), or those of height and width take the place of
    every third one (1).
    """
    x, positions, caches = call.input(0), call.input(1), (call.input(2), call.input(3))
    half, sections, layout = int(caches[0].type.shape[1]), call.ints("mrope_section") or (), call.integer("mrope_layout", 0)
    if call.flag("is_packed_batching") or positions.type.shape[0] != 3 or layout not in (0, 1):
        raise Unsupported("packed sequences, or positions other than those of time, height and width")
    if len(sections) != 3 or min(sections) < 0 or sum(sections) != half:
        raise EdgeccError("E110", f"mrope_section is {list(sections)}, wanted three numbers whose sum is {half}")
    place = np.arange(half)
    if layout:
        stream = np.where((place % 3 > 0) & (place < 3 * np.asarray(sections)[place % 3]), place % 3, 0)
    else:
        stream = np.repeat(np.arange(3), sections)
    of_height, of_width = (call.constant(stream == number) for number in (1, 2))

    def mixed(cache: Value) -> Value:
        rows = _rows_of(call, cache, positions)
        parts = [call.reshape(call.slice(rows, 0, number, 1), rows.type.shape[1:]) for number in range(3)]
        return call.map(lambda t, h, w, a, b: apply("select", a, h, apply("select", b, w, t)), *parts, of_height, of_width)

    return _rotated_heads(call, x, *(mixed(cache) for cache in caches))


@converter("GroupQueryAttention", domain=_DOMAIN)
def _group_query_attention(call: Call) -> list[Item | None]:
    """Causal attention whose heads share keys and values in groups.

    Row s of batch b is at position seqlens_k[b] + 1 - S + s. Keys before seqlens_k[b] + 1 - S are those of the past.
    """
    count, shared = call.integer("num_heads"), call.integer("kv_num_heads")
    q, k, v = call.input(0), call.optional(1), call.optional(2)
    if call.wants(3) or call.integer("qk_output", 0):
        raise Unsupported("the scores as a result")
    if call.optional(12) is not None or call.optional(13) is not None:
        raise Unsupported("a quantized past")
    sink = call.optional(11)
    if sink is None and call.flag("smooth_softmax"):
        sink = call.expand(call.scalar(0.0, DType.F32), (count,))
    if k is None or v is None:  # all three side by side
        width = int(q.type.shape[2]) // (count + 2 * shared)
        q, k, v = (call.slice(q, 2, start * width, heads * width)
                   for start, heads in ((0, count), (count, shared), (count + shared, shared)))
    q, k, v = _heads(call, q, count), _heads(call, k, shared), _heads(call, v, shared)
    batch, _, rows, _ = q.type.shape
    last = call.reshape(call.cast(call.input(5), DType.I64), (batch, 1))
    first = call.map(lambda n, r: apply("sub", n, r), last, _number(call, rows - 1))
    counted = call.map(lambda p, c: apply("add", p, c), first, call.reshape(call.positions(rows), (1, rows)))
    q, k = (_normalized(call, x, index, name) for x, index, name in ((q, 14, "q_norm_epsilon"), (k, 15, "k_norm_epsilon")))
    if call.flag("do_rotary"):
        given = call.optional(9)
        cos, sin = (_rows_of(call, call.input(index), counted if given is None else given) for index in (7, 8))
        q, k = (rotated(call, x, cos, sin, interleaved=call.flag("rotary_interleaved")) for x in (q, k))
    k, v = (_appended(call, call.optional(index), new, first) for index, new in ((3, k), (4, v)))
    total = k.type.shape[2]
    places = call.reshape(call.positions(total), (1, 1, total))
    at = call.reshape(counted, (batch, rows, 1))
    seen = call.map(lambda p, c: apply("le", p, c), places, at)
    window = call.integer("local_window_size", -1)
    if window >= 0:
        seen = call.map(lambda s, p, c: apply("and", s, apply("lt", apply("sub", c, literal(window, DType.I64)), p)), seen, places, at)
    hidden = call.reshape(_chosen(call, seen, _MASKED), (batch, 1, rows, total))
    wide_k, wide_v = (_repeated(call, x, count // shared) for x in (k, v))
    y = attend(call, q, wide_k, wide_v, [call.optional(10), hidden], call.number("scale", 0.0) or None, softcap=call.number("softcap", 0.0), sink=sink)
    return [_merged(call, y), k, v]


def _normalized(call: Call, x: Value, index: int, epsilon: str) -> Value:
    """x over the root mean square of each head's row, times operand `index`; x where there is none."""
    scale = call.optional(index)
    if scale is None:
        return x
    return call.add(Normalize((3,), call.number(epsilon, call.number("qk_norm_epsilon", 1e-6)), True), x, scale)


def _appended(call: Call, past: Value | None, new: Value, first: Value) -> Value:
    """The cache [B,N,T,H] with `new` [B,N,S,H] at the positions from `first` [B,1] on, the past before them.

    T is the larger one of the room the past has and of what is known of all positions; without a past it is S.
    """
    if past is None or past.type.shape[2] == 0:
        return new
    batch, heads, rows, size = new.type.shape
    room = past.type.shape[2]
    totals = call.known_dims(6, "the total sequence length")
    if len(totals) != 1:
        raise EdgeccError("E110", f"the total sequence length (operand 6) must be one integer, it has {len(totals)}")
    total = larger(room, totals[0])
    both = concat(call, [past, new], 2)
    zero = literal(0, DType.I64)
    chosen = call.map(
        lambda p, f, e, n: apply("select", apply("lt", p, f), apply("max", apply("min", p, apply("sub", e, literal(1, DType.I64))), zero), apply(
            "add", e, apply("min", apply("max", apply("sub", p, f), zero), n))),
        call.reshape(call.positions(total), (1, total)), first, _number(call, room), _number(call, rows - 1))
    if batch == 1:
        return call.add(Gather(2), both, call.reshape(chosen, (total,)))
    wide = call.expand(call.reshape(chosen, (batch, 1, total, 1)), (batch, heads, total, size))
    return call.add(GatherElements(2), both, wide)


def _repeated(call: Call, x: Value, times: int) -> Value:
    """[B,N,T,H] with each head `times` times in a row."""
    batch, heads, total, size = x.type.shape
    shape: tuple[Dim, ...] = (batch, heads, times, total, size)
    wide = call.expand(call.reshape(x, (batch, heads, 1, total, size)), shape)
    return call.reshape(wide, (batch, heads * times, total, size))
