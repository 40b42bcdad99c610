"""The official test suite of the installed onnx package through generated C, many cases in one program.

Each case ends as one line of text: "ok"; "ok-folded", where every result was known when compiling and nothing was
left for run time; "random", where the wanted numbers are those of another generator of random numbers and only number, type and
shape of the results agree; an error code with the reason; or what is wrong. A case counts as ok only if every data set agrees
in number, types, shapes and values of its results, by the suite's own comparison and tolerances.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper

from edgecc.artifact.batch import BatchExecutor, build_batch
from edgecc.artifact.strings import result_array, result_memory
from edgecc.artifact.toolchain import find_compiler, find_emulator
from edgecc.backends.c.batch import emit_batch
from edgecc.errors import EdgeccError
from edgecc.frontend.importing import import_model_with_report
from edgecc.frontend.interface import Port, flattened
from edgecc.ir.graph import Graph
from edgecc.ir.packing import pack
from edgecc.loop.module import Module
from edgecc.pipeline import compile_graph
from edgecc.reference.executor import execute
from edgecc.targets.schema import Target

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")
_TEST_FOLDER = Path(onnx.backend.test.__file__).parent
REASON_LENGTH = 120
SMALL_FLAGS = ("-O0",)
"""For cases that take longer to compile than to run."""
LARGE_FLAGS = ("-Og",)
"""For networks: three times as fast to compile as with -O1, and vectors stay in registers, which they do not with -O0."""
RANDOM_OPERATORS = frozenset({"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"})
"""ONNX leaves the generator of random numbers open."""


@dataclass(frozen=True)
class Case:
    """A model (or its path) and pairs of inputs and expected results, each a list of arrays, lists or None."""

    name: str
    kind: str
    model: onnx.ModelProto | Path
    data_sets: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float


Difference = Callable[[Case, Sequence[Any], Sequence[Any]], str]
"""What is wrong with results, given with the wanted ones before them, or ""."""


@functools.cache
def node_cases() -> dict[str, Any]:
    """The node tests by name, which the onnx package makes by running its examples."""
    from onnx.backend.test.loader import load_model_tests

    # Making the cases prints, warns, and leaves numpy's error handling changed.
    with contextlib.redirect_stdout(io.StringIO()), np.errstate():
        return {case.name: case for case in load_model_tests(kind="node")}


@functools.cache
def file_cases() -> dict[str, Any]:
    """The other cases by name; their models lie in the onnx package."""
    from onnx.backend.test.loader import load_model_tests

    return {case.name: case for kind in KINDS[1:] for case in load_model_tests(kind=kind)}


def case_names() -> list[str]:
    """All cases, those with large models last."""
    return [*sorted(node_cases()), *sorted(file_cases(), key=lambda name: (file_cases()[name].kind == "real", name))]


def load_case(name: str) -> Case:
    """The case called `name`."""
    if name in node_cases():
        case = node_cases()[name]
        sets = [([_plain(x) for x in inputs], [_plain(x) for x in outputs]) for inputs, outputs in case.data_sets]
        return Case(name, case.kind, case.model, sets, case.rtol, case.atol)
    case = file_cases()[name]
    if case.kind == "real":
        return _light_case(case)
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    sets = []
    for data in sorted(folder.glob("test_data_set*")):
        sets.append(tuple([_stored(data / f"{side}_{i}.pb", ports[i].type) for i in range(len(list(data.glob(f"{side}_*.pb"))))]
                          for side, ports in (("input", model.graph.input), ("output", model.graph.output))))
    return Case(name, case.kind, model, sets, case.rtol, case.atol)


def _light_case(case: Any) -> Case:
    """A case whose model has made-up weights; its input is the one that the suite's runner makes."""
    from onnx.backend.test.runner import Runner

    path = _TEST_FOLDER / "data" / "light" / Path(case.url).name
    model = onnx.load(path)
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [Runner.generate_dummy_data(value, seed=0, name=case.model_name, random=False)
              for value in model.graph.input if value.name not in stored]
    outputs = [_stored(path.with_name(f"{path.stem}_output_{i}.pb"), value.type) for i, value in enumerate(model.graph.output)]
    return Case(case.name, case.kind, model, [(inputs, outputs)], case.rtol, case.atol)


