"""The TFLite back end, whose files LiteRT, TensorFlow Lite Micro and the tools of many accelerators take."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import numpy as np

from edgecc.artifact.folder import Artifact, make_export
from edgecc.backends.base import API, GraphBackend, Trace
from edgecc.backends.requirements import Requirement
from edgecc.backends.tflite.channels import ScaleChannels
from edgecc.backends.tflite.convert import Converted, convert
from edgecc.backends.tflite.interface import from_file, report, to_file
from edgecc.backends.tflite.normalize import StateNormalize
from edgecc.backends.tflite.operators import obstacle
from edgecc.backends.tflite.passes import MoveConstants, QuantizeBeforeMovement
from edgecc.backends.tflite.phases import SumTransposed
from edgecc.backends.tflite.quantized import SHIFT
from edgecc.backends.tflite.schema import LITERT
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph, Node
from edgecc.ir.types import Array
from edgecc.options import spelled
from edgecc.targets.schema import Target

T = TypeVar("T")

NOT_IN_REFERENCE = ("ROUND", "CEIL")
"""Operators that LiteRT has, but its set of reference kernels lacks."""

OWN_INTEGERS = ("move-quantization", "fold-dequantized", "recognize-block-weights")
"""Passes that, with those called integer-..., put integer arithmetic of edgecc's own rounding in the place of quantization."""


def tflite_passes(default: tuple[str, ...], *, largest_stride: int = 0) -> tuple[str, ...]:
    """The passes of the pipeline that leave quantization as the model states it, and those that restate nodes for TFLite.

    `largest_stride`: of transposed convolutions that are left as they are (`SumTransposed`).
    """
    kept = [name for name in default if name not in OWN_INTEGERS and not name.startswith("integer-")]
    restated = (MoveConstants.name, ScaleChannels.name, f"{SumTransposed.name}{{largest_stride={largest_stride}}}", QuantizeBeforeMovement.name)
    return (*("fold-constants{keep_dequantized=true}" if name == "fold-constants" else name for name in kept), *restated)


@dataclass(frozen=True)
class TfliteBackend(GraphBackend):
    """Writes NAME.tflite.

    Attributes:
        interface: "float" keeps the element types of the network's inputs and outputs; "integer" takes and gives int8 where they
            are quantized right behind the border.
        images: "last" puts the channels of inputs of rank 4 last, as is usual for TFLite; "first" keeps the network's shape.
    """

    api: ClassVar[int] = API
    name: ClassVar[str] = "tflite"
    summary: ClassVar[str] = "a TFLite model, in floats or int8"
    forms: ClassVar[Mapping[str, str]] = MappingProxyType({"tflite": "a TFLite model"})

    interface: str = "float"
    images: str = "last"

    def __post_init__(self) -> None:
        if self.interface not in ("float", "integer") or self.images not in ("last", "first"):
            raise EdgeccError("E009", f"back end tflite has no interface {printable(self.interface)!r} with images {printable(self.images)!r}",
                              hint="interface is float or integer, images is last or first")

    def requirements(self) -> tuple[Requirement, ...]:
        """LiteRT, whose package has the schema of the file format."""
        return (LITERT,)

    def supports(self, node: Node, target: Target) -> str | None:
        """None if the node has a form in TFLite."""
        return obstacle(node)

    def passes(self, default: tuple[str, ...], target: Target) -> tuple[str, ...]:
        """See `tflite_passes`; and arithmetic in the place of normalizations."""
        return (*tflite_passes(default), StateNormalize.name)

    def emit(self, graph: Graph, name: str, target: Target, form: str) -> Artifact:
        """NAME.tflite; the report has the interface and counts operators. Raises: EdgeccError E114."""
        model = self._converted(graph)
        return make_export(spelled(self.name, self), graph, name, target, {f"{name}.tflite": model.data}, f"{name}.tflite",
                           report=report(model))

    def run(self, artifact: Artifact, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the model with LiteRT's reference kernels. Raises: EdgeccError E400, E401."""
        return run_model(artifact.files[artifact.manifest.main], artifact, inputs)

    def trace(self, graph: Graph, artifact: Artifact, inputs: Mapping[str, Array]) -> Trace:
        """The integers of such a run. Raises: EdgeccError E400, E401."""
        return trace_model(self._converted(graph), artifact, inputs)

    def _converted(self, graph: Graph) -> Converted:
        return convert(graph, integer_interface=self.interface == "integer", images_last=self.images == "last")


def run_model(data: bytes, artifact: Artifact, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Runs a TFLite model by LiteRT's reference kernels, or by its other ones where it has an operator that those lack.

    Args:
        data: the file; its inputs and outputs stand in the order of the artifact's.
        artifact: its report says how they lie (`report`).
        inputs: as the network takes them, by name.
    Returns: the outputs as the network gives them.
    Raises: EdgeccError E401 with what LiteRT says.
    """
    tables = artifact.manifest.report["outputs"]

    def read(interpreter: Any) -> dict[str, Array]:
        outputs = {}
        for port, detail in zip(artifact.manifest.outputs, interpreter.get_output_details(), strict=True):
            array = np.transpose(interpreter.get_tensor(detail["index"]), np.argsort(tables[port.name]["axes"]))
            outputs[port.name] = from_file(array, tables[port.name], port.type.dtype)
        return outputs

    return _interpreted(data, artifact, inputs, read)


def trace_model(model: Converted, artifact: Artifact, inputs: Mapping[str, Array]) -> Trace:
    """The integers inside of a model, as a run has them; see `run_model`."""

    def read(interpreter: Any) -> Trace:
        integers = {}
        for value, (index, order) in model.integers.items():
            array = np.transpose(interpreter.get_tensor(index), np.argsort(order)).astype(np.int16) + SHIFT[value.type.dtype]
            integers[value] = np.asarray(array, value.type.dtype.numpy)
        return Trace(integers, model.demanded)

    return _interpreted(model.data, artifact, inputs, read, preserve=True)


def _interpreted(data: bytes, artifact: Artifact, inputs: Mapping[str, Array], read: Callable[[Any], T], *, preserve: bool = False) -> T:
    """What `read` takes from LiteRT after a run. `preserve`: tensors in the middle of the model can be read as well."""
    interpreter_module = importlib.import_module("ai_edge_litert.interpreter")
    tables, kernels = artifact.manifest.report, interpreter_module.OpResolverType
    lacking = any(name in tables["operators"] for name in NOT_IN_REFERENCE)
    try:
        interpreter = interpreter_module.Interpreter(
            model_content=data, experimental_preserve_all_tensors=preserve,
            experimental_op_resolver_type=kernels.BUILTIN_WITHOUT_DEFAULT_DELEGATES if lacking else kernels.BUILTIN_REF)
        interpreter.allocate_tensors()
        for port, detail in zip(artifact.manifest.inputs, interpreter.get_input_details(), strict=True):
            table = tables["inputs"][port.name]
            interpreter.set_tensor(detail["index"], np.transpose(to_file(np.asarray(inputs[port.name]), table), table["axes"]))
        interpreter.invoke()
        return read(interpreter)
    except (RuntimeError, ValueError) as error:
        raise EdgeccError("E401", f"LiteRT: {printable(str(error), 400)}") from error
