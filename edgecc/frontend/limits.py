"""Limits on untrusted models, and the walk that applies them before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass

import onnx

from edgecc.errors import EdgeccError, printable
from edgecc.ir.dims import Dim, upper_bound
from edgecc.ir.types import TensorType


def raised(name: str) -> str:
    """The hint of an error about a limit: how to raise it."""
    return f"if the model is trusted, raise the limit: --limits {name}=NUMBER, or Limits({name}=NUMBER) in Python"


@dataclass(frozen=True)
class Limits:
    """Bounds on what a model may ask for. Crossing one is E101.

    Attributes:
        file_bytes: size of the model file.
        nodes: nodes of the model after functions are inlined; the imported graph may have twice as many operators.
        entries: stored tensors, declared types, texts and the like in each list of the model, also in the graphs and attributes of nodes;
            operands and results of all nodes together.
        unrolled: nodes in bodies of loops, scans and conditions, each as often as it is written out.
        operands: operands, results, and attributes, of one node; inputs, and outputs, of the model.
        nesting: depth of graphs inside attributes of nodes, and of functions calling functions.
        rank: axes of a tensor.
        elements: elements of one tensor, constant or computed.
        constant_bytes: bytes of all constants together, those computed while importing included.
        folding_work: scalar operations spent on evaluating large constants while importing; when it
            is used up, operators on large constants stay in the graph (this is no error).
        made_bytes: bytes of all arrays together that are made out of sizes alone while importing: ranges, random numbers, matrices
            of transforms, dense forms of sparse tensors; and of copies of what the files hold once, by functions and by tensors that share data.
        trip_count: iterations of a loop whose end is known only at run time; the run counts them.
        collected_rows: rows of what such a loop collects, where the model does not say how many there are; 0: it is refused.
        computed_size: the largest size that is computed at run time, where neither an operator nor the model bounds it; 0: it
            is refused.
        open_size: the largest size of a dimension that is left open without bounds ("?").
        arena_bytes: scratch memory of a run of the compiled model.
        generated_bytes: text of the generated sources.
        kernels: unlike kernels for convolutions, products of matrices and what else can be computed in several ways; equal layers share one,
            and every eight loop nests of one count as another, as transposed convolutions have them for their phases.
        string_parts: parts that a run divides one string into, where the model does not say; the run ends with a status where there are more.
        string_bytes: text of the strings that a run of the compiled model makes; the run ends with a status where it needs more.
    """

    file_bytes: int = 2**31
    nodes: int = 12_000
    entries: int = 100_000
    unrolled: int = 10_000
    operands: int = 5_000
    nesting: int = 32
    rank: int = 16
    elements: int = 2**30
    constant_bytes: int = 2**32
    folding_work: int = 2**24
    made_bytes: int = 2**28
    open_size: int = 256
    arena_bytes: int = 2**33
    generated_bytes: int = 2**24
    kernels: int = 1_000
    trip_count: int = 2**24
    collected_rows: int = 0
    computed_size: int = 0
    string_bytes: int = 2**16
    string_parts: int = 256

    def check_dims(self, dims: Iterable[Dim], what: str, where: str = "") -> int:
        """Checks rank and element count of a shape and returns the count.

        Dimensions known only at run time count with their largest size.
        Raises: EdgeccError E102 for a negative dimension, E101 for too high a rank or too many elements.
        """
        sizes = tuple(upper_bound(dim) for dim in dims)
        if len(sizes) > self.rank:
            raise EdgeccError("E101", f"{what} has rank {len(sizes)}; the limit is {self.rank}", where=where)
        if any(size < 0 for size in sizes):
            raise EdgeccError("E102", f"{what} has a negative dimension: {list(sizes)}", where=where)
        count = math.prod(sizes)
        if count > self.elements or max(sizes, default=0) > self.elements:
            raise EdgeccError("E101", f"{what} has {count} elements in the shape {list(sizes)}; the limit is "
                                      f"{self.elements}", where=where,
                              hint=raised("elements"))
        return count

    def check_type(self, tensor_type: TensorType, what: str, where: str = "") -> int:
        """`check_dims` for a tensor type."""
        return self.check_dims(tensor_type.shape, what, where)


DEFAULT_LIMITS = Limits()


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs held directly by attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def tensors_of(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    """The tensors held directly by attributes of a node; of sparse ones both parts."""
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (*((attribute.sparse_tensor,) if attribute.HasField("sparse_tensor") else ()),
                       *attribute.sparse_tensors):
            yield sparse.values
            yield sparse.indices


def graphs_of(model: onnx.ModelProto, limits: Limits) -> Iterator[onnx.GraphProto]:
    """Every graph of the model: the top one, then those inside attributes, functions' ones too.

    Raises: EdgeccError E101 where graphs are nested deeper than the limit.
    """
    pending = [(model.graph, 1)]
    for function in model.functions:
        pending.extend((graph, 2) for node in function.node for graph in subgraphs(node))
    while pending:
        graph, depth = pending.pop()
        if depth > limits.nesting:
            raise EdgeccError("E101", f"graphs are nested deeper than {limits.nesting}")
        yield graph
        pending.extend((inner, depth + 1) for node in graph.node for inner in subgraphs(node))


def all_tensors(model: onnx.ModelProto, limits: Limits) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in the model: initializers and attributes of all graphs and functions."""
    for graph in graphs_of(model, limits):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices
        for node in graph.node:
            yield from tensors_of(node)
    for function in model.functions:
        for node in function.node:
            yield from tensors_of(node)


