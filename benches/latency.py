"""Time of one inference on this machine, against onnxruntime, the two taking turns.

    python -m benches.latency MODEL [MODEL ...] [--inputs FILE.npz] [--shape batch=1] [--threads 1] [--rounds 30]

Each round runs every engine a few times on the same inputs. The minimum tells what the code can do, the
median and the upper quartile how much the machine disturbed it; compare minima of the same invocation only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from rich.table import Table

import edgecc
from benches.machine import headline
from edgecc.api import Options, compile_model
from edgecc.artifact.load import random_inputs
from edgecc.cli.arguments import parse_shapes, read_arrays
from edgecc.cli.output import show
from edgecc.ops.work import graph_multiply_adds
from edgecc.targets.schema import load_target

RUNS = 4  # of one engine in a round


def main() -> None:
    """Measures every model named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--inputs", type=Path, help="arrays to run on; random ones by default")
    parser.add_argument("--shape", action="append", default=[], help="size of a dynamic input or dimension")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    table = Table("model", "M multiply-adds", "engine", "minimum ms", "median ms", "3/4 within ms", "G multiply-adds/s",
                  box=None, pad_edge=False)
    for model in options.models:
        inputs = read_arrays(options.inputs, "--inputs") if options.inputs is not None else None
        work, engines = _engines(model, parse_shapes(options.shape), inputs, options.threads)
        for name, times in _interleaved(engines, options.rounds).items():
            lowest, median, upper = np.quantile(times, (0, 0.5, 0.75)) * 1e3
            table.add_row(model.stem, f"{work / 1e6:.2f}", name, f"{lowest:.3f}", f"{median:.3f}", f"{upper:.3f}",
                          f"{work / lowest / 1e6:.1f}")
    print(headline())
    show(table)


def _engines(path: Path, shapes: dict[str, tuple[int, ...]], inputs: dict[str, np.ndarray] | None,
             threads: int) -> tuple[int, dict[str, Callable[[], object]]]:
    """The multiply-adds of one inference, and what runs one by engine."""
    done = compile_model(path, load_target("host"), Options(shapes=shapes, inputs=inputs, threads=threads))
    model = edgecc.load(done.artifact)
    arrays = inputs if inputs is not None else random_inputs(model.inputs)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return graph_multiply_adds(done.graph), {"edgecc": lambda: model.run(arrays), "onnxruntime": lambda: session.run(None, arrays)}


def _interleaved(engines: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in engines}
    for run in engines.values():
        for _ in range(RUNS):
            run()
    for _ in range(rounds):
        for name, run in engines.items():
            for _ in range(RUNS):
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
