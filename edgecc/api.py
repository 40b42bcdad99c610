"""The Python verbs, which the command line shares: compile, load, verify.

    artifact = edgecc.compile("model.onnx", target="cortex-a76", output="out/model")
    model = edgecc.load("out/model")
    outputs = model.run({"input": array})
    assert edgecc.verify("model.onnx", target="cortex-a76").ok
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import onnx

from edgecc.artifact.folder import Artifact, Manifest, read_manifest
from edgecc.artifact.load import Model, Port, check_inputs, load, ports_of, random_inputs
from edgecc.artifact.toolchain import lacks_compiler, runs_natively
from edgecc.backends.base import AnyBackend, EmitOptions, GraphBackend, Loaded, LoopBackend, SelfTest, Trace
from edgecc.backends.c import selftest
from edgecc.backends.c.names import model_identifier
from edgecc.backends.discovery import create_backend, select_backend
from edgecc.backends.exported import exported_model
from edgecc.errors import EdgeccError, printable
from edgecc.frontend.bind import GivenDim
from edgecc.frontend.importing import ImportReport, import_model_with_report
from edgecc.frontend.interface import Given, flattened
from edgecc.frontend.limits import Limits, raised
from edgecc.frontend.load import source_name
from edgecc.ir.graph import Graph
from edgecc.ir.instance import corners, graph_symbols
from edgecc.ir.types import Array, DType
from edgecc.kernels.base import CHECKS
from edgecc.lowering import NO_TUNING
from edgecc.partition.artifact import Partitioned, partition
from edgecc.partition.quantization import output_steps
from edgecc.partition.run import PartitionedModel
from edgecc.partition.trace import trace
from edgecc.passes.base import parse_passes
from edgecc.pipeline import C, CompiledModel, PreparedGraph, check_accepts, compile_graph, prepare_graph
from edgecc.reference.compare import RELATIVE_TOLERANCE, OutputComparison, compare_outputs, relative_tolerance
from edgecc.reference.executor import execute
from edgecc.reference.integer_ranges import integer_ranges
from edgecc.reference.layerwise import LayerComparison, follow
from edgecc.reference.sensitivity import Allowance, allow_for_precision, allow_for_rounding
from edgecc.targets.precision import FP32
from edgecc.targets.schema import Npu, Target, load_target

__all__ = ["Artifact", "Model", "Options", "Verification", "compile", "load", "verify"]

ModelSource = str | Path | bytes | onnx.ModelProto
"""A model: a path, the bytes of a file, or a parsed model."""

DEFAULT_LIMITS = Limits()
DEPTH_FIRST = ("auto", "off")
"""Whether chains of layers run stripe by stripe."""
FOR_LOOPS = ("threads", "depth_first", "precision", "keep_fp32", "tuning", "self_test", "winograd", "checks", "integers")
"""Options of a compilation that are about loop programs; back ends that take graphs have no use for them."""
WINOGRAD = ("auto", "off")
"""Whether Winograd's algorithm is used for convolutions: where it is modelled to be faster; never."""
INTEGER_SUMS = ("auto", "always")
"""Whether quantized layers are summed in integers: unless floats give the same numbers and are modelled to be faster; always."""
_CHOICES = (("depth_first", DEPTH_FIRST), ("winograd", WINOGRAD), ("integers", INTEGER_SUMS), ("checks", CHECKS))
"""Options that name one of a few ways."""


