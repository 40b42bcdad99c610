"""Gives every dimension of every graph input a number, or bounds between which it is left to the run.

Sources, in this order: shapes given by the user, also where the model fixes a size; the model itself; arrays given by the user; other
inputs that share the name of a dimension; sums of products of such names ("past + 1"), as the model or the user gives them;
and 1 for a leading dimension that is called like a batch.

A dimension given as a `Range` becomes a symbolic dimension (edgecc/ir/dims.py) under its name in the model.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.limits import Limits
from edgecc.frontend.registry import Unsupported
from edgecc.frontend.tensors import element_type
from edgecc.ir.dims import Dim, Symbol, SymbolicDim, lower_bound, step_of, stepped, symbol, symbols_of
from edgecc.ir.strings import check_strings
from edgecc.ir.types import Array, DType, TensorType

_BATCH = re.compile(r"n|b|bs|unk__\d+|dynamic_axes_\d+|(p2o\.)?DynamicDimension\.0|(.*[_\W])?batch([_\W]?size|[_\W]?dim)?(_?\d+)?",
                    re.IGNORECASE)
_NO_NAME = frozenset({"", "?", "-1", "None", "none"})
"""What exporters write as the name of any dimension they do not know; two of them need not be equal."""
_FACTOR = re.compile(r"[A-Za-z_][\w.]*|\d{1,9}")


@dataclass(frozen=True)
class InputSpec:
    """A graph input as the model declares it. A dim is a number, a name, or None; `dims` is None without a shape."""

    name: str
    dtype: DType
    dims: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Range:
    """Bounds, both inclusive, of a dimension that is left open; `upper` None: what the limits allow.

    With a `step` the dimension is one of lower, lower + step, ... Dimensions of the same `name` are the same number.
    """

    lower: int = 1
    upper: int | None = None
    step: int = 1
    name: str = ""

    def __str__(self) -> str:
        bounds = "?" if self.upper is None else f"{self.lower}..{self.upper}"
        return (f"{self.name}:" if self.name else "") + bounds + (f":{self.step}" if self.step != 1 else "")


GivenDim = int | Range | str
"""A size as users give it: a number, bounds, or what follows from other sizes, a sum of products of names: "past + seq"."""


@dataclass(frozen=True)
class Binding:
    """The outcome.

    Attributes:
        types: a type for each input.
        dims: the sizes of named dimensions.
        notes: what was assumed.
        changed: which sizes that the model fixes are others now.
        opened_batch: the size of the first dimension of all inputs of which that was changed, if the model fixes it to 1 and the
            run decides it.
    """

    types: Mapping[str, TensorType]
    dims: Mapping[str, Dim]
    notes: tuple[str, ...]
    changed: tuple[str, ...] = ()
    opened_batch: SymbolicDim | None = None


def input_spec(value: onnx.ValueInfoProto) -> InputSpec:
    """Reads the declared type of one input.

    Raises: EdgeccError E102 for an undefined element type, Unsupported for what is no tensor of a type the IR has.
    """
    what = f"input '{printable(value.name)}'"
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise Unsupported(f"it is of kind {kind or 'unknown'}; only tensors can be inputs",
                          "give its value with `inputs`, or change the model to take plain tensors")
    tensor = value.type.tensor_type
    dims: tuple[int | str | None, ...] | None = None
    if tensor.HasField("shape"):
        dims = tuple(_declared_dim(dim) for dim in tensor.shape.dim)
    return InputSpec(value.name, element_type(tensor.elem_type, what), dims)


def _declared_dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return None if dim.dim_param in _NO_NAME else str(dim.dim_param)


@dataclass
class _Binder:
    """The state of binding: what is known of each input and of each name."""

    specs: Sequence[InputSpec]
    limits: Limits
    sizes: dict[str, Dim] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, list[Dim | str | None] | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    batches: set[Dim | None] = field(default_factory=set)

    def name_dim(self, name: str, size: Dim, source: str, code: str) -> None:
        """Binds a dim name, refusing a second, different size."""
        old = self.sizes.setdefault(name, size)
        if old != size:
            raise EdgeccError(code, f"dimension '{printable(name)}' is {old} by {self.source[name]} and {size} by {source}")
        self.source.setdefault(name, source)

    def opened(self, given: int | Range, name: str, source: str, code: str) -> Dim:
        """A given size as a dimension; one with bounds is called `name`."""
        if not isinstance(given, Range):
            return int(given)
        upper = max(given.lower, self.limits.open_size) if given.upper is None else given.upper
        known = self.sizes.get(name)
        if given.upper is None and known is not None:
            return known
        if not 0 <= given.lower <= upper or given.step < 1:
            raise EdgeccError(code, f"{source} gives the bounds {given}, which are not ordered")
        if given.step == 1:
            return symbol(name, given.lower, upper)
        return stepped(name, given.lower, upper, given.step)

    def give(self, spec: InputSpec, given: Sequence[GivenDim], source: str, code: str) -> None:
        """Binds all dims of an input to the given sizes."""
        shown = "x".join(map(str, given))
        known = spec.dims if spec.dims is not None and len(spec.dims) == len(given) else (None,) * len(given)
        declared = [size.name if isinstance(size, Range) and size.name and not isinstance(dim, str) else dim for size, dim in zip(given, known, strict=True)]
        sizes = [size if isinstance(size, str) else dim if isinstance(size, Range) and size.upper is None and isinstance(dim, int) else
                 self.opened(size, dim if isinstance(dim, str) else f"{spec.name}.{axis}", source, code)
                 for axis, (size, dim) in enumerate(zip(given, declared, strict=True))]
        if any(lower_bound(size) < 0 for size in sizes if not isinstance(size, str)):
            raise EdgeccError(code, f"{source} gives a negative dimension: {shown}")
        if spec.dims is not None and len(spec.dims) != len(sizes):
            raise EdgeccError(code, f"{source} gives {len(sizes)} dimensions ({shown or 'a scalar'}); input "
                                    f"'{printable(spec.name)}' has {len(spec.dims)}: {describe(spec)}")
        for axis, (dim, size) in enumerate(zip(spec.dims or (), sizes, strict=False)):
            if isinstance(dim, int) and dim != size and code == "E001":  # what --shape says counts more than the file
                self.changed.append(f"dimension {axis} of '{printable(spec.name)}' is {size} instead of {dim}")
                self.shapes[spec.name] = None
                self.batches |= set() if axis else {size if dim == 1 and not isinstance(size, str) else None}
            elif isinstance(dim, int) and dim != size and (self.shapes[spec.name] or [dim] * len(sizes))[axis] == dim:
                raise EdgeccError(code, f"{source} gives {size} for dimension {axis} of '{printable(spec.name)}'; "
                                        f"the model fixes it to {dim}: {describe(spec)}")
        for dim, size in zip(declared, sizes, strict=True):
            if isinstance(dim, str) and isinstance(size, str):
                self.name_sum(dim, size, source)
            elif isinstance(dim, str) and not isinstance(size, str):
                self.name_dim(dim, size, source, code)
        old = self.shapes.get(spec.name)
        if old is not None and any(not isinstance(a, str | None) and a != b for a, b in zip(old, sizes, strict=True)):
            raise EdgeccError(code, f"{source} gives {shown} for '{printable(spec.name)}', which was given as "
                                    f"{'x'.join(map(str, old))} before")
        self.shapes[spec.name] = list(sizes)

    def name_sum(self, name: str, terms: str, source: str) -> None:
        """Says what a named dim follows from, refusing a second way."""
        if self.sums.setdefault(name, terms) != terms:
            raise EdgeccError("E001", f"dimension '{printable(name)}' is {self.sums[name]} by {self.source[name]} and {terms} by {source}")
        self.source.setdefault(name, source)

    def resolve(self) -> None:
        """Replaces names, and sums of names, that are known by now."""
        left = dict(self.sums)
        while found := {name: size for name, terms in left.items() if not isinstance(size := _value_of(terms, self.sizes), str)}:
            for name, size in found.items():
                self.name_dim(name, size, f"'{printable(left.pop(name))}'", "E001")
        for name, shape in self.shapes.items():
            if shape is not None:
                self.shapes[name] = [_value_of(dim, self.sizes) if isinstance(dim, str) else dim for dim in shape]

    def assume_batch(self) -> None:
        """Binds leading dims that are called like a batch, or not called at all, to 1."""
        for spec in self.specs:
            shape = self.shapes[spec.name]
            if not shape or not isinstance(shape[0], str | None):
                continue
            name = shape[0]
            if name is None:
                self.notes.append(f"the first dimension of input '{printable(spec.name)}' is dynamic; it is taken to be 1")
                shape[0] = 1
            elif _BATCH.fullmatch(name):
                self.notes.append(f"dimension '{printable(name)}' of input '{printable(spec.name)}' is taken to be 1")
                self.name_dim(name, 1, "default", "E104")
                self.resolve()


def _names_within(dim: str) -> frozenset[str]:
    """The names that a sum or difference of products consists of; none where it is something else."""
    factors = [factor.strip() for factor in re.split(r"[-+*]", dim)]
    return frozenset(f for f in factors if not f.isdecimal()) if len(factors) < 10 and all(map(_FACTOR.fullmatch, factors)) else frozenset()


def _value_of(dim: str, sizes: Mapping[str, Dim]) -> Dim | str:
    """The size of a name or of a sum or difference of products of names and numbers, if all are known; else `dim`."""
    if dim in sizes:
        return sizes[dim]
    parts = re.split(r"\s*([+-])\s*", dim.strip())
    products = [re.split(r"\s*\*\s*", part) for part in parts[::2]]
    if sum(map(len, products)) > 9 or not all(_FACTOR.fullmatch(factor) for product in products for factor in product):
        return dim
    total: Dim = 0
    for sign, product in zip(["+", *parts[1::2]], products, strict=True):
        term: Dim = 1 if sign == "+" else -1
        for factor in product:
            size = int(factor) if factor.isdecimal() else sizes.get(factor)
            if size is None:
                return dim
            term = term * size
        total = total + term
    return total if lower_bound(total) >= 0 else dim


def describe(spec: InputSpec) -> str:
    """The declared type as text: `f32[batch,3,?,?]`."""
    if spec.dims is None:
        return f"{spec.dtype.value}[...]"
    return f"{spec.dtype.value}[{','.join('?' if dim is None else printable(str(dim), 40) for dim in spec.dims)}]"


def names_of_dims(specs: Iterable[InputSpec]) -> frozenset[str]:
    """What the model calls dimensions of its inputs."""
    return frozenset(dim for spec in specs for dim in spec.dims or () if isinstance(dim, str))


def bind(specs: Sequence[InputSpec], shapes: Mapping[str, Sequence[GivenDim]], arrays: Mapping[str, Array], limits: Limits,
         ignored: Iterable[str] = ()) -> Binding:
    """Binds every dim of `specs`.

    Args:
        specs: the inputs of the model.
        shapes: sizes by input name, also in place of those that the model fixes; a name of a dim with one size binds that dim.
            A `Range` leaves a dim open; a text says that it follows from other dims.
        arrays: input arrays, whose shapes bind and whose element types must fit.
        limits: bounds on rank and elements.
        ignored: names that may be given although they are not bound: weights, inputs refused for other reasons.
    Raises: EdgeccError E001 (shapes contradict), E005 (arrays contradict), E104 (dims left), E101.
    """
    by_name = {spec.name: spec for spec in specs}
    binder = _Binder(specs, limits, shapes={spec.name: None if spec.dims is None else list(spec.dims) for spec in specs})
    declared = names_of_dims(specs)
    dim_names = declared.union(*map(_names_within, declared))
    skipped = set(ignored)
    for name, sizes in shapes.items():
        if name in skipped and name not in dim_names:
            continue
        if name in by_name:
            binder.give(by_name[name], sizes, f"--shape {printable(name)}", "E001")
        elif name in dim_names and len(sizes) == 1:
            source, given = f"--shape {printable(name)}", sizes[0]
            if isinstance(given, str):
                binder.name_sum(name, given, source)
            else:
                binder.name_dim(name, binder.opened(given, name, source, "E001"), source, "E001")
        else:
            raise EdgeccError("E001", f"--shape names '{printable(name)}', which is neither an input nor a dimension "
                                      "of the model", hint=suggestion(name, [*by_name, *sorted(dim_names)]))
    opened = any(isinstance(size, SymbolicDim) for size in binder.sizes.values()) or any(
        isinstance(size, SymbolicDim) for shape in binder.shapes.values() for size in shape or ())
    for name, array in arrays.items():
        if name in skipped:
            continue
        if name not in by_name:
            raise EdgeccError("E005", f"the model has no input '{printable(name)}'", hint=suggestion(name, list(by_name)))
        spec = by_name[name]
        if array.dtype != spec.dtype.numpy:
            raise EdgeccError("E005", f"the array for '{printable(name)}' has elements of type {array.dtype}; "
                                      f"the model wants {spec.dtype.value}")
        if spec.dtype is DType.STRING:
            check_strings(array, f"the array for '{printable(name)}'", "E005")
        if not opened:  # with open dimensions the arrays are one case of many, and are checked when they are run
            binder.give(spec, array.shape, f"the array for '{printable(name)}'", "E005")
    binder.resolve()
    binder.assume_batch()
    binder.resolve()
    for name, terms in binder.sums.items():
        if missing := sorted(set(re.findall(r"[A-Za-z_][\w.]*", terms)) - binder.sizes.keys() - dim_names):
            raise EdgeccError("E001", f"--shape {printable(name)}: '{printable(missing[0])}' is no dimension of the model",
                              hint=suggestion(missing[0], sorted(dim_names)))
    _refuse_unbound(specs, binder)
    types = {}
    for spec in specs:
        shape = tuple(dim for dim in binder.shapes[spec.name] or () if not isinstance(dim, str | None))
        limits.check_dims(shape, f"input '{printable(spec.name)}'")
        types[spec.name] = TensorType(spec.dtype, shape)
    if binder.changed:
        binder.notes.append(f"{'; '.join(binder.changed)}, which the file fixes; numbers inside the model stay as they are"
                            + (", but shapes of single items" if _opened(binder) is not None else ""))
    return Binding(types, dict(binder.sizes), tuple(binder.notes), tuple(binder.changed),
                   _opened(binder))


def _opened(binder: _Binder) -> SymbolicDim | None:
    """The one batch size that the run decides, if no other first dimension was changed."""
    return next((size for size in binder.batches if len(binder.batches) == 1 and isinstance(size, SymbolicDim)), None)


def in_larger_steps(specs: Sequence[InputSpec], binding: Binding, sizes: Collection[Symbol], factor: int) -> str:
    """The flags that leave those dimensions open that `sizes` stand for, in steps `factor` times as large; "" where the bounds have no multiple of them."""
    named = names_of_dims(specs)
    flags: list[str] = []

    def reopened(dim: Dim) -> str:
        known = [step_of(size) for size in symbols_of([dim]) if size in sizes]
        if not known or isinstance(dim, int):
            return str(dim)
        name, step = known[0][0], known[0][1] * factor
        lower, upper = -(-max(1, dim.lower) // step) * step, dim.upper // step * step
        given = "" if lower > upper else f"{lower}..{upper}:{step}" if lower < upper else f"{lower}"
        if name in named and given:
            flags.append(f"--shape {printable(name, 60)}={given}")
        return given

    for spec in specs:
        shape = binding.types[spec.name].shape
        texts = [reopened(dim) for dim in shape]
        if "" in texts:
            return ""
        if any(size in sizes and step_of(size)[0] not in named for size in symbols_of(shape)):
            flags.append(f"--shape {printable(spec.name, 60)}={'x'.join(texts)}")
    return " ".join(dict.fromkeys(flags))


def suggestion(name: str, known: Sequence[str]) -> str:
    """A hint for a name that is none of `known`: the nearest of them, or what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean '{printable(close[0])}'?"
    return "known names: " + ", ".join(printable(n, 60) for n in known[:20]) if known else "the model has no inputs"


