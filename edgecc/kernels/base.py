"""The contract between graph nodes and kernels.

A kernel is lowered from a `Request`: the operator with its attributes, how each operand and result
lies in memory, and the target. It answers with a `Kernel`: a plain loop nest, the schedule (loop
passes by name, with options) that turns it into fast code, and where each buffer comes from. A
request holds no values and no weights (constants of a few elements apart), so equal layers of a
network share one kernel; weights are packed separately for each node by the `Packed` arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.dims import Dim, symbol
from edgecc.ir.op import Op
from edgecc.ir.text import format_op
from edgecc.ir.types import Array, DType
from edgecc.kernels.cost import worthwhile_threads
from edgecc.loop.index import ZERO, Index, as_index, const
from edgecc.loop.ir import Function, Parameter, variables, walk
from edgecc.loop.module import IndexRange
from edgecc.ops.rules import NARROW_INTEGERS
from edgecc.targets.schema import Target

ROW_ELEMENTS = 16
"""Rows whose length is known only at run time are held in memory with room for a multiple of so many elements."""

ROW_AXIS = 2
"""The axis whose positions are called rows: the height of images [batch, channels, height, width]."""

CHECKS = ("off", "trap", "clamp")
"""Indices computed at run time that are out of range: trusted not to occur; end the run with a status; moved into range."""

SMALL_CONSTANT_ELEMENTS = 16
"""Constants of up to so many elements are part of a request, so kernels may depend on their values."""


@dataclass(frozen=True)
class View:
    """How a tensor lies in memory: its buffer pointer addresses element (0, ..., 0).

    Attributes:
        dtype: element type.
        dims: the logical shape.
        strides: distance in elements between neighbours along each axis; 0 repeats one element
            (an expanded operand), negative runs backwards.
        ring: 0, or the number of rows (positions of axis `ROW_AXIS`) the memory holds: row r then lies where
            row r mod `ring` would, and is overwritten by row r + `ring`.
        sizes: () where `dims` is the shape of every run. Otherwise the shape of a run, of which `dims` is the largest:
            parameters of the function where a dimension is open. Strides are those of the largest shape.
        padded: whether every run of elements along the innermost axis may be read and written up to the next
            multiple of `ROW_ELEMENTS`: what lies there belongs to nobody.
        packed: whether a run's elements lie without gaps in its own shape, row-major; the strides then say nothing.
        start: where the first element lies behind the pointer, in elements; not 0 only where the run decides.
    """

    dtype: DType
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    ring: int = 0
    sizes: tuple[Index, ...] = ()
    padded: bool = False
    packed: bool = False
    start: Index = ZERO

    def size(self, axis: int) -> Index:
        """The number of positions along an axis in a run."""
        return self.sizes[axis] if self.sizes else as_index(self.dims[axis])

    def bound(self, axis: int) -> int | Index:
        """`size` as a number where it is one."""
        size = self.size(axis)
        return size.const if size.is_const else size

    @property
    def is_open(self) -> bool:
        """Whether the shape, or where the elements lie, is known only at run time."""
        return any(not size.is_const for size in self.sizes) or not self.start.is_const

    @property
    def elements(self) -> int:
        """Number of logical elements."""
        return math.prod(self.dims)

    @property
    def span(self) -> int:
        """Elements from the first to the last address, inclusive; what a buffer must at least hold."""
        if self.elements == 0:
            return 0
        return 1 + sum((d - 1) * s for d, s in zip(self.held_dims, self.strides, strict=True) if s > 0)

    @property
    def held_dims(self) -> tuple[int, ...]:
        """`dims` with the rows the memory holds."""
        if self.padded:
            return tuple(-(-dim // ROW_ELEMENTS) * ROW_ELEMENTS if stride == 1 else dim
                         for dim, stride in zip(self.dims, self.strides, strict=True))
        if not self.ring:
            return self.dims
        return (*self.dims[:ROW_AXIS], min(self.ring, self.dims[ROW_AXIS]), *self.dims[ROW_AXIS + 1:])

    @property
    def is_row_major(self) -> bool:
        """Whether the elements lie in logical order without gaps."""
        if self.ring:
            return False
        step = 1
        for dim, stride in zip(reversed(self.dims), reversed(self.strides), strict=True):
            if dim != 1 and stride != step:
                return False
            step *= dim
        return True

    @property
    def is_dense(self) -> bool:
        """Whether the elements lie in some order without gaps."""
        if self.ring:
            return False
        step = 1
        for stride, dim in sorted((s, d) for s, d in zip(self.strides, self.dims, strict=True) if d != 1):
            if stride != step:
                return False
            step *= dim
        return True

    def shows_same(self, other: View) -> bool:
        """Whether both show the same elements at the same places, from one start address."""
        if (self.dtype, self.dims, self.ring, self.sizes, self.packed, self.start) != (
                other.dtype, other.dims, other.ring, other.sizes, other.packed, other.start):
            return False
        return 0 in self.dims or all(s == t for d, s, t in zip(self.dims, self.strides, other.strides, strict=True) if d != 1)

    def at(self, coordinates: Sequence[Index | int]) -> Index:
        """The address of the element at these logical coordinates."""
        address = Index()
        for axis, (coordinate, stride) in enumerate(zip(coordinates, self.strides, strict=True)):
            index = as_index(coordinate)
            if self.ring and axis == ROW_AXIS:
                # Whole turns make the dividend non-negative for whoever looks at it, which makes the remainder cheap.
                turns = max(0, -(index.const // self.ring))
                index = (index + turns * self.ring).mod(self.ring)
            address = address + index * stride
        return address

    def broadcast_to(self, dims: Sequence[int]) -> View:
        """The same memory seen as shape `dims` by numpy's broadcasting rules."""
        lead = len(dims) - len(self.dims)
        own_dims = (1,) * lead + self.dims
        own_strides = (0,) * lead + self.strides
        strides = tuple(0 if own == 1 else stride for own, stride in zip(own_dims, own_strides, strict=True))
        if self.ring and lead:
            raise EdgeccError("E900", f"a ring of rows seen in {len(dims)} dimensions instead of {len(self.dims)}")
        own = (const(1),) * lead + self.sizes
        sizes = tuple(const(dim) if s == const(1) else s for dim, s in zip(dims, own, strict=True)) if self.sizes else ()
        return View(self.dtype, tuple(dims), strides, self.ring, sizes, self.padded)


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
    (edgecc/kernels/shifted_sums.py), `short_weights` whether constant weights of 8 bits are above -128. `values` are the elements of a `Sizes` operator.
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
    short_weights: bool = False

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


