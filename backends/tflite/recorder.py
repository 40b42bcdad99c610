"""A network as operators of TFLite on tensors, before it is a file of any format.

What is recorded here becomes a TFLite model (edgecc/backends/tflite/schema.py) or TOSA (edgecc/backends/tosa).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgecc.ir.types import Array


@dataclass(frozen=True)
class Quantization:
    """What integers stand for: (q - zero) * scale; one scale for the tensor, or one for each index of `axis`.

    Every zero point is 0 where there are several scales.
    """

    scales: tuple[float, ...]
    zero: int = 0
    axis: int = 0

    @property
    def scale(self) -> float:
        """The only scale."""
        (scale,) = self.scales
        return scale


@dataclass(frozen=True)
class Tensor:
    """A tensor as the file states it. `kind` is a name out of the schema's TensorType."""

    name: str
    shape: tuple[int, ...]
    kind: str
    quantization: Quantization | None
    data: bytes | None


@dataclass(frozen=True)
class Recorded:
    """An operator; see `Recorder.operator`."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: str
    version: int
    fields: Mapping[str, Any]


class Recorder(ABC):
    """Tensors and operators of one subgraph, in the order they are added.

    Class variables:
        functions: whether functions such as GELU or limits may be recorded as operators of their own.
        tables: whether any function of one operand of int8 may be recorded as TABLE, whose second operand has its 256 results.
    """

    functions: ClassVar[bool] = True
    tables: ClassVar[bool] = False

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.recorded: list[Recorded] = []
        self._names: dict[str, int] = {}
        self._constants: dict[tuple[tuple[int, ...], str, Quantization | None, bytes], int] = {}

    def tensor(self, name: str, shape: Sequence[int], kind: str, quantization: Quantization | None = None) -> int:
        """The index of a new tensor that is computed, or given by the caller. A name that is taken gets a number."""
        count = self._names[name] = self._names.get(name, 0) + 1
        self.tensors.append(Tensor(name if count == 1 else f"{name}#{count}", tuple(shape), kind, quantization, None))
        return len(self.tensors) - 1

    def constant(self, name: str, array: Array, quantization: Quantization | None = None) -> int:
        """The index of a tensor that holds `array`; equal ones are stored once."""
        data = np.ascontiguousarray(array)
        kind = str(data.dtype).upper()
        key = (np.shape(array), kind, quantization, data.tobytes())
        if key not in self._constants:
            self.tensors.append(Tensor(name, np.shape(array), kind, quantization, key[3]))
            self._constants[key] = len(self.tensors) - 1
        return self._constants[key]

    def operator(self, code: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", version: int = 1, **fields: Any) -> None:
        """Adds an operator.

        Args:
            code: name out of the schema's BuiltinOperator.
            inputs, outputs: indices of tensors; -1 for an operand that is left out.
            options: name of the table of its options, such as "Conv2DOptions", and `fields`, the values in it; a string is the name
                of a value of the enumeration of the field.
            version: of the operator, which tells runtimes what types it has.
        """
        self.recorded.append(Recorded(code, tuple(inputs), tuple(outputs), options, version, fields))

    @abstractmethod
    def value(self, enumeration: str, name: str) -> int:
        """The number of a name of one of the schema's enumerations."""

    @abstractmethod
    def finish(self, inputs: Sequence[int], outputs: Sequence[int], description: str) -> bytes:
        """The file. Equal calls give equal bytes."""