def _refuse_unbound(specs: Sequence[InputSpec], binder: _Binder) -> None:
    details, flags = [], list[str]()
    for spec in specs:
        shape = binder.shapes[spec.name]
        if shape is None:
            details.append(f"{printable(spec.name)}: the model gives no shape")
            flags.append(f"--shape {printable(spec.name)}=...")
        elif any(isinstance(dim, str | None) for dim in shape):
            names = [f"dimension {axis} ({'unnamed' if dim is None else printable(dim, 60)})"
                     for axis, dim in enumerate(shape) if isinstance(dim, str | None)]
            details.append(f"{printable(spec.name)}: {describe(spec)}: {', '.join(names)}")
            if any(dim is None or (isinstance(dim, str) and not all(map(str.isidentifier, _names_within(dim) or [""]))) for dim in shape):
                example = [f"<{printable(dim or '?', 40)}>" if isinstance(dim, str | None) else str(dim) for dim in shape]
                flags.append(f"--shape {printable(spec.name)}={'x'.join(example)}")
            else:
                flags += [f"--shape {printable(name, 40)}=<size>" for dim in shape if isinstance(dim, str) for name in sorted(_names_within(dim))]
    if details:
        raise EdgeccError("E104", "the model has dimensions without a size", details=details,
                          hint=f"give sizes with {' '.join(dict.fromkeys(flags))}, or bounds such as 1..64, or pass --inputs")
