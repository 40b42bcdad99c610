"""What the calls of a module share: functions, each scheduled and stored once, the room for them, and the blob of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgecc.errors import EdgeccError
from edgecc.frontend.limits import Limits, raised
from edgecc.ir.types import Array, DType
from edgecc.kernels.kernel import FromInput, FromOutput, Kernel
from edgecc.loop.ir import Function, walk
from edgecc.loop.module import Argument, Constant, WeightBytes
from edgecc.loop.verify import verify_function
from edgecc.memory.offsets import ALIGN
from edgecc.memory.regions import alignment
from edgecc.passes.loop import apply_schedule


@dataclass(frozen=True)
class Room:
    """What a network may ask of the compiler: both take time, about a second for half a megabyte of text or for a hundred unlike kernels.

    Attributes:
        text_bytes: of the functions.
        kernels: unlike ones of operators that can be computed in several ways.
    """

    text_bytes: int
    kernels: int

    @classmethod
    def within(cls, limits: Limits) -> Room:
        """What the limits of a model leave."""
        return cls(limits.generated_bytes, limits.kernels)


def check_results(arena_bytes: int, files: Mapping[str, bytes], limits: Limits, where: str) -> None:
    """Looks at what was made of a model, by its own names, once that is known.

    Raises: EdgeccError E101 where a run needs more memory than the limits allow, or where there is more text of C.
    """
    if arena_bytes > limits.arena_bytes:
        raise EdgeccError("E101", f"a run needs {arena_bytes} bytes of memory; the limit is {limits.arena_bytes}", where=where, hint=raised("arena_bytes"))
    text = sum(len(data) for name, data in files.items() if name.endswith((".c", ".h")))
    if text > limits.generated_bytes:
        raise EdgeccError("E101", f"the generated code has {text} bytes; the limit is {limits.generated_bytes}", where=where,
                          hint=raised("generated_bytes"))


STATEMENT_BYTES, FUNCTION_BYTES = 56, 200
"""Text of a statement and of what surrounds a function, in C and at least. What is printed decides in the end."""


class Functions:
    """The functions of a module: scheduled once for each kernel, stored once for each structure.

    What is promised of a buffer follows from the calls: it is aligned as all arguments are, and it may
    share memory with another buffer if some call overwrites an operand with a result.
    """

    def __init__(self, check: bool, room: Room) -> None:
        self.check = check
        self.room = room
        self.text_bytes = 0
        self.by_kernel: dict[int, str] = {}
        self.by_structure: dict[Function, str] = {}
        self.functions: dict[str, Function] = {}
        self.numbers: dict[str, int] = {}
        """The next number for a function whose name is taken, by name: thousands may want one."""
        self.align: dict[str, list[int]] = {}
        self.aliased: dict[str, list[bool]] = {}

    def add(self, kernel: Kernel) -> str:
        """The name of the function of a kernel; the kernel must stay alive.

        Raises: EdgeccError E101 where all functions together would be longer than there is room for.
        """
        known = self.by_kernel.get(id(kernel))
        if known is not None:
            return known
        function = self._scheduled(kernel)
        structure = replace(function, name="", doc="")
        name = self.by_structure.get(structure)
        if name is None:
            self.text_bytes += FUNCTION_BYTES + STATEMENT_BYTES * sum(1 for _ in walk(function.body))
            if self.text_bytes > self.room.text_bytes:
                raise EdgeccError("E101", f"the generated code has more than {self.room.text_bytes} bytes", hint=raised("generated_bytes"))
            name = self._fresh(function.name)
            self.by_structure[structure] = name
            self.functions[name] = replace(function, name=name)
            self.align[name] = [ALIGN] * len(function.buffers)
            self.aliased[name] = [False] * len(function.buffers)
        self.by_kernel[id(kernel)] = name
        return name

    def _scheduled(self, kernel: Kernel) -> Function:
        function = kernel.function
        pairs = {FromOutput(r) for r, _ in kernel.in_place} | {FromInput(o) for _, o in kernel.in_place}
        buffers = tuple(replace(b, aliased=b.aliased or a in pairs)
                        for b, a in zip(function.buffers, kernel.arguments, strict=True))
        function = replace(function, buffers=buffers)
        if self.check:
            verify_function(function)
        function = apply_schedule(function, kernel.schedule)
        if self.check:
            verify_function(function)
        return function

    def _fresh(self, base: str) -> str:
        name, number = base, self.numbers.get(base, 2)
        while name in self.functions:
            name, number = f"{base}_{number}", number + 1
        self.numbers[base] = number
        return name

    def use(self, name: str, arguments: Sequence[Argument], overwritten: set[Argument]) -> None:
        """Notes a call. `overwritten` are the addresses of results that replace an operand."""
        for position, (buffer, argument) in enumerate(zip(self.functions[name].buffers, arguments, strict=True)):
            self.align[name][position] = min(self.align[name][position], alignment(argument, buffer.dtype.size))
            self.aliased[name][position] |= argument in overwritten

    def finished(self) -> tuple[Function, ...]:
        """All functions, in order of first use."""
        return tuple(replace(f, buffers=tuple(replace(b, align=align, aliased=aliased) for b, align, aliased in
                                              zip(f.buffers, self.align[name], self.aliased[name], strict=True)))
                     for name, f in self.functions.items())


# -- weights ----------------------------------------------------------------------------------


class Weights:
    """The blob of weights: every constant once, aligned."""

    def __init__(self) -> None:
        self.constants: list[Constant] = []
        self.size_bytes = 0
        self.offsets: dict[tuple[DType, bytes], int] = {}
        """Offset of each constant by type and SHA-256 of its bytes."""

    def add(self, data: Array) -> WeightBytes:
        """Where a flat array is stored."""
        key = (DType.from_numpy(data.dtype), hashlib.sha256(data.tobytes()).digest())
        if key not in self.offsets:
            offset = -(-self.size_bytes // ALIGN) * ALIGN
            self.offsets[key] = offset
            self.constants.append(Constant(offset, data))
            self.size_bytes = offset + data.nbytes
        return WeightBytes(self.offsets[key])
