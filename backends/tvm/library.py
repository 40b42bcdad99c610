"""TVM's compiler and its virtual machine: a module of Relax becomes a shared library for a target, and that is run."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecc.artifact.toolchain import BuildOptions, build_shared_library, find_compiler
from edgecc.backends.llvm.machine import machine_of
from edgecc.backends.requirements import Requirement
from edgecc.backends.tvm.convert import ENTRY
from edgecc.errors import EdgeccError, printable
from edgecc.ir.types import Array
from edgecc.targets.schema import Target

TVM = Requirement("tvm", "compiles modules of Relax, and runs them", "pip install 'edgecc[tvm]'")

LINK_FLAGS = ("-s", "-Wl,--build-id=none")
"""Neither symbols for debuggers, which hold names of temporary files, nor an identifier made of them."""


def tvm_target(target: Target, optimize: int = 3) -> Any:
    """The `tvm.target.Target` of a target that the LLVM back end has code for; `optimize` is LLVM's level, 0 to 3."""
    machine = machine_of(target)
    if machine is None:
        raise EdgeccError("E115", f"TVM is told of x86-64 and AArch64, not of {printable(target.architecture)}", where=target.name)
    tvm = importlib.import_module("tvm")
    return tvm.target.Target({"kind": "llvm", "mtriple": machine.triple, "mcpu": machine.cpu, "mattr": list(machine.features),
                              "opt-level": optimize})


def build_library(module: Any, target: Target, optimize: int = 3) -> bytes:
    """The shared library of a module of Relax, which TVM's virtual machine loads.

    Raises: EdgeccError E400 where there is no linker for the target, E401 where TVM or the linker fails.
    """
    relax = importlib.import_module("tvm.relax")
    with tempfile.TemporaryDirectory(prefix="edgecc-tvm-") as folder:
        output = Path(folder) / "library.so"

        def link(_: str, objects: Sequence[str], options: Sequence[str] | None = None, **kwargs: Any) -> None:
            names = []
            for index, path in enumerate(objects):
                names.append(f"object_{index}.o")
                (Path(folder) / names[-1]).write_bytes(Path(path).read_bytes())
            build_shared_library(find_compiler(target), Path(folder), names, output, BuildOptions(flags=LINK_FLAGS))

        try:
            relax.build(module, target=tvm_target(target, optimize)).export_library(str(output), fcompile=link, workspace_dir=folder)
        except EdgeccError:
            raise
        except Exception as error:  # classes of TVM's own, which differ between versions
            raise EdgeccError("E401", "TVM failed", details=[printable(line, 300) for line in str(error).strip().splitlines()[-5:]]) from error
        return output.read_bytes()


def run_library(library: bytes, inputs: Sequence[Array]) -> list[Array]:
    """Runs a library for the machine at hand in this process; returns the outputs in order. Raises: EdgeccError E401."""
    tvm, relax = importlib.import_module("tvm"), importlib.import_module("tvm.relax")
    with tempfile.TemporaryDirectory(prefix="edgecc-tvm-") as folder:
        path = Path(folder) / "library.so"
        path.write_bytes(library)
        try:
            machine = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
            outputs = machine[ENTRY](*(tvm.runtime.tensor(np.ascontiguousarray(array)) for array in inputs))
            return [np.array(output.numpy()) for output in outputs]
        except Exception as error:  # classes of TVM's own, which differ between versions
            raise EdgeccError("E401", f"TVM: {printable(str(error).strip(), 400)}") from error
