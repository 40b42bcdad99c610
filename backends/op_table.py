"""Examples of every operator, by which back ends are asked what they support and tested.

A case is a small graph: as a rule one node between inputs and constants, for quantized arithmetic the nodes that the frontend
makes of it. Types and attributes that back ends tend to treat differently have cases of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.dims import symbol
from edgecc.ir.graph import Graph, Value
from edgecc.ir.op import Op
from edgecc.ir.scalar import PRIMITIVES, Arg, ScalarExpr, apply, convert, literal
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops.block_quantized import MatMulNBits
from edgecc.ops.control import If, Loop
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather, GatherElements, GatherND, ScatterElements, ScatterND
from edgecc.ops.matrix import Determinant, MatMul
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.ops.packing import Pack, Unpack
from edgecc.ops.recurrent import Recurrent
from edgecc.ops.reduction import ArgReduce, BatchNorm, CumProd, CumSum, Normalize, Reduce, Softmax, TopK
from edgecc.ops.requantize import requantized, rounded
from edgecc.ops.resize import Resize
from edgecc.ops.sampling import GridSample, RoiAlign
from edgecc.ops.selection import NonMaxSuppression, NonZero, Unique
from edgecc.ops.sizes import BindSize, Sizes
from edgecc.ops.sparse import BlockSparseMatMul
from edgecc.ops.strings import (
    IntegersToStrings,
    RegexFullMatch,
    StringCase,
    StringConcat,
    StringSplit,
    StringsToNumbers,
    StringTokens,
)
from edgecc.ops.trees import TreeEnsemble
from edgecc.ops.windows import Col2Im, MaxPosition

F32, F16, I8, U8, I32, I64, BOOL = DType.F32, DType.F16, DType.I8, DType.U8, DType.I32, DType.I64, DType.BOOL

X = tuple[int, ...]
"""An operand: the shape of an input, of the case's type."""


@dataclass(frozen=True)
class Weights:
    """An operand that is a constant of random numbers, of the case's type."""

    dims: tuple[int, ...]


Operand = X | Weights | Array


@dataclass(frozen=True)
class OpCase:
    """One example.

    Attributes:
        op: the operator; primitives of elementwise arithmetic are told apart: "elementwise tanh".
        name: what is special about it, such as a type.
        build: makes the graph, the same each time.
    """

    op: str
    name: str
    build: Callable[[], Graph]

    def __str__(self) -> str:
        return f"{self.op}, {self.name}"


@functools.cache
def op_table() -> tuple[OpCase, ...]:
    """All cases, those of one operator together, in the order of their names."""
    cases = [*_plain(), *_primitives(), *_quantized(), OpCase("if", "f32", _branch), OpCase("loop", "f32", _loop),
             OpCase("strings_to_numbers", "decimal, i64", _numbers_as_text)]
    return tuple(sorted(cases, key=lambda case: case.op))


