"""`edgecc bench MODEL --against onnxruntime`: time of one inference on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from edgecc import api
from edgecc.bench.layers import Layer, kernels_of
from edgecc.bench.machine import Machine
from edgecc.bench.process import PEERS
from edgecc.bench.session import PROFILED, Comparison, Request, Row, compare
from edgecc.cli import compiling, flags, models
from edgecc.cli.arguments import read_arrays
from edgecc.cli.groups import names_of, takes_groups
from edgecc.cli.output import note, print_json, progress, results, show
from edgecc.errors import EXIT_MISMATCH, EXIT_OK, EdgeccError, printable
from edgecc.reference.compare import ROUNDOFFS
from edgecc.targets.precision import precision_type

app = typer.Typer(add_completion=False)

SLOWEST_KERNELS = 5

TOLERANCE = 1e-2
"""Engines differ by fast paths; with bf16 what `edgecc verify` allows is more."""


@app.command()
@takes_groups
def bench(
    context: typer.Context,
    *,
    model: Annotated[Path, typer.Argument(metavar="MODEL|DIR", help="An ONNX model, or a compiled folder.", show_default=False)],
    target: Annotated[str, typer.Option(help="What to compile a model for; it must run on this machine.")] = "host",
    against: Annotated[str | None, typer.Option(help=f"Engines to compare with, commas between them: {', '.join(PEERS)}.", show_default=False)] = None,
    rounds: Annotated[int, typer.Option(help="Undisturbed turns every engine shall have.")] = 8,
    turn: Annotated[float, typer.Option(help="Seconds of a turn.")] = 0.25,
    limit: Annotated[float, typer.Option(help="Seconds after which to stop waiting for undisturbed turns.")] = 60.0,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="Show the time of every kernel call.")] = False,
    code: compiling.Code,
    binding: models.Binding,
    inputs: flags.InputsFile = None,
    tolerance: Annotated[float | None, typer.Option(help="Largest difference of a right result, over the output's largest magnitude; by default 0.01, with bf16 0.0625.", show_default=False)] = None,
    python: Annotated[str | None, typer.Option(help="The Python interpreter that has the other engines; this one by default.", show_default=False)] = None,
    cc: flags.CompilerName = None,
    as_json: flags.AsJson = False,
) -> int:
    """Measure the time of one inference on this machine, and that of other engines."""
    compiling.refuse_idle_precision(context, code.precision)
    if rounds < 1 or turn <= 0 or limit < 0 or code.threads < 1:
        raise EdgeccError("E001", "--rounds, --turn and --threads want positive numbers, --limit none below zero", where="edgecc bench")
    if model.is_dir():
        flags.refuse_given(context, names_of(models.Binding), "with a compiled folder")
    arrays = read_arrays(inputs, "--inputs") if inputs is not None else None
    chosen = api.resolve_target(target)
    options = code.options(binding.options(arrays), code.tuned(chosen))
    allowed = max(TOLERANCE, ROUNDOFFS * precision_type(code.precision, chosen).unit_roundoff) if tolerance is None else tolerance
    request = Request(model, chosen, options, tuple(name for name in (against or "").split(",") if name), python, per_layer, rounds, turn, limit, cc,
                      allowed)
    with progress(f"measuring {model.name}"):
        found = compare(request)
    wrong = any(row.wrong for row in found.rows if row.engine in ("edgecc", PROFILED))
    if as_json:
        print_json(_to_json(found))
    else:
        _print(found)
    if wrong:
        note("the compiled model's outputs are wrong: its times mean nothing")
    return EXIT_MISMATCH if wrong else EXIT_OK


def _print(found: Comparison) -> None:
    work = "" if found.multiply_adds is None else f"; {found.multiply_adds / 1e6:.2f} M multiply-adds"
    console = results()
    console.print(f"{found.machine}")
    console.print(f"{found.threads} thread{'s' if found.threads > 1 else ''}{work}; edgecc's code compiled with {found.compiler}")
    show(_engines_table(found))
    for row in found.rows:
        if row.error:
            note(f"{row.engine} {row.version}: {row.error}")
        elif not row.quiet_turns:
            note(f"{row.engine}: no turn was undisturbed by other processes; these figures are of disturbed ones")
    if found.layers:
        console.print()
        show(_layers_table(found.layers, found.machine, found.threads))
        console.print()
        for kernel in kernels_of(found.layers)[:SLOWEST_KERNELS]:
            console.print(f"{kernel.share:6.1%}  {kernel.kernel}: {kernel.seconds * 1e6:.2f} us in {kernel.calls} "
                          f"call{'s' if kernel.calls > 1 else ''}{_of_peak(kernel.multiply_adds, kernel.seconds, found)}")


def _of_peak(multiply_adds: int, seconds: float, found: Comparison) -> str:
    if not multiply_adds or seconds <= 0:
        return ""
    return f", {2 * multiply_adds / seconds / (found.machine.peak_flops * found.threads):.0%} of the peak"


def _engines_table(found: Comparison) -> Table:
    table = Table("engine", "version", box=None, pad_edge=False)
    for name in ("min ms", "median ms", "spread", "GFLOP/s", "of peak", "of the best other", "difference", "quiet turns", "memory MB"):
        table.add_column(name, justify="right")
    others = [row.minimum for row in found.rows if _is_peer(row) and not row.error and not row.wrong]
    for row in found.rows:
        if row.error:
            table.add_row(row.engine, row.version, "failed")
            continue
        flops = 0.0 if not found.multiply_adds else 2 * found.multiply_adds / row.minimum
        table.add_row(
            row.engine, row.version, _milliseconds(row.minimum), _milliseconds(row.median), f"{row.spread:.1%}",
            f"{flops * 1e-9:.1f}" if flops else "-", f"{flops / (found.machine.peak_flops * found.threads):.1%}" if flops else "-",
            f"{row.minimum / min(others):.2f}" if others and not _is_peer(row) else "-",
            "WRONG" if row.wrong else f"{row.difference:.1e}", f"{row.quiet_turns}/{row.turns}",
            f"{row.memory_bytes / 1e6:.1f}" if row.memory_bytes else "-")
    return table


def _is_peer(row: Row) -> bool:
    return row.engine in PEERS


def _layers_table(layers: Sequence[Layer], machine: Machine, threads: int) -> Table:
    table = Table("call", "nodes", "op", "kernel", box=None, pad_edge=False)
    for name in ("us", "share", "M multiply-adds", "GFLOP/s", "of peak", "KiB moved"):
        table.add_column(name, justify="right")
    table.add_column("choice")
    for layer in sorted(layers, key=lambda layer: (-layer.least, layer.position)):
        counted = layer.multiply_adds > 0
        table.add_row(
            str(layer.position), _shortened(layer.nodes), layer.op, layer.kernel, f"{layer.least * 1e6:.2f}", f"{layer.share:.1%}",
            f"{layer.multiply_adds / 1e6:.3f}" if counted else "-", f"{layer.flops * 1e-9:.1f}" if counted else "-",
            f"{layer.flops / (machine.peak_flops * threads):.0%}" if counted else "-", f"{layer.bytes_moved / 1024:.1f}", layer.choice)
    return table


def _shortened(nodes: Sequence[str]) -> str:
    first = printable(nodes[0], 40)
    return first if len(nodes) == 1 else f"{first} +{len(nodes) - 1}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.4f}" if seconds < 1e-3 else f"{seconds * 1e3:.3f}"


def _to_json(found: Comparison) -> dict[str, Any]:
    peak = found.machine.peak_flops
    return {
        "machine": {"processor": found.machine.processor, "cores": found.machine.cores, "peak_gflops": peak * 1e-9},
        "compiler": found.compiler, "threads": found.threads, "multiply_adds": found.multiply_adds,
        "arena_bytes": found.arena_bytes, "arena_lower_bound": found.arena_lower_bound, "weights_bytes": found.weights_bytes,
        "compared_with": found.expected_from,
        "engines": [{"engine": row.engine, "version": row.version, "error": row.error} if row.error else
                    {"engine": row.engine, "version": row.version, "min_ms": row.minimum * 1e3, "median_ms": row.median * 1e3,
                     "spread": row.spread, "runs": row.runs, "quiet_turns": row.quiet_turns, "turns": row.turns,
                     "difference": min(row.difference, sys.float_info.max), "wrong": row.wrong, "load_seconds": row.load_seconds,
                     "memory_bytes": row.memory_bytes} for row in found.rows],
        "layers": [{**asdict(layer), "gflops": layer.flops * 1e-9, "share_of_peak": layer.flops / (peak * found.threads)}
                   for layer in found.layers],
    }
