"""integer-transposed: transposed convolutions of dequantized operands become ordinary ones and movement."""

import numpy as np
import pytest

from edgecc.ir.types import DType
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.passes.rewrite import collect_replacements
from edgecc.passes.ties import compare_at_ties, snapshot
from edgecc.reference.executor import sample_inputs
from tests.support.graph_passes import declined, fired, graph_of, run_checked

TEXT = """
    graph "g" (%p: i8[1,3,5,4] "p") {
      %x = elementwise(%p) {expr=`mul(f32(sub(i32($0:i8), 5:i32)), 0.5:f32)`} : f32[1,3,5,4]
      %q = constant i8[3,2,3,3] random
      %t = constant f32[1,2,1,1] [0.25, 0.125]
      %w = elementwise(%q, %t) {expr=`mul(f32($0:i8), $1:f32)`} : f32[3,2,3,3]
      %c = constant i32[2] [100, -7]
      %u = constant f32[2] [0.125, 0.0625]
      %b = elementwise(%c, %u) {expr=`mul(f32($0:i32), $1:f32)`} : f32[2]
      %y = conv_transpose(%x, %w, %b) {strides=(2,2), pads=(1,1,1,0), dilations=(1,1), group=1, output_padding=(1,0)} : f32[1,2,10,8] loc("Deconv")
      %zero = constant f32[1,2,1,1] [0.0, 0.0]
      %r = elementwise(%y, %zero) {expr=`max($0:f32, $1:f32)`} : f32[1,2,10,8] loc("Relu")
      %z = elementwise(%r) {expr=`i8(add(round(div($0:f32, 0.25:f32)), -9.0:f32))`} : i8[1,2,10,8] loc("Quantize")
      return %z "z"
    }"""

DECLINES = {
    "1 float weights": TEXT.replace("%w = elementwise(%q, %t) {expr=`mul(f32($0:i8), $1:f32)`} : f32[3,2,3,3]", "%w = constant f32[3,2,3,3] random"),
    "1 scales of input channels": TEXT.replace("f32[1,2,1,1] [0.25, 0.125]", "f32[3,1,1,1] [0.25, 0.125, 1.0]"),
    "2 dilated": TEXT.replace("dilations=(1,1)", "dilations=(2,2)").replace("[1,2,10,8]", "[1,2,12,10]"),
    "3 few taps": TEXT.replace("[3,2,3,3]", "[3,2,1,1]").replace("[1,2,10,8]", "[1,2,8,6]"),
}


def test_fires(golden):
    golden(fired("integer-transposed", TEXT))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("integer-transposed", DECLINES[case]), "txt")


def transposed(random):
    """A quantized transposed convolution of random shape, and whether a function and a quantization follow."""
    rank, group = int(random.integers(1, 4)), int(random.choice([1, 1, 2]))
    inputs, channels = group * int(random.integers(1, 4)), int(random.integers(1, 4))
    sizes, strides = random.integers(5, 7, rank), random.integers(1, 4, rank)
    kernel = np.maximum(strides, random.integers(1, 6, rank))
    begin, end, more = random.integers(0, 4, rank), random.integers(0, 2, rank), [int(random.integers(0, s)) for s in strides]
    out = (sizes - 1) * strides + more + kernel - begin - end

    def text(numbers):
        return ",".join(str(int(n)) for n in numbers)

    dtype, zero = [("i8", -3), ("u8", 255)][int(random.integers(2))]
    ones, result = ",".join("1" * rank), f"[1,{channels * group},{text(out)}]"
    scales = ", ".join(str(s) for s in random.choice([0.5, 0.25, 0.37], channels))
    quantized = bool(random.integers(2))
    return f"""
    graph "g" (%p: {dtype}[1,{inputs},{text(sizes)}] "p") {{
      %x = elementwise(%p) {{expr=`mul(f32(sub(i32($0:{dtype}), {zero}:i32)), 0.02:f32)`}} : f32[1,{inputs},{text(sizes)}]
      %q = constant u8[{inputs},{channels},{text(kernel)}] [{text(random.integers(0, 256, inputs * channels * np.prod(kernel)))}]
      %t = constant f32[1,{channels},{ones}] [{scales}]
      %w = elementwise(%q, %t) {{expr=`mul(f32(sub(i32($0:u8), 117:i32)), $1:f32)`}} : f32[{inputs},{channels},{text(kernel)}]
      %b = constant f32[{channels * group}] random
      %y = conv_transpose(%x, %w, %b) {{strides=({text(strides)},), pads=({text([*begin, *end])}), dilations=({ones},), group={group},
                                       output_padding=({text(more)},)}} : f32{result}
      %f = elementwise(%y) {{expr=`{'i8(add(round(div($0:f32, 3.7:f32)), 2.0:f32))' if quantized else 'max($0:f32, 0.0:f32)'}`}} : {'i8' if quantized else 'f32'}{result}
      return %f "f"
    }}"""


def test_every_shape():
    random = np.random.default_rng(5)
    done = 0
    for _ in range(40):
        graph = graph_of(transposed(random))
        reports = run_checked(graph, "integer-transposed,move-quantization,integer-contraction,integer-elementwise")
        kinds = {type(node.op): node.operand(0).type.dtype for node in graph.nodes}
        assert reports[0].changed == (Conv in kinds) == (ConvTranspose not in kinds)
        assert not reports[0].changed or kinds[Conv] in (DType.I8, DType.U8)
        done += reports[0].changed
    assert done > 25


def test_only_ties_move():
    graph = graph_of(TEXT)
    before = snapshot(graph)
    with collect_replacements() as replaced:
        run_checked(graph, "integer-transposed,integer-contraction,integer-elementwise")
    report = compare_at_ties(before, graph, replaced, sample_inputs(graph), 16.0)
    assert not report.problems and report.compared == 160
