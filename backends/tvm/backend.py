"""The TVM back end."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from edgecc.artifact.folder import Artifact, make_export
from edgecc.artifact.toolchain import runs_natively
from edgecc.backends.base import API, GraphBackend
from edgecc.backends.llvm.machine import machine_of
from edgecc.backends.requirements import Requirement, check_requirements
from edgecc.backends.tvm.convert import to_relax
from edgecc.backends.tvm.emulated import run_emulated
from edgecc.backends.tvm.library import TVM, build_library, run_library, tvm_target
from edgecc.backends.tvm.loader import loader_files
from edgecc.backends.tvm.rules import obstacle
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph, Node
from edgecc.ir.types import Array
from edgecc.options import spelled
from edgecc.targets.schema import Target


@dataclass(frozen=True)
class TvmBackend(GraphBackend):
    """Writes NAME.so, for TVM's runtime on the target, or NAME_relax.py, the module of Relax before TVM compiles it, to read.

    Attributes:
        optimize: how much LLVM does inside of TVM, 0 to 3.
    """

    api: ClassVar[int] = API
    name: ClassVar[str] = "tvm"
    summary: ClassVar[str] = "a library compiled by TVM, for its runtime"
    forms: ClassVar[Mapping[str, str]] = MappingProxyType({
        "tvm": "a shared library for TVM's runtime", "relax": "the Relax module as TVMScript, without weights"})

    optimize: int = 3

    def __post_init__(self) -> None:
        if self.optimize not in range(4):
            raise EdgeccError("E009", f"back end tvm has no optimization {self.optimize}", hint="optimize is 0, 1, 2 or 3")

    def requirements(self) -> tuple[Requirement, ...]:
        """TVM."""
        return (TVM,)

    def accepts(self, target: Target) -> str | None:
        """None for the processors that edgecc describes to LLVM."""
        if machine_of(target) is None:
            return f"TVM is told of x86-64 and AArch64, not of {printable(target.architecture)}"
        return None

    def supports(self, node: Node, target: Target) -> str | None:
        """None if the node has a rule that fits it."""
        return obstacle(node)

    def emit(self, graph: Graph, name: str, target: Target, form: str) -> Artifact:
        """NAME.so with load.py and README.md, or NAME_relax.py; the report counts operators. Raises: EdgeccError E114, E400, E401."""
        module = to_relax(graph)
        report = {"operators": _operators(module), "tvm": importlib.metadata.version("apache-tvm")}
        weights = sum(value.type.packed_bytes for value in graph.constants())
        if form == "relax":
            files = {f"{name}_relax.py": f"{module.script(show_meta=False).rstrip()}\n".encode()}
        else:
            report["target"] = str(tvm_target(target, self.optimize))
            files = {f"{name}.so": build_library(module, target, self.optimize), **loader_files(name)}
        return make_export(spelled(self.name, self), graph, name, target, files, next(iter(files)), report=report, weights_bytes=weights)

    def run(self, artifact: Artifact, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs a library in TVM's virtual machine, in this process or under the target's emulator. Raises: EdgeccError E400, E401, E405."""
        manifest = artifact.manifest
        native = runs_natively(manifest.target)
        if not manifest.main.endswith(".so"):
            raise EdgeccError("E405", f"TVM runs libraries, not {manifest.main}", hint="--emit tvm")
        arrays = [np.ascontiguousarray(inputs[port.name], port.type.dtype.numpy) for port in manifest.inputs]
        if native:
            check_requirements([TVM], "running artifacts of back end tvm")
            outputs = run_library(artifact.files[manifest.main], arrays)
        else:
            outputs = run_emulated(artifact, arrays)
        return {port.name: output for port, output in zip(manifest.outputs, outputs, strict=True)}


def _operators(module: Any) -> dict[str, int]:
    """How often the module calls each operator of Relax, or a function of its own."""
    relax = importlib.import_module("tvm.relax")
    counts: dict[str, int] = {}

    def count(expr: Any) -> None:
        if isinstance(expr, relax.Call):
            name = getattr(expr.op, "name", None) or expr.op.name_hint
            counts[name] = counts.get(name, 0) + 1

    relax.analysis.post_order_visit(module["main"], count)
    return dict(sorted(counts.items()))