@dataclass(frozen=True)
class Options:
    """How to compile.

    Attributes:
        shapes: sizes of dynamic dimensions, by input or by the name of a dimension; a `Range` leaves one open between bounds.
        inputs: arrays whose shapes bind dynamic dimensions; lists of arrays for sequences, None for empty optionals.
        bind_values: inputs that must be known for the model to be compiled, such as shapes, become constants of the values
            that `inputs` gives them; the report of the import names them.
        constants: values of inputs that are the same in every run: they are compiled in, and are no inputs any more.
        threads: the number of threads a run uses.
        depth_first: "auto" runs chains of layers stripe by stripe where that saves memory or time; "off" never does.
            With several threads nothing runs in stripes, since the threads divide whole layers.
        precision: "fp32", "fp16" or "bf16": what weights and activations are stored and, where it is accurate enough,
            computed in; inputs and outputs keep their types.
        keep_fp32: names of nodes of the model that keep fp32 all the same.
        tuning: names of candidates by signature of the kernel (edgecc/tuning); others are chosen by the cost model.
        passes: the pipeline of graph passes instead of the default one, as `--passes` takes it.
        verify_each: execute the graph before and after each pass and compare, on `inputs` or random ones.
        self_test: put results of the reference into selftest.c, which then checks against them.
        winograd: "auto" or "off": whether convolutions may use Winograd's algorithm, which is faster, takes more memory
            for weights and rounds less exactly (edgecc/kernels/winograd.py has the bounds).
        integers: "auto" or "always": whether convolutions and products of quantized layers may be summed in float where that gives
            the same numbers and the cost model expects it to be faster (edgecc/lowering/precision.py).
        checks: what becomes of indices that are computed at run time and lie outside of their axis: "trap", the run ends with
            status 5; "clamp", they are moved to its nearest end; "off", they are trusted not to occur.
        name: prefix of everything in the generated code; by default the name of the model file.
        limits: bounds on what an untrusted model may ask for.
    """

    shapes: Mapping[str, Sequence[GivenDim]] | None = None
    inputs: Mapping[str, Given] | None = None
    bind_values: bool = False
    constants: Mapping[str, Array] | None = None
    threads: int = 1
    depth_first: str = "auto"
    precision: str = FP32
    keep_fp32: Sequence[str] = ()
    tuning: Mapping[str, str] | None = None
    passes: str | None = None
    verify_each: bool = False
    self_test: bool = False
    winograd: str = "auto"
    integers: str = "auto"
    checks: str = "trap"
    name: str | None = None
    limits: Limits = DEFAULT_LIMITS


DEFAULT_OPTIONS = Options()


@dataclass(frozen=True)
class Compilation:
    """A compilation with all its stages: the graph as imported, the network compiled, the files, and who wrote them."""

    graph: Graph
    report: ImportReport
    compiled: CompiledModel
    artifact: Artifact
    backend: LoopBackend = C


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


@dataclass(frozen=True)
class Verification:
    """The outcome of `verify`: each output compared, and the sizes of the compiled model in bytes.

    `code_bytes` is None where the object format is not ELF. `relative_tolerance` is what an output may differ by, over its
    largest expected magnitude: 1e-4, or 16 roundoffs of a shorter type that values are stored in. `layers` is there where a tool
    or an accelerator computed on integers that it rounds by a rule of its own (edgecc/reference/layerwise.py). `allowances` has what
    outputs were allowed besides because rounding moves them further (edgecc/reference/sensitivity.py).
    """

    ok: bool
    target: str
    outputs: tuple[OutputComparison, ...]
    arena_bytes: int
    weights_bytes: int
    code_bytes: int | None
    precision: str = FP32
    relative_tolerance: float = RELATIVE_TOLERANCE
    layers: LayerComparison | None = None
    allowances: tuple[Allowance, ...] = ()


def compile(model: ModelSource, target: str | Path | Target = "host", output: str | Path | None = None, *,
            emit: str | None = None, backend: str | None = None, verify: bool = False, cc: str | None = None,
            **options: Any) -> Artifact:
    """Compiles an ONNX model, to C if nothing else is said.

    Args:
        model: path, bytes or ModelProto.
        target: name of a target, path of a TOML file, or a Target.
        output: the folder to write, whole or not at all; without it nothing is written.
        emit: a form of some back end: "c" for sources, "lib" or "exe" to build a shared library or a program into the
            folder as well, "onnx" for an ONNX model. `edgecc doctor` lists them.
        backend: a back end by name, with options in braces; by default the one that has the form.
        verify: compare with the reference on random inputs before anything is written.
        cc: the C compiler for `emit` and `verify`.
        options: the fields of `Options`.
    Returns: the artifact: the manifest and the content of every file.
    Raises: EdgeccError; E300 where `verify` finds a difference. See the catalogue in edgecc/errors.py.
    """
    done = compile_for(model, resolve_target(target), Options(**options), backend, emit)
    artifact = finish(done, select_backend(backend, emit)[1], cc)
    if verify:
        require_ok(verify_compilation(done, cc=cc, inputs=None, expected=None))
    if output is not None:
        artifact.write(output)
    return artifact


