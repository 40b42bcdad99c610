"""The base of all operators of the Graph IR, and the table of them by name.

An operator is a frozen dataclass: its fields are its attributes, its docstring gives the formula,
shapes, errors and source, `infer` is its shape rule and `reference` its meaning in numpy. Lowering
to loops or to a vendor format lives elsewhere (edgecc/kernels, backends).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, TypeVar

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.dims import Symbol
from edgecc.ir.types import Array, TensorType


@dataclass(frozen=True)
class Op:
    """An operator with its attributes. Subclasses are decorated with `@register @dataclass(frozen=True)`.

    Class variables:
        name: the name in IR text, C symbols and documentation; lower case with underscores.
        inputs: names of the operands in order. A trailing "?" marks one that may be absent (None),
            a final "*" any number of further operands.
    """

    name: ClassVar[str] = ""
    inputs: ClassVar[tuple[str, ...]] = ()

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Types of the results for operands of the given types (None: operand absent).

        Raises: EdgeccError E110 where they do not fit.
        """
        raise NotImplementedError

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The meaning: results for the given operands, in numpy, sums taken in float64."""
        raise NotImplementedError

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Sum of the magnitudes of the terms each result element is made of.

        Rounding errors are measured in units of it (edgecc/reference/compare.py). The default runs
        the operator on absolute values, which is right for sums of products.
        """
        absolute = [np.abs(x) if x is not None and x.dtype.kind not in "buO" else x for x in inputs]
        return tuple(np.abs(y) if y.dtype.kind not in "buO" else y for y in self.reference(absolute))

    @property
    def binds(self) -> Symbol | None:
        """The size that the operator's result is in this run, for the types of later values; None for nearly all operators."""
        return None

    def fail(self, message: str, inputs: Sequence[TensorType | None] = (), hint: str = "") -> EdgeccError:
        """Builds (does not raise) the E110 error of this operator for operands of these types."""
        got = ", ".join("absent" if t is None else str(t) for t in inputs)
        return EdgeccError("E110", f"{self.name}: {message}" + (f" (operands: {got})" if got else ""), hint=hint)

    def arity_error(self, count: int) -> str | None:
        """Why `count` operands are not acceptable, or None where they are."""
        if count == len(self.inputs):
            return None
        required = sum(1 for n in self.inputs if not n.endswith(("?", "*")))
        variadic = bool(self.inputs) and self.inputs[-1].endswith("*")
        if count < required or (count > len(self.inputs) and not variadic):
            return f"takes ({', '.join(self.inputs)}), got {count} operands"
        return None


@dataclass(frozen=True)
class Signature:
    """Types of what a region takes and returns."""

    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]


RunRegion = Callable[[Sequence[Array]], tuple[Array, ...]]
"""Executes a region on arrays for its inputs."""


@dataclass(frozen=True)
class RegionOp(Op):
    """An operator whose nodes own graphs, its regions, which it runs zero or more times.

    Class variables:
        regions: the names of the regions, in order.
    """

    regions: ClassVar[tuple[str, ...]] = ()

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Without regions there is no type. Raises: EdgeccError E110."""
        raise self.fail(f"the regions {', '.join(self.regions)} are missing", inputs)

    def infer_regions(self, inputs: Sequence[TensorType | None], regions: Sequence[Signature]) -> tuple[TensorType, ...]:
        """Types of the results for operands and regions of the given types.

        Raises: EdgeccError E110 where operands and regions do not fit each other.
        """
        raise NotImplementedError

    def reference_regions(self, inputs: Sequence[Array | None], regions: Sequence[RunRegion],
                          zeros: Sequence[Array]) -> tuple[Array, ...]:
        """The meaning: results for the given operands, running the regions. `zeros` has the types of the results.

        Raises: EdgeccError E402 where a limit is exceeded that the network's run would report.
        """
        raise NotImplementedError


OpClass = TypeVar("OpClass", bound=type[Op])
_TABLE: dict[str, type[Op]] = {}
OPS: Mapping[str, type[Op]] = MappingProxyType(_TABLE)
"""Every registered operator class by name. Filled while edgecc.ops is imported, constant afterwards."""


def register(cls: OpClass) -> OpClass:
    """Class decorator that puts an operator into `OPS`; a second class of one name is an error."""
    if not cls.name or not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls.__qualname__} needs a name and @dataclass(frozen=True)")
    other = _TABLE.get(cls.name)
    if other is not None and other.__qualname__ != cls.__qualname__:
        raise TypeError(f"operator {cls.name!r} is defined by {other.__module__} and {cls.__module__}")
    _TABLE[cls.name] = cls
    return cls


def required(inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
    """The operand types as a tuple without None, for operators all of whose operands are present."""
    out = []
    for position, tensor_type in enumerate(inputs):
        if tensor_type is None:
            raise EdgeccError("E110", f"operand {position} is absent")
        out.append(tensor_type)
    return tuple(out)


def present(inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """The operand arrays as a tuple without None, for operators all of whose operands are present."""
    out = []
    for position, array in enumerate(inputs):
        if array is None:
            raise EdgeccError("E110", f"operand {position} is absent")
        out.append(array)
    return tuple(out)