def _plain(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _stored(path: Path, declared: onnx.TypeProto) -> Any:
    kinds = {"tensor_type": (onnx.TensorProto, numpy_helper.to_array), "sequence_type": (onnx.SequenceProto, numpy_helper.to_list),
             "optional_type": (onnx.OptionalProto, numpy_helper.to_optional)}
    message, convert = kinds[str(declared.WhichOneof("value"))]
    proto = message()
    proto.ParseFromString(path.read_bytes())
    return convert(proto)


# -- running --------------------------------------------------------------------------------------


@dataclass
class Run:
    """One data set of a case, compiled: the network's number in the batch, its inputs, and what is wanted of it.

    `doubtful` are the results of the reference execution, where those are not what is wanted.
    """

    case: Case
    number: int
    graph: Graph
    outputs: Sequence[Port]
    arrays: list[Any]
    expected: Sequence[Any]
    doubtful: Sequence[Any] | None = None


@dataclass
class _Collected:
    """Networks of a batch, their runs, and the cases that came to an end without one."""

    modules: list[Module] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)


def outcomes(cases: Iterable[Case], target: Target, *, cc: str | None = None, reference: bool = True,
             difference: Difference | None = None) -> dict[str, str]:
    """How each case ends, compiled for `target` and run there.

    Args:
        cases: may be made one by one; models are not kept.
        target: the machine; an emulator runs what is not for the one at hand.
        cc: the C compiler.
        reference: also execute the imported graph by the operators' own meaning, which must agree just the same.
        difference: compares wanted results with those there are; by default as the suite does.
    """
    collected, names, compare = _Collected(), [], difference or suite_difference
    for case in cases:
        names.append(case.name)
        try:
            _collect(case, target, collected, compare if reference else None)
        except EdgeccError as error:
            collected.outcomes[case.name] = f"{error.code} {_reason(error)}"
        except Exception as error:  # any other exception is a finding, not an end of the run
            collected.outcomes[case.name] = f"unhandled {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    runs = [run for run in collected.runs if run.case.name not in collected.outcomes]
    for large in (False, True):
        chosen = [run for run in runs if (run.case.kind == "real") is large]
        _run_batch(chosen, collected.modules, target, cc, LARGE_FLAGS if large else SMALL_FLAGS, collected.outcomes, compare)
    folded = {run.case.name: True for run in runs}
    for run in runs:
        folded[run.case.name] &= all(value.constant is not None for value in run.graph.outputs)
    for name in folded:
        collected.outcomes.setdefault(name, collected.doubts.get(name, "ok-folded" if folded[name] else "ok"))
    return {name: collected.outcomes[name] for name in names}


def _collect(case: Case, target: Target, collected: _Collected, compare: Difference | None) -> None:
    """Compiles a case for each of its data sets; with `compare` it also executes the graph as it was imported."""
    inputs_of_model = _open_inputs(case.model)
    if not case.data_sets:
        collected.outcomes[case.name] = "no data"
    for inputs, expected in case.data_sets:
        given = dict(zip(inputs_of_model, inputs, strict=False))
        graph, report = import_model_with_report(case.model, inputs=given, bind_values=True)
        feeds = {name: array for name, array in flattened(given).items() if name in graph.input_names}
        doubtful: list[Any] | None = None
        if compare is not None:
            results = execute(graph, feeds)
            gathered = [port.gather(results) for port in report.outputs]
            problem = compare(case, expected, gathered)
            if problem:
                doubtful = gathered if problem != "random" and len(case.data_sets) == 1 else None
                collected.doubts[case.name] = problem if problem == "random" else f"{problem} of the reference execution"
        number = len(collected.modules)
        collected.modules.append(compile_graph(graph, target, name=f"model{number}").module)
        arrays = [feeds[name] for name in graph.input_names]
        collected.runs.append(Run(case, number, graph, report.outputs, arrays, expected, doubtful))


def stored_names(model: onnx.ModelProto) -> set[str]:
    """Names of the tensors that a model has a value for."""
    graph = model.graph
    return {tensor.name for tensor in graph.initializer} | {tensor.values.name for tensor in graph.sparse_initializer}


def _open_inputs(model: onnx.ModelProto | Path) -> list[str]:
    """The inputs of a model that have no value in it."""
    loaded = onnx.load(model, load_external_data=False) if isinstance(model, Path) else model
    return [value.name for value in loaded.graph.input if value.name not in stored_names(loaded)]


