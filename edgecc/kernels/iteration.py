"""The iteration space of strided kernels: which axes, in which order, in vectors of what width.

A kernel that visits every element of some views is a nest over `Axis` objects, each with an extent
and a stride for every view. `axes_of` makes one axis of each logical one, `simplified` drops axes of
one element, orders the others by the strides of one view and merges those that are one run in
memory in all views. `nest` opens the loops; `vectors` cuts an axis into vectors, with a tail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from edgecc.ir.types import DType
from edgecc.kernels.view import ROW_ELEMENTS, View
from edgecc.loop.builder import Builder
from edgecc.loop.index import ZERO, Index, const
from edgecc.loop.ir import Buffer, Expr
from edgecc.targets.schema import Target

PARALLEL_WORK = 1 << 16
"""Below about so many simple operations, waking the threads costs more than they save."""


@dataclass(frozen=True)
class Axis:
    """One loop: `extent` iterations, and the distance in elements between neighbours in each view.

    Where the run decides, `size` is the number of iterations, a multiple of `multiple`, and `extent` the largest one;
    `padded` says that every view has room for a multiple of `ROW_ELEMENTS` positions.
    """

    extent: int
    strides: tuple[int, ...]
    size: Index | None = None
    multiple: int = 1
    padded: bool = False

    @property
    def stop(self) -> Index:
        """The number of iterations."""
        return const(self.extent) if self.size is None else self.size

    def fills(self, lanes: int) -> bool:
        """Whether vectors of `lanes` may cover the axis: a tail is known, there is none, or it may reach into padding."""
        return self.size is None or self.multiple % lanes == 0 or (self.padded and ROW_ELEMENTS % lanes == 0)


def open_axis(extent: int, strides: Sequence[int], size: Index, *, padded: bool = False) -> Axis:
    """An axis of `size` iterations, which may be known only at run time, and is at most `extent`."""
    return Axis(extent, tuple(strides), None if size.is_const else size, padded=padded)


def axes_of(views: Sequence[View], keep: Sequence[int] | None = None) -> tuple[Axis, ...]:
    """The logical axes (those listed in `keep`, if given) of views of one shape, in order."""
    dims = views[0].dims
    if any(v.dims != dims for v in views):
        raise ValueError(f"views of shapes {[v.dims for v in views]}")
    chosen = range(len(dims)) if keep is None else keep
    return tuple(open_axis(dims[a], [v.strides[a] for v in views], views[0].size(a),
                           padded=all(v.padded and v.strides[a] == 1 for v in views if v.strides[a] != 0)) for a in chosen)


def simplified(axes: Sequence[Axis], leader: int = 0) -> tuple[Axis, ...]:
    """The same positions, in the order of descending strides of view `leader`, neighbours merged.

    Axes of one element are dropped. Ties (broadcast views) are decided by the strides of the other
    views in turn. Two axes become one where stepping the outer one is the same as running off the
    end of the inner one, in all views.
    """

    def order(axis: Axis) -> tuple[int, ...]:
        rest = axis.strides[:leader] + axis.strides[leader + 1:]
        return (-abs(axis.strides[leader]), *(-abs(s) for s in rest))

    merged: list[Axis] = []
    for axis in sorted((a for a in axes if a.extent != 1 or a.size is not None), key=order):
        outer = merged[-1] if merged else None
        merges = axis.size is None and outer is not None and (outer.size is None or axis.extent % ROW_ELEMENTS == 0)
        if outer is not None and merges and all(o == i * axis.extent for o, i in zip(outer.strides, axis.strides, strict=True)):
            size = None if outer.size is None else outer.size * axis.extent
            merged[-1] = Axis(outer.extent * axis.extent, axis.strides, size, outer.multiple * axis.extent if size is not None else 1)
        else:
            merged.append(axis)
    return tuple(merged)


def elements(axes: Sequence[Axis]) -> int:
    """Number of positions; the largest where the run decides."""
    total = 1
    for axis in axes:
        total *= axis.extent
    return total


@contextmanager
def nest(b: Builder, axes: Sequence[Axis], name: str = "i", *, start: Sequence[Index] | None = None, views: int = 0,
         parallel: bool = False) -> Iterator[tuple[Index, ...]]:
    """Opens one loop for each axis, the first outermost; yields the address offset in each view.

    Args:
        start: offsets to begin from, one for each view; zeros if absent.
        views: number of views, needed where there may be no axis and no `start`.
        parallel: whether the outermost loop may be divided among threads (it must stand at the top level).
    """
    count = len(start) if start is not None else len(axes[0].strides) if axes else views
    offsets = list(start) if start is not None else [ZERO] * count
    with ExitStack() as stack:
        for position, axis in enumerate(axes):
            kind = "parallel" if parallel and position == 0 else "serial"
            i = stack.enter_context(b.loop(f"{name}{position}" if len(axes) > 1 else name, axis.stop, kind=kind))
            offsets = [o + i * s for o, s in zip(offsets, axis.strides, strict=True)]
        yield tuple(offsets)


def split_for_threads(axes: Sequence[Axis], threads: int, lanes: int, work: int) -> tuple[tuple[Axis, ...], bool]:
    """The axes with an outermost one worth dividing among threads, and whether there is one.

    `work` estimates the operations of the whole kernel. A single long axis is cut in two where a
    number of parts, preferably of whole vectors, divides it.
    """
    if threads <= 1 or work < PARALLEL_WORK or not axes or axes[0].size is not None:
        return tuple(axes), False
    if len(axes) > 1:
        return tuple(axes), axes[0].extent > 1
    (axis,) = axes
    candidates = [p for p in range(threads, 4 * threads + 1) if axis.extent % p == 0]
    candidates.sort(key=lambda parts: (axis.extent // parts % lanes != 0, parts % threads != 0, parts))
    if not candidates:
        return tuple(axes), False
    size = axis.extent // candidates[0]
    return (Axis(candidates[0], tuple(s * size for s in axis.strides)), Axis(size, axis.strides)), True


# -- vectors ----------------------------------------------------------------------------------


def vector_lanes(target: Target, extent: int, dtype: DType = DType.F32, *, native: bool = False) -> int:
    """Lanes for a run of `extent` elements that are computed with as `dtype`.

    Types shorter than 32 bits are widened to that in registers, unless `native`.
    The narrowest vector that holds the whole run, else the widest the target has; 1 where there are
    no vectors of the type, or more than half of the lanes would stay empty.
    """
    widths = target.vector.widths
    size = dtype.size if native else max(4, dtype.size)
    choices = [w // (8 * size) for w in widths if w >= _fewest_lanes(target) * 8 * size]
    if not choices:
        return 1
    lanes = next((c for c in choices if c >= extent), choices[-1])
    return lanes if extent * 2 > lanes else 1


def axis_lanes(target: Target, axis: Axis, dtype: DType = DType.F32, *, native: bool = False) -> int:
    """`vector_lanes` for an axis; 1 where vectors would reach behind the end of an axis whose size the run decides."""
    lanes = vector_lanes(target, axis.extent, dtype, native=native)
    return lanes if axis.fills(lanes) else 1


def full_lanes(target: Target, extent: int, dtype: DType = DType.F32) -> int:
    """Lanes of the widest vector that a run of `extent` elements fills at least once; 1 where there is none."""
    widths = [w // (8 * max(4, dtype.size)) for w in target.vector.widths]
    return max((n for n in widths if _fewest_lanes(target) <= n <= extent), default=1)


def _fewest_lanes(target: Target) -> int:
    return 2 if target.architecture == "aarch64" else 4


@dataclass(frozen=True)
class Step:
    """One vector of positions along an axis: the address of its first lane in each view, and the strides.

    The first `valid` lanes are positions (0: all); `lanes` is 1 in scalar code. Where `limit` is given, only the lanes
    below it are positions, a number known at run time; all lanes may be read and written, the others are padding.
    """

    offsets: tuple[Index, ...]
    strides: tuple[int, ...]
    lanes: int
    valid: int = 0
    limit: Index | None = None

    @property
    def count(self) -> int:
        """Number of positions."""
        return self.valid or self.lanes

    def moved(self, offsets: Sequence[Index]) -> Step:
        """The same vector, this much further on in each view."""
        return replace(self, offsets=tuple(o + m for o, m in zip(self.offsets, offsets, strict=True)))

    def load(self, b: Builder, view: int, buffer: Buffer) -> Expr:
        """The elements of a view at these positions; lanes that are none are zero (or repeat the one element)."""
        return b.load(buffer, self.offsets[view], self.lanes, stride=self.strides[view], valid=self.valid)

    def store(self, b: Builder, view: int, buffer: Buffer, value: Expr) -> None:
        """Writes the elements of a view at these positions."""
        b.store(buffer, self.offsets[view], value, stride=self.strides[view], valid=self.valid)


def vectors(b: Builder, axis: Axis, offsets: Sequence[Index], lanes: int, body: Callable[[Step, int], None], *,
            unroll: int = 1, name: str = "v", overlap: bool = False) -> None:
    """Visits the positions of an axis in vectors: a main loop, and a tail of fewer valid lanes.

    `body(step, copy)` adds the statements for one vector. In the main loop it is called `unroll`
    times with copy = 0 .. unroll-1, so that it may keep that many independent accumulators. With
    `overlap` the tail is a whole vector that repeats positions already visited, which suits maxima;
    the axis must then hold a vector.
    """

    if axis.size is not None:
        _open_vectors(b, axis, offsets, lanes, body, unroll, name)
        return

    def step(position: Index, valid: int = 0) -> Step:
        moved = tuple(o + position * s for o, s in zip(offsets, axis.strides, strict=True))
        return Step(moved, axis.strides, lanes, valid)

    full = axis.extent // lanes * lanes
    main = full // (lanes * unroll) * (lanes * unroll)
    if main:
        with b.loop(name, main, step=lanes * unroll) as i:
            for copy in range(unroll):
                body(step(i + copy * lanes), copy)
    if full > main:
        with b.loop(name, full, start=main, step=lanes) as i:
            body(step(i), 0)
    if full < axis.extent and overlap:
        body(step(const(axis.extent - lanes)), 0)
    elif full < axis.extent:
        body(step(const(full), axis.extent - full), 0)


def _open_vectors(b: Builder, axis: Axis, offsets: Sequence[Index], lanes: int, body: Callable[[Step, int], None],
                  unroll: int, name: str) -> None:
    """`vectors` for an axis whose size the run decides: the last vector may reach into padding."""
    exact = axis.multiple % lanes == 0

    def visit(position: Index, copy: int, *, last: bool = False) -> None:
        moved = tuple(o + position * s for o, s in zip(offsets, axis.strides, strict=True))
        body(Step(moved, axis.strides, lanes, 0, axis.stop - position if last and not exact else None), copy)

    wide = lanes * unroll
    main: Index = ZERO
    if unroll > 1 or not exact:
        main = axis.stop if axis.multiple % wide == 0 else axis.stop.floordiv(wide) * wide
        with b.loop(name, main, step=wide) as i:
            for copy in range(unroll):
                visit(i + copy * lanes, copy)
    if main != axis.stop:
        with b.loop(name, axis.stop, start=main, step=lanes) as i:
            visit(i, 0, last=True)


def vector_blocks(b: Builder, axis: Axis, offsets: Sequence[Index], lanes: int, most: int,
                  body: Callable[[tuple[Step, ...]], None], *, name: str = "block") -> None:
    """Visits the positions of an axis in groups of up to `most` vectors; `body` adds the statements for one group."""

    def steps(first: Index, count: int) -> tuple[Step, ...]:
        out = []
        for done in range(0, count, lanes):
            moved = tuple(o + (first + done) * s for o, s in zip(offsets, axis.strides, strict=True))
            out.append(Step(moved, axis.strides, lanes, min(lanes, count - done) % lanes))
        return tuple(out)

    if axis.size is not None:
        with b.loop(name, axis.size, step=lanes) as i:
            body(steps(i, lanes))
        return
    size = lanes * most
    whole = axis.extent // size * size
    if whole:
        with b.loop(name, whole, step=size) as i:
            body(steps(i, size))
    if whole < axis.extent:
        body(steps(const(whole), axis.extent - whole))


# -- blocks -----------------------------------------------------------------------------------

BLOCK_ACROSS, BLOCK_ALONG = 16, 8
"""Block of a transposition, in elements. Along the result's rows 8, so that the 8 cache lines that are read
stay in a cache of 8 ways even where their distance is a power of two; across them 16, a line of 4-byte elements."""


def blocks(axes: Sequence[Axis]) -> list[tuple[tuple[Index, ...], tuple[Axis, ...]]]:
    """The space cut so that views whose neighbours lie along different axes are visited in blocks.

    Each part is a start offset for each view and its axes. One part, the space itself, where the
    innermost axis suits all views; otherwise up to four: whole blocks, and what is left at each side.
    """
    if not axes:
        return []
    inner = axes[-1]
    across = _crossing_axis(axes)
    start = (ZERO,) * len(inner.strides)
    if across is None:
        return [(start, tuple(axes))]
    parts = []
    outer = axes[across]
    for first_outer, outer_blocks, outer_size in _cut(outer.extent, BLOCK_ACROSS):
        for first_inner, inner_blocks, inner_size in _cut(inner.extent, BLOCK_ALONG):
            begin = tuple(const(first_outer * o + first_inner * i)
                          for o, i in zip(outer.strides, inner.strides, strict=True))
            chosen = [a for position, a in enumerate(axes[:-1]) if position != across]
            chosen.append(Axis(outer_blocks, tuple(s * outer_size for s in outer.strides)))
            chosen.append(Axis(inner_blocks, tuple(s * inner_size for s in inner.strides)))
            chosen += [Axis(outer_size, outer.strides), Axis(inner_size, inner.strides)]
            parts.append((begin, tuple(a for a in chosen if a.extent != 1) or (Axis(1, inner.strides),)))
    return parts


def _crossing_axis(axes: Sequence[Axis]) -> int | None:
    """An outer axis along which some view has its neighbours, while it strides along the innermost one."""
    for view, stride in enumerate(axes[-1].strides):
        if abs(stride) <= 1:
            continue
        for position, axis in enumerate(axes[:-1]):
            large = axis.extent > BLOCK_ALONG and axes[-1].extent > BLOCK_ALONG and axis.size is None and axes[-1].size is None
            if large and 0 < abs(axis.strides[view]) < abs(stride):
                return position
    return None


def _cut(extent: int, size: int) -> list[tuple[int, int, int]]:
    """(first position, number of blocks, size of a block) of whole blocks, and of the rest."""
    whole = extent // size
    parts = [(0, whole, size)] if whole else []
    return parts + ([(whole * size, 1, extent % size)] if extent % size else [])
