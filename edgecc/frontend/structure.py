"""Order and liveness of nodes, functions of the model, and the rules a single node must keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import networkx as nx
import onnx
import onnx.inliner

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.items import Item
from edgecc.frontend.limits import Limits, raised, subgraphs
from edgecc.frontend.load import LoadedModel, check_opset
from edgecc.ir.graph import Value
from edgecc.ir.types import DType

Schema = Any
"""An onnx.defs.OpSchema; the type stubs of onnx do not know what it says about function bodies."""

SMALL_WEIGHT_BYTES = 2**16

INLINING_COPIES = 4
"""How often the inlined model lies in memory at a time: the inliner takes it as text, parses it, and gives it back in the same way."""


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model in which large initializers became inputs of the same type.

    It serves the tools of the onnx package, which serialize what they are given: the copy is small,
    and what they look for (nodes, names, types, small constants such as shapes) is all there.
    """
    out = onnx.ModelProto(ir_version=max(model.ir_version, 4), opset_import=model.opset_import, functions=model.functions)
    graph = out.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(info for info in model.graph.value_info if info.HasField("type"))
    stored = {tensor.name for tensor in model.graph.initializer}
    graph.input.extend(value for value in model.graph.input if value.name not in stored)
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= SMALL_WEIGHT_BYTES:
            graph.initializer.append(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for sparse in model.graph.sparse_initializer:
        graph.input.append(onnx.helper.make_tensor_value_info(sparse.values.name, sparse.values.data_type, sparse.dims))
    return out


# -- order and liveness -----------------------------------------------------------------------


def live_nodes(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that the named outputs depend on, in a topological order close to the given one.

    Names that no node produces are left to the caller: they are inputs, weights or of an outer graph.

    Raises: EdgeccError E102 for a name that is produced twice, or for a cycle.
    """
    producer: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in node.output:
            if name and producer.setdefault(name, index) != index:
                raise EdgeccError("E102", f"'{printable(name)}' is produced twice", where=node_label(node, index))
    needed = [[producer[name] for name in read_names(node) if name in producer] for node in nodes]
    wanted = list(dict.fromkeys(producer[name] for name in outputs if name in producer))
    if all(source < index for index, sources in enumerate(needed) for source in sources):
        live = set(wanted)
        for index in range(len(nodes) - 1, -1, -1):
            if index in live:
                live.update(needed[index])
        return [node for index, node in enumerate(nodes) if index in live]
    order: nx.DiGraph[int] = nx.DiGraph()
    order.add_nodes_from(range(len(nodes)))
    order.add_edges_from((source, index) for index, sources in enumerate(needed) for source in sources)
    order = order.subgraph(index for layer in nx.bfs_layers(order.reverse(copy=False), wanted) for index in layer).copy()
    try:
        return [nodes[index] for index in nx.lexicographical_topological_sort(order)]
    except nx.NetworkXUnfeasible:
        cycle = [node_label(nodes[source], source) for source, _ in nx.find_cycle(order)]
        if len(cycle) == 1:
            raise EdgeccError("E102", "the node reads its own result", where=cycle[0]) from None
        raise EdgeccError("E102", f"nodes depend on each other in a cycle: {', '.join(cycle[:5])}"
                                  f"{', ...' if len(cycle) > 5 else ''}") from None


def read_names(node: onnx.NodeProto) -> list[str]:
    """The names a node reads, those that graphs inside it read from outside included; each once."""
    names = dict.fromkeys(name for name in node.input if name)
    for graph in subgraphs(node):
        names.update(dict.fromkeys(captured_names(graph)))
    return list(names)


def captured_names(graph: onnx.GraphProto) -> list[str]:
    """The names a graph reads and does not define, in order of first appearance."""
    defined = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    defined |= {tensor.values.name for tensor in graph.sparse_initializer}
    defined |= {name for node in graph.node for name in node.output}
    read = [name for node in graph.node for name in read_names(node)] + [value.name for value in graph.output]
    return list(dict.fromkeys(name for name in read if name and name not in defined))


def node_label(node: onnx.NodeProto, index: int) -> str:
    """The name of a node for people: its own, or its operator and position."""
    return printable(node.name) if node.name else f"{printable(node.op_type)}_{index}"


# -- functions of the model -------------------------------------------------------------------

_FunctionKey = tuple[str, str, str]


def inline_functions(loaded: LoadedModel, model: onnx.ModelProto, limits: Limits) -> onnx.ModelProto:
    """Replaces calls of the model's own functions by their bodies (onnx.inliner).

    `model` is the weight-free copy of `loaded`. Growth is computed before it happens.

    Raises: EdgeccError E101 (too many nodes), E102 (recursion, or not inlinable), E106 (a function's opset).
    """
    if not model.functions:
        return model
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    for function in model.functions:
        check_opset({o.domain: o.version for o in function.opset_import if o.domain in ("", "ai.onnx")}, loaded.name)
    for function in model.functions:
        _check_closed(function, loaded.name)
    calls: nx.DiGraph[_FunctionKey] = nx.DiGraph()
    calls.add_nodes_from(functions)
    for key, function in functions.items():
        calls.add_edges_from((key, callee) for callee in _called(function.node, functions))
    try:
        order = list(nx.topological_sort(calls))
    except nx.NetworkXUnfeasible:
        raise EdgeccError("E102", "functions of the model call each other in a cycle", where=loaded.name) from None
    if calls and nx.dag_longest_path_length(calls, default_weight=1) > limits.nesting:
        raise EdgeccError("E101", f"functions of the model are nested deeper than {limits.nesting}", where=loaded.name,
                          hint=raised("nesting"))
    sizes: dict[_FunctionKey, int] = {}
    for key in reversed(order):
        sizes[key] = _expanded(functions[key].node, sizes)
    total = _expanded(model.graph.node, sizes)
    if total > limits.nodes:
        raise EdgeccError("E101", f"the model has {total} nodes when its functions are inlined; the limit is {limits.nodes}",
                          where=loaded.name, hint=raised("nodes"))
    lengths: dict[_FunctionKey, int] = {}
    for key in reversed(order):
        lengths[key] = _length(functions[key].node, lengths)
    copied = _length(model.graph.node, lengths) - model.ByteSize()
    if copied > limits.made_bytes // INLINING_COPIES:
        raise EdgeccError("E101", f"inlining the functions of the model would copy {copied} bytes; the limit is {limits.made_bytes // INLINING_COPIES}",
                          where=loaded.name, hint=raised("made_bytes"))
    _spell_out_defaults(model, functions)
    _align_opsets(model)
    try:
        return onnx.inliner.inline_local_functions(model, convert_version=True)
    except Exception as error:  # the inliner raises whatever its C++ side throws
        raise EdgeccError("E102", f"the model's functions cannot be inlined: {printable(str(error))}",
                          where=loaded.name) from error


def _check_closed(function: onnx.FunctionProto, where: str) -> None:
    """Refuses a function that reads names which it does not define: nothing is around it, and the inliner would take the caller's."""
    defined = set(function.input).union(*(node.output for node in function.node))
    for name in (*function.output, *(name for node in function.node for name in read_names(node))):
        if name not in defined:
            raise EdgeccError("E102", f"nothing in the function '{printable(function.name)}' defines '{printable(name)}'", where=where)


def _spell_out_defaults(model: onnx.ModelProto, functions: Mapping[_FunctionKey, onnx.FunctionProto]) -> None:
    """Gives calls the default attributes of their functions, which the inliner does not look at."""
    for body in (model.graph.node, *(function.node for function in model.functions)):
        for node in _calls_in(body):
            function = functions.get((node.domain, node.op_type, node.overload))
            if function is not None:
                given = {attribute.name for attribute in node.attribute}
                node.attribute.extend(default for default in function.attribute_proto if default.name not in given)


def _align_opsets(model: onnx.ModelProto) -> None:
    """States the model's opset for functions whose operators are the same in it and in their own.

    The inliner converts a function of another version, which takes that all types in it are known, and loops and dictionaries hide some.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")}
    for function in model.functions:
        kinds = {node.op_type for node in _calls_in(function.node) if node.domain in ("", "ai.onnx")}
        for entry in function.opset_import:
            wanted = versions.get(entry.domain)
            if wanted is not None and all(_since(kind, entry.version) == _since(kind, wanted) != 0 for kind in kinds):
                entry.version = wanted


def _since(op_type: str, version: int) -> int:
    """The version of ONNX that defined an operator as it is in `version`; 0 where there is none."""
    try:
        return int(onnx.defs.get_schema(op_type, version, "").since_version)
    except onnx.defs.SchemaError:
        return 0


def _calls_in(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    """All nodes of a body, those in graphs inside it included."""
    pending = list(nodes)
    while pending:
        node = pending.pop()
        yield node
        pending.extend(inner for graph in subgraphs(node) for inner in graph.node)


def _called(nodes: Iterable[onnx.NodeProto], functions: Mapping[_FunctionKey, object]) -> Iterable[_FunctionKey]:
    keys = ((node.domain, node.op_type, node.overload) for node in _calls_in(nodes))
    return dict.fromkeys(key for key in keys if key in functions)


def _expanded(nodes: Iterable[onnx.NodeProto], sizes: Mapping[_FunctionKey, int]) -> int:
    return sum(sizes.get((node.domain, node.op_type, node.overload), 1) for node in _calls_in(nodes))


def _length(nodes: Sequence[onnx.NodeProto], lengths: Mapping[_FunctionKey, int]) -> int:
    """Bytes of a body with the functions in it inlined, whose own ones are given."""
    own: int = sum(node.ByteSize() for node in nodes)
    return own + sum(lengths.get((node.domain, node.op_type, node.overload), 0) for node in _calls_in(nodes))


# -- rules for one node -----------------------------------------------------------------------


def schema_of(domain: str, op_type: str, version: int) -> Schema | None:
    """The operator's schema in this version of its domain, or None where the onnx package has none."""
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None


def check_node(node: onnx.NodeProto, opsets: Mapping[str, int], ir_version: int) -> str | None:
    """What onnx.checker has to say against a node (attributes, number of operands), or None.

    Nodes that hold graphs are left out: their graphs may break rules that do not matter here.
    """
    if node.op_type == "Constant" or any(subgraphs(node)):
        return None
    context = onnx.checker.C.CheckerContext()
    context.ir_version = ir_version
    context.opset_imports = dict(opsets)
    try:
        onnx.checker.check_node(node, context)
    except Exception as error:  # the checker raises whatever its C++ side throws
        text = str(error).split("==> Context")[0].strip()
        return printable(text.splitlines()[0] if text else type(error).__name__)
    return None


def check_strings(schema: Schema, inputs: Sequence[Item | None]) -> None:
    """Looks for operands that are strings, or truth values, where the operator takes none.

    Other types that a schema does not list are left to the converters: with them an operator means what it says all the same.

    Raises: EdgeccError E110.
    """
    for index, item in enumerate(inputs):
        if not isinstance(item, Value) or item.type.dtype not in (DType.STRING, DType.BOOL) or not schema.inputs:
            continue
        parameter = schema.inputs[min(index, len(schema.inputs) - 1)]
        name = "string" if item.type.dtype is DType.STRING else "bool"
        if parameter.types and not any(kind.endswith(f"tensor({name})") for kind in parameter.types):
            raise EdgeccError("E110", f"operand {index} ({printable(parameter.name)}) is {item.type}; {schema.name} takes no {name} there")
