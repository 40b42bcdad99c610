"""Compilations with all their stages: by back ends that take loop programs, that take graphs, and for an accelerator beside a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecc.api.options import CHOICES, DEFAULT_OPTIONS, FOR_LOOPS, ModelSource, Options
from edgecc.artifact.folder import Artifact
from edgecc.artifact.load import Port, random_inputs
from edgecc.backends.base import EmitOptions, GraphBackend, LoopBackend, SelfTest
from edgecc.backends.c import selftest
from edgecc.backends.c.names import model_identifier
from edgecc.backends.discovery import create_backend, select_backend
from edgecc.errors import EdgeccError, printable
from edgecc.frontend.importing import ImportReport, import_model_with_report
from edgecc.frontend.interface import flattened
from edgecc.frontend.load import source_name
from edgecc.ir.graph import Graph
from edgecc.ir.instance import graph_symbols
from edgecc.ir.types import Array, DType
from edgecc.lowering.functions import Room, check_results
from edgecc.lowering.options import NO_TUNING, LoweringOptions
from edgecc.partition.artifact import Partitioned, partition
from edgecc.passes.base import parse_passes
from edgecc.pipeline import C, CompiledModel, PreparedGraph, check_accepts, compile_graph, prepare_graph
from edgecc.reference.executor import execute
from edgecc.reference.integer_ranges import integer_ranges
from edgecc.reference.sensitivity import errors_in_precision
from edgecc.targets.schema import Npu, Target, load_target


@dataclass(frozen=True)
class Compilation:
    """A compilation with all its stages: the graph as imported, the network compiled, the files, and who wrote them."""

    graph: Graph
    report: ImportReport
    compiled: CompiledModel
    artifact: Artifact
    backend: LoopBackend = C

    @property
    def meaning(self) -> Graph:
        """The graph whose results the compiled network is to give, see `meaning_of`."""
        return meaning_of(self.graph, self.compiled)


@dataclass(frozen=True)
class Export:
    """A compilation by a back end that takes graphs: the graph as imported, after the passes, the files, and who wrote them."""

    graph: Graph
    report: ImportReport
    prepared: PreparedGraph
    artifact: Artifact
    backend: GraphBackend


@dataclass(frozen=True)
class Division:
    """A compilation for a target with an accelerator: the graph as imported, and what runs where with all its files."""

    graph: Graph
    report: ImportReport
    partitioned: Partitioned

    @property
    def artifact(self) -> Artifact:
        """The files of all parts."""
        return self.partitioned.artifact


def resolve_target(target: str | Path | Target) -> Target:
    """A target by name or path, or itself. Raises: EdgeccError E002, E003."""
    return target if isinstance(target, Target) else load_target(target)


def compile_for(model: ModelSource, target: Target, options: Options = DEFAULT_OPTIONS, backend: str | None = None,
                form: str | None = None) -> Compilation | Export | Division:
    """Compiles a model by a back end and returns every stage; see `compile`. Nothing is written.

    Where neither back end nor form is given and the target has an accelerator, the model is divided between it and the CPU.
    """
    if backend is None and form is None and target.npu is not None:
        return divide_model(model, target, options, target.npu)
    chosen, wanted = select_backend(backend, form)
    if chosen.takes == "loops":
        return compile_model(model, target, options, chosen, wanted)
    return export_model(model, target, options, chosen, wanted)


def compile_model(model: ModelSource, target: Target, options: Options = DEFAULT_OPTIONS, backend: LoopBackend = C,
                  form: str = "") -> Compilation:
    """Compiles a model by a back end that takes loop programs and returns every stage. Nothing is written."""
    check_accepts(backend, target)
    _check_loop_options(options)
    passes = None if options.passes is None else parse_passes(options.passes)
    graph, report = imported(model, options)
    compiled = compile_graph(graph, target, name=_name_of(model, graph, options), passes=passes, options=_lowering_options(options),
                             keep_fp32=options.keep_fp32, integers=options.integers, backend=backend,
                             verify_each=_arrays_for_passes(graph, options))
    check_results(compiled.module.arena_bytes, {}, options.limits, source_name(model))  # a self-test would run for nothing
    artifact = backend.emit(compiled.module, target, EmitOptions(self_test=_self_test(graph, compiled) if options.self_test else None, form=form))
    check_results(artifact.arena_bytes, artifact.files, options.limits, source_name(model))
    return Compilation(graph, report, compiled, artifact, backend)


def _lowering_options(options: Options) -> LoweringOptions:
    limits = options.limits
    return LoweringOptions(
        threads=options.threads, precision=options.precision, depth_first=options.depth_first == "auto", winograd=options.winograd == "auto",
        tuning=options.tuning or NO_TUNING, checks=options.checks, string_bytes=limits.string_bytes,
        room=Room.within(limits))


def _self_test(graph: Graph, compiled: CompiledModel) -> SelfTest:
    """What the self-test of a network compares with; in a half precision within what `verify` allows, the root mean square aside."""
    meaning, inputs, precision = meaning_of(graph, compiled), selftest.inputs(compiled.module), compiled.module.precision
    expected = execute(meaning, inputs)
    if precision is DType.F32:
        return SelfTest(expected)
    return SelfTest(expected, errors=errors_in_precision(meaning, compiled.graph, precision.unit_roundoff, inputs, expected))


def meaning_of(graph: Graph, compiled: CompiledModel) -> Graph:
    """The graph whose results a compiled network is to give: the imported one, unless passes rounded quantized numbers anew.

    Then it is the one that was compiled, whose bytes every machine gives. What its QuantizeLinear nodes say literally may lie one step
    away where a number lies at a tie, and further layers make more of that. That both say the same but at ties is what `verify_each` checks.
    """
    return compiled.graph if compiled.rounds_anew else graph


def export_model(model: ModelSource, target: Target, options: Options, backend: GraphBackend, form: str) -> Export:
    """Compiles a model by a back end that takes graphs and returns every stage. Nothing is written."""
    check_accepts(backend, target)
    _refuse_loop_options(options, f"back end {backend.name}")
    passes = None if options.passes is None else parse_passes(options.passes)
    graph, report = imported(model, options)
    prepared = prepare_graph(graph, target, backend, passes=passes, verify_each=_arrays_for_passes(graph, options))
    name = model_identifier(_name_of(model, graph, options))
    return Export(graph, report, prepared, backend.emit(prepared.graph, name, target, form), backend)


def divide_model(model: ModelSource, target: Target, options: Options, npu: Npu) -> Division:
    """Compiles a model for the accelerator of a target and the CPU beside it. Nothing is written.

    Raises: EdgeccError E009 where the accelerator's back end is not installed; what `edgecc.partition.artifact.partition` raises.
    """
    writer = create_backend(npu.backend)
    if writer.takes != "graph":
        raise EdgeccError("E003", f"[npu]: back end {writer.name} is for CPUs", where=target.name)
    _refuse_loop_options(options, f"the accelerator of {target.name}", allowed=("threads",))
    if options.passes is not None or options.verify_each:
        raise EdgeccError("E001", "where a model is divided, each side has passes of its own; --passes and --verify-each are for one back end",
                          hint="name it with --backend")
    graph, report = imported(model, options)
    name = model_identifier(_name_of(model, graph, options))
    done = partition(graph, name, target, writer, options=_lowering_options(options))
    check_results(done.artifact.arena_bytes, done.artifact.files, options.limits, source_name(model))
    return Division(graph, report, done)


def finish(done: Compilation | Export | Division, form: str, cc: str | None = None) -> Artifact:
    """The artifact with what only tools can add, such as a library. Raises: EdgeccError E400, E401."""
    return done.backend.finish(done.artifact, form, cc) if isinstance(done, Compilation) else done.artifact


def inputs_of(graph: Graph, given: Mapping[str, Array] | None, seed: int = 0) -> dict[str, Array]:
    """The given arrays, without those for values that the model holds itself; random ones if none are given."""
    if given is not None:
        return {name: given[name] for name in graph.input_names if name in given}
    return random_inputs_of(graph, seed, {s.name: s.upper for s in graph_symbols(graph)})


def random_inputs_of(graph: Graph, seed: int, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Random inputs of a graph whose open dimensions have these sizes; integers within the ranges that its operators take."""
    return random_inputs([Port(name, value.type.dtype.numpy, value.type.at(sizes).dims)
                          for name, value in zip(graph.input_names, graph.inputs, strict=True)], seed, integer_ranges(graph, sizes))


