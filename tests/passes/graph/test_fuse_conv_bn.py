"""fuse-conv-bn: batch normalisation goes into weights and bias."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.ir.graph import Graph
from edgecc.ir.types import DType, TensorType
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.ops.matrix import MatMul
from edgecc.ops.reduction import BatchNorm
from tests.support.graph_passes import declined, fired, run_checked

# Epsilon is large, variances are small, channels unequal: a forgotten term or a wrong axis is far off.
NORM = """%s = constant f32[{c}] random
          %t = constant f32[{c}] random
          %m = constant f32[{c}] random
          %v = constant f32[{c}] positive
          {result} = batch_norm({x}, %s, %t, %m, %v) {{epsilon=0.1}} : f32[{dims}] loc("BN")"""


def norm(x: str, result: str, c: int, dims: str) -> str:
    return NORM.format(x=x, result=result, c=c, dims=dims)


CONV_BN = f"""
    graph "g" (%x: f32[2,4,5,6] "x") {{
      %w = constant f32[6,2,3,2] random
      %b = constant f32[6] random
      %c = conv(%x, %w, %b) {{strides=(2,1), pads=(1,0,0,1), dilations=(1,2), group=2}} : f32[2,6,2,5] loc("Conv")
      {norm("%c", "%y", 6, "2,6,2,5")}
      return %y "y"
    }}"""

BN_CONV = f"""
    graph "g" (%x: f32[2,4,5,6] "x") {{
      {norm("%x", "%n", 4, "2,4,5,6")}
      %w = constant f32[6,2,3,2] random
      %b = constant f32[6] random
      %y = conv(%n, %w, %b) {{strides=(2,1), pads=(0,0,0,0), dilations=(1,2), group=2, \
epilogue=`max($0:f32, 0.0:f32)`}} : f32[2,6,2,4] loc("Conv")
      return %y "y"
    }}"""

MATMUL_BN = f"""
    graph "g" (%x: f32[5,4] "x") {{
      %w = constant f32[3,4] random
      %b = constant f32[1,3] random
      %c = matmul(%x, %w, %b) {{transpose_a=false, transpose_b=true}} : f32[5,3] loc("Gemm")
      {norm("%c", "%y", 3, "5,3")}
      return %y "y"
    }}"""

TRANSPOSED_BN = f"""
    graph "g" (%x: f32[2,4,5,6] "x") {{
      %w = constant f32[4,3,2,3] random
      %b = constant f32[6] random
      %c = conv_transpose(%x, %w, %b) {{strides=(2,1), pads=(0,1,0,0), dilations=(1,1), group=2, \
output_padding=(1,0)}} : f32[2,6,11,7] loc("ConvTranspose")
      {norm("%c", "%y", 6, "2,6,11,7")}
      return %y "y"
    }}"""

FIRES = {
    "conv with groups and bias": CONV_BN,
    "conv without bias": CONV_BN.replace("%w, %b)", "%w)").replace("%b = constant f32[6] random", ""),
    "conv transpose with groups": TRANSPOSED_BN,
    "conv transpose without bias": TRANSPOSED_BN.replace("%w, %b)", "%w)").replace("%b = constant f32[6] random", ""),
    "matmul with transposed weights": MATMUL_BN,
    "matmul with a scalar bias": MATMUL_BN.replace("transpose_b=true", "transpose_b=false").replace(
        "f32[3,4] random", "f32[4,3] random").replace("%b = constant f32[1,3] random", "%b = constant f32[] random"),
    "before an unpadded conv": BN_CONV,
    "before an unpadded conv without bias": BN_CONV.replace("%w, %b)", "%w)").replace("%b = constant f32[6] random", ""),
    "shared weights are copied": CONV_BN.replace("return", """%d = conv(%x, %w, %b) {strides=(1,1), pads=(0,0,0,0), \
dilations=(1,1), group=2} : f32[2,6,3,5] loc("Other")
      return""").replace('%y "y"', '%y "y", %d "d"'),
}

DECLINES = {
    "1 variable weights": CONV_BN.replace('"x")', '"x", %w: f32[6,2,3,2] "w")').replace("%w = constant f32[6,2,3,2] random", ""),
    "1 variable bias": CONV_BN.replace('"x")', '"x", %b: f32[6] "b")').replace("%b = constant f32[6] random", ""),
    "1 variable scale": CONV_BN.replace('"x")', '"x", %s: f32[6] "s")').replace("%s = constant f32[6] random", ""),
    "2 another reader": CONV_BN.replace("return", """%d = elementwise(%c) {expr=`neg($0:f32)`} : f32[2,6,2,5]
      return""").replace('%y "y"', '%y "y", %d "d"'),
    "2 returned": CONV_BN.replace('%y "y"', '%y "y", %c "c"'),
    "3 an epilogue": CONV_BN.replace("group=2}", "group=2, epilogue=`max($0:f32, 0.0:f32)`}"),
    "4 rank 3": MATMUL_BN.replace("f32[5,4]", "f32[2,3,4]").replace("f32[5,3]", "f32[2,3,3]"),
    "4 bias per row": MATMUL_BN.replace("f32[1,3] random", "f32[5,1] random"),
    "5 a variance of zero": CONV_BN.replace("epsilon=0.1", "epsilon=0.0").replace("f32[6] positive", "f32[6] splat 0.0").replace(
        "splat 0.0", "[0.0, 1.0, 1.0, 1.0, 1.0, 1.0]"),
    "6 padded conv": BN_CONV.replace("pads=(0,0,0,0)", "pads=(0,0,0,1)").replace("f32[2,6,2,4]", "f32[2,6,2,5]"),
    "6 the normalised value has another reader": BN_CONV.replace('%y "y"', '%y "y", %n "n"'),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("fuse-conv-bn", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("fuse-conv-bn", DECLINES[case]), "txt")


@pytest.mark.parametrize("seed", range(12))
def test_small_variances_stay_within_the_tolerance(seed):
    generator = np.random.default_rng(seed)

    def numbers(*dims: int) -> np.ndarray:
        return generator.standard_normal(dims).astype(np.float32)

    channels, group = 6, int(generator.choice([1, 2, 3, 6]))
    graph = Graph()
    x = graph.add_input(TensorType(DType.F32, (2, channels, 7, 5)), "x")
    y = x
    for kind in generator.permutation(3):
        pads = (1, 1, 1, 1)
        if kind == 0:
            weights = graph.constant(numbers(channels, channels // group, 3, 3))
            y = graph.add(Conv((1, 1), pads, (1, 1), group), y, weights, graph.constant(numbers(channels)))
        elif kind == 1:
            weights = graph.constant(numbers(channels, channels // group, 3, 3))
            y = graph.add(ConvTranspose((1, 1), pads, (1, 1), group), y, weights)
        else:
            y = graph.add(Conv((1, 1), (0, 0, 0, 0), (1, 1), group), y, graph.constant(numbers(channels, channels // group, 1, 1)))
        variance = np.exp(generator.uniform(-12, 2, channels)).astype(np.float32)
        parameters = [graph.constant(a) for a in (numbers(channels), numbers(channels), numbers(channels) * 3, variance)]
        y = graph.add(BatchNorm(1e-5), y, *parameters)
    graph.set_outputs([y], ["y"])
    run_checked(graph, "fuse-conv-bn")
    assert not any(isinstance(node.op, BatchNorm) for node in graph.nodes)


def test_f16_overflow_is_declined():
    graph = Graph()
    x = graph.add_input(TensorType(DType.F16, (2, 3)), "x")
    weights = graph.constant(np.full((3, 4), 100, np.float16))
    ones = graph.constant(np.ones(4, np.float16))
    tiny = graph.constant(np.zeros(4, np.float16))
    y = graph.add(MatMul(), x, weights)
    y = graph.add(BatchNorm(1e-6), y, ones, ones, ones, tiny)
    graph.set_outputs([y], ["y"])
    (report,) = run_checked(graph, "fuse-conv-bn")
    assert not report.changed
    assert "a folded weight is not finite in f16" in str(report.declines[0])
