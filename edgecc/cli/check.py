"""`edgecc check MODEL --target NAME`: everything that keeps a model from being compiled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import typer

from edgecc import api
from edgecc.checking import CheckReport, check_model
from edgecc.cli import flags, models
from edgecc.cli.arguments import read_arrays
from edgecc.cli.groups import takes_groups
from edgecc.cli.output import human_bytes, note, print_json, progress, results, show_error
from edgecc.errors import EXIT_MODEL, EXIT_OK, EdgeccError, printable
from edgecc.float_layers import FloatLayer
from edgecc.targets.precision import FP32

NAMED = 4
"""So many layers of a kind are named."""

app = typer.Typer(add_completion=False)


@app.command()
@takes_groups
def check(
    *,
    model: models.Model,
    target: flags.TargetName = "host",
    binding: models.Binding,
    inputs: flags.SizesFile = None,
    precision: flags.Precision = "fp32",
    checks: flags.Checks = "trap",
    as_json: flags.AsJson = False,
) -> int:
    """List everything that keeps a model from being compiled. Exit status 3 if anything does. Writes nothing."""
    chosen = api.resolve_target(target)
    given = binding.options(read_arrays(inputs, "--inputs") if inputs else None)
    options = replace(given, checks=checks, precision=precision)
    with progress(f"checking {model.name} for {chosen.name}"):
        report = check_model(model, chosen, options)
    if as_json:
        print_json({"ok": report.ok, "target": chosen.name, "problems": [asdict(finding) for finding in report.findings],
                    "notes": list(report.notes), "calls": report.calls, "arena_bytes": report.arena_bytes,
                    "weights_bytes": report.weights_bytes, "index_checks": report.index_checks}
                   | ({} if precision == FP32 else {"precision": precision})
                   | ({"float_layers": [asdict(layer) for layer in report.float_layers]} if report.float_layers else {}))
        return EXIT_OK if report.ok else EXIT_MODEL
    for text in report.notes:
        note(text)
    if report.ok:
        where = "" if precision == FP32 else f" in {precision}"
        results().print(f"{printable(model.name)} compiles for {chosen.name}{where}: {report.calls} kernel calls, "
                        f"arena {human_bytes(report.arena_bytes)}, weights {human_bytes(report.weights_bytes)}")
        if report.index_checks:
            results().print(f"indices of {report.index_checks} operands are computed at run time and looked at in each run (--checks {checks})")
        for line in _float_layers(report.float_layers):
            results().print(line)
        return EXIT_OK
    show_error(_error(report, printable(model.name), chosen.name))
    return EXIT_MODEL


def _float_layers(layers: Sequence[FloatLayer]) -> Iterator[str]:
    """Layers that are quantized and computed in float, those of one operator and reason together."""
    groups: dict[tuple[str, str, str], list[FloatLayer]] = {}
    for layer in layers:
        groups.setdefault((layer.op, layer.why, layer.change), []).append(layer)
    if layers:
        yield f"{len(layers)} quantized {'layer is' if len(layers) == 1 else 'layers are'} computed in float:"
    for (op, why, change), same in groups.items():
        more = f" and {len(same) - NAMED} more" if len(same) > NAMED else ""
        names = ", ".join(f"{layer.where} {layer.shape}" for layer in same[:NAMED])
        floats, stored = sum(layer.float_bytes for layer in same), sum(layer.quantized_bytes for layer in same)
        weights = f"; weights {human_bytes(stored)}, as floats {human_bytes(floats)}" if stored else ""
        yield f"  {op} {names}{more}: {why}" + (f" ({change})" if change else "") + weights


def _error(report: CheckReport, name: str, target: str) -> EdgeccError:
    """All findings as one error; its code is that of the first, one about the model if there is any."""
    first = next((finding for finding in report.findings if finding.kind != "precision"), report.findings[0])
    count = len(report.findings)
    if count == 1:
        return EdgeccError(first.code, first.why, where=name if first.where == name else f"{name}:{first.where}", hint=first.change)
    details = [f"{finding.kind}: {finding.where}: {finding.why}" + (f" ({finding.change})" if finding.change else "")
               for finding in report.findings]
    return EdgeccError(first.code, f"{count} problems keep it from being compiled for {target}", where=name, details=details)
