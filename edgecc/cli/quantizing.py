"""What `edgecc quantize` and `edgecc compile --quantize` share: their options, and the work behind them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from edgecc import api
from edgecc.cli.arguments import read_arrays
from edgecc.cli.groups import names_of
from edgecc.cli.output import messages, results, show
from edgecc.errors import EdgeccError, printable
from edgecc.quantization.accuracy import Goal, Label, labels_of, metric_named, read_labels
from edgecc.quantization.data import CalibrationData, open_data
from edgecc.quantization.driver import Quantized, no_progress, quantize
from edgecc.quantization.network import Network
from edgecc.quantization.observe import finisher
from edgecc.quantization.pictures import parse_preprocessing
from edgecc.quantization.prepare import BYTES_OPSET, OPSET, Prepared, prepared
from edgecc.quantization.scheme import METHODS, Scheme
from edgecc.quantization.weight_only import WeightQuantized, WeightScheme, quantize_weights

_option = partial(typer.Option, rich_help_panel="Quantization")
for_data = partial(typer.Option, rich_help_panel="Data")

Method = Annotated[str, _option(metavar="METHOD", help=f"How ranges are chosen: {', '.join(METHODS)}.")]
Labels = Annotated[Path | None, for_data(help="The class of each sample: a .csv file with file names and classes, or one class a line.", show_default=False)]
LabelOffset = Annotated[int, for_data(help="Added to every class of --labels.")]
Pictures = Annotated[str, for_data(metavar="KEY=VALUE,...", help="How pictures become inputs, with commas between: fit=crop|stretch|pad resize=256 channels=rgb|bgr|gray mean=0 std=255 layout=nchw|nhwc.")]
Samples = Annotated[int | None, for_data(help="Use no more than so many samples.", show_default=False)]

COMPILED = ("int8", "int16")
"""Types of activations that a model can be quantized to on its way to code."""


@dataclass(frozen=True)
class Options:
    """The flags of a quantization."""

    calibration: Annotated[Path | None, for_data(help="An .npz file, a folder of them, or a folder of pictures.", show_default=False)] = None
    percentile: Annotated[float, _option(help="With --method percentile: the share of values within the range, in percent.")] = 99.999
    symmetric: Annotated[bool, _option("--symmetric", help="Zero points of activations are 0.")] = False
    per_tensor: Annotated[bool, _option("--per-tensor", help="One scale for all output channels of a layer's weights.")] = False
    equalize: Annotated[bool, _option("--equalize", help="Equalize the ranges of channels between layers first.")] = False
    bias_correction: Annotated[bool, _option("--bias-correction/--no-bias-correction", help="Take the mean error of rounded weights out of the biases.")] = True
    adaptive_rounding: Annotated[bool, _option("--adaptive-rounding", help="Round weights so that results change least; takes longer.")] = False
    exclude: Annotated[list[str] | None, _option(metavar="NODE", help="A node that stays in float. Repeatable.", show_default=False)] = None
    wide: Annotated[list[str] | None, _option(metavar="NAME", help="A node whose result is int16, or an input of the model that is. Repeatable.", show_default=False)] = None
    min_sqnr: Annotated[float | None, _option(help="Decibels of signal to noise that every output shall have: values become int16 and layers float, the cheapest for what it gains first, until it has.", show_default=False)] = None
    max_accuracy_drop: Annotated[float | None, _option(help="Points that the share of right classes (in percent), or 100 times the metric, may fall below the float model's; repaired like --min-sqnr. Without --labels the float model's classes are right.", show_default=False)] = None
    labels: Labels = None
    label_offset: LabelOffset = 0
    metric: Annotated[str | None, _option("--metric", metavar="MODULE:FUNCTION", help="package.module:function(outputs, float_outputs, label) -> score, instead of the share of right classes.", show_default=False)] = None
    validation: Annotated[Path | None, for_data(help="Data that accuracy is measured on, if not --calibration.", show_default=False)] = None
    pictures: Pictures = "fit=crop"
    samples: Samples = None

    def scheme(self, activations: str, method: str) -> Scheme:
        """How values of type `activations` are quantized. Raises: EdgeccError E001."""
        return Scheme(activations=activations, symmetric=self.symmetric, per_channel=not self.per_tensor, method=method, percentile=self.percentile,
                      equalize=self.equalize, correct_bias=self.bias_correction, round_adaptively=self.adaptive_rounding,
                      exclude=frozenset(self.exclude or ()), wide=frozenset(self.wide or ()))


ONLY_QUANTIZING = names_of(Options) | {"method"}
"""Parameters that mean nothing where nothing is quantized."""

ONLY_SCHEME = names_of(Options) - {"calibration", "symmetric", "exclude", "pictures", "samples"} | {"activations"}
"""Parameters that say how activations are quantized, and how the result is judged."""


@dataclass(frozen=True)
class Done:
    """A quantized model, the number of samples it was calibrated on, and what the importer noted."""

    quantized: Quantized
    samples: int
    notes: tuple[str, ...]


def quantized(model: Path, options: Options, scheme: Scheme, reading: api.Options, *, target: str, opset: int = BYTES_OPSET,
              rank: bool = False, not_slower: bool = False) -> Done:
    """Quantizes a model file; with `not_slower` layers that are modelled to be slower in 8 bits stay in float.

    Args:
        reading: says how the model is read.
    Raises: EdgeccError E001 for options that do not fit, E007 for data that does not, and what the parts raise.
    """
    if options.calibration is None:
        raise EdgeccError("E001", "--calibration is missing", where="edgecc quantize", hint="give data that is like what the model will see")
    if options.samples is not None and options.samples < 1:
        raise EdgeccError("E001", f"--samples is {options.samples}, wanted at least 1", where="--samples")
    for flag, bound in (("--min-sqnr", options.min_sqnr), ("--max-accuracy-drop", options.max_accuracy_drop)):
        if bound is not None and not math.isfinite(bound):
            raise EdgeccError("E001", f"{bound} is no bound", where=flag)
    if options.max_accuracy_drop is not None and options.max_accuracy_drop < 0:
        raise EdgeccError("E001", f"{options.max_accuracy_drop} asks for more than the float model reaches; wanted 0 or more", where="--max-accuracy-drop")
    if options.max_accuracy_drop is None and (options.labels or options.metric or options.validation):
        raise EdgeccError("E001", "--labels, --metric and --validation say what --max-accuracy-drop means, which is not given", where="--max-accuracy-drop")
    how = parse_preprocessing(options.pictures)
    chosen = api.resolve_target(target)
    ready = _prepared(model, reading, opset)
    network = ready.network

    def opened(path: Path, option: str, limit: int | None) -> CalibrationData:
        return open_data(path, network, how, lambda file: read_arrays(file, option), limit=limit)

    data = opened(options.calibration, "--calibration", options.samples)
    judged = data if options.validation is None else opened(options.validation, "--validation", None)
    goal = _goal(options, judged, network)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(_bars())
        if ready.rest is not None and goal.metric is not None:
            goal = replace(goal, finish=stack.enter_context(finisher(ready.rest, network)))
        done = quantize(network, data, scheme, progress, goal=goal, validation=judged, target=chosen, rank=rank, not_slower=not_slower)
    return Done(done if ready.rest is None else replace(done, model=ready.rest.attached(done.model)), len(data), ready.notes)


def _prepared(model: Path, reading: api.Options, opset: int) -> Prepared:
    return prepared(model, shapes=reading.shapes, inputs=reading.inputs, limits=reading.limits, constants=reading.constants, opset=opset)


def _goal(options: Options, judged: CalibrationData, network: Network) -> Goal:
    """What the quantized network shall reach on the data it is judged by."""
    drop = None if options.max_accuracy_drop is None else options.max_accuracy_drop / 100
    labels = None if options.labels is None else labels_for(options.labels, judged, network, options.label_offset)
    return Goal(options.min_sqnr, drop, labels, None if options.metric is None else metric_named(options.metric))


def labels_for(path: Path, data: CalibrationData, network: Network, offset: int) -> Sequence[Label]:
    """The label of each sample, or of each row of the first output where a sample has several.

    Raises: EdgeccError E007 where the file does not fit.
    """
    _, shape = network.types[network.outputs[0]]
    rows = shape[0] if len(shape) > 1 else 1
    names = [file.name for file in data.files] if len(data.files) == len(data) * rows else None
    return labels_of(read_labels(path, names, len(data) * rows, offset), rows)


def weights_quantized(model: Path, options: Options, scheme: WeightScheme, reading: api.Options, *, opset: int = OPSET) -> WeightQuantized:
    """Quantizes the weights of a model file's matrix products.

    Raises: EdgeccError as `quantized`.
    """
    ready = _prepared(model, reading, opset)
    data, network = None, ready.network
    if options.calibration is not None:
        data = open_data(options.calibration, network, parse_preprocessing(options.pictures), lambda file: read_arrays(file, "--calibration"),
                         limit=options.samples)
    with _bars() as progress:
        done = quantize_weights(network, scheme, data, progress)
    return done if ready.rest is None else replace(done, model=ready.rest.attached(done.model))


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


def report_json(done: Quantized) -> dict[str, object]:
    """Errors, causes, the ranking and what was decided for each layer, as JSON has them."""
    found: dict[str, object] = {
        "outputs": [{"name": name, "snr_db": finite(ratio)} for name, ratio in done.outputs.items()],
        "values": [{"name": v.name, "layer": v.layer, "operator": v.operator, "own_db": finite(v.own), "clipping_share": v.clipping,
                    "weights_db": None if v.weights is None else finite(v.weights), "total_db": finite(v.total),
                    "cause": v.cause} for v in done.values],
        "sensitivity": [{"node": s.node, "value": s.value, "source": s.kind, "output_db": finite(s.ratio)} for s in done.sources],
        "layers": [{"layer": c.layer, "operator": c.operator, "precision": c.precision, "reason": c.reason} for c in done.layers]}
    if done.scores is not None:
        found["score"] = {"float": done.scores[0], "quantized": done.scores[1]}
    return found


def finite(ratio: float) -> float:
    """Decibels as JSON has numbers: no infinity."""
    return max(-1000.0, min(1000.0, ratio))


def show_report(done: Quantized) -> None:
    """The errors of all values as a table, the worst first, then the ranking and the precisions where they were found out."""
    console = results()
    table = Table("layer", "operator", "own scale dB", "clipping", "weights dB", "found dB", "cause", box=None, pad_edge=False)
    for column in (2, 3, 4, 5):
        table.columns[column].justify = "right"
    for v in sorted(done.values, key=lambda v: v.total):
        table.add_row(printable(v.layer, 60), v.operator, f"{v.own:.1f}", f"{100 * v.clipping:.0f} %", "-" if v.weights is None else f"{v.weights:.1f}",
                      f"{v.total:.1f}", v.cause)
    show(table)
    if done.sources:
        console.print("\nnoise at the outputs if only this were quantized, the worst first")
        ranking = Table("node", "source", "output dB", box=None, pad_edge=False)
        for source in done.sources:
            ranking.add_row(printable(source.node, 60), source.kind, f"{finite(source.ratio):.1f}")
        show(ranking)
        console.print()
        show(precisions_table(done))


def precisions_table(done: Quantized) -> Table:
    """The precision of each layer, and why."""
    table = Table("layer", "operator", "precision", "why", box=None, pad_edge=False)
    for choice in done.layers:
        table.add_row(printable(choice.layer, 60), choice.operator, choice.precision, printable(choice.reason, 160))
    return table


def show_summary(done: Quantized) -> None:
    """The signal to noise of each output, and scores."""
    console = results()
    for name, ratio in done.outputs.items():
        console.print(f"output {printable(name)}: {ratio:.1f} dB signal to noise")
    if done.scores is not None:
        console.print(f"score: {100 * done.scores[1]:.2f}, of the float model {100 * done.scores[0]:.2f}")
