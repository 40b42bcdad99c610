"""Names of the Loop IR in scope, and what has been computed for them."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.loop.index import Atom, Index

Terms = tuple[tuple[Atom, int], ...]


@dataclass
class Local:
    """A name in scope.

    Attributes:
        text: the operand that is its value now; that of a register changes where it is assigned.
        dtype, lanes: of the value, or of the elements of a buffer; None for integers that count.
        low: least value of a loop variable or parameter, where known.
    """

    text: str
    dtype: DType | None = None
    lanes: int = 1
    low: int | None = None


@dataclass
class Scope:
    """Names visible at a point, and addresses computed so far on the way to it."""

    names: dict[str, Local]
    indices: dict[Terms, str] = field(default_factory=dict)
    addresses: dict[tuple[str, Terms], str] = field(default_factory=dict)
    pointers: dict[str, dict[Index, str]] = field(default_factory=dict)
    """Pointers to elements of buffers that are to be loaded again through them."""

    def nested(self) -> Scope:
        """A scope for an inner block, which sees everything of this one."""
        return Scope(dict(self.names), dict(self.indices), dict(self.addresses),
                     {buffer: dict(known) for buffer, known in self.pointers.items()})

    def bind(self, name: str, local: Local) -> Local:
        """Adds a name; it hides an older one, and what was computed from that."""
        if name in self.names:
            self.indices, self.addresses, self.pointers = {}, {}, {}
        self.names[name] = local
        return local

    def local(self, name: str) -> Local:
        """Looks a name up. Raises: EdgeccError E900 where it is not in scope."""
        found = self.names.get(name)
        if found is None:
            raise EdgeccError("E900", f"LLVM back end: {name!r} is not in scope")
        return found

    def buffer_type(self, name: str) -> DType:
        """The type of the elements of a buffer."""
        dtype = self.local(name).dtype
        if dtype is None:
            raise EdgeccError("E900", f"LLVM back end: {name!r} is not a buffer")
        return dtype
