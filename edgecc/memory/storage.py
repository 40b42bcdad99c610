"""How elements of types that are only stored lie in memory: a graph in which all of them are bytes.

Inside a network an element of less than 8 bits takes a byte: integers as i8 or u8, floats as their bits in u8. So do the
8-bit floats. `in_bytes` rewrites a graph to that, so that kernels and back ends never meet such types:

- Conversions become arithmetic on the bits (edgecc/ir/short_floats.py), shifts and masks.
- Inputs and outputs of the network, and constants of more than a few elements, hold elements of less than 8 bits packed
  as ONNX packs them; `Unpack` and `Pack` stand between them and the rest.
- What only moves elements moves bytes.

Strings are handles (edgecc/ops/string_handles.py), but for inputs and outputs of the network, which point to them:
`ReadStrings` and `WriteStrings` stand between those and the rest.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.op import Op, RegionOp
from edgecc.ir.packing import as_bytes, pack
from edgecc.ir.scalar import (
    Apply,
    Arg,
    Bitcast,
    Convert,
    Literal,
    ScalarExpr,
    apply,
    bitcast,
    convert,
    literal,
)
from edgecc.ir.short_floats import decoded, encoded
from edgecc.ir.types import DType, Shape, TensorType
from edgecc.kernels.request import SMALL_CONSTANT_ELEMENTS
from edgecc.memory.strings import ConstantStrings
from edgecc.ops.block_quantized import MatMulNBits
from edgecc.ops.indexing import Gather, GatherElements, GatherND, ScatterElements, ScatterND
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.ops.packing import Pack, Unpack
from edgecc.ops.string_handles import HANDLE, OnHandles, ReadStrings, WriteStrings
from edgecc.ops.strings import StringOp

MOVES: tuple[type[Op], ...] = (Transpose, Reshape, Expand, Concat, Slice, Pad, Gather, GatherElements, GatherND,
                               ScatterElements, ScatterND, RegionOp, MatMulNBits)
"""Operators that copy elements of any type without looking at them."""


def byte_type(dtype: DType) -> DType:
    """The type that holds elements of `dtype` in memory, one in a byte where they are shorter; most types hold themselves."""
    if not dtype.is_stored_only:
        return dtype
    if dtype is DType.STRING:
        return HANDLE
    return DType.I8 if dtype in (DType.I4, DType.I2) else DType.U8


def in_bytes(graph: Graph, strings: ConstantStrings | None = None) -> Graph:
    """`graph` over bytes as this module's docstring says; itself where it has no type that is only stored.

    Packed inputs and outputs are rows of u8; all others keep their shapes. `strings` collects the constant strings.
    Raises: EdgeccError E112 for an operator that would compute with such a type.
    """
    if not any(_has_stored_only(each) for each in graph.all_graphs()):
        return graph
    return _Rewriter(graph, ConstantStrings() if strings is None else strings, interface=True).run()


def _has_stored_only(graph: Graph) -> bool:
    """Whether a value, or a number on the way within a fused expression, is of a type that is only stored."""
    return any(value.type.dtype.is_stored_only for value in graph.values()) or any(
        _passes_through_stored_only(expr) for node in graph.nodes for expr in _expressions(node.op).values())


def _passes_through_stored_only(expr: ScalarExpr) -> bool:
    match expr:
        case Convert(arg=arg) | Bitcast(arg=arg):
            return expr.dtype.is_stored_only or _passes_through_stored_only(arg)
        case Apply(args=args):
            return any(_passes_through_stored_only(arg) for arg in args)
    return expr.dtype.is_stored_only


class _Rewriter:
    """Rewrites one graph. Regions exchange bytes with what is around them; only the network's interface is packed."""

    def __init__(self, graph: Graph, strings: ConstantStrings, *, interface: bool) -> None:
        self.graph = graph
        self.strings = strings
        self.interface = interface
        self.out = Graph(graph.name)
        self.values: dict[Value, Value] = {}

    def run(self) -> Graph:
        """The rewritten graph."""
        for value, name in zip(self.graph.inputs, self.graph.input_names, strict=True):
            self.values[value] = self.input(value, name)
        for node in self.graph.nodes:
            self.node(node)
        outputs = [self.returned(self.read(value), value.type.dtype) for value in self.graph.outputs]
        self.out.set_outputs(outputs, self.graph.output_names)
        return self.out

    def input(self, value: Value, name: str) -> Value:
        dtype = value.type.dtype
        if self.interface and dtype.bits < 8:
            row = self.out.add_input(TensorType(DType.U8, (value.type.packed_bytes,)), name)
            row.name = value.name
            return self.unpacked(row, value)
        if self.interface and dtype is DType.STRING:
            pointers = self.out.add_input(value.type, name)
            pointers.name = value.name
            return self.shaped(self.out.add(ReadStrings(_dense(value.type)), pointers, name=value.name), value.type.shape)
        new = self.out.add_input(value.type.with_dtype(byte_type(dtype)), name)
        new.name, new.layout = value.name, value.layout
        return new

    def unpacked(self, row: Value, like: Value) -> Value:
        dtype = like.type.dtype
        flat = self.out.add(Unpack(dtype.bits, byte_type(dtype) is DType.I8, (like.type.elements,)), row, name=like.name)
        return self.out.add(Reshape(like.type.dims), flat, name=like.name)

    def returned(self, value: Value, dtype: DType) -> Value:
        if self.interface and dtype is DType.STRING:
            return self.out.add(WriteStrings(value.type.shape), self.shaped(value, _dense(value.type)), name=value.name)
        if not self.interface or dtype.bits >= 8:
            return value
        flat = self.out.add(Reshape((value.type.elements,)), value, name=value.name)
        return self.out.add(Pack(dtype.bits), flat, name=value.name)

    def read(self, value: Value, *, packs: bool = False) -> Value:
        """The value that stands for an operand; constants are made when they are first met.

        `packs`: the kernel that reads it stores constants in a form of its own.
        """
        if value not in self.values:
            data = value.constant
            if data is None:
                raise EdgeccError("E900", f"%{value.name} is read before it is computed")
            if value.type.dtype is DType.STRING:
                self.values[value] = self.out.constant(self.strings.of(data), value.name)
            elif value.type.dtype.bits < 8 and data.size > SMALL_CONSTANT_ELEMENTS and not packs:
                self.values[value] = self.unpacked(self.out.constant(pack(data), value.name), value)
            elif value.type.dtype.is_stored_only:
                self.values[value] = self.out.constant(as_bytes(data), value.name)
            else:
                self.values[value] = value
        return self.values[value]

    def node(self, node: Node) -> None:
        stored = [v.type.dtype.value for v in (*node.inputs, *node.outputs) if v is not None and v.type.dtype.is_stored_only]
        op, changed = _op_in_bytes(node.op)
        if isinstance(op, StringOp):
            self.on_strings(node, OnHandles(op))
            return
        if stored and not changed and not isinstance(op, (*MOVES, RegionOp)):
            raise EdgeccError("E112", f"{op.name} does not compute with {stored[0]}", where=", ".join(node.loc),
                              hint="convert it to a wider type first")
        regions = [_Rewriter(region, self.strings, interface=False).run() for region in node.regions]
        new = self.out.add_node(op, [None if v is None else self.read(v, packs=isinstance(op, MatMulNBits)) for v in node.inputs], loc=node.loc,
                                names=[v.name for v in node.outputs], regions=regions)
        for old, result in zip(node.outputs, new.outputs, strict=True):
            result.layout = old.layout
            self.values[old] = result

    def on_strings(self, node: Node, op: OnHandles) -> None:
        """A step on strings, which wants them without gaps."""
        operands = [self.shaped(self.read(v), _dense(v.type)) for v in node.inputs if v is not None]
        new = self.out.add_node(op, operands, loc=node.loc, names=[v.name for v in node.outputs])
        for old, result in zip(node.outputs, new.outputs, strict=True):
            self.values[old] = self.shaped(result, old.type.shape)

    def shaped(self, value: Value, shape: Shape) -> Value:
        """The value under another shape; itself where it has that one."""
        return value if value.type.shape == tuple(shape) else self.out.add(Reshape(tuple(shape)), value, name=value.name)


