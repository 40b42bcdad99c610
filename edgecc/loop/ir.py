"""The Loop IR: perfectly plain loop programs over flat buffers.

A `Function` is one kernel: named buffers and a body of statements. Expressions are pure; they have an
element type and a number of lanes (1: a scalar). Locals are either `Let` (bound once) or `Declare`d
registers that are `Assign`ed, such as accumulators. Buffers are one-dimensional; addresses are
`Index` values in elements. What is written here is what C and LLVM print: nothing is left to a
back end but the choice of instructions.

Grammar:
    function  ::= name (buffer*, parameter*) statement*
    statement ::= For | Let | Declare | Assign | Store | If | Barrier | Reload | Prefetch | Comment
    expr      ::= Const | Ref | Load | Op | Cast | Bitcast | Broadcast | Lane | Horizontal | FromIndex
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from edgecc.ir.types import DType
from edgecc.loop.index import Index, IndexOf, IndexOp, LoopVar, mentions

# -- expressions ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ExprBase:
    def children(self) -> tuple[Expr, ...]:
        """The direct operands."""
        return ()

    def mentions(self, name: str) -> bool:
        """Whether loop variable `name` occurs in an address below."""
        return any(child.mentions(name) for child in self.children())


@dataclass(frozen=True, slots=True)
class Const(_ExprBase):
    """A number, in every lane. Infinities and NaN are allowed for floats."""

    value: float | int | bool
    dtype: DType
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class Ref(_ExprBase):
    """The value of a local bound by `Let` or `Declare`."""

    name: str
    dtype: DType
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class Load(_ExprBase):
    """`lanes` elements of a buffer from `index` on, `stride` elements apart.

    Only the first `valid` lanes are read (0 means all of them); the others are zero and their
    addresses are never touched.
    """

    buffer: str
    index: Index
    dtype: DType
    lanes: int = 1
    stride: int = 1
    valid: int = 0

    def mentions(self, name: str) -> bool:
        """Whether loop variable `name` occurs in the address."""
        return mentions(self.index, name)


@dataclass(frozen=True, slots=True)
class Op(_ExprBase):
    """A primitive of edgecc.ir.scalar.PRIMITIVES, lane by lane, "fma" (a*b+c rounded once), or one of
    edgecc.loop.activations.ACTIVATIONS, edgecc.loop.dot.DOTS, edgecc.loop.narrow.NARROW or, within mathematical functions, edgecc.loop.tables.TABLES.

    `dtype` is the type of the result; comparisons give bool. The operands have equal lanes.
    """

    op: str
    args: tuple[Expr, ...]
    dtype: DType
    lanes: int = 1

    def children(self) -> tuple[Expr, ...]:
        """The operands."""
        return self.args


@dataclass(frozen=True, slots=True)
class Cast(_ExprBase):
    """Conversion to `dtype` with the rules of edgecc.ir.scalar.Convert."""

    arg: Expr
    dtype: DType

    @property
    def lanes(self) -> int:
        """Lanes of the operand."""
        return self.arg.lanes

    def children(self) -> tuple[Expr, ...]:
        """The operand."""
        return (self.arg,)


@dataclass(frozen=True, slots=True)
class Bitcast(_ExprBase):
    """The same bits read as a type of equal size."""

    arg: Expr
    dtype: DType

    @property
    def lanes(self) -> int:
        """Lanes of the operand."""
        return self.arg.lanes

    def children(self) -> tuple[Expr, ...]:
        """The operand."""
        return (self.arg,)


@dataclass(frozen=True, slots=True)
class Broadcast(_ExprBase):
    """A scalar in every one of `lanes` lanes."""

    arg: Expr
    lanes: int

    @property
    def dtype(self) -> DType:
        """Type of the operand."""
        return self.arg.dtype

    def children(self) -> tuple[Expr, ...]:
        """The operand."""
        return (self.arg,)


@dataclass(frozen=True, slots=True)
class Lane(_ExprBase):
    """Lane number `position` (a constant) of a vector, as a scalar."""

    arg: Expr
    position: int

    @property
    def dtype(self) -> DType:
        """Type of the operand."""
        return self.arg.dtype

    @property
    def lanes(self) -> int:
        """Always 1."""
        return 1

    def children(self) -> tuple[Expr, ...]:
        """The operand."""
        return (self.arg,)


@dataclass(frozen=True, slots=True)
class Horizontal(_ExprBase):
    """All lanes of a vector combined by "add", "max", "min" or "mul" (pairwise, halves first): a scalar."""

    op: str
    arg: Expr

    @property
    def dtype(self) -> DType:
        """Type of the operand."""
        return self.arg.dtype

    @property
    def lanes(self) -> int:
        """Always 1."""
        return 1

    def children(self) -> tuple[Expr, ...]:
        """The operand."""
        return (self.arg,)


@dataclass(frozen=True, slots=True)
class FromIndex(_ExprBase):
    """The value of an index as a number."""

    index: Index
    dtype: DType

    @property
    def lanes(self) -> int:
        """Always 1."""
        return 1

    def mentions(self, name: str) -> bool:
        """Whether loop variable `name` occurs in the index."""
        return mentions(self.index, name)


Expr = Const | Ref | Load | Op | Cast | Bitcast | Broadcast | Lane | Horizontal | FromIndex

# -- statements -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class For:
    """`for var in start, start+step, ... < stop`. A "parallel" loop may run its iterations in any order
    and at once; it stands at the top level of a function and nowhere else."""

    var: str
    start: Index
    stop: Index
    body: tuple[Stmt, ...]
    step: int = 1
    kind: str = "serial"

    @property
    def extent(self) -> int | None:
        """Number of iterations where it is a constant, else None."""
        difference = self.stop - self.start
        if not difference.is_const:
            return None
        return max(0, -(-difference.const // self.step))


@dataclass(frozen=True, slots=True)
class Let:
    """Binds a local once; it is visible to the end of the enclosing block."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Declare:
    """Declares a register with a start value; `Assign` changes it."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Assign:
    """Gives a declared register a new value."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Store:
    """Writes the lanes of `value` to a buffer from `index` on, `stride` elements apart; only the first
    `valid` lanes (0 means all of them)."""

    buffer: str
    index: Index
    value: Expr
    stride: int = 1
    valid: int = 0


