"""Verifies a quantized network layer by layer in the tool that a back end runs its artifacts in.

Tools that round in their own way differ by a step here and there, and a step in one layer becomes several in the layers behind it:
end to end nothing can be told. So every value that the network quantizes is made an output, the tool runs that network once, and each
of these values is computed anew by the reference from the values that the tool itself gave for what stands in front of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgecc.backends.base import GraphBackend
from edgecc.errors import EdgeccError, printable
from edgecc.ir.extract import extract
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.types import Array, DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.requantize import as_quantized
from edgecc.pipeline import prepare_graph
from edgecc.reference.executor import execute
from edgecc.targets.schema import Target

_INTEGERS = (DType.I8, DType.U8)


@dataclass(frozen=True)
class LayerSteps:
    """One quantized value: the nodes it was computed by, how far it is off, and how often.

    Attributes:
        name: of the nodes.
        elements: how many integers it has.
        differing: how many of them are not the reference's.
        steps: by how much at most.
    """

    name: str
    elements: int
    differing: int
    steps: int


def verify_layers(graph: Graph, name: str, target: Target, backend: GraphBackend, inputs: Mapping[str, Array]) -> tuple[LayerSteps, ...]:
    """Compares every quantized value of a network, in order.

    Args:
        graph: as imported. name: a C identifier.
        inputs: arrays by name.
    Raises: EdgeccError E114 where the network quantizes nothing; what compiling and running raise.
    """
    own = prepare_graph(graph, target, backend).graph.copy()
    values = [node.output for node in own.nodes if _quantizes(node)]
    if not values:
        raise EdgeccError("E114", "the network quantizes nothing, so that it cannot be compared layer by layer",
                          hint="`edgecc quantize` makes a quantized model")
    names = [f"value {number}" for number in range(len(values))]
    own.set_outputs(values, names)
    own.erase_dead([node for node in own.nodes if not any(own.is_output(v) or v.users for v in node.outputs)])
    artifact = backend.emit(own, name, target, next(iter(backend.forms)))
    given = backend.run(artifact, {name: inputs[name] for name in own.input_names})
    known: dict[Value, Array] = {value: given[name] for value, name in zip(values, names, strict=True)}
    known |= {value: inputs[name] for value, name in zip(own.inputs, own.input_names, strict=True)}
    return tuple(_compared(own, value, known) for value in values)


def _quantizes(node: Node) -> bool:
    """Whether a node makes integers of 8 bits of computed floats."""
    return (isinstance(node.op, Elementwise) and as_quantized(node.op.expr) is not None and node.output.type.dtype in _INTEGERS
            and node.operand(0).constant is None)


def _compared(graph: Graph, value: Value, known: Mapping[Value, Array]) -> LayerSteps:
    nodes = _between(graph, value, known)
    part, read = extract(nodes, [value])
    (wanted,) = execute(part, {name: known[v] for name, v in zip(part.input_names, read, strict=True)}).values()
    difference = np.abs(known[value].astype(np.int16) - wanted.astype(np.int16))
    where = ", ".join(dict.fromkeys(name for node in nodes for name in node.loc[:1]))
    return LayerSteps(printable(where, 120), int(difference.size), int(np.count_nonzero(difference)), int(difference.max(initial=0)))


def _between(graph: Graph, value: Value, known: Mapping[Value, Array]) -> Sequence[Node]:
    """The nodes that compute a value from known ones, in the order of the graph."""
    found: set[Node] = set()
    pending = [value.producer]
    while pending:
        node = pending.pop()
        if node is None or node in found:
            continue
        found.add(node)
        pending += [v.producer for v in node.inputs if v is not None and v not in known]
    return [node for node in graph.nodes if node in found]
