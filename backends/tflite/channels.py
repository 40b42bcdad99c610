"""The pass that states functions with other numbers for each channel as convolutions of single channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.backends.tflite import arithmetic, operators, quantized
from edgecc.backends.tflite.neighbours import integers_behind
from edgecc.backends.tflite.passes import dequantize
from edgecc.backends.tflite.recorder import Quantization
from edgecc.ir.dims import numbers
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Apply, Arg, Literal, ScalarExpr, evaluate, used_args
from edgecc.ir.types import Array, DType
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.movement import Reshape, Transpose
from edgecc.passes.base import NodePass


@dataclass(frozen=True)
class _Line:
    """factor * x + offset; both broadcast to the result, in f64."""

    factor: Array
    offset: Array


class ScaleChannels(NodePass):
    """States a function a * x + b of a quantized value, with other numbers for each channel, as a convolution of single channels.

        %y = (%x - mean) * (scale / sqrt(variance + epsilon)) + bias   ->   %y = conv(%x, w, b) {group=C}

    Weights are the largest integers, 127 and -127, whose scales say a exactly, or smaller ones where the bias would not have room in 30
    bits beside them.

    Declines where the numbers vary along several axes, or TFLite computes the node as it stands.
    """

    name: ClassVar[str] = "tflite.scale-channels"
    # Factors and offsets are rounded to f32 once more, the latter to integers of 30 bits or a 127th of the operand's step.
    tolerance: ClassVar[float] = 4.0
    rounds_anew: ClassVar[bool] = True

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one elementwise node."""
        if not isinstance(node.op, Elementwise) or quantized.states_quantization(node) or node.output.type.dtype is not DType.F32:
            return False
        computed = [value for value in node.inputs if value is not None and not quantized.is_constant(value)]
        if len(computed) != 1 or computed[0].type != node.output.type or not node.output.type.is_static or node.output.type.rank < 2:
            return False
        source, made = integers_behind(computed[0]), _result(graph, node)
        if source is None or made is None or operators.takes_integers(node, lambda value: integers_behind(value) is not None):
            return False
        limits, inner = _without_activation(node.op.expr)
        line = _line(inner, node, computed[0])
        if line is None or not (np.isfinite(line.factor).all() and np.isfinite(line.offset).all()):
            return False
        axis = _axis(node.output.type.rank, line)
        if axis is None:
            return self.decline(node, "the numbers vary along several axes")
        size = numbers(node.output.type.dims)[axis]
        factor, offset = (np.broadcast_to(part.reshape(-1), (size,)) for part in (line.factor, line.offset))
        result = _scaled_channels(graph, node, computed[0], axis, factor, offset, source, made)
        if limits is not None:
            result = graph.add(Elementwise(limits), result, before=node, loc=node.loc)
        graph.replace_all_uses(node.output, result)
        graph.erase_dead([node])
        return True


def _without_activation(expr: ScalarExpr) -> tuple[ScalarExpr | None, ScalarExpr]:
    """The activation of TFLite that an expression ends with, as one over Arg(0), or None; and what it limits."""
    outer: Callable[[ScalarExpr], ScalarExpr] = _itself
    inner = expr
    while isinstance(inner, Apply) and inner.op in ("min", "max") and isinstance(inner.args[1], Literal):
        outer, inner = _limited(outer, inner), inner.args[0]
    whole = outer(Arg(0, DType.F32))
    return (whole, inner) if arithmetic.activation(whole) is not None else (None, expr)


def _itself(expr: ScalarExpr) -> ScalarExpr:
    return expr


def _limited(outer: Callable[[ScalarExpr], ScalarExpr], limit: Apply) -> Callable[[ScalarExpr], ScalarExpr]:
    return lambda expr: outer(Apply(limit.op, (expr, limit.args[1]), limit.dtype))


def _result(graph: Graph, node: Node) -> Quantization | None:
    """The quantization of what a node computes, past an activation; None where not all who read it quantize it alike."""
    found = quantized.quantizers(graph, node.output)
    if found is None and len(node.output.users) == 1 and not graph.is_output(node.output):
        (user,) = node.output.users
        if isinstance(user.op, Elementwise) and arithmetic.activation(user.op.expr) is not None:
            found = quantized.quantizers(graph, user.output)
    return None if found is None else found[1]


def _axis(rank: int, line: _Line) -> int | None:
    """The only axis along which the numbers of a line vary; the last one where they do not. None where there are several."""
    axes = {rank - part.ndim + axis for part in (line.factor, line.offset) for axis, size in enumerate(part.shape) if size != 1}
    return None if len(axes) > 1 else next(iter(axes), rank - 1)


def _line(expr: ScalarExpr, node: Node, x: Value) -> _Line | None:
    """An expression over the operands of a node as a line over one of them; None for every other expression."""
    if all(node.inputs[index] is not x for index in used_args(expr)):
        values = [np.zeros((), np.float32) if value is None or value is x else quantized.constant_floats(value) for value in node.inputs]
        return _Line(np.zeros(()), np.asarray(evaluate(expr, values), np.float64))
    match expr:
        case Arg():
            return _Line(np.ones(()), np.zeros(()))
        case Apply("neg", (inner,)):
            line = _line(inner, node, x)
            return None if line is None else _Line(-line.factor, -line.offset)
        case Apply("add" | "sub" | "mul" | "div" as op, (left, right)):
            a, b = _line(left, node, x), _line(right, node, x)
            return None if a is None or b is None else _combined(op, a, b)
    return None


def _combined(op: str, a: _Line, b: _Line) -> _Line | None:
    with np.errstate(all="ignore"):
        if op in ("add", "sub"):
            sign = 1.0 if op == "add" else -1.0
            return _Line(a.factor + sign * b.factor, a.offset + sign * b.offset)
        if not b.factor.any():
            number = b.offset if op == "mul" else 1.0 / b.offset
            return _Line(a.factor * number, a.offset * number)
        return _Line(b.factor * a.offset, b.offset * a.offset) if op == "mul" and not a.factor.any() else None


def _scaled_channels(graph: Graph, node: Node, x: Value, axis: int, factor: Array, offset: Array, source: Quantization, made: Quantization) -> Value:
    """The convolution, between movements that make channels of `axis`."""
    dims = numbers(x.type.dims)
    least = made.scale / source.scale * 2.0**-24
    scales = np.maximum(np.maximum(np.abs(factor) / 127, np.abs(offset) / (source.scale * 2**30)), least).astype(np.float32)
    codes = np.clip(np.rint(factor / scales), -127, 127)

    def add(op: Reshape | Transpose | Conv, *operands: Value) -> Value:
        return graph.add(op, *operands, before=node, loc=node.loc)

    before, after, channels = int(np.prod(dims[:axis])), int(np.prod(dims[axis + 1:])), dims[axis]
    direct = axis == 1 and len(dims) in (3, 4)
    last = not direct and after == 1
    flat = x if direct else add(Transpose((0, 2, 1)), add(Reshape((1, before, channels)), x)) if last else add(Reshape((before, channels, after)), x)
    taps = (1,) * (flat.type.rank - 2)
    weights = dequantize(graph, codes.reshape(-1, 1, *taps), scales.reshape(-1, 1, *taps), node)
    y = add(Conv(taps, (0,) * (2 * len(taps)), taps, group=channels), flat, weights, graph.constant(offset.astype(np.float32)))
    return y if direct else add(Reshape(dims), add(Transpose((0, 2, 1)), y) if last else y)
