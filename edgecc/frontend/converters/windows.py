"""Strides, dilations and padding of convolutions and pools, as ONNX states them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.converters.padding import pad
from edgecc.ir.dims import Dim, SymbolicDim, numbers, upper_bound
from edgecc.ir.graph import Value


@dataclass(frozen=True)
class Window:
    """A window that slides over spatial axes; `pads` are (begin..., end...).

    Where the run decides how much of the end is padded, `pads` have the most, and results are cut to the spatial sizes `results`.
    Where it decides that of the beginning too, the input is padded by `around`, (begin..., end...), before the window slides.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    results: tuple[Dim, ...] | None = None
    around: tuple[Dim, ...] = ()

    @property
    def extents(self) -> tuple[int, ...]:
        """Elements from the first to the last tap, both included, per axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))


def per_axis(call: Call, name: str, rank: int, default: int, least: int) -> tuple[int, ...]:
    """A list attribute with one entry of at least `least` per spatial axis; `default` for each without it.

    Raises: EdgeccError E110 for a wrong length or too small an entry.
    """
    entries = call.ints(name)
    if entries is None:
        return (default,) * rank
    if len(entries) != rank or min(entries, default=least) < least:
        raise EdgeccError("E110", f"{name} is {list(entries)}, wanted {rank} numbers of at least {least}")
    return entries


def window(call: Call, spatial: Sequence[Dim], kernel: tuple[int, ...]) -> Window:
    """The window that the node's attributes describe over an input with these spatial sizes."""
    rank = len(spatial)
    if len(kernel) != rank or min(kernel, default=1) < 1:
        raise EdgeccError("E110", f"the kernel is {list(kernel)}; the input has {rank} spatial axes")
    strides = per_axis(call, "strides", rank, 1, 1)
    dilations = per_axis(call, "dilations", rank, 1, 1)
    bare = Window(kernel, strides, dilations, (0,) * (2 * rank))
    match auto_pad(call):
        case "NOTSET":
            return Window(kernel, strides, dilations, per_axis(call, "pads", 2 * rank, 0, 0))
        case "VALID":
            return bare
        case side:
            results = [-(-size // stride) for size, stride in zip(spatial, strides, strict=True)]
            totals = [_at_least_none((count - 1) * stride + extent - size)
                      for count, size, stride, extent in zip(results, spatial, strides, bare.extents, strict=True)]
            halves = [total // 2 for total in totals]
            rest = [total - half for total, half in zip(totals, halves, strict=True)]
            begins, ends = (halves, rest) if side == "SAME_UPPER" else (rest, halves)
            if any(isinstance(begin, SymbolicDim) for begin in begins):
                return replace(bare, around=(*begins, *ends))
            pads = (*numbers(begins), *(upper_bound(end) for end in ends))
            is_open = any(isinstance(end, SymbolicDim) for end in ends)
            return Window(kernel, strides, dilations, pads, tuple(results) if is_open else None)


def _at_least_none(total: Dim) -> Dim:
    return 0 if upper_bound(total) <= 0 else max(total, 0)


def padded(call: Call, x: Value, slide: Window, fill: float = 0) -> Value:
    """`x` [N,C,...] with what the run decides to pad."""
    return pad(call, x, slide.around, range(2, x.type.rank), call.scalar(fill, x.type.dtype)) if slide.around else x


def cut(call: Call, y: Value, slide: Window) -> Value:
    """What a window computed, [N,C,...], without what it did beyond the padding of this run."""
    for axis, size in enumerate(slide.results or (), 2):
        if y.type.shape[axis] != size:
            y = call.slice(y, axis, 0, size)
    return y


def auto_pad(call: Call) -> str:
    """The attribute auto_pad, checked."""
    mode = call.text("auto_pad", "NOTSET") or "NOTSET"
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise EdgeccError("E102", f"auto_pad is '{printable(mode)}'")
    return mode


def distribute(totals: Sequence[int], *, extra_at_end: bool) -> tuple[int, ...]:
    """Splits each total into (begin..., end...), an odd element going to the named side."""
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (*small, *large) if extra_at_end else (*large, *small)
