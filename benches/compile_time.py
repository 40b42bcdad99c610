"""Time of each stage of a compilation: reading, passes, lowering, printing, and the C compiler.

    python -m benches.compile_time MODEL [MODEL ...] [--inputs FILE.npz] [--shape batch=1] [--target cortex-a76] [--rounds 3]

The minimum over the rounds is printed, and the slowest of the passes that changed something.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.table import Table

from benches.machine import headline
from edgecc.api import finish
from edgecc.artifact.toolchain import find_compiler
from edgecc.cli.arguments import parse_shapes, read_arrays
from edgecc.cli.output import show
from edgecc.frontend import import_model
from edgecc.lowering import lower_graph
from edgecc.pipeline import CompiledModel, PassReport, default_graph_passes, emit_c, run_passes
from edgecc.targets.schema import load_target

STAGES = ("read", "passes", "lower", "print", "C compiler")
SLOWEST = 3


def main() -> None:
    """Measures every model named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--inputs", type=Path, help="arrays whose shapes bind dynamic dimensions")
    parser.add_argument("--shape", action="append", default=[], help="size of a dynamic input or dimension")
    parser.add_argument("--target", default="host")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    target = load_target(options.target)
    inputs = read_arrays(options.inputs, "--inputs") if options.inputs is not None else None
    table = Table("model", "nodes", *(f"{stage} s" for stage in STAGES), "slowest passes", box=None, pad_edge=False)
    for model in options.models:
        best = dict.fromkeys(STAGES, float("inf"))
        reports: tuple[PassReport, ...] = ()
        nodes = 0
        for _ in range(options.rounds):
            marks = [time.perf_counter()]
            graph = import_model(model, shapes=parse_shapes(options.shape), inputs=inputs)
            nodes = len(graph)
            marks.append(time.perf_counter())
            reports = run_passes(graph, default_graph_passes())
            marks.append(time.perf_counter())
            lowered = lower_graph(graph, target, name="model")
            marks.append(time.perf_counter())
            artifact = emit_c(CompiledModel(graph, target, lowered, reports))
            marks.append(time.perf_counter())
            finish(artifact, "lib")
            marks.append(time.perf_counter())
            for stage, begin, end in zip(STAGES, marks, marks[1:], strict=False):
                best[stage] = min(best[stage], end - begin)
        slowest = sorted((r for r in reports if r.changed), key=lambda report: -report.seconds)[:SLOWEST]
        table.add_row(model.stem, str(nodes), *(f"{best[stage]:.2f}" for stage in STAGES),
                      ", ".join(f"{report.graph_pass} {report.seconds:.2f}" for report in slowest))
    print(f"{headline()}; for {target.name} with {find_compiler(target).version}")
    show(table)


if __name__ == "__main__":
    main()
