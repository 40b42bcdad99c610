"""What rules work with: tensors of the record by their names in the TOSA file, and pieces that several rules need."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from edgecc.backends.tflite.recorder import Quantization, Recorded, Recorder, Tensor
from edgecc.backends.tosa.writer import TosaWriter, kind_of
from edgecc.errors import EdgeccError
from edgecc.ir.types import Array

PROPAGATE = "NanPropagationMode.PROPAGATE"


class TosaRecorder(Recorder):
    """Records operators for TOSA, where names of enumerations stay names."""

    functions: ClassVar[bool] = False
    tables: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def value(self, enumeration: str, name: str) -> int:
        """A number by which `names` has the name again."""
        self.names.append(name)
        return len(self.names) - 1

    def finish(self, inputs: Sequence[int], outputs: Sequence[int], description: str) -> bytes:
        """Nothing: `edgecc.backends.tosa.convert` writes the file."""
        return b""


class Lowering:
    """A file that is being written, and the names of the record's tensors in it."""

    def __init__(self, record: TosaRecorder, writer: TosaWriter) -> None:
        self.record, self.writer = record, writer
        self._names: dict[int, str] = {}

    def tensor(self, index: int) -> Tensor:
        """What the record says of a tensor."""
        return self.record.tensors[index]

    def bind(self, index: int, name: str) -> None:
        """The tensor of the record has this name in the file."""
        self._names[index] = name

    def name(self, index: int) -> str:
        """The name of a tensor, which is made where there is none."""
        if index not in self._names:
            tensor = self.tensor(index)
            if tensor.data is not None:
                self._names[index] = self.writer.constant(self.numbers(index), kind_of(tensor.kind))
            else:
                self._names[index] = self.writer.tensor(tensor.shape, kind_of(tensor.kind))
        return self._names[index]

    def numbers(self, index: int) -> Array:
        """The numbers of a constant."""
        tensor = self.tensor(index)
        if tensor.data is None:
            raise EdgeccError("E900", f"{tensor.name} is no constant")
        return np.frombuffer(tensor.data, np.dtype(tensor.kind.lower())).reshape(tensor.shape)

    def integers(self, index: int) -> Quantization | None:
        """The quantization of a tensor of i8; None for others."""
        return self.tensor(index).quantization if self.tensor(index).kind == "INT8" else None

    def like(self, name: str, shape: Sequence[int] | None = None, kind: str | None = None) -> str:
        """A new tensor of the shape and the type of another one, where nothing else is said."""
        return self.writer.tensor(self.writer.shapes[name] if shape is None else shape, kind or self.writer.kinds[name])

    # -- pieces -------------------------------------------------------------------------------

    def reshaped(self, name: str, shape: Sequence[int], into: str | None = None) -> str:
        """The elements of a tensor in another shape."""
        if into is None:
            if self.writer.shapes[name] == tuple(shape):
                return name
            into = self.like(name, shape)
        return self.writer.operator("RESHAPE", [name, self.writer.shape(shape)], into)

    def aligned(self, names: Sequence[str]) -> list[str]:
        """Tensors with as many axes as the one that has most, so that they broadcast."""
        rank = max(len(self.writer.shapes[name]) for name in names)
        return [self.reshaped(name, (*[1] * (rank - len(self.writer.shapes[name])), *self.writer.shapes[name])) for name in names]

    def cut(self, name: str, starts: Sequence[int], sizes: Sequence[int], into: str | None = None) -> str:
        """A part of a tensor."""
        target = self.like(name, sizes) if into is None else into
        return self.writer.operator("SLICE", [name, self.writer.shape(starts), self.writer.shape(sizes)], target)

    def binary(self, code: str, left: str, right: str, into: str | None = None) -> str:
        """An operator on two tensors that broadcast; MUL gets its shift."""
        a, b = self.aligned([left, right])
        if into is None:
            into = self.like(a, np.broadcast_shapes(self.writer.shapes[a], self.writer.shapes[b]))
        operands = [a, b, *([self.scalar(0, "INT8")] if code == "MUL" else [])]
        attributes = [PROPAGATE] if code in ("MINIMUM", "MAXIMUM") else []
        return self.writer.operator(code, operands, into, *attributes)

    def product(self, left: str, right: str, shift: int) -> str:
        """The product of tensors of i32, shifted to the right and rounded."""
        shape = np.broadcast_shapes(self.writer.shapes[left], self.writer.shapes[right])
        return self.writer.operator("MUL", [left, right, self.scalar(shift, "INT8")], self.like(left, shape))

    def unary(self, code: str, name: str, into: str | None = None) -> str:
        """An operator on one tensor."""
        operands = [name]
        if code == "NEGATE":
            operands += [self.writer.constant(np.zeros(1), self.writer.kinds[name])] * 2
        return self.writer.operator(code, operands, self.like(name) if into is None else into)

    def scalar(self, number: float, kind: str = "FP32") -> str:
        """A tensor of one element."""
        return self.writer.constant(np.array([number]), kind)

    def clamped(self, name: str, low: float, high: float, into: str) -> str:
        """Limits a tensor."""
        pack = "<f" if self.writer.kinds[name] == "FP32" else "<b"
        limits = [list(struct.pack(pack, limit if pack == "<f" else int(limit))) for limit in (low, high)]
        return self.writer.operator("CLAMP", [name], into, *limits, PROPAGATE)

    def with_activation(self, op: Recorded) -> tuple[str, Any]:
        """Where an operator has to put its result, and what to call afterwards: limits, where it has an activation."""
        target = self.name(op.outputs[0])
        which = op.fields.get("fusedActivationFunction")
        limits = self.limits(self.record_name(which) if which is not None else "NONE", self.integers(op.outputs[0]))
        if limits is None:
            return target, lambda: None
        inner = self.like(target)
        return inner, lambda: self.clamped(inner, *limits, target)

    def record_name(self, value: int) -> str:
        """The name behind a number that the record's `value` gave."""
        return self.record.names[value]

    @staticmethod
    def limits(activation: str, quantization: Quantization | None) -> tuple[float, float] | None:
        """What an activation limits its operand to, in integers where it has a quantization."""
        if activation == "NONE":
            return None
        low, high = {"RELU": (0.0, math.inf), "RELU6": (0.0, 6.0)}[activation]
        if quantization is None:
            return low, min(high, float(np.finfo(np.float32).max))
        zero = quantization.zero
        top = 127 if high == math.inf else min(127, zero + math.floor(high / quantization.scale + 0.5))
        return max(-128, zero), top
