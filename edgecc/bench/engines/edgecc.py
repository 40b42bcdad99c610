"""edgecc: a shared library with ABI 1 whose weights are linked in, plain or profiled."""

from __future__ import annotations

import ctypes
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc.artifact.load import ports_of_library
from edgecc.artifact.profile import read_profile
from edgecc.artifact.runner import LibraryExecutor, failed_status
from edgecc.ir.types import Array
from edgecc.version import VERSION

if TYPE_CHECKING:
    from edgecc.bench.worker import Job

__all__ = ["VERSION", "LibraryEngine", "open_engine"]


class LibraryEngine:
    """Calls the library with pointers that are made once."""

    def __init__(self, job: Job) -> None:
        self._executor = LibraryExecutor(job.model)
        model = self._executor.model
        _, outputs = ports_of_library(model, job.model)
        self._results: list[Array] = [np.empty(port.shape, port.dtype) for port in outputs]
        self._inputs = job.inputs
        self._sources = (ctypes.c_void_p * max(1, len(job.inputs)))(*(a.ctypes.data for a in job.inputs))
        self._sinks = (ctypes.c_void_p * max(1, len(self._results)))(*(a.ctypes.data for a in self._results))
        self._arena = self._executor.arena.ctypes.data
        self._run = model.run

    def run(self) -> None:
        """See `Engine`."""
        status = self._run(self._sources, self._sinks, self._arena)
        if status:
            raise failed_status(status)

    def outputs(self) -> list[Array]:
        """See `Engine`."""
        return self._results

    def profile(self, name: str) -> dict[str, Any]:
        """The figures of a profiled build of the network `name`."""
        return asdict(read_profile(self._executor.library, name))


def open_engine(job: Job) -> LibraryEngine:
    """Loads the library."""
    return LibraryEngine(job)
