"""Random networks on single images, made of the layers that can run stripe by stripe."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from edgecc.ir.graph import Graph, Value
from edgecc.ir.scalar import Arg, apply
from edgecc.ir.types import DType, Layout, TensorType
from edgecc.ir.verify import verify
from edgecc.ops.convolution import Conv, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.movement import Concat
from tests.support.random_graphs import constant_array, relu

F32 = DType.F32
ADD = apply("add", Arg(0, F32), Arg(1, F32))


@st.composite
def image_networks(draw: st.DrawFn, most_nodes: int = 7) -> Graph:
    """Convolutions of all kinds, pools, residuals, concatenations and activations in a row and across.

    Values within the network lie channels last, now and then one does not; any may be a result too.
    """
    graph = Graph("images")
    height, width = draw(st.integers(5, 17)), draw(st.integers(3, 9))
    values: list[Value] = [graph.add_input(TensorType(F32, (1, draw(st.integers(1, 5)), height, width)), "x")]
    for number in range(draw(st.integers(2, most_nodes))):
        operand = values[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(values))
        values.append(_layer(draw, graph, operand, values, number))
    outputs = [values[-1], *draw(st.lists(st.sampled_from(values[1:]), max_size=1))]
    graph.set_outputs(outputs, [f"y{n}" for n in range(len(outputs))])
    for value in values[1:]:
        if not graph.is_output(value) and draw(st.integers(0, 9)):
            value.layout = Layout.channels_last(4)
    verify(graph)
    return graph


def _layer(draw: st.DrawFn, graph: Graph, x: Value, values: list[Value], seed: int) -> Value:
    dims = x.type.dims
    kind = draw(st.sampled_from(["conv", "conv", "pointwise", "pointwise", "depthwise", "depthwise", "pool", "relu", "add", "concat"]))
    if kind == "add":
        same = [v for v in values if v.type.dims == dims]
        return graph.add(Elementwise(ADD), x, draw(st.sampled_from(same)))
    if kind == "concat":
        same = [v for v in values if v.type.dims[2:] == dims[2:]]
        return graph.add(Concat(1), x, draw(st.sampled_from(same)))
    if kind == "relu":
        return graph.add(Elementwise(relu()), x)
    kernel = (1, 1) if kind == "pointwise" else (draw(st.integers(1, min(4, dims[2]))), draw(st.integers(1, min(3, dims[3]))))
    pads = tuple(draw(st.integers(0, k - 1)) for k in (*kernel, *kernel))
    room = dims[2] + pads[0] + pads[2]
    dilation = draw(st.integers(1, 2)) if (kernel[0] - 1) * 2 + 1 <= room else 1
    strides = (1, 1) if kind == "pointwise" else (draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from([1, 1, 2])))
    if kind == "pool":
        return graph.add(Pool(draw(st.sampled_from(["max", "average"])), kernel, strides, pads, (dilation, 1)), x)
    group = dims[1] if kind == "depthwise" else 1
    channels = group if kind == "depthwise" else draw(st.sampled_from([1, 3, 8, 13]))
    weights = graph.constant(constant_array((channels, dims[1] // group, *kernel), seed))
    bias = graph.constant(constant_array((channels,), seed + 100))
    plain = Conv(strides, pads, (dilation, 1), group)
    result = plain.infer([x.type, weights.type, bias.type])[0]
    residual = [v for v in values if v.type.dims == result.dims]
    if residual and draw(st.booleans()):
        op = Conv(strides, pads, (dilation, 1), group, ADD)
        return graph.add(op, x, weights, bias, draw(st.sampled_from(residual)))
    return graph.add(plain, x, weights, bias)


def bottleneck(height: int = 17, width: int = 13, blocks: int = 2, channels: int = 8) -> Graph:
    """Inverted residual blocks: expand, depthwise, project and add; the first one halves the image."""
    graph = Graph("bottleneck")
    x = graph.add_input(TensorType(F32, (1, 3, height, width)), "x")

    def conv(x: Value, channels: int, kernel: int, stride: int, group: int, seed: int, residual: Value | None = None) -> Value:
        w = graph.constant(constant_array((channels, x.type.dims[1] // group, kernel, kernel), seed))
        b = graph.constant(constant_array((channels,), seed + 50))
        pads = (kernel // 2,) * 4
        op = Conv((stride, stride), pads, (1, 1), group, relu() if residual is None else ADD)
        y = graph.add(op, x, w, b, *(() if residual is None else (residual,)), loc=[f"conv{seed}"])
        y.layout = Layout.channels_last(4)
        return y

    y = conv(x, channels, 3, 2, 1, 0)
    for block in range(blocks):
        seed = 3 * block + 1
        wide = conv(y, 4 * channels, 1, 1, 1, seed)
        wide = conv(wide, 4 * channels, 3, 1, 4 * channels, seed + 1)
        y = conv(wide, channels, 1, 1, 1, seed + 2, residual=y)
    last = graph.add(Elementwise(relu()), y)
    graph.set_outputs([last], ["y"])
    verify(graph)
    return graph


def close(got: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two results of such a network agree up to roundings."""
    return bool(np.allclose(got, expected, rtol=1e-4, atol=1e-4))
