"""Which layers that a model quantizes are computed in float after all, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgecc.errors import printable
from edgecc.ir.graph import Graph, Node
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather, GatherElements, GatherND
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.ops.reduction import Reduce, Softmax
from edgecc.ops.requantize import as_dequantized
from edgecc.ops.resize import Resize
from edgecc.passes.base import Decline
from edgecc.passes.graph.move_quantization import MoveQuantization
from edgecc.passes.scaled import SHORT, rounding, scaled
from edgecc.pipeline import PassReport

NO_FORM = "operators of this kind are computed in float"
NOT_ROUNDED = "its result is not quantized by everyone who reads it"
WRITES_FLOATS = (Conv, ConvTranspose, MatMul, Resize)
"""Operators that sum integers whatever becomes of the result; others are computed on integers only between quantized values."""

REDUCED = ("sum", "mean", "max", "min")
"""Reductions that have a form on integers."""

MOVING = (Concat, Expand, Gather, GatherElements, GatherND, Pad, Reshape, Slice, Transpose)

CHANGES: Mapping[str, str] = {
    "operand 0 is in float": "quantize what it reads",
    "operand 1 is in float": "quantize its weights",
    NOT_ROUNDED: "quantize its result for every reader",
    "scales differ along an axis that is summed over": "use one scale for the tensor, or one for each output channel",
    "elements have scales of their own": "use one scale for the whole tensor",
    "elements of the result have scales of their own": "use one scale for the whole tensor",
    "operands are dequantized in different ways": "give the operands one scale and zero point",
    "zero points differ within a computed operand": "use one zero point for the tensor",
}
"""What to change in the model, by reason; other reasons leave nothing to change."""


@dataclass(frozen=True)
class FloatLayer:
    """A layer that reads quantized numbers and is computed in float.

    Attributes:
        op, where: the operator and the names of the model's nodes.
        shape: the type and the shape of its result.
        float_bytes: what its quantized constants take as floats.
        quantized_bytes: what they take as they are stored.
        why, change: the reason, and what to change in the model; "" where there is nothing.
    """

    op: str
    where: str
    shape: str
    float_bytes: int
    quantized_bytes: int
    why: str
    change: str


def left_in_float(reports: Sequence[PassReport]) -> tuple[Decline, ...]:
    """Why quantized parts of the network are computed in float after all, each reason once."""
    found: dict[Decline, None] = {}
    for report in reports:
        if report.graph_pass.rounds_anew or isinstance(report.graph_pass, MoveQuantization):
            found.update(dict.fromkeys(report.declines))
    return tuple(found)


def float_layers(imported: Graph, compiled: Graph, reports: Sequence[PassReport]) -> tuple[FloatLayer, ...]:
    """The layers of `imported` that read dequantized numbers and that `compiled` computes in float, in order.

    Movement and what only quantizes or dequantizes are no layers.
    """
    reasons = {name: decline.reason for decline in reversed(left_in_float(reports)) for name in decline.loc}
    computed: dict[str, list[Node]] = {}
    for graph in compiled.all_graphs():
        for node in graph.nodes:
            for name in node.loc:
                computed.setdefault(name, []).append(node)
    found = []
    for graph in imported.all_graphs():
        for node in graph.nodes:
            if not _is_layer(node):
                continue
            if isinstance(node.op, WRITES_FLOATS):
                stays = _sums_floats(computed.get(name, ()) for name in node.loc)
                why = next((reasons[name] for name in node.loc if name in reasons), NO_FORM) if stays else ""
            else:
                why = _obstacle(graph, node, reasons) if _has_form(node) else NO_FORM
            if why:
                found.append(_described(node, why))
    return tuple(found)


def _is_layer(node: Node) -> bool:
    """Whether a node computes on dequantized numbers."""
    if len(node.outputs) != 1 or not node.output.type.dtype.is_float or node.regions:
        return False
    if isinstance(node.op, Elementwise) and (as_dequantized(node.op.expr) is not None or rounding(node) is not None):
        return False
    return not isinstance(node.op, MOVING) and any(_is_short(node, index) for index in range(len(node.inputs)))


def _is_short(node: Node, index: int) -> bool:
    form = scaled(node.inputs[index])
    return form is not None and form.integers.type.dtype in SHORT


def _sums_floats(nodes: Iterable[Iterable[Node]]) -> bool:
    """Whether an operator that sums products among the nodes that a layer became reads floats that stand for no integers."""
    return any(isinstance(node.op, WRITES_FLOATS) and node.operand(0).type.dtype.is_float and not (isinstance(node.op, Resize) and node.op.units)
               for same in nodes for node in same)


def _has_form(layer: Node) -> bool:
    """Whether there is a form on integers of an operator, between quantized values."""
    return isinstance(layer.op, Elementwise | Softmax | Pool) or (isinstance(layer.op, Reduce) and layer.op.kind in REDUCED)


def _obstacle(graph: Graph, layer: Node, reasons: Mapping[str, str]) -> str:
    """Why what a layer computes is not rounded to integers at once; "" where it is.

    Elementwise arithmetic behind a layer is part of the work between its operands and the rounding.
    """
    pending, seen = [layer], {layer}
    while pending:
        node = pending.pop()
        result = node.output
        if graph.is_output(result) or not result.users:
            return NOT_ROUNDED
        for user in result.users:
            form = rounding(user)
            if form is not None and form.operand is result:
                why = next((reasons[name] for name in (*user.loc, *layer.loc) if name in reasons), "")
                if why:
                    return why
            elif not isinstance(user.op, Elementwise):
                return NOT_ROUNDED
            elif user not in seen:
                seen.add(user)
                pending.append(user)
    return ""


def _described(node: Node, why: str) -> FloatLayer:
    constants = [form.integers for form in map(scaled, node.inputs) if form is not None and form.integers.constant is not None]
    return FloatLayer(node.op.name, printable("+".join(node.loc)), str(node.output.type), sum(v.type.elements * 4 for v in constants),
                      sum(v.type.size_bytes for v in constants), why, CHANGES.get(why, ""))
