"""Collects the nodes, initializers and names of an ONNX model that is being written.

Operators of the Graph IR write themselves through a `Writer` (see `operators.py`); it makes names unique, stores equal
constants once and knows which opset the model is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgecc.errors import printable
from edgecc.ir.dims import Dim, numbers
from edgecc.ir.names import UniqueNames
from edgecc.ir.types import Array, DType

OLDEST_OPSET, NEWEST_OPSET, DEFAULT_OPSET = 17, 23, 21
"""Opsets that can be written. 17 has LayerNormalization, 21 blocked and 4-bit quantization."""

Attribute = int | float | str | Sequence[int] | Sequence[float]


class Writer:
    """The parts of one model.

    Args:
        opset: version of the default domain, `OLDEST_OPSET` to `NEWEST_OPSET`.
        reserved: names of the interface, which nothing inside may have.
    """

    def __init__(self, opset: int, reserved: Sequence[str]) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._names = UniqueNames(reserved)
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._location = ""

    def at(self, location: str) -> None:
        """Nodes written from here on stand for the user's nodes `location`, and are called like them."""
        self._location = location

    def fresh(self, hint: str) -> str:
        """A name that nothing has yet: `hint`, with a number behind it where it is taken."""
        return self._names.fresh(printable(hint) or "value")

    def node(self, op: str, inputs: Sequence[str | None], attributes: Mapping[str, Attribute] | None = None, *,
             results: int = 1, names: Sequence[str] = ()) -> list[str]:
        """Adds a node; returns the names of its results.

        Args:
            inputs: names of the operands, None for absent ones.
            results: how many results to name; a result called "" is left out.
            names: names of the results, fresh ones without it.
        """
        outputs = list(names) if names else [self.fresh(op.lower()) for _ in range(results)]
        operands = ["" if name is None else name for name in inputs]
        while operands and not operands[-1]:
            operands.pop()
        extra: dict[str, Any] = dict(attributes or {})
        self.nodes.append(helper.make_node(op, operands, outputs, name=self.fresh(self._location or op), **extra))
        return outputs

    def one(self, op: str, *inputs: str | None, **attributes: Attribute) -> str:
        """Adds a node with one result; returns its name."""
        return self.node(op, inputs, attributes)[0]

    def constant(self, array: Array, hint: str = "constant") -> str:
        """The name of an initializer that holds `array`; equal arrays are stored once."""
        data = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (str(data.dtype), data.shape, data.tobytes())
        name = self._constants.get(key)
        if name is None:
            name = self.fresh(hint)
            self._constants[key] = name
            self.initializers.append(numpy_helper.from_array(data, name))
        return name

    def scalar(self, value: float | int | bool, dtype: DType) -> str:
        """The name of a constant of rank 0."""
        return self.constant(np.asarray(value).astype(dtype.numpy), "scalar")

    def integers(self, values: Sequence[Dim], hint: str) -> str:
        """The name of a constant vector of 64-bit integers, such as a shape."""
        return self.constant(np.asarray(numbers(values), np.int64), hint)
