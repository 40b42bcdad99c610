"""Whole networks on simulated Ethos-U: the accelerator's share of the multiply-adds, and whether its bytes are LiteRT's.

    python -m benches.ethosu_bits MODEL ... [--target ethos-u55-128 --target ethos-u65-256] [--runs 3] [--optimise Size]

Each model is quantized (QuantizeLinear and DequantizeLinear). Vela compiles it whole; the command stream is executed on random
integers by the simulator of the tests (tests/support/ethosu) and compared with LiteRT's reference kernels. Exit status 1 where a
byte differs.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from edgecc import api
from edgecc.backends.discovery import create_backend
from edgecc.targets.schema import load_target
from tests.support.ethosu.compiler import reference
from tests.support.ethosu.machine import simulate
from tests.support.ethosu.network import read_network


def measure(model: str, target: str, optimise: str, runs: int) -> tuple[list[str], int]:
    """A row of the table, and how many bytes differ."""
    backend = create_backend(f"ethosu{{optimise={optimise}}}")
    exported = api.export_model(model, load_target(target), api.Options(), backend, "ethosu") if backend.takes == "graph" else None
    if exported is None:
        raise SystemExit("the back end takes no graphs")
    artifact = exported.artifact
    report, compiled = artifact.manifest.report, artifact.files[artifact.manifest.main]
    network = read_network(compiled)
    different = elements = 0
    seconds = float("inf")
    for seed in range(runs):
        generator = np.random.default_rng(seed)
        inputs = [generator.integers(-128, 128, port.shape).astype(port.dtype) for port in network.inputs]
        start = time.perf_counter()
        results = simulate(compiled, inputs)
        seconds = min(seconds, time.perf_counter() - start)
        for got, want in zip(results, reference(artifact.files[f"{artifact.manifest.name}_int8.tflite"], inputs), strict=True):
            different += int(np.count_nonzero(got != want))
            elements += want.size
    share = min(1.0, report["npu_multiply_adds"] / max(1, report["model_multiply_adds"]))
    return [artifact.manifest.name, target, f"{share:.2%}", str(sum(report["cpu_operators"].values())), str(elements), str(different),
            f"{seconds:.1f}"], different


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--target", action="append")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--optimise", default="Performance")
    given = parser.parse_args()
    table = Table("network", "target", "multiply-adds on it", "operators left", "results", "differ", "s a run")
    total = 0
    for model in given.models:
        for target in given.target or ["ethos-u55-128", "ethos-u65-256"]:
            row, different = measure(model, target, given.optimise, given.runs)
            table.add_row(*row)
            total += different
    Console(width=140).print(table)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
