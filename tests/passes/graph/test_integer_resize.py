"""integer-resize: interpolation of dequantized operands sums integers that floats hold."""

import numpy as np
import pytest

from edgecc.ir.types import DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.resize import Resize
from edgecc.passes.base import parse_passes
from edgecc.passes.rewrite import collect_replacements
from edgecc.passes.ties import compare_at_ties, snapshot
from edgecc.pipeline import run_passes
from edgecc.reference.executor import sample_inputs
from tests.support.graph_passes import declined, fired, graph_of, run_checked

ATTRIBUTES = 'nearest_mode="floor", cubic_coefficient=-0.75, exclude_outside=false, extrapolation_value=0.0, roi=(), antialias=false, units=()'
TEXT = f"""
    graph "g" (%p: i8[1,3,5,4] "p") {{
      %x = elementwise(%p) {{expr=`mul(f32(sub(i32($0:i8), 5:i32)), 0.5:f32)`}} : f32[1,3,5,4]
      %y = resize(%x) {{mode="linear", sizes=(1,3,10,6), scales=(1.0,1.0,2.0,1.5), coordinate_mode="half_pixel", {ATTRIBUTES}}} : f32[1,3,10,6] loc("Resize")
      %z = elementwise(%y) {{expr=`i8(add(round(div($0:f32, 0.25:f32)), -9.0:f32))`}} : i8[1,3,10,6] loc("Quantize")
      return %z "z"
    }}"""
WHOLE = TEXT.replace("(1.0,1.0,2.0,1.5)", "(1.0,1.0,2.0,2.0)").replace("10,6", "3,2").replace("2.0,2.0", "0.5,0.5").replace("half_pixel", "asymmetric")

DECLINES = {
    "1 scales of channels": TEXT.replace("%x = elementwise(%p) {expr=`mul(f32(sub(i32($0:i8), 5:i32)), 0.5:f32)`}",
                                         "%s = constant f32[1,3,1,1] [0.5, 0.25, 0.1]\n%x = elementwise(%p, %s) {expr=`mul(f32($0:i8), $1:f32)`}"),
    "2 positions outside": TEXT.replace("half_pixel", "tf_crop_and_resize").replace("roi=()", "roi=(0.0,0.0,0.0,0.0,1.0,1.0,1.0,1.0)"),
    "3 odd weights": TEXT.replace("1.5)", "1.5007)"),
    "3 large sums": TEXT.replace("10,6", "507,249").replace("2.0,1.5", "101.4,62.25"),
}


@pytest.mark.parametrize("text", [TEXT, WHOLE], ids=["linear", "single elements"])
def test_fires(text, golden):
    golden(fired("integer-resize", text))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("integer-resize", DECLINES[case]), "txt")


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric"])
def test_only_ties_move_and_sums_are_whole(mode, coordinates):
    for dtype, height, width in (("i8", 10, 8), ("u8", 15, 6), ("u8", 3, 7)):
        factors = f"(1.0,1.0,{height / 5},{width / 4})"
        graph = graph_of(TEXT.replace("i8[1,3,5,4]", f"{dtype}[1,3,5,4]").replace("$0:i8", f"$0:{dtype}").replace("10,6", f"{height},{width}").replace(
            "(1.0,1.0,2.0,1.5)", factors).replace("linear", mode).replace("half_pixel", coordinates))
        inputs, before = sample_inputs(graph), snapshot(graph)
        with collect_replacements() as replaced:
            (changed,) = run_checked(graph, "integer-resize")
            run_passes(graph, parse_passes("move-quantization,integer-elementwise"))
        if not changed.changed:
            assert mode == "cubic", "thirds to the power of three, along two axes, are too fine"
            continue
        report = compare_at_ties(before, graph, replaced, inputs, 16.0)
        assert not report.problems and report.compared == 3 * height * width
        (node,) = [node for node in graph.nodes if isinstance(node.op, Resize)]
        if node.op.mode == "nearest":
            continue
        (sums,) = node.op.reference([np.random.default_rng(1).integers(-127, 128, node.operand(0).type.dims).astype(np.float32)])
        assert (sums == np.rint(sums)).all() and np.abs(sums).max() < 2**24
        last = graph.nodes[-1]
        assert isinstance(last.op, Elementwise) and last.output.type.dtype is DType.I8, "one step from the sums to the result"
