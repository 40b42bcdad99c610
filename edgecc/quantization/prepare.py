"""The model that is quantized: cleaned up, batch normalisations folded into weights, written as ONNX again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from edgecc.backends.onnx.export import export_onnx
from edgecc.backends.onnx.operators import obstacle
from edgecc.frontend.bind import GivenDim
from edgecc.frontend.importing import ImportReport, import_model_with_report
from edgecc.frontend.interface import Given
from edgecc.frontend.limits import Limits
from edgecc.frontend.load import load_model
from edgecc.frontend.structure import read_names
from edgecc.ir.graph import Graph
from edgecc.ir.types import Array, DType
from edgecc.passes.base import parse_passes
from edgecc.pipeline import run_passes
from edgecc.quantization.network import Network
from edgecc.quantization.rest import Divisible, Rest

PASSES = ("eliminate,simplify-movement,fold-constants,fuse-conv-bn,canonicalize,fold-constants,eliminate,"
          "recognize-normalization,recognize-activation,fold-transpose,fold-reshape,simplify-movement,canonicalize,eliminate,recognize-bias,fold-pad")
"""What is done to the graph. Nothing that makes kernels: other tools read the result, and know operators one by one."""

OPSET = 21
"""Has blocks of weights."""

BYTES_OPSET = 20
"""Enough for models whose values have 8 bits; 16 bits raise it (insert.py). onnxruntime 1.32 refuses some of opset 21: where it turns a product of rank 3 and its bias
into a Gemm it states output_dtype for int8, then moves the zero point to uint8."""


@dataclass(frozen=True)
class Prepared:
    """The network to quantize, the importer's notes, and what stays as it is behind the network."""

    network: Network
    notes: tuple[str, ...]
    rest: Rest | None = None


def prepared(model: str | Path | bytes | onnx.ModelProto, *, shapes: Mapping[str, Sequence[GivenDim]] | None = None,
             inputs: Mapping[str, Given] | None = None, limits: Limits | None = None, opset: int = OPSET,
             constants: Mapping[str, Array] | None = None) -> Prepared:
    """The network to quantize.

    Raises: EdgeccError for what cannot be imported, and E114 for what cannot be written as ONNX and is not behind all that can.
    """
    bounds, fixed = limits or Limits(), dict(constants or {})
    graph, report = _cleaned(model, shapes, inputs, bounds, fixed)
    if not _stuck(graph) or not all(value.type.is_static for value in graph.inputs):
        network = Network(export_onnx(graph, opset=opset))
        return Prepared(network, (*report.notes, *_repeated(network)))
    whole = Divisible(load_model(model, bounds), bounds, fixed)
    stuck: set[str] = set()
    notes = report.notes
    while True:
        head, rest = whole.divided(stuck)
        if not head.graph.output:
            export_onnx(graph, opset=opset)  # says what cannot be written
        graph, report = _cleaned(head, shapes, inputs, bounds, fixed)
        unfit = {port.name for port in report.outputs if port.kind != "tensor"} | _decisions(graph, head, whole.model)
        found = _stuck(graph) | {name for name in map(whole.producer, unfit) if name}
        if found <= stuck:
            rest = _without_constants(graph, rest)
            network = Network(export_onnx(graph, opset=opset))
            return Prepared(network, (*notes, rest.note, *_repeated(network)), rest)
        stuck |= found


def _repeated(network: Network) -> tuple[str, ...]:
    """What to say of a model that somebody quantized before."""
    count = sum(node.op_type == "QuantizeLinear" for node in network.nodes)
    return (f"{count} values of the model are quantized already, and are again: the errors are those that come on top",) if count else ()


def _decisions(graph: Graph, head: onnx.ModelProto, whole: onnx.ModelProto) -> set[str]:
    """Outputs of the head that are computed, no floats and of use for the rest alone: quantization would be judged by comparisons instead of what they compare."""
    needed = {name for node in head.graph.node for name in read_names(node)} | {value.name for value in whole.graph.output}
    return {name for name, value in zip(graph.output_names, graph.outputs, strict=True)
            if name not in needed and value.constant is None and not value.type.dtype.is_float}


def _without_constants(graph: Graph, rest: Rest) -> Rest:
    """Takes outputs of the head that are the same in every run, and that only the rest reads, into the rest."""
    own = {value.name for value in rest.model.graph.output}
    known = {name: value.constant for name, value in zip(graph.output_names, graph.outputs, strict=True) if value.constant is not None and name not in own}
    left = [(value, name) for name, value in zip(graph.output_names, graph.outputs, strict=True) if name not in known]
    graph.set_outputs([value for value, _ in left], [name for _, name in left])
    return replace(rest, constants={**rest.constants, **known})


def _cleaned(model: str | Path | bytes | onnx.ModelProto, shapes: Mapping[str, Sequence[GivenDim]] | None, inputs: Mapping[str, Given] | None,
             limits: Limits, constants: Mapping[str, Array]) -> tuple[Graph, ImportReport]:
    graph, report = import_model_with_report(model, shapes=shapes, inputs=inputs, limits=limits, constants=constants)
    run_passes(graph, parse_passes(PASSES))
    return graph, report


def _stuck(graph: Graph) -> set[str]:
    """The nodes of the model that operators come from which cannot be written with fixed shapes, or are about text, whose errors have no measure."""
    return {name for node in graph.nodes for name in node.loc
            if obstacle(node) is not None or not all(value.type.is_static and value.type.dtype is not DType.STRING
                                                     for value in (*node.inputs, *node.outputs) if value is not None)}