def check_counts(model: onnx.ModelProto, limits: Limits) -> None:
    """Checks how long the lists of the model are, which takes no time however long they are: looking into them would.

    Raises: EdgeccError E101 naming the limit.
    """
    nodes = len(model.graph.node)
    if nodes > limits.nodes:
        raise EdgeccError("E101", f"the model has {nodes} nodes; the limit is {limits.nodes}", hint=raised("nodes"))
    for message in (model, model.graph):
        for field in message.DESCRIPTOR.fields:
            many = len(getattr(message, field.name)) if field.is_repeated else 0
            if many > limits.entries and field.name != "node":
                raise EdgeccError("E101", f"the model has {many} entries in the list {field.name}; the limit is {limits.entries}",
                                  hint=raised("entries"))
    _check_widths(model.graph.node, limits)
    stored = len(model.graph.initializer)  # older models list them among the inputs
    for what, many in (("inputs", len(model.graph.input) - stored), ("outputs", len(model.graph.output))):
        if many > limits.operands:
            raise EdgeccError("E101", f"the model has {many} {what}; the limit is {limits.operands}", hint=raised("operands"))


def check_list(name: str, entries: Sized, limits: Limits) -> None:
    """Raises: EdgeccError E101 for a list, in any part of the model, that is longer than any is."""
    if len(entries) > limits.entries:
        raise EdgeccError("E101", f"the model has {len(entries)} entries in a list {name}; the limit is {limits.entries}", hint=raised("entries"))


def _check_widths(nodes: Iterable[onnx.NodeProto], limits: Limits) -> int:
    """How many operands and results the nodes have together. Raises: EdgeccError E101 for a node of too many operands, results or attributes."""
    widest, together = 0, 0
    for node in nodes:
        operands, results = len(node.input), len(node.output)
        widest, together = max(widest, operands, results, len(node.attribute)), together + operands + results
    if widest > limits.operands:
        raise EdgeccError("E101", f"a node has {widest} operands, results or attributes; the limit is {limits.operands}", hint=raised("operands"))
    return together


def check_limits(model: onnx.ModelProto, limits: Limits) -> None:
    """Checks nodes, nesting, and dims of every stored tensor.

    Raises: EdgeccError E101 or E102 naming the limit or the tensor.
    """
    nodes = sum(len(graph.node) + 1 for graph in graphs_of(model, limits)) - 1  # a graph inside a node counts as one
    nodes += sum(len(function.node) for function in model.functions)
    if nodes > limits.nodes:
        raise EdgeccError("E101", f"the model has {nodes} nodes; the limit is {limits.nodes}",
                          hint=raised("nodes"))
    bodies = (*(graph.node for graph in graphs_of(model, limits)), *(function.node for function in model.functions))
    together = sum(_check_widths(body, limits) for body in bodies)
    if together > limits.entries:
        raise EdgeccError("E101", f"the nodes have {together} operands and results together; the limit is {limits.entries}", hint=raised("entries"))
    total = 0
    for tensor in all_tensors(model, limits):
        limits.check_dims(tensor.dims, f"tensor '{printable(tensor.name)}'")
        total += stored_bytes(tensor)
    if total > limits.constant_bytes:
        raise EdgeccError("E101", f"the constants of the model take {total} bytes; the limit is {limits.constant_bytes}",
                          hint=raised("constant_bytes"))


_BITS: dict[int, int] = {
    onnx.TensorProto.FLOAT: 32, onnx.TensorProto.UINT8: 8, onnx.TensorProto.INT8: 8, onnx.TensorProto.UINT16: 16,
    onnx.TensorProto.INT16: 16, onnx.TensorProto.INT32: 32, onnx.TensorProto.INT64: 64, onnx.TensorProto.BOOL: 8,
    onnx.TensorProto.FLOAT16: 16, onnx.TensorProto.DOUBLE: 64, onnx.TensorProto.UINT32: 32,
    onnx.TensorProto.UINT64: 64, onnx.TensorProto.COMPLEX64: 64, onnx.TensorProto.COMPLEX128: 128,
    onnx.TensorProto.BFLOAT16: 16, onnx.TensorProto.FLOAT8E4M3FN: 8, onnx.TensorProto.FLOAT8E4M3FNUZ: 8,
    onnx.TensorProto.FLOAT8E5M2: 8, onnx.TensorProto.FLOAT8E5M2FNUZ: 8, onnx.TensorProto.UINT4: 4,
    onnx.TensorProto.INT4: 4, 23: 4, 24: 8, 25: 2, 26: 2,  # FLOAT4E2M1, FLOAT8E8M0, UINT2, INT2, which older versions of onnx lack
}


def stored_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes that the elements of a tensor take in raw form; 0 for types without a fixed size."""
    bits: int = math.prod(tensor.dims) * _BITS.get(tensor.data_type, 0)
    return (bits + 7) // 8
