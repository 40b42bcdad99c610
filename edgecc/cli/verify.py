"""`edgecc verify MODEL --target NAME`: does the compiled model compute what it should?"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from edgecc import api
from edgecc.cli import compiling, flags, models
from edgecc.cli.arguments import in_dialect, read_arrays
from edgecc.cli.division import show_summary
from edgecc.cli.groups import takes_groups
from edgecc.cli.output import human_bytes, note, print_json, progress, results, show
from edgecc.errors import EXIT_MISMATCH, EXIT_OK, EdgeccError, printable
from edgecc.ir.types import DType
from edgecc.reference.sensitivity import FACTOR, Allowance
from edgecc.targets.precision import FP32

app = typer.Typer(add_completion=False)

SATURATED = ("outputs that onnxruntime computed on x86-64 without VNNI may be wrong: its products of u8 by s8 saturate there at 16 bits; "
             "the session entry session.x64quantprecision=1 makes those by stored weights exact")
"""What to know about --expected where it differs and the model computes on both types."""


@app.command()
@takes_groups
def verify(
    context: typer.Context,
    *,
    model: models.Model,
    target: flags.TargetName = "host",
    inputs: flags.InputsFile = None,
    expected: Annotated[Path | None, typer.Option(help="An .npz file with the right outputs; the reference by default.", show_default=False)] = None,
    binding: models.Binding,
    code: compiling.Code,
    seed: flags.Seed = 0,
    emit: Annotated[str | None, typer.Option(help="Verify what another back end writes, as `edgecc compile --emit` names it.", show_default=False)] = None,
    backend: flags.BackendName = None,
    dialect: flags.Dialect = None,
    cc: flags.CompilerName = None,
    as_json: flags.AsJson = False,
) -> int:
    """Compile, run and compare with expected outputs or the reference. Exit status 1 where they differ."""
    if expected is not None and inputs is None:
        raise EdgeccError("E001", "--expected needs --inputs: outputs are right for certain inputs only", where="edgecc verify")
    compiling.refuse_idle_precision(context, code.precision)
    backend = in_dialect(backend, emit, dialect)
    chosen = api.resolve_target(target)
    arrays = read_arrays(inputs, "--inputs") if inputs is not None else None
    wanted = read_arrays(expected, "--expected") if expected is not None else None
    options = code.options(binding.options(arrays), code.tuned(chosen))
    with progress(f"compiling {model.name} for {chosen.name}"):
        done = api.compile_for(model, chosen, options, backend, emit)
    with progress(f"running on {chosen.name}"):
        outcome = api.verify_compilation(done, inputs=arrays, expected=wanted, cc=cc, seed=seed)
    for text in done.report.notes:
        note(text)
    if wanted is not None and not outcome.ok and {DType.U8, DType.I8} <= {value.type.dtype for value in done.graph.values()}:
        note(SATURATED)
    if as_json:
        placement = {"placement": dict(done.artifact.manifest.report)} if isinstance(done, api.Division) else {}
        print_json(verification_table(outcome) | placement)
    else:
        if isinstance(done, api.Division):
            show_summary(done.artifact.manifest.report)
        _show(outcome)
    return EXIT_OK if outcome.ok else EXIT_MISMATCH


def verification_table(outcome: api.Verification) -> dict[str, Any]:
    """The outcome as JSON. An infinite error (NaN against a number) becomes the largest double: JSON has no infinity."""
    reduced = outcome.precision != FP32
    outputs = [{"name": o.name, "max_abs_err": _finite(o.max_abs_err), "max_rel_err": _finite(o.max_rel_err),
                "tolerance": _finite(o.tolerance), "ok": o.ok} for o in outcome.outputs]
    if reduced:
        outputs = [table | {"range_err": _finite(o.range_err), "snr_db": _finite(o.snr_db), "overflows": o.overflows}
                   for table, o in zip(outputs, outcome.outputs, strict=True)]
    table = {"ok": outcome.ok, "target": outcome.target, "outputs": outputs, "arena_bytes": outcome.arena_bytes,
             "weights_bytes": outcome.weights_bytes, "code_bytes": outcome.code_bytes}
    if outcome.layers is not None:
        table["layers"] = {"count": outcome.layers.layers, "steps": outcome.layers.steps, "share": outcome.layers.share,
                           "where": list(outcome.layers.where), "ok": outcome.layers.ok}
    if outcome.allowances:
        table["allowances"] = [{"name": a.name, "sensitivity": a.sensitivity, "tolerance": a.tolerance, "allowed": a.allowed,
                                "granted": a.granted, "precision": a.precision} for a in outcome.allowances]
    return table | ({"precision": outcome.precision, "relative_tolerance": outcome.relative_tolerance} if reduced else {})


def allowance_text(allowance: Allowance) -> str:
    """What an output was allowed, and why, in a sentence."""
    if allowance.precision:
        moves = f"{printable(allowance.name)}: rounding to {allowance.precision} moves the reference by {allowance.sensitivity:.3g}"
        return moves + (f"; allowed are {allowance.allowed:.3g}" if allowance.granted else ", which does not explain the difference")
    why = f"{printable(allowance.name)} depends on numbers that the model rounds to integers in each run, and rounding decides which"
    moves = f"moves the reference by {allowance.sensitivity:.3g}" if allowance.floats else f"changes {allowance.sensitivity:.0f} elements of the reference"
    if not allowance.granted:
        return f"{why}: by itself it {moves}, which does not explain the difference"
    if not allowance.floats:
        return f"{why}: by itself it {moves}, and these were allowed"
    return f"{why}: by itself it {moves}; allowed are the usual {allowance.tolerance:.3g} and {FACTOR:g} times that"


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else math.copysign(sys.float_info.max, value)


def _show(outcome: api.Verification) -> None:
    console = results()
    reduced = outcome.precision != FP32
    names = ("of range", "SNR dB") if reduced else ()
    table = Table("output", "largest error", "relative", *names, "tolerance", "", box=None, pad_edge=False)
    for one in outcome.outputs:
        verdict = Text("ok", style="green") if one.ok else Text("DIFFERS", style="bold red")
        spread = (f"{one.range_err:.3g}", f"{one.snr_db:.1f}") if reduced else ()
        table.add_row(printable(one.name), f"{one.max_abs_err:.3g}", f"{one.max_rel_err:.3g}", *spread, f"{one.tolerance:.3g}", verdict)
    show(table)
    if reduced:
        console.print(f"{outcome.precision} against the fp32 reference; tolerance {outcome.relative_tolerance:.3g} of an output's "
                      "largest magnitude")
    if outcome.layers is not None:
        layers = outcome.layers
        worst = f", at {printable('+'.join(layers.where), 80)}" if layers.where else ""
        console.print(f"{layers.layers} layers of integers, each on the integers that it was given, of which the tool rounds some its own way: "
                      f"at most {layers.steps} {'step' if layers.steps == 1 else 'steps'} off (1 is allowed){worst}; {layers.share:.2%} differ")
    for allowance in outcome.allowances:
        note(allowance_text(allowance))
    overflows = sum(one.overflows for one in outcome.outputs)
    if overflows and outcome.precision == "fp16":
        note(f"{overflows} elements are infinite or NaN: f16 holds numbers up to 65504; --keep-fp32 NODE keeps a node in fp32")
    console.print(f"{outcome.target}: {'ok' if outcome.ok else 'the outputs differ'}; arena {human_bytes(outcome.arena_bytes)}, "
                  f"weights {human_bytes(outcome.weights_bytes)}, code {human_bytes(outcome.code_bytes)}")