def _dense(found: TensorType) -> Shape:
    """The shape in which strings lie without gaps: their own, or a row where the run decides on a dimension that is not outermost."""
    return (found.count,) if any(not isinstance(size, int) for size in found.shape[1:]) else found.shape


def _op_in_bytes(op: Op) -> tuple[Op, bool]:
    """The operator with its expressions over bytes, and whether it has expressions."""
    changes = {name: expression_in_bytes(value) for name, value in _expressions(op).items()}
    return (dataclasses.replace(op, **changes) if changes else op), bool(changes)


def _expressions(op: Op) -> dict[str, ScalarExpr]:
    """The attributes of an operator that are expressions."""
    return {field.name: value for field in dataclasses.fields(op)
            if isinstance(value := getattr(op, field.name), Arg | Literal | Apply | Convert | Bitcast)}


# -- expressions ----------------------------------------------------------------------------------


def expression_in_bytes(expr: ScalarExpr) -> ScalarExpr:
    """`expr` over operands that hold bytes; its own type is the `byte_type` of what it was."""
    dtype = expr.dtype
    if not (dtype.is_stored_only and dtype.is_float):
        return _value(expr)
    match expr:
        case Arg(index=index):
            return Arg(index, DType.U8)
        case Literal(value=value):
            return literal(int(as_bytes(np.asarray(value).astype(dtype.numpy))[()]), DType.U8)
        case Convert(arg=arg):
            return encoded(_wide(arg), dtype)
        case Bitcast(arg=arg):
            return _bits(arg)
    return encoded(_value(expr), dtype)


