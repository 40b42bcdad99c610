"""What happens to the sums of a contraction between the last product and the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from edgecc.errors import EdgeccError
from edgecc.ir.scalar import Arg, ScalarExpr, children
from edgecc.ir.types import Array, DType
from edgecc.kernels.fused_scale import FusedScale, fused_scale
from edgecc.kernels.integer_bounds import scale_operand
from edgecc.kernels.nearest import in_integers
from edgecc.kernels.request import Request
from edgecc.kernels.scalar_lowering import computes_in_half, lower_scalar
from edgecc.kernels.shifted_sums import BITS, by_addition
from edgecc.kernels.sum_types import convert, sum_type
from edgecc.kernels.view import View
from edgecc.loop.index import ZERO, Index
from edgecc.loop.ir import Expr, Load, Ref, Stmt, Store
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul

ADDEND = "offset"
"""The buffer of what is added to products of sums and scales."""


@dataclass(frozen=True)
class Epilogue:
    """What happens to an accumulator: an expression of it and of further operands, then the store.

    Attributes:
        expr: Arg(0) is the accumulator, Arg(i) extra operand i-1; None stores the accumulator itself.
        extras: (buffer name, view broadcast to the result's shape) of each extra operand.
        result: (buffer name, view) of the result.
        native: whether f16 is computed in f16. whole: whether sums in f32 are integers that f32 holds (`Conv.exact`).
        fractions: the extra operands that are constants of magnitudes up to 1/2.
        shifted: how small sums are known to be where they start from the bits of a float, else 0 (edgecc/kernels/shifted_sums.py).
        addend: how buffer `ADDEND` lies, which is added to the product of such a sum and its scale (edgecc/kernels/fused_scale.py).
    """

    expr: ScalarExpr | None
    extras: tuple[tuple[str, View], ...]
    result: tuple[str, View]
    native: bool = False
    fractions: frozenset[str] = frozenset()
    shifted: int = 0
    whole: bool = False
    addend: View | None = None

    def store(self, accumulator: Expr, address: Callable[[View], Index]) -> Stmt:
        """The store of one result element; `address` gives its place in a view of the result's shape."""
        name, view = self.result
        value = convert(accumulator, view.dtype)
        if self.expr is not None:
            loads = [Load(buffer, address(extra), extra.dtype) for buffer, extra in self.extras]
            value = lower_scalar(self.expr, [convert(accumulator, first_type(self.expr, view.dtype)), *loads], 1, native=self.native)
        value = in_integers(value, self.fractions, accumulator if self.whole else None)
        if self.shifted:
            addend = None if self.addend is None else Load(ADDEND, address(self.addend), DType.F32)
            value = by_addition(value, accumulator, self.shifted, addend) or value
        return Store(name, address(view), value)


def epilogue_of(request: Request, expr: ScalarExpr | None, first_extra: int) -> Epilogue:
    """The epilogue of a request whose extra operands start at `first_extra`."""
    y = request.outputs[0]
    operands = [(f"r{i}", operand) for i, operand in enumerate(request.inputs[first_extra:]) if operand is not None]
    extras = tuple((name, operand.view.broadcast_to(y.dims)) for name, operand in operands)
    fractions = frozenset(name for name, operand in operands if operand.is_fraction)
    native = request.computes_in(DType.F16) and computes_in_half(expr)
    whole = isinstance(request.op, Conv | MatMul) and request.op.exact is True
    epilogue = Epilogue(expr, extras, ("y", y), native, fractions, whole=whole)
    if not request.known_sums or sum_type(request) is not DType.I32:
        return epilogue
    total = Ref("acc", DType.I32)
    plain = epilogue.store(total, lambda view: ZERO)
    shifts = isinstance(plain, Store) and by_addition(plain.value, total, request.known_sums) is not None
    if not shifts:
        return epilogue
    channel = 1 if isinstance(request.op, Conv) else len(y.dims) - 1
    addend = View(DType.F32, y.dims, tuple(int(axis == channel) for axis in range(len(y.dims)))) if request.fused_scale else None
    return replace(epilogue, shifted=request.known_sums, addend=addend)


def start_of(request: Request) -> int:
    """What sums start from beside their bias."""
    op = request.op
    if not request.known_sums or not isinstance(op, Conv | MatMul):
        return 0
    return BITS if epilogue_of(request, op.epilogue, 3).shifted else 0


def fused_operands(request: Request) -> tuple[int, int, int] | None:
    """Weights, bias and scale among the operands of a request whose sums are multiplied with their scale in one multiply-add, else None."""
    op = request.op
    if not request.fused_scale or not isinstance(op, Conv | MatMul) or (place := scale_operand(op.epilogue)) is None:
        return None
    return (1, 2, place + 2) if epilogue_of(request, op.epilogue, 3).addend is not None else None


def fused(request: Request, weights: Array, bias: Array, scale: Array) -> FusedScale:
    """The numbers of a request with `fused_operands`, given their arrays."""
    found = fused_scale(request.op, request.operand(0).view.dtype, weights, bias, scale) if isinstance(request.op, Conv | MatMul) else None
    if found is None:
        raise EdgeccError("E900", "a sum that is to be multiplied with its scale in one multiply-add cannot be")
    return found


def first_type(expr: ScalarExpr, default: DType) -> DType:
    """The type an epilogue expects of operand 0; `default` where it does not mention it."""
    pending = [expr]
    while pending:
        node = pending.pop()
        if isinstance(node, Arg) and node.index == 0:
            return node.dtype
        pending.extend(children(node))
    return default
