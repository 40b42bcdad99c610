"""Whole networks on simulated Ethos-U: the accelerator's share of the multiply-adds, and whether its bytes are LiteRT's.

    python -m benches.ethosu_bits MODEL ... [--target ethos-u55-128 --target ethos-u65-256] [--runs 3] [--optimise Size]

Each model is quantized (QuantizeLinear and DequantizeLinear) and divided between the accelerator and the CPU. The command stream of
every part of the accelerator is executed on random integers by the simulator of the tests (tests/support/ethosu) and compared with
LiteRT's reference kernels. Exit status 1 where a byte differs.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from edgecc import api
from edgecc.partition.artifact import part_artifacts
from edgecc.targets.schema import load_target
from tests.support.ethosu.compiler import reference
from tests.support.ethosu.machine import simulate
from tests.support.ethosu.network import read_network


def measure(model: str, target: str, optimise: str, runs: int) -> tuple[list[str], int]:
    """A row of the table, and how many bytes differ."""
    described = load_target(target)
    npu = described.npu
    if npu is None:
        raise SystemExit(f"{target} has no accelerator")
    described = replace(described, npu=replace(npu, backend=npu.backend.replace("}", f",optimise={optimise}}}")))
    division = api.compile_for(model, described)
    if not isinstance(division, api.Division):
        raise SystemExit("the network is not divided")
    whole = division.artifact
    parts = part_artifacts(whole)
    different = elements = left = 0
    seconds = 0.0
    for description, artifact in parts:
        if description["side"] != "npu":
            continue
        left += sum(artifact.manifest.report["cpu_operators"].values())
        compiled = artifact.files[artifact.manifest.main]
        network = read_network(compiled)
        for seed in range(runs):
            generator = np.random.default_rng(seed)
            inputs = [generator.integers(-128, 128, port.shape).astype(port.dtype) for port in network.inputs]
            start = time.perf_counter()
            results = simulate(compiled, inputs)
            seconds += (time.perf_counter() - start) / runs
            for got, want in zip(results, reference(artifact.files[f"{artifact.manifest.name}_int8.tflite"], inputs), strict=True):
                different += int(np.count_nonzero(got != want))
                elements += want.size
    report = whole.manifest.report
    return [whole.manifest.name, target, f"{report['npu_share_of_multiply_adds']:.2%}", str(len(parts)), str(report["cpu_nodes"]), str(left),
            str(elements), str(different), f"{seconds:.1f}"], different


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--target", action="append")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--optimise", default="Performance")
    given = parser.parse_args()
    table = Table("network", "target", "multiply-adds on it", "parts", "nodes on the CPU", "operators left", "results", "differ", "s a run")
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
