"""`edgecc quantize MODEL --calibration FOLDER|FILE.npz -o Q.onnx`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from edgecc.cli.arguments import parse_shapes, read_arrays, write_bytes
from edgecc.cli.output import human_bytes, messages, note, print_json, results, show
from edgecc.errors import EdgeccError, printable
from edgecc.quantization.data import open_data, parse_preprocessing
from edgecc.quantization.driver import Quantized, no_progress, quantize
from edgecc.quantization.prepare import OPSET, prepared
from edgecc.quantization.scheme import METHODS, TYPES, Scheme

app = typer.Typer(add_completion=False)


@app.command(name="quantize")
def command(
    model: Annotated[Path, typer.Argument(help="A float ONNX model.", show_default=False)],
    calibration: Annotated[Path, typer.Option(help="An .npz file, a folder of them, or a folder of pictures.", show_default=False)],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The quantized model; by default MODEL_int8.onnx in this folder.", show_default=False)] = None,
    method: Annotated[str, typer.Option(help=f"How ranges are chosen: {', '.join(METHODS)}.")] = "mse",
    percentile: Annotated[float, typer.Option(help="With --method percentile: the share of values within the range, in percent.")] = 99.99,
    activations: Annotated[str, typer.Option(help=f"Type of activations: {', '.join(TYPES)}.")] = "int8",
    symmetric: Annotated[bool, typer.Option("--symmetric", help="Zero points of activations are 0.")] = False,
    per_tensor: Annotated[bool, typer.Option("--per-tensor", help="One scale for all output channels of a layer's weights.")] = False,
    equalize: Annotated[bool, typer.Option("--equalize", help="Equalize the ranges of channels between layers first.")] = False,
    bias_correction: Annotated[bool, typer.Option("--bias-correction/--no-bias-correction", help="Take the mean error of rounded weights out of the biases.")] = True,
    adaptive_rounding: Annotated[bool, typer.Option("--adaptive-rounding", help="Round weights so that results change least; takes longer.")] = False,
    exclude: Annotated[list[str] | None, typer.Option(help="A node that stays in float. Repeatable.", show_default=False)] = None,
    wide: Annotated[list[str] | None, typer.Option(help="A node whose result is int16, or an input of the model that is. Repeatable.", show_default=False)] = None,
    min_sqnr: Annotated[float | None, typer.Option(help="Decibels of signal to noise that every output shall have: widens values to int16, then leaves layers in float, until it has.", show_default=False)] = None,
    pictures: Annotated[str, typer.Option(help="How pictures become inputs: fit=crop|stretch|pad,resize=256,channels=rgb|bgr|gray,mean=0,std=255,layout=nchw|nhwc.")] = "fit=crop",
    samples: Annotated[int | None, typer.Option(help="Use no more than so many samples.", show_default=False)] = None,
    shape: Annotated[list[str] | None, typer.Option(help="Size of a dynamic input or dimension: input=1x3x224x224, batch=1; batch=1..8 leaves it open. Repeatable.", show_default=False)] = None,
    opset: Annotated[int, typer.Option(help="Of the quantized model.")] = OPSET,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Quantize a float model after training."""
    if samples is not None and samples < 1:
        raise EdgeccError("E001", f"--samples is {samples}, wanted at least 1", where="edgecc quantize")
    scheme = Scheme(activations=activations, symmetric=symmetric, per_channel=not per_tensor, method=method, percentile=percentile,
                    equalize=equalize, correct_bias=bias_correction, round_adaptively=adaptive_rounding,
                    exclude=frozenset(exclude or ()), wide=frozenset(wide or ()))
    how = parse_preprocessing(pictures)
    target = output if output is not None else Path(f"{model.stem}_{activations}.onnx")
    network, notes = prepared(model, shapes=parse_shapes(shape or []), opset=opset)
    data = open_data(calibration, network, how, lambda file: read_arrays(file, "--calibration"), limit=samples)
    with _bars() as progress:
        done = quantize(network, data, scheme, progress, least_ratio=min_sqnr)
    content = done.model.SerializeToString(deterministic=True)
    write_bytes(target, content)
    for text in (*notes, *done.notes):
        note(text)
    if as_json:
        print_json(_json(done, target, len(data), len(content)))
    else:
        _show(done, target, len(data), len(content))


@contextlib.contextmanager
def _bars() -> Iterator[Callable[[str, int], Callable[[], None]]]:
    """A progress bar for each part of the work, on a terminal only."""
    console = messages()
    if not console.is_terminal:
        yield no_progress
        return
    with Progress(console=console, transient=True) as bars:
        def begin(what: str, steps: int) -> Callable[[], None]:
            task = bars.add_task(what, total=steps)
            return lambda: bars.advance(task)
        yield begin


def _json(done: Quantized, target: Path, samples: int, size: int) -> dict[str, object]:
    return {"model": str(target), "bytes": size, "samples": samples,
            "outputs": [{"name": name, "snr_db": _finite(ratio)} for name, ratio in done.outputs.items()],
            "values": [{"name": v.name, "layer": v.layer, "operator": v.operator, "own_db": _finite(v.own), "clipping_share": v.clipping,
                        "weights_db": None if v.weights is None else _finite(v.weights), "total_db": _finite(v.total),
                        "cause": v.cause} for v in done.values]}


def _finite(ratio: float) -> float:
    """Decibels as JSON has numbers: no infinity."""
    return max(-1000.0, min(1000.0, ratio))


def _show(done: Quantized, target: Path, samples: int, size: int) -> None:
    console = results()
    console.print(f"{printable(str(target))}: {human_bytes(size)}, calibrated on {samples} sample{'s' if samples != 1 else ''}")
    table = Table("layer", "operator", "own scale dB", "clipping", "weights dB", "found dB", "cause", box=None, pad_edge=False)
    for column in (2, 3, 4, 5):
        table.columns[column].justify = "right"
    for v in sorted(done.values, key=lambda v: v.total):
        table.add_row(printable(v.layer, 60), v.operator, f"{v.own:.1f}", f"{100 * v.clipping:.0f} %", "-" if v.weights is None else f"{v.weights:.1f}",
                      f"{v.total:.1f}", v.cause)
    show(table)
    for name, ratio in done.outputs.items():
        console.print(f"output {printable(name)}: {ratio:.1f} dB signal to noise")
