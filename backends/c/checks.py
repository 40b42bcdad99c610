"""Checks of indices that are computed at run time: one pass over them before the kernel that uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgecc.backends.c.sizes import dim_text
from edgecc.backends.c.table import STORAGE
from edgecc.ir.dims import Dim, SymbolicDim
from edgecc.loop.module import IndexRange

INDEX_STATUS = 5
"""What `run` returns where an index is out of range."""


class IndexChecks:
    """The functions that look at indices, each once, in order of first use."""

    def __init__(self) -> None:
        self._names: dict[IndexRange, str] = {}

    def statement(self, address: str, indices: IndexRange, names: Mapping[str, str]) -> str:
        """The statement of the run that ends it where one of the indices at `address` is out of range.

        `names` are the C locals of the sizes that the run decides.
        """
        name = self._names.setdefault(indices, f"indices_fit_{len(self._names)}")
        arguments = "".join(f", (ptrdiff_t){dim_text(dim, names)}" for dim in open_dims(indices))
        return f"  if (!{name}({address}{arguments})) return {INDEX_STATUS};"

    @property
    def definitions(self) -> list[str]:
        """The functions."""
        return [_definition(name, indices) for indices, name in self._names.items()]


def open_dims(indices: IndexRange) -> tuple[SymbolicDim, ...]:
    """What of a range the run decides: the parameters of its function."""
    dims = [extent for extent, _ in indices.axes] + [indices.size]
    return tuple(dict.fromkeys(dim for dim in dims if isinstance(dim, SymbolicDim)))


def _extent(dim: Dim, open_dims: Sequence[SymbolicDim]) -> str:
    return str(dim) if isinstance(dim, int) else f"n{open_dims.index(dim)}"


def _definition(name: str, indices: IndexRange) -> str:
    """A function that is true where all indices fit; the loop has no exit, so that compilers vectorize it."""
    storage, is_signed = STORAGE[indices.dtype], indices.dtype.is_signed
    wide = "int64_t" if is_signed else "uint64_t"
    terms = [f"i{axis}" if stride == 1 else f"{stride} * i{axis}" for axis, (_, stride) in enumerate(indices.axes) if stride]
    address = " + ".join([*([str(indices.offset)] if indices.offset else []), *terms]) or "0"
    dims = open_dims(indices)
    size = _extent(indices.size, dims)
    unsigned = f"{size}u" if isinstance(indices.size, int) else f"(uint64_t){size}"
    wrong = f"(index < -{size}) | (index >= {size})" if is_signed else f"index >= {unsigned}"
    parameters = "".join(f", ptrdiff_t n{number}" for number in range(len(dims)))
    lines = [f"/* Whether all of these are indices of an axis of {size}. */",
             f"static int {name}(const void *memory{parameters}) {{", f"  const {storage} *const x = (const {storage} *)memory;", "  int wrong = 0;"]
    indent = "  "
    for axis, (extent, _) in enumerate(indices.axes):
        lines.append(f"{indent}for (ptrdiff_t i{axis} = 0; i{axis} < {_extent(extent, dims)}; ++i{axis}) {{")
        indent += "  "
    lines += [f"{indent}const {wide} index = ({wide})x[{address}];", f"{indent}wrong |= {wrong};"]
    for _ in indices.axes:
        indent = indent[2:]
        lines.append(f"{indent}}}")
    return "\n".join([*lines, "  return !wrong;", "}", ""])
