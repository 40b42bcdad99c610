"""The road of a model: graph passes in which order and with which checks after each, then lowering, then a back end.

After every pass the graph is verified, its interface must be what it was, and what the pass said about
having changed something is compared with a structural hash. With `verify_each` the graph is also
executed by the reference before and after, and the results are compared within the pass's tolerance; passes that
round quantized numbers anew are compared value by value (edgecc/passes/ties.py).
A failure names the pass, the node where there is one, and the passes that ran before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from edgecc.artifact.folder import Artifact
from edgecc.backends.base import AnyBackend, EmitOptions, GraphBackend, LoopBackend
from edgecc.backends.c.backend import CBackend
from edgecc.backends.c.names import model_identifier
from edgecc.backends.requirements import check_requirements as check_tools
from edgecc.errors import EdgeccError, Problem
from edgecc.ir.equal import OpTexts, parts_of, same_parts, structural_hash
from edgecc.ir.graph import Graph, Value
from edgecc.ir.instance import graph_symbols
from edgecc.ir.types import Array
from edgecc.ir.verify import Looked, verify_structure, verify_types
from edgecc.loop.module import Module
from edgecc.lowering import LoweredModel, lower_graph
from edgecc.lowering.options import DEFAULT_LOWERING, LoweringOptions
from edgecc.lowering.precision import FLOATS, LayerPrecision, choose_precisions
from edgecc.passes.base import (
    PASSES,
    Decline,
    GraphPass,
    check_requirements,
    collect_declines,
    create_pass,
    failure,
    load_passes,
    parse_passes,
)
from edgecc.passes.graph.float_sums import FloatSums
from edgecc.passes.rewrite import collect_replacements
from edgecc.passes.ties import Snapshot, compare_at_ties, snapshot
from edgecc.reference.compare import Observation, compare_observations, observe_graph, with_magnitudes
from edgecc.targets.precision import FP32, precision_type
from edgecc.targets.schema import Target

C = CBackend()

DEFAULT_GRAPH_PASSES: tuple[str, ...] = (
    # Clean up what exporters leave behind.
    "eliminate",
    # Compute on the integers of quantized values, while what quantizes them still stands by itself.
    "integer-resize",
    "integer-transposed",
    "move-quantization",
    "integer-contraction",
    "integer-reduction",
    "integer-softmax",
    "integer-elementwise",
    "fold-dequantized",
    "simplify-regions",
    "simplify-movement",
    "fold-constants",
    "narrow-tables",
    # Before canonicalize turns the remaining batch normalisations into elementwise arithmetic.
    "fuse-conv-bn",
    "canonicalize",
    "fold-constants",
    "eliminate",
    # Recognise what a kernel does as a whole, while operators are still single.
    "recognize-normalization",
    "fold-transpose",
    "fold-reshape",
    "simplify-movement",
    "canonicalize",
    "fold-constants",
    "eliminate",
    "recognize-bias",
    "fold-pad",
    # Make kernel-sized pieces of work. Residuals after activations: those are free for any convolution.
    "compose-tables",
    "fuse-elementwise",
    "fuse-activation",
    "fuse-residual",
    "fold-expand",
    "simplify-movement",
    "eliminate",
    "simplify-regions",
    # Decide how values lie in memory, last, since the other passes think of row-major values.
    "assign-layout",
)
"""The graph passes of a compilation, by name and in order. A pass that is not in the list states its own place."""

FIRST_OF_KERNELS = "compose-tables"
"""The pass that begins to make pieces of work for CPU kernels. What stands before it is for everybody."""


FIRST_OF_INTEGERS = "integer-resize"
"""The pass that begins to compute on the integers of quantized values."""

ONLY_FOR_KERNELS = "integer-resize"
"""A pass in front of that whose operators other tools do not have."""

ACTIVATION_SIGNS: Mapping[str, tuple[str, dict[str, str]]] = MappingProxyType(
    {"neon": ("activation-signs", {"to": "i8"}), "avx2": ("activation-signs", {"to": "u8"})})
"""The features of machines whose products of bytes take factors of one sign, and the pass that makes such factors for them."""


@dataclass(frozen=True)
class PassReport:
    """What one pass did.

    Attributes:
        graph_pass: the pass with its options.
        changed: whether it changed the graph.
        nodes_before, nodes_after: node counts, regions included.
        seconds: time in the pass itself, without the checks.
        declines: why it left nodes alone.
    """

    graph_pass: GraphPass
    changed: bool
    nodes_before: int
    nodes_after: int
    seconds: float
    declines: tuple[Decline, ...]


Observer = Callable[[PassReport, Graph], None]


def default_graph_passes(precision: str = FP32, keep_fp32: Sequence[str] = ()) -> tuple[GraphPass, ...]:
    """DEFAULT_GRAPH_PASSES with every other known pass at the place it states, and the conversion to a half precision.

    "after NAME" is right after the first NAME, "before NAME" right before it; passes at one place stand
    in the order of their names.
    Raises: EdgeccError E004 where a place names no pass of the pipeline.
    """
    load_passes()
    order = list(DEFAULT_GRAPH_PASSES)
    pending = sorted(name for name, cls in PASSES.items()
                     if issubclass(cls, GraphPass) and cls.place and name not in DEFAULT_GRAPH_PASSES)
    while pending:
        placed = next((name for name in pending if PASSES[name].place.partition(" ")[2] in order), None)
        if placed is None:
            raise EdgeccError("E004", f"pass {pending[0]} wants its place {PASSES[pending[0]].place!r}, which is not in "
                                      "the pipeline", hint="state place = \"after NAME\" or \"before NAME\"")
        side, _, anchor = PASSES[placed].place.partition(" ")
        position = order.index(anchor)
        if side == "after":
            # Behind those that were put here already, so that equal places keep the order of names.
            position += 1
            while position < len(order) and PASSES[order[position]].place == f"after {anchor}":
                position += 1
        order.insert(position, placed)
        pending.remove(placed)
    passes = [create_pass(name) for name in order]
    if precision != FP32:
        # Once the kernel-sized pieces are made: what is computed in f32 within one of them stays so.
        passes.insert(order.index("assign-layout"), create_pass(
            "convert-precision", {"precision": precision, "keep": "+".join(keep_fp32)}))
    return tuple(passes)


def backend_passes(backend: AnyBackend, target: Target, precision: str = FP32, keep_fp32: Sequence[str] = ()) -> tuple[GraphPass, ...]:
    """The graph passes that a back end wants. Raises: EdgeccError E004 for names that do not exist."""
    general = default_graph_passes(precision, keep_fp32)
    if backend.takes == "graph":
        general = general[:next(index for index, one in enumerate(general) if one.name == FIRST_OF_KERNELS)]
        general = tuple(one for one in general if one.name != ONLY_FOR_KERNELS)
    elif signs := next((one for feature, one in ACTIVATION_SIGNS.items() if target.has(feature)), None):
        general = _inserted(general, create_pass(*signs))
    elif not target.vector.bits:
        # Scalar code writes one number at a time wherever it lies, and its machines have little memory.
        general = tuple(create_pass(one.name, {"copy_outputs": "false"}) if one.name == "assign-layout" else one for one in general)
    known = {str(one): one for one in general}
    found: list[GraphPass] = []
    for name in backend.passes(tuple(map(str, general)), target):
        found += (known[name],) if name in known else parse_passes(name)
    return tuple(found)


def _inserted(passes: tuple[GraphPass, ...], added: GraphPass) -> tuple[GraphPass, ...]:
    """`passes` with another one in front of those that compute on integers."""
    place = next((index for index, one in enumerate(passes) if one.name == FIRST_OF_INTEGERS), len(passes))
    return (*passes[:place], added, *passes[place:])


def run_passes(graph: Graph, passes: Sequence[GraphPass], *, verify_each: Mapping[str, Array] | None = None,
               observer: Observer | None = None) -> tuple[PassReport, ...]:
    """Runs passes over a graph, in place, with the checks named in this module's docstring.

    Args:
        graph: a valid graph; after an error it is left as the failing pass left it.
        passes: in order.
        verify_each: inputs by interface name; the graph is executed with them before and after each pass.
        observer: called after each pass and its checks, with the report and the graph: for dumps and progress.
    Returns: one report a pass.
    Raises: EdgeccError E004 where a pass's requirements do not stand before it; E900 to E903, naming the pass, where a
        check fails or the pass does; what the reference raises for bad inputs.
    """
    check_requirements(passes)
    looked: Looked = {}
    verify_structure(graph)
    verify_types(graph, looked)
    texts: OpTexts = {}
    interface, known = _interface(graph), _Known(structural_hash(graph, texts), parts_of(graph))
    size = _size(graph)
    seen = None if verify_each is None else observe_graph(graph, verify_each)
    reports: list[PassReport] = []
    for graph_pass in passes:
        try:
            before = None if verify_each is None or not graph_pass.rounds_anew else snapshot(graph)
            with collect_replacements() as replaced:
                report = _run(graph, graph_pass, size)
            size = report.nodes_after
            known = _check(graph, report, interface, known, texts, looked)
            if report.changed and seen is not None and verify_each is not None:
                if before is not None:
                    _check_ties(graph, graph_pass, before, replaced, verify_each)
                    seen = observe_graph(graph, verify_each)
                else:
                    seen = _check_meaning(graph, graph_pass, seen, verify_each)
        except Exception as error:
            raise _after(failure(graph_pass, error), reports) from error
        reports.append(report)
        if observer is not None:
            observer(report, graph)
    return tuple(reports)


@dataclass(frozen=True)
class CompiledModel:
    """A network compiled for a target, before a back end prints it.

    Attributes:
        graph: the graph after all passes.
        target: what it was compiled for.
        lowered: the module, its memory plan and a report for each call.
        passes: what each graph pass did.
        precisions: how each convolution and product of integers is computed, and why; () where nothing was to be chosen.
    """

    graph: Graph
    target: Target
    lowered: LoweredModel
    passes: tuple[PassReport, ...]
    precisions: tuple[LayerPrecision, ...] = ()

    @property
    def module(self) -> Module:
        """The loop programs."""
        return self.lowered.module

    @property
    def rounds_anew(self) -> bool:
        """Whether some pass moved quantized numbers that lie at a tie."""
        return any(report.changed and report.graph_pass.rounds_anew for report in self.passes)


def compile_graph(graph: Graph, target: Target, *, name: str, passes: Sequence[GraphPass] | None = None,
                  options: LoweringOptions = DEFAULT_LOWERING, keep_fp32: Sequence[str] = (), integers: str = "auto",
                  backend: LoopBackend = C, verify_each: Mapping[str, Array] | None = None, observer: Observer | None = None) -> CompiledModel:
    """Runs graph passes on a copy of `graph` and lowers the result for `target`.

    Args:
        name: the module's name; what is no C identifier is made one.
        passes: instead of the default pipeline, which converts the network to the precision of `options`.
        options: see `lower_graph`; functions are verified where `verify_each` is given.
        keep_fp32: names of nodes that the default pipeline does not convert.
        integers: "auto": of the default pipeline in fp32, sums of quantized layers are computed in float where that gives the same
            numbers and the cost model expects it to be faster; "always" on integers.
        backend: whose passes are run.
        verify_each, observer: see `run_passes`.
    Raises: EdgeccError E001 where the target lacks the precision; what `run_passes` and `lower_graph` raise.
    """
    precision = options.precision
    precision_type(precision, target)
    own = graph.copy()
    chosen = backend_passes(backend, target, precision, keep_fp32) if passes is None else tuple(passes)
    kernels = next((place for place, one in enumerate(chosen) if one.name == FIRST_OF_KERNELS), None)
    precisions: tuple[LayerPrecision, ...] = ()
    if passes is None and integers == "auto" and precision == FP32 and kernels is not None:
        reports = run_passes(own, chosen[:kernels], verify_each=verify_each, observer=observer)
        precisions = choose_precisions(own, target, options.threads)
        layers = "+".join(layer.nodes[0] for layer in precisions if layer.precision == FLOATS)
        rest = (*([FloatSums(layers)] if layers else []), *chosen[kernels:])
        reports += run_passes(own, rest, verify_each=verify_each, observer=observer)
    else:
        reports = run_passes(own, chosen, verify_each=verify_each, observer=observer)
    verified = replace(options, verified=options.verified or verify_each is not None)
    lowered = lower_graph(own, target, name=model_identifier(name), options=verified)
    return CompiledModel(own, target, lowered, reports, precisions)


@dataclass(frozen=True)
class PreparedGraph:
    """A network as a back end that takes graphs receives it, and what each pass did."""

    graph: Graph
    passes: tuple[PassReport, ...]


def prepare_graph(graph: Graph, target: Target, backend: GraphBackend, *, passes: Sequence[GraphPass] | None = None,
                  verify_each: Mapping[str, Array] | None = None, observer: Observer | None = None) -> PreparedGraph:
    """Runs the passes of a back end that takes graphs on a copy of `graph`, and asks whether it supports every node.

    Args: see `compile_graph`.
    Raises: EdgeccError E115 listing every node it does not support, or where it does not write for the target; E104 where
        a dimension is open; what `run_passes` raises.
    """
    check_accepts(backend, target)
    check_static(graph, backend)
    own = graph.copy()
    reports = run_passes(own, backend_passes(backend, target) if passes is None else passes, verify_each=verify_each, observer=observer)
    reasons = {node: backend.supports(node, target) for node in own.nodes}
    problems = [Problem("E115", f"{', '.join(node.loc) or node.outputs[0].name} ({node.op.name})", reason)
                for node, reason in reasons.items() if reason is not None]
    if problems:
        raise EdgeccError("E115", f"back end {backend.name} does not support {len(problems)} node{'s' if len(problems) > 1 else ''} of {len(own)}",
                          details=[f"{problem.where}: {problem.why}" for problem in problems], problems=problems,
                          hint=f"`edgecc ops --backend {backend.name}` shows what it supports")
    return PreparedGraph(own, reports)


def check_static(graph: Graph, backend: GraphBackend) -> None:
    """Raises E104 where a dimension is open: back ends that take graphs want numbers."""
    open_dims = graph_symbols(graph)
    if open_dims:
        raise EdgeccError("E104", f"back end {backend.name} wants numbers, {', '.join(str(dim) for dim in open_dims)} "
                          f"{'are' if len(open_dims) > 1 else 'is'} open", hint="give the dimension one size with --shape")


def check_accepts(backend: AnyBackend, target: Target, *, tools: bool = True) -> None:
    """Raises E115 where the back end does not write for the target, E400 where, if asked for, it lacks packages or programs."""
    reason = backend.accepts(target)
    if reason is not None:
        raise EdgeccError("E115", f"back end {backend.name} does not write for {target.name}: {reason}")
    if tools:
        check_tools(backend.requirements(), f"back end {backend.name}")


def emit_c(compiled: CompiledModel, options: EmitOptions | None = None) -> Artifact:
    """The C artifact of a compiled network."""
    return C.emit(compiled.module, compiled.target, options or EmitOptions())


def _run(graph: Graph, graph_pass: GraphPass, before: int) -> PassReport:
    start = time.perf_counter()
    with collect_declines() as declines:
        changed = graph_pass.run_all(graph)
        seconds = time.perf_counter() - start
        return PassReport(graph_pass, changed, before, _size(graph) if changed else before, seconds, tuple(declines))


def _size(graph: Graph) -> int:
    return sum(len(inner) for inner in graph.all_graphs())


@dataclass(frozen=True)
class _Known:
    """A graph's structural hash, and the objects that it was computed of."""

    hash: str
    parts: list[object]


