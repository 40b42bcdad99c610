"""The second factor and the bias of a contraction: packed where they are constants, else read as they lie.

Weights are packed so that the micro-kernel reads them in one stream: [panel][reduction][channels of the panel].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels import complements
from edgecc.kernels.borders import Borders
from edgecc.kernels.epilogue import fused, fused_operands, start_of
from edgecc.kernels.grouped import Terms, group_terms
from edgecc.kernels.kernel import FromInput, KernelArgument, Packed
from edgecc.kernels.register_tile import Panel, pack_panels, packed_channels
from edgecc.kernels.request import Request
from edgecc.kernels.sum_types import convert, sum_type, zero
from edgecc.kernels.view import View
from edgecc.loop.index import Index
from edgecc.loop.ir import Buffer, Const, Expr, Load, Op


@dataclass(frozen=True)
class Weights:
    """The second factor and the bias of a contraction, and where the kernel's buffers for them come from.

    Attributes:
        arguments: the buffers "w" and, if there is a bias, "b".
        packed: whether "w" holds panels; else it lies as the operand's view says.
        padded: the buffers that hold whole vectors for every panel.
        bias: the start of the sum, given its place in a packed bias and the address of the result element in a view.
    """

    arguments: tuple[tuple[Buffer, KernelArgument], ...]
    packed: bool
    padded: tuple[str, ...]
    bias: Callable[[Index, Callable[[View], Index]], Expr]


def weights_of(request: Request, channels: int, reduction: int, panels: Sequence[Panel],
               arrange: Callable[[Array], Array], *, groups: int = 1, bias_axis: int = -1,
               terms: Terms | None = None, parts: int = 1, borders: Borders | None = None,
               term_sums: Callable[[Array], Array] | None = None) -> Weights:
    """The weights (operand 1) and the bias (operand 2, [groups * channels] or broadcast to it) of a contraction.

    Args:
        arrange: turns the constant operand into [groups * channels, reduction], in the order of the kernel's loops.
        bias_axis: see `with_bias`.
        terms: how terms are read; `reduction` counts steps.
        parts: of the reduction, which then lie one after the other, each with all panels.
        borders: where some sums lack terms, the classes of those that do; the bias then has a part for each class.
        term_sums: adds up elements in the order of the loops, class by class, where the order differs between classes: of bytes that
            are combined with masks those decide on pairs that are not neighbours in the weights themselves.
    """
    w, own_arrange = request.operand(1), arrange
    streams: tuple[tuple[Buffer, KernelArgument], ...] = ()
    if w.is_constant:
        elements = groups * packed_channels(panels) * reduction * (1 if terms is None else terms.lanes)
        dtype = w.view.dtype
        pack = partial(_pack_weights, groups=groups, panels=tuple(panels), parts=parts)
        if terms is not None and terms.masked:
            turned = partial(group_terms, partial(complements.masks, arrange, terms.flip), terms.group)
            streams = ((Buffer(complements.MASKS, DType.U32, elements, "input"), Packed((1,), partial(pack, turned))),)
            arrange = partial(complements.second_factors, arrange)
        if terms is not None and terms.dot:
            arrange, dtype = partial(group_terms, arrange, terms.group), terms.element(dtype)
        buffer: tuple[Buffer, KernelArgument] = (Buffer("w", dtype, elements, "input"), Packed((1,), partial(pack, arrange)))
    else:
        buffer = (Buffer("w", w.view.dtype, max(1, w.view.span), "input"), FromInput(1))
    if terms is not None and (terms.offset or terms.masked):
        known = (1,) if request.optional(2) is None else (1, 2)
        sums, offset = partial(_sums_of_terms, own_arrange) if borders is None else borders.sums, terms.offset
        if terms.masked and term_sums is not None:
            sums, offset = partial(_sums_in_order, own_arrange, partial(complements.sums, term_sums, 1, terms.offset)), 1
        elif terms.masked:
            sums, offset = partial(complements.sums, sums, 1, terms.offset), 1
        fused_by = fused_operands(request)
        offset_bias = Packed(known, partial(_pack_offset_bias, sums, groups, tuple(panels), offset, start_of(request))) if fused_by is None else \
            Packed(fused_by, partial(_pack_fused_bias, request, partial(_pack_offset_bias, sums, groups, tuple(panels), offset, 0)))
        elements = groups * packed_channels(panels) * (1 if borders is None else borders.count)
        place_of: tuple[Buffer, KernelArgument] = (Buffer("b", DType.I32, elements, "input"), offset_bias)
        arguments = (buffer, *streams, place_of)
        return Weights(arguments, w.is_constant, tuple(made.name for made, _ in arguments), lambda place, address: Load("b", place, DType.I32))
    return with_bias(request, buffer, channels, panels, packed=w.is_constant, groups=groups, bias_axis=bias_axis)


def with_bias(request: Request, w: tuple[Buffer, KernelArgument], channels: int, panels: Sequence[Panel], *, packed: bool,
              groups: int = 1, bias_axis: int = -1) -> Weights:
    """Joins the weights with the bias of the request, packed if it is a constant with one element a channel.

    `bias_axis` is the axis of the result a bias of rank 1 runs along; other biases broadcast as in numpy.
    """
    b = request.optional(2)
    padded = (w[0].name,) if packed else ()
    dtype = sum_type(request)
    begin = start_of(request)
    if b is None:
        start = Const(begin, dtype) if begin else zero(dtype)
        return Weights((w,), packed, padded, lambda place, address: start)
    b_dtype = b.view.dtype
    channel_axis = len(b.view.dims) == 1 or all(d == 1 for d in b.view.dims[:-1])
    if b.is_constant and channel_axis:
        fused_by, lies = fused_operands(request), (groups, groups * channels, tuple(panels))
        place_of: tuple[Buffer, KernelArgument] = (
            Buffer("b", b_dtype, groups * packed_channels(panels), "input"),
            Packed((2,), partial(_pack_bias, *lies, begin=begin)) if fused_by is None else
            Packed(fused_by, partial(_pack_fused_bias, request, partial(_pack_bias_alone, *lies))))
        return Weights((w, place_of), packed, (*padded, "b"), lambda place, address: convert(Load("b", place, b_dtype), dtype))
    view = _bias_view(b.view, request.outputs[0].dims, bias_axis)
    place_of = (Buffer("b", b_dtype, max(1, b.view.span), "input"), FromInput(2))

    def own(place: Index, address: Callable[[View], Index]) -> Expr:
        bias = convert(Load("b", address(view), b_dtype), dtype)
        return Op("add", (bias, Const(begin, dtype)), dtype) if begin else bias

    return Weights((w, place_of), packed, padded, own)


def folds_offset(request: Request) -> bool:
    """Whether the weights are known, and so is the bias, if any, which has one element a channel."""
    b = request.optional(2)
    return request.operand(1).is_constant and (b is None or (b.is_constant and all(d == 1 for d in b.view.dims[:-1])))


def flatten(weights: Array) -> Array:
    """[channels, ...] as [channels, reduction]."""
    return weights.reshape(weights.shape[0], -1)


def _bias_view(view: View, dims: Sequence[int], axis: int) -> View:
    if axis == -1:
        return view.broadcast_to(dims)
    return View(view.dtype, tuple(dims), tuple(view.strides[0] if i == axis else 0 for i in range(len(dims))))


def _pack_weights(arrange: Callable[[Array], Array], weights: Array, *, groups: int, panels: tuple[Panel, ...], parts: int) -> Array:
    packed = np.concatenate([pack_panels(part, panels) for group in np.split(arrange(weights), groups)
                             for part in np.split(group, parts, axis=1)])
    return packed.view(np.uint32) if packed.dtype.type is np.void else packed


def _pack_bias(groups: int, channels: int, panels: tuple[Panel, ...], bias: Array, begin: int = 0) -> Array:
    full = np.broadcast_to(bias.reshape(-1), (channels,))
    if begin:  # sums in i32, which wrap
        full = (full.astype(np.int64) + begin).astype(np.int32)
    return np.concatenate([pack_panels(part.reshape(-1, 1), panels) for part in np.split(full, groups)])


def _pack_bias_alone(groups: int, channels: int, panels: tuple[Panel, ...], weights: Array, bias: Array) -> Array:
    return _pack_bias(groups, channels, panels, bias)


def _pack_fused_bias(request: Request, pack: Callable[[Array, Array], Array], weights: Array, bias: Array, scale: Array) -> Array:
    """The bias that `pack` makes of weights and bias, with what the sums of each channel start from, in i32, which wraps."""
    starts = fused(request, weights, bias, scale).starts
    return pack(weights, (bias.reshape(-1).astype(np.int64) + starts).astype(np.int32))


def _pack_offset_bias(sums: Callable[[Array], Array], groups: int, panels: tuple[Panel, ...], offset: int, begin: int,
                      weights: Array, bias: Array | None = None) -> Array:
    """The bias less `offset` times the sums of each channel's weights [classes, channels], in i32, which wraps."""
    start = np.zeros((), np.int64) if bias is None else bias.reshape(-1).astype(np.int64)
    return np.concatenate([_pack_bias(groups, own.size, panels, (begin + start - offset * own).astype(np.int32)) for own in sums(weights)])


def _sums_in_order(arrange: Callable[[Array], Array], sums: Callable[[Array], Array], weights: Array) -> Array:
    return sums(np.ascontiguousarray(arrange(weights)))


def _sums_of_terms(arrange: Callable[[Array], Array], weights: Array) -> Array:
    """The sum of each channel's weights: i64 [1, channels]."""
    return np.asarray(np.ascontiguousarray(arrange(weights)).astype(np.int64).sum(axis=1)[None])