@dataclass(frozen=True, slots=True)
class If:
    """Runs `then` if the bool scalar is true, else `orelse`."""

    condition: Expr
    then: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...] = ()


@dataclass(frozen=True, slots=True)
class Barrier:
    """Keeps the C compiler from moving loads across this point (it would hoist them and spill)."""


@dataclass(frozen=True, slots=True)
class Reload:
    """To the end of its block, elements at constant distances from `index` are accessed through a pointer that C compilers
    know nothing of: they load again what they have loaded before, instead of keeping a copy, and address neighbours by
    small offsets from it."""

    buffer: str
    index: Index


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Asks the machine to bring an element into its first-level cache. A hint: reads nothing, and the element may lie
    outside of the buffer."""

    buffer: str
    index: Index


@dataclass(frozen=True, slots=True)
class Comment:
    """A line of text for readers of the generated code."""

    text: str


Stmt = For | Let | Declare | Assign | Store | If | Barrier | Reload | Prefetch | Comment
Body = tuple[Stmt, ...]

# -- functions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Buffer:
    """A parameter of a kernel: `elements` elements of `dtype`.

    `role` is "input", "output" or "workspace". Aligned to `align` bytes. `aliased` marks buffers
    that may share memory with another parameter (in-place kernels); all others may not.
    """

    name: str
    dtype: DType
    elements: int
    role: str
    align: int = 64
    aliased: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """An integer a caller chooses for each call, from `minimum` to `maximum`, both inclusive.

    In indices it is a variable like those of loops. Nothing checks it at run time.
    """

    name: str
    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Function:
    """One kernel. `doc` says in a line what it computes; it ends up as a comment.

    A caller passes the buffers, then the parameters, in order.
    """

    name: str
    buffers: tuple[Buffer, ...]
    body: Body
    doc: str = ""
    parameters: tuple[Parameter, ...] = ()

    def buffer(self, name: str) -> Buffer:
        """The parameter called `name`."""
        for item in self.buffers:
            if item.name == name:
                return item
        raise KeyError(name)


# -- traversal --------------------------------------------------------------------------------


def map_children(expr: Expr, rewrite: Callable[[Expr], Expr]) -> Expr:
    """`expr` with `rewrite` applied to its direct operands; the same object if nothing changed."""
    match expr:
        case Op(args=args):
            new = tuple([rewrite(a) for a in args])
            return expr if all(map(operator.is_, new, args)) else Op(expr.op, new, expr.dtype, expr.lanes)
        case Broadcast(arg=arg):
            changed = rewrite(arg)
            return expr if changed is arg else Broadcast(changed, expr.lanes)
        case Cast(arg=arg) | Bitcast(arg=arg) | Lane(arg=arg) | Horizontal(arg=arg):
            changed = rewrite(arg)
            return expr if changed is arg else replace(expr, arg=changed)
    return expr


def expressions(stmt: Stmt) -> tuple[Expr, ...]:
    """The expressions that stand directly in a statement (not those of nested bodies)."""
    match stmt:
        case Let(value=value) | Declare(value=value) | Assign(value=value) | Store(value=value):
            return (value,)
        case If(condition=condition):
            return (condition,)
    return ()


def bodies(stmt: Stmt) -> tuple[Body, ...]:
    """The nested bodies of a statement."""
    match stmt:
        case For(body=body):
            return (body,)
        case If(then=then, orelse=orelse):
            return (then, orelse)
    return ()


def walk(body: Body) -> Iterator[Stmt]:
    """Every statement, outer before inner, in order."""
    for stmt in body:
        yield stmt
        for nested in bodies(stmt):
            yield from walk(nested)


def variables(stmt: Stmt) -> Iterator[str]:
    """Names of loop variables and parameters that indices directly in a statement read (nested bodies are left out)."""
    match stmt:
        case For(start=start, stop=stop):
            yield from (*_names(start), *_names(stop))
        case Store(index=index) | Prefetch(index=index):
            yield from _names(index)
    for root in expressions(stmt):
        for expr in subexpressions(root):
            if isinstance(expr, Load | FromIndex):
                yield from _names(expr.index)


def _names(index: Index) -> Iterator[str]:
    for atom, _ in index.terms:
        match atom:
            case LoopVar(name=name):
                yield name
            case IndexOp(args=args):
                for arg in args:
                    yield from _names(arg)
            case IndexOf(expr=expr):
                for part in subexpressions(expr):
                    if isinstance(part, Load | FromIndex):
                        yield from _names(part.index)


def subexpressions(expr: Expr) -> Iterator[Expr]:
    """`expr` and everything below it."""
    yield expr
    for child in expr.children():
        yield from subexpressions(child)
