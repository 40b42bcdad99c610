"""How much an operator computes: multiply-adds, the unit in which networks are compared, and what its reference takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgecc.ir.graph import Graph
from edgecc.ir.op import Op
from edgecc.ir.types import TensorType
from edgecc.ops.block_quantized import MatMulNBits
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.ops.matrix import Determinant, MatMul
from edgecc.ops.recurrent import Recurrent
from edgecc.ops.resize import Resize
from edgecc.ops.sampling import GridSample, RoiAlign
from edgecc.ops.selection import NonMaxSuppression, Unique
from edgecc.ops.trees import TreeEnsemble
from edgecc.ops.windows import MaxPosition

Dims = tuple[int, ...]


def multiply_adds(op: Op, inputs: Sequence[Dims | None], outputs: Sequence[Dims]) -> int:
    """Multiply-adds of a convolution, matrix product or recurrent layer with operands and results of these shapes.

    Other operators count as none. Products with padding count like all others.
    """
    dims = [() if d is None else d for d in inputs]
    match op:
        case Conv():
            return math.prod(outputs[0]) * math.prod(dims[1][1:])
        case ConvTranspose():
            return math.prod(dims[0]) * math.prod(dims[1][1:])
        case MatMul(transpose_a=transposed):
            return math.prod(outputs[0]) * dims[0][-2 if transposed else -1]
        case MatMulNBits():
            return math.prod(outputs[0]) * dims[0][-1]
        case Recurrent():
            from_x = 0 if inputs[1] is None else math.prod(dims[1])
            return math.prod(dims[0][:-1]) * (from_x + math.prod(dims[2]))
    return 0


def reference_work(op: Op, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> int:
    """Rough number of scalar operations that the operator's reference needs."""
    made = sum(t.elements for t in outputs)
    read = sum(t.elements for t in inputs if t is not None)
    dims = [() if t is None else t.dims for t in inputs]
    match op:
        case MatMul(transpose_a=transpose_a):
            made *= dims[0][-2 if transpose_a else -1]
        case Conv() | ConvTranspose():
            made *= math.prod(dims[1][1:])
        case Pool(kernel=kernel) | MaxPosition(kernel=kernel):
            made *= math.prod(kernel)
        case NonMaxSuppression():
            made *= max(dims[0][1], 1)
        case TreeEnsemble(depth=depth):
            made *= 64 * max(dims[9][0], 1) * (depth + 1)
        case Unique():
            made *= 64
        case Determinant():
            made *= max(dims[0][-1], 1) ** 3
        case Resize() | Recurrent() | GridSample() | RoiAlign():
            made *= 256
    return made + read


def graph_multiply_adds(graph: Graph) -> int:
    """Multiply-adds of all nodes of a graph with static shapes, those of each region counted once."""
    return sum(multiply_adds(node.op, [None if t is None else t.dims for t in node.input_types],
                             [v.type.dims for v in node.outputs]) for inner in graph.all_graphs() for node in inner.nodes)
