"""`edgecc compile MODEL --target NAME -o DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgecc import api
from edgecc.artifact.folder import Artifact
from edgecc.backends.discovery import select_backend
from edgecc.choices import choices_of, precisions_of
from edgecc.cli import quantizing as q
from edgecc.cli.arguments import in_dialect, parse_constants, parse_limits, parse_shapes, read_arrays
from edgecc.cli.choices import choices_json, choices_table, declines_json, declines_table, layers_json, layers_table
from edgecc.cli.division import show_division
from edgecc.cli.output import human_bytes, note, print_json, progress, results, show
from edgecc.errors import EdgeccError, printable
from edgecc.float_layers import left_in_float
from edgecc.lowering import NO_TUNING
from edgecc.quantization.scheme import Scheme
from edgecc.targets.precision import FP32
from edgecc.tuning.record import read_for
from edgecc.tuning.requests import gaps

app = typer.Typer(add_completion=False)


@app.command()
def compile(
    model: Annotated[Path, typer.Argument(help="An ONNX model.", show_default=False)],
    target: Annotated[str, typer.Option(help="A target of `edgecc targets`, or a path to a TOML file.")] = "host",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The folder to write; by default the model's name.", show_default=False)] = None,
    emit: Annotated[str | None, typer.Option(help="c: sources; lib: and a shared library; exe: and a program; onnx: an ONNX model; or what another back end of `edgecc doctor` writes. c by default.", show_default=False)] = None,
    backend: Annotated[str | None, typer.Option(help="A back end of `edgecc doctor`, with options: onnx{opset=17}. By default the one that emits what is asked for.", show_default=False)] = None,
    shape: Annotated[list[str] | None, typer.Option(help="Size of a dynamic input or dimension: input=1x3x224x224, batch=1; batch=1..8 leaves it open. Repeatable.", show_default=False)] = None,
    constant: Annotated[list[str] | None, typer.Option(help="Value of an input that is the same in every run, and becomes no input: sr=16000, sizes=640,480 or mask=mask.npy. Repeatable.", show_default=False)] = None,
    limits: Annotated[list[str] | None, typer.Option(help="A limit on untrusted models instead of the usual one: nodes=50000, elements=2e9. Repeatable.", show_default=False)] = None,
    inputs: Annotated[Path | None, typer.Option(help="An .npz file whose arrays give the sizes of dynamic inputs.", show_default=False)] = None,
    threads: Annotated[int, typer.Option(help="Threads a run uses.")] = 1,
    depth_first: Annotated[str, typer.Option(help="auto: run chains of layers stripe by stripe where that saves memory or time; off.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or bf16: what weights and activations are stored and computed in.")] = "fp32",
    keep_fp32: Annotated[list[str] | None, typer.Option(help="A node of the model that keeps fp32. Repeatable.", show_default=False)] = None,
    tuning: Annotated[Path | None, typer.Option(help="A file of `edgecc tune`, whose measurements choose the kernels.", show_default=False)] = None,
    passes: Annotated[str | None, typer.Option(help="Graph passes instead of the default ones: a,b{option=value}.", show_default=False)] = None,
    winograd: Annotated[str, typer.Option(help="auto, or off: convolutions by plain sums only, which round less.")] = "auto",
    integers: Annotated[str, typer.Option(help="auto, or always: layers of quantized models are summed on integers even where floats give the same numbers and are modelled to be faster.")] = "auto",
    checks: Annotated[str, typer.Option(help="Run-time indices outside of their axis: trap ends the run with status 5, clamp moves them, off trusts that there are none.")] = "trap",
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
    dialect: Annotated[str | None, typer.Option(help="With --emit onnx: quantization as a vendor's tool wants it: ort, rknn, qnn, tensorrt or openvino.", show_default=False)] = None,
    cc: Annotated[str | None, typer.Option("--cc", help="The C compiler, for --verify and --emit.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compile a model for a target into a folder, of C if nothing else is asked for."""
    backend = in_dialect(backend, emit, dialect)
    form = select_backend(backend, emit)[1]
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
    fixed = fixed if quantized is None else {}
    with progress(f"compiling {model.name} for {chosen.name}"):
        done = api.compile_for(source, chosen, api.Options(shapes=sizes, constants=fixed, limits=parse_limits(limits or []), inputs=arrays, threads=threads, depth_first=depth_first,
                                                            precision=precision, keep_fp32=keep_fp32 or (),
                                                            passes=passes, verify_each=verify_each,
                                                            self_test=self_test, winograd=winograd, integers=integers, checks=checks, name=name or model.stem,
                                                            tuning=None if tuned is None else tuned.choices), backend, emit)
    if verify:
        with progress("comparing with the reference"):
            api.require_ok(api.verify_compilation(done, inputs=arrays, expected=None, cc=cc))
    with progress("calling the C compiler"):
        artifact = api.finish(done, form, cc)
    folder = artifact.write(output if output is not None else Path(artifact.name))
    for text in (*done.report.notes, *(() if quantized is None else (*quantized.notes, *quantized.quantized.notes))):
        note(text)
    if isinstance(done, api.Division):
        show_division(done.partitioned.artifact, folder, explain=explain, as_json=as_json)
        return
    if isinstance(done, api.Export):
        show_export(artifact, folder, form, as_json=as_json)
        return
    for text in () if tuned is None else gaps(tuned, done.compiled.lowered.requests):
        note(text)
    manifest = artifact.manifest
    choices = choices_of(done.compiled.lowered, NO_TUNING if tuned is None else tuned.choices) if explain else ()
    precisions = precisions_of(choices, done.compiled.precisions)
    kept = left_in_float(done.compiled.passes) if explain else ()
    if as_json:
        print_json({"ok": True, "folder": str(folder), "target": chosen.name, "precision": precision, "name": artifact.name,
                    "arena_bytes": artifact.arena_bytes, "arena_lower_bound": manifest.arena_lower_bound,
                    "weights_bytes": artifact.weights_bytes, "kernels": len(manifest.kernels),
                    "calls": sum(len(use.calls) for use in manifest.kernels), "files": [e.name for e in manifest.files]}
                   | ({"choices": choices_json(choices), "left_in_float": declines_json(kept), "precisions": layers_json(precisions)} if explain else {})
                   | ({} if quantized is None else {"quantization": q.report_json(quantized.quantized)}))
        return
    console = results()
    if print_memory_plan:
        console.print(done.compiled.lowered.plan.to_text())
        for title, plan in done.compiled.lowered.regions:
            console.print(f"{printable(title)}, inside of the arena above\n{plan.to_text()}")
    gap = artifact.arena_bytes - manifest.arena_lower_bound
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("folder", str(folder))
    table.add_row("target", chosen.name)
    if precision != FP32:
        table.add_row("precision", precision)
    table.add_row("arena", f"{human_bytes(artifact.arena_bytes)}, {100 * gap / max(1, manifest.arena_lower_bound):.1f} % above the lower bound")
    table.add_row("weights", human_bytes(artifact.weights_bytes))
    table.add_row("kernels", f"{len(manifest.kernels)} in {sum(len(use.calls) for use in manifest.kernels)} calls")
    show(table)
    if quantized is not None:
        q.show_summary(quantized.quantized)
    if explain:
        console.print()
        if quantized is not None:
            show(q.precisions_table(quantized.quantized))
            console.print()
        show(choices_table(choices))
        if precisions:
            console.print()
            show(layers_table(precisions))
        if kept:
            console.print()
            show(declines_table(kept))


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
