"""LLVM text: the parts of a module that functions share, and the instructions of one function."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from edgecc.backends.llvm.machine import Machine
from edgecc.backends.llvm.types import suffix

_PLAIN = re.compile(r"[^A-Za-z0-9_]+")

Argument = tuple[str, str]
"""A type and an operand."""


class Shared:
    """Declarations and helper functions of a module, each once, in order of first use.

    Attributes:
        machine: what the module is for.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._declarations: dict[str, str] = {}
        self._helpers: dict[str, str] = {}

    def declare(self, name: str, result: str, parameters: Sequence[str]) -> None:
        """Makes sure that an external function is declared."""
        self._declarations.setdefault(name, f"declare {result} @{name}({', '.join(parameters)})\n")

    def helper(self, name: str, text: Callable[[], str]) -> str:
        """Makes sure that a helper function exists, and returns its name; `text` prints it."""
        if name not in self._helpers:
            self._helpers[name] = ""  # a helper that calls itself would not end
            self._helpers[name] = text()
        return name

    @property
    def text(self) -> str:
        """All helpers and declarations."""
        return "\n".join([*self._helpers.values(), "".join(self._declarations.values())])


class Writer:
    """The instructions of one function. Values are named once; a name that is taken gets a number.

    Attributes:
        shared: what the functions of the module share.
        block: the label of the block that is being written.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.block = "entry"
        self._lines: list[str] = []
        self._numbers: dict[str, int] = {}

    @property
    def machine(self) -> Machine:
        """What the code is for."""
        return self.shared.machine

    @property
    def text(self) -> str:
        """The body, first block included."""
        return "entry:\n" + "".join(f"{line}\n" for line in self._lines)

    def fresh(self, hint: str) -> str:
        """A name of this function that nothing has yet, without its "%"."""
        base = _PLAIN.sub("_", hint) or "x"
        if base[0].isdigit():
            base = f"x{base}"
        number = self._numbers.get(base, 0)
        self._numbers[base] = number + 1
        return f"{base}.{number}" if number or base == "entry" else base

    def emit(self, text: str) -> None:
        """An instruction without a result."""
        self._lines.append(f"  {text}")

    def let(self, text: str, hint: str = "v") -> str:
        """An instruction with a result, which is returned with its "%"."""
        name = f"%{self.fresh(hint)}"
        self._lines.append(f"  {name} = {text}")
        return name

    def comment(self, text: str) -> None:
        """A line for readers."""
        self._lines.append(f"  ; {' '.join(text.split())}")

    def start(self, label: str) -> None:
        """Begins a block."""
        self._lines.append(f"{label}:")
        self.block = label

    def reserve(self) -> int:
        """A place for an instruction whose operands are not known yet."""
        self._lines.append("")
        return len(self._lines) - 1

    def fill(self, place: int, text: str) -> None:
        """Writes the instruction of a reserved place."""
        self._lines[place] = f"  {text}"

    # -- common instructions -------------------------------------------------------------------------

    def op(self, name: str, kind: str, *operands: str) -> str:
        """An instruction on operands of one type: add, fmul, icmp slt, ..."""
        return self.let(f"{name} {kind} {', '.join(operands)}")

    def convert(self, name: str, source: str, value: str, result: str) -> str:
        """sext, fptrunc, bitcast, ...; nothing where the types are equal."""
        return value if source == result else self.let(f"{name} {source} {value} to {result}")

    def select(self, mask_type: str, mask: str, kind: str, yes: str, no: str) -> str:
        """`yes` where the mask is true, else `no`."""
        return self.let(f"select {mask_type} {mask}, {kind} {yes}, {kind} {no}")

    def call(self, name: str, result: str, *arguments: Argument, internal: bool = False) -> str:
        """A call of a function with a result. What is not `internal` is declared."""
        self._declare(name, result, arguments, internal)
        return self.let(f"call {result} @{name}({_listed(arguments)})")

    def intrinsic(self, name: str, kind: str, *operands: str, flags: Sequence[str] = ()) -> str:
        """A call of an intrinsic that is overloaded on the one type of its operands; `flags` are further constants (i1)."""
        arguments = [*((kind, operand) for operand in operands), *(("i1", flag) for flag in flags)]
        return self.call(f"llvm.{name}.{suffix(kind)}", kind, *arguments)

    def call_void(self, name: str, *arguments: Argument, internal: bool = False) -> None:
        """A call of a function without a result."""
        self._declare(name, "void", arguments, internal)
        self.emit(f"call void @{name}({_listed(arguments)})")

    def _declare(self, name: str, result: str, arguments: Sequence[Argument], internal: bool) -> None:
        if not internal:
            self.shared.declare(name, result, [kind for kind, _ in arguments])


def _listed(arguments: Sequence[Argument]) -> str:
    return ", ".join(f"{kind} {value}" for kind, value in arguments)
