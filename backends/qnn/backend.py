"""The QNN back end: a quantized ONNX model by edgecc, a context for Hexagon's tensor processor by onnxruntime's QNN plugin.

The artifact has NAME.onnx and NAME_qnn.bin, which onnxruntime on the device takes (a model of one node, and the context it names), and
NAME_qdq.onnx, what they were made of. The plugin emulates the processor, so that running an artifact runs the context itself.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from edgecc.artifact.folder import Artifact, make_export
from edgecc.backends.base import API, GraphBackend, Trace
from edgecc.backends.npu import option_of_target
from edgecc.backends.onnx.between import computes_between_integers
from edgecc.backends.onnx.handover import hand_over, handover_obstacle, inputs_of, results_of
from edgecc.backends.onnx.passes import SplitDequantize
from edgecc.backends.onnx.tracing import trace_quantized
from edgecc.backends.requirements import Requirement
from edgecc.backends.tools.call import Answer, call_worker
from edgecc.backends.tools.environment import ToolEnvironment
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph, Node
from edgecc.ir.scalar import Arg
from edgecc.ir.types import Array, DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.elementwise_table import ELEMENTWISE
from edgecc.ops.reduction import Normalize
from edgecc.options import spelled
from edgecc.targets.schema import Target

ARCHITECTURES = ("68", "69", "73", "75", "79", "81")
"""Versions of the tensor processor that the plugin compiles for."""

QNN = ToolEnvironment(
    "onnxruntime-qnn", "compiles for Qualcomm's Hexagon processors and emulates them", "edgecc install qnn", kind="program", folder="qnn",
    variable="EDGECC_QNN", size="540 MB", packages=(("onnxruntime==1.31.0", "onnxruntime-qnn==2.7.0", "onnx", "numpy"),))


_ERF = ELEMENTWISE["Erf"].build([Arg(0, DType.F32)], {})


@dataclass(frozen=True)
class QnnBackend(GraphBackend):
    """Writes NAME.onnx with NAME_qnn.bin.

    Attributes:
        arch: one of `ARCHITECTURES`; "" is the one that the target has.
    """

    api: ClassVar[int] = API
    name: ClassVar[str] = "qnn"
    summary: ClassVar[str] = "contexts for Qualcomm's Hexagon processors"
    forms: ClassVar[Mapping[str, str]] = MappingProxyType({"qnn": "a context for a Hexagon processor"})
    steps: ClassVar[int] = 1

    arch: str = ""

    def __post_init__(self) -> None:
        if self.arch and self.arch not in ARCHITECTURES:
            raise EdgeccError("E009", f"there is no Hexagon v{printable(self.arch)}", hint=f"there are {', '.join(ARCHITECTURES)}")

    def requirements(self) -> tuple[Requirement, ...]:
        """onnxruntime and its QNN plugin, in an environment of their own."""
        return (QNN,)

    def accepts(self, target: Target) -> str | None:
        """None for targets with such a processor, or any target if the option says which one."""
        return None if self._arch(target) else f"{target.name} has no Hexagon processor"

    def supports(self, node: Node, target: Target) -> str | None:
        """None if the node can be handed over and computes between integers."""
        reason = handover_obstacle(node)
        if reason is None and not computes_between_integers(node):
            reason = "is computed in floats, and the processor computes on integers"
        if reason is None and isinstance(node.op, Normalize):
            reason = "the plugin leaves normalizations of layers to the CPU"
        if reason is None and isinstance(node.op, Elementwise) and node.op.expr == _ERF:
            reason = "the plugin leaves error functions to the CPU"
        return reason

    def passes(self, default: tuple[str, ...], target: Target) -> tuple[str, ...]:
        """None that compute on integers or fold weights: the model's own quantization is what the plugin wants to see, around each operator."""
        return ("eliminate", SplitDequantize.name)

    def emit(self, graph: Graph, name: str, target: Target, form: str) -> Artifact:
        """NAME.onnx, NAME_qnn.bin and NAME_qdq.onnx. Raises: EdgeccError E114, E400, E401."""
        arch = self._arch(target)
        given = hand_over(graph, "qnn")
        answer = _call({"name": name, "arch": arch, "run": False}, {"network.onnx": given.model})
        files = {**answer.files, f"{name}_qdq.onnx": given.model}
        missing = [file for file in (f"{name}.onnx", f"{name}_qnn.bin") if file not in files]
        if missing:
            raise EdgeccError("E401", f"the QNN plugin did not write {', '.join(missing)}", hint="this edgecc knows version 2.7")
        context = len(files[f"{name}_qnn.bin"])
        report = {"arch": f"v{arch}", "context_bytes": context, "runtime": answer.fields["runtime"], "quantization": dict(given.quantization)}
        return make_export(spelled(self.name, self), graph, name, target, files, f"{name}.onnx", report=report, weights_bytes=context)

    def run(self, artifact: Artifact, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the context in the emulation of the processor. Raises: EdgeccError E400, E401."""
        name = artifact.manifest.name
        arrays = {f"in{index}": array for index, array in enumerate(inputs_of(artifact, inputs))}
        answer = _call({"name": name, "arch": artifact.manifest.report["arch"].removeprefix("v"), "run": True},
                       {file: artifact.files[file] for file in (f"{name}.onnx", f"{name}_qnn.bin")}, arrays)
        with np.load(io.BytesIO(answer.files["outputs.npz"]), allow_pickle=False) as stored:
            return results_of(artifact, [stored[key] for key in stored.files])

    def trace(self, graph: Graph, artifact: Artifact, inputs: Mapping[str, Array]) -> Trace | None:
        """The integers of a run, by a network that has them as outputs. Raises: EdgeccError E400, E401."""
        return trace_quantized(self, graph, artifact, inputs)

    def _arch(self, target: Target) -> str:
        return self.arch or option_of_target(target, self.name, "arch")


def _call(request: Mapping[str, Any], files: Mapping[str, bytes], arrays: Mapping[str, Array] | None = None) -> Answer:
    return call_worker(QNN, Path(__file__).with_name("worker.py"), request, files, arrays)
