"""The ONNX back end: a graph as an ONNX model, which onnxruntime can run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from edgecc.artifact.folder import Artifact, make_export
from edgecc.backends.base import API, GraphBackend
from edgecc.backends.onnx.dialects import dialect_opset, in_dialect
from edgecc.backends.onnx.export import export_onnx
from edgecc.backends.onnx.operators import obstacle
from edgecc.backends.onnx.writer import DEFAULT_OPSET
from edgecc.backends.requirements import Requirement, check_requirements
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph, Node
from edgecc.ir.types import Array
from edgecc.options import spelled
from edgecc.targets.schema import Target

RUNTIME = Requirement("onnxruntime", "runs ONNX models", "pip install onnxruntime")


@dataclass(frozen=True)
class OnnxBackend(GraphBackend):
    """Writes NAME.onnx.

    Attributes:
        opset: version of the default domain.
        dialect: for quantized models: quantization stays where the model has it, and is written as a vendor's tool wants
            it (edgecc/backends/onnx/dialects.py); "none" computes on integers, as other back ends do.
    """

    api: ClassVar[int] = API
    name: ClassVar[str] = "onnx"
    summary: ClassVar[str] = "an ONNX model for other tools"
    forms: ClassVar[Mapping[str, str]] = MappingProxyType({"onnx": "an ONNX model"})

    opset: int = DEFAULT_OPSET
    dialect: Literal["none", "ort", "rknn", "qnn", "tensorrt", "openvino"] = "none"

    def supports(self, node: Node, target: Target) -> str | None:
        """None if the node has a form in ONNX."""
        return obstacle(node)

    def passes(self, default: tuple[str, ...], target: Target) -> tuple[str, ...]:
        """In a dialect none that compute on integers or fold weights: the model's own quantization is what tools want to see."""
        return default if self.dialect == "none" else ("eliminate",)

    def emit(self, graph: Graph, name: str, target: Target, form: str) -> Artifact:
        """NAME.onnx; the report counts nodes by operator. Raises: EdgeccError E001, E114."""
        opset = self.opset if self.dialect == "none" or self.opset != DEFAULT_OPSET else dialect_opset(self.dialect, graph)
        model = export_onnx(graph, opset=opset)
        figures: dict[str, object] = {"opset": opset}
        if self.dialect != "none":
            model, floats = in_dialect(model, self.dialect, opset)
            figures |= {"dialect": self.dialect, "in floats": list(floats)}
        counts: dict[str, int] = {}
        for node in model.graph.node:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
        weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
        return make_export(spelled(self.name, self), graph, name, target, {f"{name}.onnx": model.SerializeToString(deterministic=True)},
                           f"{name}.onnx", report=figures | {"nodes": dict(sorted(counts.items()))}, weights_bytes=weights)

    def run(self, artifact: Artifact, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the model in onnxruntime, without optimizations. Raises: EdgeccError E400, E401."""
        check_requirements([RUNTIME], f"running artifacts of back end {self.name}")
        import onnxruntime  # optional

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        names = [port.name for port in artifact.manifest.outputs]
        try:
            session = onnxruntime.InferenceSession(artifact.files[artifact.manifest.main], options, providers=["CPUExecutionProvider"])
            return {name: np.asarray(array) for name, array in zip(names, session.run(names, dict(inputs)), strict=True)}
        except Exception as error:  # its own classes, which differ between versions
            raise EdgeccError("E401", f"onnxruntime: {printable(str(error), 400)}") from error
