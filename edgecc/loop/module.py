"""A compiled network as loop programs: functions, the sequence of their calls, constants and memory.

This is what CPU back ends receive. Every size and offset is final.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from edgecc.ir.dims import Dim, Symbol, replaced
from edgecc.ir.instance import Source
from edgecc.ir.types import Array, DType, TensorType
from edgecc.loop.ir import Function
from edgecc.ops.string_handles import OnHandles, StringStep


@dataclass(frozen=True)
class Interface:
    """One input or output of the network, under the name the user's model gives it. Row-major."""

    name: str
    type: TensorType


@dataclass(frozen=True)
class InputBytes:
    """An argument that lies in network input `index`, `offset` bytes from its start."""

    index: int
    offset: int = 0


@dataclass(frozen=True)
class OutputBytes:
    """An argument that lies in network output `index`, `offset` bytes from its start."""

    index: int
    offset: int = 0


@dataclass(frozen=True)
class ArenaBytes:
    """An argument that lies in the arena, `offset` bytes from its start."""

    offset: int


@dataclass(frozen=True)
class WeightBytes:
    """An argument that lies in the weights, `offset` bytes from their start."""

    offset: int


Fixed = InputBytes | OutputBytes | ArenaBytes | WeightBytes


@dataclass(frozen=True)
class RowBytes:
    """An argument inside loops that lies elsewhere in each iteration.

    Attributes:
        base: where it lies in iteration 0 of all loops.
        steps: pairs (depth, bytes): how far it moves with each iteration of the loop that is nested `depth` loops
            deep; the outermost has depth 0.
    """

    base: Fixed
    steps: tuple[tuple[int, int], ...]


Argument = Fixed | RowBytes


@dataclass(frozen=True)
class IndexRange:
    """Integers in memory that are used as indices, and the axis they count along.

    Attributes:
        dtype: their type.
        axes: pairs (extent, stride in elements) of the loops that reach all of them; offset: elements before the first.
        size: of the axis. They must be less than it, and not less than its negative.

    Extents and size may be known only at run time; in what a kernel says they are expressions over its parameters.
    """

    dtype: DType
    axes: tuple[tuple[Dim, int], ...]
    offset: int
    size: Dim

    def at(self, sizes: Mapping[str, Dim]) -> IndexRange:
        """The same with the parameters of the kernel replaced."""
        return replace(self, axes=tuple((replaced(extent, sizes), stride) for extent, stride in self.axes),
                       size=replaced(self.size, sizes))


@dataclass(frozen=True)
class Call:
    """One step of the run: `function` on `arguments` (one for each of its buffers, in order).

    `loc` names the nodes of the user's model that this step stands for. `sizes` are the function's parameters: sizes
    that the run decides. `checks` are indices, each with where
    its memory begins: if one is out of range the run ends with a status before the call.
    """

    function: str
    arguments: tuple[Argument, ...]
    loc: tuple[str, ...]
    checks: tuple[tuple[Argument, IndexRange], ...] = ()
    sizes: tuple[Dim, ...] = ()


@dataclass(frozen=True)
class Stripes:
    """A depth-first block: a chain of calls that runs stripe by stripe, all calls of one stripe before the next stripe.

    Each function has two parameters, the first row of its result to compute and the one after the last.

    Attributes:
        calls: in order.
        ends: for each stripe, for each call, the row at which it ends; the next stripe goes on there, the
            first one starts at row 0. So every row is computed once.
    """

    calls: tuple[Call, ...]
    ends: tuple[tuple[int, ...], ...]

    def ranges(self) -> Iterator[tuple[Call, int, int]]:
        """Every call that has something to do, in order, with its range of rows."""
        starts: tuple[int, ...] = (0,) * len(self.calls)
        for ends in self.ends:
            for call, start, stop in zip(self.calls, starts, ends, strict=True):
                if stop > start:
                    yield call, start, stop
            starts = ends


@dataclass(frozen=True)
class Copy:
    """`size_bytes` bytes copied from `source` to `target`, which do not overlap."""

    source: Argument
    target: Argument
    size_bytes: int


@dataclass(frozen=True)
class Branch:
    """Runs `then` if the truth value at `condition` holds, else `otherwise`.

    `loc` names the nodes of the user's model that this step stands for.
    """

    condition: Argument
    then: tuple[Item, ...]
    otherwise: tuple[Item, ...]
    loc: tuple[str, ...]


@dataclass(frozen=True)
class Repeat:
    """Runs `body` for iteration 0, 1, ... while iteration < trips and the condition holds.

    Attributes:
        depth: in how many other loops it lies.
        trips: how many iterations at most: a number, or where an i64 lies.
        condition: whether the first iteration runs: known, or where the truth value lies.
        counter: where the body reads the number of the iteration, an i64; None if it does not.
        before: copies before the first iteration: initial states.
        body: one iteration.
        again: whether another iteration may follow: known, or where the body has put the truth value.
        after: copies after each iteration: states for the next one.
        limit: the most iterations; if another one is due the run ends with a status.
        rows: the number of iterations there must be, or may be at most if `padded`; None: any.
        zeros: if `padded`, where the rows lie that iterations fill, and bytes of each: what is left is set to zero.
        loc: names of the nodes of the user's model that this step stands for.
    """

    depth: int
    trips: Argument | int
    condition: Argument | bool
    counter: Argument | None
    before: tuple[Copy, ...]
    body: tuple[Item, ...]
    again: Argument | bool
    after: tuple[Copy, ...]
    limit: int
    rows: int | None
    padded: bool
    zeros: tuple[tuple[Argument, int], ...]
    loc: tuple[str, ...]

    @property
    def iterations(self) -> int | None:
        """How many there are, if that is known and within the limit."""
        known = self.condition is True and self.again is True and isinstance(self.trips, int)
        return self.trips if known and isinstance(self.trips, int) and 0 <= self.trips <= self.limit else None

    @property
    def copies(self) -> tuple[Copy, ...]:
        """All copies."""
        return (*self.before, *self.after)


