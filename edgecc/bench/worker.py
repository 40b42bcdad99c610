"""The process in which one engine runs. Started by its path, so that any Python with numpy and the engine can run it.

It reads one JSON object a line from standard input and answers each with one:

    {"engine": FILE}                                   -> {"version"}        imports the engine's package
    {"model", "inputs", "outputs", "threads", "folder"} -> {"outputs": FILE, "import_bytes", "load_seconds"}
    {"seconds", "warm", "least"}                       -> {"times", "cpu_seconds", "wall_seconds", "cpu_total", "wall_total", "peak_bytes"}
    {"profile": NAME}                                  -> {"runs", "mean", "least"}

The totals include the runs that warm up. An error is answered with {"error", "missing"}, `missing` naming a package that is not there. Between two requests the
process waits for input and uses no processor time.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

SAMPLE_SECONDS = 50e-6
"""A time is taken over at least about so long."""


@dataclass(frozen=True)
class Job:
    """What an engine is given.

    Attributes:
        model: the file it runs.
        input_names, inputs: in the order of the model.
        output_names: in the order of the model.
        threads: it may use so many.
        folder: for files of its own.
    """

    model: Path
    input_names: list[str]
    inputs: list[npt.NDArray[Any]]
    output_names: list[str]
    threads: int
    folder: Path


class Engine(Protocol):
    """A model ready to run on the inputs of its job."""

    def run(self) -> None:
        """One inference."""

    def outputs(self) -> list[npt.NDArray[Any]]:
        """The results of the last run, in the order of the model."""


def main() -> None:
    """Answers requests until the input ends."""
    # What libraries print to standard output must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = _Worker()
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except ImportError as error:
            answer = {"error": str(error), "missing": error.name or ""}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:500], "missing": None}
        _say(answers, answer)
    # Libraries with threads of their own may not survive an orderly end.
    os._exit(0)


def _say(stream: IO[str], value: dict[str, Any]) -> None:
    stream.write(json.dumps(value) + "\n")
    stream.flush()


class _Worker:
    """The engine's module, then the engine."""

    def __init__(self) -> None:
        self.module: Any = None
        self.engine: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if "engine" in request:
            self.module = _load_file(Path(request["engine"]))
            return {"version": str(self.module.VERSION)}
        if "model" in request:
            return self._open(request)
        if "profile" in request:
            return dict(self.engine.profile(request["profile"]))
        return _turn(self.engine, request["seconds"], request["warm"], request["least"])

    def _open(self, request: dict[str, Any]) -> dict[str, Any]:
        with np.load(request["inputs"]) as archive:
            inputs = [archive[f"arr_{index}"] for index in range(len(archive.files))]
        folder = Path(request["folder"])
        job = Job(Path(request["model"]), request["input_names"], inputs, request["output_names"], request["threads"], folder)
        np.savez(io.BytesIO(), np.zeros(1))  # so that what it imports does not count as the engine's memory
        _reset_peak()
        import_bytes, start = _memory("VmRSS"), time.perf_counter()
        self.engine = self.module.open_engine(job)
        load_seconds = time.perf_counter() - start
        self.engine.run()
        results = folder / "outputs.npz"
        np.savez(results, *(np.asarray(array) for array in self.engine.outputs()))
        return {"outputs": str(results), "import_bytes": import_bytes, "load_seconds": load_seconds}


def _load_file(path: Path) -> Any:
    """A module from a file, under a name of its own: files here are called like the packages they import."""
    spec = importlib.util.spec_from_file_location(f"bench_engine_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _turn(engine: Engine, seconds: float, warm: int, least: int) -> dict[str, Any]:
    """Times runs for `seconds`, at least `least` of them, after `warm` and those that tell how long one takes.

    Quick runs are timed several at a time, so that reading the clock does not count.
    """
    run, clock = engine.run, time.perf_counter
    cpu_total, wall_total = time.process_time(), clock()
    for _ in range(warm):
        run()
    together, before = 1, clock()
    run()
    while clock() - before < SAMPLE_SECONDS:
        together, before = 2 * together, clock()
        for _ in range(together):
            run()
    times: list[float] = []
    cpu, start = time.process_time(), clock()
    while len(times) < least or clock() - start < seconds:
        before = clock()
        for _ in range(together):
            run()
        times.append((clock() - before) / together)
    return {"times": times, "cpu_seconds": time.process_time() - cpu, "wall_seconds": clock() - start,
            "cpu_total": time.process_time() - cpu_total, "wall_total": clock() - wall_total, "peak_bytes": _memory("VmHWM")}


def _reset_peak() -> None:
    """Makes the peak resident size what the size is now, on Linux (man 5 proc, clear_refs)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _memory(field: str) -> int:
    """A size from /proc/self/status in bytes; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


if __name__ == "__main__":
    main()