def _check(graph: Graph, report: PassReport, interface: tuple[object, ...], known: _Known, texts: OpTexts, looked: Looked) -> _Known:
    """Checks the graph after a pass, unless all of its objects are those that were checked before; returns what is known of it then."""
    parts, new = parts_of(graph), known
    if not same_parts(parts, known.parts):
        verify_structure(graph)
        if _interface(graph) != interface:
            raise EdgeccError("E900", "the inputs and outputs of the graph changed in number, order, name or type")
        new = _Known(structural_hash(graph, texts), parts)
    if new.hash != known.hash:
        verify_types(graph, looked)
    if report.changed != (new.hash != known.hash):
        said, did = ("something", "nothing") if report.changed else ("nothing", "something")
        raise EdgeccError("E900", f"says it changed {said}, and changed {did}")
    return new


def _check_meaning(graph: Graph, graph_pass: GraphPass, before: Observation, inputs: Mapping[str, Array]) -> Observation:
    """Compares with what was observed before; returns the observation after, with the same magnitudes."""
    after = observe_graph(graph, inputs, samples=0)
    wrong = [change for change in compare_observations(before, after, graph_pass.tolerance) if not change.ok]
    if wrong:
        raise EdgeccError("E901", "the results differ from those before the pass",
                          details=[f"output {change.name}: {change.detail}" for change in wrong])
    return with_magnitudes(after, before)


def _check_ties(graph: Graph, graph_pass: GraphPass, before: Snapshot, replaced: Mapping[Value, Value],
                inputs: Mapping[str, Array]) -> None:
    """Compares value by value with the graph before."""
    found = compare_at_ties(before, graph, replaced, inputs, graph_pass.tolerance)
    if found.problems:
        raise EdgeccError("E901", "the results differ from those before the pass", details=found.problems)


def _interface(graph: Graph) -> tuple[object, ...]:
    return (*graph.input_names, *graph.output_names, *(v.type for v in graph.inputs), *(v.type for v in graph.outputs))


def _after(error: EdgeccError, reports: Sequence[PassReport]) -> EdgeccError:
    ran = ", ".join(str(report.graph_pass) for report in reports) or "none"
    return EdgeccError(error.code, error.message, where=error.where, hint=error.hint,
                       details=[*error.details, f"passes before it: {ran}"])