def _run_batch(runs: Sequence[Run], modules: Sequence[Module], target: Target, cc: str | None, flags: Sequence[str],
               outcomes: dict[str, str], compare: Difference) -> None:
    """Builds and executes; where the C compiler fails, halves the batch until the guilty network is alone."""
    if not runs:
        return
    numbers = sorted({run.number for run in runs})
    position = {number: index for index, number in enumerate(numbers)}
    try:
        with _built([modules[number] for number in numbers], target, cc, flags) as executor:
            for run in runs:
                largest = [value.type.largest for value in run.graph.outputs]
                memory = [result_memory(kind) for kind in largest]
                ranks = [kind.rank for kind in largest] if modules[run.number].is_open else []
                try:
                    shapes = executor.run(position[run.number], [pack(array) for array in run.arrays], memory, ranks)
                except EdgeccError as error:
                    outcomes.setdefault(run.case.name, f"{error.code} {_reason(error)}")
                    continue
                results = [result_array(data, kind.with_shape(shape))
                           for data, kind, shape in zip(memory, largest, shapes or [kind.dims for kind in largest], strict=True)]
                named = dict(zip(run.graph.output_names, results, strict=True))
                problem = compare(run.case, run.expected, [port.gather(named) for port in run.outputs])
                if problem:
                    outcomes.setdefault(run.case.name, problem)
                elif run.doubtful is not None and _agree(run.doubtful, [port.gather(named) for port in run.outputs]):
                    outcomes.setdefault(run.case.name, "ok")
    except EdgeccError as error:
        if len(numbers) == 1:
            outcomes[runs[0].case.name] = f"{error.code} {_reason(error)}"
            return
        half = set(numbers[:len(numbers) // 2])
        for inside in (True, False):
            _run_batch([run for run in runs if (run.number in half) is inside], modules, target, cc, flags, outcomes, compare)


@contextlib.contextmanager
def _built(modules: Sequence[Module], target: Target, cc: str | None, flags: Sequence[str]) -> Iterator[BatchExecutor]:
    batch = emit_batch(modules, target)
    with tempfile.TemporaryDirectory(prefix="edgecc-suite-") as scratch:
        program = build_batch(find_compiler(target, cc), batch.files, batch.sources, Path(scratch), flags)
        executor = BatchExecutor((*find_emulator(target), str(program)))
        try:
            yield executor
        finally:
            executor.close()


def suite_difference(case: Case, expected: Sequence[Any], results: Sequence[Any]) -> str:
    """What the suite's comparison has against the results, or ""; sequences are compared tensor by tensor."""
    from onnx.backend.test.runner import Runner

    if [_kind(value) for value in expected] != [_kind(value) for value in results]:
        return "wrong kind"
    try:
        with np.errstate(all="ignore"):
            Runner.assert_similar_outputs(_tensors(expected), _tensors(results), case.rtol, case.atol)
    except AssertionError as error:
        text = str(error)
        wrong = "wrong shape" if "incorrect shape" in text else "wrong type" if "ACTUAL: dtype(" in text else "wrong result"
        return "random" if wrong == "wrong result" and is_random(case) else wrong
    return ""


def _agree(exact: Sequence[Any], results: Sequence[Any]) -> bool:
    """Whether the results are those of the reference but for roundings: what is wanted may be rounding noise, which the reference lacks."""
    pairs = zip(_tensors(exact), _tensors(results), strict=True)
    return all(a.shape == b.shape and a.dtype == b.dtype == np.float32 and
               np.max(np.abs(a - b), initial=0) <= 2**-22 * np.max(np.abs(a), initial=0) for a, b in pairs)


def is_random(case: Case) -> bool:
    """Whether the results of a case are random numbers."""
    return isinstance(case.model, onnx.ModelProto) and any(node.op_type in RANDOM_OPERATORS for node in case.model.graph.node)


def _kind(value: Any) -> int:
    """-2 for nothing, -1 for a tensor, else the length of a sequence."""
    return -2 if value is None else len(value) if isinstance(value, list) else -1


def _tensors(values: Sequence[Any]) -> list[Any]:
    return [tensor for value in values if value is not None for tensor in (value if isinstance(value, list) else [value])]


def _reason(error: EdgeccError) -> str:
    """The first detail of an error, without the names of nodes, else its message."""
    text = error.details[0].strip() if error.details and error.code in ("E105", "E112") else error.message
    if error.code in ("E105", "E112") and ": " in text:
        label, _, rest = text.partition(" ")
        text = rest if rest.startswith("(") else f"{label} {rest}"
    text = " ".join(text.split())
    return text if len(text) <= REASON_LENGTH else text[:REASON_LENGTH - 1] + "…"


# -- the record -----------------------------------------------------------------------------------


def read_record(path: Path) -> tuple[str, dict[str, str]]:
    """The version of onnx and how each case ended, as recorded."""
    if not path.exists():
        return "", {}
    version, *lines = path.read_text(encoding="utf-8").splitlines()
    return version, dict(line.split(" ", 1) for line in lines)


def update_record(path: Path, got: Mapping[str, str]) -> None:
    """Replaces the lines of the given cases; several processes may do so at once."""
    import fcntl

    version = f"onnx {onnx.__version__}"
    with (Path(tempfile.gettempdir()) / f"edgecc-suite-record-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known, recorded = read_record(path)
        merged = {**(recorded if known == version else {}), **got}
        path.write_text("\n".join([version, *(f"{name} {merged[name]}" for name in sorted(merged))]) + "\n", encoding="utf-8")
