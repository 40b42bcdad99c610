"""Inputs and outputs that are sequences or optionals, as tensors.

Both exist only while importing: a sequence of known length is that many tensors, called NAME_0, NAME_1 and so on, and an
optional is there or it is not. What they are is taken from the values given for the inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.items import Item, KeyedColumns, Missing, TensorSequence
from edgecc.ir.graph import Value
from edgecc.ir.types import Array

Given: TypeAlias = Array | Sequence[Array] | None
"""What is given for an input: an array, the arrays of a sequence, or None for an optional that holds nothing."""


@dataclass(frozen=True)
class Port:
    """An input or output of a model.

    Attributes:
        name: in the model.
        kind: "tensor", "sequence", "map", "maps" for a sequence of maps, or "missing" for an optional that holds nothing.
        parts: the tensors it consists of, by name. Of maps it is one, with a row for each map.
        keys: of maps, what the columns stand for.
    """

    name: str
    kind: str
    parts: tuple[str, ...]
    keys: tuple[int | str, ...] = ()

    def gather(self, arrays: Mapping[str, Array]) -> Array | list[Array] | list[dict[int | str, float | int | str]] | None:
        """The value of the port, made of those of its tensors."""
        if self.kind == "missing":
            return None
        found = [arrays[part] for part in self.parts]
        if self.kind in ("map", "maps"):
            return [dict(zip(self.keys, row, strict=True)) for row in found[0].tolist()]
        return found if self.kind == "sequence" else found[0]


def port_of_input(name: str, given: Given) -> Port:
    """The port of an input for which this is given."""
    if given is None:
        return Port(name, "missing", ())
    if isinstance(given, np.ndarray | np.generic):
        return Port(name, "tensor", (name,))
    return Port(name, "sequence", tuple(f"{name}_{index}" for index in range(len(given))))


def port_of_output(name: str, item: Item | None) -> Port | None:
    """The port of an output that this item stands for; None where it cannot be one."""
    match item:
        case Value():
            return Port(name, "tensor", (name,))
        case TensorSequence():
            return Port(name, "sequence", tuple(f"{name}_{index}" for index in range(len(item.items))))
        case KeyedColumns(keys=keys):
            return Port(name, "maps", (name,), keys)
        case Missing():
            return Port(name, "missing", ())
    return None


def tensors_of_item(item: Item) -> tuple[Value, ...]:
    """The tensors an output consists of."""
    if isinstance(item, TensorSequence):
        return item.items
    if isinstance(item, KeyedColumns):
        return (item.values,)
    return (item,) if isinstance(item, Value) else ()


def flattened(given: Mapping[str, Given]) -> dict[str, Array]:
    """The arrays given for all inputs, by the names of the tensors they become."""
    arrays: dict[str, Array] = {}
    for name, value in given.items():
        port = port_of_input(name, value)
        parts = [value] if port.kind == "tensor" else () if value is None else value
        for part, array in zip(port.parts, parts, strict=True):
            if part in arrays or (part != name and part in given):
                raise EdgeccError("E005", f"two inputs are called '{printable(part)}'")
            arrays[part] = np.asarray(array)
    return arrays


def tensor_inputs(values: Sequence[onnx.ValueInfoProto], given: Mapping[str, Given]) -> list[onnx.ValueInfoProto]:
    """The declared inputs with sequences and optionals replaced by the tensors that the given values make of them.

    One for which nothing is given is left as it is.
    Raises: EdgeccError E005 where a value does not fit the declared kind.
    """
    tensors: list[onnx.ValueInfoProto] = []
    for value in values:
        declared = value.type
        if value.name not in given or declared.WhichOneof("value") in ("tensor_type", None):
            tensors.append(value)
            continue
        port = port_of_input(value.name, given[value.name])
        if declared.HasField("optional_type"):
            declared = declared.optional_type.elem_type
        elif port.kind == "missing":
            raise EdgeccError("E005", f"'{printable(value.name)}' is no optional; nothing is given for it")
        if declared.HasField("sequence_type"):
            # The tensors of a sequence may differ in shape, so that declared dimensions do not hold for each of them.
            declared = onnx.helper.make_tensor_type_proto(declared.sequence_type.elem_type.tensor_type.elem_type, None)
            if port.kind == "tensor":
                raise EdgeccError("E005", f"'{printable(value.name)}' is a sequence; one array is given for it")
        elif port.kind == "sequence":
            raise EdgeccError("E005", f"'{printable(value.name)}' is no sequence; several arrays are given for it")
        tensors += [onnx.ValueInfoProto(name=part, type=declared) for part in port.parts]
    return tensors