@dataclass(frozen=True)
class FromInput:
    """A buffer that is operand `index` of the node, as its view says. A constant is stored row-major in the weights."""

    index: int


@dataclass(frozen=True)
class FromOutput:
    """A buffer that is result `index` of the node."""

    index: int


@dataclass(frozen=True)
class Packed:
    """A buffer of weights rearranged at compile time.

    `pack` receives the arrays of the constant operands `inputs` (None where absent) and returns the
    flat array the kernel reads.
    """

    inputs: tuple[int, ...]
    pack: Callable[..., Array]


@dataclass(frozen=True)
class Workspace:
    """A buffer of scratch memory in the arena, alive during this call only.

    `by_thread`: it is divided into equal parts, one for each thread, which no other one touches.
    """

    size_bytes: int
    by_thread: bool = False


@dataclass(frozen=True)
class SameMemory:
    """A buffer that is read only and lies where that of argument `position` does, which is an earlier one, as elements of another type."""

    position: int


KernelArgument = FromInput | FromOutput | Packed | Workspace | SameMemory


@dataclass(frozen=True)
class Kernel:
    """A lowered request.

    Attributes:
        function: a plain loop nest; its buffers correspond to `arguments` one to one.
        schedule: loop passes to apply, in order, as "name{option=value,...}".
        arguments: where each buffer of the function comes from.
        in_place: pairs (result, operand) that may share memory when their views are equal: the
            kernel reads each element of the operand before, or when, it writes the same element of the result.
        choice: why the kernel looks as it does, in one line, for `--explain`.
        cycles: modelled cycles of one call; 0 where there is no model.
        error_units: 0 where the error of each element is that of a sum of its terms. Algorithms that compute several
            elements together state a bound here, in units of roundoff times the largest magnitude of all elements.
        checks: operands that hold indices, with the range they must be in: the run ends before the call where one is not.
        candidate: the name of the candidate it was built from; "" where there is one way only.
        request: what it was lowered from; `lower` fills it in.
        sizes: numbers of the request's open sizes that are the function's parameters, in order; `lower` fills it in.
    """

    function: Function
    arguments: tuple[KernelArgument, ...]
    schedule: tuple[str, ...] = ()
    in_place: tuple[tuple[int, int], ...] = ()
    choice: str = ""
    cycles: float = 0.0
    error_units: float = 0.0
    checks: tuple[tuple[int, IndexRange], ...] = ()
    candidate: str = ""
    request: Request | None = None
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """One way to compute a request.

    Attributes:
        name: stable and readable; tuning files refer to it ("winograd 4x4", "direct 14x2").
        cycles: modelled cycles of one call (edgecc/kernels/cost.py); the smallest is chosen.
        build: makes the kernel.
        rows: whether the kernel can compute ranges of rows; those that cannot are left out where a request wants it.
    """

    name: str
    cycles: float
    build: Callable[[], Kernel]
    rows: bool = False


Lowering = Callable[[Request], Kernel]
Enumeration = Callable[[Request], Sequence[Candidate]]
_TABLE: dict[type[Op], Lowering] = {}
_BY_ROWS: set[type[Op]] = set()
_OPEN: set[type[Op]] = set()
KERNELS: Mapping[type[Op], Lowering] = MappingProxyType(_TABLE)
"""The lowering of each operator class. Filled while edgecc.kernels is imported, constant afterwards."""


