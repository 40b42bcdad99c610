"""signed-activations: u8 values between layers become i8, where nobody can tell."""

import pytest

from edgecc.ir.types import DType
from edgecc.pipeline import C as CBackend
from edgecc.pipeline import backend_passes, run_passes
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


def test_it_moves_zero_points_and_nothing_else():
    graph = graph_of(TEXT)
    run_checked(graph, "signed-activations")
    assert DType.I8 in types(graph) and DType.U8 not in types(graph)
    assert graph.inputs[0].type.dtype is DType.U8


@pytest.mark.parametrize("text", [
    TEXT.replace('return %r "r"', 'return %r "r", %q "q"'),
    TEXT.replace('return %r "r"', '%o = reshape(%q) {shape=(50)} : u8[50] return %r "r", %o "o"'),
    TEXT.replace("mul($0:f32, 0.3:f32)", "log($0:f32)"),
    TEXT.replace("mul($0:f32, 0.3:f32)", "div(0.0:f32, $0:f32)"),
    TEXT.replace(f"%x = elementwise(%p, %s, %z) {DEQUANTIZE}", "%x = elementwise(%f) {expr=`neg($0:f32)`}").replace(
        '"p")', '"p", %f: f32[1,2,5,5] "f")'),
], ids=["returned", "read by others", "logarithm", "quotient", "float input"])
def test_it_leaves_alone_what_others_would_notice(text):
    graph = graph_of(text)
    reports = run_passes(graph, _passes())
    assert not any(report.changed for report in reports)
    assert DType.I8 not in types(graph)


def _passes():
    return tuple(one for one in backend_passes(CBackend, load_target("cortex-a76")) if one.name == "signed-activations")


def test_it_runs_for_machines_that_multiply_signed_bytes():
    assert len(_passes()) == 1
    for other in ("x86-64-v4", "generic-c"):
        assert all(one.name != "signed-activations" for one in backend_passes(CBackend, load_target(other)))
