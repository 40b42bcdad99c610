"""The TOSA back end: NAME.tosa, and the reference model that says what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from edgecc.artifact.folder import Artifact, make_export
from edgecc.backends.base import API, GraphBackend, Trace
from edgecc.backends.requirements import Requirement
from edgecc.backends.tflite.backend import tflite_passes
from edgecc.backends.tflite.convert import Converted
from edgecc.backends.tflite.interface import from_file, report, to_file
from edgecc.backends.tflite.normalize import StateNormalize
from edgecc.backends.tflite.quantized import SHIFT
from edgecc.backends.tosa.convert import convert, convert_with_integers, obstacle
from edgecc.backends.tosa.simulate import simulate
from edgecc.backends.tosa.writer import TOSA
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph, Node
from edgecc.ir.types import Array
from edgecc.options import spelled
from edgecc.targets.schema import Target


@dataclass(frozen=True)
class TosaBackend(GraphBackend):
    """Writes NAME.tosa.

    Attributes:
        interface: "integer" takes and gives int8 where inputs and outputs are quantized right behind the border, as accelerators
            want it; "float" keeps the element types of the network's.
        images: "last" puts the channels of inputs of rank 4 last; "first" keeps the network's shape.
    """

    api: ClassVar[int] = API
    name: ClassVar[str] = "tosa"
    summary: ClassVar[str] = "a TOSA file, in floats or int8"
    forms: ClassVar[Mapping[str, str]] = MappingProxyType({"tosa": "a TOSA file"})
    steps: ClassVar[int] = 1

    interface: str = "integer"
    images: str = "last"

    def __post_init__(self) -> None:
        if self.interface not in ("float", "integer") or self.images not in ("last", "first"):
            raise EdgeccError("E009", f"back end tosa has no interface {printable(self.interface)!r} with images {printable(self.images)!r}",
                              hint="interface is float or integer, images is last or first")

    def requirements(self) -> tuple[Requirement, ...]:
        """The serializer of tosa-tools."""
        return (TOSA,)

    def supports(self, node: Node, target: Target) -> str | None:
        """None if the node has a form in TOSA."""
        return obstacle(node)

    def passes(self, default: tuple[str, ...], target: Target) -> tuple[str, ...]:
        """Those of TFLite, and arithmetic in the place of normalizations."""
        return (*tflite_passes(default), StateNormalize.name)

    def emit(self, graph: Graph, name: str, target: Target, form: str) -> Artifact:
        """NAME.tosa; the report has the interface. Raises: EdgeccError E114."""
        model = convert(graph, integer_interface=self.interface == "integer", images_last=self.images == "last")
        return make_export(spelled(self.name, self), graph, name, target, {f"{name}.tosa": model.data}, f"{name}.tosa", report=report(model))

    def run(self, artifact: Artifact, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the file in the reference model. Raises: EdgeccError E400, E401."""
        tables = artifact.manifest.report["outputs"]
        arrays = run_file(artifact.files[artifact.manifest.main], artifact, inputs)
        return {port.name: from_file(np.transpose(array, np.argsort(tables[port.name]["axes"])), tables[port.name], port.type.dtype)
                for port, array in zip(artifact.manifest.outputs, arrays, strict=True)}

    def trace(self, graph: Graph, artifact: Artifact, inputs: Mapping[str, Array]) -> Trace:
        """The integers of such a run: those of a file that has them all as outputs. Raises: EdgeccError E400, E401."""
        model: Converted = convert_with_integers(graph, integer_interface=self.interface == "integer", images_last=self.images == "last")
        integers = {}
        for (value, (_, order)), array in zip(model.integers.items(), run_file(model.data, artifact, inputs), strict=True):
            moved = np.transpose(array, np.argsort(order)).astype(np.int16) + SHIFT[value.type.dtype]
            integers[value] = np.asarray(moved, value.type.dtype.numpy)
        return Trace(integers, model.demanded)


def run_file(data: bytes, artifact: Artifact, inputs: Mapping[str, Array]) -> list[Array]:
    """What the reference model makes of a file: its outputs in order.

    Args:
        artifact: its report says how inputs lie in the file (`report`).
    Raises: EdgeccError E400, E401.
    """
    tables = artifact.manifest.report["inputs"]
    arrays = [np.ascontiguousarray(np.transpose(to_file(np.asarray(inputs[port.name]), tables[port.name]), tables[port.name]["axes"]))
              for port in artifact.manifest.inputs]
    return simulate(data, arrays)