def _plain() -> Iterator[OpCase]:
    """Single nodes: operator, types, operands."""
    floats = (F32, F16)
    rows = np.array([[0], [1]])
    tree: list[Array] = [np.array(a, np.int32) for a in ([0, 0, 0], [1, 1, 2], [2, 1, 2], [0, 0, 0], [0, 0, 1, 2], [0, 0], [0])]
    table: list[tuple[str, Op, Sequence[DType], Sequence[Operand]]] = [
        ("3x3", Conv((1, 1), (1, 1, 1, 1), (1, 1)), floats, [(1, 4, 6, 5), Weights((8, 4, 3, 3)), Weights((8,))]),
        ("strided", Conv((2, 2), (0, 1, 1, 0), (1, 1)), (F32,), [(2, 4, 6, 5), Weights((3, 4, 3, 3))]),
        ("dilated", Conv((1, 1), (2, 2, 2, 2), (2, 2)), (F32,), [(1, 4, 6, 5), Weights((3, 4, 3, 3))]),
        ("pointwise", Conv((1, 1), (0,) * 4, (1, 1)), floats, [(1, 4, 6, 5), Weights((8, 4, 1, 1)), Weights((8,))]),
        ("depthwise", Conv((1, 1), (1,) * 4, (1, 1), group=4), floats, [(1, 4, 6, 5), Weights((4, 1, 3, 3))]),
        ("grouped", Conv((1, 1), (1,) * 4, (1, 1), group=2), (F32,), [(1, 4, 6, 5), Weights((6, 2, 3, 3))]),
        ("along one axis", Conv((1,), (1, 1), (1,)), (F32,), [(1, 4, 9), Weights((3, 4, 3))]),
        ("in space", Conv((1,) * 3, (0,) * 6, (1,) * 3), (F32,), [(1, 2, 4, 4, 4), Weights((3, 2, 2, 2, 2))]),
        ("variable weights", Conv((1, 1), (0,) * 4, (1, 1)), (F32,), [(1, 4, 6, 5), (8, 4, 1, 1)]),
        ("with activation", Conv((1, 1), (1,) * 4, (1, 1), epilogue=apply("max", Arg(0, F32), literal(0.0, F32))), (F32,),
         [(1, 4, 6, 5), Weights((8, 4, 3, 3)), Weights((8,))]),
        ("stride 2", ConvTranspose((2, 2), (0,) * 4, (1, 1)), floats, [(1, 4, 3, 3), Weights((4, 3, 2, 2)), Weights((3,))]),
        ("max", Pool("max", (2, 2), (2, 2), (0,) * 4, (1, 1)), (F32, F16, I8), [(1, 4, 6, 6)]),
        ("average", Pool("average", (3, 3), (1, 1), (1,) * 4, (1, 1)), floats, [(1, 4, 6, 6)]),
        ("by constants", MatMul(), floats, [(3, 8), Weights((8, 5)), Weights((5,))]),
        ("by a variable", MatMul(), floats, [(2, 3, 8), (2, 8, 5)]),
        ("transposed", MatMul(transpose_b=True), (F32,), [(3, 8), Weights((5, 8))]),
        ("in blocks of 4 bits", MatMulNBits(16, bits=4), (F32,), [(2, 16), np.full((3, 16), 9, DType.U4.numpy), np.ones((3, 1), np.float32)]),
        ("in blocks of 16 rows", BlockSparseMatMul(20), (F32,), [(2, 8), _numbers((3, 16), F32, 1), np.array([1, 5, 7], np.int32), np.array([0, 2, 3], np.int32)]),
        ("3x3", Determinant(), (F32,), [(2, 3, 3)]),
        *((kind, Reduce(kind, (1,)), (F32,), [(2, 3, 4)]) for kind in ("sum", "mean", "max", "min", "prod", "l1", "l2", "sum_square")),
        ("over positions", Reduce("mean", (2, 3)), floats, [(1, 4, 5, 5)]),
        ("max", ArgReduce("max", 1), (F32,), [(2, 5)]), ("last axis", Softmax(1), floats, [(2, 7)]), ("log", Softmax(1, log=True), (F32,), [(2, 7)]),
        ("layer", Normalize((2,)), floats, [(1, 3, 8), Weights((8,)), Weights((8,))]),
        ("root mean square", Normalize((2,), rms=True), (F32,), [(1, 3, 8), Weights((8,))]),
        ("inference", BatchNorm(), (F32,), [(1, 3, 4), *[Weights((3,))] * 4]),
        ("along an axis", CumSum(1), (F32,), [(2, 5)]), ("along an axis", CumProd(1), (F32,), [(2, 5)]), ("largest 2", TopK(2, 1), (F32,), [(2, 5)]),
        ("channels last", Transpose((0, 2, 3, 1)), (F32, I8), [(1, 4, 3, 5)]), ("flat", Reshape((1, 60)), (F32, I8), [(1, 4, 3, 5)]),
        ("rows", Expand((4, 3)), (F32,), [(1, 3)]), ("channels", Concat(1), (F32, I8), [(1, 2, 3, 3), (1, 3, 3, 3)]),
        ("inner", Slice((0, 1), (2, 3), (1, 1)), (F32, I8), [(2, 5)]), ("backwards", Slice((0, 4), (2, 3), (1, -2)), (F32,), [(2, 5)]),
        ("by a constant", Pad((0, 0, 1, 1), (0, 0, 1, 2)), (F32, I8), [(1, 2, 3, 3)]), ("reflected", Pad((1, 0), (0, 1), "reflect"), (F32,), [(3, 3)]),
        ("along an axis", Gather(0), (F32, I32), [(4, 3), rows]), ("of elements", GatherElements(0), (F32,), [(2, 3), rows]),
        ("of tuples", GatherND(), (F32,), [(2, 3), rows]), ("sum", ScatterND("add"), (F32,), [(2, 3), rows, (2, 3)]),
        ("replacing", ScatterElements(0), (F32,), [(2, 3), rows, (2, 1)]),
        ("nearest", Resize("nearest", (1, 2, 6, 6), (1.0, 1.0, 2.0, 2.0)), (F32, I8), [(1, 2, 3, 3)]),
        ("linear", Resize("linear", (1, 2, 6, 6), (1.0, 1.0, 2.0, 2.0)), (F32,), [(1, 2, 3, 3)]),
        ("cubic", Resize("cubic", (1, 2, 6, 6), (1.0, 1.0, 2.0, 2.0)), (F32,), [(1, 2, 3, 3)]),
        ("known", Sizes((2, 3), (2, 1)), (F32,), []), ("of truth values", NonZero(), (F32,), [(2, 3)]), ("sorted", Unique(1), (F32,), [(2, 3)]),
        ("of boxes", NonMaxSuppression(3), (F32,), [(1, 4, 4), (1, 2, 4), np.array(3), np.array(0.5, np.float32)]),
        ("sum", TreeEnsemble(1, 1), (F32,), [(2, 1), tree[0], Weights((3,)), *tree[1:6], Weights((2,)), tree[6]]),
        ("2x2", MaxPosition((2, 2), (1, 1), (1, 0, 0, 1), (1, 1)), (F32,), [(1, 2, 4, 4)]),
        ("2x2", Col2Im((3, 4), (2, 2), (1, 1), (0,) * 4, (1, 1)), (F32,), [(1, 2, 4, 6)]),
        ("linear", GridSample(), (F32,), [(1, 2, 3, 3), (1, 2, 2, 2)]),
        ("average", RoiAlign("average", 2, 2), (F32,), [(1, 2, 4, 4), np.array([[0, 0, 3, 3]], np.float32), np.array([0])]),
        ("4 bits", Pack(4), (F32,), [np.arange(6, dtype=np.uint8)]), ("4 bits", Unpack(4, True, (3,)), (F32,), [np.arange(2, dtype=np.uint8)]),
    ]
    for kind, gates in (("rnn", 3), ("gru", 9), ("lstm", 12)):
        layer: list[Operand] = [(2, 1, 4), Weights((1, gates, 4)), Weights((1, gates, 3)), Weights((1, 2 * gates))]
        table.append((kind, Recurrent(kind, 3), (F32,), layer))
    table += [("two", StringConcat(), (DType.STRING,), [(2, 3), (2, 3)]), ("lower", StringCase(), (DType.STRING,), [(4,)]),
              ("upper", StringCase(upper=True), (DType.STRING,), [(4,)]), ("of a run", BindSize(symbol("n", 0, 9)), (I64,), [()]),
              ("at blanks", StringSplit(3), (DType.STRING,), [(2, 4)]), ("decimal", IntegersToStrings(), (I64,), [(4,)]),
              ("letters", StringTokens(7, r"\pL+"), (DType.STRING,), [(3,)]),
              ("words", RegexFullMatch(r"\w*( \pL+)?"), (DType.STRING,), [(2, 4)])]
    for name, op, dtypes, operands in table:
        for dtype in dtypes:
            yield OpCase(op.name, f"{name}, {dtype.value}", functools.partial(_single, op, dtype, tuple(operands)))
    for dtype in (I8, U8):
        conv = Conv((1, 1), (1,) * 4, (1, 1), x_zero=3)
        yield OpCase("conv", f"sums of products, {dtype.value}", functools.partial(_single, conv, dtype, ((1, 4, 6, 5), Weights((8, 4, 3, 3)))))
        yield OpCase("matmul", f"sums of products, {dtype.value}", functools.partial(_single, MatMul(a_zero=3), dtype, ((3, 8), Weights((8, 5)))))


