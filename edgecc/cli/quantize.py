"""`edgecc quantize MODEL --calibration FOLDER|FILE.npz -o Q.onnx`, or with --weights only the weights of matrix products."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgecc.cli import flags, models
from edgecc.cli import quantizing as q
from edgecc.cli.arguments import write_bytes
from edgecc.cli.groups import takes_groups
from edgecc.cli.output import human_bytes, note, print_json, results, show
from edgecc.errors import EdgeccError, printable
from edgecc.quantization.blocks import BlockForm
from edgecc.quantization.prepare import BYTES_OPSET, OPSET
from edgecc.quantization.scheme import METHODS, TYPES
from edgecc.quantization.weight_only import BLOCKS, FORMATS, WEIGHT_METHODS, WeightQuantized, WeightScheme

app = typer.Typer(add_completion=False)

WEIGHT_BITS = {"int4": 4, "int8": 8}

ONLY_WEIGHTS = frozenset({"block_size", "output_format", "quantize_operands"})
"""Parameters that mean nothing without --weights."""


@app.command(name="quantize")
@takes_groups
def command(
    context: typer.Context,
    *,
    model: models.FloatModel,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The quantized model; by default MODEL_int8.onnx in this folder.", show_default=False)] = None,
    method: Annotated[str | None, typer.Option(help=f"How ranges are chosen: {', '.join(METHODS)} (mse if not given). With --weights how weights are rounded: {', '.join(WEIGHT_METHODS)} (gptq, or rtn without --calibration).", show_default=False)] = None,
    weights: Annotated[str | None, typer.Option(help="int4 or int8: only the weights of matrix products, with a scale for each block of terms; activations stay float.", show_default=False)] = None,
    block_size: Annotated[int, typer.Option(help=f"With --weights: terms that share a scale, one of {', '.join(map(str, BLOCKS))}.")] = 32,
    output_format: Annotated[str, typer.Option("--format", help=f"With --weights: {' or '.join(FORMATS)} (DequantizeLinear in front of MatMul).")] = "matmulnbits",
    quantize_operands: Annotated[bool, typer.Option("--quantize-operands", help="With --weights: products may quantize their operand to 8 bits as they run (accuracy_level 4).")] = False,
    activations: Annotated[str, typer.Option(metavar="|".join(TYPES), help="Type of activations.")] = "int8",
    quantization: q.Options,
    target: Annotated[str, typer.Option(help="Whose cost model says what a repair costs.")] = "host",
    binding: models.Binding,
    opset: Annotated[int | None, typer.Option(help=f"Of the quantized model; if not given {BYTES_OPSET}, or {OPSET} where weights have blocks; at least {OPSET} where values have 16 bits.", show_default=False)] = None,
    report: Annotated[bool, typer.Option("--report", help="Find out and print what each layer's quantization does to the outputs, and the precision of each layer.")] = False,
    as_json: flags.AsJson = False,
) -> None:
    """Quantize a float model after training."""
    path = output if output is not None else Path(f"{model.stem}_{weights or activations}.onnx")
    if weights is None:
        flags.refuse_given(context, ONLY_WEIGHTS, "without --weights")
    else:
        flags.refuse_given(context, q.ONLY_SCHEME, "with --weights, which leaves activations in float")
        flags.note_given(context, {"target", "report"}, "with --weights")
        if weights not in WEIGHT_BITS:
            raise EdgeccError("E001", f"--weights {printable(weights)!r} is not one of {', '.join(WEIGHT_BITS)}", where="edgecc quantize")
        way = method or ("rtn" if quantization.calibration is None else "gptq")
        chosen = WeightScheme(BlockForm(WEIGHT_BITS[weights], block_size, quantization.symmetric), way, output_format, quantize_operands,
                              frozenset(quantization.exclude or ()))
        report_weights(q.weights_quantized(model, quantization, chosen, binding.options(), opset=opset or OPSET), path, as_json=as_json)
        return
    scheme = quantization.scheme(activations, method or "mse")
    done = q.quantized(model, quantization, scheme, binding.options(), target=target, opset=opset or BYTES_OPSET, rank=report)
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


def report_weights(done: WeightQuantized, path: Path, *, as_json: bool) -> None:
    """Writes a model with quantized weights, and prints what each product lost where there was data to tell."""
    content = done.model.SerializeToString(deterministic=True)
    write_bytes(path, content)
    if as_json:
        print_json({"model": str(path), "bytes": len(content), "layers": [
            {"layer": w.layer, "terms": w.terms, "channels": w.channels, "product_db": None if w.ratio is None else q.finite(w.ratio),
             "nearest_db": None if w.nearest is None else q.finite(w.nearest)} for w in done.layers]})
        return
    results().print(f"{printable(str(path))}: {human_bytes(len(content))}, weights of {len(done.layers)} product{'s' if len(done.layers) != 1 else ''}")
    table = Table("layer", "terms", "channels", "product dB", "rounded to nearest dB", box=None, pad_edge=False)
    for w in done.layers:
        table.add_row(printable(w.layer, 60), str(w.terms), str(w.channels), *("-" if ratio is None else f"{q.finite(ratio):.1f}" for ratio in (w.ratio, w.nearest)))
    show(table)