def imported(model: ModelSource, options: Options = DEFAULT_OPTIONS) -> tuple[Graph, ImportReport]:
    """The graph of a model, and the report of its import. Raises: as `import_model`."""
    return import_model_with_report(model, shapes=options.shapes, inputs=options.inputs, limits=options.limits,
                                    bind_values=options.bind_values, constants=options.constants)


def _arrays_for_passes(graph: Graph, options: Options) -> dict[str, Array] | None:
    """What the graph is executed on before and after each pass; None where it is not."""
    if not options.verify_each:
        return None
    return inputs_of(graph, None if options.inputs is None else flattened(options.inputs))


def _check_loop_options(options: Options) -> None:
    """Raises E001 where an option about loop programs has no such value."""
    if options.threads < 1:
        raise EdgeccError("E001", f"a model runs on one or more threads, not on {options.threads}")
    for name, known in CHOICES:
        value = getattr(options, name)
        if value not in known:
            raise EdgeccError("E001", f"{name.replace('_', ' ')} {printable(str(value))!r} is not one of {', '.join(known)}")


def _refuse_loop_options(options: Options, who: str, allowed: Sequence[str] = ()) -> None:
    """Raises E001 where options are given that are about loop programs."""
    given = [name.replace("_", " ") for name in FOR_LOOPS if name not in allowed and getattr(options, name) != getattr(DEFAULT_OPTIONS, name)]
    if given:
        raise EdgeccError("E001", f"{who} takes the graph; {', '.join(given)} {'are' if len(given) > 1 else 'is'} "
                          "for back ends that take loop programs")


def _name_of(model: ModelSource, graph: Graph, options: Options) -> str:
    return options.name or (Path(model).stem if isinstance(model, str | Path) else graph.name)
