"""Pruned models, and what pruning did to them: size, work, modelled time, noise at the outputs, scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edgecc.backends.onnx.export import export_onnx
from edgecc.errors import EdgeccError, printable
from edgecc.frontend.bind import GivenDim
from edgecc.frontend.importing import import_model_with_report
from edgecc.frontend.limits import DEFAULT_LIMITS, Limits
from edgecc.ir.graph import Graph
from edgecc.ir.types import Array
from edgecc.ops.work import graph_multiply_adds
from edgecc.passes.base import GraphPass, parse_passes
from edgecc.pipeline import compile_graph, run_passes
from edgecc.quantization.accuracy import Goal, check_classes, class_rows, top_class
from edgecc.quantization.network import Network
from edgecc.quantization.observe import Samples, runner
from edgecc.quantization.prepare import OPSET, PASSES
from edgecc.quantization.report import Noise
from edgecc.targets.schema import Target

LEAST_COUNTED = 256
"""Smaller constants are biases, limits and shapes, not weights."""


@dataclass(frozen=True)
class Size:
    """A network in numbers: weights and how many are not zero, multiply-adds, and modelled cycles of a run."""

    weights: int
    nonzero: int
    multiply_adds: int
    cycles: float


@dataclass(frozen=True)
class Pruned:
    """A pruned model beside the one it was made of.

    Attributes:
        network: the float model. model: the pruned one. before, after: their sizes. notes: why layers were left alone.
    """

    network: Network
    model: onnx.ModelProto
    before: Size
    after: Size
    notes: tuple[str, ...]


def prune_model(model: str | Path | bytes | onnx.ModelProto, passes: str, target: Target, *, shapes: Mapping[str, Sequence[GivenDim]] | None = None,
                opset: int = OPSET, limits: Limits = DEFAULT_LIMITS, constants: Mapping[str, Array] | None = None) -> Pruned:
    """Runs pruning passes over a prepared model.

    Raises: EdgeccError E001 where the passes changed nothing, else as prepare.py.
    """
    graph, _ = import_model_with_report(model, shapes=shapes, limits=limits, constants=constants)
    run_passes(graph, parse_passes(PASSES))
    chosen: tuple[GraphPass, ...] = parse_passes(passes)
    network, before = Network(export_onnx(graph, opset=opset)), _size(graph, target)
    reports = run_passes(graph, chosen)
    declines = tuple(str(decline) for report in reports for decline in report.declines)
    if not any(report.changed for report in reports):
        raise EdgeccError("E001", "nothing was pruned", hint=printable(declines[0], 200) if declines else "no layer has weights that are known")
    return Pruned(network, export_onnx(graph, opset=opset), before, _size(graph, target), declines)


def _size(graph: Graph, target: Target) -> Size:
    constants = [value.constant for value in graph.constants() if value.constant is not None and value.type.elements >= LEAST_COUNTED]
    lowered = compile_graph(graph, target, name="pruned").lowered
    return Size(sum(c.size for c in constants), sum(int(np.count_nonzero(c)) for c in constants), graph_multiply_adds(graph),
                sum(call.kernel.cycles for call in lowered.calls))


def compare(network: Network, model: onnx.ModelProto, data: Samples, goal: Goal, progress: Callable[[], None]) -> tuple[Mapping[str, float], tuple[float, float] | None]:
    """Decibels of signal to noise at each output, and the mean scores of both models over the samples; None where nobody can tell what is right.

    Raises: EdgeccError E001 where there are labels, and the first output has no classes.
    """
    _, shape = network.types[network.outputs[0]]
    if goal.labels is not None and goal.metric is None:
        check_classes(shape)
    scored = goal.metric is not None or class_rows(shape) > 0
    noises = {name: Noise() for name in network.outputs}
    metric, own, wanted, count = goal.metric or top_class, 0.0, 0.0, 0
    with runner(network.model) as run, runner(model) as run_pruned:
        for position, sample in enumerate(data):
            label = None if goal.labels is None else goal.labels[position]
            reference = {name: np.array(array) for name, array in run(sample).items()}
            results = run_pruned(sample)
            for name, noise in noises.items():
                noise.add(reference[name], results[name])
            if scored:
                own += metric(results, reference, label)
                wanted += metric(reference, reference, label)
            count += 1
            progress()
    return {name: noise.ratio for name, noise in noises.items()}, (wanted / max(1, count), own / max(1, count)) if scored else None
