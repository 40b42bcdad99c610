"""The direct nest of a convolution: image, group, panel, rows, segments of a row, taps, channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels import complements
from edgecc.kernels.borders import Borders
from edgecc.kernels.contraction import INNER, PIXEL, Products, panel_loops, tile_nest
from edgecc.kernels.contraction_weights import Weights
from edgecc.kernels.direct_runs import ByteRuns, group_at
from edgecc.kernels.epilogue import Epilogue
from edgecc.kernels.grouped import Terms
from edgecc.kernels.half_sums import Reduction
from edgecc.kernels.lines import Edges, Line, edges_of
from edgecc.kernels.register_tile import LINE_BYTES, Panel, packed_channels
from edgecc.kernels.rows import Bounds, axis_loop, axis_position
from edgecc.kernels.spatial import Axis, Run, runs_of
from edgecc.kernels.view import View
from edgecc.loop.index import ZERO, Index, const, maximum, minimum, var
from edgecc.loop.ir import Body, For, Load, Prefetch

MAX_STREAMS = 16
"""Most rows of input that are prefetched for a row of the result."""

MOST_STEPS = 12
"""Most groups of bytes of a window that are written out: sums of a loop over three rows pass through memory (gcc, Zen 3: 241 us of a
layer of 3 x 3, 3 to 32 channels, 224 x 224, where 203 are taken without)."""


@dataclass(frozen=True)
class Direct:
    """A convolution of `x` with `channels` results for each of `group` groups of `depth` inputs.

    Attributes:
        x, w: views of the input and of the weights [group * channels, depth, taps...] (read unless packed).
        axes: the spatial axes.
        placement: (scale, shift) of each axis: output position p of the nest is position p*scale + shift of
            the result (transposed convolutions fill the result in interleaved phases).
        weights_start: where the packed weights of this nest begin.
        dot: the grouped product of a step, if terms are read in groups: then x, w and depth count groups.
        zeros: the zero points of integer x and w. flip: see `Terms`.
        downwards: whether tiles may run down the columns at the border.
        byte_runs: how the bytes of the taps of a row are grouped, where channels are not; x and depth then count bytes.
        borders: the classes of positions that have biases of their own, where zero points are folded into those.
        bounds: of the loop over the first axis, where a range of rows is wanted.
    """

    x: View
    w: View
    axes: tuple[Axis, ...]
    group: int
    channels: int
    depth: int
    placement: tuple[tuple[int, int], ...]
    weights_start: int = 0
    bounds: Bounds | None = None
    dot: str = ""
    zeros: tuple[int, int] = (0, 0)
    flip: bool = False
    borders: Borders | None = None
    byte_runs: ByteRuns | None = None
    downwards: bool = False

    @property
    def reduction(self) -> int:
        """Steps of packed weights: the terms of one sum."""
        if self.byte_runs is not None:
            return self.byte_runs.steps
        return self.depth * math.prod(a.kernel for a in self.axes)

    @property
    def channels_last(self) -> bool:
        """Whether input channels are innermost in the reduction; else the taps of a row are."""
        return self.x.strides[1] == 1 or (self.depth > 1 and self.x.strides[-1] != 1)

    @property
    def joins(self) -> bool:
        """Whether the taps of a row and the channels of all of them are one contiguous run."""
        return (self.channels_last and self.group == 1 and self.x.strides[1] == 1
                and self.axes[-1].dilation * self.x.strides[-1] == self.x.dims[1])

    @property
    def inner_extent(self) -> int:
        """Extent of the innermost reduction loop where no tap is cut off."""
        kernel = self.axes[-1].kernel
        if self.byte_runs is not None:
            return 1
        if not self.channels_last:
            return kernel
        return kernel * self.depth if self.joins else self.depth

    def term_order(self, weights: Array) -> Array:
        """Weights [out, in, taps...] as [out, terms] in the order of the loops: taps then channels, or channels then taps."""
        if self.byte_runs is not None:
            return self.byte_runs.arrange(weights)
        ordered = np.moveaxis(weights, 1, -1) if self.channels_last else weights
        return ordered.reshape(weights.shape[0], -1)

    @property
    def term_sums(self) -> Callable[[Array], Array] | None:
        """See `weights_of`."""
        return None if self.byte_runs is None or self.borders is None else partial(self.byte_runs.sums, self.borders)

    def nest(self, panels: Sequence[Panel], weights: Weights, epilogue: Epilogue, *, ahead: bool = False) -> Body:
        """The plain nest; `ahead`: while the first panel passes over a row, prefetch the input of the row after the next."""
        group = var("group") if self.group > 1 else ZERO
        image = var("image") if self.x.dims[0] > 1 else ZERO
        padded = packed_channels(panels)
        rows = [axis_position(f"row{i}", a.out, self._bounds(i)) for i, a in enumerate(self.axes[:-1])]

        def in_panel(panel: Panel, channel0: Index, w_start: Index, b_start: Index) -> Body:
            channel = group * self.channels + channel0 + var("channel")

            def line_nest(line: Line) -> For:
                place = [p * scale + shift for p, (scale, shift) in zip([*line.rows, line.column], self.placement, strict=True)]

                def address(view: View) -> Index:
                    return view.at([image, channel, *place])

                reductions, x_index, term = self.terms_at(line, image, group * self.depth)
                w_index = (group * (padded * self.reduction) + w_start + term * panel.padded + var("channel") + self.weights_start
                           if weights.packed else self._weight_address(channel, term))
                place_of_bias = group * padded + b_start + var("channel")
                if self.borders is not None:
                    classes = [own.of_taps(*taps) for own, taps in zip(self.borders.axes, line.row_taps, strict=False)]
                    classes.append(self.borders.axes[-1].in_run(line.run, line.position))
                    place_of_bias = place_of_bias + self.borders.number(classes) * (self.group * padded)
                bias = weights.bias(place_of_bias, address)
                factor = Terms(self.x, dot=self.dot, flip=self.flip).factor
                pairs = [(factor(Load("x", x_index, self.x.dtype), w_index), Load("w", w_index, self.w.dtype))]
                if self.byte_runs is not None:
                    variant = (line.run.segment.tap_start or 0, line.run.segment.tap_stop or 0)
                    offsets, first = self.byte_runs.offsets(variant), self.byte_runs.first_step(variant)
                    places = [w_start + (term * len(offsets) + first + g) * panel.padded + var("channel") for g in range(len(offsets))]
                    length = self.byte_runs.length(variant)
                    pairs = [(factor(group_at("x", x_index + offset, self.x.dtype, length), place), Load("w", place, DType.U32))
                             for offset, place in zip(offsets, places, strict=True)]
                return tile_nest(line.extent, panel.size, reductions, Products(pairs, self.dot, self.zeros), bias,
                                 lambda acc: epilogue.store(acc, address), row_loop=line.loop)

            if self.short_windows:
                parts = tuple(For("row0", start, stop, tuple(line_nest(self.along_row(run, (var("row0"),), whole=whole)) for run in self._whole_rows))
                              for start, stop, whole in self._row_parts())
                return (*parts, *(line_nest(line) for line in self._down_columns))
            body: Body = tuple(line_nest(self.along_row(run, rows)) for run in self._whole_rows)
            if ahead and panel.start == 0 and panel.count == 1:
                body = (*self._prefetches(image, group * self.depth, rows), *body)
            for i, axis in reversed(list(enumerate(self.axes[:-1]))):
                body = axis_loop(f"row{i}", axis.out, self._bounds(i), body)
            return (*body, *(line_nest(line) for line in self._down_columns))

        body = panel_loops(panels, self.reduction, in_panel)
        if self.group > 1:
            body = (For("group", ZERO, const(self.group), body),)
        if self.x.dims[0] > 1:
            body = (For("image", ZERO, const(self.x.dims[0]), body),)
        return body

    def _prefetches(self, image: Index, first_channel: Index, rows: Sequence[Index]) -> Body:
        """Prefetches of the rows of every input channel that the row after the next reads first, a line at a time."""
        if len(rows) != 1 or self.x.strides[-1] != 1 or self.depth * self.axes[0].stride > MAX_STREAMS:
            return ()
        axis, line = self.axes[0], LINE_BYTES // self.x.dtype.size
        last = axis.first(rows[0] + 2) + (axis.kernel - 1) * axis.dilation
        places = [self.x.at([image, first_channel + channel, last - row, var("line") * line])
                  for channel in range(self.depth) for row in range(axis.stride)]
        return (For("line", ZERO, const(-(-self.x.dims[-1] // line)), tuple(Prefetch("x", place) for place in places)),)

    @property
    def short_windows(self) -> bool:
        """Whether windows have so few groups of bytes that the steps of those that lie inside along the rows are written out."""
        runs = self.byte_runs
        return runs is not None and self.dot == complements.PRODUCT and len(self.axes) == 2 and runs.steps // len(runs.variants) <= MOST_STEPS

    def _row_parts(self) -> Iterator[tuple[Index, Index, bool]]:
        """Ranges of rows [start, stop), and whether windows lie inside the input there."""
        start, stop = self.bounds or (ZERO, const(self.axes[0].out))
        inside = self.axes[0].full_run()
        first = minimum(maximum(start, inside.start), stop)
        last = maximum(minimum(stop, inside.stop), first)
        for part in ((start, first, False), (first, last, True), (last, stop, False)):
            if part[0] != part[1]:
                yield part

    def along_row(self, run: Run, rows: Sequence[Index], *, whole: bool = False) -> Line:
        """A run of a row, given the positions along the other axes; `whole`: windows have all taps along those."""
        loop = PIXEL if run.segment.tap_start is not None else "edge"
        taps = tuple((ZERO, const(axis.kernel)) if whole else axis.bounds(row) for axis, row in zip(self.axes, rows, strict=False))
        return Line(run, var(loop), tuple(rows), taps, loop, run.extent)

    def _bounds(self, axis: int) -> Bounds | None:
        return self.bounds if axis == 0 else None

    @property
    def runs(self) -> tuple[Run, ...]:
        """The output positions of a row, in runs that have loops of their own."""
        segments = self.axes[-1].segments()
        return runs_of(segments) if self.byte_runs is None else tuple(Run(s, s.extent) for s in segments)

    @property
    def lines(self) -> tuple[tuple[Line, int], ...]:
        """What register tiles run along in a map, and how many of each there are."""
        zeros = [ZERO] * (len(self.axes) - 1)
        rows = math.prod(a.out for a in self.axes[:-1])
        return (*((self.along_row(run, zeros), rows) for run in self._whole_rows), *((line, 1) for line in self._down_columns))

    @property
    def _edges(self) -> Edges | None:
        """Columns at the border that tiles run down; none where the run decides on the rows."""
        return edges_of(self.runs, self.axes[0]) if self.downwards and self.bounds is None and len(self.axes) == 2 else None

    @property
    def _whole_rows(self) -> tuple[Run, ...]:
        """The runs whose results are computed row by row."""
        edges = self._edges
        return self.runs if edges is None else tuple(run for run in self.runs if run not in edges.runs)

    @property
    def _down_columns(self) -> tuple[Line, ...]:
        edges = self._edges
        return () if edges is None else tuple(edges.lines(self.axes))

    def terms_at(self, line: Line, image: Index, first_channel: Index) -> tuple[list[Reduction], Index, Index]:
        """Loops of the reduction, the input address, and the number of the term in packed order."""
        run, position = line.run, line.position
        segment, column, shift = run.segment, line.column, run.shift(position)
        loops: list[Reduction] = []
        taps: list[Index] = []
        positions: list[Index] = []
        for i, axis in enumerate(self.axes[:-1]):
            if axis.kernel == 1 and axis.is_inside:
                taps.append(ZERO)
            else:
                name = f"tap{i}" if not self.short_windows or line.row_taps[i] == (ZERO, const(axis.kernel)) else f"edge_tap{i}"
                loops.append(Reduction(name, *line.row_taps[i], axis.kernel))
                taps.append(var(name))
            positions.append(axis.first(line.rows[i]) + taps[-1] * axis.dilation)
        outer_tap: Index = ZERO
        for tap, axis in zip(taps, self.axes[:-1], strict=True):
            outer_tap = outer_tap * axis.kernel + tap
        last, depth, x = self.axes[-1], self.depth, self.x
        start, stop = last.loop_bounds(segment, column)
        edge = segment.tap_start is None
        if not self.channels_last:
            inner = "edge_tap" if edge else INNER
            channel = var("in") if depth > 1 else ZERO
            if depth > 1:
                loops.insert(0, Reduction("in", ZERO, const(depth)))
            loops.append(Reduction(inner, start, stop, last.kernel))
            tap = var(inner) + shift
            address = x.at([image, first_channel + channel, *positions, last.first(column) + tap * last.dilation])
            outer_size = math.prod(a.kernel for a in self.axes[:-1])
            return loops, address, (channel * outer_size + outer_tap) * last.kernel + tap
        if self.byte_runs is not None:  # the number of the term is that of the row of taps
            return loops, x.at([image, ZERO, *positions, last.first(column) + start * last.dilation]), outer_tap
        k = var(INNER)
        if self.joins and not edge:
            loops.append(Reduction(INNER, start * depth, stop * depth, last.kernel * depth))
            first = last.first(column) + shift * last.dilation
            return loops, x.at([image, ZERO, *positions, first]) + k, (outer_tap * last.kernel + shift) * depth + k
        column_tap: Index = ZERO
        if last.kernel != 1 or not last.is_inside:
            column_tap = var("column_tap") + shift
            loops.append(Reduction("column_tap", start, stop, last.kernel))
        loops.append(Reduction(INNER, ZERO, const(depth)))
        address = x.at([image, first_channel + k, *positions, last.first(column) + column_tap * last.dilation])
        return loops, address, (outer_tap * last.kernel + column_tap) * depth + k

    def _weight_address(self, channel: Index, term: Index) -> Index:
        """Address of a term's weight in the operand itself, for weights that are not constant."""
        kernel = tuple(a.kernel for a in self.axes)
        taps = math.prod(kernel)
        if self.channels_last:
            tap, k = term.floordiv(self.depth), term.mod(self.depth)
        else:
            k, tap = term.floordiv(taps), term.mod(taps)
        coordinates: list[Index] = []
        for size in reversed(kernel):
            coordinates.insert(0, tap.mod(size))
            tap = tap.floordiv(size)
        return self.w.at([channel, k, *coordinates])
