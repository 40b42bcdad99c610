"""`edgecc compile MODEL --target NAME -o DIR`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgecc import api
from edgecc.artifact.folder import Artifact
from edgecc.backends.discovery import select_backend
from edgecc.choices import Choice, choices_of, precisions_of
from edgecc.cli import flags
from edgecc.cli import quantizing as q
from edgecc.cli.arguments import in_dialect, parse_constants, parse_limits, parse_shapes, read_arrays
from edgecc.cli.choices import choices_json, choices_table, declines_json, declines_table, layers_json, layers_table
from edgecc.cli.division import show_division
from edgecc.cli.output import human_bytes, note, print_json, progress, results, show
from edgecc.errors import EdgeccError, printable
from edgecc.float_layers import left_in_float
from edgecc.lowering import NO_TUNING
from edgecc.lowering.precision import LayerPrecision
from edgecc.passes.base import Decline
from edgecc.quantization.scheme import Scheme
from edgecc.targets.precision import FP32
from edgecc.tuning.record import read_for
from edgecc.tuning.requests import gaps

app = typer.Typer(add_completion=False)


@app.command()
def compile(
    context: typer.Context,
    model: flags.Model,
    target: flags.TargetName = "host",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The folder to write; by default the model's name.", show_default=False)] = None,
    emit: Annotated[str | None, typer.Option(help="c: sources; lib: and a shared library; exe: and a program; onnx: an ONNX model; or what another back end of `edgecc doctor` writes. c by default.", show_default=False)] = None,
    backend: flags.BackendName = None,
    shape: flags.Shape = None,
    constant: flags.Constant = None,
    limits: flags.LimitList = None,
    inputs: flags.SizesFile = None,
    threads: flags.Threads = 1,
    depth_first: flags.DepthFirst = "auto",
    precision: flags.Precision = "fp32",
    keep_fp32: flags.KeepFp32 = None,
    tuning: flags.TuningFile = None,
    passes: flags.Passes = None,
    winograd: flags.Winograd = "auto",
    integers: flags.Integers = "auto",
    checks: flags.Checks = "trap",
    name: Annotated[str | None, typer.Option(help="Prefix of everything in the C code; by default the model's name.", show_default=False)] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare with the reference before anything is written.")] = False,
    verify_each: Annotated[bool, typer.Option("--verify-each", help="Check the meaning of the graph after each pass.")] = False,
    self_test: Annotated[bool, typer.Option("--self-test", help="Put reference results into selftest.c.")] = False,
    print_memory_plan: Annotated[bool, typer.Option("--print-memory-plan", help="Print where each buffer lies and when it lives.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print for each kernel call what was chosen, why, and instead of what.")] = False,
    quantize: Annotated[str | None, typer.Option(help="int8 or int16: quantize the model first, by the options from --calibration on, which are those of edgecc quantize.", show_default=False)] = None,
    calibration: q.Calibration = None,
    method: q.Method = "mse",
    percentile: q.Percentile = 99.999,
    symmetric: q.Symmetric = False,
    per_tensor: q.PerTensor = False,
    equalize: q.Equalize = False,
    bias_correction: q.BiasCorrection = True,
    adaptive_rounding: q.AdaptiveRounding = False,
    exclude: q.Exclude = None,
    wide: q.Wide = None,
    min_sqnr: q.MinSqnr = None,
    max_accuracy_drop: q.MaxAccuracyDrop = None,
    labels: q.Labels = None,
    label_offset: q.LabelOffset = 0,
    metric: q.MetricName = None,
    validation: q.Validation = None,
    pictures: q.Pictures = "fit=crop",
    samples: q.Samples = None,
    dialect: flags.Dialect = None,
    cc: Annotated[str | None, typer.Option("--cc", help="The C compiler, for --verify and --emit.", show_default=False)] = None,
    as_json: flags.AsJson = False,
) -> None:
    """Compile a model for a target into a folder, of C if nothing else is asked for."""
    backend = in_dialect(backend, emit, dialect)
    form = select_backend(backend, emit)[1]
    _refuse_idle_flags(context, is_quantized=quantize is not None or calibration is not None, precision=precision)
    chosen = api.resolve_target(target)
    arrays = read_arrays(inputs, "--inputs") if inputs is not None else None
    tuned = read_for(tuning, chosen) if tuning is not None else None
    fixed = parse_constants(constant or [])
    quantized: q.Done | None = None
    if quantize is not None or calibration is not None:
        if quantize not in q.COMPILED or calibration is None:
            raise EdgeccError("E001", f"--quantize takes one of {', '.join(q.COMPILED)}, and --calibration the data", where="edgecc compile")
        scheme = Scheme(activations=quantize, symmetric=symmetric, per_channel=not per_tensor, method=method, percentile=percentile, equalize=equalize,
                        correct_bias=bias_correction, round_adaptively=adaptive_rounding, exclude=frozenset(exclude or ()), wide=frozenset(wide or ()))
        quantized = q.quantized(model, q.Settings(calibration, scheme, pictures, samples, min_sqnr, max_accuracy_drop, labels, label_offset, metric,
                                                  validation), shape or [], target=target, constants=fixed, rank=explain, not_slower=True)
    source, sizes = (model, parse_shapes(shape or [])) if quantized is None else (quantized.quantized.model, {})
    options = api.Options(shapes=sizes, constants=fixed if quantized is None else {}, limits=parse_limits(limits or []), inputs=arrays, threads=threads,
                          depth_first=depth_first, precision=precision, keep_fp32=keep_fp32 or (), passes=passes, verify_each=verify_each,
                          self_test=self_test, winograd=winograd, integers=integers, checks=checks, name=name or model.stem,
                          tuning=None if tuned is None else tuned.choices)
    with progress(f"compiling {model.name} for {chosen.name}"):
        done = api.compile_for(source, chosen, options, backend, emit)
    if verify:
        with progress("comparing with the reference"):
            api.require_ok(api.verify_compilation(done, inputs=arrays, expected=None, cc=cc))
    with progress("calling the C compiler"):
        artifact = api.finish(done, form, cc)
    folder = artifact.write(output if output is not None else Path(artifact.name))
    for text in (*done.report.notes, *(() if quantized is None else (*quantized.notes, *quantized.quantized.notes))):
        note(text)
    if not isinstance(done, api.Compilation):
        idle = {"print_memory_plan", "explain"} if isinstance(done, api.Export) and quantized is None else {"print_memory_plan"}
        flags.note_given(context, idle, "with a back end that takes no loop programs")
    if isinstance(done, api.Division):
        show_division(done.partitioned.artifact, folder, explain=explain, as_json=as_json)
    elif isinstance(done, api.Export):
        show_export(artifact, folder, form, as_json=as_json)
    else:
        for text in () if tuned is None else gaps(tuned, done.compiled.lowered.requests):
            note(text)
        explained = _explained(done, NO_TUNING if tuned is None else tuned.choices) if explain else None
        if as_json:
            flags.note_given(context, {"print_memory_plan"}, "with --json")
            print_json(_to_json(artifact, folder, precision, explained, quantized))
            return
        if print_memory_plan:
            _show_memory_plan(done)
        _show(artifact, folder, precision, explained, quantized)


def _refuse_idle_flags(context: typer.Context, *, is_quantized: bool, precision: str) -> None:
    """Raises E001 for flags that would do nothing beside the others."""
    if not is_quantized:
        flags.refuse_given(context, q.ONLY_QUANTIZING, "without --quantize")
    if precision == FP32:
        flags.refuse_given(context, {"keep_fp32"}, "without --precision fp16 or bf16")


@dataclass(frozen=True)
class _Explained:
    """What --explain tells: of each kernel call, of each layer on integers, and of each part left in float."""

    choices: tuple[Choice, ...]
    precisions: tuple[LayerPrecision, ...]
    kept: tuple[Decline, ...]


def _explained(done: api.Compilation, measured: Mapping[str, str]) -> _Explained:
    choices = choices_of(done.compiled.lowered, measured)
    return _Explained(choices, precisions_of(choices, done.compiled.precisions), left_in_float(done.compiled.passes))


def _to_json(artifact: Artifact, folder: Path, precision: str, explained: _Explained | None, quantized: q.Done | None) -> dict[str, object]:
    """The JSON object of a compiled network."""
    manifest = artifact.manifest
    table: dict[str, object] = {
        "ok": True, "folder": str(folder), "target": manifest.target.name, "precision": precision, "name": artifact.name,
        "arena_bytes": artifact.arena_bytes, "arena_lower_bound": manifest.arena_lower_bound,
        "weights_bytes": artifact.weights_bytes, "kernels": len(manifest.kernels),
        "calls": sum(len(use.calls) for use in manifest.kernels), "files": [e.name for e in manifest.files]}
    if explained is not None:
        table |= {"choices": choices_json(explained.choices), "left_in_float": declines_json(explained.kept), "precisions": layers_json(explained.precisions)}
    if quantized is not None:
        table["quantization"] = q.report_json(quantized.quantized)
    return table


def _show_memory_plan(done: api.Compilation) -> None:
    lowered, console = done.compiled.lowered, results()
    console.print(lowered.plan.to_text())
    for title, plan in lowered.regions:
        console.print(f"{printable(title)}, inside of the arena above\n{plan.to_text()}")


def _show(artifact: Artifact, folder: Path, precision: str, explained: _Explained | None, quantized: q.Done | None) -> None:
    """Prints what was written, its sizes, and what --quantize and --explain have to tell."""
    manifest, console = artifact.manifest, results()
    gap = artifact.arena_bytes - manifest.arena_lower_bound
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("folder", str(folder))
    table.add_row("target", manifest.target.name)
    if precision != FP32:
        table.add_row("precision", precision)
    table.add_row("arena", f"{human_bytes(artifact.arena_bytes)}, {100 * gap / max(1, manifest.arena_lower_bound):.1f} % above the lower bound")
    table.add_row("weights", human_bytes(artifact.weights_bytes))
    table.add_row("kernels", f"{len(manifest.kernels)} in {sum(len(use.calls) for use in manifest.kernels)} calls")
    show(table)
    if quantized is not None:
        q.show_summary(quantized.quantized)
    if explained is None:
        return
    tables = [choices_table(explained.choices)]
    if quantized is not None:
        tables.insert(0, q.precisions_table(quantized.quantized))
    if explained.precisions:
        tables.append(layers_table(explained.precisions))
    if explained.kept:
        tables.append(declines_table(explained.kept))
    for each in tables:
        console.print()
        show(each)


def show_export(artifact: Artifact, folder: Path, form: str, *, as_json: bool) -> None:
    """Prints what a back end that takes graphs wrote, with the figures it reports."""
    manifest = artifact.manifest
    if as_json:
        print_json({"ok": True, "folder": str(folder), "target": manifest.target.name, "backend": manifest.backend, "emit": form,
                    "name": artifact.name, "main": manifest.main, "arena_bytes": artifact.arena_bytes,
                    "weights_bytes": artifact.weights_bytes, "files": [e.name for e in manifest.files], "report": dict(manifest.report)})
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("folder", str(folder))
    table.add_row("target", manifest.target.name)
    table.add_row("back end", manifest.backend)
    table.add_row("file", manifest.main)
    if artifact.arena_bytes:
        table.add_row("arena", human_bytes(artifact.arena_bytes))
    table.add_row("weights", human_bytes(artifact.weights_bytes))
    for name, value in manifest.report.items():
        table.add_row(printable(name), printable(", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)))
    show(table)