def _single(op: Op, dtype: DType, operands: Sequence[Operand]) -> Graph:
    """A graph of one node."""
    graph = Graph("case")
    values = [_operand(graph, operand, dtype, index) for index, operand in enumerate(operands)]
    node = graph.add_node(op, values, loc=["node"])
    graph.set_outputs(node.outputs, [f"y{index}" for index in range(len(node.outputs))])
    return graph


def _operand(graph: Graph, operand: Operand, dtype: DType, index: int) -> Value:
    if isinstance(operand, tuple):
        return graph.add_input(TensorType(dtype, operand), f"x{index}")
    return graph.constant(operand if isinstance(operand, np.ndarray) else _numbers(operand.dims, dtype, index))


def _numbers(dims: tuple[int, ...], dtype: DType, seed: int) -> Array:
    """Random numbers of a type: floats from 0.5 to 2, so that they are fit to be variances; integers of all sizes."""
    generator = np.random.default_rng(seed)
    if dtype.is_float:
        return generator.uniform(0.5, 2.0, dims).astype(dtype.numpy)
    low, high = (int(limit) for limit in dtype.limits)
    return generator.integers(max(low, -100), min(high, 100), dims).astype(dtype.numpy)


def _primitives() -> Iterator[OpCase]:
    """Each primitive of elementwise arithmetic, in the first of some types that it takes; conversions."""
    for name, row in PRIMITIVES.items():
        for dtype in (F32, I32, BOOL):
            try:
                arguments = [Arg(index, BOOL if row.result == "select" and index == 0 else dtype) for index in range(row.arity)]
                expr = apply(name, *arguments)
            except EdgeccError:
                continue
            yield OpCase(f"elementwise {name}", dtype.value, functools.partial(_elementwise, expr, tuple(a.dtype for a in arguments)))
            if name not in ("add", "mul", "max", "min", "sub"):
                break
    for source, wanted in ((F32, I32), (I32, F32), (F32, F16), (I8, I32), (F32, BOOL)):
        yield OpCase("elementwise convert", f"{source.value} to {wanted.value}",
                     functools.partial(_elementwise, convert(Arg(0, source), wanted), (source,)))