@dataclass(frozen=True)
class SetSize:
    """From here on a size of the run is the i64 at `source`; out of its bounds it ends the run with a status.

    With `clamped` it is moved into its bounds instead. `loc` names the nodes of the user's model that compute it.
    """

    symbol: Symbol
    source: Argument
    clamped: bool
    loc: tuple[str, ...]


@dataclass(frozen=True)
class StringCall:
    """A step on strings, whose handles lie where its arguments say.

    Attributes:
        op: what it does.
        count: elements of each operand, which lie row-major without gaps. The run may decide it.
        arguments: of the operands, then of the results.
        loc: names of the nodes of the user's model that this step stands for.
    """

    op: StringStep
    count: Dim
    arguments: tuple[Argument, ...]
    loc: tuple[str, ...]

    @property
    def operands(self) -> tuple[Argument, ...]:
        """Of what it reads."""
        return self.arguments[:-self._result_count]

    @property
    def results(self) -> tuple[Argument, ...]:
        """Of what it writes."""
        return self.arguments[-self._result_count:]

    @property
    def _result_count(self) -> int:
        return self.op.op.results if isinstance(self.op, OnHandles) else 1


@dataclass(frozen=True)
class StringPool:
    """The strings of a run, and memory in the arena for them.

    Attributes:
        constants: strings of the model in the order of their handles; the first one is empty.
        capacity: the most different strings of a run.
        slots: of the hash table, a power of two.
        made_bytes: room for the text of strings that the run makes; 0 where it makes none.
        offset: where the memory lies in the arena; size_bytes: how large it is.
    """

    constants: tuple[str, ...]
    capacity: int
    slots: int
    made_bytes: int
    offset: int
    size_bytes: int


Item = Call | Stripes | Branch | Repeat | SetSize | StringCall


def all_items(items: Iterable[Item]) -> Iterator[Item]:
    """Every item with what is nested in it, in order."""
    for item in items:
        yield item
        match item:
            case Branch(then=then, otherwise=otherwise):
                yield from all_items(then)
                yield from all_items(otherwise)
            case Repeat(body=body):
                yield from all_items(body)


@dataclass(frozen=True)
class Constant:
    """Packed weights: a contiguous array at a byte offset of the weights."""

    offset: int
    data: Array


@dataclass(frozen=True)
class Module:
    """A whole network.

    Attributes:
        name: a C identifier.
        functions: each kernel once, in order of first use; names are C identifiers.
        calls: the run, in order; some of it may run in stripes, some under conditions or in loops.
        constants: the weights by ascending offset; gaps are zero.
        weights_bytes: size of the weights.
        arena_bytes: size of the arena; arena_align: what its start must be a multiple of.
        arena_lower_bound: no plan for this order of calls can use fewer bytes.
        threads: 1, or the number of threads parallel loops are divided among.
        precision: the shortest float type that arithmetic is done in.
        sources: where the sizes that a run decides are read from, in order; () where all shapes are fixed. Memory
            and weights suffice for the largest sizes.
        strings: of the run; None where it has none.
    """

    name: str
    inputs: tuple[Interface, ...]
    outputs: tuple[Interface, ...]
    functions: tuple[Function, ...]
    calls: tuple[Item, ...]
    constants: tuple[Constant, ...]
    weights_bytes: int
    arena_bytes: int
    arena_lower_bound: int
    arena_align: int = 64
    threads: int = 1
    precision: DType = DType.F32
    sources: tuple[Source, ...] = ()
    strings: StringPool | None = None

    @property
    def is_open(self) -> bool:
        """Whether shapes differ from run to run."""
        return bool(self.sources or self.computed_sizes)

    @cached_property
    def computed_sizes(self) -> tuple[Symbol, ...]:
        """The sizes that are known while running only, in the order in which they are computed."""
        return tuple(dict.fromkeys(item.symbol for item in self.all_items if isinstance(item, SetSize)))

    @property
    def all_calls(self) -> tuple[Call, ...]:
        """Every call once, those of stripes, branches and loops in their place."""
        return tuple(call for item in self.all_items for call in (
            item.calls if isinstance(item, Stripes) else (item,) if isinstance(item, Call) else ()))

    @property
    def all_items(self) -> tuple[Item, ...]:
        """Every item of the run with what is nested in it, in order."""
        return tuple(all_items(self.calls))

    @property
    def all_arguments(self) -> Iterator[Argument]:
        """Every address that the run names."""
        for call in self.all_calls:
            yield from call.arguments
            yield from (argument for argument, _ in call.checks)
        for item in self.all_items:
            if isinstance(item, StringCall):
                yield from item.arguments
            if isinstance(item, Branch):
                yield item.condition
            if isinstance(item, SetSize):
                yield item.source
            if isinstance(item, Repeat):
                known = (item.trips, item.condition, item.counter, item.again)
                yield from (argument for argument in known if argument is not None and not isinstance(argument, int))
                yield from (argument for copy in item.copies for argument in (copy.source, copy.target))
                yield from (argument for argument, _ in item.zeros)

    def function(self, name: str) -> Function:
        """The kernel called `name`."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, Function]:
        return {function.name: function for function in self.functions}
