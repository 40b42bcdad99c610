"""Which lowering makes the kernels of an operator, and which of several ways to compute it is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from edgecc.errors import EdgeccError
from edgecc.ir.op import Op
from edgecc.kernels.cost import worthwhile_threads
from edgecc.kernels.kernel import Candidate, Kernel
from edgecc.kernels.request import Request, size_name
from edgecc.kernels.view import ROW_AXIS
from edgecc.loop.ir import Parameter, variables, walk

Lowering = Callable[[Request], Kernel]
Enumeration = Callable[[Request], Sequence[Candidate]]
_TABLE: dict[type[Op], Lowering] = {}
_BY_ROWS: set[type[Op]] = set()
_OPEN: set[type[Op]] = set()
_ENUMERATIONS: dict[type[Op], Enumeration] = {}
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


def row_cycles(request: Request) -> float | None:
    """Modelled cycles of the kernel that computes the whole result by ranges of rows; None where there is none."""
    try:
        kernel = lower(replace(request, rows=True))
    except EdgeccError as error:
        if error.code != "E112":
            raise
        return None
    return kernel.cycles


def _built(request: Request, candidate: Candidate) -> Kernel:
    """The kernel of a candidate, on one thread where it is too small to be divided."""
    serial = worthwhile_threads(candidate.cycles, request.threads) < request.threads
    build = _named(replace(request, threads=1), candidate.name).build if serial else candidate.build
    return replace(build(), cycles=candidate.cycles, candidate=candidate.name)


def _named(request: Request, name: str) -> Candidate:
    return next(candidate for candidate in candidates(request) if candidate.name == name)


def parametrized(kernel: Kernel, request: Request) -> Kernel:
    """The kernel with its request, and with the open sizes that it uses as parameters."""
    if not request.is_open:
        return replace(kernel, request=request)
    used = {name for stmt in walk(kernel.function.body) for name in variables(stmt)}
    numbers = tuple(n for n in range(len(request.bounds)) if size_name(n) in used)
    sizes = tuple(Parameter(size_name(n), *request.bounds[n]) for n in numbers)
    return replace(kernel, request=request, sizes=numbers, function=replace(
        kernel.function, parameters=(*kernel.function.parameters, *sizes)))