def _elementwise(expr: ScalarExpr, dtypes: Sequence[DType]) -> Graph:
    graph = Graph("case")
    operands = [graph.add_input(TensorType(dtype, (1, 3, 4, 5)), f"x{index}") for index, dtype in enumerate(dtypes)]
    graph.set_outputs([graph.add(Elementwise(expr), *operands, loc=["node"])], ["y0"])
    return graph


# -- quantized arithmetic ---------------------------------------------------------------------


def _quantized() -> Iterator[OpCase]:
    """What the frontend makes of quantized operators: sums of integers, then what makes an integer of 8 bits of them."""
    for dtype in (I8, U8):
        for name, op, weights in (("3x3", Conv((1, 1), (1,) * 4, (1, 1), x_zero=-3 if dtype is I8 else 120), (8, 4, 3, 3)),
                                  ("pointwise", Conv((1, 1), (0,) * 4, (1, 1), x_zero=-3 if dtype is I8 else 120), (8, 4, 1, 1)),
                                  ("depthwise", Conv((2, 2), (1,) * 4, (1, 1), group=4, x_zero=-3 if dtype is I8 else 120), (4, 1, 3, 3))):
            for each in (False, True):
                scales = "a scale for each channel" if each else "one scale"
                yield OpCase("conv", f"{name} requantized, {scales}, {dtype.value}", functools.partial(_requantized_conv, op, weights, dtype, each))
        yield OpCase("matmul", f"requantized, {dtype.value}", functools.partial(_requantized_matmul, dtype))
        yield OpCase("elementwise add", f"requantized, {dtype.value}", functools.partial(_requantized_add, dtype))
        yield OpCase("elementwise max", f"of {dtype.value} with a zero point", functools.partial(
            _elementwise, apply("max", Arg(0, dtype), literal(5, dtype)), (dtype,)))


