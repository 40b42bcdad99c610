"""A TOSA 1.0 file, put together from tensors and operators.

The serializer comes with tosa-tools and has no types; this is the only file that touches it. Where it is missing, files can be neither
written nor run. Source: TOSA 1.0 specification; names of operators and attributes are its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecc.backends.requirements import Requirement
from edgecc.errors import EdgeccError
from edgecc.ir.types import Array

TOSA = Requirement("tosa_serializer", "knows the TOSA file format", "pip install tosa-tools")
MODEL = Requirement("tosa_reference_model", "runs TOSA files", "pip install tosa-tools")

KINDS = {"FLOAT32": "FP32", "INT8": "INT8", "INT16": "INT16", "INT32": "INT32", "BOOL": "BOOL"}
"""TOSA's name of each of the recorder's element types that it computes with."""
_NUMPY = {"FP32": np.float32, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "BOOL": np.bool_}
_WORDS = {"Matmul": "MatMul", "Argmax": "ArgMax"}
"""Operators whose names are two words in the serializer only."""


def kind_of(kind: str) -> str:
    """TOSA's name of an element type of the recorder's. Raises: EdgeccError E114 for one that TOSA does not compute with."""
    if kind not in KINDS:
        raise EdgeccError("E114", f"TOSA's base profiles have no tensors of {kind.lower()}")
    return KINDS[kind]


class TosaWriter:
    """The operators of one file, in order. Tensors go by names."""

    def __init__(self) -> None:
        self._module: Any = importlib.import_module("tosa_serializer")
        self._file: Any = self._module.TosaSerializer("", self._module.ConstMode.EMBED, 1, 0, 0, False)
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.kinds: dict[str, str] = {}

    def input(self, shape: Sequence[int], kind: str) -> str:
        """A tensor that the caller gives."""
        return self._known(self._file.addPlaceholder(list(shape), self._dtype(kind), None), shape, kind)

    def output(self, shape: Sequence[int], kind: str) -> str:
        """A tensor that some operator computes for the caller; the order of these calls is that of the outputs."""
        return self._known(self._file.addOutput(list(shape), self._dtype(kind)), shape, kind)

    def tensor(self, shape: Sequence[int], kind: str) -> str:
        """A tensor between operators."""
        return self._known(self._file.addIntermediate(list(shape), self._dtype(kind)), shape, kind)

    def constant(self, array: Array, kind: str) -> str:
        """A tensor of known numbers; equal ones are stored once."""
        data: Array = np.ascontiguousarray(array, _NUMPY[kind]).reshape(np.shape(array))
        key = (kind, data.shape, data.tobytes())
        if key not in self._constants:
            made = self._file.addConst(list(data.shape), self._dtype(kind), data, f"const{len(self._constants)}")
            self._constants[key] = self._known(made, data.shape, kind)
        return self._constants[key]

    def shape(self, numbers: Sequence[int]) -> str:
        """An operand of numbers that say shapes, positions or paddings."""
        data = np.asarray(numbers, np.int64)
        key = ("SHAPE", data.shape, data.tobytes())
        if key not in self._constants:
            self._constants[key] = str(self._file.addConst([data.size], self._module.DType.SHAPE, data, f"const{len(self._constants)}").name)
        return self._constants[key]

    def operator(self, name: str, inputs: Sequence[str], output: str, *attributes: Any) -> str:
        """Adds an operator with its attributes in the order of the specification; returns the name of its output."""
        table = self._module.TosaSerializerAttribute()
        kind = getattr(self._module.Op, name)
        method = "".join(part.capitalize() for part in name.split("_"))
        getattr(table, f"{_WORDS.get(method, method)}Attribute")(*(self._attribute(each) for each in attributes))
        self._file.addOperator(kind, list(inputs), [output], table)
        return output

    def finish(self) -> bytes:
        """The file."""
        return bytes(self._file.serialize())

    def _attribute(self, value: Any) -> Any:
        """A value of an attribute; strings "ENUMERATION.NAME" are values of the serializer's enumerations."""
        if isinstance(value, str):
            enumeration, _, name = value.partition(".")
            return getattr(getattr(self._module, enumeration), name)
        return value

    def _dtype(self, kind: str) -> Any:
        return getattr(self._module.DType, kind)

    def _known(self, made: Any, shape: Sequence[int], kind: str) -> str:
        name = made if isinstance(made, str) else str(made.name)
        self.shapes[name], self.kinds[name] = tuple(shape), kind
        return name
