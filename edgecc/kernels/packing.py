"""Packing and unpacking of elements of less than 8 bits.

Scalar loops over bytes without branches: C compilers turn their interleaved accesses into vectors.
"""

from __future__ import annotations

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.view import View
from edgecc.loop.builder import cast, operation
from edgecc.loop.index import Index, const
from edgecc.loop.ir import Buffer, Expr
from edgecc.ops.packing import Pack, Unpack


def _row_major(view: View) -> None:
    if not view.is_row_major:
        raise EdgeccError("E112", "packed elements lie in row-major order")


@kernel_for(Unpack)
def lower_unpack(request: Request) -> Kernel:
    """A loop over the bytes, and the elements of a byte that is not full behind it."""
    op, y_view = request.op, request.outputs[0]
    if not isinstance(op, Unpack):
        raise TypeError(op)
    _row_major(y_view)
    b = KernelBuilder(request, f"unpack_{'i' if op.signed else 'u'}{op.bits}", f"{shape_text(y_view)} elements of {op.bits} bits")
    x, y = b.input(0, "x"), b.output(0, "y")
    per_byte = 8 // op.bits
    whole, rest = divmod(y_view.elements, per_byte)

    def elements(at: Index, count: int) -> None:
        byte = b.let("byte", cast(b.load(x, at), DType.I32))
        for j in range(count):
            if op.signed:
                value: Expr = operation("shift_right", operation("shift_left", byte, 32 - op.bits * (j + 1)), 32 - op.bits)
            else:
                value = operation("bit_and", operation("shift_right", byte, op.bits * j), (1 << op.bits) - 1)
            b.store(y, at * per_byte + j, cast(value, y.dtype))

    with b.loop("i", whole) as i:
        elements(i, per_byte)
    if rest:
        elements(const(whole), rest)
    return b.kernel(choice=f"{per_byte} elements a step")


@kernel_for(Pack)
def lower_pack(request: Request) -> Kernel:
    """A loop over the bytes, and a byte that is not full behind it."""
    op, x_view = request.op, request.operand(0).view
    if not isinstance(op, Pack):
        raise TypeError(op)
    _row_major(x_view)
    b = KernelBuilder(request, f"pack_{op.bits}", f"{shape_text(x_view)} elements of {op.bits} bits")
    x, y = b.input(0, "x"), b.output(0, "y")
    per_byte = 8 // op.bits
    whole, rest = divmod(x_view.elements, per_byte)

    def byte(at: Index, count: int) -> None:
        b.store(y, at, cast(_packed(b, x, at * per_byte, op.bits, count), DType.U8))

    with b.loop("i", whole) as i:
        byte(i, per_byte)
    if rest:
        byte(const(whole), rest)
    return b.kernel(choice=f"{per_byte} elements a step")


def _packed(b: KernelBuilder, x: Buffer, first: Index, bits: int, count: int) -> Expr:
    value: Expr | None = None
    for j in range(count):
        element = operation("bit_and", cast(b.load(x, first + j), DType.I32), (1 << bits) - 1)
        moved = operation("shift_left", element, bits * j) if j else element
        value = moved if value is None else operation("bit_or", value, moved)
    if value is None:
        raise EdgeccError("E900", "a byte without elements")
    return value
