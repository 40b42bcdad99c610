"""The Ethos-U back end: TFLite by edgecc, command streams by Vela.

The artifact has two models: NAME.tflite for the device, in which command streams stand for operators, and NAME_int8.tflite, the
same network before Vela. LiteRT's reference kernels define what the accelerator computes, so that running the second one tells what
the device will give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from edgecc.artifact.folder import Artifact, make_export
from edgecc.backends.base import API, GraphBackend, Trace
from edgecc.backends.ethosu.passes import SplitDequantize, SplitMovement
from edgecc.backends.ethosu.strides import FoldStrides
from edgecc.backends.ethosu.vela import VELA, Compiled, run_vela
from edgecc.backends.requirements import Requirement
from edgecc.backends.tflite.backend import run_model, tflite_passes, trace_model
from edgecc.backends.tflite.convert import Converted, convert
from edgecc.backends.tflite.interface import report
from edgecc.backends.tflite.neighbours import computes_on_integers
from edgecc.backends.tflite.operators import obstacle
from edgecc.backends.tflite.quantized import dequantization_of, quantization_of
from edgecc.backends.tflite.schema import LITERT
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph, Node
from edgecc.ir.types import Array
from edgecc.ops.work import graph_multiply_adds
from edgecc.options import spelled
from edgecc.targets.schema import Target

SYSTEMS: Mapping[str, tuple[str, str]] = MappingProxyType({
    "ethos-u55": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65": ("Ethos_U65_High_End", "Dedicated_Sram"),
    "ethos-u85": ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
})
"""The system and the memory mode that each family is modelled in by default: names out of Vela's Arm/vela.ini."""
LARGEST_STRIDE = 2
"""Of transposed convolutions that the accelerators compute."""
ACCELERATORS = ("ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256", "ethos-u65-256", "ethos-u65-512",
                "ethos-u85-128", "ethos-u85-256", "ethos-u85-512", "ethos-u85-1024", "ethos-u85-2048")


@dataclass(frozen=True)
class EthosuBackend(GraphBackend):
    """Writes a TFLite model with command streams.

    Attributes:
        accelerator: one of `ACCELERATORS`; "" is the one that the target has.
        system, memory: names out of Vela's configuration; "" is what `SYSTEMS` says.
        optimise: Performance, or Size for the least memory.
    """

    api: ClassVar[int] = API
    name: ClassVar[str] = "ethosu"
    summary: ClassVar[str] = "command streams of Arm Ethos-U in a TFLite model"
    forms: ClassVar[Mapping[str, str]] = MappingProxyType({"ethosu": "a TFLite model with Ethos-U command streams"})

    accelerator: str = ""
    system: str = ""
    memory: str = ""
    optimise: str = "Performance"

    def __post_init__(self) -> None:
        if self.accelerator and self.accelerator not in ACCELERATORS:
            raise EdgeccError("E009", f"there is no Ethos-U {printable(self.accelerator)!r}", hint=f"there are {', '.join(ACCELERATORS)}")
        if self.optimise not in ("Performance", "Size"):
            raise EdgeccError("E009", f"Vela does not optimise for {printable(self.optimise)!r}", hint="Performance or Size")

    def requirements(self) -> tuple[Requirement, ...]:
        """LiteRT's schema, and Vela."""
        return (LITERT, VELA)

    def accepts(self, target: Target) -> str | None:
        """None for targets with an Ethos-U, or any target if the option says which one."""
        return None if self._accelerator(target) else f"{target.name} has no Ethos-U"

    def supports(self, node: Node, target: Target) -> str | None:
        """None if the node is computed on integers in TFLite; what of that runs on the accelerator is Vela's decision."""
        reason = obstacle(node)
        if reason is None and not computes_on_integers(node):
            reason = "is computed in floats, and the accelerator computes on int8"
        return reason

    def passes(self, default: tuple[str, ...], target: Target) -> tuple[str, ...]:
        """Those of TFLite, strides that the accelerators have, and integers for every reader there."""
        return (*tflite_passes(default, largest_stride=LARGEST_STRIDE), FoldStrides.name, SplitMovement.name, SplitDequantize.name)

    def emit(self, graph: Graph, name: str, target: Target, form: str) -> Artifact:
        """NAME.tflite and NAME_int8.tflite; the report has Vela's figures, and what is left for the CPU.

        Raises: EdgeccError E114 where nothing of the network can run on the accelerator; E401 where Vela fails.
        """
        accelerator = self._accelerator(target)
        model = _converted(graph)
        system, memory = SYSTEMS[accelerator.rpartition("-")[0]]
        compiled = run_vela(model.data, accelerator, system=self.system or system, memory=self.memory or memory, optimise=self.optimise)
        if compiled.npu_operators == 0:
            raise EdgeccError("E114", f"nothing of this network can run on {accelerator}: {len(compiled.cpu_operators)} operators stay on the CPU",
                              hint="Ethos-U computes on int8: `edgecc quantize` makes a quantized model")
        figures = report(model) | _figures(compiled, accelerator, graph_multiply_adds(graph))
        return make_export(spelled(self.name, self), graph, name, target,
                           {f"{name}.tflite": compiled.data, f"{name}_int8.tflite": model.data}, f"{name}.tflite", report=figures,
                           arena_bytes=int(compiled.figures["sram_bytes"]))

    def run(self, artifact: Artifact, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What the device will give: NAME_int8.tflite in LiteRT's reference kernels. Raises: EdgeccError E400, E401."""
        return run_model(artifact.files[f"{artifact.manifest.name}_int8.tflite"], artifact, inputs)

    def trace(self, graph: Graph, artifact: Artifact, inputs: Mapping[str, Array]) -> Trace:
        """The integers of such a run. Raises: EdgeccError E400, E401."""
        return trace_model(_converted(graph), artifact, inputs)

    def left(self, graph: Graph, artifact: Artifact) -> Mapping[Node, str]:
        """What Vela left, with what dequantizes for it and quantizes its results."""
        writers, found = _converted(graph).writers, dict[Node, str]()
        for name in artifact.manifest.report["cpu_results"]:
            node = writers.get(name)
            if node is None:
                continue
            before = [value.producer for value in node.inputs if value is not None and value.producer is not None]
            after = [user for value in node.outputs for user in value.users]
            around = [each for each in before if dequantization_of(each)] + [each for each in after if quantization_of(each)]
            found |= dict.fromkeys((node, *around), f"Vela leaves {node.op.name} of these sizes to the CPU")
        return found

    def _accelerator(self, target: Target) -> str:
        """The accelerator to write for, or "" where there is none."""
        if self.accelerator or target.npu is None:
            return self.accelerator
        _, _, options = target.npu.backend.partition("ethosu{accelerator=")
        return options.partition("}")[0].partition(",")[0]


def _converted(graph: Graph) -> Converted:
    # Vela keeps room for 32 bits of each position, also where it writes 64.
    return convert(graph, integer_interface=True, images_last=True, products_as_convolutions=True, short_positions=True)


def _figures(compiled: Compiled, accelerator: str, multiply_adds: int) -> dict[str, Any]:
    on_npu = sum(layer["multiply_adds"] for layer in compiled.layers)
    cpu = {name: compiled.cpu_operators.count(name) for name in sorted(set(compiled.cpu_operators))}
    return {"accelerator": accelerator, "vela": dict(compiled.figures), "command_streams": compiled.npu_operators, "cpu_operators": cpu, "cpu_results": list(compiled.cpu_results),
            "npu_multiply_adds": int(on_npu), "model_multiply_adds": multiply_adds, "layers": [dict(layer) for layer in compiled.layers]}
