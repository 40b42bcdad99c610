"""`edgecc check MODEL --target NAME`: everything that keeps a model from being compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgecc import api
from edgecc.cli.arguments import parse_limits, parse_shapes, read_arrays
from edgecc.cli.output import note, print_json, progress, results, show_error
from edgecc.errors import EXIT_OK, EXIT_USAGE, EdgeccError
from edgecc.targets.precision import FP32

app = typer.Typer(add_completion=False)


@app.command()
def check(
    model: Annotated[Path, typer.Argument(help="An ONNX model.", show_default=False)],
    target: Annotated[str, typer.Option(help="A target of `edgecc targets`, or a path to a TOML file.")] = "host",
    shape: Annotated[list[str] | None, typer.Option(help="Size of a dynamic input or dimension: input=1x3x224x224, batch=1. Repeatable.", show_default=False)] = None,
    limits: Annotated[list[str] | None, typer.Option(help="A limit on untrusted models instead of the usual one: nodes=50000, elements=2e9. Repeatable.", show_default=False)] = None,
    inputs: Annotated[Path | None, typer.Option(help="An .npz file whose arrays give the sizes of dynamic inputs.", show_default=False)] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16 or bf16: what weights and activations are stored and computed in.")] = "fp32",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """List everything that keeps a model from being compiled. Exit status 3 if anything does. Writes nothing."""
    chosen = api.resolve_target(target)
    options = api.Options(shapes=parse_shapes(shape or []), limits=parse_limits(limits or []),
                          inputs=read_arrays(inputs, "--inputs") if inputs else None, precision=precision)
    problem: EdgeccError | None = None
    notes: tuple[str, ...] = ()
    calls = 0
    try:
        with progress(f"checking {model.name} for {chosen.name}"):
            done = api.compile_model(model, chosen, options)
        notes, calls = done.report.notes, len(done.compiled.module.all_calls)
    except EdgeccError as error:
        if error.exit_status == EXIT_USAGE:
            raise
        problem = error
    if as_json:
        details = [] if problem is None else list(problem.details) or [problem.message]
        print_json({"ok": problem is None, "target": chosen.name, "code": problem.code if problem else None,
                    "message": problem.message if problem else "", "problems": details, "hint": problem.hint if problem else "",
                    "notes": list(notes)} | ({} if precision == FP32 else {"precision": precision}))
    elif problem is not None:
        show_error(problem)
    else:
        for text in notes:
            note(text)
        where = "" if precision == FP32 else f" in {precision}"
        results().print(f"{model.name} compiles for {chosen.name}{where}: {calls} kernel calls")
    return EXIT_OK if problem is None else problem.exit_status