def verify(model: ModelSource, target: str | Path | Target = "host", *, inputs: Mapping[str, npt.ArrayLike] | None = None,
           expected: Mapping[str, npt.ArrayLike] | None = None, cc: str | None = None, seed: int = 0,
           emit: str | None = None, backend: str | None = None, **options: Any) -> Verification:
    """Compiles a model, runs it (under an emulator or in a simulator for other machines) and compares the outputs.

    Args:
        model, target: as for `compile`.
        inputs: arrays by input name, which bind dynamic dimensions too; random ones of `seed` by default.
        expected: arrays by output name; by default the reference execution of the imported graph.
        cc: the C compiler.
        emit, backend: as for `compile`.
        options: the fields of `Options`.
    Raises: EdgeccError, but not where outputs differ: then the result's `ok` is false.
    """
    arrays = None if inputs is None else {name: np.asarray(array) for name, array in inputs.items()}
    done = compile_for(model, resolve_target(target), Options(**{**options, "inputs": arrays}), backend, emit)
    wanted = None if expected is None else {name: np.asarray(array) for name, array in expected.items()}
    return verify_compilation(done, inputs=arrays, expected=wanted, cc=cc, seed=seed)


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
    graph, report = import_model_with_report(model, shapes=options.shapes, inputs=options.inputs, limits=options.limits,
                                            bind_values=options.bind_values, constants=options.constants)
    name = model_identifier(options.name or _name_of(model, graph))
    return Division(graph, report, partition(graph, name, target, writer, threads=options.threads))


def _refuse_loop_options(options: Options, who: str, allowed: Sequence[str] = ()) -> None:
    """Raises E001 where options are given that are about loop programs."""
    given = [name.replace("_", " ") for name in FOR_LOOPS if name not in allowed and getattr(options, name) != getattr(DEFAULT_OPTIONS, name)]
    if given:
        raise EdgeccError("E001", f"{who} takes the graph; {', '.join(given)} {'are' if len(given) > 1 else 'is'} "
                          "for back ends that take loop programs")


def export_model(model: ModelSource, target: Target, options: Options, backend: GraphBackend, form: str) -> Export:
    """Compiles a model by a back end that takes graphs and returns every stage. Nothing is written."""
    check_accepts(backend, target)
    _refuse_loop_options(options, f"back end {backend.name}")
    passes = None if options.passes is None else parse_passes(options.passes)
    graph, report = import_model_with_report(model, shapes=options.shapes, inputs=options.inputs, limits=options.limits,
                                            bind_values=options.bind_values, constants=options.constants)
    inputs = _inputs_of(graph, None if options.inputs is None else flattened(options.inputs)) if options.verify_each else None
    prepared = prepare_graph(graph, target, backend, passes=passes, verify_each=inputs)
    name = model_identifier(options.name or _name_of(model, graph))
    return Export(graph, report, prepared, backend.emit(prepared.graph, name, target, form), backend)


def compile_model(model: ModelSource, target: Target, options: Options = DEFAULT_OPTIONS, backend: LoopBackend = C,
                  form: str = "") -> Compilation:
    """Compiles a model by a back end that takes loop programs and returns every stage. Nothing is written."""
    check_accepts(backend, target)
    if options.threads < 1:
        raise EdgeccError("E001", f"a model runs on one or more threads, not on {options.threads}")
    for name, known in _CHOICES:
        value = getattr(options, name)
        if value not in known:
            raise EdgeccError("E001", f"{name.replace('_', ' ')} {printable(str(value))!r} is not one of {', '.join(known)}")
    passes = None if options.passes is None else parse_passes(options.passes)
    graph, report = import_model_with_report(model, shapes=options.shapes, inputs=options.inputs, limits=options.limits,
                                            bind_values=options.bind_values, constants=options.constants)
    inputs = _inputs_of(graph, None if options.inputs is None else flattened(options.inputs)) if options.verify_each else None
    compiled = compile_graph(graph, target, name=options.name or _name_of(model, graph), passes=passes,
                             threads=options.threads, depth_first=options.depth_first == "auto", verify_each=inputs,
                             winograd=options.winograd == "auto", precision=options.precision, keep_fp32=options.keep_fp32,
                             checks=options.checks, tuning=options.tuning or NO_TUNING, backend=backend,
                             string_bytes=options.limits.string_bytes, integers=options.integers)
    limits, arena = options.limits, compiled.module.arena_bytes
    if arena > limits.arena_bytes:
        raise EdgeccError("E101", f"a run needs {arena} bytes of memory; the limit is {limits.arena_bytes}", where=source_name(model),
                          hint=raised("arena_bytes"))
    self_test = SelfTest(execute(graph, selftest.inputs(compiled.module))) if options.self_test else None
    artifact = backend.emit(compiled.module, target, EmitOptions(self_test=self_test, form=form))
    text = sum(len(data) for name, data in artifact.files.items() if name.endswith((".c", ".h")))
    if text > limits.generated_bytes:
        raise EdgeccError("E101", f"the generated code has {text} bytes; the limit is {limits.generated_bytes}",
                          where=source_name(model), hint=raised("generated_bytes"))
    return Compilation(graph, report, compiled, artifact, backend)


