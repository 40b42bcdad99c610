"""Processor time and memory of each stage of a compilation: reading, passes, lowering, printing, and the C compiler.

    python -m benches.compile_time MODEL ... [--inputs FILE.npz] [--shape batch=1] [--target cortex-a76] [--rounds 3]
    python -m benches.compile_time --chain 10 100 1000 10000

Every compilation has a process of its own. The minimum over the rounds is printed, the peak resident size of edgecc's process
and of the C compiler's largest, and the slowest of the passes that changed something. `--chain` compiles chains of so
many nodes instead of models, which shows how the cost grows.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import resource
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.table import Table

from benches.machine import headline
from edgecc.artifact.toolchain import find_compiler
from edgecc.backends.c.backend import CBackend
from edgecc.cli.arguments import parse_shapes, read_arrays
from edgecc.cli.output import show
from edgecc.frontend import import_model
from edgecc.ir.types import Array
from edgecc.lowering import lower_graph
from edgecc.pipeline import CompiledModel, default_graph_passes, emit_c, run_passes
from edgecc.targets.schema import load_target

STAGES = ("read", "passes", "lower", "print", "C compiler")
SLOWEST = 3
CHANNELS, EXTENT = 8, 8


@dataclass(frozen=True)
class Cost:
    """One compilation: processor seconds of each stage, peak bytes of this process and of a C compiler, and the slowest passes."""

    nodes: int
    seconds: tuple[float, ...]
    own_bytes: int
    compiler_bytes: int
    slowest: str


def main() -> None:
    """Measures every model, or every chain, named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", metavar="MODEL")
    parser.add_argument("--chain", type=int, nargs="+", default=[], metavar="NODES", help="compile chains of so many nodes")
    parser.add_argument("--inputs", type=Path, help="arrays whose shapes bind dynamic dimensions")
    parser.add_argument("--shape", action="append", default=[], help="size of a dynamic input or dimension")
    parser.add_argument("--target", default="host")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    inputs = read_arrays(options.inputs, "--inputs") if options.inputs is not None else None
    table = Table("model", "nodes", *(f"{stage} s" for stage in STAGES), "edgecc s", "edgecc MB", "C compiler MB", "slowest passes",
                  box=None, pad_edge=False)
    with tempfile.TemporaryDirectory(prefix="edgecc-chain-") as scratch:
        work = [(model, parse_shapes(options.shape), inputs) for model in options.models]
        for length in options.chain:
            work.append((Path(scratch) / f"chain_{length}.onnx", {}, None))
            onnx.save(chain(length), work[-1][0])
        for model, shapes, arrays in work:
            # A process for each, since the peak of a process never falls.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
                costs = [pool.submit(compile_once, model, shapes, arrays, options.target).result() for _ in range(options.rounds)]
            best = [min(cost.seconds[stage] for cost in costs) for stage in range(len(STAGES))]
            table.add_row(model.stem, str(costs[0].nodes), *(f"{seconds:.2f}" for seconds in best), f"{sum(best[:-1]):.2f}",
                          f"{min(cost.own_bytes for cost in costs) / 1e6:.0f}", f"{max(cost.compiler_bytes for cost in costs) / 1e6:.0f}",
                          costs[-1].slowest)
    print(f"{headline()}; for {options.target} with {find_compiler(load_target(options.target)).version}")
    show(table)


def compile_once(model: Path, shapes: Mapping[str, tuple[int, ...]], inputs: Mapping[str, Array] | None, target_name: str) -> Cost:
    """Compiles a model to a shared library."""
    target = load_target(target_name)
    marks = [_processor_seconds()]
    graph = import_model(model, shapes=shapes, inputs=inputs)
    nodes = len(graph)
    marks.append(_processor_seconds())
    reports = run_passes(graph, default_graph_passes())
    marks.append(_processor_seconds())
    lowered = lower_graph(graph, target, name="model")
    marks.append(_processor_seconds())
    artifact = emit_c(CompiledModel(graph, target, lowered, reports))
    marks.append(_processor_seconds())
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    CBackend().finish(artifact, "lib", None)
    marks.append(_processor_seconds())
    slowest = sorted((r for r in reports if r.changed), key=lambda report: -report.seconds)[:SLOWEST]
    return Cost(nodes, tuple(end - begin for begin, end in itertools.pairwise(marks)), own,
                resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
                ", ".join(f"{report.graph_pass} {report.seconds:.2f}" for report in slowest))


def _processor_seconds() -> float:
    """Processor time of this process and of those it has waited for."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def chain(length: int) -> onnx.ModelProto:
    """A chain of `length` nodes: convolution with weights of its own, ReLU, pooling, sigmoid, and so on."""
    generator = np.random.default_rng(0)
    nodes, weights = [], []
    for position in range(length):
        names = [f"v{position}"], [f"v{position + 1}"]
        match position % 4:
            case 0:
                values = generator.standard_normal((CHANNELS, CHANNELS, 1, 1)).astype(np.float32) / 3
                weights.append(numpy_helper.from_array(values, f"w{position}"))
                nodes.append(helper.make_node("Conv", [*names[0], f"w{position}"], names[1]))
            case 1:
                nodes.append(helper.make_node("Relu", *names))
            case 2:
                nodes.append(helper.make_node("MaxPool", *names, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
            case _:
                nodes.append(helper.make_node("Sigmoid", *names))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CHANNELS, EXTENT, EXTENT]) for name in ("v0", f"v{length}")]
    return helper.make_model(helper.make_graph(nodes, "chain", ports[:1], ports[1:], weights),
                             opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    main()
