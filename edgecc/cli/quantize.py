"""`edgecc quantize MODEL --calibration FOLDER|FILE.npz -o Q.onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgecc.cli import quantizing as q
from edgecc.cli.arguments import write_bytes
from edgecc.cli.output import human_bytes, note, print_json, results
from edgecc.errors import EdgeccError, printable
from edgecc.quantization.prepare import OPSET
from edgecc.quantization.scheme import Scheme

app = typer.Typer(add_completion=False)


@app.command(name="quantize")
def command(
    model: Annotated[Path, typer.Argument(help="A float ONNX model.", show_default=False)],
    calibration: q.Calibration = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The quantized model; by default MODEL_int8.onnx in this folder.", show_default=False)] = None,
    method: q.Method = "mse",
    percentile: q.Percentile = 99.99,
    activations: q.Activations = "int8",
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
    target: Annotated[str, typer.Option(help="Whose cost model says what a repair costs.")] = "host",
    pictures: q.Pictures = "fit=crop",
    samples: q.Samples = None,
    shape: Annotated[list[str] | None, typer.Option(help="Size of a dynamic input or dimension: input=1x3x224x224, batch=1; batch=1..8 leaves it open. Repeatable.", show_default=False)] = None,
    opset: Annotated[int, typer.Option(help="Of the quantized model.")] = OPSET,
    report: Annotated[bool, typer.Option("--report", help="Find out and print what each layer's quantization does to the outputs, and the precision of each layer.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Quantize a float model after training."""
    if calibration is None:
        raise EdgeccError("E001", "--calibration is missing", where="edgecc quantize", hint="give data that is like what the model will see")
    scheme = Scheme(activations=activations, symmetric=symmetric, per_channel=not per_tensor, method=method, percentile=percentile,
                    equalize=equalize, correct_bias=bias_correction, round_adaptively=adaptive_rounding,
                    exclude=frozenset(exclude or ()), wide=frozenset(wide or ()))
    settings = q.Settings(calibration, scheme, pictures, samples, min_sqnr, max_accuracy_drop, labels, label_offset, metric, validation)
    path = output if output is not None else Path(f"{model.stem}_{activations}.onnx")
    done = q.quantized(model, settings, shape or [], target=target, opset=opset, rank=report)
    content = done.quantized.model.SerializeToString(deterministic=True)
    write_bytes(path, content)
    for text in (*done.notes, *done.quantized.notes):
        note(text)
    if as_json:
        print_json({"model": str(path), "bytes": len(content), "samples": done.samples} | q.report_json(done.quantized))
        return
    results().print(f"{printable(str(path))}: {human_bytes(len(content))}, calibrated on {done.samples} sample{'s' if done.samples != 1 else ''}")
    q.show_report(done.quantized)
    q.show_summary(done.quantized)