def finish(done: Compilation | Export | Division, form: str, cc: str | None = None) -> Artifact:
    """The artifact with what only tools can add, such as a library. Raises: EdgeccError E400, E401."""
    return done.backend.finish(done.artifact, form, cc) if isinstance(done, Compilation) else done.artifact


def verify_compilation(done: Compilation | Export | Division, *, inputs: Mapping[str, Array] | None, expected: Mapping[str, Array] | None,
                       cc: str | None = None, seed: int = 0) -> Verification:
    """Runs a compilation in a process of its own and compares; see `verify`.

    Where dimensions are open and no inputs are given, at several sizes (`corners`); the worst comparison of each output counts.
    What integers are to be is what the graph says once it computes on them: a number that rounds the other way at a tie changes
    everything behind it. That the graph says the same as the model but at ties is what `verify_each` checks. Back ends whose tools
    round by another rule are compared layer by layer, and their outputs with what follows from the integers that the tool had;
    outputs that are expected of them may differ by one step of their quantization. What differs in a half precision, or depends on
    integers that a run rounds floats to, is allowed as much as rounding moves the reference (edgecc/reference/sensitivity.py).
    """
    reference = done.compiled.graph if isinstance(done, Compilation) and any(
        report.changed and report.graph_pass.rounds_anew for report in done.compiled.passes) else done.graph
    writer = done.backend if isinstance(done, Export) else done.partitioned.npu if isinstance(done, Division) else None
    margins = {} if writer is None or not writer.steps else {name: writer.steps * size for name, size in output_steps(done.graph).items()}
    narrowest = (done.compiled.module.precision.unit_roundoff if isinstance(done, Compilation) else
                 0.0 if writer is None or margins else writer.unit_roundoff)
    relative = max(relative_tolerance(done.graph), 16.0 * narrowest)
    symbols = graph_symbols(done.graph)
    cases = [inputs] if inputs is not None or not symbols else [
        _random_inputs(done.graph, seed, sizes) for sizes in corners(symbols)]
    manifest, found = done.artifact.manifest, list[tuple[OutputComparison, ...]]()
    layers: LayerComparison | None = None
    allowances: tuple[Allowance, ...] = ()
    with _loaded(done, cc) as model:
        for case in cases:
            arrays = _inputs_of(done.graph, case, seed)
            results = model.run(arrays)  # first: it counts the iterations of endless loops in a moment
            followed = _followed(done, model, arrays)
            if followed is not None:
                layers = followed[1]
                margins = output_steps(done.graph)
            wanted = expected if expected is not None else execute(reference, arrays) if followed is None else followed[0]
            compared = compare_outputs(results, wanted, relative=relative, margins=margins)
            if followed is None and not all(one.ok for one in compared):
                if isinstance(done, Compilation) and done.compiled.module.precision is not DType.F32:
                    compared, more = allow_for_precision(reference, done.compiled.graph, manifest.precision, arrays, results, wanted, compared, seed)
                else:
                    compared, more = allow_for_rounding(reference, arrays, results, wanted, compared, seed)
                allowances += more
            found.append(compared)
    outputs = tuple(max(same, key=lambda o: (not o.ok, o.max_abs_err / o.tolerance if o.tolerance else 0.0))
                    for same in zip(*found, strict=True))
    return Verification(all(o.ok for o in outputs) and (layers is None or layers.ok), manifest.target.name, outputs, done.artifact.arena_bytes,
                        done.artifact.weights_bytes, model.code_bytes, manifest.precision, relative, layers, allowances)


def _followed(done: Compilation | Export | Division, model: Loaded, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], LayerComparison] | None:
    """The outputs that follow from the integers a run had, and how its layers compare; None where those integers are not known."""
    found: Trace | None = None
    match done, model:
        case Division(partitioned=made), PartitionedModel():
            graph, found = made.graph, trace(made, model, inputs)
        case Export(), _:
            graph, found = done.prepared.graph, done.backend.trace(done.prepared.graph, done.artifact, inputs)
    return None if found is None or not found.integers else follow(graph, inputs, found.integers, found.beyond)


def _loaded(done: Compilation | Export | Division, cc: str | None) -> Loaded:
    """A compilation as something that can be run."""
    match done:
        case Compilation():
            return load_compilation(done, cc)
        case Division(partitioned=made):
            return PartitionedModel(made.artifact, made.npu, made.cpu, cc)
    return _Runs(done)


