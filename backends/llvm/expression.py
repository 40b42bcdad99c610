"""Expressions and indices of the Loop IR as LLVM instructions."""

from __future__ import annotations

import math

from edgecc.backends.llvm import conversions, halves, memory
from edgecc.backends.llvm.dots import dot
from edgecc.backends.llvm.floats import MathHelper, floating
from edgecc.backends.llvm.integers import boolean, integer, shift_by
from edgecc.backends.llvm.narrow import narrow
from edgecc.backends.llvm.scope import Scope
from edgecc.backends.llvm.tables import looked_up
from edgecc.backends.llvm.types import constant, element_type, held_type, memory_type, register_type
from edgecc.backends.llvm.writer import Writer
from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.loop.bounds import least
from edgecc.loop.dot import DOTS
from edgecc.loop.index import Atom, Index, IndexOf, IndexOp, LoopVar
from edgecc.loop.ir import Bitcast, Broadcast, Cast, Const, Expr, FromIndex, Horizontal, Lane, Load, Op, Ref
from edgecc.loop.narrow import NARROW
from edgecc.loop.rewrite import joined_by_shift
from edgecc.loop.tables import TABLES


class ExpressionWriter:
    """Writes the instructions of expressions; a value is the text of an operand."""

    def __init__(self, writer: Writer, scope: Scope, helper: MathHelper) -> None:
        self.w = writer
        self.scope = scope
        self._helper = helper

    # -- indices ----------------------------------------------------------------------------------

    def index(self, index: Index) -> str:
        """An index as an i64."""
        if index.is_const:
            return str(index.const)
        variable = self._variable(index)
        return variable if index.const == 0 else self.w.op("add nsw", "i64", variable, str(index.const))

    def _variable(self, index: Index) -> str:
        """The part of an index that is no constant."""
        known = self.scope.indices.get(index.terms)
        if known is not None:
            return known
        total = ""
        for atom, coefficient in index.terms:
            value = self._atom(atom)
            if coefficient != 1:
                value = self.w.op("mul nsw", "i64", value, str(coefficient))
            total = value if not total else self.w.op("add nsw", "i64", total, value)
        if _is_fixed(index):
            self.scope.indices[index.terms] = total
        return total

    def _atom(self, atom: Atom) -> str:
        match atom:
            case LoopVar(name=name):
                return self.scope.local(name).text
            case IndexOf(expr=expr):
                return conversions.cast(self.w, self.expr(expr), expr.dtype, DType.I64, 1)
            case IndexOp(op="min" | "max" as op, args=args):
                return self.w.intrinsic(f"s{op}", "i64", self.index(args[0]), self.index(args[1]))
            case IndexOp(op="floordiv" | "mod" as op, args=args):
                low = least(args[0], self._low)
                dividend, divisor = self.index(args[0]), str(args[1].const)
                if low is not None and low >= 0:
                    return self.w.op("udiv" if op == "floordiv" else "urem", "i64", dividend, divisor)
                quotient, rest = (self.w.op(name, "i64", dividend, divisor) for name in ("sdiv", "srem"))
                below = self.w.op("icmp slt", "i64", rest, "0")
                if op == "floordiv":
                    return self.w.op("add", "i64", quotient, self.w.convert("sext", "i1", below, "i64"))
                return self.w.op("add", "i64", rest, self.w.select("i1", below, "i64", divisor, "0"))
        raise EdgeccError("E900", f"LLVM back end: no index operation {atom.op!r}")

    def low(self, index: Index) -> int | None:
        """A number the index certainly is not below; None where there is none."""
        return least(index, self._low)

    def _low(self, name: str) -> int | None:
        local = self.scope.names.get(name)
        return None if local is None else local.low

    def pointer(self, buffer: str, index: Index) -> str:
        """The address of an element of a buffer."""
        for element, pointer in self.scope.pointers.get(buffer, {}).items():
            if (index - element).is_const:
                return self._step(buffer, pointer, (index - element).const)
        base = self.scope.local(buffer).text
        if index.is_const:
            return self._step(buffer, base, index.const)
        key = (buffer, index.terms)
        address = self.scope.addresses.get(key)
        if address is None:
            kind = memory_type(self.scope.buffer_type(buffer))
            address = self.w.let(f"getelementptr inbounds {kind}, ptr {base}, i64 {self._variable(index)}", f"{buffer}_at")
            if _is_fixed(index):
                self.scope.addresses[key] = address
        return self._step(buffer, address, index.const)

    def _step(self, buffer: str, pointer: str, elements: int) -> str:
        if elements == 0:
            return pointer
        kind = memory_type(self.scope.buffer_type(buffer))
        return self.w.let(f"getelementptr inbounds {kind}, ptr {pointer}, i64 {elements}", f"{buffer}_at")

    # -- expressions ------------------------------------------------------------------------------

    def expr(self, expr: Expr) -> str:
        """The operand that is the value of an expression."""
        match expr:
            case Const(value=value, dtype=dtype, lanes=lanes):
                return constant(value, dtype, self._held(dtype, lanes), lanes)
            case Ref(name=name):
                return self.scope.local(name).text
            case Load(buffer=buffer, index=index, dtype=dtype, lanes=lanes, stride=stride, valid=valid):
                return memory.load(self.w, dtype, lanes, self.pointer(buffer, index), valid or lanes, stride)
            case Op():
                return self._op(expr)
            case Cast(arg=arg, dtype=dtype):
                return conversions.cast(self.w, self.expr(arg), arg.dtype, dtype, arg.lanes)
            case Bitcast(arg=arg, dtype=dtype):
                return conversions.bitcast(self.w, self.expr(arg), arg.dtype, dtype, arg.lanes)
            case Broadcast(arg=arg, lanes=lanes):
                return self._broadcast(arg, lanes)
            case Lane(arg=arg, position=position):
                return self._lane(arg, position)
            case Horizontal(op=op, arg=arg):
                return self._horizontal(op, arg)
            case FromIndex(index=index, dtype=dtype):
                return conversions.cast(self.w, self.index(index), DType.I64, dtype, 1)

    def scalar(self, value: Const | Broadcast) -> str:
        """What stands in every lane, as a scalar."""
        return self.expr(Const(value.value, value.dtype) if isinstance(value, Const) else value.arg)

    def kind(self, dtype: DType, lanes: int) -> str:
        """LLVM type of a value."""
        return register_type(self.w.machine.isa, dtype, lanes)

    def _held(self, dtype: DType, lanes: int) -> DType:
        return held_type(self.w.machine.isa, dtype, lanes)

    def _broadcast(self, arg: Expr, lanes: int) -> str:
        if isinstance(arg, Const):
            return constant(arg.value, arg.dtype, self._held(arg.dtype, lanes), lanes)
        value = self.expr(arg)
        if lanes == 1:
            return value
        held = self._held(arg.dtype, lanes)
        if held is DType.F16:  # scalars are floats
            value = halves.truncate(self.w, value, 1)
        return memory.broadcast(self.w, element_type(held), value, lanes)

    def _lane(self, arg: Expr, position: int) -> str:
        value, held = self.expr(arg), self._held(arg.dtype, arg.lanes)
        if arg.lanes == 1:
            return value
        found = memory.part(self.w, element_type(held), arg.lanes, value, position, 1)
        return halves.extend(self.w, found, 1) if held is DType.F16 else found

    def _horizontal(self, op: str, arg: Expr) -> str:
        """All lanes combined, the upper half with the lower one until one is left."""
        value, lanes, dtype = self.expr(arg), arg.lanes, arg.dtype
        held = self._held(dtype, lanes)
        element = element_type(held)
        working = dtype if held is DType.F16 or not dtype.is_float else held
        while lanes > 1:
            lanes //= 2
            low, high = (memory.part(self.w, element, 2 * lanes, value, start, lanes) for start in (0, lanes))
            if held is DType.F16 and lanes not in self.w.machine.isa.half_lanes:
                value = self._narrow_half(op, lanes, low, high)
            else:
                value = self.primitive(op, working, lanes, [low, high])
        if held is DType.F16 and arg.lanes > 1:
            return halves.extend(self.w, value, 1)
        if working is not dtype and op in ("add", "mul"):
            return halves.normalize(self.w, dtype, value, 1)
        return value

    def _narrow_half(self, op: str, lanes: int, low: str, high: str) -> str:
        """Halves in fewer lanes than have arithmetic of their own."""
        wide = [halves.extend(self.w, value, lanes) for value in (low, high)]
        return halves.truncate(self.w, self.primitive(op, DType.F32, lanes, wide), lanes)

    def _op(self, op: Op) -> str:
        args = op.args
        operand = args[1] if op.op == "select" else args[0]
        dtype, lanes = operand.dtype, op.lanes
        if op.op in DOTS:
            return dot(self.w, op.op, lanes, [self.expr(a) for a in args])
        first = args[0]
        if op.op == "interleave" and isinstance(first, Load) and args == tuple(
                Load(first.buffer, first.index + place, dtype, lanes, 4 if lanes > 1 else first.stride) for place in range(4)):
            return memory.words(self.w, lanes, self.pointer(first.buffer, first.index))
        if op.op == "join_words":
            return self.expr(joined_by_shift(op))
        if op.op in NARROW:
            return narrow(self.w, op.op, lanes, [self.expr(a) for a in args])
        if op.op in TABLES:
            return looked_up(self.w, op.op, lanes, [self.expr(a) for a in args])
        if op.op in ("min", "max") and dtype.is_float:
            for first, second in (args, args[::-1]):
                number = _constant_of(second)
                if number is not None and not math.isnan(float(number.value)):
                    return self.primitive(f"{op.op}_const", dtype, lanes, [self.expr(first), self.expr(second)])
        if op.op in ("shift_left", "shift_right"):
            number = _constant_of(args[1])
            if number is not None and 0 <= int(number.value) < dtype.size * 8:
                value = self.expr(args[0])
                return shift_by(self.w, op.op, dtype, lanes, value, int(number.value)) if number.value else value
        return self.primitive(op.op, dtype, lanes, [self.expr(a) for a in args])

    def primitive(self, op: str, dtype: DType, lanes: int, args: list[str]) -> str:
        """A primitive on operands of `dtype`. Raises: EdgeccError E900 where there is none."""
        if dtype is DType.BOOL:
            found = boolean(self.w, op, lanes, args)
        elif dtype.is_float and not dtype.is_stored_only:
            found = floating(self.w, op, dtype, lanes, args, self._helper)
        else:
            found = integer(self.w, op, dtype, lanes, args)
        if found is None:
            raise EdgeccError("E900", f"LLVM back end: no operation {op} on {dtype.value}")
        return found


def _is_fixed(index: Index) -> bool:
    """Whether an index is the same as long as its variables are: nothing in it is read from memory or a register."""
    return all(isinstance(atom, LoopVar) or (isinstance(atom, IndexOp) and all(map(_is_fixed, atom.args)))
               for atom, _ in index.terms)


def _constant_of(expr: Expr) -> Const | None:
    match expr:
        case Const():
            return expr
        case Broadcast(arg=Const() as number):
            return number
    return None
