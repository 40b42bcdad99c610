"""What graph back ends wrote, as models that are run like compiled ones: in the back end's simulator or tool."""

from __future__ import annotations

from collections.abc import Sequence

from edgecc.artifact.folder import Artifact
from edgecc.artifact.load import Model, Port, ports_of
from edgecc.artifact.strings import result_array
from edgecc.backends.base import GraphBackend
from edgecc.errors import EdgeccError
from edgecc.ir.packing import pack
from edgecc.ir.types import Array


class _Run:
    """An `Executor` that hands each run to the back end."""

    def __init__(self, backend: GraphBackend, artifact: Artifact, ports: Sequence[Port]) -> None:
        self.backend, self.artifact, self.ports = backend, artifact, ports

    def load_weights(self, blob: bytes) -> None:
        raise EdgeccError("E001", f"artifacts of back end {self.backend.name} hold their weights")

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        given = {port.name: result_array(array, port.type) for port, array in zip(self.ports, inputs, strict=True)}
        results = self.backend.run(self.artifact, given)
        for memory, port in zip(outputs, self.artifact.manifest.outputs, strict=True):
            memory[...] = pack(results[port.name]).reshape(memory.shape)

    def run_open(self, inputs: Sequence[Array], shapes: Sequence[tuple[int, ...]], ranks: Sequence[int],
                 outputs: Sequence[Array]) -> list[tuple[int, ...]]:
        raise EdgeccError("E001", f"artifacts of back end {self.backend.name} have fixed shapes")

    def close(self) -> None:
        """Nothing is kept between runs."""

    def benchmark(self, inputs: Sequence[Array], outputs: Sequence[Array], count: int) -> list[int]:
        raise EdgeccError("E001", f"runs of back end {self.backend.name} are not timed here: they go through its tools")


def exported_model(backend: GraphBackend, artifact: Artifact) -> Model:
    """An artifact of a back end that takes graphs, as a model. Its runs raise what `GraphBackend.run` raises."""
    manifest = artifact.manifest
    inputs, outputs = ports_of(manifest.inputs), ports_of(manifest.outputs)
    return Model(_Run(backend, artifact, inputs), inputs, outputs, arena_bytes=manifest.arena_bytes,
                 weights_bytes=manifest.weights.size_bytes, code_bytes=None, manifest=manifest)
