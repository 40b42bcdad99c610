"""Cross-layer equalization: scales channels between two layers so that their weights and activations fill their ranges alike.

relu(s * x) = s * relu(x) for s > 0, so the channels of the value between two layers may be scaled if the first layer's
weights are divided by what the second one's are multiplied with. Nagel et al., "Data-free quantization through weight
equalization and bias correction", 2019, section 4.1.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from edgecc.ir.types import Array
from edgecc.quantization.network import Network, group_of

ROUNDS = 8
"""Pairs overlap, so they are equalized in turn, several times."""


def equalized(network: Network) -> tuple[Network, int]:
    """The network with equalized weights, and how many pairs of layers that concerns."""
    pairs = _pairs(network)
    weights = {name: array.astype(np.float64) for name, array in network.constants.items() if array.dtype == np.float32}
    for _ in range(ROUNDS):
        for first, second in pairs:
            _equalize(weights, first, second)
    changed = {name for first, second in pairs for name in (*first.input[1:3], second.input[1])}
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name].astype(np.float32), tensor.name))
    return Network(model), len(pairs)


def _pairs(network: Network) -> list[tuple[onnx.NodeProto, onnx.NodeProto]]:
    """Convolutions of which the second reads nothing but the first one's result, a Relu at most between them."""
    found = []
    for first in network.nodes:
        if not _is_convolution(network, first):
            continue
        second = network.only_reader(first.output[0])
        if second is not None and second.op_type == "Relu":
            second = network.only_reader(second.output[0])
        if second is None or not _is_convolution(network, second) or second.input[0] not in (first.output[0], *_behind(network, first)):
            continue
        groups = group_of(second)
        if groups == 1 or network.constants[second.input[1]].shape[1] == 1:
            found.append((first, second))
    return found


def _behind(network: Network, node: onnx.NodeProto) -> tuple[str, ...]:
    reader = network.only_reader(node.output[0])
    return tuple(reader.output) if reader is not None else ()


def _is_convolution(network: Network, node: onnx.NodeProto) -> bool:
    """A convolution whose weights (and bias) are constants that no other node reads."""
    if node.op_type != "Conv" or any(name not in network.constants for name in node.input[1:] if name):
        return False
    return all(network.only_reader(name) is not None for name in node.input[1:] if name)


def _equalize(weights: dict[str, Array], first: onnx.NodeProto, second: onnx.NodeProto) -> None:
    """Scales the channels between two layers so that both have the same range in each."""
    a, b = weights[first.input[1]], weights[second.input[1]]
    depthwise = b.shape[0] == a.shape[0] and b.shape[1] == 1
    if not depthwise and b.shape[1] != a.shape[0]:
        return
    own = np.abs(a).reshape(a.shape[0], -1).max(axis=1)
    following = np.abs(b).reshape(b.shape[0], -1).max(axis=1) if depthwise else np.abs(b).max(axis=(0, *range(2, b.ndim)))
    usable = (own > 0) & (following > 0)
    factors = np.where(usable, np.sqrt(np.where(usable, own, 1.0) / np.where(usable, following, 1.0)), 1.0)
    factors = np.clip(factors, 1e-3, 1e3)
    rank = a.ndim
    a /= factors.reshape(-1, *[1] * (rank - 1))
    if len(first.input) > 2 and first.input[2]:
        weights[first.input[2]] /= factors
    b *= factors.reshape(-1, *[1] * (rank - 1)) if depthwise else factors.reshape(1, -1, *[1] * (rank - 2))
