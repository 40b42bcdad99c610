"""`edgecc opt MODEL --passes a,b{x=1} --print-ir`: what the passes do to a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgecc import api
from edgecc.artifact.load import Port, random_inputs
from edgecc.backends.discovery import create_backend
from edgecc.backends.onnx.export import export_onnx
from edgecc.backends.onnx.writer import DEFAULT_OPSET
from edgecc.cli import flags, models
from edgecc.cli.arguments import read_arrays, read_text, write_bytes, write_text
from edgecc.cli.groups import names_of, takes_groups
from edgecc.cli.output import note, print_json, progress, results, show
from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph
from edgecc.ir.parser import parse
from edgecc.ir.text import to_text
from edgecc.passes.base import GraphPass, parse_passes
from edgecc.pipeline import PassReport, backend_passes, default_graph_passes, run_passes
from edgecc.targets.schema import load_target

app = typer.Typer(add_completion=False)

CONSTANTS = ("type", "data")


@app.command()
@takes_groups
def opt(
    context: typer.Context,
    *,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX model, or a graph as text (.ir).", show_default=False)],
    passes: Annotated[str | None, typer.Option(help="Passes such as eliminate,fold-constants{limit=16}; \"\" for none, the default pipeline if left out.", show_default=False)] = None,
    backend: Annotated[str | None, typer.Option(help="Run the passes of a back end of `edgecc doctor` instead: its graph, as it is asked for.", show_default=False)] = None,
    target: Annotated[str, typer.Option(help="With --backend: the target to compile for.")] = "host",
    print_ir: Annotated[bool, typer.Option("--print-ir", help="Print the graph after the passes.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the graph, constants included, to this file: as text, or as ONNX if its name ends in .onnx.", show_default=False)] = None,
    opset: Annotated[int, typer.Option(help="Of the .onnx file that --output writes.")] = DEFAULT_OPSET,
    constants: Annotated[str, typer.Option(help="With --print-ir: only the type of constants, or their data.")] = "type",
    declines: Annotated[bool, typer.Option("--declines", help="Show why passes left nodes alone.")] = False,
    verify_each: Annotated[bool, typer.Option("--verify-each", help="Execute the graph before and after each pass and compare.")] = False,
    inputs: Annotated[Path | None, typer.Option(help="An .npz file with inputs, for dynamic sizes and --verify-each.", show_default=False)] = None,
    binding: models.Binding,
    as_json: flags.AsJson = False,
) -> None:
    """Run passes on a model and print the graph."""
    if constants not in CONSTANTS:
        raise EdgeccError("E001", f"--constants {constants!r} is not one of {', '.join(CONSTANTS)}", where="edgecc opt")
    if passes is not None:
        flags.refuse_given(context, ["backend"], "beside --passes")
    if backend is None:
        flags.refuse_given(context, ["target"], "without --backend")
    chosen = _passes(passes, backend, target)
    arrays = read_arrays(inputs, "--inputs") if inputs is not None else None
    if model.suffix == ".ir":
        flags.refuse_given(context, names_of(models.Binding), "for a graph as text")
    graph = _read(model, binding.options(arrays))
    given = None
    if verify_each:
        ports = [Port(name, value.type.dtype.numpy, value.type.max_dims)
                 for name, value in zip(graph.input_names, graph.inputs, strict=True)]
        given = random_inputs(ports) if arrays is None else arrays
    with progress(f"running passes on {model.name}"):
        reports = run_passes(graph, chosen, verify_each=given)
    if output is not None:
        if output.suffix == ".onnx":
            write_bytes(output, export_onnx(graph, opset=opset).SerializeToString(deterministic=True))
        else:
            write_text(output, to_text(graph, locs=True))
    text = to_text(graph, locs=True, constants="data" if constants == "data" else "type") if print_ir else ""
    if as_json:
        print_json({"passes": [{"pass": str(r.graph_pass), "changed": r.changed, "nodes_before": r.nodes_before,
                                "nodes_after": r.nodes_after, "seconds": r.seconds, "declines": [str(d) for d in r.declines]}
                               for r in reports]} | ({"ir": text} if print_ir else {}))
    elif print_ir:
        results().print(text.rstrip("\n"))
    else:
        _show(reports)
    if declines and not as_json:
        for line in dict.fromkeys(str(d) for r in reports for d in r.declines):
            note(line)


def _passes(passes: str | None, backend: str | None, target: str) -> tuple[GraphPass, ...]:
    if passes is not None:
        return parse_passes(passes)
    return default_graph_passes() if backend is None else backend_passes(create_backend(backend), load_target(target))


def _read(model: Path, options: api.Options) -> Graph:
    if model.suffix == ".ir":
        return parse(read_text(model), source=model.name)
    graph, report = api.imported(model, options)
    for text in report.notes:
        note(text)
    return graph


def _show(reports: tuple[PassReport, ...]) -> None:
    table = Table("pass", "nodes", "changed", "left alone", "ms", box=None, pad_edge=False)
    for r in reports:
        table.add_row(str(r.graph_pass), f"{r.nodes_before} -> {r.nodes_after}", "yes" if r.changed else "no",
                      str(len(r.declines)), f"{1000 * r.seconds:.1f}")
    show(table)
