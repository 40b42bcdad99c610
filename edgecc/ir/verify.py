"""The verifier of the Graph IR.

Invariants, each checked by `verify`:

 1. Every operand of a node is a graph input, a constant, or a result of an earlier node of the graph.
 2. A value's use list holds exactly the operand positions that read it.
 3. Every result names its node as producer and its own index.
 4. The operator's shape rule, applied to the operands, gives the types of the results.
 5. The number of operands is one the operator accepts; only optional ones are absent.
 6. A constant has no producer, its array is read-only, C-contiguous, and of the value's type.
 7. Inputs and outputs have one interface name each; input names are distinct, output names are distinct.
 8. Every output is a graph input, a constant, or a result of a node of the graph.
 9. A layout is a permutation of the value's axes; graph inputs, outputs, constants and results of nodes with regions
    are row-major.
10. All of this holds in the regions of nodes too; a region belongs to one node, and shares no value with another graph.
11. A size that a node depends on is one of the inputs' shapes, or an earlier node binds it; no size is bound twice. In a region
    it may also be one of the graph around it.
"""

from __future__ import annotations

from edgecc.errors import EdgeccError
from edgecc.ir.dims import Symbol, symbols_within
from edgecc.ir.graph import Graph, Node, Value, symbols_of_node
from edgecc.ir.op import Op
from edgecc.ir.types import DType, TensorType


def verify(graph: Graph) -> None:
    """Checks every invariant listed in this module's docstring.

    Raises: EdgeccError E900 naming the invariant and the node.
    """
    verify_structure(graph)
    verify_types(graph)


Looked = dict[Node, tuple[Op, tuple[TensorType | None, ...], tuple[TensorType, ...]]]
"""Nodes whose results had the types that the shape rule gives, with operator and types as they were then."""


def verify_types(graph: Graph, looked: Looked | None = None) -> None:
    """Checks invariants 4 and 11, which depend on nothing but what `structural_hash` covers.

    `looked` keeps what was found right from one call to the next: shape rules are most of the work.

    Raises: EdgeccError E900 naming the node.
    """
    _verify_results_types(graph, {} if looked is None else looked)
    _verify_sizes(graph, frozenset())


def _verify_results_types(graph: Graph, looked: Looked) -> None:
    for node in graph.nodes:
        got = tuple([v.type for v in node.outputs])
        now = (node.op, node.input_types, got)
        if not node.regions and looked.get(node) == now:
            continue
        try:
            types = node.result_types()
        except EdgeccError as error:
            raise _broken(4, error.message, node) from error
        if types != got:
            raise _broken(4, f"results have types {', '.join(map(str, got))}; the shape rule gives "
                             f"{', '.join(map(str, types))}", node)
        looked[node] = now
        for region in node.regions:
            _verify_results_types(region, looked)


def verify_structure(graph: Graph) -> None:
    """Checks every invariant but numbers 4 and 11.

    Raises: EdgeccError E900 naming the invariant and the node.
    """
    _verify_structure(graph, set())


def _verify_structure(graph: Graph, elsewhere: set[int]) -> None:
    """Checks a graph; `elsewhere` are ids of the graphs met already and of their constants, and is added to."""
    if id(graph) in elsewhere:
        raise _broken(10, f"the region {graph.name} belongs to two nodes")
    elsewhere.add(id(graph))
    known: dict[int, Value] = {id(v): v for v in graph.inputs}
    own: dict[int, Value] = {}
    uses: dict[int, int] = {}
    for value in graph.inputs:
        if value.producer is not None or value.constant is not None:
            raise _broken(1, f"graph input %{value.name} has a producer or data")
    nodes = graph.nodes
    for node in nodes:
        _verify_operands(node, known, own, uses)
        _verify_results(node, known)
    for position, value in enumerate(graph.outputs):
        if value.constant is not None:
            _verify_constant(value)
            own[id(value)] = value
        elif id(value) not in known:
            raise _broken(8, f"output {position} (%{value.name}) is not a value of the graph")
    _verify_interface(graph)
    for value in (*known.values(), *own.values()):
        if len(value._uses) != uses.get(id(value), 0):
            raise _broken(2, f"the use list of %{value.name} is wrong")
        if sorted(value.layout.order) != list(range(value.type.rank)):
            raise _broken(9, f"layout {value.layout} of %{value.name}: {value.type} is not a permutation")
    for value in (*graph.inputs, *graph.outputs, *own.values()):
        if not value.layout.is_row_major:
            raise _broken(9, f"%{value.name} belongs to the interface or is constant and has layout {value.layout}")
    if not own.keys().isdisjoint(elsewhere):
        raise _broken(10, f"a constant of {graph.name} belongs to another graph too")
    elsewhere.update(own)
    for node in nodes:
        if node.regions and not all(value.layout.is_row_major for value in node.outputs):
            raise _broken(9, "a result is not row-major, as outputs of regions are", node)
        for region in node.regions:
            _verify_structure(region, elsewhere)


