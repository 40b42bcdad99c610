"""A graph as a module of Relax."""

from __future__ import annotations

from typing import Any

from edgecc.backends.tvm import rules
from edgecc.backends.tvm.emitter import Emitter, dims_of, type_name
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph

ENTRY = "main"
"""The function that computes the network: a tensor for each input, in order, to a tuple of the outputs."""


def to_relax(graph: Graph) -> Any:
    """The module, a `tvm.IRModule` with one function, in which weights are constants.

    Args:
        graph: a valid graph; every node is supported (`rules.obstacle`).
    Raises: EdgeccError E114 where TVM refuses an operator after all, naming the node.
    """
    emitter = Emitter()
    relax = emitter.relax
    parameters = [relax.Var(f"input_{index}", relax.TensorType(dims_of(value), type_name(value.type.dtype)))
                  for index, value in enumerate(graph.inputs)]
    for value, parameter in zip(graph.inputs, parameters, strict=True):
        emitter.bind(value, parameter)
    with emitter.builder.function(ENTRY, parameters):
        with emitter.builder.dataflow():
            for node in graph.nodes:
                try:
                    rules.write(emitter, node)
                except Exception as error:  # classes of TVM's own, which differ between versions
                    if isinstance(error, EdgeccError):
                        raise
                    said = str(error).strip().splitlines() or [type(error).__name__]
                    raise EdgeccError("E114", f"TVM refuses {node.op.name}: {printable(said[-1], 300)}",
                                      where=printable(", ".join(node.loc)) or node.op.name) from error
            result = emitter.builder.emit_output(relax.Tuple([emitter.expr(value) for value in graph.outputs]))
        emitter.builder.emit_func_output(result)
    return emitter.builder.get()
