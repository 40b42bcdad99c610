"""Convenient construction of Loop IR: fresh names, blocks as context managers, typed expressions.

    b = Builder("axpy", doc="y = 2*x + y")
    x = b.buffer("x", DType.F32, n, "input")
    y = b.buffer("y", DType.F32, n, "output")
    with b.loop("i", n) as i:
        b.store(y, i, fma(b.load(x, i), 2.0, b.load(y, i)))
    function = b.function()

Expressions are built with the free functions below; they derive types, turn Python numbers into
constants and repeat a scalar that meets a vector. Nothing is simplified here except loops of one
iteration, which leave only their body.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgecc.ir.scalar import PRIMITIVES
from edgecc.ir.types import DType
from edgecc.loop.index import Index, as_index, var
from edgecc.loop.ir import (
    Assign,
    Barrier,
    Broadcast,
    Buffer,
    Cast,
    Comment,
    Const,
    Declare,
    Expr,
    For,
    Function,
    If,
    Let,
    Load,
    Op,
    Parameter,
    Ref,
    Stmt,
    Store,
)

Number = float | int | bool

# -- expressions ------------------------------------------------------------------------------


def number(value: Number, dtype: DType, lanes: int = 1) -> Const:
    """A constant of type `dtype`, in every lane."""
    if dtype.is_float:
        return Const(float(value), dtype, lanes)
    return Const(bool(value) if dtype is DType.BOOL else int(value), dtype, lanes)


def repeat(value: Expr, lanes: int) -> Expr:
    """`value` with `lanes` lanes: itself, a wider constant, or a scalar broadcast.

    Raises: ValueError if it has another number of lanes that is not 1.
    """
    if value.lanes == lanes:
        return value
    if value.lanes != 1:
        raise ValueError(f"{value.lanes} lanes where {lanes} are wanted")
    if isinstance(value, Const):
        return Const(value.value, value.dtype, lanes)
    return Broadcast(value, lanes)


def operation(op: str, *args: Expr | Number) -> Op:
    """A primitive (or "fma") applied to operands; its type and lanes follow from them.

    Numbers take the type of the other operands, scalars the lanes of the vectors.
    Raises: ValueError for operands of unequal type, lanes that differ, or numbers only.
    """
    row = PRIMITIVES.get(op)
    if (3 if op == "fma" else row.arity if row else -1) != len(args):
        raise ValueError(f"no operation {op!r} with {len(args)} operands")
    typed = args[1:] if op == "select" else args
    dtypes = {a.dtype for a in typed if not isinstance(a, Number)}
    if len(dtypes) != 1:
        raise ValueError(f"operands of {op} have types {sorted(d.value for d in dtypes)}")
    (dtype,) = dtypes
    lanes = max(a.lanes for a in args if not isinstance(a, Number))
    operands = tuple(number(a, dtype, lanes) if isinstance(a, Number) else repeat(a, lanes) for a in args)
    return Op(op, operands, DType.BOOL if row and row.result == "bool" else dtype, lanes)


def add(a: Expr | Number, b: Expr | Number) -> Op:
    """`a + b`."""
    return operation("add", a, b)


def sub(a: Expr | Number, b: Expr | Number) -> Op:
    """`a - b`."""
    return operation("sub", a, b)


def mul(a: Expr | Number, b: Expr | Number) -> Op:
    """`a * b`."""
    return operation("mul", a, b)


def div(a: Expr | Number, b: Expr | Number) -> Op:
    """`a / b`; integers truncate towards zero."""
    return operation("div", a, b)


def fma(a: Expr | Number, b: Expr | Number, c: Expr | Number) -> Op:
    """`a * b + c`, rounded once."""
    return operation("fma", a, b, c)


def less(a: Expr | Number, b: Expr | Number) -> Op:
    """`a < b`, a bool."""
    return operation("lt", a, b)


def select(condition: Expr, then: Expr | Number, orelse: Expr | Number) -> Op:
    """`then` in the lanes where `condition` holds, `orelse` in the others."""
    return operation("select", condition, then, orelse)


def cast(value: Expr, dtype: DType) -> Expr:
    """`value` converted to `dtype`; nothing is added where it has that type already."""
    return value if value.dtype is dtype else Cast(value, dtype)


# -- statements -------------------------------------------------------------------------------


class Builder:
    """Builds one `Function` statement by statement.

    Statements go to the innermost open block. Names are hints: a name that is taken gets a number,
    in order of construction, so equal constructions give equal functions. Names of buffers, parameters,
    loop variables and locals are one namespace and never repeat within a function.
    """

    def __init__(self, name: str, doc: str = "") -> None:
        self.name = name
        self.doc = doc
        self._buffers: list[Buffer] = []
        self._parameters: list[Parameter] = []
        self._blocks: list[list[Stmt]] = [[]]
        self._names: dict[str, int] = {}

    def fresh(self, hint: str) -> str:
        """A name not used before: `hint`, or `hint` with a number."""
        taken = self._names.get(hint)
        if taken is None:
            self._names[hint] = 0
            return hint
        while True:
            taken += 1
            name = f"{hint}_{taken}"
            if name not in self._names:
                self._names[hint] = taken
                self._names[name] = 0
                return name

    def buffer(self, name: str, dtype: DType, elements: int, role: str, *, align: int = 64,
               aliased: bool = False) -> Buffer:
        """Adds a parameter. `role` is "input", "output" or "workspace"."""
        item = Buffer(self.fresh(name), dtype, elements, role, align, aliased)
        self._buffers.append(item)
        return item

    def parameter(self, name: str, minimum: int, maximum: int) -> Index:
        """Adds an integer that each call chooses between the bounds, inclusive; returns it as an index."""
        item = Parameter(self.fresh(name), minimum, maximum)
        self._parameters.append(item)
        return var(item.name)

    @contextmanager
    def loop(self, name: str, stop: Index | int, *, start: Index | int = 0, step: int = 1,
             kind: str = "serial", keep: bool = False) -> Iterator[Index]:
        """A loop; yields its variable. Without an iteration nothing is left of it, with one only its
        body (unless `keep`)."""
        first = as_index(start)
        candidate = For("", first, as_index(stop), (), step, kind)
        extent = candidate.extent
        if extent == 1 and not keep:
            yield first
            return
        own = self.fresh(name)
        self._blocks.append([])
        try:
            yield var(own)
        finally:
            body = self._blocks.pop()
        if body and (extent != 0 or keep):
            self.append(For(own, first, as_index(stop), tuple(body), step, kind))

    @contextmanager
    def when(self, condition: Expr) -> Iterator[None]:
        """Statements that run only if the bool scalar is true."""
        self._blocks.append([])
        try:
            yield
        finally:
            body = self._blocks.pop()
        if body:
            self.append(If(condition, tuple(body)))

    @contextmanager
    def otherwise(self) -> Iterator[None]:
        """Statements that run where the condition of the `when` just closed does not hold."""
        previous = self._blocks[-1][-1] if self._blocks[-1] else None
        if not isinstance(previous, If) or previous.orelse:
            raise ValueError("otherwise() must follow a when() with statements")
        self._blocks.append([])
        try:
            yield
        finally:
            body = self._blocks.pop()
        self._blocks[-1][-1] = If(previous.condition, previous.then, tuple(body))

    def append(self, stmt: Stmt) -> None:
        """Adds a statement to the innermost open block."""
        self._blocks[-1].append(stmt)

    def let(self, name: str, value: Expr) -> Ref:
        """Binds a local once."""
        own = self.fresh(name)
        self.append(Let(own, value))
        return Ref(own, value.dtype, value.lanes)

    def declare(self, name: str, value: Expr) -> Ref:
        """Declares a register that `assign` changes."""
        own = self.fresh(name)
        self.append(Declare(own, value))
        return Ref(own, value.dtype, value.lanes)

    def assign(self, register: Ref, value: Expr | Number) -> None:
        """Gives a declared register a new value; numbers and scalars fill every lane."""
        if isinstance(value, Number):
            value = number(value, register.dtype, register.lanes)
        value = repeat(value, register.lanes)
        if value.dtype is not register.dtype:
            raise ValueError(f"assigning {value.dtype.value} to {register.name} of type {register.dtype.value}")
        self.append(Assign(register.name, value))

    def load(self, buffer: Buffer, index: Index | int, lanes: int = 1, *, stride: int = 1, valid: int = 0) -> Expr:
        """`lanes` elements from `index` on, `stride` apart; a stride of 0 reads one element and repeats it.

        Only the first `valid` lanes are read (0: all).
        """
        if stride == 0 and lanes > 1:
            return Broadcast(Load(buffer.name, as_index(index), buffer.dtype), lanes)
        return Load(buffer.name, as_index(index), buffer.dtype, lanes, 1 if lanes == 1 else stride,
                    0 if valid == lanes else valid)

    def store(self, buffer: Buffer, index: Index | int, value: Expr | Number, *, stride: int = 1,
              valid: int = 0) -> None:
        """Writes the lanes of `value` from `index` on, `stride` apart; only the first `valid` (0: all)."""
        if isinstance(value, Number):
            value = number(value, buffer.dtype)
        if value.dtype is not buffer.dtype:
            raise ValueError(f"storing {value.dtype.value} into {buffer.name} of type {buffer.dtype.value}")
        self.append(Store(buffer.name, as_index(index), value, 1 if value.lanes == 1 else stride,
                          0 if valid == value.lanes else valid))

    def comment(self, text: str) -> None:
        """A line for readers of the generated code."""
        self.append(Comment(text))

    def barrier(self) -> None:
        """Keeps the C compiler from moving loads across this point."""
        self.append(Barrier())

    def function(self) -> Function:
        """The function built so far; every block must be closed."""
        if len(self._blocks) != 1:
            raise ValueError(f"{len(self._blocks) - 1} blocks are still open")
        return Function(self.name, tuple(self._buffers), tuple(self._blocks[0]), self.doc, tuple(self._parameters))

