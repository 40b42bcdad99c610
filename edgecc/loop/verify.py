"""The verifier of the Loop IR.

Invariants, each checked by `verify_function`:

 1. Names are C identifiers. Buffers and parameters have distinct names; no local or loop variable has the name
    of one of them or of a local or variable that is in sight (neighbouring blocks may use a name again).
 2. Every `Ref` names a local in sight and has its type and lanes; indices name variables of enclosing loops or
    parameters.
 3. `Assign` gives a declared register (not a `Let`) a value of its type and lanes.
 4. `Load`, `Store`, `Prefetch` and `Reload` name a buffer, the first two use its element type; inputs are never written; `valid` lies between
    0 and the number of lanes.
 5. Operators have the operands their primitive wants: number, equal types and lanes, a type it takes; the
    result has the type the primitive gives. "fma" takes three floats or integers of one type, a grouped product two
    vectors of u32 and a sum (edgecc/loop/dot.py).
 6. `Broadcast` takes a scalar, `Lane` a lane that exists, `Horizontal` a power of two of lanes, `Bitcast` types
    of equal size, `FromIndex` gives a number; lanes are positive.
 7. Conditions are bool scalars; a value used as an index is an integer scalar; division and remainder
    of indices are by positive constants.
 8. Steps are positive; loops are "serial" or "parallel". A parallel loop stands at the top level, and its
    iterations assign no register declared outside.
 9. No access is provably outside its buffer: addresses that are affine in loop variables with constant bounds
    are checked exactly, others where the whole range of addresses is outside. (What stands under an `If` may
    never run and is left to the interpreter.)
    A parameter takes every value between its bounds, and two parameters do so independently of each other.
10. Buffers have a role, a non-negative size and an alignment that is a power of two; the least value of a
    parameter is at most its largest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from edgecc.errors import EdgeccError
from edgecc.ir.scalar import PRIMITIVES, accepts
from edgecc.ir.types import DType
from edgecc.loop.activations import ACTIVATIONS
from edgecc.loop.dot import DOTS
from edgecc.loop.index import Index, IndexOf, IndexOp, LoopVar
from edgecc.loop.ir import (
    Assign,
    Bitcast,
    Body,
    Broadcast,
    Cast,
    Const,
    Declare,
    Expr,
    For,
    FromIndex,
    Function,
    Horizontal,
    If,
    Lane,
    Let,
    Load,
    Op,
    Prefetch,
    Ref,
    Reload,
    Stmt,
    Store,
)
from edgecc.loop.narrow import LOOKUP_LANES, NARROW, PART_LANES
from edgecc.loop.text import expr_text, index_text, statement_text

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def verify_function(function: Function) -> None:
    """Checks every invariant listed in this module's docstring.

    Raises: EdgeccError E904 naming the invariant, the function and the statement.
    """
    _Verifier(function).run()


@dataclass(frozen=True)
class _Range:
    """The values an index takes: all of them between the bounds; `exact` if both bounds are reached.

    `chosen`: which of them it takes depends on parameters, so that it is not independent of other such indices.
    """

    low: int
    high: int
    exact: bool
    chosen: bool = False


@dataclass(frozen=True)
class _Local:
    """A local in sight: its type, and whether it may be assigned here."""

    dtype: DType
    lanes: int
    register: bool
    assignable: bool = True


class _Verifier:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.buffers = {b.name: b for b in function.buffers}
        self.locals: dict[str, _Local] = {}
        self.loops: dict[str, _Range | None] = {}
        self.parameters: dict[str, _Range] = {}
        self.statement: Stmt | None = None
        self.guarded = False

    def fail(self, invariant: int, message: str) -> NoReturn:
        where = self.function.name
        if self.statement is not None:
            where += f": {statement_text(self.statement)}"
        raise EdgeccError("E904", f"invariant {invariant}: {message}", where=where)

    def run(self) -> None:
        function = self.function
        self.identifier(function.name)
        if len(self.buffers) != len(function.buffers):
            self.fail(1, "two buffers share a name")
        for buffer in function.buffers:
            self.identifier(buffer.name)
            if buffer.role not in ("input", "output", "workspace"):
                self.fail(10, f"buffer {buffer.name} has role {buffer.role!r}")
            if buffer.elements < 0 or buffer.align <= 0 or buffer.align & (buffer.align - 1):
                self.fail(10, f"buffer {buffer.name} has {buffer.elements} elements and alignment {buffer.align}")
        for parameter in function.parameters:
            self.fresh(parameter.name)
            if parameter.minimum > parameter.maximum:
                self.fail(10, f"parameter {parameter.name} lies between {parameter.minimum} and {parameter.maximum}")
            self.parameters[parameter.name] = _Range(parameter.minimum, parameter.maximum, exact=True, chosen=True)
        self.body(function.body, top_level=True)

    def identifier(self, name: str) -> None:
        if not _IDENTIFIER.match(name):
            self.fail(1, f"{name!r} is not an identifier")

    def fresh(self, name: str) -> None:
        self.identifier(name)
        if name in self.buffers or name in self.parameters or name in self.locals or name in self.loops:
            self.fail(1, f"{name} is already in use here")

    # statements

    def body(self, body: Body, *, top_level: bool = False) -> None:
        outer = self.locals
        self.locals = dict(outer)
        for stmt in body:
            self.statement = stmt
            match stmt:
                case For():
                    self.loop(stmt, top_level)
                case Let(name=name, value=value) | Declare(name=name, value=value):
                    self.expr(value)
                    self.fresh(name)
                    self.locals[name] = _Local(value.dtype, value.lanes, isinstance(stmt, Declare))
                case Assign(name=name, value=value):
                    self.assign(name, value)
                case Store(buffer=buffer, index=index, value=value, stride=stride, valid=valid):
                    self.expr(value)
                    self.access(buffer, index, value.dtype, value.lanes, stride, valid)
                    if self.buffers[buffer].role == "input":
                        self.fail(4, f"{buffer} is an input")
                case Prefetch(buffer=buffer, index=index) | Reload(buffer=buffer, index=index):
                    if buffer not in self.buffers:
                        self.fail(4, f"{buffer} is not a buffer")
                    self.index(index)
                case If(condition=condition, then=then, orelse=orelse):
                    self.expr(condition)
                    if condition.dtype is not DType.BOOL or condition.lanes != 1:
                        self.fail(7, f"the condition is {_type_text(condition)}")
                    was_guarded, self.guarded = self.guarded, True
                    self.body(then)
                    self.body(orelse)
                    self.guarded = was_guarded
        self.locals = outer

    def loop(self, loop: For, top_level: bool) -> None:
        start, stop = self.index(loop.start), self.index(loop.stop)
        self.fresh(loop.var)
        if loop.step <= 0 or loop.kind not in ("serial", "parallel"):
            self.fail(8, f"step {loop.step}, kind {loop.kind!r}")
        if loop.kind == "parallel" and not top_level:
            self.fail(8, "a parallel loop inside another statement")
        outer = self.locals
        if loop.kind == "parallel":
            self.locals = {n: _Local(v.dtype, v.lanes, v.register, assignable=False) for n, v in outer.items()}
        was_guarded = self.guarded
        self.loops[loop.var] = self.iterations(loop, start, stop)
        self.guarded = was_guarded or self.loops[loop.var] is None
        self.body(loop.body)
        del self.loops[loop.var]
        self.locals, self.guarded = outer, was_guarded

    def iterations(self, loop: For, start: _Range | None, stop: _Range | None) -> _Range | None:
        """The values of the loop variable; None where they are unknown or there may be none."""
        if start is None or stop is None:
            return None
        chosen = start.chosen or stop.chosen
        if chosen and self.is_free(loop.start) and self.is_free(loop.stop) and (loop.extent is None or loop.extent > 0):
            # Some call runs from the least start to the largest stop.
            exact = loop.step == 1 and stop.high > start.low
            return _Range(start.low, stop.high - 1, exact, chosen) if stop.high > start.low else None
        if stop.low <= start.high:
            return None
        if start.low == start.high and stop.low == stop.high:
            extent = -(-(stop.low - start.low) // loop.step)
            return _Range(start.low, start.low + (extent - 1) * loop.step, exact=True)
        return _Range(start.low, stop.high - 1, exact=False, chosen=chosen)

    def is_free(self, index: Index) -> bool:
        """Whether an index is a constant plus at most one parameter."""
        atoms = [atom for atom, coefficient in index.terms if coefficient == 1]
        return len(index.terms) == len(atoms) <= 1 and all(
            isinstance(atom, LoopVar) and atom.name in self.parameters for atom in atoms)

    def assign(self, name: str, value: Expr) -> None:
        self.expr(value)
        local = self.locals.get(name)
        if local is None or not local.register:
            self.fail(3, f"{name} is not a declared register")
        if not local.assignable:
            self.fail(8, f"a parallel loop assigns {name}, which is declared outside")
        if (local.dtype, local.lanes) != (value.dtype, value.lanes):
            self.fail(3, f"{name} is {_typed(local.dtype, local.lanes)}, the value is {_type_text(value)}")

    # accesses and indices

    def access(self, name: str, index: Index, dtype: DType, lanes: int, stride: int, valid: int) -> None:
        buffer = self.buffers.get(name)
        if buffer is None:
            self.fail(4, f"{name} is not a buffer")
        if buffer.dtype is not dtype:
            self.fail(4, f"{name} holds {buffer.dtype.value}, it is accessed as {dtype.value}")
        if lanes < 1 or not 0 <= valid <= lanes:
            self.fail(4, f"{valid} of {lanes} lanes are valid")
        values = self.index(index)
        if values is None or self.guarded:
            return
        reach = ((valid or lanes) - 1) * stride
        low, high = values.low + min(0, reach), values.high + max(0, reach)
        outside = low < 0 or high >= buffer.elements
        entirely = values.high + min(0, reach) < 0 or values.low + max(0, reach) >= buffer.elements
        if entirely or (values.exact and outside):
            place = f"{low}..{high}" if low != high else str(low)
            self.fail(9, f"{index_text(index)} reaches {place}, {name} has {buffer.elements} elements")

    def index(self, index: Index) -> _Range | None:
        """Checks an index and returns the range of its values, or None where nothing is known."""
        low = high = index.const
        exact, known, chosen = True, True, 0
        for atom, coefficient in index.terms:
            match atom:
                case LoopVar(name=name):
                    values = self.parameters.get(name, self.loops.get(name))
                    if values is None and name not in self.loops:
                        self.fail(2, f"{name} is neither the variable of an enclosing loop nor a parameter")
                case IndexOp(op=op, args=args):
                    values = self.index_operation(op, args)
                    exact = exact and len(index.terms) == 1
                case IndexOf(expr=expr):
                    self.expr(expr)
                    if not expr.dtype.is_integer or expr.lanes != 1:
                        self.fail(7, f"{expr_text(expr)} is {_type_text(expr)} and used as an index")
                    values = None
            if values is None:
                known = False
                continue
            ends = (values.low * coefficient, values.high * coefficient)
            low, high = low + min(ends), high + max(ends)
            exact = exact and values.exact
            chosen += values.chosen
        return _Range(low, high, exact and chosen < 2, chosen > 0) if known else None

    def index_operation(self, op: str, args: tuple[Index, ...]) -> _Range | None:
        if op not in ("floordiv", "mod", "min", "max") or len(args) != 2:
            self.fail(7, f"no index operation {op} of {len(args)} operands")
        a, b = self.index(args[0]), self.index(args[1])
        if op in ("floordiv", "mod"):
            divisor = args[1].const
            if not args[1].is_const or divisor <= 0:
                self.fail(7, f"{op} by {index_text(args[1])}")
            if op == "mod":
                return _Range(0, divisor - 1, exact=False, chosen=a is not None and a.chosen)
            return None if a is None else _Range(a.low // divisor, a.high // divisor, a.exact, a.chosen)
        if a is None or b is None:
            return None
        pick = min if op == "min" else max
        return _Range(pick(a.low, b.low), pick(a.high, b.high), exact=False, chosen=a.chosen or b.chosen)

    # expressions

    def expr(self, expr: Expr) -> None:
        for child in expr.children():
            self.expr(child)
        match expr:
            case Const(lanes=lanes):
                if lanes < 1:
                    self.fail(6, f"{lanes} lanes")
            case Ref(name=name, dtype=dtype, lanes=lanes):
                local = self.locals.get(name)
                if local is None:
                    self.fail(2, f"{name} is not a local in sight")
                if (local.dtype, local.lanes) != (dtype, lanes):
                    self.fail(2, f"{name} is {_typed(local.dtype, local.lanes)}, referred to as {_typed(dtype, lanes)}")
            case Load(buffer=buffer, index=index, dtype=dtype, lanes=lanes, stride=stride, valid=valid):
                self.access(buffer, index, dtype, lanes, stride, valid)
            case Op():
                self.operation(expr)
            case Cast():
                pass
            case Bitcast(arg=arg, dtype=dtype):
                if arg.dtype.size != dtype.size:
                    self.fail(6, f"bitcast of {arg.dtype.value} to {dtype.value}")
            case Broadcast(arg=arg, lanes=lanes):
                if arg.lanes != 1 or lanes < 1:
                    self.fail(6, f"broadcast of {_type_text(arg)} to {lanes} lanes")
            case Lane(arg=arg, position=position):
                if not 0 <= position < arg.lanes:
                    self.fail(6, f"lane {position} of {_type_text(arg)}")
            case Horizontal(op=op, arg=arg):
                if op not in ("add", "max", "min", "mul") or arg.lanes & (arg.lanes - 1):
                    self.fail(6, f"horizontal {op} of {_type_text(arg)}")
            case FromIndex(index=index, dtype=dtype):
                self.index(index)
                if dtype is DType.BOOL:
                    self.fail(6, "an index read as bool")

    def operation(self, expr: Op) -> None:
        row = PRIMITIVES.get(expr.op)
        dot, narrow = DOTS.get(expr.op), NARROW.get(expr.op)
        arity = 3 if expr.op == "fma" or dot is not None else narrow.arity if narrow is not None else ACTIVATIONS[expr.op].arity if expr.op in ACTIVATIONS else 0 if row is None else row.arity
        if arity == 0 or len(expr.args) != arity:
            self.fail(5, f"no primitive {expr.op} of {len(expr.args)} operands")
        kinds = ", ".join(_type_text(a) for a in expr.args)
        if any(a.lanes != expr.lanes for a in expr.args):
            self.fail(5, f"{expr.op} with {expr.lanes} lanes of {kinds}")
        if dot is not None:
            if [a.dtype for a in (*expr.args, expr)] != [DType.U32, DType.U32, dot.sum, dot.sum]:
                self.fail(5, f"{expr.op} of {kinds} gives {expr.dtype.value}")
            return
        if narrow is not None:
            if expr.args[0].dtype not in narrow.operands or len({a.dtype for a in expr.args}) > 1 or expr.dtype is not narrow.result:
                self.fail(5, f"{expr.op} of {kinds} gives {expr.dtype.value}")
            if expr.op == "lookup" and expr.lanes != LOOKUP_LANES:
                self.fail(5, f"lookup of {kinds}, it wants {LOOKUP_LANES} lanes")
            if expr.op == "lookup_groups" and expr.lanes % PART_LANES:
                self.fail(5, f"lookup_groups with {expr.lanes} lanes, it wants whole parts of {PART_LANES}")
            return
        selects = row is not None and row.result == "select"
        operands = expr.args[1:] if selects else expr.args
        dtype = operands[0].dtype
        if any(a.dtype is not dtype for a in operands) or (selects and expr.args[0].dtype is not DType.BOOL):
            self.fail(5, f"{expr.op} of {kinds}")
        takes = "number" if row is None else row.takes
        if not accepts(takes, dtype) or (expr.op in ACTIVATIONS and dtype is not DType.F32):
            self.fail(5, f"{expr.op} does not take {dtype.value}")
        result = DType.BOOL if row is not None and row.result == "bool" else dtype
        if expr.dtype is not result:
            self.fail(5, f"{expr.op} of {kinds} gives {result.value}, not {expr.dtype.value}")


def _typed(dtype: DType, lanes: int) -> str:
    return dtype.value if lanes == 1 else f"{dtype.value}x{lanes}"


def _type_text(expr: Expr) -> str:
    return _typed(expr.dtype, expr.lanes)
