"""How many numbers of a quantized network differ from the literal meaning of its quantizations, and whether each lies at a tie.

    python -m benches.ties MODEL ... [--inputs FILE.npz]

Every value of the network after the integer passes is compared with QuantizeLinear and DequantizeLinear evaluated in f64 from the
integers in front of it (edgecc/passes/ties.py). Operators on quantized numbers (QLinearConv, ...) are compared with what they mean
(benches/literal.py). Inputs are random unless they are given. No machine's code runs: kernels compute what the reference does, bit for bit.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from benches.literal import FORMS, has_operators, literal, with_results
from benches.machine import headline
from edgecc.frontend import import_model
from edgecc.ir.types import Array
from edgecc.passes.base import parse_passes
from edgecc.passes.rewrite import collect_replacements
from edgecc.passes.ties import Snapshot, TieReport, compare_at_ties, snapshot
from edgecc.pipeline import run_passes
from edgecc.reference.executor import sample_inputs

PASSES = "eliminate,move-quantization,integer-contraction,integer-reduction,integer-softmax,integer-elementwise"
"""Those that compute on the integers of quantized values."""

UNITS = 16.0
"""Roundings of f32, of the largest number of the type, that what is rounded may lie from a tie."""


def compared(path: Path, inputs: Mapping[str, Array] | None = None) -> TieReport:
    """What differs in a network on `inputs`, or on random ones.

    Raises: EdgeccError where the model cannot be read, or the inputs do not fit.
    """
    model = onnx.load(path)
    if has_operators(model):
        return _compared_operators(with_results(model), inputs)
    graph = import_model(path)
    given = dict(inputs) if inputs is not None else sample_inputs(graph)
    before = snapshot(graph)
    with collect_replacements() as replaced:
        run_passes(graph, parse_passes(PASSES))
    return compare_at_ties(before, graph, replaced, given, UNITS)


def _compared_operators(model: onnx.ModelProto, inputs: Mapping[str, Array] | None) -> TieReport:
    """The results of operators on quantized numbers, which are outputs of `model`, beside what these mean.

    Quantizations are the same operator in both and are taken as they are.
    """
    graph, meaning = import_model(model), import_model(literal(model))
    given = dict(inputs) if inputs is not None else sample_inputs(graph)
    operators = {node.output[0] for node in model.graph.node if node.op_type in FORMS}
    results = dict(zip(meaning.outputs, graph.outputs, strict=True))
    kept = {own: other for (own, other), name in zip(results.items(), graph.output_names, strict=True) if name not in operators}
    sources = {value: value for node in meaning.nodes for value in node.outputs}
    before = Snapshot(meaning, sources | kept | dict(zip(meaning.inputs, graph.inputs, strict=True)))
    return compare_at_ties(before, graph, results, given, UNITS)


def main() -> None:
    """Prints a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--inputs", type=Path, help="an .npz file with an array for each input")
    options = parser.parse_args()
    print(f"{headline()}\n\n| | numbers compared | differ from f64 | values with others than at a tie |\n|---|---|---|---|")
    for path in options.models:
        report = compared(path, None if options.inputs is None else dict(np.load(options.inputs)))
        print(f"| {path.stem} | {report.compared:,} | {report.differing} | {len(report.problems)} |", flush=True)
        for problem in report.problems:
            print(problem)


if __name__ == "__main__":
    main()
