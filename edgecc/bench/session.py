"""A comparison from the model to the figures: compile, start the engines, let them take turns, compare the outputs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecc import api
from edgecc.artifact.folder import Artifact
from edgecc.artifact.load import check_inputs, ports_of, random_inputs
from edgecc.artifact.toolchain import BuildOptions, Compiler, build_shared_library, find_compiler, runs_natively
from edgecc.backends.base import EmitOptions
from edgecc.bench.layers import Layer, layers_of
from edgecc.bench.machine import Machine, measure_machine
from edgecc.bench.process import PEERS, EngineError, Worker
from edgecc.bench.rounds import Plan, Times, measure
from edgecc.errors import EdgeccError, printable
from edgecc.frontend.interface import flattened
from edgecc.ir.types import Array
from edgecc.ops.work import graph_multiply_adds
from edgecc.pipeline import emit_c
from edgecc.reference.executor import execute
from edgecc.targets.schema import Target

PROFILED = "edgecc, profiled"


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
        model: an ONNX model or an artifact folder.
        target: what to compile a model for; it has to run on this machine.
        options: how to compile it.
        peers: engines to compare with, of `PEERS`.
        python: the interpreter that has the peers' packages; None for this one.
        per_layer: measure every kernel call too.
        rounds, turn_seconds, limit_seconds: see `Plan`.
        cc: the C compiler.
        tolerance: the largest difference between outputs, over the largest magnitude, of a right result.
    """

    model: Path
    target: Target
    options: api.Options
    peers: tuple[str, ...] = ()
    python: str | None = None
    per_layer: bool = False
    rounds: int = 8
    turn_seconds: float = 0.25
    limit_seconds: float = 60.0
    cc: str | None = None
    tolerance: float = 1e-2


@dataclass(frozen=True)
class Row:
    """The figures of one engine; times in seconds.

    Attributes:
        engine, version: which.
        error: why there are no figures, or "".
        minimum: the quickest run. median, spread: of the runs of undisturbed turns, see `Times`.
        runs, quiet_turns, turns: how many runs count; of how many turns; of how many that were made.
        difference: the largest difference from the outputs expected, over their largest magnitude.
        wrong: that is more than the tolerance. Of a network on integers only edgecc's is judged: every engine rounds at places of its own.
        load_seconds: until the first run, conversion and compilation by the engine included.
        memory_bytes: peak resident size less that after importing the engine; 0 where it is not known.
    """

    engine: str
    version: str
    error: str = ""
    minimum: float = 0.0
    median: float = 0.0
    spread: float = 0.0
    runs: int = 0
    quiet_turns: int = 0
    turns: int = 0
    difference: float = 0.0
    wrong: bool = False
    load_seconds: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True)
class Comparison:
    """The outcome.

    Attributes:
        machine: what it was measured on. compiler: the C compiler of edgecc's code.
        threads: of every engine. multiply_adds: of one inference, None for a folder, which does not say.
        arena_bytes, arena_lower_bound, weights_bytes: memory of the compiled model, and the least any plan could use.
        expected_from: what the outputs were compared with.
        rows: edgecc first. layers: with `per_layer`, every kernel call in the order of the run.
    """

    machine: Machine
    compiler: str
    threads: int
    multiply_adds: int | None
    arena_bytes: int
    arena_lower_bound: int
    weights_bytes: int
    expected_from: str
    rows: tuple[Row, ...]
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class _Subject:
    """The model as compiled, and the ONNX file the peers run, where there is one."""

    artifact: Artifact
    profiled: Artifact | None
    done: api.Compilation | None


