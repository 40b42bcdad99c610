"""Fourier transforms as products with matrices of cosines and sines, and mel weights.

Complex signals of a length that has divisors are transformed in two steps, which takes fewer multiplications and rounds like the
usual algorithms.

Source: J. W. Cooley, J. W. Tukey, "An algorithm for the machine calculation of complex Fourier series", 1965.
"""

from __future__ import annotations

import math

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.movement import concat
from edgecc.frontend.registry import Unsupported, converter
from edgecc.frontend.tensors import element_type
from edgecc.ir.dims import lower_bound, upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, convert, literal
from edgecc.ir.types import Array, Dim, DType
from edgecc.ops.indexing import Gather
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Pad

_LONGEST = 4096
"""Longest transform that is compiled as a matrix product; its matrix has at most 2^26 elements."""


def _matrix(call: Call, length: int, bins: int, parts: int, inverse: bool, dtype: DType, *, scaled: bool = True) -> Array:
    """[parts*length, 2*bins]: rows are samples (real, or real and imaginary in turn), columns are bins likewise.

    X[k] = sum over n of x[n] * exp(-2 pi i k n / length); the inverse turns the sign and, `scaled`, divides by length.
    """
    if length > _LONGEST:
        raise Unsupported(f"a Fourier transform of {length} points; the longest is {_LONGEST}")
    call.reserve((length, parts, bins, 2), "the matrix of a Fourier transform", dtype.numpy.itemsize)
    # The product is reduced modulo the length first, which keeps the angles exact.
    angle = 2.0 * np.pi * np.arange(length) / length
    cosine, sine = ((part / (length if inverse and scaled else 1)).astype(dtype.numpy) for part in (np.cos(angle), np.sin(angle if inverse else -angle)))
    turn = np.outer(np.arange(length, dtype=np.int32), np.arange(bins, dtype=np.int32)) % length
    out = np.empty((length, parts, bins, 2), dtype.numpy)
    out[:, 0, :, 0], out[:, 0, :, 1] = cosine[turn], sine[turn]
    if parts == 2:
        out[:, 1, :, 0], out[:, 1, :, 1] = -sine[turn], cosine[turn]
    return out.reshape(parts * length, 2 * bins)


def _parts(x: Value) -> int:
    """1 for real data, 2 for complex data: the size of the last axis."""
    if x.type.rank < 2 or x.type.shape[-1] not in (1, 2):
        raise EdgeccError("E110", f"the signal is {x.type}; its last axis must hold one or two numbers")
    return int(x.type.shape[-1])


