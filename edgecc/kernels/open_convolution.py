"""Convolutions of images whose size the run decides.

    for image: for row: for panel of channels:
        for column at the left border, then inside, then at the right border:
            for channel: sum over taps inside and input channels
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array, DType
from edgecc.kernels.contraction import INNER, PIXEL, Products, assemble, panel_loops, tile_nest, zeros_of
from edgecc.kernels.contraction_weights import Weights, weights_of
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.epilogue import Epilogue, epilogue_of
from edgecc.kernels.half_sums import Reduction
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.open_windows import HINT, Window, windows_of
from edgecc.kernels.register_tile import Panel, RegisterTile, choose_tile, cut_panels, narrowest_lanes
from edgecc.kernels.request import Request
from edgecc.kernels.sum_types import compute_target, sum_type
from edgecc.kernels.tile_schedule import tile_schedule
from edgecc.kernels.view import View
from edgecc.loop.index import ZERO, Index, const, var
from edgecc.loop.ir import Body, For, Load
from edgecc.ops.convolution import Conv


def lower_open_convolution(request: Request) -> Kernel:
    """A convolution with constant weights, of one group or depthwise, with open batch and image sizes.

    Raises: EdgeccError E112 for others.
    """
    op, x, w, y = request.op, request.operand(0).view, request.operand(1).view, request.outputs[0]
    if not isinstance(op, Conv):
        raise TypeError(op)
    dtype, depth, channels = sum_type(request), w.dims[1], w.dims[0]
    depthwise = op.group > 1 and depth == 1 and channels == op.group
    if (not request.operand(1).is_constant or (op.group > 1 and not depthwise) or dtype is DType.F16
            or not x.size(1).is_const):
        raise EdgeccError("E112", "conv has no kernel for sizes known only at run time with these weights, groups or types", hint=HINT)
    target, windows = compute_target(request, op.epilogue), windows_of(x, w.dims[2:], op.strides, op.dilations, op.pads)
    taps = math.prod(w.dims[2:])
    tile = choose_tile(y.dims[-1], channels, taps * depth, target, dtype)
    if depthwise:  # each vector of channels has its own input: a tile of one vector has registers for both
        tile = RegisterTile(min(4, y.dims[-1]), 1, tile.lanes)
    panels = cut_panels(channels, tile, narrowest_lanes(target, dtype))
    weights, epilogue = weights_of(request, channels, taps * depth, panels, _by_tap), epilogue_of(request, op.epilogue, 3)
    nest = _Nest(x, y, windows, depth, depthwise, weights, epilogue, zeros_of(op))
    body: Body = (For("image", ZERO, y.size(0), panel_loops(panels, taps * depth, nest.panel)),)
    shape = "x".join(str(k) for k in w.dims[2:])
    return assemble(replace(request, threads=1), f"{'depthwise' if depthwise else 'conv'}_{shape}_{x.dims[1]}_{channels}", body,
                    tile_schedule(tile, target, w.dims[-1] if depthwise else depth, weights.padded, dtype, open_rows=True),
                    weights, epilogue, 3, doc=f"{shape} convolution, {x.dims[1]} to {channels} channels, images of any size up to {shape_text(x)}",
                    choice=f"direct {shape}, open sizes: tile {tile.rows} x {tile.vectors} vectors of {tile.lanes}")


@dataclass(frozen=True)
class _Nest:
    """The loops over an image.

    Attributes:
        windows: one for each spatial axis.
        depth: input channels of a sum.
        depthwise: whether every channel has an input channel of its own.
        zeros: the zero points of the factors.
    """

    x: View
    y: View
    windows: Sequence[Window]
    depth: int
    depthwise: bool
    weights: Weights
    epilogue: Epilogue
    zeros: tuple[int, int]

    def panel(self, panel: Panel, channel0: Index, w_start: Index, b_start: Index) -> Body:
        """The positions of an image, for the channels of a panel, whose weights and biases begin at the last two places."""
        columns = self.y.size(len(self.y.dims) - 1)
        start, stop = self.windows[-1].inside(columns)
        places = channel0, w_start, b_start
        body: Body = (self._run(panel, places, start, stop - start, PIXEL),)
        if not self.windows[-1].is_inside:
            body = (self._run(panel, places, ZERO, start, "left"), *body, self._run(panel, places, stop, columns - stop, "right"))
        for i in reversed(range(len(self.windows) - 1)):
            body = (For(f"row{i}", ZERO, self.y.size(2 + i), body),)
        return body

    def _run(self, panel: Panel, places: tuple[Index, Index, Index], first: Index, count: Index, loop: str) -> For:
        """`count` positions of a row from `first` on, by a loop of that name; inside of the image it is `PIXEL`."""
        (channel0, w_start, b_start), image = places, var("image")
        channel = channel0 + var("channel")
        at = [*(var(f"row{i}") for i in range(len(self.windows) - 1)), first + var(loop)]
        reductions, tap, position = self._taps(at, loop)
        term = tap if self.depthwise else tap * self.depth + var(INNER)
        source = self.x.at([image, channel if self.depthwise else var(INNER), *position])
        w = Load("w", w_start + term * panel.padded + var("channel"), self.weights.arguments[0][0].dtype)

        def address(view: View) -> Index:
            return view.at([image, channel, *at])

        products = Products(((Load("x", source, self.x.dtype), w),), zeros=self.zeros)
        return tile_nest(count, panel.size, reductions, products, self.weights.bias(b_start + var("channel"), address),
                         lambda acc: self.epilogue.store(acc, address), row_loop=loop)

    def _taps(self, at: Sequence[Index], loop: str) -> tuple[list[Reduction], Index, list[Index]]:
        """The loops over what a sum at the position `at` reads, the number of the tap in them, and where in the image it lies."""
        reductions: list[Reduction] = []
        tap, position = ZERO, list[Index]()
        for i, (window, place) in enumerate(zip(self.windows, at, strict=True)):
            is_last = i == len(self.windows) - 1
            own = ZERO
            if window.kernel > 1 or not window.is_inside:
                name = INNER if is_last and self.depthwise and loop == PIXEL else f"tap{i}"
                bounds = (ZERO, const(window.kernel)) if is_last and loop == PIXEL else window.taps(place)
                reductions.append(Reduction(name, *bounds, window.kernel))
                own = var(name)
            tap = tap * window.kernel + own
            position.append(window.first(place) + own * window.dilation)
        if not self.depthwise:
            reductions.append(Reduction(INNER, ZERO, const(self.depth)))
        elif loop == PIXEL and (not reductions or reductions[-1].name != INNER):
            reductions.append(Reduction(INNER, ZERO, const(1)))
        return reductions, tap, position


def _by_tap(weights: Array) -> Array:
    """[outputs, inputs, taps...] as [outputs, terms], the channels of a tap side by side."""
    return np.ascontiguousarray(np.moveaxis(weights, 1, -1)).reshape(weights.shape[0], -1)
