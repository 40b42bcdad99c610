"""onnxruntime, on its CPU provider, inputs and outputs bound once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import onnxruntime

if TYPE_CHECKING:
    from edgecc.bench.worker import Job

VERSION = onnxruntime.__version__


class Session:
    """An inference session with an I/O binding, which saves the copies and allocations of `run`."""

    def __init__(self, job: Job) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Without VNNI its products of u8 by s8 saturate sums of pairs at 16 bits: quick, and wrong. With VNNI this changes nothing.
        options.add_session_config_entry("session.x64quantprecision", "1")
        self._session = onnxruntime.InferenceSession(str(job.model), options, providers=["CPUExecutionProvider"])
        self._binding = self._session.io_binding()
        self._inputs = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in job.inputs]
        for name, value in zip(job.input_names, self._inputs, strict=True):
            self._binding.bind_ortvalue_input(name, value)
        self._names = job.output_names
        for name in self._names:
            self._binding.bind_output(name)
        # The first run says how large the outputs are; from then on they are written in place.
        self._session.run_with_iobinding(self._binding)
        self._results = self._binding.get_outputs()
        self._binding.clear_binding_outputs()
        for name, value in zip(self._names, self._results, strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def run(self) -> None:
        """See `Engine`."""
        self._session.run_with_iobinding(self._binding)

    def outputs(self) -> list[npt.NDArray[Any]]:
        """See `Engine`."""
        return [value.numpy() for value in self._results]


def open_engine(job: Job) -> Session:
    """Opens a session."""
    return Session(job)
