"""The nest that convolutions and matrix products share: rows x channels of sums of products.

    for panel: for pixel: for channel: acc = bias; for reduction...: acc += x * w; y = epilogue(acc)

The functions here build that nest, plain, and put the kernel together. Its other parts have files of their own: the type of the
sums (sum_types.py), weights and bias (contraction_weights.py), the epilogue (epilogue.py), and the schedule (tile_schedule.py) that
makes a micro-kernel of the nest: pixels and channels become a register tile, channels become vectors, the innermost reduction is
unrolled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from edgecc.ir.types import Array, DType
from edgecc.kernels import half_sums
from edgecc.kernels.contraction_weights import Weights
from edgecc.kernels.epilogue import ADDEND, Epilogue, fused, fused_operands
from edgecc.kernels.grouped import Terms, grouped_sum, pairs_steps
from edgecc.kernels.half_sums import Reduction
from edgecc.kernels.kernel import FromInput, FromOutput, Kernel, KernelArgument, Packed
from edgecc.kernels.register_tile import Panel
from edgecc.kernels.request import Request
from edgecc.kernels.rows import row_parameters, rows_suffix
from edgecc.kernels.sum_types import convert, zero
from edgecc.loop.index import ZERO, Index, as_index, const, var
from edgecc.loop.ir import Assign, Body, Buffer, Const, Declare, Expr, For, Function, Op, Ref, Stmt
from edgecc.loop.rewrite import instantiate
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul

PIXEL, CHANNEL, PANEL, INNER = "pixel", "channel", "panel", "k"


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


@dataclass(frozen=True)
class Products:
    """What each step of a reduction adds: the products of pairs of factors; `dot`, `zeros`: see `multiply_add`."""

    pairs: Sequence[tuple[Expr, Expr]]
    dot: str = ""
    zeros: tuple[int, int] = (0, 0)

    def added(self, accumulator: Ref) -> Body:
        """The statements of a step."""
        return tuple(Assign(accumulator.name, multiply_add(x, w, accumulator, self.dot, self.zeros)) for x, w in self.pairs)


def tile_nest(rows: int | Index, channels: int, reductions: Sequence[Reduction], products: Products, bias: Expr,
              store: Callable[[Expr], Stmt], *, row_loop: str = PIXEL, ahead: Body = (), block: int = 0) -> For:
    """The plain nest over `rows` rows and `channels` channels.

    Args:
        reductions: outermost first; the innermost is called `INNER`.
        products, bias: scalar operands, addressed by the loop variables `row_loop`, `CHANNEL` and the reductions'.
        store: the store of an accumulator.
        ahead: prefetches that stand in front of the innermost reduction of sums in one piece.
        block: the most terms of a sum in f16, if not those of edgecc/kernels/half_sums.py.

    Long sums in f16 are cut into blocks (edgecc/kernels/half_sums.py).
    """
    accumulator = Ref("acc", bias.dtype)
    step = products.added(accumulator)
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
    if epilogue.addend is not None:
        schedule = tuple(_loads_anew(step) if step.startswith("reuse-loads") else step for step in schedule)
    x, (_, y) = request.operand(0).view if terms is None else terms.x, epilogue.result
    if request.threads > 1:
        # Divided by rows, a thread mostly reads in the next layer what it has written itself, for the price of reading all weights.
        rows = sum(b.dtype.size * b.elements for b, _ in weights.arguments) <= y.dtype.size * y.elements
        schedule = (*schedule, f"parallelize{{threads={request.threads}{',inside=row0' if rows else ''}}}")
    in_place = tuple((0, first_extra + i) for i, (_, view) in enumerate(epilogue.extras)
                     if view.shows_same(request.outputs[0]) and not request.operand(first_extra + i).is_constant)
    shared = {f"r{index - first_extra}" for _, index in in_place} | ({"y"} if in_place else set())
    arguments: list[tuple[Buffer, KernelArgument]] = [
        (Buffer("x", x.dtype, max(1, x.span + (0 if terms is None else terms.lanes - 1)), "input"), FromInput(0)), *weights.arguments,
        *((Buffer(buffer, view.dtype, max(1, view.span), "input"), FromInput(first_extra + i))
          for i, (buffer, view) in enumerate(epilogue.extras)),
        *_addends(request, epilogue),
        (Buffer("y", y.dtype, max(1, request.outputs[0].span), "output"), FromOutput(0)), *workspace,
    ]
    buffers = tuple(replace(b, aliased=True) if b.name in shared else b for b, _ in arguments)
    function = Function(name, buffers, body, doc, row_parameters(request))
    return Kernel(function, tuple(a for _, a in arguments), schedule, in_place, choice)


def _loads_anew(step: str) -> str:
    """A `reuse-loads` that leaves the loads of what is added to products alone: multiply-adds write over what they load."""
    options = step.removeprefix("reuse-loads").strip("{}")
    return f"reuse-loads{{{f'{options},' if options else ''}anew={ADDEND}}}"


def _addends(request: Request, epilogue: Epilogue) -> Sequence[tuple[Buffer, KernelArgument]]:
    """What is added to products of sums and scales, where anything is."""
    operands = fused_operands(request)
    if epilogue.addend is None or operands is None:
        return ()
    return [(Buffer(ADDEND, DType.F32, epilogue.addend.span, "input"), Packed(operands, partial(_pack_addends, request)))]


def _pack_addends(request: Request, weights: Array, bias: Array, scale: Array) -> Array:
    return fused(request, weights, bias, scale).addends
