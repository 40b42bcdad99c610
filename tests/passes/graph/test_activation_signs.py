"""activation-signs: bytes between layers become i8, or u8, where nobody can tell."""

import numpy as np
import pytest

from edgecc.ir.text import to_text
from edgecc.ir.types import DType
from edgecc.passes.scaled import rounding
from edgecc.pipeline import C as CBackend
from edgecc.pipeline import backend_passes, run_passes
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target
from tests.support.graph_passes import graph_of, run_checked

QUANTIZE = "{expr=`u8(add(round(div($0:f32, $1:f32)), f32($2:u8)))`}"
DEQUANTIZE = "{expr=`mul(f32(sub(i32($0:u8), i32($2:u8))), $1:f32)`}"
TEXT = f"""
    graph "g" (%p: u8[1,2,5,5] "p") {{
      %s = constant f32[] [0.25]
      %t = constant f32[] [0.125]
      %z = constant u8[] [131]
      %x = elementwise(%p, %s, %z) {DEQUANTIZE} : f32[1,2,5,5]
      %m = elementwise(%x) {{expr=`max(mul($0:f32, 0.3:f32), -2.0:f32)`}} : f32[1,2,5,5]
      %q = elementwise(%m, %t, %z) {QUANTIZE} : u8[1,2,5,5]
      %y = elementwise(%q, %t, %z) {DEQUANTIZE} : f32[1,2,5,5]
      %r = reduce(%y) {{kind="mean", axes=(2,3), keepdims=true}} : f32[1,2,1,1]
      return %r "r"
    }}"""


def types(graph):
    return {node.output.type.dtype for node in graph.nodes}


def of_other_sign(text):
    """The same text with i8 for u8; zero points move along."""
    return text.replace("u8", "i8").replace("[131]", "[3]")


@pytest.mark.parametrize("to", ["i8", "u8"])
def test_it_moves_zero_points_and_nothing_else(to):
    source, wanted = (DType.U8, DType.I8) if to == "i8" else (DType.I8, DType.U8)
    graph = graph_of(TEXT if to == "i8" else of_other_sign(TEXT))
    run_checked(graph, f"activation-signs{{to={to}}}")
    assert wanted in types(graph) and source not in types(graph)
    assert graph.inputs[0].type.dtype is source


def test_second_factors_of_products_stay_signed():
    factor = """
      %{0}0 = elementwise(%{0}, %s, %z) {{expr=`mul(f32(sub(i32($0:i8), i32($2:i8))), $1:f32)`}} : f32[{1}]
      %{0}1 = elementwise(%{0}0) {{expr=`mul($0:f32, 0.3:f32)`}} : f32[{1}]
      %{0}2 = elementwise(%{0}1, %s, %z) {{expr=`i8(add(round(div($0:f32, $1:f32)), f32($2:i8)))`}} : i8[{1}]
      %{0}3 = elementwise(%{0}2, %s, %z) {{expr=`mul(f32(sub(i32($0:i8), i32($2:i8))), $1:f32)`}} : f32[{1}]"""
    graph = graph_of(f"""
    graph "g" (%a: i8[2,5,4] "a", %b: i8[2,3,4] "b") {{
      %s = constant f32[] [0.25]
      %z = constant i8[] [3]{factor.format("a", "2,5,4")}{factor.format("b", "2,3,4")}
      %t = transpose(%b3) {{perm=(0,2,1)}} : f32[2,4,3]
      %y = matmul(%a3, %t) : f32[2,5,3]
      return %y "y"
    }}""")
    run_checked(graph, "activation-signs{to=u8}")
    found = {node.output.type.shape[1]: node.output.type.dtype for node in graph.nodes if node.output.type.dtype in (DType.I8, DType.U8) and node.output.type.shape}
    assert found == {5: DType.U8, 3: DType.I8}


def test_interpolated_numbers_are_numbers():
    text = TEXT.replace("%m = ", """%e = resize(%x) {mode="linear", sizes=(1,2,5,5), scales=(1.0,1.0,1.0,1.0), coordinate_mode="half_pixel", nearest_mode="floor",
        cubic_coefficient=-0.75, exclude_outside=false, extrapolation_value=0.0, roi=(), antialias=false, units=()} : f32[1,2,5,5]
      %w = constant f32[2,2,1,1] random
      %d = conv_transpose(%e, %w) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1, output_padding=(0,0)} : f32[1,2,5,5]
      %m = """).replace("elementwise(%x) {expr=`max", "elementwise(%d) {expr=`max")
    graph = graph_of(text)
    run_checked(graph, "activation-signs{to=i8}")
    assert [form.dtype for form in map(rounding, graph.nodes) if form is not None] == [DType.I8], "quantized at once, not moved behind it"


