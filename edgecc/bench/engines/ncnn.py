"""ncnn, converted from ONNX by pnnx, in float32."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ncnn
import numpy as np
import numpy.typing as npt
import pnnx  # noqa: F401  (the converter; missing, it is better said now than in the middle)

if TYPE_CHECKING:
    from edgecc.bench.worker import Job

VERSION = ncnn.__version__

REDUCED_PRECISION = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage", "use_bf16_packed")


class Network:
    """A network; every run makes an extractor, as ncnn wants it."""

    def __init__(self, job: Job) -> None:
        weights = convert(job)
        self._net = ncnn.Net()
        self._net.opt.num_threads = job.threads
        self._net.opt.use_vulkan_compute = False
        for option in REDUCED_PRECISION:
            if hasattr(self._net.opt, option):
                setattr(self._net.opt, option, False)
        if self._net.load_param(str(weights.with_suffix(".param"))) or self._net.load_model(str(weights)):
            raise RuntimeError("ncnn cannot load what pnnx converted")
        # pnnx calls them in0, in1, ... in the order of the model, and drops the batch.
        self._inputs = {f"in{i}": ncnn.Mat(np.ascontiguousarray(array[0])).clone() for i, array in enumerate(job.inputs)}
        self._names = [f"out{i}" for i in range(len(job.output_names))]
        self._results: list[Any] = []

    def run(self) -> None:
        """See `Engine`."""
        extractor = self._net.create_extractor()
        for name, array in self._inputs.items():
            extractor.input(name, array)
        self._results = [extractor.extract(name)[1] for name in self._names]

    def outputs(self) -> list[npt.NDArray[Any]]:
        """See `Engine`."""
        return [np.array(array) for array in self._results]


def convert(job: Job) -> Path:
    """Runs pnnx on a copy of the model, as it writes beside it; returns the .bin file, which has a .param beside it."""
    copy = job.folder / "model.onnx"
    shutil.copyfile(job.model, copy)
    shapes = ",".join(f"[{','.join(map(str, array.shape))}]{_PNNX_TYPES[array.dtype.name]}" for array in job.inputs)
    tool = Path(sys.executable).with_name("pnnx")
    done = subprocess.run([str(tool) if tool.exists() else "pnnx", copy.name, f"inputshape={shapes}", "fp16=0"],
                          cwd=job.folder, capture_output=True, text=True, errors="replace", check=False)
    weights = job.folder / "model.ncnn.bin"
    if not weights.exists():
        raise RuntimeError(f"pnnx converted nothing: {(done.stderr or done.stdout).strip()[-300:]}")
    return weights


_PNNX_TYPES = {"float32": "f32", "float64": "f64", "float16": "f16", "int8": "i8", "uint8": "u8", "int16": "i16",
               "int32": "i32", "int64": "i64", "bool": "bool"}


def open_engine(job: Job) -> Network:
    """Converts and loads the model."""
    return Network(job)