def kernel_for(op_class: type[Op], *, rows: bool = False, is_open: bool = False) -> Callable[[Lowering], Lowering]:
    """Decorator that registers the lowering of an operator class; a second one is an error.

    `rows`: whether it takes requests for ranges of rows; `is_open`: with sizes known only at run time.
    """

    def register(lowering: Lowering) -> Lowering:
        other = _TABLE.get(op_class)
        if other is not None and other.__qualname__ != lowering.__qualname__:
            raise TypeError(f"kernel of {op_class.name!r} is defined by {other.__module__} and {lowering.__module__}")
        _TABLE[op_class] = lowering
        if rows:
            _BY_ROWS.add(op_class)
        if is_open:
            _OPEN.add(op_class)
        return lowering

    return register


_ENUMERATIONS: dict[type[Op], Enumeration] = {}


def _built(request: Request, candidate: Candidate) -> Kernel:
    """The kernel of a candidate, on one thread where it is too small to be divided."""
    serial = worthwhile_threads(candidate.cycles, request.threads) < request.threads
    build = _named(replace(request, threads=1), candidate.name).build if serial else candidate.build
    return replace(build(), cycles=candidate.cycles, candidate=candidate.name)


def _named(request: Request, name: str) -> Candidate:
    return next(candidate for candidate in candidates(request) if candidate.name == name)


def candidates_for(op_class: type[Op], *, rows: bool = True, is_open: bool = False) -> Callable[[Enumeration], Enumeration]:
    """Decorator that registers all ways to compute an operator class; the cheapest one becomes its kernel.

    `rows`, `is_open`: see `kernel_for`.
    """

    def register(enumeration: Enumeration) -> Enumeration:
        def cheapest(request: Request) -> Kernel:
            possible = candidates(request)
            if not possible:
                raise EdgeccError("E112", f"{request.op.name} has no kernel{' for ranges of rows' if request.rows else ''}")
            return _built(request, possible[0])

        cheapest.__qualname__, cheapest.__module__ = enumeration.__qualname__, enumeration.__module__
        kernel_for(op_class, rows=rows, is_open=is_open)(cheapest)
        _ENUMERATIONS[op_class] = enumeration
        return enumeration

    return register


def candidates(request: Request) -> tuple[Candidate, ...]:
    """The ways to compute a request, cheapest first by the model; () where there is one way only or none."""
    enumeration = _ENUMERATIONS.get(type(request.op))
    found = () if enumeration is None else enumeration(request)
    return tuple(sorted((c for c in found if c.rows or not request.rows), key=lambda candidate: candidate.cycles))


def row_cycles(request: Request) -> float | None:
    """Modelled cycles of the kernel that computes the whole result by ranges of rows; None where there is none."""
    try:
        kernel = lower(replace(request, rows=True))
    except EdgeccError as error:
        if error.code != "E112":
            raise
        return None
    return kernel.cycles


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
    precision += " short weights" if request.short_weights else ""
    return (f"{format_op(request.op)} ({', '.join(parts)}) -> {results} threads={request.threads}{precision}"
            f"{' rows' if request.rows else ''}")


def lower(request: Request, choice: str | None = None) -> Kernel:
    """Lowers a request: the cheapest candidate, or the one named `choice` where there is such a candidate.

    The first word of a name stands for the cheapest candidate of that kind ("direct").

    Raises: EdgeccError E112 where no kernel covers it.
    """
    lowering = _TABLE.get(type(request.op))
    if lowering is None:
        raise EdgeccError("E112", f"{request.op.name} has no kernel")
    if request.is_open and type(request.op) not in _OPEN:
        raise EdgeccError("E112", f"{request.op.name} has no kernel for sizes known only at run time",
                          hint="give the dimension one size with --shape")
    if request.rows and (type(request.op) not in _BY_ROWS or len(request.outputs[0].dims) <= ROW_AXIS + 1):
        raise EdgeccError("E112", f"{request.op.name} has no kernel for ranges of rows")
    if choice is not None:
        for candidate in candidates(request):
            if choice in (candidate.name, candidate.name.partition(" ")[0]):
                return parametrized(_built(request, candidate), request)
    return parametrized(lowering(request), request)


def size_dim(request: Request, size: Index) -> Dim:
    """An open size of a request as a dimension whose symbols are the function's parameters."""
    total: Dim = size.const
    for number, bounds in enumerate(request.bounds):
        total = total + symbol(size_name(number), *bounds) * (size.coefficient(size_name(number)) or 0)
    return total


def size_name(number: int) -> str:
    """The parameter that is open size `number` of a request."""
    return f"size{number}"


def _views(request: Request) -> tuple[View, ...]:
    return (*(operand.view for operand in request.inputs if operand is not None), *request.outputs)


def parametrized(kernel: Kernel, request: Request) -> Kernel:
    """The kernel with its request, and with the open sizes that it uses as parameters."""
    if not request.is_open:
        return replace(kernel, request=request)
    used = {name for stmt in walk(kernel.function.body) for name in variables(stmt)}
    numbers = tuple(n for n in range(len(request.bounds)) if size_name(n) in used)
    sizes = tuple(Parameter(size_name(n), *request.bounds[n]) for n in numbers)
    return replace(kernel, request=request, sizes=numbers, function=replace(
        kernel.function, parameters=(*kernel.function.parameters, *sizes)))
