"""fuse-residual: other tensors are combined with the result of a contraction in its epilogue."""

from __future__ import annotations

import pytest

from tests.support.graph_passes import declined, fired

FIRES = {
    "residual and relu": """
        graph "g" (%x: f32[1,3,4,4] "x") {
          %w = constant f32[3,3,1,1] random
          %c = conv(%x, %w) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1} : f32[1,3,4,4] loc("Conv")
          %y = elementwise(%x, %c) {expr=`max(add($0:f32, $1:f32), 0.0:f32)`} : f32[1,3,4,4] loc("Add", "Relu")
          return %y "y"
        }""",
    "the last of two candidates": """
        graph "g" (%x: f32[2,3] "x") {
          %w = constant f32[3,3] random
          %v = constant f32[3,3] random
          %a = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[2,3] loc("A")
          %b = matmul(%x, %v) {transpose_a=false, transpose_b=false, epilogue=`sigmoid($0:f32)`} : f32[2,3] loc("B")
          %y = elementwise(%b, %a) {expr=`mul($0:f32, $1:f32)`} : f32[2,3] loc("Mul")
          return %y "y"
        }""",
    "the other operand is computed after the contraction": """
        graph "g" (%x: f32[2,3] "x") {
          %w = constant f32[3,3] random
          %c = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[2,3] loc("MatMul")
          %s = softmax(%x) {axis=1, log=false} : f32[2,3] loc("Softmax")
          %y = elementwise(%c, %s) {expr=`mul($0:f32, $1:f32)`} : f32[2,3] loc("Mul")
          return %y "y"
        }""",
    "a mask of another type is broadcast": """
        graph "g" (%x: f32[2,4,3] "x", %m: bool[2,1,3] "m") {
          %w = constant f32[3,3] random
          %c = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[2,4,3] loc("MatMul")
          %y = elementwise(%m, %c) {expr=`select($0:bool, $1:f32, -inf:f32)`} : f32[2,4,3] loc("Where")
          return %y "y"
        }""",
    "quantized sums of integers": """
        graph "g" (%x: u8[2,3] "x", %r: u8[2,3] "r") {
          %w = constant i8[3,3] random
          %c = matmul(%x, %w) {transpose_a=false, transpose_b=false, epilogue=`u8(add(round(mul(f32($0:i32), 0.01:f32)), 7.0:f32))`} : u8[2,3] loc("MatMul")
          %y = elementwise(%c, %r) {expr=`u8(round(add(mul(f32(sub(i32($0:u8), 7:i32)), 0.9:f32), f32($1:u8))))`} : u8[2,3] loc("Add")
          return %y "y"
        }""",
    "the other candidate is returned": """
        graph "g" (%x: f32[2,3] "x") {
          %w = constant f32[3,3] random
          %a = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[2,3] loc("A")
          %b = matmul(%a, %w) {transpose_a=false, transpose_b=false} : f32[2,3] loc("B")
          %y = elementwise(%a, %b) {expr=`mul($0:f32, $1:f32)`} : f32[2,3] loc("Mul")
          return %y "y", %b "b"
        }""".replace('%b "b"', '%b "b"').replace("matmul(%a, %w)", "matmul(%x, %w)"),
}

DECLINES = {
    "1 it is read twice": """
        graph "g" (%x: f32[2,3] "x") {
          %w = constant f32[3,3] random
          %c = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[2,3] loc("MatMul")
          %s = softmax(%c) {axis=1, log=false} : f32[2,3] loc("Softmax")
          %y = elementwise(%c, %s) {expr=`mul($0:f32, $1:f32)`} : f32[2,3] loc("Mul")
          return %y "y"
        }""",
    "1 returned": """
        graph "g" (%x: f32[2,3] "x") {
          %w = constant f32[3,3] random
          %c = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[2,3] loc("MatMul")
          %y = elementwise(%c, %x) {expr=`mul($0:f32, $1:f32)`} : f32[2,3] loc("Mul")
          return %y "y", %c "c"
        }""",
    "2 the result is larger": """
        graph "g" (%x: f32[2,3] "x", %z: f32[4,2,3] "z") {
          %w = constant f32[3,3] random
          %c = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[2,3] loc("MatMul")
          %y = elementwise(%c, %z) {expr=`mul($0:f32, $1:f32)`} : f32[4,2,3] loc("Mul")
          return %y "y"
        }""",
    "3 too many operands": """
        graph "g" ({inputs}) {{
          %w = constant f32[3,3] random
          %c = matmul(%x0, %w) {{transpose_a=false, transpose_b=false}} : f32[2,3] loc("MatMul")
          %y = elementwise(%c, {others}) {{expr=`{expr}`}} : f32[2,3] loc("Sum")
          return %y "y"
        }}""".format(inputs=", ".join(f'%x{i}: f32[2,3] "x{i}"' for i in range(7)), others=", ".join(f"%x{i}" for i in range(7)),
                     expr="add(" * 7 + "$0:f32" + "".join(f", ${i}:f32)" for i in range(1, 8))),
    "4 a comparison with what an epilogue rounds": """
        graph "g" (%x: f32[2,3] "x") {
          %w = constant f32[3,3] random
          %c = matmul(%x, %w) {transpose_a=false, transpose_b=false, epilogue=`mul($0:f32, 0.1:f32)`} : f32[2,3] loc("MatMul")
          %y = elementwise(%c, %x) {expr=`lt($0:f32, $1:f32)`} : bool[2,3] loc("Less")
          return %y "y"
        }""",
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("fuse-residual", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("fuse-residual", DECLINES[case]), "txt")
