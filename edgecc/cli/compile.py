"""`edgecc compile MODEL --target NAME -o DIR`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgecc import api
from edgecc.artifact.folder import Artifact
from edgecc.backends.discovery import select_backend
from edgecc.choices import Choice, choices_of, precisions_of
from edgecc.cli import compiling, flags, models
from edgecc.cli import quantizing as q
from edgecc.cli.arguments import in_dialect, read_arrays
from edgecc.cli.choices import choices_json, choices_table, declines_json, declines_table, layers_json, layers_table
from edgecc.cli.division import show_division
from edgecc.cli.groups import takes_groups
from edgecc.cli.output import human_bytes, note, print_json, progress, results, show
from edgecc.errors import EdgeccError, printable
from edgecc.float_layers import left_in_float
from edgecc.lowering.options import NO_TUNING
from edgecc.lowering.precision import LayerPrecision
from edgecc.passes.base import Decline
from edgecc.targets.precision import FP32
from edgecc.tuning.requests import gaps

app = typer.Typer(add_completion=False)


@app.command()
@takes_groups
def compile(
    context: typer.Context,
    *,
    model: models.Model,
    target: flags.TargetName = "host",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The folder to write; by default the model's name.", show_default=False)] = None,
    emit: Annotated[str | None, typer.Option(help="c: sources; lib: and a shared library; exe: and a program; onnx: an ONNX model; or what another back end of `edgecc doctor` writes. c by default.", show_default=False)] = None,
    backend: flags.BackendName = None,
    binding: models.Binding,
    inputs: flags.SizesFile = None,
    code: compiling.Code,
    name: Annotated[str | None, typer.Option(help="Prefix of everything in the C code; by default the model's name.", show_default=False)] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare with the reference before anything is written.")] = False,
    self_test: Annotated[bool, typer.Option("--self-test", help="Put reference results into selftest.c.")] = False,
    print_memory_plan: Annotated[bool, typer.Option("--print-memory-plan", help="Print where each buffer lies and when it lives.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print for each kernel call what was chosen, why, and instead of what.")] = False,
    quantize: Annotated[str | None, typer.Option(help="int8 or int16: quantize the model first, by the options from --calibration on, which are those of edgecc quantize.", show_default=False)] = None,
    quantization: q.Options,
    method: q.Method = "mse",
    dialect: flags.Dialect = None,
    cc: Annotated[str | None, typer.Option("--cc", help="The C compiler, for --verify and --emit.", show_default=False)] = None,
    as_json: flags.AsJson = False,
) -> None:
    """Compile a model for a target into a folder, of C if nothing else is asked for."""
    backend = in_dialect(backend, emit, dialect)
    form = select_backend(backend, emit)[1]
    if quantize is None and quantization.calibration is None:
        flags.refuse_given(context, q.ONLY_QUANTIZING, "without --quantize")
    compiling.refuse_idle_precision(context, code.precision)
    chosen = api.resolve_target(target)
    arrays = read_arrays(inputs, "--inputs") if inputs is not None else None
    options = binding.options(arrays)
    tuned = code.tuned(chosen)
    source: api.ModelSource = model
    quantized: q.Done | None = None
    if quantize is not None or quantization.calibration is not None:
        if quantize not in q.COMPILED or quantization.calibration is None:
            raise EdgeccError("E001", f"--quantize takes one of {', '.join(q.COMPILED)}, and --calibration the data", where="edgecc compile")
        quantized = q.quantized(model, quantization, quantization.scheme(quantize, method), options, target=target,
                                rank=explain, not_slower=True)
        source, options = quantized.quantized.model, replace(options, shapes={}, constants={})
    options = replace(code.options(options, tuned), self_test=self_test, name=name or model.stem)
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
        if quantized is None and not done.artifact.manifest.report["npu_nodes"]:
            note("nothing runs on the accelerator; where the reason is floats, --quantize int8 with --calibration DATA quantizes the model first")
    elif isinstance(done, api.Export):
        show_export(artifact, folder, form, as_json=as_json)
    else:
        for text in () if tuned is None else gaps(tuned, done.compiled.lowered.requests):
            note(text)
        explained = _explained(done, NO_TUNING if tuned is None else tuned.choices) if explain else None
        if as_json:
            flags.note_given(context, {"print_memory_plan"}, "with --json")
            print_json(_to_json(artifact, folder, code.precision, explained, quantized))
            return
        if print_memory_plan:
            _show_memory_plan(done)
        _show(artifact, folder, code.precision, explained, quantized)


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
