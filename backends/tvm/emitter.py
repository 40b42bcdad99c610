"""Collects the bindings of a Relax function that is being written.

Operators of the Graph IR write themselves through an `Emitter` (see `rules.py`), which calls TVM. TVM is imported when the
first one is made.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.dims import numbers
from edgecc.ir.graph import Value
from edgecc.ir.types import Array, DType

TYPES: frozenset[DType] = frozenset({
    DType.F16, DType.F32, DType.F64, DType.I8, DType.I16, DType.I32, DType.I64, DType.U8, DType.U16, DType.U32, DType.U64, DType.BOOL})
"""Types of elements that are written; their names in TVM are those of numpy."""

Expr = Any
"""A variable of the Relax function, or a constant."""


def type_name(dtype: DType) -> str:
    """What TVM calls a type."""
    return str(dtype.numpy)


class Emitter:
    """Writes one function; `op` and `nn` hold the operators of Relax, `tirx` the expressions over scalars below them."""

    def __init__(self) -> None:
        self.relax: Any = importlib.import_module("tvm.relax")
        self.te: Any = importlib.import_module("tvm.te")
        self.tirx: Any = importlib.import_module("tvm.tirx")
        self.op: Any = self.relax.op
        self.nn: Any = self.relax.op.nn
        self.builder: Any = self.relax.BlockBuilder()
        self._values: dict[Value, Expr] = {}

    def bind(self, value: Value, expr: Expr) -> None:
        """`expr` stands for a value from here on."""
        self._values[value] = expr

    def expr(self, value: Value) -> Expr:
        """What stands for a value."""
        if value not in self._values:
            if value.constant is None:
                raise EdgeccError("E900", f"{value.name} is read before it is computed")
            self._values[value] = self.constant(value.constant)
        return self._values[value]

    def emit(self, expr: Expr) -> Expr:
        """Binds an operator's result to a variable."""
        return self.builder.emit(expr)

    def constant(self, array: Array) -> Expr:
        """A constant tensor."""
        return self.relax.const(np.ascontiguousarray(array).reshape(np.shape(array)), str(array.dtype))

    def scalar(self, value: float | int | bool, dtype: DType) -> Expr:
        """A constant of rank 0."""
        return self.relax.const(np.asarray(value).astype(dtype.numpy), type_name(dtype))

    def convert(self, x: Expr, source: DType, wanted: DType) -> Expr:
        """`x` in another type by TVM's cast: for conversions that lose nothing or round to nearest."""
        return x if source is wanted else self.emit(self.op.astype(x, type_name(wanted)))

    def computed(self, function: Callable[..., Any], *operands: Expr) -> Expr:
        """A function of scalars for which Relax has no operator, applied to each element of operands of one shape."""
        def elements(*tensors: Any) -> Any:
            return self.te.compute(tensors[0].shape, lambda *at: function(*(tensor(*at) for tensor in tensors)), name="elements")

        return self.builder.emit_te(elements, *operands, primfunc_name_hint="elements")

    def operand(self, value: Value, dtype: DType, dims: Sequence[int] | None = None, perm: Sequence[int] | None = None, less: int = 0) -> Expr:
        """A value in another type, less a number, in another shape or with its axes exchanged; constants are so at once, because TVM
        compiles a function for each constant that it computes.
        """
        array = value.constant
        if array is not None:
            array = array.astype(dtype.numpy) - np.asarray(less).astype(dtype.numpy) if less else array.astype(dtype.numpy)
            array = array if perm is None else array.transpose(perm)
            return self.constant(array if dims is None else array.reshape(dims))
        x = self.convert(self.expr(value), value.type.dtype, dtype)
        x = self.emit(self.op.subtract(x, self.scalar(less, dtype))) if less else x
        x = x if perm is None else self.emit(self.op.permute_dims(x, list(perm)))
        return x if dims is None else self.emit(self.op.reshape(x, tuple(dims)))

    def broadcast(self, x: Expr, dims: Sequence[int]) -> Expr:
        """`x` in a shape that it broadcasts to."""
        return self.emit(self.op.broadcast_to(x, tuple(dims)))

    def along(self, x: Array, axis: int, rank: int) -> Expr:
        """A constant vector along one axis of a tensor of `rank` axes."""
        return self.constant(x.reshape([-1 if a == axis else 1 for a in range(rank)]))


def dims_of(value: Value) -> tuple[int, ...]:
    """The shape of a value, which is made of numbers."""
    return numbers(value.type.dims)
