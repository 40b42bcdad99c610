"""Bias correction: takes out of the biases what rounding the weights adds to each output channel on average.

The error of a sum is (w' - w) * x; its mean follows from the mean of each input channel. Nagel et al., "Data-free
quantization through weight equalization and bias correction", 2019, section 4.2, with means observed on data.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgecc.ir.types import Array
from edgecc.quantization.network import Network, group_of
from edgecc.quantization.weights import QuantizedWeights

CORRECTED = frozenset({"Conv", "Gemm"})
"""Operators whose biases are corrected: those that have one of their own, or may be given one."""


def mean_error(network: Network, node: onnx.NodeProto, weights: QuantizedWeights, means: Array) -> Array:
    """The mean of (rounded weights - weights) * operand for each output channel, [channels].

    Args:
        node: a Conv or Gemm with constant weights. means: of each channel of its operand.
    Borders are left aside: every tap of a kernel is taken to see the channel's mean.
    """
    wanted = network.constants[node.input[1]].astype(np.float64)
    difference = weights.real - wanted
    if node.op_type == "Gemm":
        return np.asarray(means @ difference) if weights.axis == 1 else np.asarray(difference @ means)
    groups = group_of(node)
    taps = difference.reshape(difference.shape[0], difference.shape[1], -1).sum(axis=2)
    per_group = means.reshape(groups, -1)
    rows = taps.reshape(groups, -1, taps.shape[1])
    return np.asarray(np.einsum("goi,gi->go", rows, per_group).reshape(-1))


def corrected(network: Network, node: onnx.NodeProto, weights: QuantizedWeights, means: Array) -> Array:
    """The bias of a node less the mean error, float64 [channels]."""
    error = mean_error(network, node, weights, means)
    present = len(node.input) > 2 and node.input[2]
    bias = network.constants[node.input[2]].astype(np.float64) if present else np.zeros(error.shape)
    return np.asarray(np.broadcast_to(bias, error.shape) - error)
