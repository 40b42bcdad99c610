"""Writes a graph as a TFLite model.

A value that a node dequantizes is held by its integers, and nothing is computed for that. A node whose operands are held so and
whose result is quantized computes on integers, where TFLite can; what lies between two of them never exists in floats. An
activation between such a node and the quantization of its result becomes part of it. Every other node computes in floats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgecc.backends.tflite import arithmetic, operators, quantized
from edgecc.backends.tflite.emitter import Emitter, Order, Result, channels_last, plain
from edgecc.backends.tflite.recorder import Quantization, Recorder
from edgecc.backends.tflite.schema import ModelWriter
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.text import format_node
from edgecc.ir.types import DType
from edgecc.ops.elementwise import Elementwise


@dataclass(frozen=True)
class Port:
    """An input or output of the file.

    Attributes:
        order: for each axis of the tensor the axis of the network's input or output it is.
        quantization: of its integers; None where it is of floats.
        short: whether it has 32 bits where the network has integers of 64.
    """

    order: Order
    quantization: Quantization | None
    short: bool = False


@dataclass(frozen=True)
class Converted:
    """A finished model.

    Attributes:
        data: the file.
        inputs, outputs: as the file has them, by the network's names, in order.
        operators: how often each operator of TFLite occurs.
        integers: the tensor that holds each quantized value of the graph, and its order of axes.
        demanded: by how many steps of its own a value is off where TFLite demanded a coarser quantization first.
        ports: the tensors of the inputs, and those of the outputs.
        writers: the node that each computed tensor was written for, by the tensor's name.
    """

    data: bytes
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    operators: Mapping[str, int]
    integers: Mapping[Value, tuple[int, Order]]
    demanded: Mapping[Value, int]
    ports: tuple[tuple[int, ...], tuple[int, ...]]
    writers: Mapping[str, Node]


def convert(graph: Graph, *, integer_interface: bool, images_last: bool, products_as_convolutions: bool = False,
            short_positions: bool = False, recorder: Recorder | None = None) -> Converted:
    """The model of a graph.

    Args:
        integer_interface: inputs and outputs that are quantized right behind or in front of the border are of int8.
        images_last: inputs of rank 4 have their channels last; else they have the network's shape.
        products_as_convolutions: products of integers by constant matrices are written as convolutions, which LiteRT's reference
            kernels round as accelerators do, twice; they round FULLY_CONNECTED once.
        short_positions: positions of extrema, i64 in the network, have 32 bits in the file.
        recorder: what makes the file; a TFLite model without it.
    Raises: EdgeccError E114 for a node without a form in TFLite.
    """
    writer = ModelWriter() if recorder is None else recorder
    emitter = Emitter(writer, products_as_convolutions=products_as_convolutions, short_positions=short_positions)
    done: set[Node] = set()
    demanded: dict[Value, int] = {}
    inputs = {name: _input(emitter, graph, value, name, done, integer_interface=integer_interface, images_last=images_last)
              for name, value in zip(graph.input_names, graph.inputs, strict=True)}
    indices = range(len(inputs))
    writers: dict[str, Node] = {}
    for node in graph.nodes:
        if node not in done:
            start = len(writer.recorded)
            _node(emitter, graph, node, done, demanded)
            writers |= {writer.tensors[index].name: node for each in writer.recorded[start:] for index in each.outputs}
    outputs, results = {}, []
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        index, port = _output(emitter, value, integer_interface=integer_interface)
        outputs[name] = port
        results.append(index)
    counts: dict[str, int] = {}
    for recorded in writer.recorded:
        counts[recorded.code] = counts.get(recorded.code, 0) + 1
    values = [value for node in graph.nodes for value in node.outputs if value.type.dtype in quantized.SHIFT]
    return Converted(writer.finish(indices, results, "made by edgecc"), inputs, outputs, dict(sorted(counts.items())),
                     {value: place for value in values if (place := emitter.place_of(value)) is not None}, demanded,
                     (tuple(indices), tuple(results)), writers)


def _input(emitter: Emitter, graph: Graph, value: Value, name: str, done: set[Node], *, integer_interface: bool, images_last: bool) -> Port:
    rank = value.type.rank
    order = channels_last(rank) if images_last and rank == 4 else plain(rank)
    given = quantized.dequantizers(value)
    if given is not None:
        emitter.place(value, emitter.new(Result(value, given), order), order, given)
        return Port(order, given)
    readers = quantized.quantizers(graph, value) if integer_interface else None
    if readers is None:
        emitter.place(value, emitter.new(Result(value, None), order), order)
        return Port(order, None)
    nodes, quantization = readers
    emitter.place(value, emitter.new(Result(value, quantization), order), order, quantization)
    for node in nodes:
        emitter.alias(node.output, value)
        done.add(node)
    return Port(order, quantization)


def _output(emitter: Emitter, value: Value, *, integer_interface: bool) -> tuple[int, Port]:
    if quantized.is_constant(value):
        order = plain(value.type.rank)
        return emitter.floats(value, order), Port(order, None)
    held = emitter.held(value)
    if held.quantization is not None and (integer_interface or value.type.dtype in quantized.SHIFT):
        order, index = next(iter(held.integers.items()))
        return index, Port(order, held.quantization)
    order = emitter.order_of(value)
    index = emitter.floats(value, order)
    return index, Port(order, None, short=value.type.dtype is DType.I64 and emitter.writer.tensors[index].kind == "INT32")


def _node(emitter: Emitter, graph: Graph, node: Node, done: set[Node], demanded: dict[Value, int]) -> None:
    if len(node.outputs) == 1 and quantized.constant_codes(node.output) is not None:
        return
    reason = operators.obstacle(node)
    if reason is not None:
        raise EdgeccError("E114", f"{node.op.name} cannot be written as TFLite: {reason}", where=printable(", ".join(node.loc)),
                          hint=f"in the graph: {printable(format_node(node), 200)}")
    made = quantized.quantization_of(node)
    read = quantized.dequantization_of(node)
    if made is not None:
        _quantize(emitter, node, made)
    elif read is not None and emitter.is_quantized(node.operand(0)):
        emitter.alias(node.output, node.operand(0))
    elif operators.keeps_values(node.op) and _alike(emitter, node):
        operators.emit(emitter, node, Result(node.output, emitter.held(node.operand(0)).quantization))
    else:
        _compute(emitter, graph, node, done, demanded)


def _alike(emitter: Emitter, node: Node) -> bool:
    """Whether all operands that values are taken from are integers of one quantization."""
    values = operators.moved(node)
    if not all(emitter.is_quantized(value) for value in values):
        return False
    return len({emitter.held(value).quantization for value in values}) == 1


def _quantize(emitter: Emitter, node: Node, made: Quantization) -> None:
    """Quantizes a value that is held in floats, or as integers of another quantization."""
    x = node.operand(0)
    if emitter.is_quantized(x):
        if emitter.held(x).quantization == made:
            emitter.alias(node.output, x)
            return
        order = emitter.order_of(x)
        source, version = emitter.integers(x, order), 2
    else:
        order = emitter.order_of(x)
        source, version = emitter.floats(x, order), 1
    target = emitter.new(Result(node.output, made), order)
    emitter.writer.operator("QUANTIZE", [source], [target], "QuantizeOptions", version)
    emitter.place(node.output, target, order, made)


def _compute(emitter: Emitter, graph: Graph, node: Node, done: set[Node], demanded: dict[Value, int]) -> None:
    """A node that computes: on integers with what quantizes its result, or in floats."""
    end, activation = node, "NONE"
    if operators.fuses_activation(node) and len(node.output.users) == 1 and not graph.is_output(node.output):
        (user,) = node.output.users
        name = arithmetic.activation(user.op.expr) if isinstance(user.op, Elementwise) else None
        if name is not None:
            end, activation = user, name
    for last, name in dict.fromkeys(((end, activation), (node, "NONE"))):
        readers = quantized.quantizers(graph, last.output) if len(last.outputs) == 1 else None
        table = emitter.writer.tables and last is node and arithmetic.is_table(node, emitter.is_quantized)
        if readers is None or not (table or operators.takes_integers(node, emitter.is_quantized)) or (
                not table and not emitter.writer.functions and arithmetic.uses_functions(node)):
            continue
        nodes, made = readers
        source = next((emitter.held(value).quantization for value in node.inputs if value is not None and emitter.is_quantized(value)), None)
        first = None if table else operators.required_quantization(node, source)
        first = first or made
        operators.emit(emitter, node, Result(last.output, first, name))
        if last is not node:
            done.add(last)
        # Where TFLite demands another quantization of the result, this makes the one that is wanted of it.
        for reader in nodes:
            _quantize(emitter, reader, made)
            done.add(reader)
            if first != made:
                demanded[reader.output] = math.ceil(first.scale / made.scale)
        return
    if isinstance(node.op, Elementwise):
        end, activation = node, "NONE"
    if end is not node:
        done.add(end)
    operators.emit(emitter, node, Result(end.output, None, activation))
