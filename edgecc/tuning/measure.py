"""Measuring the candidates of kernels: on this machine, or on a device through a command that runs a program there."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecc.artifact.toolchain import BuildOptions, Compiler, build_executable, trimmed
from edgecc.backends.base import EmitOptions
from edgecc.backends.c.backend import CBackend
from edgecc.errors import EdgeccError, printable
from edgecc.ir.types import TensorType
from edgecc.kernels.kernel import Candidate
from edgecc.kernels.request import Request
from edgecc.kernels.view import View
from edgecc.targets.schema import Target
from edgecc.tuning.program import Program, measuring_program
from edgecc.tuning.record import Record, Tuning, choose
from edgecc.tuning.requests import tunable

DRIVER = Path(__file__).parent / "driver.c"
LEAST_RUNS = 5
TIMEOUT_SECONDS = 600.0

Measure = Callable[[Request, Sequence[Candidate]], Mapping[str, float]]
"""Seconds of the quickest execution of each candidate of a request, by name."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        compiler: for the target.
        runner: a command that runs a program, whose path and arguments are appended; () runs it here.
        seconds: for each candidate.
        sweep_bytes: what the rest of the network moves between two executions of a kernel.
    """

    compiler: Compiler
    runner: tuple[str, ...] = ()
    seconds: float = 0.1
    sweep_bytes: int = 0


def sweep_size(network_bytes: int, target: Target) -> int:
    """How much to touch between two executions: what the network has in memory, but no more than twice the largest cache."""
    largest = max((cache.size for cache in target.caches), default=0)
    return min(network_bytes, 2 * largest)


def tune(tuning: Tuning, requests: Iterable[Request], measure: Measure, *, again: bool = False,
         observer: Callable[[Record], None] | None = None) -> Tuning:
    """Measures what is missing: signatures that are not in `tuning`, or whose candidates have changed.

    Args:
        requests: of a network; those with one way to compute them are left out.
        measure: see `Measure`.
        again: measure everything.
        observer: called for each record that is made.
    Returns: `tuning` with the new records.
    """
    made = []
    for key, (request, ways) in tunable(requests).items():
        known = tuning.records.get(key)
        if known is not None and set(known.seconds) == {way.name for way in ways} and not again:
            continue
        measured = measure(request, ways)
        seconds = {way.name: measured[way.name] for way in ways}
        views = [operand.view for operand in request.inputs if operand is not None]
        record = Record(key, request.op.name, tuple(_shape_text(view) for view in (*views, *request.outputs)), choose(seconds), seconds)
        made.append(record)
        if observer is not None:
            observer(record)
    return tuning.with_records(made)


def measure_with(settings: Settings) -> Measure:
    """A `Measure` that compiles and runs a program for each request.

    What it raises: EdgeccError E400, E401 where the compiler or the program fails.
    """
    return lambda request, ways: run_program(measuring_program(request, ways, settings.sweep_bytes), settings)


def run_program(program: Program, settings: Settings) -> dict[str, float]:
    """Builds and runs a measuring program; seconds of each candidate.

    Raises: EdgeccError E400, E401.
    """
    compiler = settings.compiler
    artifact = CBackend().emit(program.module, compiler.target, EmitOptions(profile=True))
    with tempfile.TemporaryDirectory(prefix="edgecc-tune-") as scratch:
        folder = artifact.write(Path(scratch) / "artifact")
        built = build_executable(compiler, folder, artifact.manifest.sources, Path(scratch) / "program",
                                 BuildOptions(threads=program.module.threads > 1, include=(folder,)), main=(DRIVER,))
        lines = _run([*settings.runner, str(built.output), str(settings.seconds * len(program.positions)), str(LEAST_RUNS)])
    try:
        times = [float(line) for line in lines]
        return {name: times[position] for name, position in program.positions.items()}
    except (ValueError, IndexError):
        raise EdgeccError("E401", "the measuring program printed something else than times", details=trimmed("\n".join(lines))) from None


def _run(command: Sequence[str]) -> list[str]:
    shown = printable(command[0])
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS,
                              stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        raise EdgeccError("E401", f"{shown} did not end within {TIMEOUT_SECONDS:g} s and was stopped") from None
    except OSError as error:
        raise EdgeccError("E400", f"{shown} cannot be started: {error.strerror or error}",
                          hint="--runner takes a command to which the path of a program is appended") from None
    if done.returncode != 0:
        raise EdgeccError("E401", f"{shown} failed (exit status {done.returncode}) while measuring", details=trimmed(done.stderr or done.stdout))
    return done.stdout.split()


def _shape_text(view: View) -> str:
    return str(TensorType(view.dtype, view.dims))
