"""A back end under test: graphs in, artifacts and results out, whichever kind it is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgecc.artifact.folder import Artifact
from edgecc.backends.base import AnyBackend, EmitOptions
from edgecc.backends.discovery import select_backend
from edgecc.backends.op_table import OpCase
from edgecc.ir.graph import Graph
from edgecc.ir.types import Array
from edgecc.pipeline import compile_graph, prepare_graph
from edgecc.support import obstacle, prepared_case
from edgecc.targets.schema import Target, load_target


@dataclass(frozen=True)
class Subject:
    """A back end with a target and a form."""

    backend: AnyBackend
    target: Target
    form: str

    @staticmethod
    def of(backend: str, target: str, form: str | None) -> Subject:
        """By names. Raises: EdgeccError where there is none."""
        found, chosen = select_backend(backend, form)
        return Subject(found, load_target(target), chosen)

    def reason(self, case: OpCase) -> str | None:
        """Why it does not support a case; None where it does."""
        return obstacle(prepared_case(case, self.backend, self.target), self.backend, self.target)

    def emit(self, graph: Graph, name: str = "net") -> Artifact:
        """The artifact of a graph that has not been through passes. Raises: EdgeccError."""
        if self.backend.takes == "loops":
            compiled = compile_graph(graph, self.target, name=name, backend=self.backend)
            return self.backend.emit(compiled.module, self.target, EmitOptions(form=self.form))
        prepared = prepare_graph(graph, self.target, self.backend)
        return self.backend.emit(prepared.graph, name, self.target, self.form)

    def run(self, artifact: Artifact, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs an artifact. Raises: EdgeccError E405 where nothing can."""
        if self.backend.takes == "loops":
            with self.backend.load(artifact) as loaded:
                return loaded.run(inputs)
        return self.backend.run(artifact, inputs)


def joined(cases: list[OpCase]) -> Graph:
    """The graphs of several cases side by side in one graph; inputs and outputs are called after the case."""
    whole = Graph("cases")
    names: list[str] = []
    outputs = []
    for number, case in enumerate(cases):
        part = case.build()
        copies = {value: whole.add_input(value.type, f"case {number} {name}") for name, value in zip(part.input_names, part.inputs, strict=True)}
        for node in part.nodes:
            operands = [None if v is None else copies[v] if v in copies else whole.own_constant(v) for v in node.inputs]
            made = whole.add_node(node.op, operands, loc=(f"case {number}", *node.loc), regions=[region.copy() for region in node.regions])
            copies |= dict(zip(node.outputs, made.outputs, strict=True))
        outputs += [copies[value] for value in part.outputs]
        names += [f"case {number} {name}" for name in part.output_names]
    whole.set_outputs(outputs, names)
    return whole
