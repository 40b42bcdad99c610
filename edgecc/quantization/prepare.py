"""The model that is quantized: cleaned up, batch normalisations folded into weights, written as ONNX again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from edgecc.backends.onnx.export import export_onnx
from edgecc.frontend.bind import GivenDim
from edgecc.frontend.importing import import_model_with_report
from edgecc.frontend.limits import Limits
from edgecc.ir.types import Array
from edgecc.passes.base import parse_passes
from edgecc.pipeline import run_passes
from edgecc.quantization.network import Network

PASSES = ("eliminate,simplify-movement,fold-constants,fuse-conv-bn,canonicalize,fold-constants,eliminate,"
          "recognize-normalization,recognize-activation,fold-transpose,fold-reshape,simplify-movement,canonicalize,eliminate,recognize-bias,fold-pad")
"""What is done to the graph. Nothing that makes kernels: other tools read the result, and know operators one by one."""

OPSET = 21
"""Has blocks of weights."""

BYTES_OPSET = 20
"""Enough for models whose values have 8 bits; 16 bits raise it (insert.py). onnxruntime 1.32 refuses some of opset 21: where it turns a product of rank 3 and its bias
into a Gemm it states output_dtype for int8, then moves the zero point to uint8."""


def prepared(model: str | Path | bytes | onnx.ModelProto, *, shapes: Mapping[str, Sequence[GivenDim]] | None = None,
             inputs: Mapping[str, Array] | None = None, limits: Limits | None = None, opset: int = OPSET,
             constants: Mapping[str, Array] | None = None) -> tuple[Network, tuple[str, ...]]:
    """The network to quantize, and the importer's notes.

    Raises: EdgeccError for what cannot be imported, and E114 for what cannot be written as ONNX.
    """
    graph, report = import_model_with_report(model, shapes=shapes, inputs=inputs, limits=limits or Limits(), constants=constants)
    run_passes(graph, parse_passes(PASSES))
    return Network(export_onnx(graph, opset=opset)), tuple(report.notes)
