"""Convolutions of images whose sizes the run decides, and transposed ones that need a form of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgecc.frontend.call import Call
from edgecc.ir.graph import Value
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.ops.movement import Concat, Pad, Slice


def is_open(x: Value) -> bool:
    """Whether the run decides on the size of images."""
    return not all(isinstance(size, int) for size in x.type.shape[2:])


def add_convolution(call: Call, op: Conv, x: Value, w: Value, b: Value | None) -> Value:
    """A convolution; of images of open sizes one for each group, for there are kernels for one group and for one of each channel."""
    if not is_open(x) or op.group == 1 or op.group == w.type.shape[0] == x.type.shape[1]:
        return call.add(op, x, w, b)
    op.infer([x.type, w.type, None if b is None else b.type])
    inside, outside = w.type.dims[1], w.type.dims[0] // op.group
    parts = []
    for group in range(op.group):
        own = [call.slice(x, 1, group * inside, inside), call.slice(w, 0, group * outside, outside)]
        parts.append(call.add(replace(op, group=1), *own, None if b is None else call.slice(b, 0, group * outside, outside)))
    return call.add(Concat(1), *parts)


@dataclass(frozen=True)
class _Axis:
    """One spatial axis of a transposed convolution, its results computed in blocks of `stride` neighbours.

    Attributes:
        stride: results of a block, one of each phase.
        taps: taps of the convolution that computes blocks.
        step: its dilation.
        gap: distance of the window's taps in its weights; with strides a dilated window has zeros between them.
        before, after: its padding.
        start: results before the first that is wanted.
    """

    stride: int
    taps: int
    step: int
    gap: int
    before: int
    after: int
    start: int

    @classmethod
    def of(cls, op: ConvTranspose, axis: int, kernel: int) -> _Axis:
        """Axis `axis` of `op`, whose window has `kernel` taps."""
        stride, dilation = op.strides[axis], op.dilations[axis]
        front, back = op.pads[axis], op.pads[len(op.strides) + axis]
        extent = (kernel - 1) * dilation + 1
        step, gap = (dilation, 1) if stride == 1 else (1, dilation)
        taps = -(-((kernel - 1) * gap + 1) // stride)
        reach = (taps - 1) * step
        skipped = min(front // stride, reach)
        behind = -(-((op.output_padding[axis] if op.output_padding else 0) + extent - back - stride) // stride)
        return cls(stride, taps, step, gap, reach - skipped, max(behind, 0), front - skipped * stride)


def by_phases(call: Call, op: ConvTranspose, x: Value, w: Value, b: Value | None) -> Value:
    """A transposed convolution of an image of open size, or by computed weights, as an ordinary one.

    Results p, p + stride, p + 2 stride, ... along an axis, a phase, are an ordinary convolution of x by every stride-th tap, from
    last to first. Phases become channels of one convolution, and then neighbours (Shi et al., "Is the deconvolution layer the same
    as a convolutional layer?", 2016). Where each channel is a group of its own, each phase has a convolution.
    """
    (y,) = op.infer([x.type, w.type, None if b is None else b.type])
    inside, outside, *kernel = w.type.dims[0] // op.group, *w.type.dims[1:]
    axes = [_Axis.of(op, i, k) for i, k in enumerate(kernel)]
    rank, strides = len(axes), [a.stride for a in axes]
    conv = Conv((1,) * rank, (*(a.before for a in axes), *(a.after for a in axes)), tuple(a.step for a in axes), op.group)
    weights = _weights_by_phase(call, axes, call.reshape(w, (op.group, inside, outside, *kernel)))
    count = math.prod(strides)

    def windows_of(phases: int, part: Value) -> Value:
        return call.reshape(part, (op.group * phases * outside, inside, *(a.taps for a in axes)))

    if inside == outside == 1 < op.group:
        each = [add_convolution(call, conv, x, windows_of(1, call.slice(call.reshape(weights, (op.group, count, *(a.taps for a in axes))), 1, i, 1)), b)
                for i in range(count)]
        full = _interleaved(call, each, strides)
    else:
        shared = None
        if b is not None:
            bias = call.reshape(b, (op.group, 1, outside))
            shared = call.reshape(call.expand(bias, (op.group, count, outside)), (op.group * count * outside,))
        together = add_convolution(call, conv, x, windows_of(count, weights), shared)
        blocks = together.type.shape[2:]
        apart = call.reshape(together, (y.shape[0], op.group, *strides, outside, *blocks))
        order = [0, 1, 2 + rank, *(place for i in range(rank) for place in (3 + rank + i, 2 + i))]
        full = call.reshape(call.transpose(apart, order), (*y.shape[:2], *(size * s for size, s in zip(blocks, strides, strict=True))))
    return call.add(Slice((0, 0, *(a.start for a in axes)), y.shape, (1,) * y.rank), full)


def _weights_by_phase(call: Call, axes: Sequence[_Axis], weights: Value) -> Value:
    """Weights [groups, inputs, outputs, window...] as [groups, phases..., outputs, inputs, taps...], the last tap first."""
    fixed, rank = weights.type.dims[:3], len(axes)
    kernel = weights.type.dims[3:]
    spread = call.reshape(weights, (*fixed, *(size for k in kernel for size in (k, 1))))
    spread = call.add(Pad((0,) * spread.type.rank, (0, 0, 0, *(size for a in axes for size in (0, a.gap - 1)))), spread)
    spread = call.reshape(spread, (*fixed, *(k * a.gap for k, a in zip(kernel, axes, strict=True))))
    whole = [a.taps * a.stride - k * a.gap for a, k in zip(axes, kernel, strict=True)]  # negative: zeros behind the last tap
    spread = call.add(Pad((0,) * spread.type.rank, (0, 0, 0, *whole)), spread)
    split = call.reshape(spread, (*fixed, *(size for a in axes for size in (a.taps, a.stride))))
    starts = (0, 0, 0, *(start for a in axes for start in (a.taps - 1, 0)))
    turned = call.add(Slice(starts, split.type.shape, (1, 1, 1, *(1 if i % 2 else -1 for i in range(2 * rank)))), split)
    return call.transpose(turned, (0, *(4 + 2 * i for i in range(rank)), 2, 1, *(3 + 2 * i for i in range(rank))))


def _interleaved(call: Call, phases: Sequence[Value], strides: Sequence[int]) -> Value:
    """Results of phases [N, C, blocks...], in row-major order of the phases, as neighbours: [N, C, blocks * stride...]."""
    first = phases[0].type.shape
    parts = [call.reshape(part, (*first[:2], *(size for block in first[2:] for size in (block, 1)))) for part in phases]
    for axis in reversed(range(len(strides))):
        parts = [call.add(Concat(3 + 2 * axis), *parts[i:i + strides[axis]]) for i in range(0, len(parts), strides[axis])]
    return call.reshape(parts[0], (*first[:2], *(block * s for block, s in zip(first[2:], strides, strict=True))))
