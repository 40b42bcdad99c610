"""Places: in which piece of memory a value lies, and how."""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.errors import EdgeccError
from edgecc.ir.dims import Dim, Shape
from edgecc.ir.graph import Node, Value
from edgecc.kernels.view import ROW_ELEMENTS, View
from edgecc.memory import strides


@dataclass(frozen=True)
class Root:
    """A contiguous piece of memory.

    Attributes:
        kind: "arena", "input", "output" or "constant".
        index: which network input or output; which of `Placement.constants`.
        size_bytes: its size.
        name: a value that lies in it, for reports.
    """

    kind: str
    index: int
    size_bytes: int
    name: str


@dataclass(frozen=True)
class Place:
    """Where a value lies: element (0, ..., 0) is `offset` elements from the start of root number `root`.

    Dims and strides of `view` are those of the largest shape. `shape` is the value's shape where the run decides on it,
    else (); the first element then lies another `start` elements on.
    """

    root: int
    offset: int
    view: View
    shape: Shape = ()
    start: Dim = 0

    @property
    def is_plain(self) -> bool:
        """Whether kernels of all kinds can read and write here: with the strides of the view, from `offset` on."""
        return self.start == 0 and not self.view.packed

    @property
    def byte_offset(self) -> int:
        """Bytes from the start of the root."""
        return self.offset * self.view.dtype.size


def own_view(value: Value) -> View:
    """How a value lies in memory of its own, in its layout; rows of open length have room for a multiple of `ROW_ELEMENTS`."""
    dims, shape = value.type.max_dims, value.type.shape
    inner = strides.innermost_axis(value.layout.order, dims)
    padded = inner is not None and not isinstance(shape[inner], int)
    held = tuple(-(-d // ROW_ELEMENTS) * ROW_ELEMENTS if padded and axis == inner else d for axis, d in enumerate(dims))
    return View(value.type.dtype, dims, value.layout.strides(held), padded=padded)


def open_shape(value: Value) -> Shape:
    """The shape of a value where the run decides on it, else ()."""
    return () if value.type.is_static else value.type.shape


def is_ragged(value: Value) -> bool:
    """Whether the row-major strides of a run differ from those of the largest shape: an open dimension that is not outermost."""
    dims, shape = value.type.max_dims, value.type.shape
    return any(not isinstance(size, int) and any(d != 1 for d in dims[:axis]) for axis, size in enumerate(shape))


def concat_places(result: Place, node: Node, axis: int) -> list[Place]:
    """Where the operands of a concatenation lie inside its result, in order."""
    out = []
    offset, start = result.offset, result.start
    for value in node.inputs:
        if value is None:
            raise EdgeccError("E900", "an operand of a concatenation is absent")
        view = View(result.view.dtype, value.type.max_dims, result.view.strides, packed=result.view.packed)
        out.append(Place(result.root, offset, view, open_shape(value), start))
        size = value.type.shape[axis]
        if isinstance(size, int):
            offset += size * result.view.strides[axis]
        else:
            start = start + size * result.view.strides[axis]
    return out


def same_place(a: Place, b: Place) -> bool:
    """Whether both say that the same elements lie at the same addresses."""
    return (a.root == b.root and a.offset == b.offset and strides.same_memory(a.view, b.view)
            and a.start == b.start and a.view.packed == b.view.packed)
