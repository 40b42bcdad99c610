"""From scalar expressions (edgecc/ir/scalar.py) to Loop IR expressions, at any number of lanes.

Half-precision floats are stored, not computed with, unless a kernel asks for it: values of type f16
and bf16 are widened to f32 where they enter, all primitives work in f32, and the result is rounded once
where it leaves, which is also what the reference does. An explicit `Convert` to such a type rounds on
the way. In `native` lowering f16 has arithmetic of its own, each operation rounded to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from edgecc.ir.scalar import JUMPS, Apply, Arg, Bitcast, Convert, Literal, ScalarExpr, children
from edgecc.ir.types import DType
from edgecc.kernels.gates import Gate, gate_of
from edgecc.loop.builder import Builder, cast, number, repeat
from edgecc.loop.ir import Bitcast as LoopBitcast
from edgecc.loop.ir import Cast, Const, Expr, Op, Ref

HALF_OPERATIONS = frozenset({"add", "sub", "mul", "div", "min", "max", "neg", "abs", "sqrt", "floor", "ceil", "round",
                             "select", "lt", "le", "eq"})
"""Primitives that machines with f16 arithmetic have for it."""

SMALLEST_DIVISOR = 2.0**-60
"""Quotients by numbers between this and its reciprocal are products: neither part of the reciprocal underflows."""


def compute_type(dtype: DType, *, native: bool = False) -> DType:
    """The type in which values of `dtype` are computed with: f32 for the short floats (f16 not if `native`), else itself."""
    return DType.F32 if dtype is DType.BF16 or (dtype is DType.F16 and not native) else dtype


def computes_in_half(expr: ScalarExpr | None) -> bool:
    """Whether everything that `expr` does with f16 is one of `HALF_OPERATIONS`."""
    pending = [] if expr is None else [expr]
    seen: set[int] = set()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        below = children(node)
        if isinstance(node, Apply) and node.op not in HALF_OPERATIONS and any(c.dtype is DType.F16 for c in below):
            return False
        pending.extend(below)
    return True


def lower_scalar(expr: ScalarExpr, operands: Sequence[Expr], lanes: int = 1, builder: Builder | None = None, *,
                 native: bool = False) -> Expr:
    """`expr` over `operands` (`Arg(i)` is `operands[i]`) as a Loop IR expression of type `expr.dtype`.

    Operands have the type of their `Arg`, or its `compute_type`; scalars among them are repeated.
    With a `builder`, whatever is used more than once is bound to a local first, so fused chains such
    as x*sigmoid(x) stay linear in size; without one such parts are repeated in the expression. With
    `native` f16 is computed in f16.
    """
    return _Lowering(expr, operands, lanes, builder, native).result()


class _Lowering:
    """Lowers one expression. Equal subtrees are one item (hash consing), each with its number of uses."""

    def __init__(self, expr: ScalarExpr, operands: Sequence[Expr], lanes: int, builder: Builder | None, native: bool) -> None:
        self._native = native
        self._operands = operands
        self._lanes = lanes
        self._builder = builder
        self._keys: dict[tuple[object, ...], int] = {}
        self._items: list[ScalarExpr] = []
        self._operands_of: list[tuple[int, ...]] = []
        self._by_identity: dict[int, int] = {}
        self._dtype = expr.dtype
        self._root = self._intern(expr)
        self._uses = [0] * len(self._items)
        for own in self._operands_of:
            for item in own:
                self._uses[item] += 1
        self._rounded = self._below_jumps()
        self._lowered: list[Expr] = []

    def _below_jumps(self) -> set[int]:
        """Items that are rounded to an integer: the last bit of a quotient may decide about a tie, so none may differ."""
        found: set[int] = set()
        for item in reversed(range(len(self._items))):
            expr = self._items[item]
            jumps = (isinstance(expr, Apply) and expr.op in JUMPS) or (
                isinstance(expr, Convert) and expr.arg.dtype.is_float and not expr.dtype.is_float)
            if jumps or item in found:
                found.update(self._operands_of[item])
        return found

    def _intern(self, expr: ScalarExpr) -> int:
        known = self._by_identity.get(id(expr))
        if known is not None:
            return known
        below = tuple(self._intern(child) for child in children(expr))
        key: tuple[object, ...]
        match expr:
            case Arg(index=index, dtype=dtype):
                key = ("arg", index, dtype)
            case Literal(value=value, dtype=dtype):
                key = ("literal", repr(value), dtype)
            case Apply(op=op, dtype=dtype):
                key = (op, dtype, below)
            case Convert(dtype=dtype):
                key = ("convert", dtype, below)
            case Bitcast(dtype=dtype):
                key = ("bitcast", dtype, below)
        item = self._keys.get(key)
        if item is None:
            item = self._keys[key] = len(self._items)
            self._items.append(expr)
            self._operands_of.append(below)
        self._by_identity[id(expr)] = item
        return item

    def result(self) -> Expr:
        """Items are numbered operands first, so one sweep lowers them all."""
        for item, expr in enumerate(self._items):
            value = self._lower(item, expr, [self._lowered[i] for i in self._operands_of[item]])
            if self._builder is not None and self._uses[item] > 1 and not isinstance(value, Ref | Const):
                value = self._builder.let("t", value)
            self._lowered.append(value)
        value = self._lowered[self._root]
        if isinstance(value, Cast) and value.arg.dtype is self._dtype and value.dtype is self._computed(self._dtype):
            return repeat(value.arg, self._lanes)  # widened and not used: nothing was rounded in between
        return repeat(cast(value, self._dtype), self._lanes)

    def _computed(self, dtype: DType) -> DType:
        return compute_type(dtype, native=self._native)

    def _lower(self, item: int, expr: ScalarExpr, below: list[Expr]) -> Expr:
        match expr:
            case Arg(index=index, dtype=dtype):
                operand = self._operands[index]
                if operand.dtype not in (dtype, self._computed(dtype)):
                    raise ValueError(f"operand {index} has type {operand.dtype.value}, not {dtype.value}")
                return repeat(cast(operand, self._computed(dtype)), self._lanes)
            case Literal(value=value, dtype=dtype):
                return number(value, self._computed(dtype), self._lanes)
            case Convert(dtype=dtype):
                rounded = below[0] if expr.arg.dtype is dtype else cast(below[0], dtype)
                return cast(rounded, self._computed(dtype))
            case Bitcast(arg=arg, dtype=dtype):
                return cast(LoopBitcast(cast(below[0], arg.dtype), dtype), self._computed(dtype))
            case Apply(op=op, dtype=dtype):
                divisor = below[-1]
                if op in ("mul", "div") and self._computed(dtype) is DType.F32 and item not in self._rounded:
                    gate = gate_of(expr, lambda a, b: self._by_identity[id(a)] == self._by_identity[id(b)])
                    if gate is not None:
                        return self._gated(gate)
                if op == "div" and isinstance(divisor, Const) and self._computed(dtype) is DType.F32 and item not in self._rounded:
                    return _quotient(below[0], divisor)
                gated = self._gated_by_itself(item)
                if op == "mul" and gated is not None and self._computed(dtype) is DType.F32:
                    return Op("gated", (below[gated], below[gated]), DType.F32, self._lanes)
                return Op(op, tuple(below), self._computed(dtype), self._lanes)


    def _gated(self, gate: Gate) -> Expr:
        """The function for a gated product: 0.5 * (1 + tanh(u)) is 1 / (1 + e^-2u)."""
        factor = self._lowered[self._by_identity[id(gate.factor)]]
        if gate.argument is None:
            return Op("gelu", (factor,), DType.F32, self._lanes)
        argument = self._lowered[self._by_identity[id(gate.argument)]]
        return Op("gated", (factor, Op("add", (argument, argument), DType.F32, self._lanes)), DType.F32, self._lanes)

    def _gated_by_itself(self, item: int) -> int | None:
        """Which operand of a product x * sigmoid(x) is x, where nothing else needs the sigmoid."""
        own = self._operands_of[item]
        for position, other in ((0, own[-1]), (1, own[0])):
            factor = self._items[other]
            if (len(own) == 2 and isinstance(factor, Apply) and factor.op == "sigmoid" and self._uses[other] == 1
                    and self._operands_of[other] == (own[position],) and item not in self._rounded):
                return position
        return None


def _quotient(dividend: Expr, divisor: Const) -> Expr:
    """dividend / divisor for a known divisor in f32, without a division where the reciprocal is an ordinary number.

    The reciprocal is held in two parts of one sign, so that infinities stay what they are; together they are right to
    2^-47. A quotient that f32 can hold therefore is exact, and others are rounded as a division rounds them but in one
    case out of millions (N. Brisebarre and J.-M. Muller, "Correctly rounded multiplication by arbitrary precision
    constants", IEEE Transactions on Computers 57(2), 2008).
    """
    value = float(np.float32(divisor.value))
    if not SMALLEST_DIVISOR <= abs(value) <= 1.0 / SMALLEST_DIVISOR:
        return Op("div", (dividend, divisor), divisor.dtype, divisor.lanes)
    exact = 1 / Fraction(value)
    high = np.float32(float(exact))
    if abs(Fraction(float(high))) > abs(exact):
        high = np.nextafter(high, np.float32(0.0))
    low = np.float32(float(exact - Fraction(float(high))))

    def constant(part: np.float32) -> Const:
        return Const(float(part), divisor.dtype, divisor.lanes)

    if low == 0.0:
        return Op("mul", (dividend, constant(high)), divisor.dtype, divisor.lanes)
    rest = Op("mul", (dividend, constant(low)), divisor.dtype, divisor.lanes)
    return Op("fma", (dividend, constant(high), rest), divisor.dtype, divisor.lanes)
