"""Bias correction: takes out of the biases what rounding the weights adds to each output channel on average.

The error of a sum is (w' - w) * x; its mean follows from the mean of each input channel. Nagel et al., "Data-free
quantization through weight equalization and bias correction", 2019, section 4.2, with means observed on data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from edgecc.ir.types import Array
from edgecc.quantization.network import Network, group_of, integers
from edgecc.quantization.weights import QuantizedWeights

CORRECTED = frozenset({"Conv", "Gemm"})
"""Operators whose biases are corrected: those that have one of their own, or may be given one."""


def mean_error(network: Network, node: onnx.NodeProto, weights: QuantizedWeights, means: Array) -> Array:
    """The mean of (rounded weights - weights) * operand for each output channel, [channels].

    Args:
        node: a Conv or Gemm with constant weights. means: of each channel of its operand.
    Every tap of a kernel is taken to see the channel's mean wherever it lies within the map, and zero in the padding around it.
    """
    wanted = network.constants[node.input[1]].astype(np.float64)
    difference = weights.real - wanted
    if node.op_type == "Gemm":
        return np.asarray(means @ difference) if weights.axis == 1 else np.asarray(difference @ means)
    groups = group_of(node)
    shares = _inside(network.types[node.input[0]][1][2:], network.types[node.output[0]][1][2:], wanted.shape[2:], node)
    taps = (difference * shares).sum(axis=tuple(range(2, difference.ndim)))
    per_group = means.reshape(groups, -1)
    rows = taps.reshape(groups, -1, taps.shape[1])
    return np.asarray(np.einsum("goi,gi->go", rows, per_group).reshape(-1))


def _inside(sizes: Sequence[int], results: Sequence[int], kernel: Sequence[int], node: onnx.NodeProto) -> Array:
    """The share of a convolution's results for which each tap lies within the operand, of the shape of the kernel."""
    rank = len(kernel)
    strides, dilations = integers(node, "strides", (1,) * rank), integers(node, "dilations", (1,) * rank)
    pads = integers(node, "pads", (0,) * (2 * rank))
    shares = np.ones(tuple(kernel))
    for axis, taps in enumerate(kernel):
        read = np.arange(results[axis]) * strides[axis] + np.arange(taps)[:, np.newaxis] * dilations[axis] - pads[axis]
        own = ((read >= 0) & (read < sizes[axis])).mean(axis=1)
        shares *= own.reshape([-1 if a == axis else 1 for a in range(rank)])
    return shares


def corrected(network: Network, node: onnx.NodeProto, weights: QuantizedWeights, means: Array) -> Array:
    """The bias of a node less the mean error, float64 [channels]."""
    error = mean_error(network, node, weights, means)
    present = len(node.input) > 2 and node.input[2]
    bias = network.constants[node.input[2]].astype(np.float64).reshape(-1) if present else np.zeros(error.shape)
    return np.asarray(np.broadcast_to(bias, error.shape) - error)
