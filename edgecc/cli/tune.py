"""`edgecc tune MODEL --target host -o tuning.json`: choose kernels by measurement."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgecc import api
from edgecc.artifact.toolchain import find_compiler, runs_natively
from edgecc.bench.machine import processor_name
from edgecc.cli import flags, models
from edgecc.cli.arguments import read_arrays, write_text
from edgecc.cli.groups import takes_groups
from edgecc.cli.output import messages, note, print_json, results, show
from edgecc.errors import EdgeccError, printable
from edgecc.tuning.measure import Settings, measure_with, sweep_size
from edgecc.tuning.measure import tune as tune_requests
from edgecc.tuning.record import Record, Tuning, new_tuning, read_for
from edgecc.tuning.requests import tunable

app = typer.Typer(add_completion=False)


@app.command()
@takes_groups
def tune(
    *,
    model: models.Model,
    target: flags.TargetName = "host",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The file to write, or to add to; by default MODEL.tuning.json.", show_default=False)] = None,
    runner: Annotated[str | None, typer.Option(help="A command that runs a program on the target: the path of a static executable and its arguments are appended.", show_default=False)] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure what the file has already too.")] = False,
    seconds: Annotated[float, typer.Option(help="Seconds for each candidate of each kernel.")] = 0.1,
    threads: flags.Threads = 1,
    depth_first: Annotated[str, typer.Option(help="As for compile: auto, or off. Kernels that run in stripes have one way only.")] = "auto",
    binding: models.Binding,
    inputs: flags.SizesFile = None,
    cc: flags.CompilerName = None,
    as_json: flags.AsJson = False,
) -> None:
    """Measure the ways to compute each kernel of a model, and keep which is quickest."""
    chosen = api.resolve_target(target)
    if seconds <= 0:
        raise EdgeccError("E001", f"--seconds wants a positive number, got {seconds:g}", where="edgecc tune")
    if runner is None and not runs_natively(chosen):
        raise EdgeccError("E001", f"kernels for {chosen.name} cannot be measured on this machine", where="edgecc tune",
                          hint="--runner names a command that runs a program on the device; its path and arguments are appended")
    arrays = read_arrays(inputs, "--inputs") if inputs is not None else None
    compiler = find_compiler(chosen, cc)
    path = output if output is not None else Path(f"{model.stem}.tuning.json")
    known = read_for(path, chosen) if path.exists() else new_tuning(chosen, processor_name() if runner is None else "", compiler.version)
    if known.compiler != compiler.version:
        note(f"the file was measured with {printable(known.compiler)}; everything is measured anew")
        known = replace(known, compiler=compiler.version, records={})
    options = replace(binding.options(arrays), threads=threads, depth_first=depth_first)
    done = api.compile_model(model, chosen, options)
    requests, module = done.compiled.lowered.requests, done.compiled.module
    settings = Settings(compiler, tuple(shlex.split(runner or "")), seconds, sweep_size(module.weights_bytes + module.arena_bytes, chosen))
    measured: list[Record] = []

    def observe(record: Record) -> None:
        measured.append(record)
        messages().print(f"{record.op} {', '.join(record.shapes)}: {record.chosen}", soft_wrap=True)

    tuning = tune_requests(known, requests, measure_with(settings), again=again, observer=observe)
    write_text(path, tuning.to_json())
    own = [tuning.records[key] for key in tunable(requests)]
    if as_json:
        print_json({"file": str(path), "target": chosen.name, "measured": len(measured),
                    "kernels": [{"signature": r.signature, "op": r.op, "chosen": r.chosen, "seconds": dict(r.seconds)} for r in own]})
        return
    _print(path, tuning, own, len(measured))


def _print(path: Path, tuning: Tuning, own: list[Record], measured: int) -> None:
    table = Table("op", "operands and results", "chosen", "us by candidate, the cost model's choice first", box=None, pad_edge=False)
    for record in own:
        times = ", ".join(f"{name} {seconds * 1e6:.3g}" for name, seconds in record.seconds.items())
        table.add_row(record.op, " ".join(record.shapes), record.chosen, times)
    if own:
        show(table)
    changed = sum(record.chosen != next(iter(record.seconds)) for record in own)
    results().print(f"{path}: {len(own)} kernels with several candidates, {measured} measured now; for {changed} another than the "
                    f"cost model's choice is quicker; {len(tuning.records)} kernels in the file")
