"""convert-precision: what becomes f16 or bf16, what stays f32, and why."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.scalar import Arg, Literal, apply, convert
from edgecc.ir.types import DType
from edgecc.passes.narrowing import computes_in_f16
from edgecc.pipeline import run_passes
from edgecc.reference.executor import execute, sample_inputs
from tests.support.graph_passes import declined, fired, graph_of, passes_of

FP16, BF16 = "convert-precision", "convert-precision{precision=bf16}"

CONV = "{strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1"
FIRES = {
    "contractions between inputs and outputs of f32": """
        graph "g" (%x: f32[1,4,5,5] "x") {
          %w = constant f32[8,4,3,3] random
          %b = constant f32[8] random
          %v = constant f32[2,8,1,1] random
          %a = conv(%x, %w, %b) {strides=(1,1), pads=(1,1,1,1), dilations=(1,1), group=1, epilogue=`min(max($0:f32, 0.0:f32), 6.0:f32)`} : f32[1,8,5,5] loc("First")
          %y = conv(%a, %v) CONV} : f32[1,2,5,5] loc("Last")
          return %y "y"
        }""",
    "an epilogue that needs f32, and a residual": """
        graph "g" (%x: f32[1,4,5,5] "x") {
          %w = constant f32[4,4,1,1] random
          %v = constant f32[4,4,1,1] random
          %a = conv(%x, %w) CONV, epilogue=`mul($0:f32, sigmoid($0:f32))`} : f32[1,4,5,5] loc("Silu")
          %b = conv(%a, %v, none, %a) CONV, epilogue=`add($0:f32, $1:f32)`} : f32[1,4,5,5] loc("Residual")
          %y = reduce(%b) {kind="mean", axes=(2,3), keepdims=false} : f32[1,4] loc("Mean")
          return %y "y"
        }""",
    "elementwise work, statistics and movement between products": """
        graph "g" (%x: f32[2,6,4] "x") {
          %w = constant f32[4,4] random
          %k = constant f32[4] random
          %a = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[2,6,4] loc("A")
          %n = normalize(%a, %k, %k) {axes=(2), epsilon=1e-05} : f32[2,6,4] loc("Norm")
          %e = elementwise(%n, %a) {expr=`add($0:f32, $1:f32)`} : f32[2,6,4] loc("Add")
          %t = transpose(%e) {perm=(0,2,1)} : f32[2,4,6] loc("Transpose")
          %s = matmul(%e, %t) {transpose_a=false, transpose_b=false, epilogue=`mul($0:f32, 0.5:f32)`} : f32[2,6,6] loc("Scores")
          %p = softmax(%s) {axis=2, log=false} : f32[2,6,6] loc("Softmax")
          %c = matmul(%p, %a) {transpose_a=false, transpose_b=false} : f32[2,6,4] loc("C")
          %g = elementwise(%c) {expr=`mul($0:f32, add(erf($0:f32), 1.0:f32))`} : f32[2,6,4] loc("Gelu")
          %y = matmul(%g, %w) {transpose_a=false, transpose_b=false} : f32[2,6,4] loc("Y")
          return %y "y"
        }""",
    "what is returned and what decides keeps f32": """
        graph "g" (%x: f32[2,4] "x") {
          %w = constant f32[4,4] random
          %a = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[2,4] loc("A")
          %p = softmax(%a) {axis=1, log=false} : f32[2,4] loc("Softmax")
          %b = matmul(%p, %w) {transpose_a=false, transpose_b=false} : f32[2,4] loc("B")
          %i = elementwise(%b) {expr=`i32(floor($0:f32))`} : i32[2,4] loc("Decide")
          return %p "p", %i "i"
        }""",
}


def text_of(name: str) -> str:
    return FIRES[name].replace("CONV", CONV)


@pytest.mark.parametrize("name", FIRES)
@pytest.mark.parametrize("passes", [FP16, BF16], ids=["fp16", "bf16"])
def test_fires(passes, name, golden):
    golden(fired(passes, text_of(name)))


@pytest.mark.parametrize("passes", [FP16, BF16], ids=["fp16", "bf16"])
def test_results_move_by_few_roundings_of_the_half_type(passes):
    graph = graph_of(text_of("elementwise work, statistics and movement between products"))
    inputs = sample_inputs(graph)
    exact = execute(graph, inputs)["y"]
    run_passes(graph, passes_of(passes))
    moved = execute(graph, inputs)["y"]
    roundoff = (DType.F16 if passes == FP16 else DType.BF16).unit_roundoff
    error = np.abs(moved - exact).max() / np.abs(exact).max()
    assert 0.0 < error < 32 * roundoff


DECLINES = {
    "numbers beyond f16": """
        graph "g" (%x: f32[2,2] "x") {
          %w = constant f32[2,2] [1.0, 2.0, 70000.0, 3.0]
          %a = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[2,2] loc("Large")
          return %a "a"
        }""",
    "an operator of f32": """
        graph "g" (%x: f32[2,2] "x") {
          %a = reduce(%x) {kind="sum_square", axes=(1), keepdims=true} : f32[2,1] loc("Squares")
          return %a "a"
        }""",
}


@pytest.mark.parametrize("name", DECLINES)
def test_declines(name, golden):
    golden(declined(FP16, DECLINES[name]), "txt")


def test_case_1_named_nodes_keep_f32(golden):
    text = text_of("contractions between inputs and outputs of f32")
    golden(declined("convert-precision{keep=First+Last}", text), "txt")
    with pytest.raises(EdgeccError, match="Middle") as caught:
        run_passes(graph_of(text), passes_of("convert-precision{keep=Middle}"))
    assert caught.value.code == "E004"


def test_case_4_bf16_wants_pairs(golden):
    golden(fired(BF16, text_of("contractions between inputs and outputs of f32").replace("4,5,5", "3,5,5").replace("8,4,3,3", "8,3,3,3")))


def x(index: int = 0) -> Arg:
    return Arg(index, DType.F32)


def number(value: float) -> Literal:
    return Literal(value, DType.F32)


def hard_swish() -> object:
    return apply("mul", apply("mul", x(), apply("min", apply("max", apply("add", x(), number(3.0)), number(0.0)), number(6.0))),
                 number(0.1666))


@pytest.mark.parametrize(("expr", "allowed"), [
    (apply("min", apply("max", x(), number(0.0)), number(6.0)), True),
    (hard_swish(), True),
    (apply("mul", x(), x(1)), True),
    (apply("mul", apply("mul", x(), x()), number(0.001)), False),
    (apply("exp", x()), False),
    (apply("add", x(), number(1e-7)), False),
    (apply("add", x(), number(-3.4e38)), False),
    (apply("max", x(), number(-np.inf)), True),
    (apply("div", number(1.0), apply("add", x(), apply("div", x(1), x()))), False),
    (convert(apply("add", x(), x(1)), DType.I32), False),
    (apply("select", apply("lt", x(), number(0.0)), apply("mul", x(), number(0.01)), x()), True),
], ids=["clamp", "hard swish", "product", "square inside", "exp", "tiny number", "huge number", "infinity", "quotient inside",
        "integer", "leaky relu"])
def test_what_is_computed_in_f16(expr, allowed):
    assert computes_in_f16(expr) == allowed
