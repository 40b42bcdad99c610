"""Inputs that have the same value in every run: they become constants of the graph, and what follows from them is known when compiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.bind import InputSpec, describe, suggestion
from edgecc.ir.types import Array, DType


def fixed_arrays(specs: Sequence[InputSpec], given: Mapping[str, Array]) -> dict[str, Array]:
    """The given values as arrays of the inputs' types.

    One number fills an input of fixed shape, and is one element where sizes are open.

    Raises: EdgeccError E001 for a name that is no input, and for numbers that its type cannot hold.
    """
    by_name = {spec.name: spec for spec in specs}
    found: dict[str, Array] = {}
    for name, value in given.items():
        spec = by_name.get(name)
        if spec is None:
            raise EdgeccError("E001", f"--constant names '{printable(name)}', which is no input of the model",
                              hint=suggestion(name, list(by_name)))
        found[name] = _shaped(spec, _typed(spec, np.asarray(value)))
    return found


def _typed(spec: InputSpec, value: Array) -> Array:
    if (value.dtype.kind in "OSU") != (spec.dtype is DType.STRING):
        raise EdgeccError("E001", f"--constant {printable(spec.name)}: {describe(spec)} does not hold such values")
    if spec.dtype is DType.STRING:
        return value.astype(object)
    try:
        with np.errstate(all="ignore"):
            cast = value.astype(spec.dtype.numpy)
            exact = np.array_equal(cast.astype(np.float64), value.astype(np.float64), equal_nan=True)
    except (TypeError, ValueError):  # records, dates and the like
        raise EdgeccError("E001", f"--constant {printable(spec.name)}: {describe(spec)} does not hold {printable(str(value.dtype), 60)}") from None
    if not exact and not spec.dtype.is_float:
        raise EdgeccError("E001", f"--constant {printable(spec.name)}: {describe(spec)} does not hold {printable(str(value), 60)}")
    return np.asarray(cast)


def _shaped(spec: InputSpec, value: Array) -> Array:
    if spec.dims is None or value.ndim == len(spec.dims) or value.size != 1:
        return value  # binding looks at the sizes
    dims = [dim if isinstance(dim, int) else 1 for dim in spec.dims]
    return np.full(dims, value.reshape(()), value.dtype)
