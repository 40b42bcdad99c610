"""Sizes that a run decides: read off the shapes of inputs, checked, and the shapes of outputs that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgecc.backends.c.sizes import COMPUTED_SIZE_STATUS, SHAPE_STATUS, is_open
from edgecc.backends.llvm.writer import Writer
from edgecc.ir.dims import Dim, Symbol, symbols_of
from edgecc.loop.module import Interface, Module, SetSize

Sizes = Mapping[str, str]
"""The i64 of each size, by its name."""

StopIf = Callable[[str, int], None]
"""Ends the run with a status where an i1 is true."""


def dim_value(w: Writer, dim: Dim, sizes: Sizes) -> str:
    """A dimension as an i64."""
    if isinstance(dim, int):
        return str(dim)
    total = ""
    for product, coefficient in dim.terms:
        value = ""
        for atom in product:
            if isinstance(atom, Symbol):
                factor = sizes[atom.name]
            else:
                factor = _quotient(w, dim_value(w, atom.dividend, sizes), atom.divisor, may_be_negative=atom.dividend.lower < 0)
            value = factor if not value else w.op("mul", "i64", value, factor)
        value = value or "1"
        if coefficient != 1:
            value = w.op("mul", "i64", value, str(coefficient))
        total = value if not total else w.op("add", "i64", total, value)
    return total or "0"


def _quotient(w: Writer, dividend: str, divisor: int, *, may_be_negative: bool) -> str:
    quotient = w.op("sdiv", "i64", dividend, str(divisor))
    if not may_be_negative:
        return quotient
    below = w.op("icmp slt", "i64", w.op("srem", "i64", dividend, str(divisor)), "0")  # rounded down instead of to zero
    return w.op("add", "i64", quotient, w.convert("sext", "i1", below, "i64"))


def read_sizes(w: Writer, module: Module, input_dims: Mapping[int, str], output_dims: Mapping[int, str], stop_if: StopIf) -> dict[str, str]:
    """The start of a run: the sizes, checks of all input shapes, shapes of outputs.

    `input_dims` and `output_dims` have, for each open input and output, the pointer to its shape.
    """
    for pointer in input_dims.values():
        stop_if(w.op("icmp eq", "ptr", pointer, "null"), 2)
    sizes: dict[str, str] = {}
    for source in module.sources:
        value = _dim(w, input_dims[source.input], source.axis)
        if source.rest != 0:
            value = w.op("sub", "i64", value, dim_value(w, source.rest, sizes))
        if source.scale != 1:
            value = w.op("sdiv", "i64", value, str(source.scale))
        symbol = source.symbol
        sizes[symbol.name] = value
        stop_if(w.op("icmp slt", "i64", value, str(symbol.lower)), SHAPE_STATUS)
        stop_if(w.op("icmp sgt", "i64", value, str(symbol.upper)), SHAPE_STATUS)
    for number, port in _open_ports(module.inputs):
        for axis, size in enumerate(port.type.shape):
            wanted = dim_value(w, size, sizes)
            stop_if(w.op("icmp ne", "i64", _dim(w, input_dims[number], axis), wanted), SHAPE_STATUS)
    write_shapes(w, module, output_dims, sizes, computed=False)
    return sizes


def write_shapes(w: Writer, module: Module, output_dims: Mapping[int, str], sizes: Sizes, *, computed: bool) -> None:
    """Tells the shapes of outputs: those that depend on sizes that are computed in the run, or all others."""
    late = set(module.computed_sizes)
    for number, port in _open_ports(module.outputs):
        if computed == late.isdisjoint(symbols_of(port.type.shape)):
            continue
        pointer, write, done = output_dims[number], w.fresh("write_dims"), w.fresh("dims_done")
        given = w.op("icmp ne", "ptr", pointer, "null")
        w.emit(f"br i1 {given}, label %{write}, label %{done}")
        w.start(write)
        for axis, size in enumerate(port.type.shape):
            w.emit(f"store i64 {dim_value(w, size, sizes)}, ptr {_place(w, pointer, axis)}")
        w.emit(f"br label %{done}")
        w.start(done)


def computed_size(w: Writer, item: SetSize, value: str, stop_if: StopIf) -> str:
    """A size that the run has computed, moved into its bounds or refused outside of them."""
    lower, upper = str(item.symbol.lower), str(item.symbol.upper)
    if item.clamped:
        return w.intrinsic("smin", "i64", w.intrinsic("smax", "i64", value, lower), upper)
    stop_if(w.op("icmp slt", "i64", value, lower), COMPUTED_SIZE_STATUS)
    stop_if(w.op("icmp sgt", "i64", value, upper), COMPUTED_SIZE_STATUS)
    return value


def _open_ports(ports: tuple[Interface, ...]) -> list[tuple[int, Interface]]:
    return [(number, port) for number, port in enumerate(ports) if is_open(port)]


def _place(w: Writer, pointer: str, axis: int) -> str:
    return w.let(f"getelementptr i64, ptr {pointer}, i64 {axis}", "dim_at")


def _dim(w: Writer, pointer: str, axis: int) -> str:
    return w.let(f"load i64, ptr {_place(w, pointer, axis)}", "dim")
