"""What a kernel is asked for: the operator with its attributes, how each operand and result lies in memory, and the target.

A request holds no values and no weights (constants of a few elements apart), so equal layers of a network share one kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.dims import Dim, symbol
from edgecc.ir.op import Op
from edgecc.ir.text import format_op
from edgecc.ir.types import Array, DType
from edgecc.kernels.view import View
from edgecc.loop.index import Index
from edgecc.ops.rules import NARROW_INTEGERS
from edgecc.targets.schema import Target

CHECKS = ("off", "trap", "clamp")
"""Indices computed at run time that are out of range: trusted not to occur; end the run with a status; moved into range."""
SMALL_CONSTANT_ELEMENTS = 16
"""Constants of up to so many elements are part of a request, so kernels may depend on their values."""


@dataclass(frozen=True)
class Operand:
    """An operand of a request.

    Attributes:
        view: how it lies in memory; constants are row-major.
        is_constant: whether its data is known, so that it may be packed.
        values: the data of a constant of at most `SMALL_CONSTANT_ELEMENTS` elements, flattened.
        is_fraction: whether it is a constant of floats whose magnitudes are at most 1/2, as scales of requantization are;
            only said where results are integers of 8 and 16 bits.
    """

    view: View
    is_constant: bool = False
    values: tuple[float | int | bool, ...] | None = None
    is_fraction: bool = False

    @staticmethod
    def of_constant(view: View, data: Array, result: DType) -> Operand:
        """The operand for a constant of an operator with results of type `result`."""
        values = tuple(data.reshape(-1).tolist()) if data.size <= SMALL_CONSTANT_ELEMENTS else None
        is_scale = view.dtype is DType.F32 and result in NARROW_INTEGERS
        return Operand(view, True, values, is_scale and bool(np.all(np.abs(data) <= 0.5)))


@dataclass(frozen=True)
class Request:
    """What a kernel is asked for. Hashable: the key under which lowered kernels are shared.

    `checks` says what becomes of indices computed at run time that are out of range, one of `CHECKS`.

    `precision` is the shortest float type arithmetic may be done in; shorter ones are only stored. With `rows`
    the function gets parameters row_start and row_stop and computes the rows [row_start, row_stop) of its result
    only (see edgecc/kernels/rows.py); views may then be rings. `winograd` allows the algorithm of that name, whose
    rounding errors are larger (edgecc/kernels/winograd.py).

    Sizes known only at run time are numbered; number i is parameter `size_name(i)` of the function, between the
    `bounds[i]`, both inclusive. `known_sums` says how small integer sums are known to be
    (edgecc/kernels/shifted_sums.py), `fused_scale` whether they are multiplied with their scale in one multiply-add
    (edgecc/kernels/fused_scale.py), `short_weights` whether constant weights of 8 bits are above -128, `short_sums` whether sums of
    products are below `shifted_sums.SHORT_SUM`, `stored_blocks` how many blocks of weights are not zero, if few
    (edgecc/kernels/sparse_pointwise.py). `values` are the elements of a `Sizes` operator, the starts of a `Slice`.
    """

    op: Op
    inputs: tuple[Operand | None, ...]
    outputs: tuple[View, ...]
    target: Target
    threads: int = 1
    precision: DType = DType.F32
    rows: bool = False
    winograd: bool = True
    checks: str = "clamp"
    bounds: tuple[tuple[int, int], ...] = ()
    values: tuple[Index, ...] = ()
    known_sums: int = 0
    fused_scale: bool = False
    short_weights: bool = False
    short_sums: bool = False
    stored_blocks: int = 0

    @property
    def is_open(self) -> bool:
        """Whether some size is known only at run time."""
        return bool(self.bounds)

    def computes_in(self, dtype: DType) -> bool:
        """Whether arithmetic may be done in a half-precision type itself instead of in f32: asked for, and the target has it."""
        return dtype is DType.F16 and self.precision is dtype and self.target.has("fp16")

    def operand(self, index: int) -> Operand:
        """Operand `index`, which must be present."""
        operand = self.inputs[index] if index < len(self.inputs) else None
        if operand is None:
            raise EdgeccError("E900", f"kernel of {self.op.name}: operand {index} is absent")
        return operand

    def optional(self, index: int) -> Operand | None:
        """Operand `index`, or None where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else None


def signature(request: Request) -> str:
    """A request as one line of text, without the target: the key of tuning files. Equal requests have equal signatures."""
    def view_text(view: View) -> str:
        axes = ",".join(f"{dim}:{stride}" for dim, stride in zip(view.dims, view.strides, strict=True))
        return f"{view.dtype.value}[{axes}]{f' ring {view.ring}' if view.ring else ''}"

    parts = []
    for operand in request.inputs:
        if operand is None:
            parts.append("-")
        else:
            values = "" if operand.values is None else f"={list(operand.values)}"
            parts.append(f"{'const ' if operand.is_constant else ''}{'fractions ' if operand.is_fraction else ''}{view_text(operand.view)}{values}")
    results = ", ".join(view_text(view) for view in request.outputs)
    precision = "" if request.precision is DType.F32 else f" in {request.precision.value}"
    if request.is_open:
        precision += f" sizes {[list(map(str, v.sizes)) for v in _views(request)]} of {list(request.bounds)}"
    precision += f" sums {request.known_sums}" if request.known_sums else ""
    precision += " fused scale" if request.fused_scale else ""
    precision += " short weights" if request.short_weights else ""
    precision += " short sums" if request.short_sums else ""
    precision += f" stored blocks {request.stored_blocks}" if request.stored_blocks else ""
    return (f"{format_op(request.op)} ({', '.join(parts)}) -> {results} threads={request.threads}{precision}"
            f"{' rows' if request.rows else ''}")


def size_name(number: int) -> str:
    """The parameter that is open size `number` of a request."""
    return f"size{number}"


def size_dim(request: Request, size: Index) -> Dim:
    """An open size of a request as a dimension whose symbols are the function's parameters."""
    total: Dim = size.const
    for number, bounds in enumerate(request.bounds):
        total = total + symbol(size_name(number), *bounds) * (size.coefficient(size_name(number)) or 0)
    return total


def _views(request: Request) -> tuple[View, ...]:
    return (*(operand.view for operand in request.inputs if operand is not None), *request.outputs)
