"""Everything that keeps a model from being compiled for a target, at once: what is wrong, where, why, and what to change.

A compilation stops at the first stage that fails. Here each stage that can go on without the one before it does: operators are
looked at although dimensions have no size, and although the target lacks the precision that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgecc.api import Compilation, ModelSource, Options, compile_model
from edgecc.errors import EXIT_MODEL, EXIT_USAGE, EdgeccError, Problem, printable
from edgecc.float_layers import FloatLayer, float_layers
from edgecc.frontend.bind import input_spec
from edgecc.frontend.load import load_model, source_name
from edgecc.frontend.registry import Unsupported
from edgecc.targets.precision import FP32, PRECISIONS, precision_type
from edgecc.targets.schema import Target

KINDS: Mapping[str, str] = {
    "E100": "file", "E101": "limit", "E102": "model", "E103": "file", "E104": "shape", "E105": "operator", "E106": "model",
    "E110": "shape or type", "E112": "operator", "E113": "memory",
}
"""What a problem is about, by its code; those of other codes are about the "model"."""

LARGEST_HALF = 65504.0
DEFAULT_OPTIONS = Options()


@dataclass(frozen=True)
class Finding:
    """One problem. `kind` is one of the values of `KINDS`, or "precision"."""

    kind: str
    code: str
    where: str
    why: str
    change: str


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        findings: what keeps the model from being compiled; none where it compiles.
        notes: what was assumed, and what may come as a surprise.
        calls, arena_bytes, weights_bytes: of the compiled model; 0 where there is none.
        index_checks: how many operands of kernels hold indices that are looked at in each run.
        float_layers: layers that the model quantizes and that are computed in float.
    """

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    calls: int = 0
    arena_bytes: int = 0
    weights_bytes: int = 0
    index_checks: int = 0
    float_layers: tuple[FloatLayer, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the model compiles and fits."""
        return not self.findings


def check_model(model: ModelSource, target: Target, options: Options = DEFAULT_OPTIONS) -> CheckReport:
    """Checks a model without writing anything.

    Raises: EdgeccError of bad usage (E001 to E008), an unknown precision included, but not one the target lacks.
    """
    findings: list[Finding] = []
    try:
        precision_type(options.precision, target)
    except EdgeccError as error:
        if options.precision not in PRECISIONS:
            raise
        findings.append(Finding("precision", error.code, target.name, error.message, error.hint))
        options = replace(options, precision=FP32, keep_fp32=())
    try:
        done = compile_model(model, target, options)
    except EdgeccError as error:
        if error.exit_status == EXIT_USAGE:
            raise
        found = list(_findings(error, source_name(model)))
        if error.code == "E104":
            found += _beyond_sizes(model, target, options)
        return CheckReport((*findings, *dict.fromkeys(found)))
    module = done.compiled.module
    findings += _memory(done, target)
    return CheckReport(tuple(findings), (*done.report.notes, *_overflows(done, options)), len(module.all_calls), module.arena_bytes,
                       module.weights_bytes, sum(len(call.checks) for call in module.all_calls),
                       float_layers(done.graph, done.compiled.graph, done.compiled.passes))


def _findings(error: EdgeccError, name: str) -> Iterator[Finding]:
    """Everything an error names. Internal errors are not the model's and are raised."""
    if error.exit_status != EXIT_MODEL:
        raise error
    problems = error.problems or tuple(Problem(error.code, error.where, error.message if not error.details else detail, error.hint)
                                       for detail in error.details or ("",))
    for problem in problems:
        where = problem.where.removeprefix(f"{name}:") or name
        yield Finding(KINDS.get(problem.code, "model"), problem.code, where, problem.why, problem.change)


def _beyond_sizes(model: ModelSource, target: Target, options: Options) -> list[Finding]:
    """What would be wrong if every open dimension were 1: operators only, since shapes may fail for that size alone."""
    shapes = dict(options.shapes or {})
    graph = load_model(model, options.limits).proto.graph
    stored = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        try:
            spec = input_spec(value)
        except (EdgeccError, Unsupported):
            continue
        if value.name in stored or value.name in shapes or spec.dims is None:
            continue
        for dim in spec.dims:
            if isinstance(dim, str):
                shapes.setdefault(dim, (1,))
        if None in spec.dims:
            given = [shapes.get(dim, (1,))[0] if isinstance(dim, str) else dim for dim in spec.dims]
            shapes[value.name] = [1 if dim is None else dim for dim in given]
    try:
        compile_model(model, target, replace(options, shapes=shapes))
    except EdgeccError as error:
        if error.exit_status == EXIT_MODEL and error.code in ("E105", "E112"):
            return [finding for finding in _findings(error, source_name(model)) if finding.kind == "operator"]
    return []


def _memory(done: Compilation, target: Target) -> Iterator[Finding]:
    """What the target's memories, where they have a size, cannot hold."""
    if any(memory.limit == 0 for memory in target.memories):
        return
    module = done.compiled.module
    ports = sum(port.type.size_bytes for port in (*module.inputs, *module.outputs))
    needed, there = module.arena_bytes + ports + module.weights_bytes, sum(memory.limit for memory in target.memories)
    if needed > there:
        yield Finding("memory", "E113", target.name,
                      f"the arena takes {module.arena_bytes} bytes, inputs and outputs {ports}, weights {module.weights_bytes}: {needed} "
                      f"together; the target has {there}", "make inputs smaller, or compile with --precision fp16 where the target has it")


def _overflows(done: Compilation, options: Options) -> Iterator[str]:
    """Notes about weights that are infinite in half precision."""
    if options.precision != "fp16":
        return
    for node in done.graph.nodes:
        for value in node.inputs:
            data = None if value is None else value.constant
            if data is not None and data.dtype == np.float32:
                count = int(np.sum(np.isfinite(data) & (np.abs(data) > LARGEST_HALF)))
                if count:
                    yield (f"{printable('+'.join(node.loc))} ({node.op.name}): {count} weights are infinite in fp16; "
                           f"--keep-fp32 {printable(node.loc[0] if node.loc else node.op.name)} keeps it in fp32")
