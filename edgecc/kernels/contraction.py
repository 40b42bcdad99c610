"""The nest that convolutions and matrix products share: rows x channels of sums of products.

    for panel: for pixel: for channel: acc = bias; for reduction...: acc += x * w; y = epilogue(acc)

The functions here build that nest, plain, and state the schedule that makes a micro-kernel of it:
pixels and channels become a register tile, channels become vectors, the innermost reduction is
unrolled. Weights are packed so that the micro-kernel reads them in one stream:
[panel][reduction][channels of the panel].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from edgecc.ir.scalar import Arg, Convert, Literal, ScalarExpr, children
from edgecc.ir.types import Array, DType
from edgecc.kernels import complements, half_sums
from edgecc.kernels.base import FromInput, FromOutput, Kernel, KernelArgument, Packed, Request, View
from edgecc.kernels.borders import Borders
from edgecc.kernels.grouped import DSP, Terms, group_terms, grouped_sum, pairs_steps
from edgecc.kernels.half_sums import Reduction
from edgecc.kernels.nearest import in_integers
from edgecc.kernels.register_tile import (
    Panel,
    RegisterTile,
    comes_in_halves,
    lane_sources,
    narrowest_lanes,
    pack_panels,
    packed_channels,
)
from edgecc.kernels.rows import row_parameters, rows_suffix
from edgecc.kernels.scalar_lowering import computes_in_half, lower_scalar
from edgecc.kernels.shifted_sums import BITS, by_addition
from edgecc.loop.index import ZERO, Index, as_index, const, var
from edgecc.loop.ir import (
    Assign,
    Body,
    Buffer,
    Cast,
    Const,
    Declare,
    Expr,
    For,
    Function,
    Load,
    Op,
    Ref,
    Stmt,
    Store,
)
from edgecc.loop.rewrite import instantiate
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.ops.rules import NARROW_INTEGERS
from edgecc.targets.schema import Target

PIXEL, CHANNEL, PANEL, INNER = "pixel", "channel", "panel", "k"
VECTOR_TYPES = frozenset({DType.F32, DType.F16, DType.BF16, DType.I32, DType.BOOL})
"""Types whose values are, or widen to, lanes of 32 bits. Narrow integers do where they are only read, converted and stored."""
REST_ROWS = 4
"""Rows of the tile for what whole tiles leave where the run decides how many rows there are."""
UNROLL = 4
"""Steps of the innermost reduction a micro-kernel unrolls; one vector of lanes where it multiplies by lane."""

LEAST_ITERATIONS = 3
"""Compilers unroll shorter loops themselves, and then move loads of weights out of the loop around and spill them."""


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


@dataclass(frozen=True)
class Epilogue:
    """What happens to an accumulator: an expression of it and of further operands, then the store.

    Attributes:
        expr: Arg(0) is the accumulator, Arg(i) extra operand i-1; None stores the accumulator itself.
        extras: (buffer name, view broadcast to the result's shape) of each extra operand.
        result: (buffer name, view) of the result.
        native: whether f16 is computed in f16. whole: whether sums in f32 are integers that f32 holds (`Conv.exact`).
        fractions: the extra operands that are constants of magnitudes up to 1/2.
        shifted: how small sums are known to be where they start from the bits of a float, else 0 (edgecc/kernels/shifted_sums.py).
    """

    expr: ScalarExpr | None
    extras: tuple[tuple[str, View], ...]
    result: tuple[str, View]
    native: bool = False
    fractions: frozenset[str] = frozenset()
    shifted: int = 0
    whole: bool = False

    def store(self, accumulator: Expr, address: Callable[[View], Index]) -> Stmt:
        """The store of one result element; `address` gives its place in a view of the result's shape."""
        name, view = self.result
        value = convert(accumulator, view.dtype)
        if self.expr is not None:
            loads = [Load(buffer, address(extra), extra.dtype) for buffer, extra in self.extras]
            value = lower_scalar(self.expr, [convert(accumulator, first_type(self.expr, view.dtype)), *loads], 1, native=self.native)
        value = in_integers(value, self.fractions, accumulator if self.whole else None)
        if self.shifted:
            value = by_addition(value, accumulator, self.shifted) or value
        return Store(name, address(view), value)


def first_type(expr: ScalarExpr, default: DType) -> DType:
    """The type an epilogue expects of operand 0; `default` where it does not mention it."""
    pending = [expr]
    while pending:
        node = pending.pop()
        if isinstance(node, Arg) and node.index == 0:
            return node.dtype
        pending.extend(children(node))
    return default


def convert(expr: Expr, dtype: DType) -> Expr:
    """`expr` as `dtype`, without a conversion where it has that type."""
    return expr if expr.dtype is dtype else Cast(expr, dtype)


def accumulator_type(dtype: DType) -> DType:
    """The type sums are kept in: f32 for the narrow floats, i32 for the narrow integers, else the type itself."""
    if dtype in (DType.F16, DType.BF16):
        return DType.F32
    if dtype.is_integer and dtype.size < 4:
        return DType.I32
    return dtype


def sum_type(request: Request) -> DType:
    """The type a contraction keeps its sums in: that of operand 0 where the request allows sums in it, else `accumulator_type`."""
    dtype = request.operand(0).view.dtype
    return dtype if request.computes_in(dtype) else accumulator_type(dtype)


def compute_target(request: Request, expr: ScalarExpr | None) -> Target:
    """The request's target, without its vector unit where sums or epilogue need other types than its lanes hold."""
    target = request.target
    sums = sum_type(request)
    types = {sums, *(v.dtype for v in request.outputs if v.dtype not in NARROW_INTEGERS)}
    pending = [] if expr is None else [expr]
    while pending:
        node = pending.pop()
        if node.dtype not in NARROW_INTEGERS or not isinstance(node, Arg | Literal | Convert):
            types.add(node.dtype)
        pending.extend(children(node))
    if sums in (DType.F32, DType.F16) and types <= VECTOR_TYPES:
        return target
    if sums is DType.I32 and request.operand(0).view.dtype in NARROW_INTEGERS and types <= VECTOR_TYPES:
        registers = target.vector.integer_registers or target.vector.registers
        return replace(target, vector=replace(target.vector, registers=registers, fma_by_lane=False))  # integers are widened on the way
    return replace(target, vector=replace(target.vector, bits=0, widths=(), fma_by_lane=False))


def multiply_add(x: Expr, w: Expr, accumulator: Expr, dot: str = "", zeros: tuple[int, int] = (0, 0)) -> Expr:
    """acc + x*w, rounded once for floats; with `dot` the grouped product of this name (edgecc/loop/dot.py).

    `zeros` are the zero points of integers x and w.
    """
    dtype = accumulator.dtype
    if dot:
        return grouped_sum(dot, x, w, accumulator)
    x, w = (_less(convert(factor, dtype), zero) for factor, zero in zip((x, w), zeros, strict=True))
    if dtype.is_float:
        return Op("fma", (x, w, accumulator), dtype, accumulator.lanes)
    return Op("add", (accumulator, Op("mul", (x, w), dtype, accumulator.lanes)), dtype, accumulator.lanes)


def centred(factor: Expr, zero: int) -> Expr:
    """An integer factor less its zero point, in i32; a factor without one as it is."""
    return _less(convert(factor, DType.I32), zero) if zero else factor


def _less(factor: Expr, zero: int) -> Expr:
    return Op("sub", (factor, Const(zero, factor.dtype, factor.lanes)), factor.dtype, factor.lanes) if zero else factor


def zeros_of(op: Conv | MatMul) -> tuple[int, int]:
    """The zero points of the factors of a convolution or matrix product."""
    return (op.x_zero or 0, 0) if isinstance(op, Conv) else (op.a_zero or 0, op.b_zero or 0)


def tile_nest(rows: int | Index, channels: int, reductions: Sequence[Reduction], x: Expr, w: Expr, bias: Expr,
              store: Callable[[Expr], Stmt], *, row_loop: str = PIXEL, dot: str = "", ahead: Body = (),
              zeros: tuple[int, int] = (0, 0), more: Sequence[tuple[Expr, Expr]] = (), block: int = 0) -> For:
    """The plain nest over `rows` rows and `channels` channels.

    Args:
        reductions: outermost first; the innermost is called `INNER`.
        x, w, bias: scalar operands, addressed by the loop variables `row_loop`, `CHANNEL` and the reductions'.
        store: the store of an accumulator.
        dot, zeros: see `multiply_add`.
        more: further pairs of factors whose products each step adds.
        ahead: prefetches that stand in front of the innermost reduction of sums in one piece.
        block: the most terms of a sum in f16, if not those of edgecc/kernels/half_sums.py.

    Long sums in f16 are cut into blocks (edgecc/kernels/half_sums.py).
    """
    accumulator = Ref("acc", bias.dtype)
    step: Body = tuple(Assign("acc", multiply_add(*pair, accumulator, dot, zeros)) for pair in ((x, w), *more))
    lengths = (block, block) if block else ()
    blocks = half_sums.cut(reductions, *lengths) if bias.dtype is DType.F16 else ()
    if not blocks:
        inner = (*ahead, *_loops(reductions[-1:], step))
        body: Body = (Declare("acc", bias), *_loops(reductions[:-1], inner), store(accumulator))
        return For(row_loop, ZERO, as_index(rows), (For(CHANNEL, ZERO, const(channels), body),))
    kept = half_sums.total_type(reductions, *lengths[1:])
    total = Ref("total", kept)
    parts: list[Stmt] = [Declare("total", convert(bias, kept))]
    for part in blocks:
        own = step if part.place is None else instantiate(step, {part.inner[-1].name: part.place}, {})
        parts += _loops(part.outer, (
            Declare("acc", zero(DType.F16)), *_loops(part.inner, own),
            Assign("total", Op("add", (total, convert(accumulator, kept)), kept))))
    return For(row_loop, ZERO, as_index(rows), (For(CHANNEL, ZERO, const(channels), (*parts, store(total))),))


def _loops(reductions: Sequence[Reduction], body: Body) -> Body:
    for reduction in reversed(reductions):
        body = (For(reduction.name, reduction.start, reduction.stop, body),)
    return body


def tile_schedule(tile: RegisterTile, target: Target, inner_extent: int, padded: Sequence[str],
                  dtype: DType = DType.F32, *, open_rows: bool = False, open_depth: bool = False,
                  groups: bool = False) -> tuple[str, ...]:
    """Loop passes that turn a plain nest into micro-kernels of the given tile; `dtype` is the type of the sums.

    `open_rows`, `open_depth`: the run decides how many rows, or terms of a sum, there are. `groups`: the first factor is read in groups of bytes that lie anywhere.
    """
    by_lane = target.vector.fma_by_lane and tile.lanes > 1
    vectorize = (f"vectorize{{loop={CHANNEL},lanes={tile.lanes},narrowest={narrowest_lanes(target, dtype)},"
                 f"padded={'+'.join(padded)}}}")
    jam = f"jam{{loop={PIXEL}_inner}}"
    # What is interleaved last runs innermost. A vector of lanes of x stays in a register while the weights pass
    # by one vector at a time; without multiplication by lane it is the weights that stay and each x that passes.
    rest = f",rest={REST_ROWS}" if open_rows and tile.rows > REST_ROWS else ""
    steps = [f"tile{{loop={PIXEL},factor={tile.rows},balanced=1{rest}}}", *((vectorize, jam) if by_lane else (jam, vectorize))]
    unroll = tile.lanes if by_lane else UNROLL
    tiled = open_depth or inner_extent > max(2 * UNROLL, unroll + unroll // 2)
    # Short sums of groups by lane are written out as a whole; compilers would load all of their weights first, and spill.
    fence = 0 if (tile.lanes == 1 and not (dtype is DType.I32 and target.has(DSP))) or (by_lane and (tiled or dtype is not DType.I32 or comes_in_halves(target, dtype))) else 1
    if by_lane and not target.core.in_order and inner_extent % (2 * unroll) == 0 and inner_extent >= LEAST_ITERATIONS * 2 * unroll:
        # Twice the lanes an iteration, for half of the counting and moving of pointers; a fence between keeps the
        # registers of the second group of rows those of the first. In order, loads are spread over an iteration as it is.
        steps += [f"tile{{loop={INNER},factor={2 * unroll}}}", f"tile{{loop={INNER}_inner,factor={unroll}}}",
                  f"unroll{{loop={INNER}_inner_inner}}", f"unroll{{loop={INNER}_inner_outer,fence=1}}"]
    else:
        if tiled:
            steps.append(f"tile{{loop={INNER},factor={unroll}}}")
        steps.append(f"unroll{{loop={INNER}{'_inner' if tiled else ''},fence={fence}}}")
    if by_lane and groups:
        steps += [f"groups-by-lane{{lanes={lanes}}}" for lanes in (tile.lanes, tile.lanes // 2)]
    elif by_lane:
        sources = lane_sources(tile, target, dtype)
        # Loads of half a vector start beside multiply-adds, broadcasts from memory do not.
        steps += [f"broadcast-by-lane{{lanes={lanes}{',alone=1' if sources[0] < tile.lanes else ''}}}" for lanes in sources]
    # Broadcasts may be kept for the next step where the accumulators leave half of the registers free.
    across = int(2 * tile.rows * tile.vectors <= target.vector.registers)
    steps += start_schedule(target, padded)
    steps.append(f"reuse-loads{{across={across}}}" if fence else "reuse-loads")
    if by_lane and dtype is DType.I32 and not target.core.in_order:
        steps.append("pair-loads{buffer=w}")
    if by_lane and target.core.in_order:
        in_one_piece = not open_depth and comes_in_halves(target, dtype) and inner_extent < LEAST_ITERATIONS * unroll
        steps.append(f"unroll{{loop={INNER}_outer,fence=0}}" if in_one_piece
                     else f"pipeline-loads{{loop={INNER}_outer,distance={max(target.core.load_latency, tile.rows)}}}")
    return tuple(steps)


def start_schedule(target: Target, packed: Sequence[str]) -> tuple[str, ...]:
    """The pass that loads the bias for every sum anew, where that is cheaper than to copy registers: by pairs, out of order."""
    return ("start-by-loads{buffer=b}",) if "b" in packed and target.vector.fma_by_lane and not target.core.in_order else ()


def open_panel_loops(channels: Index, panel: int, lanes: int, reduction: int, nest: Callable[[Panel, Index, Index, Index], Body]) -> Body:
    """`panel_loops` for a number of channels that the run decides: whole panels of `panel` channels, then single vectors.

    The last vector may reach behind the last channel. Packed channel c of a panel lies `c * reduction` behind the first
    panel's start, as no panel has padding of its own.
    """
    out: list[Stmt] = []
    start = ZERO
    for name, size, count in ((PANEL, panel, channels.floordiv(panel)), ("vector", lanes, None)):
        panels = (channels - start + (lanes - 1)).floordiv(lanes) if count is None else count
        first = start + var(name) * size
        out.append(For(name, ZERO, panels, nest(Panel(0, size, size, 1), first, first * reduction, first)))
        start = start + panels * size
        if panel == lanes:
            out = [For(name, ZERO, (channels + (lanes - 1)).floordiv(lanes), out[0].body)] if isinstance(out[0], For) else out
            break
    return tuple(out)


def panel_loops(panels: Sequence[Panel], reduction: int, nest: Callable[[Panel, Index, Index, Index], Body]) -> Body:
    """A loop over the panels of each size.

    `nest` builds what happens in a panel, given (panel, first channel, start of its weights, start of its bias).
    """
    out: list[Stmt] = []
    weights = bias = 0
    for panel in panels:
        step = var(PANEL) if panel.count > 1 else ZERO
        body = nest(panel, const(panel.start) + step * panel.size, const(weights) + step * (panel.padded * reduction),
                    const(bias) + step * panel.padded)
        if panel.count > 1:
            out.append(For(PANEL, ZERO, const(panel.count), body))
        else:
            out.extend(body)
        weights += panel.count * panel.padded * reduction
        bias += panel.count * panel.padded
    return tuple(out)


def flatten(weights: Array) -> Array:
    """[channels, ...] as [channels, reduction]."""
    return weights.reshape(weights.shape[0], -1)


def zero(dtype: DType) -> Const:
    """The start of a sum without bias."""
    return Const(0.0 if dtype.is_float else 0, dtype)


def weights_of(request: Request, channels: int, reduction: int, panels: Sequence[Panel],
               arrange: Callable[[Array], Array], *, groups: int = 1, bias_axis: int = -1,
               terms: Terms | None = None, parts: int = 1, borders: Borders | None = None) -> Weights:
    """The weights (operand 1) and the bias (operand 2, [groups * channels] or broadcast to it) of a contraction.

    Args:
        arrange: turns the constant operand into [groups * channels, reduction], in the order of the kernel's loops.
        bias_axis: see `with_bias`.
        terms: how terms are read; `reduction` counts steps.
        parts: of the reduction, which then lie one after the other, each with all panels.
        borders: where some sums lack terms, the classes of those that do; the bias then has a part for each class.
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
        if terms.masked:
            sums, offset = partial(complements.sums, sums, 1, terms.offset), 1
        offset_bias = Packed(known, partial(_pack_offset_bias, sums, groups, tuple(panels), offset, _start_of(request)))
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
    begin = _start_of(request)
    if b is None:
        start = Const(begin, dtype) if begin else zero(dtype)
        return Weights((w,), packed, padded, lambda place, address: start)
    b_dtype = b.view.dtype
    channel_axis = len(b.view.dims) == 1 or all(d == 1 for d in b.view.dims[:-1])
    if b.is_constant and channel_axis:
        pack = partial(_pack_bias, groups, groups * channels, tuple(panels), begin=begin)
        place_of: tuple[Buffer, KernelArgument] = (Buffer("b", b_dtype, groups * packed_channels(panels), "input"),
                                                   Packed((2,), pack))
        return Weights((w, place_of), packed, (*padded, "b"), lambda place, address: convert(Load("b", place, b_dtype), dtype))
    view = _bias_view(b.view, request.outputs[0].dims, bias_axis)
    place_of = (Buffer("b", b_dtype, max(1, b.view.span), "input"), FromInput(2))

    def own(place: Index, address: Callable[[View], Index]) -> Expr:
        bias = convert(Load("b", address(view), b_dtype), dtype)
        return Op("add", (bias, Const(begin, dtype)), dtype) if begin else bias

    return Weights((w, place_of), packed, padded, own)


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


def folds_offset(request: Request) -> bool:
    """Whether the weights are known, and so is the bias, if any, which has one element a channel."""
    b = request.optional(2)
    return request.operand(1).is_constant and (b is None or (b.is_constant and all(d == 1 for d in b.view.dims[:-1])))


def _sums_of_terms(arrange: Callable[[Array], Array], weights: Array) -> Array:
    """The sum of each channel's weights: i64 [1, channels]."""
    return np.asarray(np.ascontiguousarray(arrange(weights)).astype(np.int64).sum(axis=1)[None])


def _pack_offset_bias(sums: Callable[[Array], Array], groups: int, panels: tuple[Panel, ...], offset: int, begin: int,
                      weights: Array, bias: Array | None = None) -> Array:
    """The bias less `offset` times the sums of each channel's weights [classes, channels], in i32, which wraps."""
    start = np.zeros((), np.int64) if bias is None else bias.reshape(-1).astype(np.int64)
    return np.concatenate([_pack_bias(groups, own.size, panels, (begin + start - offset * own).astype(np.int32)) for own in sums(weights)])


def assemble(request: Request, name: str, body: Body, schedule: tuple[str, ...], weights: Weights, epilogue: Epilogue,
             first_extra: int, *, doc: str, choice: str, workspace: Sequence[tuple[Buffer, KernelArgument]] = (),
             terms: Terms | None = None) -> Kernel:
    """Puts a contraction kernel together: x, w, b, extras, y.

    Extra operands that lie exactly like the result may share its memory (a residual added in place).
    """
    name += rows_suffix(request)
    if terms is not None and pairs_steps(terms, request.target):
        place = next((i for i, step in enumerate(schedule) if step.startswith("reuse-loads")), len(schedule))
        schedule = (*schedule[:place], "pair-products", *schedule[place:])
    x, (_, y) = request.operand(0).view if terms is None else terms.x, epilogue.result
    if request.threads > 1:
        schedule = (*schedule, f"parallelize{{threads={request.threads}}}")
    in_place = tuple((0, first_extra + i) for i, (_, view) in enumerate(epilogue.extras)
                     if view.shows_same(request.outputs[0]) and not request.operand(first_extra + i).is_constant)
    shared = {f"r{index - first_extra}" for _, index in in_place} | ({"y"} if in_place else set())
    arguments: list[tuple[Buffer, KernelArgument]] = [
        (Buffer("x", x.dtype, max(1, x.span + (0 if terms is None else terms.lanes - 1)), "input"), FromInput(0)), *weights.arguments,
        *((Buffer(buffer, view.dtype, max(1, view.span), "input"), FromInput(first_extra + i))
          for i, (buffer, view) in enumerate(epilogue.extras)),
        (Buffer("y", y.dtype, max(1, request.outputs[0].span), "output"), FromOutput(0)), *workspace,
    ]
    buffers = tuple(replace(b, aliased=True) if b.name in shared else b for b, _ in arguments)
    function = Function(name, buffers, body, doc, row_parameters(request))
    return Kernel(function, tuple(a for _, a in arguments), schedule, in_place, choice)


def epilogue_of(request: Request, expr: ScalarExpr | None, first_extra: int) -> Epilogue:
    """The epilogue of a request whose extra operands start at `first_extra`."""
    y = request.outputs[0]
    extras = tuple((f"r{i}", operand.view.broadcast_to(y.dims))
                   for i, operand in enumerate(request.inputs[first_extra:]) if operand is not None)
    fractions = frozenset(f"r{i}" for i, operand in enumerate(request.inputs[first_extra:]) if operand is not None and operand.is_fraction)
    epilogue = Epilogue(expr, extras, ("y", y), request.computes_in(DType.F16) and computes_in_half(expr), fractions, whole=isinstance(request.op, Conv | MatMul) and request.op.exact is True)
    if not request.known_sums or sum_type(request) is not DType.I32:
        return epilogue
    total = Ref("acc", DType.I32)
    plain = epilogue.store(total, lambda view: ZERO)
    shifts = isinstance(plain, Store) and by_addition(plain.value, total, request.known_sums) is not None
    return replace(epilogue, shifted=request.known_sums) if shifts else epilogue


def _start_of(request: Request) -> int:
    """What sums start from beside their bias."""
    op = request.op
    if not request.known_sums or not isinstance(op, Conv | MatMul):
        return 0
    return BITS if epilogue_of(request, op.epilogue, 3).shifted else 0
