"""The back end: a graph becomes a command stream. Everything edgecc asks of a back end is in `ToyNpu`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.artifact.folder import Artifact, make_export
from edgecc.backends.base import GraphBackend
from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg, Literal, ScalarExpr
from edgecc.ir.types import Array, DType
from edgecc.memory.lifetime import Block
from edgecc.memory.offsets import assign_offsets
from edgecc.ops import convolution
from edgecc.ops.elementwise import Elementwise
from edgecc.options import spelled
from edgecc.targets.schema import Target
from toy_npu import simulator
from toy_npu.commands import Add, Command, Conv, Limit, Stream, bits_of, joined
from toy_npu.match import as_limit, as_rounding, as_scaled, as_terms, obstacle


@dataclass(frozen=True)
class ToyNpu(GraphBackend):
    """Writes NAME.tnpu.

    Attributes:
        memory: bytes that the accelerator has for inputs, results and outputs.
    """

    api: ClassVar[int] = 1
    name: ClassVar[str] = "toy-npu"
    summary: ClassVar[str] = "commands of a toy accelerator"
    forms: ClassVar[Mapping[str, str]] = {"tnpu": "a stream of commands"}

    memory: int = 4 << 20

    def supports(self, node: Node, target: Target) -> str | None:
        """None if there is a command for the node."""
        return obstacle(node)

    def passes(self, default: tuple[str, ...], target: Target) -> tuple[str, ...]:
        """Those of everybody, then requantization into convolutions."""
        return (*default, "toy-npu.fuse-requantize")

    def emit(self, graph: Graph, name: str, target: Target, form: str) -> Artifact:
        """One command a node; the report counts them, and multiply-adds. Raises: EdgeccError E113 where the memory is too small."""
        program = _Program(graph)
        if program.memory > self.memory:
            raise EdgeccError("E113", f"the values take {program.memory} bytes, the accelerator has {self.memory}", where=f"back end {self.name}")
        ports = [tuple((program.addresses[v], v.type.elements) for v in values) for values in (graph.inputs, graph.outputs)]
        stream = Stream(program.memory, ports[0], ports[1], tuple(program.commands), bytes(program.constants))
        counts = {cls.__name__.lower(): sum(isinstance(c, cls) for c in program.commands) for cls in (Conv, Add, Limit)}
        return make_export(spelled(self.name, self), graph, name, target, {f"{name}.tnpu": stream.to_bytes()}, f"{name}.tnpu",
                           report={"commands": counts, "multiply-adds": program.macs}, arena_bytes=program.memory,
                           weights_bytes=len(program.constants))

    def run(self, artifact: Artifact, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the stream in the simulator."""
        manifest = artifact.manifest
        results = simulator.run(artifact.files[manifest.main], [np.asarray(inputs[port.name], np.int8) for port in manifest.inputs])
        return {port.name: result.reshape(port.type.dims) for port, result in zip(manifest.outputs, results, strict=True)}


class _Program:
    """A stream being written: one command for each node of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.addresses, self.memory = _placed(graph)
        self.macs = 0
        self.constants = bytearray()
        self.commands = [self._command(node) for node in graph.nodes]

    def _command(self, node: Node) -> Command:
        match node.op:
            case convolution.Conv() as op:
                return self._conv(node, op)
            case Elementwise(expr=expr):
                return self._elementwise(node, expr)
        raise EdgeccError("E900", f"{node!r} was said to be supported")

    def _elementwise(self, node: Node, expr: ScalarExpr) -> Command:
        operands = [self.addresses[node.operand(i)] for i in range(len(node.inputs))]
        y, size = self.addresses[node.output], node.output.type.elements
        limits = as_limit(expr)
        if limits is not None:
            return Limit(operands[0], y, size, *limits)
        rounding = as_rounding(expr)
        terms = None if rounding is None else as_terms(rounding.value)
        if rounding is None or terms is None:
            raise EdgeccError("E900", f"{node!r} was said to be supported")
        a, b = terms
        return Add(operands[a.operand], operands[b.operand], y, size, a.zero, bits_of(a.scale), b.zero, bits_of(b.scale),
                   rounding.zero, rounding.low, rounding.high)

    def _conv(self, node: Node, op: convolution.Conv) -> Conv:
        x, w = node.operand(0), node.operand(1)
        rounding = None if op.epilogue is None else as_rounding(op.epilogue)
        scaled = None if rounding is None else as_scaled(rounding.value)
        if rounding is None or scaled is None or w.constant is None:
            raise EdgeccError("E900", f"{node!r} was said to be supported")
        channels = w.type.dims[0]
        bias = node.inputs[2].constant if len(node.inputs) > 2 and node.inputs[2] is not None else None
        parameters = [np.zeros(channels, "<i4") if bias is None else bias.astype("<i4"),
                      _each(node, scaled.scale, channels), _each(node, scaled.offset, channels)]
        weights = len(self.constants)
        self.constants += w.constant.tobytes()
        self.constants += bytes(-len(self.constants) % 4)
        for array in parameters:
            self.constants += array.tobytes()
        self.macs += node.output.type.elements * w.type.elements // channels
        _, x_channels, x_height, x_width = x.type.dims
        return Conv(self.addresses[x], self.addresses[node.output], weights, x_channels, x_height, x_width, channels, op.group,
                    joined(*w.type.dims[2:]), joined(*op.strides), joined(*op.pads), op.x_zero or 0, rounding.zero, rounding.low,
                    rounding.high)


def _placed(graph: Graph) -> tuple[dict[Value, int], int]:
    """Addresses of all values, and the bytes they take; memory is used again when nobody reads a value any more."""
    nodes = graph.nodes
    first: dict[Value, int] = dict.fromkeys(graph.inputs, 0)
    last: dict[Value, int] = dict.fromkeys(graph.inputs, 0)
    for step, node in enumerate(nodes):
        first |= dict.fromkeys(node.outputs, step)
        last |= {value: step for value in (*node.inputs, *node.outputs) if value is not None and value.constant is None}
    last |= dict.fromkeys(graph.outputs, len(nodes))
    for value in last:
        if value.constant is not None or value.type.dtype is not DType.I8:
            raise EdgeccError("E115", f"{value.type} crosses the border of the accelerator, which knows i8 that is computed", where="back end toy-npu")
    plan = assign_offsets([Block(value.name, value.type.elements, first[value], last[value]) for value in last], align=16)
    return dict(zip(last, plan.offsets, strict=True)), plan.arena_bytes


def _each(node: Node, number: Arg | Literal | None, channels: int) -> Array:
    """A scale or an offset for each channel."""
    if number is None:
        return np.zeros(channels, "<f4")
    if isinstance(number, Literal):
        return np.full(channels, number.value, "<f4")
    operand = node.operand(number.index + 2)  # operands of the epilogue stand behind x, w and bias; $0 is the sum
    if operand.constant is None:
        raise EdgeccError("E900", f"{node!r} was said to be supported")
    return np.broadcast_to(operand.constant.reshape(-1), channels).astype("<f4")