def compare(request: Request) -> Comparison:
    """Measures; see `Request` and `Comparison`.

    Raises: EdgeccError E001 where the target is not this machine, or a folder is to be compared with peers or
    measured call by call; E400 where a peer's package is missing; E401; what compiling raises.
    """
    _check(request)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgecc-bench-")))
        # Before anything is compiled, so that a missing package is reported at once.
        peers = [stack.enter_context(Worker(name, request.python)) for name in request.peers]
        subject = _subject(request)
        manifest = subject.artifact.manifest
        _check_target(manifest.target)
        compiler = find_compiler(manifest.target, request.cc)
        machine = measure_machine(compiler)
        ports = ports_of(manifest.inputs)
        given = random_inputs(ports) if request.options.inputs is None else flattened(request.options.inputs)
        names = [port.name for port in ports]
        compiled_in = {} if subject.done is None else subject.done.report.bound  # inputs of the model that other engines have to be given
        inputs = dict(zip(names, check_inputs(ports, {n: given[n] for n in names if n in given}), strict=True))
        library = _build(subject.artifact, compiler, scratch / "plain")
        entries: list[tuple[str, Worker, Path]] = [("edgecc", stack.enter_context(Worker("edgecc")), library)]
        if subject.profiled is not None:
            profiled = _build(subject.profiled, compiler, scratch / "profiled")
            entries.append((PROFILED, stack.enter_context(Worker("edgecc")), profiled))
        entries += [(peer.engine, peer, request.model) for peer in peers]
        expected, expected_from = _expected(subject, inputs)
        task = _Task(scratch, inputs, compiled_in, [port.name for port in manifest.outputs], manifest.threads, request.tolerance,
                     judges_peers=subject.done is None or not subject.done.compiled.rounds_anew)
        rows, ready = _load(entries, task, expected)
        plan = Plan(request.rounds, request.turn_seconds, request.limit_seconds, manifest.threads, machine.cores)
        for (name, _), times in zip(ready, measure([worker for _, worker in ready], plan), strict=True):
            rows[name] = _filled(rows[name], times)
        layers: tuple[Layer, ...] = ()
        if subject.profiled is not None and subject.done is not None:
            profile = dict(ready)[PROFILED].ask({"profile": manifest.name})
            layers = layers_of(subject.done.compiled.lowered.calls, profile["least"], profile["mean"])
        multiply_adds = None if subject.done is None else graph_multiply_adds(subject.done.graph)
        return Comparison(machine, compiler.version, manifest.threads, multiply_adds, manifest.arena_bytes,
                          manifest.arena_lower_bound, manifest.weights.size_bytes, expected_from,
                          tuple(rows[name] for name, _, _ in entries), layers)


@dataclass(frozen=True)
class _Task:
    """What every engine is asked to run, in a folder for what passes between this process and theirs.

    `compiled_in` are inputs of the model that the compiled one has no more, and which other engines have to be given.
    """

    scratch: Path
    inputs: Mapping[str, Array]
    compiled_in: Mapping[str, Array]
    outputs: Sequence[str]
    threads: int
    tolerance: float
    judges_peers: bool


def _load(entries: Sequence[tuple[str, Worker, Path]], task: _Task,
          expected: Sequence[Array] | None) -> tuple[dict[str, Row], list[tuple[str, Worker]]]:
    """Has each engine, of a name, load its file and run once; returns a row for each, and those that can be measured.

    Without `expected`, results are compared with those of the first engine.
    Raises: EdgeccError E401 where the compiled model cannot run.
    """
    rows: dict[str, Row] = {}
    ready: list[tuple[str, Worker]] = []
    for number, (name, worker, model) in enumerate(entries):
        folder = task.scratch / f"engine{number}"
        folder.mkdir()
        is_peer = worker.engine != "edgecc"
        given = {**task.inputs, **(task.compiled_in if is_peer else {})}
        np.savez(folder / "inputs.npz", *given.values())
        try:
            answer = worker.ask({"model": str(model.resolve()), "inputs": str(folder / "inputs.npz"), "input_names": list(given),
                                 "output_names": list(task.outputs), "threads": task.threads, "folder": str(folder)})
        except EngineError as error:
            if not is_peer:
                raise EdgeccError("E401", f"the compiled model cannot run: {error}") from None
            rows[name] = Row(name, worker.version, str(error))
            continue
        results = _read_outputs(Path(answer["outputs"]))
        if expected is None:
            expected = results
        difference = largest_difference(results, expected)
        is_wrong = not difference <= task.tolerance and (task.judges_peers or not is_peer)
        rows[name] = Row(name, worker.version, difference=difference, wrong=is_wrong,
                         load_seconds=answer["load_seconds"], memory_bytes=-answer["import_bytes"])
        ready.append((name, worker))
    return rows, ready


