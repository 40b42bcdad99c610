"""Writes a graph as a TOSA file, by way of the record of TFLite's operators, each of which becomes one or some of TOSA's.

So quantization, layouts and what computes on integers are decided once (edgecc/backends/tflite/convert.py), and both formats compute the
same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from edgecc.backends.tflite import convert as tflite
from edgecc.backends.tflite import operators, quantized
from edgecc.backends.tflite.arithmetic import missing_primitives
from edgecc.backends.tflite.recorder import Recorded
from edgecc.backends.tosa import arithmetic, movement, reductions, resizing, windows
from edgecc.backends.tosa.lowering import Lowering, TosaRecorder
from edgecc.backends.tosa.writer import TosaWriter, kind_of
from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Node
from edgecc.ir.scalar import Apply, Convert, ScalarExpr
from edgecc.ir.types import DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.reduction import ArgReduce, Softmax
from edgecc.ops.resize import Resize

Rule = Callable[[Lowering, Recorded], None]

RULES: Mapping[str, Rule] = MappingProxyType({
    "CONV_2D": windows.conv, "DEPTHWISE_CONV_2D": windows.depthwise, "FULLY_CONNECTED": windows.fully_connected,
    "TRANSPOSE_CONV": windows.transposed,
    "MAX_POOL_2D": windows.pool, "AVERAGE_POOL_2D": windows.pool,
    "QUANTIZE": arithmetic.quantize, "DEQUANTIZE": arithmetic.dequantize,
    **dict.fromkeys((*arithmetic.BINARY, *arithmetic.SWAPPED, *arithmetic.UNARY, "DIV", "SQRT", "SELECT_V2", "HARD_SWISH", "RELU", "RELU6", "TABLE"),
                    arithmetic.elementwise),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"), reductions.reduce),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN"), reductions.position),
    "SOFTMAX": reductions.softmax, "LOG_SOFTMAX": reductions.softmax,
    "RESHAPE": movement.reshape, "TRANSPOSE": movement.transpose, "CONCATENATION": movement.concatenate, "STRIDED_SLICE": movement.strided_slice,
    "PAD": movement.pad, "PADV2": movement.pad, "RESIZE_NEAREST_NEIGHBOR": resizing.nearest, "RESIZE_BILINEAR": resizing.bilinear, "BATCH_MATMUL": movement.batch_matmul,
})
"""How each of TFLite's operators is written."""

_TYPES = (DType.F32, DType.I8, DType.U8, DType.I32, DType.BOOL)
"""Of what nodes read and write. Positions of extrema, of i64 in a network, are of i32 in the file, and nothing in it reads them."""


def obstacle(node: Node) -> str | None:
    """Why a node cannot be written in TOSA; None where it can."""
    reason = operators.obstacle(node)
    if reason is not None:
        return reason.replace("TFLite", "TOSA")
    op = node.op
    for value in (*node.inputs, *(() if isinstance(op, ArgReduce) else node.outputs)):
        if value is not None and value.constant is None and value.type.dtype not in _TYPES:
            return f"TOSA's base profiles have no tensors of {value.type.dtype.value}"
    if isinstance(op, Elementwise):
        missing = sorted(_missing(op.expr) | missing_primitives(op.expr)) if not quantized.states_quantization(node) else []
        return f"computes {', '.join(missing)}, which TOSA has no operator for" if missing else None
    if isinstance(op, Resize):
        return resizing.obstacle(op, node)
    if isinstance(op, Softmax) and isinstance(size := node.operand(0).type.dims[op.axis], int) and size > reductions.LONGEST_SOFTMAX:
        return f"a softmax over more than {reductions.LONGEST_SOFTMAX} elements"
    return None


def _missing(expr: ScalarExpr) -> set[str]:
    match expr:
        case Apply(op, args):
            known = op in arithmetic.PRIMITIVES and expr.dtype in (DType.F32, DType.BOOL)
            return set().union(*(_missing(argument) for argument in args), set() if known else {f"{op} of {expr.dtype.value}"})
        case Convert(argument, dtype):
            # A float becomes the nearest integer in TOSA, where it loses its fraction here.
            return _missing(argument) | (set() if dtype is DType.F32 else {f"{argument.dtype.value} as {dtype.value}"})
    return set()


def convert(graph: Graph, *, integer_interface: bool, images_last: bool) -> tflite.Converted:
    """The TOSA file of a graph, its interface, and the operators it was recorded as.

    Args: see `edgecc.backends.tflite.convert.convert`.
    Raises: EdgeccError E114 for what has no form in TOSA.
    """
    record = TosaRecorder()
    found = tflite.convert(graph, integer_interface=integer_interface, images_last=images_last, short_positions=True, recorder=record)
    return replace(found, data=written(record, *found.ports))


def convert_with_integers(graph: Graph, *, integer_interface: bool, images_last: bool) -> tflite.Converted:
    """As `convert`, but the file's outputs are the integers of all quantized values, in the order of `Converted.integers`."""
    record = TosaRecorder()
    found = tflite.convert(graph, integer_interface=integer_interface, images_last=images_last, short_positions=True, recorder=record)
    return replace(found, data=written(record, found.ports[0], tuple(index for index, _ in found.integers.values())))


def written(record: TosaRecorder, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> bytes:
    """The file of a record, with these of its tensors as inputs and outputs."""
    writer = TosaWriter()
    lowering = Lowering(record, writer)
    made = {index for op in record.recorded for index in op.outputs}
    for index in inputs:
        tensor = record.tensors[index]
        lowering.bind(index, writer.input(tensor.shape, kind_of(tensor.kind)))
    copies = []
    for position, index in enumerate(outputs):
        tensor = record.tensors[index]
        name = writer.output(tensor.shape, kind_of(tensor.kind))
        if index in made and index not in outputs[:position]:
            lowering.bind(index, name)
        else:
            copies.append((index, name))
    for op in record.recorded:
        if op.code not in RULES:
            raise EdgeccError("E114", f"{op.code} has no form in TOSA")
        RULES[op.code](lowering, op)
    for index, name in copies:
        writer.operator("IDENTITY", [lowering.name(index)], name)
    return writer.finish()
