"""Memory of a run: what the plan says, the least any plan could use, and what the process really takes.

    python -m benches.memory FOLDER|MODEL ... [--against onnxruntime] [--python /other/bin/python] [--shape batch=1]

The resident size is the peak of a process that does nothing but run the model, less its size after importing the engine; for
edgecc it is the arena, the weights, the code and the arrays of the interface as far as they are touched.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table

from benches.machine import headline
from benches.peers import models_of
from edgecc.api import Options
from edgecc.bench.session import Request, compare
from edgecc.cli.arguments import parse_shapes, read_arrays
from edgecc.cli.output import show
from edgecc.targets.schema import load_target

MEGA = 1e6


def main() -> None:
    """Measures every model named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="FOLDER|MODEL")
    parser.add_argument("--against", default="")
    parser.add_argument("--python", help="the interpreter that has the other engines")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shape", action="append", default=[], help="size of a dynamic input or dimension")
    options = parser.parse_args()
    peers = tuple(name for name in options.against.split(",") if name)
    table = Table("model", box=None, pad_edge=False)
    for column in ("weights MB", "arena MB", "lower bound MB", "gap", "resident MB", *(f"{name} MB" for name in peers)):
        table.add_column(column, justify="right")
    for path in models_of(options.models):
        beside = path.with_suffix(".npz")
        inputs = read_arrays(beside, "inputs") if beside.exists() else None
        found = compare(Request(path, load_target("host"), Options(shapes=parse_shapes(options.shape), inputs=inputs, threads=options.threads),
                                peers, options.python, rounds=1, turn_seconds=0.01, limit_seconds=0.0))
        gap = found.arena_bytes - found.arena_lower_bound
        table.add_row(path.stem, *(f"{size / MEGA:.2f}" for size in (found.weights_bytes, found.arena_bytes, found.arena_lower_bound)),
                      f"{gap / max(1, found.arena_lower_bound):.1%}",
                      *("failed" if row.error else f"{row.memory_bytes / MEGA:.1f}" for row in found.rows))
    print(headline())
    show(table)


if __name__ == "__main__":
    main()
