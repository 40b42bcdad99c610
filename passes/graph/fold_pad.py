"""Lets a convolution do the padding in front of it.

    %p = pad(%x) {before=(0,0,1,1), after=(0,0,1,1)}; %y = conv(%p, %w) {pads=(0,0,0,0)}
        ->  %y = conv(%x, %w) {pads=(1,1,1,1)}
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from edgecc.ir.graph import Graph, Node
from edgecc.ops.convolution import Conv
from edgecc.ops.movement import Pad
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import replace, uniform_element


@dataclass(frozen=True)
class FoldPad(NodePass):
    """Adds a Pad's widths to the pads of the Conv that reads it. Other readers keep the Pad.

    Declines when:
    1. The Pad mirrors, repeats, or fills with something else than the constant that stands for zero.
    2. It pads the batch or channel axis, or removes elements.
    """

    name: ClassVar[str] = "fold-pad"
    tolerance: ClassVar[float] = 0.0  # the convolution adds the same zeros

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one convolution."""
        pad = node.operand(0).producer if isinstance(node.op, Conv) else None
        if pad is None or not isinstance(pad.op, Pad) or not isinstance(node.op, Conv):
            return False
        before, after = pad.op.before, pad.op.after
        value = pad.inputs[1] if len(pad.inputs) > 1 else None
        if pad.op.mode != "constant" or (0 if value is None else uniform_element(value)) != (node.op.x_zero or 0):
            return self.decline(node, "its operand is not padded with constant zeros")
        if any(before[:2]) or any(after[:2]) or min(*before, *after) < 0:
            return self.decline(node, "its operand is padded in the batch or channel axis, or cropped")
        pads = tuple(own + more for own, more in zip(node.op.pads, (*before[2:], *after[2:]), strict=True))
        replace(graph, node, dataclasses.replace(node.op, pads=pads), pad.inputs[0], *node.inputs[1:], absorbed=[pad])
        return True
