"""What happens to the sums of a contraction between the last product and the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from edgecc.ir.scalar import Arg, ScalarExpr, children
from edgecc.ir.types import DType
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
    """

    expr: ScalarExpr | None
    extras: tuple[tuple[str, View], ...]
    result: tuple[str, View]
    native: bool = False
    fractions: frozenset[str] = frozenset()
    shifted: int = 0
    whole: bool = False

    def store(self, accumulator: Expr, address: Callable[[View], Index]) -> Stmt:
        """The store of one result element; `address` gives its place in a view of the result's shape."""
        name, view = self.result
        value = convert(accumulator, view.dtype)
        if self.expr is not None:
            loads = [Load(buffer, address(extra), extra.dtype) for buffer, extra in self.extras]
            value = lower_scalar(self.expr, [convert(accumulator, first_type(self.expr, view.dtype)), *loads], 1, native=self.native)
        value = in_integers(value, self.fractions, accumulator if self.whole else None)
        if self.shifted:
            value = by_addition(value, accumulator, self.shifted) or value
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
    return replace(epilogue, shifted=request.known_sums) if shifts else epilogue


def start_of(request: Request) -> int:
    """What sums start from beside their bias."""
    op = request.op
    if not request.known_sums or not isinstance(op, Conv | MatMul):
        return 0
    return BITS if epilogue_of(request, op.epilogue, 3).shifted else 0


def first_type(expr: ScalarExpr, default: DType) -> DType:
    """The type an epilogue expects of operand 0; `default` where it does not mention it."""
    pending = [expr]
    while pending:
        node = pending.pop()
        if isinstance(node, Arg) and node.index == 0:
            return node.dtype
        pending.extend(children(node))
    return default
