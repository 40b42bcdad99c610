"""Sizes that a run decides: read off the shapes of inputs, checked, and the shapes of outputs that follow from them."""

from __future__ import annotations

from collections.abc import Mapping

from edgecc.backends.c.address import Symbols, argument_text
from edgecc.backends.c.names import comment_text, unique
from edgecc.backends.c.text import listed_lines
from edgecc.ir.dims import Dim, Symbol, symbols_of
from edgecc.loop.module import Interface, Module, SetSize

SHAPE_STATUS = 6
"""What run() returns where the shapes of the inputs are not among those the network was compiled for."""

COMPUTED_SIZE_STATUS = 7
"""What run() returns where a size that it computes is not within the bounds that memory was planned for."""


def size_names(module: Module) -> Mapping[str, str]:
    """The C local of each size, by the size's name."""
    names = [*(source.symbol.name for source in module.sources), *(symbol.name for symbol in module.computed_sizes)]
    return dict(zip(names, unique([f"size_{name}" for name in names]), strict=True))


def dim_text(dim: Dim, names: Mapping[str, str]) -> str:
    """A dimension as a C expression of type int64_t that can be an operand of any operator."""
    if isinstance(dim, int):
        return str(dim)
    terms = []
    for product, coefficient in dim.terms:
        factors = []
        for atom in product:
            if isinstance(atom, Symbol):
                factors.append(names[atom.name])
            else:
                dividend = dim_text(atom.dividend, names)
                quotient = f"({dividend} / {atom.divisor})"
                if atom.dividend.lower < 0:  # C rounds towards zero
                    quotient = f"({dividend} >= 0 ? {dividend} / {atom.divisor} : -(({atom.divisor - 1} - {dividend}) / {atom.divisor}))"
                factors.append(quotient)
        if coefficient != 1 or not product:
            factors.append(str(coefficient) if coefficient >= 0 else f"({coefficient})")
        terms.append(" * ".join(factors))
    return terms[0] if len(dim.terms) == 1 and len(dim.terms[0][0]) == 1 and dim.terms[0][1] == 1 else f"({' + '.join(terms)})"


def is_open(port: Interface) -> bool:
    """Whether the shape of an input or output differs from run to run."""
    return not port.type.is_static


def size_lines(module: Module, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> list[str]:
    """Statements at the start of run(): locals for the sizes, checks of all input shapes, shapes of outputs.

    `inputs` and `outputs` are the members of the structs; the shape of member x is member x_dims.
    """
    names = size_names(module)
    lines = [f"  if (in->{n}_dims == NULL) return 2;" for n, p in zip(inputs, module.inputs, strict=True) if is_open(p)]
    for source in module.sources:
        dim = f"in->{inputs[source.input]}_dims[{source.axis}]"
        value = dim if source.rest == 0 else f"({dim} - {dim_text(source.rest, names)})"
        value = value if source.scale == 1 else f"{value} / {source.scale}"
        name, symbol = names[source.symbol.name], source.symbol
        lines.append(f"  const int64_t {name} = {value}; /* {comment_text(str(symbol))} */")
        lines.append(f"  if ({name} < {symbol.lower} || {name} > {symbol.upper}) return {SHAPE_STATUS};")
    as_they_are = {(source.input, source.axis) for source in module.sources if source.rest == 0 and source.scale == 1}
    for index, (member, port) in enumerate(zip(inputs, module.inputs, strict=True)):
        differ = [f"in->{member}_dims[{axis}] != {dim_text(size, names)}" for axis, size in enumerate(port.type.shape)
                  if (index, axis) not in as_they_are]
        if is_open(port) and differ:
            lines += listed_lines("  if ", differ, f" return {SHAPE_STATUS};", " ||")
    return lines + shape_lines(module, outputs, computed=False)


def shape_lines(module: Module, outputs: tuple[str, ...], *, computed: bool) -> list[str]:
    """Statements that tell the shapes of outputs: those that depend on sizes that are computed in the run, or all others."""
    names, late, lines = size_names(module), set(module.computed_sizes), list[str]()
    for member, port in zip(outputs, module.outputs, strict=True):
        if is_open(port) and computed != late.isdisjoint(symbols_of(port.type.shape)):
            lines.append(f"  if (out->{member}_dims != NULL) {{")
            lines += [f"    out->{member}_dims[{axis}] = {dim_text(size, names)};" for axis, size in enumerate(port.type.shape)]
            lines.append("  }")
    return lines


def set_size_lines(item: SetSize, module: Module, symbols: Symbols) -> list[str]:
    """A local for a size that the run computes; what is declared inside a branch or a loop is used there only."""
    name, symbol = size_names(module)[item.symbol.name], item.symbol
    value = f"*(const int64_t *){argument_text(item.source, symbols, writes=False)}"
    comment = f"  /* {comment_text(', '.join((*item.loc, str(symbol))))} */"
    if not item.clamped:
        return [comment, f"  const int64_t {name} = {value};",
                f"  if ({name} < {symbol.lower} || {name} > {symbol.upper}) return {COMPUTED_SIZE_STATUS};"]
    return [comment, f"  int64_t {name} = {value};", f"  if ({name} < {symbol.lower}) {name} = {symbol.lower};",
            f"  if ({name} > {symbol.upper}) {name} = {symbol.upper};"]
