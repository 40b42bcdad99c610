"""Adds operators to the graph, evaluating those whose operands are all known.

Evaluating at once is what makes chains such as Shape -> Gather -> Concat -> Reshape vanish: the
converters that need a number (a shape, an axis, a condition) find a constant. Types are checked
against the limits before anything is computed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.known import followed, sizes_operator
from edgecc.frontend.limits import Limits, raised
from edgecc.ir.dims import SymbolicDim
from edgecc.ir.graph import Graph, Value
from edgecc.ir.op import Op
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops.work import reference_work

ALWAYS_FOLDED_WORK = 2**16
"""Work of operators that are evaluated even when the budget is spent: shapes and indices are this small."""


class Emitter:
    """Adds nodes and constants to one graph within the limits."""

    def __init__(self, graph: Graph, limits: Limits) -> None:
        self.graph = graph
        self.limits = limits
        self.remaining_work = limits.folding_work
        self.constant_bytes = 0
        self.emitted = 0

    def constant(self, array: Array, name: str = "c") -> Value:
        """A constant of the graph.

        Raises: EdgeccError E101 where the constants become too large together.
        """
        self.constant_bytes += array.nbytes
        if self.constant_bytes > self.limits.constant_bytes:
            raise EdgeccError("E101", f"the constants of the model take more than {self.limits.constant_bytes} bytes",
                              hint=raised("constant_bytes"))
        return self.graph.constant(array, printable(name))

    def emit(self, op: Op, inputs: Sequence[Value | None], loc: Sequence[str]) -> tuple[Value, ...]:
        """The results of an operator: constants where all operands are, else those of a new node.

        Raises: EdgeccError E110 where operands do not fit, E101 where a result or the graph is too large.
        """
        operands = list(inputs)
        while operands and operands[-1] is None:
            operands.pop()
        types = op.infer([None if v is None else v.type for v in operands])
        for tensor_type in types:
            self.limits.check_type(tensor_type, f"the result of {op.name}")
        present = [v for v in operands if v is not None]
        is_static = all(t.is_static for t in types)
        self.emitted += 1
        if self.emitted > 2 * self.limits.nodes:
            raise EdgeccError("E101", f"the model expands to more than {2 * self.limits.nodes} operators",
                              hint=raised("nodes"))
        if present and is_static and all(v.constant is not None for v in present) and self._affordable(op, present, types):
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # numpy on empty axes and on NaN
                arrays = op.reference([None if v is None else v.constant for v in operands])
            return tuple(self.constant(_as_type(a, t)) for a, t in zip(arrays, types, strict=True))
        data = followed(op, operands) if is_static and len(types) == 1 and not types[0].dtype.is_float else None
        if data is not None:
            return (self.integers(data, types[0].dtype, loc),)
        return self.graph.add_node(op, operands, loc=loc).outputs

    def integers(self, data: Array, dtype: DType, loc: Sequence[str] = ()) -> Value:
        """Integers some of which may be dimensions known only at run time: a constant, or the result of `Sizes`."""
        if any(isinstance(element, SymbolicDim) for element in data.reshape(-1)):
            return self.graph.add_node(sizes_operator(data, dtype), (), loc=loc).outputs[0]
        return self.constant(data.astype(dtype.numpy))

    def _affordable(self, op: Op, operands: Sequence[Value], results: Sequence[TensorType]) -> bool:
        """Whether evaluating fits into the budget, from which it is taken unless it is tiny."""
        work = reference_work(op, [v.type for v in operands], results)
        if work <= ALWAYS_FOLDED_WORK:
            return True
        size = sum(t.size_bytes for t in results)
        if work > self.remaining_work or self.constant_bytes + size > self.limits.constant_bytes:
            return False
        self.remaining_work -= work
        return True


def _as_type(array: Array, tensor_type: TensorType) -> Array:
    """The array as the shape rule promises it; numpy turns results of rank 0 into scalars now and then."""
    return np.asarray(array, dtype=tensor_type.dtype.numpy).reshape(tensor_type.dims)

