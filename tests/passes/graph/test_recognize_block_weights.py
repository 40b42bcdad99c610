"""recognize-block-weights: weight-only quantization in QuantizeLinear's terms becomes a product with weights of few bits."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecc.frontend.importing import import_model
from edgecc.ir.graph import Graph
from edgecc.ops.block_quantized import MatMulNBits
from edgecc.pipeline import default_graph_passes, run_passes
from edgecc.reference.executor import execute
from tests.support.graph_passes import declined, fired

NAME = "recognize-block-weights"
SCALES = "[0.5, 0.1, 0.5, 0.1, 0.25, 0.2, 0.25, 0.2]"
TEXT = f"""
    graph "g" (%x: f32[3,4] "x") {{
      %q = constant i4[4,2] [1, -2, 3, 4, 5, -8, 7, 0]
      %s = constant f32[4,2] {SCALES}
      %w = elementwise(%q, %s) {{expr=`mul(f32($0:i4), $1:f32)`}} : f32[4,2] loc("Dequantize")
      %y = matmul(%x, %w) : f32[3,2] loc("Product")
      return %y "y"
    }}"""


def test_fires(golden):
    golden(fired(NAME, TEXT))


def test_transposed_with_a_bias_and_zero_points(golden):
    golden(fired(NAME, """
    graph "g" (%x: f32[1,3] "x") {
      %q = constant u8[2,3] [1, 2, 255, 4, 5, 0]
      %s = constant f32[2,1] [0.5, 0.1]
      %z = constant u8[2,1] [127, 3]
      %b = constant f32[2] [1, 2]
      %w = elementwise(%q, %s, %z) {expr=`mul(f32(sub(i32($0:u8), i32($2:u8))), $1:f32)`} : f32[2,3]
      %y = matmul(%x, %w, %b) {transpose_b=true} : f32[1,2]
      return %y "y"
    }"""))


def test_case_1_stacks_of_matrices(golden):
    golden(declined(NAME, TEXT.replace("[4,2]", "[1,4,2]").replace("%y = matmul(%x, %w) : f32[3,2]", "%y = matmul(%x, %w) : f32[1,3,2]")), "txt")


def test_case_2_odd_blocks(golden):
    golden(declined(NAME, TEXT.replace(SCALES, "[0.5, 0.1, 0.25, 0.2, 0.25, 0.2, 0.25, 0.2]")), "txt")


def test_case_3_many_rows_share_a_scale_for_each_channel(golden):
    whole = TEXT.replace("i4", "i8").replace("f32[4,2] " + SCALES, "f32[2] [0.5, 0.1]")
    golden(declined(f"{NAME}{{most_rows=2}}", whole), "txt")
    fired(f"{NAME}{{most_rows=3}}", whole)


def test_case_4_infinite_scales(golden):
    golden(declined(NAME, TEXT.replace("0.1", "inf")), "txt")


def imported(kind: int, depth: int, channels: int, block: int, transposed: bool, zero: bool) -> tuple[Graph, dict[str, np.ndarray]]:
    """Gemm or MatMul behind a DequantizeLinear with blocks, as quantizers write it."""
    random = np.random.default_rng(0)
    dims, axis = ((channels, depth), 1) if transposed else ((depth, channels), 0)
    small = tuple(-(-d // block) if a == axis else d for a, d in enumerate(dims))
    low, high = {TensorProto.INT4: (-8, 8), TensorProto.UINT4: (0, 16), TensorProto.INT8: (-128, 128)}[kind]
    stored = [helper.make_tensor("w", kind, dims, random.integers(low, high, dims).reshape(-1)),
              numpy_helper.from_array((random.random(small) / 10 + 0.01).astype(np.float32), "s")]
    if zero:
        stored.append(helper.make_tensor("z", kind, small, random.integers(low, high, small).reshape(-1)))
    nodes = [helper.make_node("DequantizeLinear", ["w", "s", *(["z"] if zero else [])], ["f"], axis=axis, block_size=block),
             helper.make_node("Gemm", ["x", "f"], ["y"], transB=1) if transposed else helper.make_node("MatMul", ["x", "f"], ["y"])]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, depth))],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, channels))], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return import_model(model), {"x": random.standard_normal((2, depth)).astype(np.float32)}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("kind", "zero"), [(TensorProto.INT4, False), (TensorProto.INT4, True), (TensorProto.UINT4, False), (TensorProto.INT8, True)])
def test_what_quantizers_write(kind, zero, transposed):
    graph, feeds = imported(kind, 64, 17, 16, transposed, zero)
    expected = execute(graph, feeds)["y"]
    run_passes(graph, default_graph_passes(), verify_each=feeds)
    (product,) = [node.op for node in graph.nodes]
    assert product == MatMulNBits(16, 8 if kind == TensorProto.INT8 else 4)
    np.testing.assert_allclose(execute(graph, feeds)["y"], expected, rtol=1e-5, atol=1e-5)
