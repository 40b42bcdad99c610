"""One node while it is converted: its operands and attributes, and the means to build what replaces it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.items import Item, KeyedColumns, Missing, StackedSequence, TensorSequence
from edgecc.frontend.known import is_symbolic, known_data
from edgecc.frontend.registry import Unsupported
from edgecc.frontend.tensors import strings_of, tensor_array
from edgecc.ir.dims import fixing_hint, step_of, symbols_of, upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.op import Op
from edgecc.ir.scalar import Arg, ScalarExpr, convert
from edgecc.ir.strings import zeros
from edgecc.ir.types import Array, Dim, DType, Shape
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.movement import Expand, Reshape, Slice, Transpose

if TYPE_CHECKING:
    from edgecc.frontend.convert import Importer, Scope

_KINDS = onnx.AttributeProto


class Call:
    """A node of the model with its operands looked up.

    Attributes:
        node: the node.
        version: the version of the node's operator domain.
        inputs: the operands; None where one is absent.
        loc: the node's name in the user's model.
        attributes: the node's attributes by name, references resolved.
    """

    def __init__(self, importer: Importer, scope: Scope, node: onnx.NodeProto, version: int, loc: tuple[str, ...],
                 inputs: Sequence[Item | None], attributes: Mapping[str, onnx.AttributeProto]) -> None:
        self.importer = importer
        self.scope = scope
        self.node = node
        self.version = version
        self.loc = loc
        self.inputs = tuple(inputs)
        self.attributes = attributes

    # -- operands -----------------------------------------------------------------------------

    def optional(self, index: int) -> Value | None:
        """Operand `index`, or None where it is absent. It must be a tensor."""
        item = self.inputs[index] if index < len(self.inputs) else None
        if item is None or isinstance(item, Value):
            return item
        kind = {TensorSequence: "a sequence", StackedSequence: "a sequence", KeyedColumns: "a sequence of maps", Missing: "an empty optional"}.get(type(item), "no tensor")
        raise Unsupported(f"operand {index} is {kind}")

    def input(self, index: int = 0) -> Value:
        """Operand `index`, which the operator requires.

        Raises: EdgeccError E102 where it is absent.
        """
        value = self.optional(index)
        if value is None:
            raise EdgeccError("E102", f"operand {index} of {printable(self.node.op_type)} is missing")
        return value

    def values(self) -> tuple[Value, ...]:
        """All operands, each of which must be present."""
        return tuple(self.input(index) for index in range(len(self.inputs)))

    def known(self, index: int, what: str) -> Array:
        """The data of an operand that must be constant.

        Raises: Unsupported where it is computed at run time.
        """
        value = self.input(index)
        data = known_data(value)
        if data is not None and is_symbolic(data):
            sizes = symbols_of(data.reshape(-1))
            names = " and ".join(f"'{printable(step_of(size)[0])}'" for size in sizes)
            raise EdgeccError("E104", f"{what} (operand {index}) depends on the dimension {names}", hint=fixing_hint(sizes))
        if data is None:
            raise Unsupported(f"{what} (operand {index}) is not a constant",
                              "export the model with fixed shapes, or make this operand a constant", needs=(value,))
        return data

    def known_optional(self, index: int, what: str) -> Array | None:
        """`known` for an operand that may be absent."""
        return None if self.optional(index) is None else self.known(index, what)

    def known_ints(self, index: int, what: str) -> tuple[int, ...]:
        """The numbers in a constant integer operand of rank 0 or 1."""
        data = self.known(index, what)
        if data.dtype.kind not in "iu" or data.ndim > 1:
            raise EdgeccError("E110", f"{what} (operand {index}) must be a list of integers, "
                                      f"it is {DType.from_numpy(data.dtype).value}{list(data.shape)}")
        return tuple(int(x) for x in data.reshape(-1))

    def known_dims(self, index: int, what: str) -> Shape:
        """`known_ints` for sizes, which may depend on dimensions known only at run time."""
        data = known_data(self.input(index))
        if data is None or not is_symbolic(data):
            return self.known_ints(index, what)
        if data.ndim > 1:
            raise EdgeccError("E110", f"{what} (operand {index}) must be a list of integers, it has rank {data.ndim}")
        return tuple(data.reshape(-1))

    def known_int(self, index: int, what: str) -> int:
        """The one number in a constant integer operand."""
        numbers = self.known_ints(index, what)
        if len(numbers) != 1:
            raise EdgeccError("E110", f"{what} (operand {index}) must be one integer, it has {len(numbers)}")
        return numbers[0]

    def known_bool(self, index: int, what: str) -> bool:
        """The one truth value in a constant operand."""
        data = self.known(index, what)
        if data.size != 1:
            raise EdgeccError("E110", f"{what} (operand {index}) must be one truth value, it has {data.size}")
        return bool(data.reshape(-1)[0])

    def wants(self, index: int) -> bool:
        """Whether the node names result `index`."""
        return index < len(self.node.output) and self.node.output[index] != ""

    # -- attributes ---------------------------------------------------------------------------

    def _attribute(self, name: str, kind: int) -> onnx.AttributeProto | None:
        attribute = self.attributes.get(name)
        if attribute is not None and attribute.type not in (kind, _KINDS.UNDEFINED):
            raise EdgeccError("E102", f"attribute {name} has the wrong type")
        return attribute

    def _missing(self, name: str) -> EdgeccError:
        return EdgeccError("E102", f"attribute {name} of {printable(self.node.op_type)} is missing")

    def has(self, name: str) -> bool:
        """Whether the node gives this attribute."""
        return name in self.attributes

    def integer(self, name: str, default: int | None = None) -> int:
        """An integer attribute; required without a default."""
        attribute = self._attribute(name, _KINDS.INT)
        if attribute is not None:
            return int(attribute.i)
        if default is None:
            raise self._missing(name)
        return default

    def flag(self, name: str, default: bool = False) -> bool:
        """An integer attribute that is 0 or 1. Raises: EdgeccError E102 for others, which engines take for either."""
        value = self.integer(name, int(default))
        if value not in (0, 1):
            raise EdgeccError("E102", f"attribute {name} of {printable(self.node.op_type)} is {value}, not 0 or 1")
        return value == 1

    def number(self, name: str, default: float | None = None) -> float:
        """A float attribute; required without a default."""
        attribute = self._attribute(name, _KINDS.FLOAT)
        if attribute is not None:
            return float(attribute.f)
        if default is None:
            raise self._missing(name)
        return default

    def text(self, name: str, default: str | None = None) -> str:
        """A text attribute; required without a default."""
        attribute = self._attribute(name, _KINDS.STRING)
        if attribute is not None:
            return bytes(attribute.s).decode("utf-8", "backslashreplace")
        if default is None:
            raise self._missing(name)
        return default

    def ints(self, name: str) -> tuple[int, ...] | None:
        """A list-of-integers attribute, or None where it is not given."""
        attribute = self._attribute(name, _KINDS.INTS)
        return None if attribute is None else tuple(int(i) for i in attribute.ints)

    def floats(self, name: str) -> tuple[float, ...] | None:
        """A list-of-floats attribute, or None where it is not given."""
        attribute = self._attribute(name, _KINDS.FLOATS)
        return None if attribute is None else tuple(float(f) for f in attribute.floats)

    def strings(self, name: str) -> tuple[str, ...] | None:
        """A list-of-texts attribute, or None where it is not given."""
        attribute = self._attribute(name, _KINDS.STRINGS)
        return None if attribute is None else tuple(bytes(s).decode("utf-8", "backslashreplace") for s in attribute.strings)

    def string_data(self, name: str) -> Array | None:
        """A list-of-texts attribute as an array of strings, or None where it is not given.

        Raises: EdgeccError E102 where one is not UTF-8 or has a NUL in it.
        """
        attribute = self._attribute(name, _KINDS.STRINGS)
        return None if attribute is None else strings_of(attribute.strings, f"attribute {name}")

    def string_value(self, name: str, default: str) -> str:
        """A text attribute that is data: `string_data` of one."""
        attribute = self._attribute(name, _KINDS.STRING)
        return default if attribute is None else str(strings_of([attribute.s], f"attribute {name}")[0])

    def tensor(self, name: str) -> Array | None:
        """A tensor attribute, or None where it is not given."""
        attribute = self._attribute(name, _KINDS.TENSOR)
        return None if attribute is None else tensor_array(attribute.t)

    def graph(self, name: str) -> onnx.GraphProto:
        """A graph attribute, which must be given."""
        attribute = self._attribute(name, _KINDS.GRAPH)
        if attribute is None:
            raise self._missing(name)
        return attribute.g

    # -- building -----------------------------------------------------------------------------

    def add(self, op: Op, *inputs: Value | None, fold: bool = True) -> Value:
        """The one result of an operator on these operands; unless `fold`, a node even where all of them are constants."""
        (result,) = self.importer.emitter.emit(op, inputs, self.loc, fold=fold)
        return result

    def add_all(self, op: Op, *inputs: Value | None) -> tuple[Value, ...]:
        """All results of an operator on these operands."""
        return self.importer.emitter.emit(op, inputs, self.loc)

    def constant(self, array: Array) -> Value:
        """A constant; its element type is the array's."""
        return self.importer.emitter.constant(np.asarray(array))

    def sizes(self, dims: Sequence[Dim]) -> Value:
        """A vector of int64 numbers that may be dimensions known only at run time."""
        data = np.empty(len(dims), dtype=object)
        data[:] = dims
        return self.importer.emitter.integers(data, DType.I64, self.loc)

    def reserve(self, dims: Sequence[Dim], what: str, item_bytes: int = 8) -> None:
        """Has to be called before an array that only sizes decide is made: see `Emitter.reserve`."""
        self.importer.emitter.reserve(dims, what, item_bytes)

    def positions(self, count: Dim) -> Value:
        """The int64 numbers 0, 1, ... below `count`."""
        self.reserve((count,), "a range")
        return self.slice(self.constant(np.arange(upper_bound(count), dtype=np.int64)), 0, 0, count)

    def scalar(self, value: float | int | bool, dtype: DType) -> Value:
        """A constant of rank 0; of strings, which have no numbers, the empty one."""
        if dtype is DType.STRING:
            return self.constant(zeros((), dtype))
        return self.constant(np.asarray(value).astype(dtype.numpy))

    def map(self, build: Callable[..., ScalarExpr], *operands: Value, fold: bool = True) -> Value:
        """Elementwise: `build` gets one scalar expression per operand and returns that of the result. `fold` as in `add`."""
        expr = build(*(Arg(index, value.type.dtype) for index, value in enumerate(operands)))
        if expr == Arg(0, operands[0].type.dtype) and len(operands) == 1:
            return operands[0]
        return self.add(Elementwise(expr), *operands, fold=fold)

    def cast(self, x: Value, dtype: DType) -> Value:
        """`x` with another element type; `x` itself where it has that one."""
        return self.map(lambda a: convert(a, dtype), x)

    def reshape(self, x: Value, shape: Sequence[Dim]) -> Value:
        """`x` under another shape; `x` itself where it has that one."""
        return x if x.type.shape == tuple(shape) else self.add(Reshape(tuple(shape)), x)

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """`x` with axes permuted; `x` itself for the identity."""
        return x if list(perm) == list(range(x.type.rank)) else self.add(Transpose(tuple(perm)), x)

    def expand(self, x: Value, shape: Sequence[Dim]) -> Value:
        """`x` broadcast to a shape; `x` itself where it has that one."""
        return x if x.type.shape == tuple(shape) else self.add(Expand(tuple(shape)), x)

    def slice(self, x: Value, axis: int, start: Dim, size: Dim) -> Value:
        """`size` elements of `x` along one axis, from `start`."""
        dims = x.type.shape
        if start == 0 and size == dims[axis]:
            return x
        starts = tuple(start if a == axis else 0 for a in range(len(dims)))
        sizes = tuple(size if a == axis else d for a, d in enumerate(dims))
        return self.add(Slice(starts, sizes, (1,) * len(dims)), x)

    def axis(self, axis: int, rank: int, what: str = "axis") -> int:
        """An axis counted from the front.

        Raises: EdgeccError E110 where it is outside [-rank, rank).
        """
        if not -rank <= axis < rank:
            raise EdgeccError("E110", f"{what} is {axis}; the tensor has rank {rank}")
        return axis % rank

    def axes(self, axes: Sequence[int], rank: int, what: str = "axes") -> tuple[int, ...]:
        """Axes counted from the front, ascending.

        Raises: EdgeccError E110 where one is outside [-rank, rank) or named twice.
        """
        counted = sorted(self.axis(a, rank, what) for a in axes)
        if len(set(counted)) != len(counted):
            raise EdgeccError("E110", f"{what} names an axis twice: {list(axes)}")
        return tuple(counted)
