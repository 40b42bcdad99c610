"""`edgecc prune MODEL --sparsity 0.5 -o P.onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgecc import api
from edgecc.cli import flags, models
from edgecc.cli import quantizing as q
from edgecc.cli.arguments import read_arrays, write_bytes
from edgecc.cli.groups import takes_groups
from edgecc.cli.output import human_bytes, note, print_json, results, show
from edgecc.errors import EdgeccError, printable
from edgecc.quantization.accuracy import Goal
from edgecc.quantization.compress import compare, prune_model
from edgecc.quantization.data import open_data
from edgecc.quantization.pictures import parse_preprocessing

app = typer.Typer(add_completion=False)


@app.command(name="prune")
@takes_groups
def command(
    *,
    model: models.FloatModel,
    sparsity: Annotated[float, typer.Option(help="The share of weights, or of channels, that go.")] = 0.5,
    channels: Annotated[bool, typer.Option("--channels", help="Remove whole channels between convolutions, instead of setting weights to zero.")] = False,
    block: Annotated[int, typer.Option(help="Neighbouring output channels whose weights go together; kernels skip blocks of 16.")] = 16,
    calibration: Annotated[Path | None, q.for_data(help="Data to measure the effect on: an .npz file, a folder of them, or of pictures.", show_default=False)] = None,
    labels: q.Labels = None,
    label_offset: q.LabelOffset = 0,
    pictures: q.Pictures = "fit=crop",
    samples: q.Samples = None,
    target: Annotated[str, typer.Option(help="Whose cost model tells what is gained.")] = "host",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The pruned model; by default MODEL_pruned.onnx in this folder.", show_default=False)] = None,
    binding: models.Binding,
    as_json: flags.AsJson = False,
) -> None:
    """Prune a float model by the magnitude of weights or channels, and tell the effect. Nothing is retrained."""
    if not 0 < sparsity <= 1 or block < 1:
        raise EdgeccError("E001", "--sparsity is above 0 and at most 1, --block at least 1", where="edgecc prune")
    passes = f"prune-channels{{sparsity={sparsity}}}" if channels else f"prune-magnitude{{sparsity={sparsity},block={block}}}"
    path = output if output is not None else Path(f"{model.stem}_pruned.onnx")
    options = binding.options()
    done = prune_model(model, passes, api.resolve_target(target), shapes=options.shapes, limits=options.limits, constants=options.constants)
    content = done.model.SerializeToString(deterministic=True)
    effect: dict[str, object] = {"sparsity": 1 - done.after.nonzero / max(1, done.after.weights)}
    for what in ("weights", "nonzero", "multiply_adds", "cycles"):
        effect[what] = [getattr(done.before, what), getattr(done.after, what)]
    if calibration is not None:
        data = open_data(calibration, done.network, parse_preprocessing(pictures), lambda file: read_arrays(file, "--calibration"), limit=samples)
        goal = Goal(labels=None if labels is None else q.labels_for(labels, data, done.network, label_offset))
        ratios, scores = compare(done.network, done.model, data, goal, lambda: None)
        effect |= {"outputs": [{"name": name, "snr_db": q.finite(ratio)} for name, ratio in ratios.items()]}
        effect |= {} if scores is None else {"score": {"float": scores[0], "pruned": scores[1]}}
    write_bytes(path, content)
    if as_json:
        print_json({"model": str(path), "bytes": len(content), "effect": effect, "left": list(done.notes)})
        return
    for text in done.notes:
        note(text)
    console = results()
    console.print(f"{printable(str(path))}: {human_bytes(len(content))}, {100 * float(str(effect['sparsity'])):.1f} % of the weights are zero")
    table = Table("", "before", "after", box=None, pad_edge=False)
    for what, title in (("weights", "weights"), ("nonzero", "not zero"), ("multiply_adds", "multiply-adds"), ("cycles", f"modelled cycles, {target}")):
        table.add_row(title, *(f"{number:,.0f}" for number in (getattr(done.before, what), getattr(done.after, what))))
    show(table)
    if calibration is not None:
        for name, ratio in ratios.items():
            console.print(f"output {printable(name)}: {ratio:.1f} dB signal to noise")
        if scores is not None:
            console.print(f"score: {100 * scores[1]:.2f}, of the float model {100 * scores[0]:.2f}")