def _value(expr: ScalarExpr) -> ScalarExpr:
    """The number an expression stands for: f32 for short floats, i8 or u8 for short integers, else of its own type."""
    dtype = expr.dtype
    held = DType.F32 if dtype.is_float and dtype.is_stored_only else byte_type(dtype)
    match expr:
        case Arg(index=index):
            return decoded(Arg(index, DType.U8), dtype) if held is not byte_type(dtype) else Arg(index, held)
        case Literal(value=value):
            return literal(value, held)
        case Convert(arg=arg):
            if held is DType.F32 and dtype is not held:
                return decoded(encoded(_wide(arg), dtype), dtype)
            return _short_integer(_value(arg), dtype) if dtype.is_stored_only else convert(_value(arg), dtype)
        case Bitcast(arg=arg):
            bits = _bits(arg)
            if held is not byte_type(dtype):
                return decoded(bits, dtype)
            return _short_integer(bits, dtype) if dtype.is_stored_only else bitcast(bits, dtype)
        case Apply(op=op, args=args):
            return apply(op, *(_value(arg) for arg in args))


def _wide(expr: ScalarExpr) -> ScalarExpr:
    """The number as f32, or as f64 where that is needed to hold it: what a short float is rounded from."""
    value = _value(expr)
    exact = value.dtype is DType.F32 or (value.dtype.size <= 2 or value.dtype is DType.BOOL)
    return convert(value, DType.F32 if exact else DType.F64)


def _short_integer(value: ScalarExpr, dtype: DType) -> ScalarExpr:
    """A number as a short integer in a byte: floats saturate, integers wrap."""
    wide = convert(value, DType.I32)
    if value.dtype.is_float:
        least, most = dtype.limits
        wide = apply("min", apply("max", wide, literal(least, DType.I32)), literal(most, DType.I32))
    elif dtype.is_signed:
        count = literal(32 - dtype.bits, DType.I32)
        wide = apply("shift_right", apply("shift_left", wide, count), count)
    else:
        wide = apply("bit_and", wide, literal((1 << dtype.bits) - 1, DType.I32))
    return convert(wide, byte_type(dtype))


def _bits(expr: ScalarExpr) -> ScalarExpr:
    """The bits of an expression: u8 where its type is one that is only stored, else the expression over bytes itself."""
    inner = expression_in_bytes(expr)
    if not expr.dtype.is_stored_only:
        return inner if inner.dtype.size != 1 else bitcast(inner, DType.U8)
    masked = apply("bit_and", convert(inner, DType.I32), literal((1 << expr.dtype.bits) - 1, DType.I32))
    return convert(masked, DType.U8)
