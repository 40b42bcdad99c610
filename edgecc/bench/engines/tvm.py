"""TVM, compiled through Relax for the processor at hand by its default schedules, without tuning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

if TYPE_CHECKING:
    from edgecc.bench.worker import Job

VERSION = tvm.__version__


class Machine:
    """A virtual machine of Relax with its inputs set once."""

    def __init__(self, job: Job) -> None:
        # The threads' pool reads this when it starts, which is when the first kernel runs.
        os.environ["TVM_NUM_THREADS"] = str(job.threads)
        library = compiled(job)
        self._machine = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
        self._machine.set_input("main", *[tvm.runtime.tensor(array) for array in job.inputs])

    def run(self) -> None:
        """See `Engine`."""
        self._machine.invoke_stateful("main")

    def outputs(self) -> list[npt.NDArray[Any]]:
        """See `Engine`."""
        results = self._machine.get_outputs("main")
        return [tensor.numpy() for tensor in ([results] if hasattr(results, "numpy") else results)]


def compiled(job: Job) -> Path:
    """Imports and compiles the model; returns the library."""
    shapes = {name: list(array.shape) for name, array in zip(job.input_names, job.inputs, strict=True)}
    cpu = tvm.get_global_func("target.llvm_get_system_cpu")()
    target = tvm.target.Target({"kind": "llvm", "mcpu": str(cpu), "num-cores": job.threads})
    module = from_onnx(onnx.load(str(job.model)), shape_dict=shapes)
    with target:
        module = relax.get_pipeline("zero")(module)
    library = job.folder / "model_tvm.so"
    tvm.compile(module, target).export_library(str(library))
    return library


def open_engine(job: Job) -> Machine:
    """Compiles and loads the model."""
    return Machine(job)
