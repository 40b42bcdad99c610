"""signed-activations: u8 values between layers become i8, where nobody can tell."""

import numpy as np
import pytest

from edgecc.ir.types import DType
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


def test_it_moves_zero_points_and_nothing_else():
    graph = graph_of(TEXT)
    run_checked(graph, "signed-activations")
    assert DType.I8 in types(graph) and DType.U8 not in types(graph)
    assert graph.inputs[0].type.dtype is DType.U8


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
def test_it_leaves_alone_what_others_would_notice(text):
    graph = graph_of(text)
    reports = run_passes(graph, _passes())
    assert not any(report.changed for report in reports)
    assert DType.I8 not in types(graph)


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


def _passes():
    return tuple(one for one in backend_passes(CBackend, load_target("cortex-a76")) if one.name == "signed-activations")


def test_it_runs_for_machines_that_multiply_signed_bytes():
    assert len(_passes()) == 1
    for other in ("x86-64-v4", "generic-c"):
        assert all(one.name != "signed-activations" for one in backend_passes(CBackend, load_target(other)))