def _verify_sizes(graph: Graph, known: frozenset[Symbol]) -> None:
    """Checks that sizes are known where they are needed; `known` are those of the graph around this one."""
    sizes = set(known)
    for value in graph.inputs:
        sizes |= symbols_within(value.type.shape)
    for node in graph.nodes:
        missing = symbols_of_node(node) - sizes
        if missing:
            raise _broken(11, f"nothing says what {min(s.name for s in missing)} is", node)
        for region in node.regions:
            _verify_sizes(region, frozenset(sizes))
        if node.op.binds is not None:
            if node.op.binds in sizes:
                raise _broken(11, f"{node.op.binds.name} is bound twice", node)
            sizes.add(node.op.binds)


def _verify_operands(node: Node, known: dict[int, Value], own: dict[int, Value], uses: dict[int, int]) -> None:
    """Checks operands; adds constants to `own` and counts in `uses`, by ids, how often values are read."""
    problem = node.op.arity_error(len(node.inputs))
    if problem is not None:
        raise _broken(5, problem, node)
    for index, value in enumerate(node.inputs):
        if value is None:
            if index < len(node.op.inputs) and not node.op.inputs[index].endswith(("?", "*")):
                raise _broken(5, f"operand {index} is absent", node)
            continue
        if value.constant is not None:
            _verify_constant(value)
            own[id(value)] = value
        elif id(value) not in known:
            raise _broken(1, f"operand {index} (%{value.name}) is not defined before it is used", node)
        if (id(node), index) not in value._uses:
            raise _broken(2, f"the use list of %{value.name} is wrong")
        uses[id(value)] = uses.get(id(value), 0) + 1


def _verify_results(node: Node, known: dict[int, Value]) -> None:
    for index, value in enumerate(node.outputs):
        if value.producer is not node or value.result_index != index or value.constant is not None:
            raise _broken(3, f"result {index} (%{value.name}) does not point back", node)
        if id(value) in known:
            raise _broken(3, f"result %{value.name} is defined twice", node)
        known[id(value)] = value


def _verify_constant(value: Value) -> None:
    data = value.constant
    if data is None or value.producer is not None:
        raise _broken(6, f"constant %{value.name} has a producer")
    if data.flags.writeable or not data.flags.c_contiguous:
        raise _broken(6, f"the array of %{value.name} is writable or not contiguous")
    if data.dtype != value.type.dtype.numpy or data.shape != value.type.shape:
        raise _broken(6, f"%{value.name} is {value.type}, its array is {data.dtype}{list(data.shape)}")
    if value.type.dtype is DType.STRING and not all(isinstance(text, str) and "\0" not in text for text in data.reshape(-1)):
        raise _broken(6, f"the array of %{value.name} has elements that are no strings without NUL")


def _verify_interface(graph: Graph) -> None:
    for kind, values, names in (("input", graph.inputs, graph.input_names), ("output", graph.outputs, graph.output_names)):
        if len(values) != len(names):
            raise _broken(7, f"{len(values)} {kind}s with {len(names)} names")
        if len(set(names)) != len(names):
            raise _broken(7, f"two {kind}s share a name")


def _broken(invariant: int, message: str, node: Node | None = None) -> EdgeccError:
    where = "" if node is None else f"{node.op.name} ({', '.join(node.loc) or 'no source'})"
    return EdgeccError("E900", f"invariant {invariant}: {message}", where=where)
