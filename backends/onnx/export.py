"""A graph as an ONNX model: what it computes, under the names of its interface."""

from __future__ import annotations

import onnx
from onnx import helper

from edgecc.backends.onnx.operators import obstacle, write_node
from edgecc.backends.onnx.writer import DEFAULT_OPSET, NEWEST_OPSET, OLDEST_OPSET, Writer
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph, Value
from edgecc.version import VERSION

IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}
"""The version of the file format that came with each opset."""


def obstacles(graph: Graph) -> tuple[str, ...]:
    """Why a graph cannot be written, one line a node; () where it can."""
    found = []
    for node in graph.nodes:
        reason = obstacle(node)
        if reason is not None:
            found.append(f"{printable(', '.join(node.loc)) or node.op.name}: {reason}")
    return tuple(found)


def export_onnx(graph: Graph, *, opset: int = DEFAULT_OPSET) -> onnx.ModelProto:
    """The model. Layouts and what was fused are expressed by plain operators; equal arguments give equal bytes.

    Args:
        graph: a valid graph with static shapes.
        opset: version of the default domain.
    Raises: EdgeccError E001 for an opset that cannot be written, E114 listing every node that ONNX has no form for, or
        quoting the checker of the onnx package where an operator of this opset does not take a type or an attribute.
    """
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise EdgeccError("E001", f"opset {opset} cannot be written", hint=f"{OLDEST_OPSET} to {NEWEST_OPSET} can")
    problems = obstacles(graph)
    if problems:
        raise EdgeccError("E114", f"{len(problems)} node{'s have' if len(problems) > 1 else ' has'} no form in ONNX", details=problems)
    writer = Writer(opset, [*graph.input_names, *graph.output_names])
    names: dict[Value, str] = dict(zip(graph.inputs, graph.input_names, strict=True))

    def name_of(value: Value) -> str:
        if value.constant is not None:
            return writer.constant(value.constant, value.name)
        return names[value]

    for node in graph.nodes:
        writer.at(node.loc[0] if node.loc else "")
        results = write_node(writer, node, [None if value is None else name_of(value) for value in node.inputs])
        names |= dict(zip(node.outputs, results, strict=False))
    writer.at("")
    _name_outputs(writer, graph, names, [name_of(value) for value in graph.outputs])
    model = helper.make_model(
        helper.make_graph(writer.nodes, printable(graph.name) or "graph",
                          [_interface(n, v) for n, v in zip(graph.input_names, graph.inputs, strict=True)],
                          [_interface(n, v) for n, v in zip(graph.output_names, graph.outputs, strict=True)],
                          initializer=writer.initializers),
        opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSIONS[opset],
        producer_name="edgecc", producer_version=VERSION)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EdgeccError("E114", f"the graph does not fit opset {opset} of ONNX", details=[printable(str(error).strip(), 400)],
                          hint=f"opset {NEWEST_OPSET} takes more types" if opset < NEWEST_OPSET else "") from None
    return model


def _interface(name: str, value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, value.type.dtype.code, value.type.dims)


def _name_outputs(writer: Writer, graph: Graph, names: dict[Value, str], inner: list[str]) -> None:
    """Gives the outputs their names: renames the result where it is read by no other name, else copies."""
    interface = set(graph.input_names)
    renamed: dict[str, str] = {}
    copies = []
    for wanted, value, name in zip(graph.output_names, graph.outputs, inner, strict=True):
        if value.constant is None and name not in interface and name not in renamed:
            renamed[name] = wanted
        else:
            copies.append((name, wanted))
    for node in writer.nodes:
        for field in (node.input, node.output):
            for position, name in enumerate(field):
                if name in renamed:
                    field[position] = renamed[name]
    for name, wanted in copies:
        writer.node("Identity", [renamed.get(name, name)], names=[wanted])