@converter("DFT", since=17)
def _dft(call: Call) -> Value:
    x = call.input(0)
    parts, rank = _parts(x), x.type.rank
    if call.version < 20:
        axis = call.integer("axis", 1)
    else:
        axis = -2 if call.optional(2) is None else call.known_int(2, "axis")
    axis = call.axis(axis, rank)
    if axis == rank - 1:
        raise EdgeccError("E110", "the last axis holds real and imaginary parts and cannot be transformed")
    length: Dim = x.type.shape[axis] if call.optional(1) is None else call.known_int(1, "dft_length")
    inverse, onesided = call.flag("inverse"), call.flag("onesided")
    if lower_bound(length) < 1:
        raise EdgeccError("E110", f"the transform has {length} points, wanted at least 1")
    if inverse and onesided:
        return _real_inverse(call, x, axis, None if call.optional(1) is None else length)
    x = _of_length(call, x, axis, length)
    others = [a for a in range(rank - 1) if a != axis]
    moved = call.transpose(x, [*others, axis, rank - 1])
    outer = moved.type.shape[:-2]
    back = list(range(rank - 2))
    back.insert(axis, rank - 2)
    if not isinstance(length, int):
        return call.transpose(_at_run_time(call, moved, length, length // 2 + 1 if onesided else length, inverse), [*back, rank - 1])
    bins = length // 2 + 1 if onesided else length
    first = max(n for n in range(1, math.isqrt(length) + 1) if length % n == 0)
    if first > 1 and parts == 2:
        spectrum = call.slice(_in_two_steps(call, moved, length, first, inverse), rank - 2, 0, bins)
    else:
        matrix = call.constant(_matrix(call, length, bins, parts, inverse, x.type.dtype))
        rows = call.reshape(moved, (*outer, length * parts) if outer else (1, length * parts))
        spectrum = call.reshape(call.add(MatMul(), rows, matrix), (*outer, bins, 2))
    return call.transpose(spectrum, [*back, rank - 1])


def _of_length(call: Call, x: Value, axis: int, length: Dim) -> Value:
    """The first `length` elements of an axis; zeros where it has fewer."""
    size = x.type.shape[axis]
    if size == length:
        return x
    dims = tuple(length if a == axis else d for a, d in enumerate(x.type.shape))
    call.importer.limits.check_dims(dims, "the padded signal")
    if isinstance(size, int) and isinstance(length, int) and size < length:
        return call.add(Pad((0,) * x.type.rank, tuple(length - size if a == axis else 0 for a in range(x.type.rank))), x)
    if not isinstance(size, int) and upper_bound(length) > lower_bound(size):
        x = concat(call, [x, call.expand(call.scalar(0, x.type.dtype), dims)], axis)
    return call.slice(x, axis, 0, length)


def _turns(call: Call, length: Dim, rows: Dim, columns: Dim, dtype: DType) -> tuple[Value, Value, Value]:
    """[rows, columns]: cosine and sine of 2 pi r c / length, for lengths that the run decides; and the length as f64 [1].

    Cosines of one turn are computed once, in float64, and looked up at r c modulo the length, which keeps the angles exact.
    """
    if upper_bound(length) > _LONGEST:
        raise Unsupported(f"a Fourier transform of up to {upper_bound(length)} points; the longest is {_LONGEST}")
    call.importer.limits.check_dims((rows, columns), "the matrix of a Fourier transform")
    number = call.sizes((length,))
    points = call.cast(number, DType.F64)
    place = call.map(lambda r, c, n: apply("mod", apply("mul", r, c), n), call.reshape(call.positions(rows), (rows, 1)), call.positions(columns), number)
    angles = call.map(lambda i, n: apply("div", apply("mul", convert(i, DType.F64), literal(2.0 * math.pi, DType.F64)), n), call.positions(length), points)
    cosine, sine = (call.add(Gather(0), call.cast(call.map(lambda a, f=function: apply(f, a), angles), dtype), place) for function in ("cos", "sin"))
    return cosine, sine, points


def _at_run_time(call: Call, x: Value, length: Dim, bins: Dim, inverse: bool) -> Value:
    """The transform [..., bins, 2] of x [..., length, parts], whose length the run decides."""
    *outer, _, parts = x.type.shape
    lead = tuple(outer) or (1,)
    cosine, sine, points = _turns(call, length, length, bins, x.type.dtype)
    real, imaginary = (call.reshape(call.slice(x, len(outer) + 1, part, 1), (*lead, length)) if part < parts else None for part in (0, 1))
    first, second = (call.add(MatMul(), real, matrix) for matrix in (cosine, sine))
    if not inverse:
        second = call.map(lambda a: apply("neg", a), second)
    if imaginary is not None:
        turned, kept = (call.add(MatMul(), imaginary, matrix) for matrix in (sine, cosine))
        first = call.map(lambda a, b: apply("sub" if inverse else "add", a, b), first, turned)
        second = call.map(lambda a, b: apply("add", a, b), second, kept)
    if inverse:
        first, second = (call.map(lambda a, n: apply("div", a, n), part, call.cast(points, x.type.dtype)) for part in (first, second))
    return concat(call, [call.reshape(part, (*outer, bins, 1)) for part in (first, second)], len(outer) + 1)


def _in_two_steps(call: Call, x: Value, length: int, first: int, inverse: bool) -> Value:
    """The transform [..., length, 2] of complex x [..., length, 2] by transforms of `first` and of length / first points.

    With n = n2 + second * n1 and k = k1 + first * k2 the sum over n1 for each n2, turned by n2 * k1 / length, is summed over n2.
    """
    outer, parts = x.type.shape[:-2], _parts(x)
    second, dtype, rank = length // first, x.type.dtype, len(outer)
    lead, kept = tuple(outer), list(range(rank))
    columns = call.transpose(call.reshape(x, (*lead, first, second, parts)), [*kept, rank + 1, rank, rank + 2])
    whole = call.constant(_matrix(call, first, first, parts, inverse, dtype, scaled=False))
    sums = call.reshape(call.add(MatMul(), call.reshape(columns, (*lead, second, first * parts)), whole), (*lead, second, first, 2))
    call.reserve((2, second, first), "the turns of a Fourier transform")
    angle = 2.0 * np.pi * (np.outer(np.arange(second), np.arange(first)) % length) / length
    cosine, sine = (call.constant(part.astype(dtype.numpy)[..., None]) for part in (np.cos(angle), np.sin(angle if inverse else -angle)))
    real, imaginary = (call.slice(sums, rank + 2, part, 1) for part in (0, 1))
    turned = concat(call, [
        call.map(lambda a, b, c, s: apply("sub", apply("mul", a, c), apply("mul", b, s)), real, imaginary, cosine, sine),
        call.map(lambda a, b, c, s: apply("add", apply("mul", a, s), apply("mul", b, c)), real, imaginary, cosine, sine)], rank + 2)
    rows = call.reshape(call.transpose(turned, [*kept, rank + 1, rank, rank + 2]), (*lead, first, second * 2))
    rest = call.constant(_matrix(call, second, second, 2, inverse, dtype, scaled=False))
    found = call.reshape(call.add(MatMul(), rows, rest), (*lead, first, second, 2))
    ordered = call.reshape(call.transpose(found, [*kept, rank + 1, rank, rank + 2]), (*lead, length, 2))
    return call.map(lambda a: apply("mul", a, literal(1.0 / length, dtype)), ordered) if inverse else ordered


def _real_inverse(call: Call, x: Value, axis: int, given: Dim | None) -> Value:
    """A real signal from one side of its spectrum: the other side are the conjugates.

    x[n] = sum over k of c[k] * (re[k] cos - im[k] sin)(2 pi k n / length) / length, where c is 2 but for the first bin
    and, of an even length, the last one; their imaginary parts do not count.
    """
    rank = x.type.rank
    if x.type.shape[-1] != 2:
        raise EdgeccError("E110", f"the spectrum is {x.type}; its last axis must hold two numbers")
    length: Dim = (x.type.shape[axis] - 1) * 2 if given is None else given
    bins: Dim = length // 2 + 1
    if lower_bound(length) < 1:
        raise EdgeccError("E110", f"a signal of {length} elements from {x.type.shape[axis]} bins")
    others = [a for a in range(rank - 1) if a != axis]
    moved = call.transpose(_of_length(call, x, axis, bins), [*others, axis, rank - 1])
    outer = moved.type.shape[:-2]
    lead = outer or (1,)
    if isinstance(length, int):
        rows = _matrix(call, length, length // 2 + 1, 1, True, x.type.dtype).reshape(length, length // 2 + 1, 2)
        double = np.full(rows.shape[1], 2.0, rows.dtype)
        double[0] = 1.0
        if length % 2 == 0:
            double[-1] = 1.0
        matrix = np.stack([rows[..., 0] * double, -rows[..., 1] * double], axis=-1).transpose(1, 2, 0).reshape(-1, length)
        flat = call.reshape(moved, (*lead, bins * 2))
        signal = call.add(MatMul(), flat, call.constant(matrix))
    else:  # twice as many as intervals between bins, and so even
        cosine, sine, points = _turns(call, length, bins, length, x.type.dtype)
        dtype, last = x.type.dtype, call.sizes((bins - 1,))
        share = call.map(lambda k, e, n: apply("div", apply("select", apply("or", apply("eq", k, literal(0, DType.I64)), apply("eq", k, e)), literal(1.0, dtype),
                                                            literal(2.0, dtype)), n), call.positions(bins), last, call.cast(points, dtype))
        real, imaginary = (call.map(lambda a, c: apply("mul", a, c), call.reshape(call.slice(moved, rank - 1, part, 1), (*lead, bins)), share)
                           for part in (0, 1))
        signal = call.map(lambda a, b: apply("sub", a, b), call.add(MatMul(), real, cosine), call.add(MatMul(), imaginary, sine))
    back = list(range(rank - 2))
    back.insert(axis, rank - 2)
    return call.transpose(call.reshape(signal, (*outer, length, 1)), [*back, rank - 1])


@converter("MelWeightMatrix", since=17)
def _mel_weights(call: Call) -> Value:
    """Weights [bins of a spectrum, mel bands] of triangles that are equally wide on the mel scale.

    Source: ONNX MelWeightMatrix-17, whose edges are whole bins.
    """
    bands, length, rate = (call.known_int(index, what) for index, what in enumerate(("num_mel_bins", "dft_length", "sample_rate")))
    low, high = (float(call.known(index, what).reshape(-1)[0]) for index, what in ((3, "lower_edge_hertz"), (4, "upper_edge_hertz")))
    dtype = element_type(call.integer("output_datatype"), "the result") if call.has("output_datatype") else DType.F32
    bins = length // 2 + 1
    if bands < 1 or length < 1 or rate < 1 or not -700.0 < low <= high < math.inf:
        raise EdgeccError("E110", f"{bands} bands from {low} to {high} Hz of {length} points at {rate} Hz")
    call.reserve((bins, bands), "the mel weights")
    first, last = (2595.0 * math.log10(1.0 + hertz / 700.0) for hertz in (low, high))
    mels = first + np.arange(bands + 2) * ((last - first) / (bands + 2))
    edges = np.floor((length + 1) * (700.0 * (10.0 ** (mels / 2595.0) - 1.0)) / rate).astype(np.int64)
    if edges.min() < 0 or edges.max() > bins:
        raise EdgeccError("E110", f"the bands reach from {low} to {high} Hz; the spectrum ends at {rate / 2} Hz")
    position = np.arange(bins)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    with np.errstate(all="ignore"):
        rising = np.where(position <= centre, (position - left) / (centre - left), 0.0) * (position >= left)
        falling = np.where((position >= centre) & (position < right), (right - position) / (right - centre), 0.0)
    rising = np.where(centre == left, (position == centre) * 1.0, rising)
    weights = np.where((position >= centre) & (right > centre) & (position < right), falling, rising)
    return call.constant(weights.astype(dtype.numpy))


@converter("STFT", since=17)
def _stft(call: Call) -> Value:
    x, step, window = call.input(0), call.known_int(1, "frame_step"), call.optional(2)
    if x.type.rank == 2:
        x = call.reshape(x, (*x.type.shape, 1))
    parts = _parts(x)
    if x.type.rank != 3:
        raise EdgeccError("E110", f"the signal is {x.type}, wanted [batch, length, 1 or 2]")
    batch, total, _ = x.type.shape
    if call.optional(3) is not None:
        length = call.known_int(3, "frame_length")
    elif window is not None:
        length = window.type.elements
    else:
        raise EdgeccError("E102", "neither a window nor frame_length is given")
    if step < 1 or not 1 <= length <= lower_bound(total) or (window is not None and window.type.dims != (length,)):
        raise EdgeccError("E110", f"frames of {length} every {step} elements do not fit the signal {x.type}"
                                  + ("" if window is None else f" and the window {window.type}"))
    frames = (total - length) // step + 1
    bins = length // 2 + 1 if call.flag("onesided", True) and parts == 1 else length
    call.importer.limits.check_dims((batch, frames, length, parts), "the frames")
    call.reserve((frames, length), "the places of the frames")
    positions = np.arange(upper_bound(frames), dtype=np.int64)[:, None] * step + np.arange(length, dtype=np.int64)
    cut = call.add(Gather(1), x, call.slice(call.constant(positions), 0, 0, frames))  # [batch, frames, length, parts]
    if window is not None:
        cut = call.map(lambda a, w: apply("mul", a, w), cut, call.reshape(call.cast(window, x.type.dtype), (length, 1)))
    matrix = call.constant(_matrix(call, length, bins, parts, False, x.type.dtype))
    spectrum = call.add(MatMul(), call.reshape(cut, (batch, frames, length * parts)), matrix)
    return call.reshape(spectrum, (batch, frames, bins, 2))
