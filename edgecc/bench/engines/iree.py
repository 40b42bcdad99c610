"""IREE on the CPU: compiled for the processor at hand, its second level of optimization with data tiling."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import iree.compiler
import iree.runtime
import numpy as np
import numpy.typing as npt
import onnx

if TYPE_CHECKING:
    from edgecc.bench.worker import Job

VERSION = importlib.metadata.version("iree-base-runtime")

OPTIONS = ("--iree-hal-target-device=local", "--iree-hal-local-target-device-backends=llvm-cpu",
           "--iree-llvmcpu-target-cpu=host", "--iree-opt-level=O3", "--iree-opt-data-tiling")


class Session:
    """A loaded module with its inputs on the device."""

    def __init__(self, job: Job) -> None:
        if job.threads > 1:
            cores = ",".join(str(core) for core in range(job.threads))
            iree.runtime.flags.parse_flags(f"--task_topology_cpu_ids={cores}")
        config = iree.runtime.Config("local-sync" if job.threads == 1 else "local-task")
        context = iree.runtime.SystemContext(config=config)
        module = iree.runtime.VmModule.mmap(config.vm_instance, str(compiled(job)))
        context.add_vm_module(module)
        entry = next(name for name in module.function_names if not name.startswith("__") and not name.endswith("$async"))
        self._context = context
        self._function = getattr(getattr(context.modules, module.name), entry)
        self._inputs = [iree.runtime.asdevicearray(config.device, array) for array in job.inputs]
        self._results: Any = None

    def run(self) -> None:
        """See `Engine`."""
        self._results = self._function(*self._inputs)

    def outputs(self) -> list[npt.NDArray[Any]]:
        """See `Engine`."""
        results = self._results if isinstance(self._results, list | tuple) else [self._results]
        return [np.array(result.to_host()) for result in results]


def compiled(job: Job) -> Path:
    """Imports and compiles the model with the shapes of the job's inputs; returns the module's file."""
    model = onnx.load(str(job.model))
    shapes = {name: array.shape for name, array in zip(job.input_names, job.inputs, strict=True)}
    for value in model.graph.input:
        if value.name in shapes:
            for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
                dim.dim_value = size
    fixed, imported, module = (job.folder / name for name in ("fixed.onnx", "model.mlir", "model.vmfb"))
    onnx.save(model, str(fixed))
    _run("iree-import-onnx", str(fixed), "-o", str(imported))
    _run("iree-compile", str(imported), "-o", str(module), *OPTIONS)
    return module


def _run(tool: str, *arguments: str) -> None:
    beside = Path(sys.executable).with_name(tool)
    done = subprocess.run([str(beside) if beside.exists() else tool, *arguments], capture_output=True, text=True, errors="replace",
                          check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{tool} failed: {done.stderr.strip()[-300:]}")


def open_engine(job: Job) -> Session:
    """Compiles and loads the model."""
    return Session(job)