@pytest.mark.parametrize("to", ["i8", "u8"])
@pytest.mark.parametrize("text", [
    TEXT.replace('return %r "r"', 'return %r "r", %q "q"'),
    TEXT.replace('return %r "r"', '%o = reshape(%q) {shape=(50)} : u8[50] return %r "r", %o "o"'),
    f"""
    graph "g" (%f: f32[1,2,5,5] "f") {{
      %t = constant f32[] [0.125]
      %z = constant u8[] [131]
      %m = transpose(%f) {{perm=(0,1,3,2)}} : f32[1,2,5,5]
      %q = elementwise(%m, %t, %z) {QUANTIZE} : u8[1,2,5,5]
      %y = elementwise(%q, %t, %z) {DEQUANTIZE} : f32[1,2,5,5]
      return %y "y"
    }}""",
], ids=["returned", "read by others", "moved only"])
def test_it_leaves_alone_what_others_would_notice(text, to):
    graph = graph_of(text if to == "i8" else of_other_sign(text))
    reports = run_passes(graph, _passes(to))
    assert not any(report.changed for report in reports)
    assert DType(to) not in types(graph)


@pytest.mark.parametrize("text", [
    TEXT.replace("mul($0:f32, 0.3:f32)", "log($0:f32)"),
    TEXT.replace("mul($0:f32, 0.3:f32)", "div(0.0:f32, $0:f32)"),
    f"""
    graph "g" (%p: f32[1,2,5,5] "p") {{
      %t = constant f32[] [0.125]
      %z = constant u8[] [131]
      %q = elementwise(%p, %t, %z) {QUANTIZE} : u8[1,2,5,5]
      %r = elementwise(%q, %t, %z) {DEQUANTIZE} : f32[1,2,5,5]
      return %r "r"
    }}""",
], ids=["logarithm", "quotient", "input"])
def test_what_is_no_number_stays_what_it_was(text):
    graph, moved = graph_of(text), graph_of(text)
    assert any(report.changed for report in run_passes(moved, _passes()))
    assert DType.I8 in types(moved) and DType.U8 not in types(moved)
    values = np.arange(50).reshape(1, 2, 5, 5).astype(moved.inputs[0].type.dtype.numpy)
    if values.dtype == np.float32:
        values.reshape(-1)[:5] = np.nan, np.inf, -np.inf, 0.0625, -0.0625
    else:
        values[0, 1] = 131  # a dividend and a divisor of zero, and its logarithm
    with np.errstate(all="ignore"):
        before, after = (execute(one, {one.inputs[0].name: values}) for one in (graph, moved))
    assert np.array_equal(before["r"], after["r"])


def test_what_may_be_no_number_does_not_become_unsigned():
    graph = graph_of(of_other_sign(TEXT.replace("mul($0:f32, 0.3:f32)", "log($0:f32)")))
    assert not any(report.changed for report in run_passes(graph, _passes("u8")))


def _passes(to="i8"):
    target = load_target({"i8": "cortex-a76", "u8": "x86-64-v3"}[to])
    return tuple(one for one in backend_passes(CBackend, target) if one.name == "activation-signs")


def test_it_runs_for_machines_that_multiply_bytes_of_one_sign():
    assert [str(one) for target in ("cortex-a53", "x86-64-v3", "x86-64-v4", "generic-c") for one in backend_passes(CBackend, load_target(target))
            if one.name == "activation-signs"] == ["activation-signs", "activation-signs{to=u8}", "activation-signs{to=u8}"]


def test_pictures_are_quantized_by_instructions_that_saturate_and_turned():
    text = f"""
    graph "g" (%x: f32[1,2,8,8] "x") {{
      %t = constant f32[] [0.125]
      %z = constant u8[] [131]
      %q = elementwise(%x, %t, %z) {QUANTIZE} : u8[1,2,8,8]
      %y = elementwise(%q, %t, %z) {DEQUANTIZE} : f32[1,2,8,8]
      return %y "y"
    }}"""
    graph = graph_of(text)
    run_checked(graph, "activation-signs{to=i8}")
    assert "sub(i32(u8(" in to_text(graph)  # what `edgecc.backends.c.saturating` takes for bytes whose highest bit is turned
