"""OpenVINO on the CPU: one stream, latency hint, float32 arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import openvino

if TYPE_CHECKING:
    from edgecc.bench.worker import Job

VERSION = openvino.__version__.split("-")[0]


class Request:
    """A compiled model with one inference request, its inputs set once."""

    def __init__(self, job: Job) -> None:
        core = openvino.Core()
        model = core.read_model(str(job.model))
        by_name = dict(zip(job.input_names, job.inputs, strict=True))
        named = [next(name for name in by_name if name in port.get_names()) for port in model.inputs]
        model.reshape({port: list(by_name[name].shape) for port, name in zip(model.inputs, named, strict=True)})
        # Without the precision hint it would compute in bfloat16 where the processor has it.
        compiled = core.compile_model(model, "CPU", {
            "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": job.threads,
            "INFERENCE_PRECISION_HINT": "f32"})
        self._request = compiled.create_infer_request()
        for position, name in enumerate(named):
            self._request.set_input_tensor(position, openvino.Tensor(by_name[name]))
        self._order = [next(i for i, port in enumerate(compiled.outputs) if name in port.get_names())
                       for name in job.output_names]

    def run(self) -> None:
        """See `Engine`."""
        self._request.infer(share_outputs=True)

    def outputs(self) -> list[npt.NDArray[Any]]:
        """See `Engine`."""
        return [np.array(self._request.get_output_tensor(position).data) for position in self._order]


def open_engine(job: Job) -> Request:
    """Compiles the model."""
    return Request(job)
