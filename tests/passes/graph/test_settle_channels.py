"""settle-channels: channels that hold one number get small numbers, and the layer sums that are converted by addition."""

import numpy as np
import pytest

from edgecc.kernels.shifted_sums import SUM_LIMIT
from edgecc.reference.executor import execute
from tests.support.graph_passes import declined, graph_of, run_checked

PASS = "settle-channels"
EPILOGUE = "{epilogue=`i8(add(round(mul(f32($0:i32), $1:f32)), -128.0:f32))`"
BIASES, SCALES = (-154995744, 70, 2147483647, -90000000), ("3.3333333e-07", "0.004", "4.6566128e-08", "1e-06")


def conv(weights="0, 0, 0, 9, -8, 7, 0, 0, 0, 0, 3, 0", biases=BIASES, scales=SCALES, dims="[1,4,1,1]") -> str:
    return f"""
    graph "g" (%p: i8[1,3,5,5] "p") {{
      %w = constant i8[4,3,1,1] [{weights}]
      %b = constant i32[4] [{", ".join(map(str, biases))}]
      %s = constant f32{dims} [{", ".join(scales)}]
      %y = conv(%p, %w, %b, %s) {EPILOGUE}, strides=(1,1), pads=(1,1,1,1), dilations=(1,1), group=1, x_zero=-128}} : i8[1,4,7,7] loc("Conv")
      return %y "y"
    }}"""


def matmul(transposed: bool) -> str:
    return f"""
    graph "g" (%p: u8[5,2] "p") {{
      %w = constant i8{"[3,2] [5, 5, 1, -2, 5, 4]" if transposed else "[2,3] [5, 1, 5, 5, -2, 4]"}
      %b = constant i32[3] [1000000000, 3, 4194304]
      %s = constant f32[1,3] [1e-07, 0.25, 1e-06]
      %y = matmul(%p, %w, %b, %s) {EPILOGUE}, transpose_b={str(transposed).lower()}, a_zero=7, b_zero=5}} : i8[5,3] loc("MatMul")
      return %y "y"
    }}"""


@pytest.mark.parametrize("text", [conv(), matmul(False), matmul(True)], ids=["conv", "matmul", "transposed"])
def test_channels_of_one_number_become_small(text):
    graph = graph_of(text)
    (report,) = run_checked(graph, PASS)
    assert report.changed
    weights, bias, scale = (value.constant for value in graph.nodes[0].inputs[1:4])
    assert np.abs(bias).max() < SUM_LIMIT and np.count_nonzero(scale == 0.5) == len(bias) - 1
    by_channel = weights.reshape(len(bias), -1) if text.find("b_zero") < 0 or "transpose_b=true" in text else weights.T
    assert all((row == row[0]).all() for row, factor in zip(by_channel, scale.reshape(-1), strict=True) if factor == 0.5)


def test_every_input_gives_the_same():
    graph = graph_of(conv())
    cases = [{"p": np.full((1, 3, 5, 5), value, np.int8)} for value in (-128, 0, 127)]
    before = [execute(graph, case)["y"] for case in cases]
    run_checked(graph, PASS)
    assert all(np.array_equal(execute(graph, case)["y"], wanted) for case, wanted in zip(cases, before, strict=True))


def test_channels_that_vary_or_round_to_large_numbers_stay(golden):
    golden(declined(PASS, conv(scales=("0.001", "0.004", "4.6566128e-08", "0.02"), biases=(-154995744, 4194304, 0, 100000000))), "txt")


@pytest.mark.parametrize("text", [
    conv(biases=(1, 2, 3, 4)), conv(dims="[1,1,1,4]").replace("i8[1,4,7,7]", "i8[1,4,7,4]").replace("[1,3,5,5]", "[1,3,5,2]"),
    conv().replace("round(mul(", "floor(mul("), conv().replace("-128.0:f32)", "f32($0:i32))"),
], ids=["small", "by column", "another rounding", "sums used twice"])
def test_leaves_others_alone(text):
    assert declined(PASS, text) == ""
