"""Which nodes of a graph will compute on integers, told from what stands around them.

`convert` decides that as it goes; who divides a graph has to know it beforehand, of single nodes.
"""

from __future__ import annotations

from edgecc.backends.tflite import arithmetic, operators, quantized
from edgecc.backends.tflite.recorder import Quantization
from edgecc.ir.graph import Node, Value
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.reduction import ArgReduce

STEPS = 64
"""How many nodes that only move values are looked through."""


def computes_on_integers(node: Node) -> bool:
    """Whether TFLite computes a node on integers: all it reads stands for integers, and all who read its result want integers.

    Positions of extrema are integers for everybody. What quantizes an input of the graph, or makes an output of it, does: such inputs and outputs are of integers.
    """
    if isinstance(node.op, ArgReduce):
        return operators.obstacle(node) is None and integers_behind(node.operand(0)) is not None
    if quantized.quantization_of(node) is not None:
        x = node.operand(0)
        return x.producer is None or integers_behind(x) is not None or _ends_on_integers(x.producer) or _is_fused(x.producer)
    if quantized.dequantization_of(node) is not None or (len(node.outputs) == 1 and quantized.constant_codes(node.output) is not None):
        return all(quantized.dequantization_of(user) is None and computes_on_integers(user) for user in node.output.users)
    return _ends_on_integers(node) or _is_fused(node)


def integers_behind(value: Value, steps: int = STEPS) -> Quantization | None:
    """The quantization of the integers that a value of floats stands for; None where it stands for none."""
    node = value.producer
    if node is None or steps == 0:
        return None
    direct = quantized.dequantization_of(node)
    if direct is not None or not operators.keeps_values(node.op) or operators.obstacle(node) is not None:
        return direct
    found = {integers_behind(operand, steps - 1) for operand in operators.moved(node)}
    return next(iter(found)) if len(found) == 1 else None


def _ends_on_integers(node: Node, steps: int = STEPS) -> bool:
    """Whether a node reads integers, and its result, past an activation and movement, is quantized by whoever reads it."""
    if operators.obstacle(node) is not None or len(node.outputs) != 1 or steps == 0:
        return False
    users = node.output.users
    if operators.keeps_values(node.op) and integers_behind(node.output) is not None:
        return all(computes_on_integers(user) for user in users)
    if not operators.takes_integers(node, lambda value: integers_behind(value) is not None) or not users:
        return False
    if len(users) == 1 and operators.fuses_activation(node) and isinstance(users[0].op, Elementwise) and arithmetic.activation(users[0].op.expr):
        users = users[0].output.users
    return bool(users) and len({quantized.quantization_of(user) for user in users} - {None}) == 1 and all(
        quantized.quantization_of(user) is not None for user in users)


def _is_fused(node: Node) -> bool:
    """Whether a node is an activation that becomes part of the node before it."""
    if not isinstance(node.op, Elementwise) or arithmetic.activation(node.op.expr) is None:
        return False
    before = node.operand(0).producer
    return before is not None and operators.fuses_activation(before) and _ends_on_integers(before)