class _Runs:
    """An export as something that can be run."""

    code_bytes: int | None = None

    def __init__(self, done: Export) -> None:
        self._done = done

    def run(self, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
        """The outputs by name. Raises: EdgeccError E005, and what the back end raises."""
        manifest = self._done.artifact.manifest
        arrays = check_inputs(ports_of(manifest.inputs), inputs)
        named = {port.name: array for port, array in zip(manifest.inputs, arrays, strict=True)}
        return self._done.backend.run(self._done.artifact, named)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None


def require_ok(verification: Verification) -> None:
    """Raises E300 naming the outputs that differ, if any do."""
    if not verification.ok:
        raise EdgeccError("E300", "the compiled model and the reference disagree", where=verification.target, details=[
            f"{printable(o.name)}: largest error {o.max_abs_err:.3g}, tolerance {o.tolerance:.3g}"
            for o in verification.outputs if not o.ok])


def load_compilation(done: Compilation, cc: str | None = None) -> Loaded:
    """A compilation as something that can be run, in a process of its own.

    C for a machine that has no C compiler is not built: LLVM compiles the same loop programs into this process.
    Raises: EdgeccError E400, E401.
    """
    target = done.compiled.target
    if done.backend.name != "c" or cc is not None or not lacks_compiler(target):
        return done.backend.load(done.artifact, cc)
    return _through_llvm().load(_through_llvm().emit(replace(done.compiled.module, threads=1), target, EmitOptions()))


def is_compiled(source: Path) -> bool:
    """Whether a path is that of an artifact folder or of a shared library, rather than of a model."""
    return source.is_dir() or source.suffix in (".so", ".dylib")


def load_or_compile(source: Path, target: str | None, *, cc: str | None = None, isolated: bool = False, backend: str | None = None,
                    **options: Any) -> Model:
    """A runnable model from an artifact folder, a shared library, or an ONNX model (compiled on the way, by `backend`).

    What a back end wrote for other tools runs in these (`GraphBackend.run`).

    Raises: EdgeccError E001 for a back end whose artifacts do not run as a model does.
    """
    if is_compiled(source):
        if target is not None or backend is not None:
            raise EdgeccError("E001", f"--target and --backend are for models; {printable(str(source))} is compiled already")
        if source.is_dir() and (main := read_manifest(source)).main:
            return _exported(create_backend(main.backend), Artifact.read(source))
        if source.is_dir() and cc is None and _is_object(read_manifest(source)):
            return _as_model(_through_llvm().load(Artifact.read(source)))
        return load(source, cc=cc, isolated=isolated)
    done = compile_for(source, resolve_target(target or "host"), Options(**options), backend)
    if isinstance(done, Division):
        raise EdgeccError("E001", f"the model is divided between the sides of {done.artifact.manifest.target.name}; `edgecc verify` runs both",
                          hint="--backend c is for the CPU alone")
    if not isinstance(done, Compilation):
        return exported_model(done.backend, done.artifact)
    return _as_model(load_compilation(done, cc))


def _through_llvm() -> LoopBackend:
    return cast(LoopBackend, create_backend("llvm"))


def _is_object(manifest: Manifest) -> bool:
    """Whether an artifact is an object file for this machine."""
    return manifest.sources[:1] != () and manifest.sources[0].endswith(".o") and runs_natively(manifest.target)


def _exported(backend: AnyBackend, artifact: Artifact) -> Model:
    if backend.takes != "graph":
        raise EdgeccError("E007", f"back end {backend.name} does not write {printable(artifact.manifest.main)}")
    return exported_model(backend, artifact)


def _as_model(loaded: Loaded) -> Model:
    if not isinstance(loaded, Model):
        raise EdgeccError("E001", "the back end's artifacts can be verified, but not run by themselves")
    return loaded


def _inputs_of(graph: Graph, given: Mapping[str, Array] | None, seed: int = 0) -> dict[str, Array]:
    """The given arrays, without those for values that the model holds itself; random ones if none are given."""
    if given is not None:
        return {name: given[name] for name in graph.input_names if name in given}
    return _random_inputs(graph, seed, {s.name: s.upper for s in graph_symbols(graph)})


def _random_inputs(graph: Graph, seed: int, sizes: Mapping[str, int]) -> dict[str, Array]:
    return random_inputs([Port(name, value.type.dtype.numpy, value.type.at(sizes).dims)
                          for name, value in zip(graph.input_names, graph.inputs, strict=True)], seed, integer_ranges(graph, sizes))


def _name_of(model: ModelSource, graph: Graph) -> str:
    return Path(model).stem if isinstance(model, str | Path) else graph.name
