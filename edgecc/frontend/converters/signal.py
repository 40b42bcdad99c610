"""Fourier transforms of known length, as products with matrices of cosines and sines, and mel weights.

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
from edgecc.ir.scalar import apply, literal
from edgecc.ir.types import Array, DType
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
    length = x.type.dims[axis] if call.optional(1) is None else call.known_int(1, "dft_length")
    inverse, onesided = call.flag("inverse"), call.flag("onesided")
    if length < 1:
        raise EdgeccError("E110", f"dft_length is {length}, wanted at least 1")
    if inverse and onesided:
        return _real_inverse(call, x, axis, None if call.optional(1) is None else length)
    call.importer.limits.check_dims((*x.type.dims[:axis], length, *x.type.dims[axis + 1:]), "the padded signal")
    after = tuple(max(length - size, 0) if a == axis else 0 for a, size in enumerate(x.type.dims))
    x = call.add(Pad((0,) * rank, after), x) if any(after) else call.slice(x, axis, 0, length)
    others = [a for a in range(rank - 1) if a != axis]
    moved = call.transpose(x, [*others, axis, rank - 1])
    outer = moved.type.dims[:-2]
    bins = length // 2 + 1 if onesided else length
    first = max(n for n in range(1, math.isqrt(length) + 1) if length % n == 0)
    if first > 1 and parts == 2:
        spectrum = call.slice(_in_two_steps(call, moved, first, inverse), rank - 2, 0, bins)
    else:
        matrix = call.constant(_matrix(call, length, bins, parts, inverse, x.type.dtype))
        rows = call.reshape(moved, (*outer, length * parts) if outer else (1, length * parts))
        spectrum = call.reshape(call.add(MatMul(), rows, matrix), (*outer, bins, 2))
    back = list(range(rank - 2))
    back.insert(axis, rank - 2)
    return call.transpose(spectrum, [*back, rank - 1])


def _in_two_steps(call: Call, x: Value, first: int, inverse: bool) -> Value:
    """The transform [..., length, 2] of complex x [..., length, 2] by transforms of `first` and of length / first points.

    With n = n2 + second * n1 and k = k1 + first * k2 the sum over n1 for each n2, turned by n2 * k1 / length, is summed over n2.
    """
    *outer, length, parts = x.type.dims
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


def _real_inverse(call: Call, x: Value, axis: int, length: int | None) -> Value:
    """A real signal from one side of its spectrum: the other side are the conjugates.

    x[n] = sum over k of c[k] * (re[k] cos - im[k] sin)(2 pi k n / length) / length, where c is 2 but for the first bin
    and, of an even length, the last one; their imaginary parts do not count.
    """
    dims, rank = x.type.dims, x.type.rank
    if dims[-1] != 2:
        raise EdgeccError("E110", f"the spectrum is {x.type}; its last axis must hold two numbers")
    length = 2 * (dims[axis] - 1) if length is None else length
    bins = min(length // 2 + 1, dims[axis])
    if length < 1 or bins < 1:
        raise EdgeccError("E110", f"a signal of {length} elements from {dims[axis]} bins")
    rows = _matrix(call, length, bins, 1, True, x.type.dtype).reshape(length, bins, 2)
    double = np.full(bins, 2.0, rows.dtype)
    double[0] = 1.0
    if length % 2 == 0 and bins == length // 2 + 1:
        double[-1] = 1.0
    matrix = np.stack([rows[..., 0] * double, -rows[..., 1] * double], axis=-1).transpose(1, 2, 0).reshape(2 * bins, length)
    others = [a for a in range(rank - 1) if a != axis]
    moved = call.transpose(call.slice(x, axis, 0, bins), [*others, axis, rank - 1])
    outer = moved.type.dims[:-2]
    flat = call.reshape(moved, (*outer, 2 * bins) if outer else (1, 2 * bins))
    signal = call.reshape(call.add(MatMul(), flat, call.constant(matrix)), (*outer, length, 1))
    back = list(range(rank - 2))
    back.insert(axis, rank - 2)
    return call.transpose(signal, [*back, rank - 1])


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
