"""What becomes of operators on strings when a network is lowered: inside of a run a string is a handle, a number of 32 bits.

Equal strings of a run have equal handles, so that comparing and moving strings is comparing and moving numbers, which
all kernels can do. Handle 0 is the empty string. These operators exist between lowering and the back end only; what
they mean depends on the strings that a run has met, so they have no reference of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgecc.ir.op import Op, required
from edgecc.ir.types import DType, Shape, TensorType
from edgecc.ops.strings import StringOp

HANDLE = DType.U32


@dataclass(frozen=True)
class ReadStrings(Op):
    """The handles of the strings that an input of the network points to. Shapes: x strings -> y u32 [dims], as many."""

    name: ClassVar[str] = "read_strings"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    dims: Shape

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Handles."""
        required(inputs)
        return (TensorType(HANDLE, self.dims),)


@dataclass(frozen=True)
class WriteStrings(Op):
    """The strings of handles, as an output of the network points to them. Shapes: x u32 -> y strings [dims], as many."""

    name: ClassVar[str] = "write_strings"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    dims: Shape

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Strings."""
        required(inputs)
        return (TensorType(DType.STRING, self.dims),)


@dataclass(frozen=True)
class OnHandles(Op):
    """An operator on strings over handles. Shapes are those of the operator; all its operands have one shape."""

    name: ClassVar[str] = "on_handles"
    inputs: ClassVar[tuple[str, ...]] = ("x*",)

    op: StringOp

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """What the operator gives, strings as handles."""
        results = self.op.infer([t.with_dtype(self.op.operand_type) for t in required(inputs)])
        return tuple(t.with_dtype(HANDLE) if t.dtype is DType.STRING else t for t in results)


StringStep = ReadStrings | WriteStrings | OnHandles