def _requantized_conv(op: Conv, weights: tuple[int, ...], dtype: DType, each: bool) -> Graph:
    graph = Graph("case")
    x = graph.add_input(TensorType(dtype, (1, 4, 6, 6)), "x0")
    w = graph.constant(_numbers(weights, dtype, 1))
    bias = graph.constant(np.random.default_rng(2).integers(-2000, 2000, weights[0]).astype(np.int32))
    total = graph.add(op, x, w, bias, loc=["conv"])
    scales = np.random.default_rng(3).uniform(1e-3, 4e-3, (1, weights[0], 1, 1) if each else ()).astype(np.float32)
    expr = requantized(Arg(0, I32), Arg(1, F32), literal(7, dtype), dtype)
    graph.set_outputs([graph.add(Elementwise(expr), total, graph.constant(scales), loc=["conv"])], ["y0"])
    return graph


def _requantized_matmul(dtype: DType) -> Graph:
    graph = Graph("case")
    x = graph.add_input(TensorType(dtype, (3, 16)), "x0")
    total = graph.add(MatMul(a_zero=2), x, graph.constant(_numbers((16, 5), dtype, 1)), loc=["matmul"])
    expr = requantized(Arg(0, I32), literal(2e-3, F32), literal(7, dtype), dtype)
    graph.set_outputs([graph.add(Elementwise(expr), total, loc=["matmul"])], ["y0"])
    return graph


def _requantized_add(dtype: DType) -> Graph:
    """round((a - 1) * 0.5 + (b - 2) * 0.25) + 7."""
    def term(index: int, zero: int, scale: float) -> ScalarExpr:
        difference = apply("sub", convert(Arg(index, dtype), I32), literal(zero, I32))
        return apply("mul", convert(difference, F32), literal(scale, F32))

    return _elementwise(rounded(apply("add", term(0, 1, 0.5), term(1, 2, 0.25)), literal(7, dtype), dtype), (dtype, dtype))


# -- strings ----------------------------------------------------------------------------------


def _numbers_as_text() -> Graph:
    """Numbers written as text and read again: other strings are none."""
    graph = Graph("case")
    text = graph.add(IntegersToStrings(), graph.add_input(TensorType(I64, (4,)), "x0"), loc=["text"])
    graph.set_outputs([graph.add(StringsToNumbers(I64), text, loc=["numbers"])], ["y0"])
    return graph


# -- regions ----------------------------------------------------------------------------------


def _branch() -> Graph:
    """y = -x if condition else x * x."""
    def region(name: str, *operands: int) -> Graph:
        inner = Graph(name)
        x = inner.add_input(TensorType(F32, (3,)), "x")
        inner.set_outputs([inner.add(Elementwise(apply(name, *(Arg(index, F32) for index in operands))), *[x] * len(operands))], ["y"])
        return inner

    graph = Graph("case")
    condition, x = graph.add_input(TensorType(BOOL, ()), "condition"), graph.add_input(TensorType(F32, (3,)), "x0")
    node = graph.add_node(If(), [condition, x], regions=[region("neg", 0), region("mul", 0, 1)], loc=["node"])
    graph.set_outputs(node.outputs, ["y0"])
    return graph


def _loop() -> Graph:
    """x = x + x, three times."""
    body = Graph("body")
    body.add_input(TensorType(I64, ()), "iteration")
    x = body.add_input(TensorType(F32, (3,)), "x")
    body.set_outputs([body.constant(np.array(True)), body.add(Elementwise(apply("add", Arg(0, F32), Arg(1, F32))), x, x)], ["go_on", "x"])
    graph = Graph("case")
    start = graph.add_input(TensorType(F32, (3,)), "x0")
    node = graph.add_node(Loop(states=1, limit=3), [graph.constant(np.array(3)), graph.constant(np.array(True)), start], regions=[body], loc=["node"])
    graph.set_outputs(node.outputs, ["y0"])
    return graph