def largest_difference(results: Sequence[Array], expected: Sequence[Array]) -> float:
    """The largest difference of any output, over that output's largest finite magnitude; infinite where shapes differ.

    Shapes are compared without their axes of extent 1: some engines drop the batch. Places where both are NaN, or the
    same infinity, are equal.
    """
    worst = 0.0
    for got, want in zip(results, expected, strict=True):
        a, b = got.astype(np.float64).squeeze(), want.astype(np.float64).squeeze()
        if a.shape != b.shape:
            return float("inf")
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        if np.all(same):
            continue
        with np.errstate(invalid="ignore"):
            error = np.max(np.abs(a - b)[~same])
        largest = np.max(np.abs(b), initial=0.0, where=np.isfinite(b))
        worst = max(worst, float(error / largest) if largest > 0 and np.isfinite(error) else float("inf"))
    return worst


def _check(request: Request) -> None:
    for name in request.peers:
        if name not in PEERS:
            raise EdgeccError("E001", f"there is no engine {printable(name)!r} to compare with",
                              hint=f"--against takes {', '.join(PEERS)}, with commas between them")
    _check_target(request.target)
    if request.model.is_dir() and request.peers:
        raise EdgeccError("E001", "a compiled folder cannot be given to other engines", hint="name the ONNX model instead")
    if request.model.is_dir() and request.per_layer:
        raise EdgeccError("E001", "a compiled folder does not say what its calls compute", hint="name the ONNX model instead")


def _check_target(target: Target) -> None:
    if not runs_natively(target):
        raise EdgeccError("E001", f"time on {target.name} cannot be measured on this machine: an emulator's time says nothing "
                          "about the processor's", where="edgecc bench",
                          hint="compile with --emit exe and run the program with --runs 100 on the device itself")


def _subject(request: Request) -> _Subject:
    if request.model.is_dir():
        return _Subject(Artifact.read(request.model), None, None)
    done = api.compile_model(request.model, request.target, request.options)
    profiled = emit_c(done.compiled, EmitOptions(profile=True)) if request.per_layer else None
    return _Subject(done.artifact, profiled, done)


def _build(artifact: Artifact, compiler: Compiler, folder: Path) -> Path:
    path = artifact.write(folder)
    options = BuildOptions(threads=artifact.manifest.threads > 1)
    return build_shared_library(compiler, path, artifact.manifest.sources, folder.with_suffix(".so"), options).output


def _expected(subject: _Subject, inputs: Mapping[str, Array]) -> tuple[list[Array] | None, str]:
    """The reference's outputs; None for a folder, whose graph is not known."""
    if subject.done is None:
        return None, "edgecc"
    results = execute(subject.done.meaning, dict(inputs))
    return [results[name] for name in subject.done.graph.output_names], "the reference"


def _read_outputs(path: Path) -> list[Array]:
    with np.load(path) as archive:
        return [archive[f"arr_{index}"] for index in range(len(archive.files))]


def _filled(row: Row, times: Times) -> Row:
    if times.error:
        return Row(row.engine, row.version, times.error)
    return Row(row.engine, row.version, "", times.minimum, times.median, times.spread, len(times.counted),
               times.quiet_turns, times.turns, row.difference, row.wrong, row.load_seconds,
               max(0, times.peak_bytes + row.memory_bytes) if times.peak_bytes else 0)
