"""`edgecc run DIR|MODEL --inputs in.npz`: execute a compiled model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from edgecc import api
from edgecc.artifact.load import Timing, random_inputs
from edgecc.cli import compiling, flags, models
from edgecc.cli.arguments import read_arrays, write_arrays
from edgecc.cli.groups import names_of, takes_groups
from edgecc.cli.output import print_json, progress, results, show
from edgecc.errors import EdgeccError, printable
from edgecc.ir.strings import is_string_array
from edgecc.ir.types import Array

app = typer.Typer(add_completion=False)

ONLY_MODELS = names_of(models.Binding) | names_of(compiling.Code) | {"target", "backend"}
"""Parameters that say how a model is compiled."""


@app.command()
@takes_groups
def run(
    context: typer.Context,
    *,
    source: Annotated[Path, typer.Argument(metavar="DIR|MODEL", help="A compiled folder, a shared library, or an ONNX model.", show_default=False)],
    target: Annotated[str | None, typer.Option(help="What to compile a model for; host by default.", show_default=False)] = None,
    inputs: flags.InputsFile = None,
    outputs: Annotated[Path | None, typer.Option(help="The .npz file to write the outputs to.", show_default=False)] = None,
    benchmark: Annotated[int, typer.Option(help="Time so many more runs.")] = 0,
    seed: flags.Seed = 0,
    binding: models.Binding,
    code: compiling.Code,
    backend: Annotated[str | None, typer.Option(help="What compiles a model: c needs a C compiler, llvm runs in this process, others run in their own tools.", show_default=False)] = None,
    cc: flags.CompilerName = None,
    as_json: flags.AsJson = False,
) -> None:
    """Run a compiled folder, or a model, on inputs from a file."""
    if benchmark < 0:
        raise EdgeccError("E001", f"--benchmark wants a number of runs, got {benchmark}", where="edgecc run")
    if api.is_compiled(source):
        flags.refuse_given(context, ONLY_MODELS, f"with {printable(str(source))}, which is compiled already")
    arrays = read_arrays(inputs, "--inputs") if inputs is not None else None
    compiling.refuse_idle_precision(context, code.precision)
    options = code.options(binding.options(arrays), code.tuned(api.resolve_target(target or "host")))
    with progress(f"building {source.name}"):
        model = api.load_or_compile(source, target, cc=cc, isolated=True, backend=backend, options=options)
    with model, progress(f"running {source.name}"):
        given = random_inputs(model.inputs, seed) if arrays is None else arrays
        computed = model.run(given)
        timing = model.benchmark(benchmark, given) if benchmark else None
    if outputs is not None:
        write_arrays(outputs, computed)
    if as_json:
        print_json({"outputs": [_table_of(name, array) for name, array in computed.items()]}
                   | ({} if timing is None else {"benchmark": _timing_table(timing)}))
        return
    table = Table("output", "type", "least", "mean", "largest", box=None, pad_edge=False)
    for name, array in computed.items():
        row = _table_of(name, array)
        shape_text = ",".join(map(str, row["shape"]))
        table.add_row(printable(name), f"{row['dtype']}[{shape_text}]", *(_number(row[key]) for key in ("min", "mean", "max")))
    console = results()
    show(table)
    if timing is not None:
        console.print(f"{len(timing.times_ns)} runs: least {timing.minimum_ns / 1e6:.3f} ms, median {timing.median_ns / 1e6:.3f} ms")


def _table_of(name: str, array: Array) -> dict[str, Any]:
    """Name, type and range of one output. Statistics are over finite elements; None where there are none, as with strings."""
    if is_string_array(array):
        return {"name": name, "dtype": "string", "shape": list(array.shape), "min": None, "mean": None, "max": None, "not_finite": 0}
    values = array.astype(np.float64)
    finite = values[np.isfinite(values)]
    statistics = (finite.min(), finite.mean(), finite.max()) if finite.size else (None, None, None)
    least, mean, largest = (None if value is None else float(value) for value in statistics)
    return {"name": name, "dtype": str(array.dtype), "shape": list(array.shape), "min": least, "mean": mean, "max": largest,
            "not_finite": int(values.size - finite.size)}


def _timing_table(timing: Timing) -> dict[str, Any]:
    return {"runs": len(timing.times_ns), "min_ms": timing.minimum_ns / 1e6, "median_ms": timing.median_ns / 1e6}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
