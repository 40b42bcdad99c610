"""Time of each layer of a quantized network on integers and in float, call by call, on this machine.

    python -m benches.integer_layers MODEL ... [--rounds 12] [--turn 0.4] [--threads 1] [--target host] [--all]

The float twin of a network is the same network without its quantization: what is quantized and dequantized passes through,
weights are constants in f32. Both are compiled layer by layer (without depth-first blocks) and profiled, taking turns. Kernel
calls of the two belong together that stand for common nodes of the model: fusing differs, so a row may be several calls of each.
A row begins with the first call that it has on integers. Shown are rows whose integer form is slower; with --all every one.
Beside what was measured stands what the cost model of the target expects, and how often both name the same winner.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from benches.machine import headline
from edgecc import api
from edgecc.artifact.load import check_inputs, ports_of, random_inputs
from edgecc.artifact.toolchain import BuildOptions, build_shared_library, find_compiler
from edgecc.backends.base import EmitOptions
from edgecc.bench.process import Worker
from edgecc.lowering.cycles import calls_cycles
from edgecc.lowering.report import CallReport
from edgecc.pipeline import emit_c
from edgecc.targets.schema import load_target

ROUNDING, RESTORING = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True)
class Row:
    """A layer: the nodes of the model it stands for, the calls, the seconds they take, on integers and in float, and modelled cycles."""

    nodes: tuple[str, ...]
    calls: tuple[str, ...]
    twins: tuple[str, ...]
    seconds: float
    twin_seconds: float
    cycles: float = 0.0
    twin_cycles: float = 0.0

    @property
    def gain(self) -> float:
        """How many times as fast integers are."""
        return self.twin_seconds / self.seconds if self.seconds > 0 else float("inf")

    @property
    def modelled_gain(self) -> float:
        """The same by the cost model."""
        return self.twin_cycles / self.cycles if self.cycles > 0 else float("inf")


@dataclass(frozen=True)
class Timed:
    """A call with the seconds and the modelled cycles it takes."""

    call: CallReport
    seconds: float
    cycles: float


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with a name for each node, which tells the calls that belong to it."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for number, node in enumerate(result.graph.node):
        node.name = node.name or f"{node.op_type}.{number}"
    return result


def without_quantization(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with every pair of QuantizeLinear and DequantizeLinear taken out, and dequantized constants as floats."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    constants = {array.name: onnx.numpy_helper.to_array(array) for array in model.graph.initializer}
    rounded = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == ROUNDING}
    passed = {node.output[0]: rounded[node.input[0]] for node in model.graph.node if node.op_type == RESTORING and node.input[0] in rounded}

    def source(name: str) -> str:
        while name in passed:
            name = passed[name]
        return name

    outputs = {value.name for value in model.graph.output}
    del twin.graph.node[:]
    for node in model.graph.node:
        if node.op_type == RESTORING and node.output[0] in passed:
            if node.output[0] in outputs:
                twin.graph.node.append(onnx.helper.make_node("Identity", [source(node.output[0])], [node.output[0]], name=node.name))
            continue
        if node.op_type == RESTORING and all(name in constants for name in node.input):
            array = ReferenceEvaluator(node).run(None, {name: constants[name] for name in node.input})[0]
            twin.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), node.output[0]))
            continue
        twin.graph.node.add().CopyFrom(node)
        twin.graph.node[-1].input[:] = [source(name) for name in node.input]
    read = {name for node in twin.graph.node for name in node.input} | outputs
    kept = [node for node in twin.graph.node if node.op_type != ROUNDING or node.output[0] in read]
    del twin.graph.node[:]
    twin.graph.node.extend(kept)
    return twin


def rows_of(names: Iterable[str], own: Sequence[Timed], twins: Sequence[Timed]) -> list[Row]:
    """Calls of both networks joined by the `names` they have in common."""
    known = set(names)
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            name = parent[name]
        return name

    def layer(call: CallReport) -> list[str]:
        return [name for name in call.loc if name in known]

    for one in (*own, *twins):
        found = layer(one.call)
        for name in found[1:]:
            parent[root(name)] = root(found[0])
    order = list(dict.fromkeys(root(name) for one in own for name in layer(one.call)[:1]))
    rows = []
    for first in order:
        mine, theirs = ([one for one in calls if layer(one.call) and root(layer(one.call)[0]) == first] for calls in (own, twins))
        nodes = dict.fromkeys(name for one in mine for name in layer(one.call))
        rows.append(Row(tuple(nodes), tuple(one.call.function for one in mine), tuple(one.call.function for one in theirs),
                        sum(one.seconds for one in mine), sum(one.seconds for one in theirs),
                        sum(one.cycles for one in mine), sum(one.cycles for one in theirs)))
    return rows


def measure(path: Path, threads: int, rounds: int, turn: float, target_name: str = "host") -> tuple[list[Row], float, float]:
    """The rows of a network, and the seconds that all calls of each form take."""
    model, target = named(onnx.load(path)), load_target(target_name)
    names = [node.name for node in model.graph.node if node.op_type not in (ROUNDING, RESTORING)]
    compiler = find_compiler(target)
    found: list[list[Timed]] = []
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgecc-layers-")))
        workers = []
        for number, form in enumerate((model, without_quantization(model))):
            done = api.compile_model(form, target, api.Options(threads=threads, depth_first="off", name="network"))
            folder = emit_c(done.compiled, EmitOptions(profile=True)).write(scratch / f"form{number}")
            library = build_shared_library(compiler, folder, done.artifact.manifest.sources, scratch / f"form{number}.so",
                                           BuildOptions(threads=threads > 1)).output
            ports = ports_of(done.artifact.manifest.inputs)
            np.savez(scratch / "inputs.npz", *check_inputs(ports, random_inputs(ports)))
            worker = stack.enter_context(Worker("edgecc"))
            worker.ask({"model": str(library), "inputs": str(scratch / "inputs.npz"), "input_names": [port.name for port in ports],
                        "output_names": [port.name for port in done.artifact.manifest.outputs], "threads": threads, "folder": str(scratch)})
            workers.append((worker, done.compiled.lowered))
        for _ in range(rounds):
            for worker, _ in workers:
                worker.ask({"seconds": turn, "warm": 1, "least": 2})
        for worker, lowered in workers:
            found.append([Timed(*one) for one in zip(lowered.calls, worker.ask({"profile": "network"})["least"], calls_cycles(lowered), strict=True)])
    own, twins = found
    return rows_of(names, own, twins), sum(one.seconds for one in own), sum(one.seconds for one in twins)


def agreement(rows: Sequence[Row]) -> str:
    """How often the model names the winner that was measured; rows within a twentieth of a draw have none."""
    clear = [row for row in rows if row.seconds > 0 and row.twin_seconds > 0 and abs(row.gain - 1) > 0.05]
    counts = {(measured, modelled): sum((row.gain > 1, row.modelled_gain > 1) == (measured, modelled) for row in clear)
              for measured in (True, False) for modelled in (True, False)}
    return (f"measured faster on integers: modelled so {counts[True, True]}, not so {counts[True, False]}; "
            f"measured faster in float: modelled so {counts[False, False]}, not so {counts[False, True]}; draws {len(rows) - len(clear)}")


def main() -> None:
    """Measures every model named on the command line and prints a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--turn", type=float, default=0.4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", default="host", help="a target whose code this machine runs, such as x86-64-v3 or generic-c")
    parser.add_argument("--all", action="store_true", help="every layer, not only those that are slower on integers")
    options = parser.parse_args()
    print(headline())
    for path in options.models:
        rows, seconds, twin_seconds = measure(path, options.threads, options.rounds, options.turn, options.target)
        slower = [row for row in rows if row.gain < 1]
        print(f"\n{path.stem}: {1e6 * seconds:.1f} us on integers, {1e6 * twin_seconds:.1f} in float; {len(slower)} of {len(rows)} layers slower on integers")
        print(agreement(rows))
        print("| layer | integers us | float us | times as fast | modelled | kernels |\n|---|---|---|---|---|---|")
        for row in rows if options.all else slower:
            print(f"| {row.nodes[0]}{f' +{len(row.nodes) - 1}' if len(row.nodes) > 1 else ''} | {1e6 * row.seconds:.2f} | "
                  f"{1e6 * row.twin_seconds:.2f} | {row.gain:.2f} | {row.modelled_gain:.2f} | {', '.join(row.calls)} / {', '.join(row.twins)} |")


if __name__ == "__main__":
    main()
