"""Checks of indices that are computed at run time: one pass over them before the kernel that uses them."""

from __future__ import annotations

from edgecc.backends.c.table import STORAGE
from edgecc.loop.module import IndexRange

INDEX_STATUS = 5
"""What `run` returns where an index is out of range."""


class IndexChecks:
    """The functions that look at indices, each once, in order of first use."""

    def __init__(self) -> None:
        self._names: dict[IndexRange, str] = {}

    def statement(self, address: str, indices: IndexRange) -> str:
        """The statement of the run that ends it where one of the indices at `address` is out of range."""
        name = self._names.setdefault(indices, f"indices_fit_{len(self._names)}")
        return f"  if (!{name}({address})) return {INDEX_STATUS};"

    @property
    def definitions(self) -> list[str]:
        """The functions."""
        return [_definition(name, indices) for indices, name in self._names.items()]


def _definition(name: str, indices: IndexRange) -> str:
    """A function that is true where all indices fit; the loop has no exit, so that compilers vectorize it."""
    storage, is_signed = STORAGE[indices.dtype], indices.dtype.is_signed
    wide = "int64_t" if is_signed else "uint64_t"
    terms = [f"i{axis}" if stride == 1 else f"{stride} * i{axis}" for axis, (_, stride) in enumerate(indices.axes) if stride]
    address = " + ".join([*([str(indices.offset)] if indices.offset else []), *terms]) or "0"
    wrong = f"(index < -{indices.size}) | (index >= {indices.size})" if is_signed else f"index >= {indices.size}u"
    lines = [f"/* Whether all of these are indices of an axis of {indices.size}. */",
             f"static int {name}(const void *memory) {{", f"  const {storage} *const x = (const {storage} *)memory;", "  int wrong = 0;"]
    indent = "  "
    for axis, (extent, _) in enumerate(indices.axes):
        lines.append(f"{indent}for (ptrdiff_t i{axis} = 0; i{axis} < {extent}; ++i{axis}) {{")
        indent += "  "
    lines += [f"{indent}const {wide} index = ({wide})x[{address}];", f"{indent}wrong |= {wrong};"]
    for _ in indices.axes:
        indent = indent[2:]
        lines.append(f"{indent}}}")
    return "\n".join([*lines, "  return !wrong;", "}", ""])
