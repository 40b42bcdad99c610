"""The RKNN back end: a quantized ONNX model by edgecc, commands of Rockchip's NPUs by RKNN-Toolkit2.

The artifact has NAME.rknn for the device and NAME_qdq.onnx, what it was made of. The toolkit's simulator runs networks that it just
built, so that running an artifact builds NAME_qdq.onnx again.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from edgecc.artifact.folder import Artifact, make_export
from edgecc.backends.base import API, GraphBackend, Trace
from edgecc.backends.npu import option_of_target
from edgecc.backends.onnx.handover import hand_over, handover_obstacle, inputs_of, results_of
from edgecc.backends.onnx.tracing import trace_quantized
from edgecc.backends.requirements import Requirement
from edgecc.backends.rknn.figures import read_figures
from edgecc.backends.tools.call import Answer, call_worker
from edgecc.backends.tools.environment import ToolEnvironment
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Apply, Arg
from edgecc.ir.types import Array
from edgecc.ops.elementwise import Elementwise
from edgecc.options import spelled
from edgecc.targets.schema import Target

PLATFORMS = ("rk3562", "rk3566", "rk3568", "rk3576", "rk3588", "rv1103", "rv1103b", "rv1106", "rv1106b", "rv1126b")
"""Chips that RKNN-Toolkit2 2.5 builds for."""
NETWORK = "network.onnx"

RKNN = ToolEnvironment(
    "rknn-toolkit2", "compiles for Rockchip's NPUs and simulates them", "edgecc install rknn", kind="program", folder="rknn", variable="EDGECC_RKNN", size="700 MB",
    # Without PyTorch, which is needed for PyTorch models only, so that the toolkit comes without what it says it needs.
    packages=(("--no-deps", "rknn-toolkit2==2.5.0"),
              ("numpy==1.26.4", "onnx==1.18.0", "protobuf==4.25.4", "onnxruntime==1.20.1", "scipy==1.13.1", "opencv-python-headless<5",
               "fast-histogram", "psutil", "ruamel.yaml", "tqdm", "setuptools<81")))


@dataclass(frozen=True)
class RknnBackend(GraphBackend):
    """Writes NAME.rknn.

    Attributes:
        platform: one of `PLATFORMS`; "" is the one that the target has.
        optimization: level 0 to 3 of the toolkit; at 3 it gives means, concatenations and what reads them other scales than the model has,
            so that their results are a step off.
    """

    api: ClassVar[int] = API
    name: ClassVar[str] = "rknn"
    summary: ClassVar[str] = "models for Rockchip's NPUs"
    forms: ClassVar[Mapping[str, str]] = MappingProxyType({"rknn": "a model for a Rockchip NPU"})
    steps: ClassVar[int] = 1
    unit_roundoff: ClassVar[float] = 2.0**-11

    platform: str = ""
    optimization: int = 2

    def __post_init__(self) -> None:
        if self.platform and self.platform not in PLATFORMS:
            raise EdgeccError("E009", f"there is no platform {printable(self.platform)!r}", hint=f"there are {', '.join(PLATFORMS)}")
        if self.optimization not in range(4):
            raise EdgeccError("E009", f"there is no level of optimization {self.optimization}", hint="0 to 3")

    def requirements(self) -> tuple[Requirement, ...]:
        """RKNN-Toolkit2, in an environment of its own."""
        return (RKNN,)

    def accepts(self, target: Target) -> str | None:
        """None for targets with such an NPU, or any target if the option says which one."""
        return None if self._platform(target) else f"{target.name} has no Rockchip NPU"

    def supports(self, node: Node, target: Target) -> str | None:
        """None if the node can be handed over."""
        return handover_obstacle(node)

    def passes(self, default: tuple[str, ...], target: Target) -> tuple[str, ...]:
        """None that compute on integers or fold weights: the model's own quantization is what the toolkit wants to see."""
        return ("eliminate",)

    def emit(self, graph: Graph, name: str, target: Target, form: str) -> Artifact:
        """NAME.rknn and NAME_qdq.onnx; the report has the toolkit's cycles and memory. Raises: EdgeccError E114, E400, E401."""
        platform = self._platform(target)
        given = hand_over(graph, "rknn")
        answer = self._call(platform, given.model)
        figures = read_figures(answer.log)
        report = {"platform": platform, **figures.table(), "in_floats": list(given.floats), "quantization": dict(given.quantization)}
        return make_export(spelled(self.name, self), graph, name, target,
                           {f"{name}.rknn": answer.files["network.rknn"], f"{name}_qdq.onnx": given.model}, f"{name}.rknn", report=report,
                           arena_bytes=figures.memory_bytes, weights_bytes=figures.weight_bytes)

    def run(self, artifact: Artifact, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the network in the toolkit's simulator. Raises: EdgeccError E400, E401."""
        manifest = artifact.manifest
        answer = self._call(manifest.report["platform"], artifact.files[f"{manifest.name}_qdq.onnx"], inputs_of(artifact, inputs))
        with np.load(io.BytesIO(answer.files["outputs.npz"]), allow_pickle=False) as stored:
            return results_of(artifact, [stored[name] for name in stored.files])

    def trace(self, graph: Graph, artifact: Artifact, inputs: Mapping[str, Array]) -> Trace | None:
        """The integers of a run, by a network that has them as outputs. Raises: EdgeccError E400, E401."""
        return trace_quantized(self, graph, artifact, inputs, _is_sigmoid)

    def _call(self, platform: str, model: bytes, inputs: list[Array] | None = None) -> Answer:
        arrays = None if inputs is None else {f"in{index}": array for index, array in enumerate(inputs)}
        return call_worker(RKNN, Path(__file__).with_name("worker.py"),
                           {"platform": platform, "optimization": self.optimization, "run": inputs is not None}, {NETWORK: model}, arrays)

    def _platform(self, target: Target) -> str:
        return self.platform or option_of_target(target, self.name, "platform")


def _is_sigmoid(value: Value) -> bool:
    """Whether a value is a Sigmoid: where that is an output, the toolkit does not come to an end looking for x * Sigmoid(x)."""
    op = None if value.producer is None else value.producer.op
    return isinstance(op, Elementwise) and isinstance(op.expr, Apply) and op.expr.op == "sigmoid" and isinstance(op.expr.args[0], Arg)
