"""Which tensors of the file hold the values of the graph.

A value may be held more than once: as integers and as floats, and with its axes in several orders. TFLite wants images with
their channels last; what produced a value decides how it is first held, and what reads it asks for the order it needs.
Tensors in other forms are made where they are first asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgecc.backends.tflite import quantized
from edgecc.backends.tflite.recorder import Quantization, Recorder
from edgecc.errors import EdgeccError
from edgecc.ir.dims import numbers
from edgecc.ir.graph import Value
from edgecc.ir.types import Array, DType

Order = tuple[int, ...]
"""For each axis of a tensor the axis of the value it is."""

KINDS = {DType.F32: "FLOAT32", DType.I8: "INT8", DType.U8: "UINT8", DType.I16: "INT16",
         DType.I32: "INT32", DType.I64: "INT64", DType.BOOL: "BOOL"}
"""The schema's name of each element type that TFLite's operators compute with."""


def plain(rank: int) -> Order:
    """The order of axes that the value itself has."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """The order with axis 1 at the end."""
    return plain(rank) if rank < 3 else (0, *range(2, rank), 1)


@dataclass
class Held:
    """The tensors that hold a value, by the order of axes.

    Attributes:
        dims: the value's own shape.
        quantization: of the integers, where there are any.
    """

    name: str
    dims: tuple[int, ...]
    quantization: Quantization | None = None
    integers: dict[Order, int] = field(default_factory=dict)
    floats: dict[Order, int] = field(default_factory=dict)

    @property
    def orders(self) -> tuple[Order, ...]:
        """The orders in which there are tensors, the first one first."""
        return tuple(dict.fromkeys((*self.integers, *self.floats)))


@dataclass(frozen=True)
class Result:
    """What a node is to produce: the value that is held afterwards, and how.

    Attributes:
        value: the value the tensor stands for.
        quantization: of the tensor; None for one of floats.
        activation: name out of the schema's ActivationFunctionType that is applied before the tensor is stored.
    """

    value: Value
    quantization: Quantization | None
    activation: str = "NONE"


class Emitter:
    """A model that is being written, and what holds which value."""

    def __init__(self, writer: Recorder, *, products_as_convolutions: bool = False, short_positions: bool = False) -> None:
        self.writer, self.products_as_convolutions, self.short_positions = writer, products_as_convolutions, short_positions
        self._held: dict[Value, Held] = {}

    def held(self, value: Value) -> Held:
        """What holds a computed value. Raises: EdgeccError E900 where nothing does yet."""
        if value not in self._held:
            raise EdgeccError("E900", f"nothing holds %{value.name}")
        return self._held[value]

    def alias(self, value: Value, other: Value) -> None:
        """`value` is held by what holds `other`."""
        self._held[value] = self.held(other)

    def place(self, value: Value, index: int, order: Order, quantization: Quantization | None = None) -> None:
        """`value` is held by a tensor: of integers, if it has a quantization."""
        held = Held(value.name, numbers(value.type.dims), quantization)
        (held.floats if quantization is None else held.integers)[order] = index
        self._held[value] = held

    def is_quantized(self, value: Value) -> bool:
        """Whether integers hold the value."""
        return value in self._held and self._held[value].quantization is not None

    def place_of(self, value: Value) -> tuple[int, Order] | None:
        """The tensor of integers that holds a value, and its order of axes; None where there is none."""
        held = self._held.get(value)
        return None if held is None or not held.integers else next((index, order) for order, index in held.integers.items())

    def new(self, result: Result, order: Order, dims: Sequence[int] | None = None) -> int:
        """A tensor for a result with its axes in `order`; `dims` is another shape for the tensor to have, in that order."""
        shape = tuple(numbers(result.value.type.dims)[axis] for axis in order) if dims is None else tuple(dims)
        kind = "INT8" if result.quantization is not None else _kind(result.value)
        return self.writer.tensor(result.value.name, shape, kind, result.quantization)

    # -- operands ---------------------------------------------------------------------------

    def integers(self, value: Value, order: Order) -> int:
        """The tensor that holds the integers of a quantized value with its axes in `order`."""
        held = self.held(value)
        return self._ordered(held, held.integers, order)

    def floats(self, value: Value, order: Order) -> int:
        """The tensor that holds a value as it is, with its axes in `order`; constants become tensors."""
        if quantized.is_constant(value) and value not in self._held:
            return self.constant(quantized.constant_floats(value), order, value.name)
        held = self.held(value)
        if not held.floats:
            first = next(iter(held.integers))
            index = self.writer.tensor(f"{held.name}_float", self._shape(held, first), "FLOAT32")
            self.writer.operator("DEQUANTIZE", [held.integers[first]], [index], "DequantizeOptions", 2)
            held.floats[first] = index
        return self._ordered(held, held.floats, order)

    def operand(self, value: Value, order: Order, result: Result) -> int:
        """Integers for a quantized result, floats for others."""
        return self.floats(value, order) if result.quantization is None else self.integers(value, order)

    def rescaled(self, value: Value, order: Order, quantization: Quantization) -> int:
        """Integers of a quantized or constant value in a given quantization."""
        if quantized.is_constant(value) and value not in self._held:
            steps = np.rint(quantized.constant_floats(value) / np.float32(quantization.scale)) + quantization.zero
            return self.constant(np.clip(steps, -128, 127).astype(np.int8), order, value.name, quantization)
        source = self.integers(value, order)
        if self.held(value).quantization == quantization:
            return source
        target = self.writer.tensor(f"{value.name}_rescaled", self.writer.tensors[source].shape, "INT8", quantization)
        self.writer.operator("QUANTIZE", [source], [target], "QuantizeOptions", 2)
        return target

    def constant(self, array: Array, order: Order, name: str = "constant", quantization: Quantization | None = None) -> int:
        """A constant tensor with the axes of `array` in `order`."""
        return self.writer.constant(name, np.transpose(array, order), quantization)

    def vector(self, numbers: Sequence[int], name: str) -> int:
        """A constant of int32, such as a shape."""
        return self.writer.constant(name, np.asarray(numbers, np.int32))

    def order_of(self, value: Value) -> Order:
        """The order in which a value is first held; its own for constants."""
        held = self._held.get(value)
        return plain(value.type.rank) if held is None else held.orders[0]

    def reshaped(self, index: int, dims: Sequence[int], name: str, *, into: int | None = None) -> int:
        """The elements of a tensor in another shape."""
        tensor = self.writer.tensors[index]
        if into is None:
            if tensor.shape == tuple(dims):
                return index
            into = self.writer.tensor(name, dims, tensor.kind, tensor.quantization)
        self.writer.operator("RESHAPE", [index, self.vector(dims, "shape")], [into], "ReshapeOptions", newShape=list(dims))
        return into

    def transposed(self, index: int, order: Order, name: str) -> int:
        """A tensor with its axes in another order; where only axes of one element move, the same elements in another shape."""
        tensor = self.writer.tensors[index]
        dims = [tensor.shape[axis] for axis in order]
        long = [axis for axis in order if tensor.shape[axis] != 1]
        if long == sorted(long):
            return self.reshaped(index, dims, name)
        result = self.writer.tensor(name, dims, tensor.kind, tensor.quantization)
        self.writer.operator("TRANSPOSE", [index, self.vector(order, "order")], [result], "TransposeOptions", 2)
        return result

    def padded(self, index: int, before: Sequence[int], after: Sequence[int], name: str, value: float | None = None) -> int:
        """A tensor with elements around it: zeros, which for integers are the zero point, or `value`."""
        if not any((*before, *after)):
            return index
        tensor = self.writer.tensors[index]
        dims = [b + size + a for b, size, a in zip(before, tensor.shape, after, strict=True)]
        result = self.writer.tensor(f"{name}_padded", dims, tensor.kind, tensor.quantization)
        pads = self.writer.constant("pads", np.asarray([before, after], np.int32).T)
        if value is None:
            self.writer.operator("PAD", [index, pads], [result], "PadOptions", 2)
        else:
            fill = self.writer.constant("fill", np.asarray([value], np.int8 if tensor.kind == "INT8" else np.float32), tensor.quantization)
            self.writer.operator("PADV2", [index, pads, fill], [result], "PadV2Options", 2)
        return result

    def _shape(self, held: Held, order: Order) -> tuple[int, ...]:
        return tuple(held.dims[axis] for axis in order)

    def _ordered(self, held: Held, tensors: dict[Order, int], order: Order) -> int:
        if order not in tensors:
            first = next(iter(tensors))
            tensors[order] = self.transposed(tensors[first], tuple(first.index(axis) for axis in order), held.name)
        return tensors[order]


def _kind(value: Value) -> str:
    return KINDS[value.type.dtype]

