"""MNN, converted from ONNX by its own converter, in its high precision."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import MNN
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from edgecc.bench.worker import Job

VERSION = MNN.version()

_TYPES = {"float32": MNN.Halide_Type_Float, "int32": MNN.Halide_Type_Int, "int64": MNN.Halide_Type_Int64,
          "uint8": MNN.Halide_Type_Uint8}


class Session:
    """An interpreter with one session, its inputs copied in once."""

    def __init__(self, job: Job) -> None:
        self._interpreter = MNN.Interpreter(str(convert(job)))
        self._session = self._interpreter.createSession(
            {"backend": "CPU", "numThread": job.threads, "precision": "high"})
        for name, array in zip(job.input_names, job.inputs, strict=True):
            tensor = self._interpreter.getSessionInput(self._session, name)
            self._interpreter.resizeTensor(tensor, array.shape)
        self._interpreter.resizeSession(self._session)
        for name, array in zip(job.input_names, job.inputs, strict=True):
            tensor = self._interpreter.getSessionInput(self._session, name)
            tensor.copyFrom(MNN.Tensor(array.shape, _TYPES[array.dtype.name], array, MNN.Tensor_DimensionType_Caffe))
        self._names = job.output_names

    def run(self) -> None:
        """See `Engine`."""
        self._interpreter.runSession(self._session)

    def outputs(self) -> list[npt.NDArray[Any]]:
        """See `Engine`."""
        return [self._output(name) for name in self._names]

    def _output(self, name: str) -> npt.NDArray[Any]:
        tensor = self._interpreter.getSessionOutput(self._session, name)
        shape = tuple(tensor.getShape())
        copy = MNN.Tensor(shape, MNN.Halide_Type_Float, np.zeros(shape, np.float32), MNN.Tensor_DimensionType_Caffe)
        tensor.copyToHostTensor(copy)
        return np.array(copy.getNumpyData()).reshape(shape)


def convert(job: Job) -> Path:
    """Runs mnnconvert; returns the converted file."""
    converted = job.folder / "model.mnn"
    tool = Path(sys.executable).with_name("mnnconvert")
    done = subprocess.run([str(tool) if tool.exists() else "mnnconvert", "-f", "ONNX", "--modelFile", str(job.model), "--MNNModel",
                           str(converted), "--bizCode", "bench"], capture_output=True, text=True, errors="replace", check=False)
    if not converted.exists():
        raise RuntimeError(f"mnnconvert converted nothing: {(done.stderr or done.stdout).strip()[-300:]}")
    return converted


def open_engine(job: Job) -> Session:
    """Converts and loads the model."""
    return Session(job)
