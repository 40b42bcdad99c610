"""The integers inside of a network that a vendor's tool runs: those of the same network with all of them as outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgecc.artifact.folder import Artifact
from edgecc.backends.base import GraphBackend, Trace
from edgecc.backends.onnx.between import quantizes
from edgecc.ir.graph import Graph, Value
from edgecc.ir.types import Array, DType


def trace_quantized(backend: GraphBackend, graph: Graph, artifact: Artifact, inputs: Mapping[str, Array],
                    hidden: Callable[[Value], bool] = lambda value: False) -> Trace | None:
    """What a run has for every computed value that the graph quantizes to 8 bits; None where there is none.

    Args:
        backend: compiles and runs the network once more.
        graph: the one that the artifact was made of. inputs: arrays by name.
        hidden: whether a value that is quantized cannot be an output.
    Raises: what the back end raises.
    """
    own = graph.copy()
    pairs = [(node.output, copy.output) for node, copy in zip(graph.nodes, own.nodes, strict=True)
             if quantizes(node) and node.output.type.dtype in (DType.I8, DType.U8) and node.operand(0).constant is None
             and not hidden(node.operand(0))]
    if not pairs:
        return None
    names = [f"value {number}" for number in range(len(pairs))]
    own.set_outputs([copy for _, copy in pairs], names)
    own.erase_dead(own.nodes)
    manifest = artifact.manifest
    traced = backend.emit(own, manifest.name, manifest.target, next(iter(backend.forms)))
    given = backend.run(traced, {name: inputs[name] for name in own.input_names})
    return Trace({value: given[name] for (value, _), name in zip(pairs, names, strict=True)}, {})
