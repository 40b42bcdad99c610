"""Adaptive rounding: each weight goes up or down so that the layer's result changes least, not the weight itself.

The change of a layer's sums has the expected square d' H d, with d the change of an output channel's weights in real units and
H the second moments of its operands (the taps under the kernel). Choosing up or down for every weight is the quadratic
binary problem of Nagel et al., "Up or down? Adaptive rounding for post-training quantization", 2020, equation 20; here it is
solved by flipping, for all output channels at once, the weight whose flip gains most, until none gains.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgecc.ir.types import Array
from edgecc.quantization.network import Network, attribute, group_of, integers
from edgecc.quantization.scheme import WEIGHT_LIMIT
from edgecc.quantization.weights import QuantizedWeights, along

LARGEST = 2048
"""Layers with more weights for an output channel keep nearest rounding: their matrices of moments are too large."""

ROWS = 4096
"""Positions of a sample that moments are taken of, evenly spread."""


class Moments:
    """Second moments of a layer's operands: an observer of the layer's input.

    Attributes:
        matrices: float64 [groups, K, K], K the weights of an output channel.
    """

    def __init__(self, network: Network, node: onnx.NodeProto) -> None:
        self.node = node
        self.weights = network.constants[node.input[1]]
        self.groups = group_of(node)
        self.terms = int(np.prod(self.weights.shape[1:])) if node.op_type == "Conv" else self.weights.shape[inner_axis(node)]
        self.matrices = np.zeros((self.groups, self.terms, self.terms))
        self.count = 0

    def add(self, values: Array) -> None:
        """Looks at one sample of the layer's input."""
        rows = self._rows(values)
        self.matrices += np.einsum("gnk,gnl->gkl", rows, rows, optimize=True)
        self.count += rows.shape[1]

    @property
    def mean(self) -> Array:
        """The matrices divided by the number of positions."""
        return self.matrices / max(1, self.count)

    def _rows(self, values: Array) -> Array:
        """What output channels are multiplied with, float64 [groups, positions, K]."""
        if self.node.op_type != "Conv":
            flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
            return flat[np.newaxis, _spread(flat.shape[0])]
        kernel = self.weights.shape[2:]
        rank = len(kernel)
        pads = integers(self.node, "pads", (0,) * (2 * rank))
        strides = integers(self.node, "strides", (1,) * rank)
        dilations = integers(self.node, "dilations", (1,) * rank)
        padded = np.pad(values, ((0, 0), (0, 0), *((pads[a], pads[rank + a]) for a in range(rank))))
        spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
        windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(2, 2 + rank)))
        windows = windows[(slice(None), slice(None), *(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))]
        # [N, C, positions..., kernel...] -> [positions, groups, C/G * kernel]
        batch = windows.shape[0]
        places = windows.shape[2:2 + rank]
        chosen = np.unravel_index(_spread(batch * int(np.prod(places))), (batch, *places))
        moved = np.moveaxis(windows, 1, 1 + rank)[chosen]
        rows = moved.reshape(moved.shape[0], self.groups, -1, *kernel).reshape(moved.shape[0], self.groups, -1)
        return np.moveaxis(rows, 1, 0).astype(np.float64)


def _spread(count: int) -> Array:
    """At most `ROWS` of so many positions, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, ROWS)).astype(np.int64)) if count else np.zeros(0, np.int64)


def inner_axis(node: onnx.NodeProto) -> int:
    """The axis of a matrix product's weights that is summed over."""
    return (1 if attribute(node, "transB", 0) else 0) if node.op_type == "Gemm" else 0


def can_round(network: Network, node: onnx.NodeProto) -> bool:
    """Whether the weights of a node are of a kind and size that adaptive rounding takes."""
    weights = network.constants[node.input[1]]
    if node.op_type == "Conv":
        return int(np.prod(weights.shape[1:])) <= LARGEST
    return node.op_type in ("Gemm", "MatMul") and weights.ndim == 2 and weights.shape[inner_axis(node)] <= LARGEST


def round_adaptively(weights: Array, axis: int, scales: Array, moments: Array) -> QuantizedWeights:
    """Integers next to weights / scales, below or above, that change the layer's result least.

    Args:
        weights: of a convolution (output channels first) or a matrix product; axis: of the output channels.
        moments: [groups, K, K], see `Moments`.
    """
    steps = weights.astype(np.float64) / along(scales.astype(np.float64), axis, weights.ndim)
    rows = np.moveaxis(steps, axis, 0).reshape(steps.shape[axis], -1)
    groups = moments.shape[0]
    chosen = np.concatenate([_flip(part, moments[g]) for g, part in enumerate(np.split(rows, groups))])
    shaped = np.moveaxis(chosen.reshape(np.moveaxis(steps, axis, 0).shape), 0, axis)
    return QuantizedWeights(np.clip(shaped, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8), scales, axis)


def _flip(rows: Array, moments: Array) -> Array:
    """For each row of real steps, integers next to them that minimise (integers - steps)' H (integers - steps), greedily."""
    integers_ = np.clip(np.rint(rows), -WEIGHT_LIMIT, WEIGHT_LIMIT)
    # The other neighbour of each weight; one that lies outside of the range is never taken.
    direction = np.where(integers_ <= rows, 1.0, -1.0)
    allowed = np.abs(integers_ + direction) <= WEIGHT_LIMIT
    error = integers_ - rows
    gradient = error @ moments
    diagonal = np.diagonal(moments)
    lines = np.arange(rows.shape[0])
    for _ in range(2 * rows.shape[1]):
        # Flipping weight k changes the value by 2 * direction * gradient + H_kk.
        change = np.where(allowed, 2 * direction * gradient + diagonal, np.inf)
        best = change.argmin(axis=1)
        gains = change[lines, best] < -1e-12 * (1.0 + np.abs(diagonal[best]))
        if not gains.any():
            break
        active, place = lines[gains], best[gains]
        step = direction[active, place]
        integers_[active, place] += step
        gradient[active] += step[:, np.newaxis] * moments[place]
        direction[active, place] = -step
        allowed[active, place] = np.abs(integers_[active, place] - step) <= WEIGHT_LIMIT
    return np.asarray(integers_)
