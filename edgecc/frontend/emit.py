"""Adds operators to the graph, evaluating those whose operands are all known.

Evaluating at once is what makes chains such as Shape -> Gather -> Concat -> Reshape vanish: the
converters that need a number (a shape, an axis, a condition) find a constant. Types are checked
against the limits before anything is computed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.known import followed, is_computable, sizes_operator
from edgecc.frontend.limits import Limits, raised
from edgecc.ir.dims import Dim, SymbolicDim, upper_bound
from edgecc.ir.graph import Graph, Value
from edgecc.ir.op import Op, RegionOp
from edgecc.ir.scalar import Arg, Convert
from edgecc.ir.strings import data_bytes, text_bytes
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.strings import takes_strings
from edgecc.ops.work import reference_work

ALWAYS_FOLDED_WORK = 2**16
"""Work of operators that are evaluated even when the budget is spent: shapes and indices are this small."""

STRING_WORK = 128
"""Scalar operations, and bytes, that a string takes beside its text."""


class Budget:
    """What a model has used of its limits, in all of its graphs together."""

    def __init__(self, limits: Limits) -> None:
        self.remaining_work = limits.folding_work
        self.made_bytes = 0
        self.constant_bytes = 0
        self.emitted = 0


class Emitter:
    """Adds nodes and constants to one graph within the limits.

    Operands may belong to the graphs around a region: they are captured, and constants get twins.

    Attributes:
        graph: the graph.
        parent: of a region, the emitter of the graph around it.
        captures: of a region, its inputs by the values of the graph around it that they stand for.
    """

    def __init__(self, graph: Graph, limits: Limits, parent: Emitter | None = None) -> None:
        self.graph = graph
        self.limits = limits
        self.parent = parent
        self.captures: dict[Value, Value] = {}
        self._budget: Budget = Budget(limits) if parent is None else parent._budget
        self._own: set[Value] = set()
        self._twins: dict[Value, Value] = {}

    def input(self, tensor_type: TensorType, name: str) -> Value:
        """Adds an input to a region."""
        value = self.graph.add_input(tensor_type, name)
        self._own.add(value)
        return value

    def local(self, value: Value) -> Value:
        """The value itself if it belongs to this graph, else the input or constant that stands for it."""
        if self.parent is None or value in self._own or (value.producer is not None and value.producer in self.graph):
            return value
        if value.constant is not None:
            if value not in self._twins:
                self._twins[value] = self.graph.own_constant(value)
                self._own.add(self._twins[value])
            return self._twins[value]
        if value.producer is not None and is_computable(value.producer):
            return self.emit(value.producer.op, value.producer.inputs, value.producer.loc)[value.producer.outputs.index(value)]
        outer = self.parent.local(value)
        if outer not in self.captures:
            self.captures[outer] = self.input(outer.type, f"capture_{len(self.captures)}")
            self.captures[outer].name = outer.name
        return self.captures[outer]

    def around(self) -> Iterator[Emitter]:
        """This one, then those of the graphs around it."""
        emitter: Emitter | None = self
        while emitter is not None:
            yield emitter
            emitter = emitter.parent

    def captured(self) -> dict[Value, Value]:
        """What inputs of this region and of those around it stand for."""
        return {inner: outer for emitter in self.around() for outer, inner in emitter.captures.items()}

    def constant(self, array: Array, name: str = "c") -> Value:
        """A constant of the graph.

        Raises: EdgeccError E101 where the constants become too large together.
        """
        self._budget.constant_bytes += data_bytes(array)
        if self._budget.constant_bytes > self.limits.constant_bytes:
            raise EdgeccError("E101", f"the constants of the model take more than {self.limits.constant_bytes} bytes",
                              hint=raised("constant_bytes"))
        value = self.graph.constant(array, printable(name))
        if self.parent is not None:
            self._own.add(value)
        return value

    def reserve(self, dims: Sequence[Dim], what: str, item_bytes: int = 8) -> None:
        """Takes an array, which is about to be made for the graph out of nothing but sizes, from the limits.

        Raises: EdgeccError E102 for a negative dimension, E101 where this array or all of them together are too large.
        """
        self._budget.made_bytes += self.limits.check_dims(dims, what) * item_bytes
        if self._budget.made_bytes > self.limits.made_bytes:
            raise EdgeccError("E101", f"{what} would have to be computed while compiling, with {[upper_bound(dim) for dim in dims]} elements of "
                                      f"{item_bytes} bytes; the limit for all such arrays together is {self.limits.made_bytes} bytes",
                              hint=raised("made_bytes"))

    def emit(self, op: Op, inputs: Sequence[Value | None], loc: Sequence[str], *, fold: bool = True) -> tuple[Value, ...]:
        """The results of an operator: constants where all operands are, else those of a new node.

        Without `fold` the model's own graph gets a node in any case; in regions constants are wanted at once.

        Raises: EdgeccError E110 where operands do not fit, E101 where a result or the graph is too large.
        """
        operands = [None if v is None else self.local(v) for v in inputs]
        while operands and operands[-1] is None:
            operands.pop()
        strings = any(v is not None and v.type.dtype is DType.STRING for v in operands)
        if strings and not takes_strings(op):
            raise op.fail("does not take strings", [None if v is None else v.type for v in operands])
        types = op.infer([None if v is None else v.type for v in operands])
        for tensor_type in types:
            self.limits.check_type(tensor_type, f"the result of {op.name}")
        present = [v for v in operands if v is not None]
        is_static = all(t.is_static for t in types)
        self._count()
        folds = fold or self.parent is not None
        if folds and present and is_static and all(v.constant is not None for v in present) and self._affordable(op, present, types):
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # numpy on empty axes and on NaN
                arrays = op.reference([None if v is None else v.constant for v in operands])
            return tuple(self.constant(_as_type(a, t)) for a, t in zip(arrays, types, strict=True))
        data = followed(op, operands) if is_static and not strings and len(types) == 1 else None
        if data is not None:
            return (self.whole_numbers(data, types[0].dtype, loc),)
        return self.graph.add_node(op, operands, loc=loc).outputs

    def emit_regions(self, op: RegionOp, inputs: Sequence[Value], regions: Sequence[Graph], loc: Sequence[str]) -> tuple[Value, ...]:
        """The results of an operator with regions, whose types are within the limits.

        Raises: EdgeccError E110 where operands and regions do not fit, E101 where a result or the graph is too large.
        """
        self._count(1 + sum(len(region.inputs) for region in regions))  # each value that a region reads is looked at like an operator
        node = self.graph.add_node(op, [self.local(v) for v in inputs], loc=loc, regions=regions)
        for value in node.outputs:
            self.limits.check_type(value.type, f"the result of {op.name}")
        return node.outputs

    def _count(self, operators: int = 1) -> None:
        self._budget.emitted += operators
        if self._budget.emitted > 2 * self.limits.nodes:
            raise EdgeccError("E101", f"the model expands to more than {2 * self.limits.nodes} operators",
                              hint=raised("nodes"))

    def whole_numbers(self, data: Array, dtype: DType, loc: Sequence[str]) -> Value:
        """`integers`, or floats that equal some."""
        if not dtype.is_float:
            return self.integers(data, dtype, loc)
        whole = self.integers(data, DType.I64, loc)
        if whole.constant is not None:
            return self.constant(whole.constant.astype(dtype.numpy))
        return self.graph.add_node(Elementwise(Convert(Arg(0, DType.I64), dtype)), (whole,), loc=loc).outputs[0]

    def integers(self, data: Array, dtype: DType, loc: Sequence[str] = ()) -> Value:
        """Integers some of which may be dimensions known only at run time: a constant, or the result of `Sizes`."""
        if any(isinstance(element, SymbolicDim) for element in data.reshape(-1)):
            return self.graph.add_node(sizes_operator(data, dtype), (), loc=loc).outputs[0]
        return self.constant(data.astype(dtype.numpy))

    def _affordable(self, op: Op, operands: Sequence[Value], results: Sequence[TensorType]) -> bool:
        """Whether evaluating fits into the budget, from which it is taken unless it is tiny."""
        # Strings are as long as they are: each element of a result may have the texts of all operands.
        made = sum(t.elements for t in results if t.dtype is DType.STRING)
        texts = STRING_WORK * made + sum(text_bytes(v.constant) for v in operands if v.constant is not None) if made else 0
        work = reference_work(op, [v.type for v in operands], results) + texts
        if work <= ALWAYS_FOLDED_WORK:
            return True
        size = sum(t.size_bytes for t in results) + texts
        if work > self._budget.remaining_work or self._budget.constant_bytes + size > self.limits.constant_bytes:
            return False
        self._budget.remaining_work -= work
        return True


def _as_type(array: Array, tensor_type: TensorType) -> Array:
    """The array as the shape rule promises it; numpy turns results of rank 0 into scalars now and then."""
    return np.asarray(array, dtype=tensor_type.dtype.numpy).reshape(tensor_type.dims)

