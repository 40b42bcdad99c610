"""`edgecc inspect MODEL`: what is in a model, whether or not it can be compiled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import typer
from rich.table import Table

from edgecc import api
from edgecc.cli import flags, models
from edgecc.cli.groups import takes_groups
from edgecc.cli.output import human_bytes, print_json, show
from edgecc.errors import EdgeccError, printable
from edgecc.frontend.load import LoadedModel, load_model
from edgecc.ir.types import DType
from edgecc.ops.work import graph_multiply_adds

app = typer.Typer(add_completion=False)

PARAMETER_TYPES = frozenset({
    onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE,
    onnx.TensorProto.INT8, onnx.TensorProto.UINT8,
})
"""Element types of weights; larger integers are shapes, indices and biases of quantized layers."""


@dataclass(frozen=True)
class Summary:
    """What `inspect` shows. Shapes hold numbers, names of dimensions, or "?"."""

    name: str
    producer: str
    opsets: Mapping[str, int]
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    ops: Mapping[str, int]
    parameters: int
    parameter_bytes: int
    macs: int | None
    macs_problem: str


@app.command()
@takes_groups
def inspect(
    *,
    model: models.Model,
    binding: models.Binding,
    as_json: flags.AsJson = False,
) -> None:
    """Show what is in a model."""
    options = binding.options()
    loaded = load_model(model, options.limits)
    macs, problem = None, ""
    try:
        macs = graph_multiply_adds(api.imported(loaded.proto, options)[0])
    except EdgeccError as error:
        problem = error.message
    summary = _summarize(loaded, macs, problem)
    if as_json:
        print_json({**vars(summary), "opsets": dict(summary.opsets), "ops": dict(summary.ops)})
    else:
        _show(summary)


def _summarize(loaded: LoadedModel, macs: int | None, problem: str) -> Summary:
    graph = loaded.proto.graph
    weights = {tensor.name for tensor in graph.initializer}
    tensors = [t for t in _tensors(graph) if t.data_type in PARAMETER_TYPES]
    sizes = [math.prod(t.dims) for t in tensors]
    size_bytes = sum(-(-size * DType(_ir_name(t.data_type)).bits // 8) for t, size in zip(tensors, sizes, strict=True))
    ops = Counter(_op_name(node) for node in graph.node)
    return Summary(
        name=printable(graph.name), producer=printable(f"{loaded.proto.producer_name} {loaded.proto.producer_version}".strip()),
        opsets={printable(domain) or "ai.onnx": version for domain, version in loaded.opsets.items()},
        inputs=tuple(_port(value) for value in graph.input if value.name not in weights),
        outputs=tuple(_port(value) for value in graph.output),
        ops=dict(sorted(ops.items(), key=lambda item: (-item[1], item[0]))),
        parameters=sum(sizes), parameter_bytes=size_bytes, macs=macs, macs_problem=problem)


def _ir_name(code: int) -> str:
    dtype = DType.from_code(code)
    return dtype.value if dtype is not None else DType.U8.value


def _tensors(graph: onnx.GraphProto) -> Iterable[onnx.TensorProto]:
    """Initializers and Constant nodes of the top-level graph."""
    yield from graph.initializer
    for node in graph.node:
        if node.op_type == "Constant":
            yield from (attribute.t for attribute in node.attribute if attribute.name == "value")


def _op_name(node: onnx.NodeProto) -> str:
    name = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    return printable(name, 80)


def _port(value: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = value.type.tensor_type
    dtype = DType.from_code(tensor.elem_type)
    dims = [d.dim_value if d.HasField("dim_value") else printable(d.dim_param, 40) or "?" for d in tensor.shape.dim]
    return {"name": value.name, "dtype": str(dtype.numpy) if dtype else "unsupported",
            "shape": dims if tensor.HasField("shape") else None}


def _show(summary: Summary) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("model", summary.name)
    table.add_row("producer", summary.producer or "unknown")
    table.add_row("opsets", ", ".join(f"{domain} {version}" for domain, version in summary.opsets.items()))
    for kind, ports in (("input", summary.inputs), ("output", summary.outputs)):
        for port in ports:
            shape = "unknown shape" if port["shape"] is None else f"[{','.join(map(str, port['shape']))}]"
            table.add_row(kind, f"{printable(port['name'])}  {port['dtype']}{'' if port['shape'] is not None else ' '}{shape}")
    table.add_row("parameters", f"{summary.parameters:,} in {human_bytes(summary.parameter_bytes)}")
    counted = f"{summary.macs:,}" if summary.macs is not None else f"unknown: {summary.macs_problem}"
    table.add_row("multiply-adds", counted)
    table.add_row("operators", ", ".join(f"{name} {count}" for name, count in summary.ops.items()))
    show(table)
