"""Writes the steps of a recurrent layer one after another, as products, sums and activations.

    %y, %h = recurrent(%x, %w, %r, %b) {kind="rnn"}
        ->  %p = add(matmul(%x, %w'), %b);  %h1 = tanh(%p[0]);  %h2 = tanh(add(%p[1], matmul(%h1, %r')));  ...

Accelerators have no recurrent layers, but compute all that they consist of. Quantizers see products with constant weights then, and a
range for each value of each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.op import Op
from edgecc.ir.scalar import Arg
from edgecc.ir.types import Array
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.elementwise_table import ELEMENTWISE
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Reshape, Slice, Transpose
from edgecc.ops.recurrent import GATES, Recurrent
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import data, is_constant


@dataclass(frozen=True)
class UnrollRecurrent(NodePass):
    """%y, ... = recurrent(%x, %w, %r, ...)  ->  the same, step by step

    Attributes:
        max_steps: of a layer that is written out; each takes some ten nodes.
    Declines when:
    1. sizes are open, there is no step, or there are more than `max_steps`; 2. sequences have lengths of their own;
    3. weights are not constant, or multiplied with the input already; 4. gates read the cell (peepholes).
    """

    name: ClassVar[str] = "unroll-recurrent"
    tolerance: ClassVar[float] = 64.0  # a step's results are rounded, and carried along the sequence as the layer does

    max_steps: int = 128

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one layer."""
        if not isinstance(node.op, Recurrent):
            return False
        operands: list[Value | None] = [*node.inputs, *[None] * (len(Recurrent.inputs) - len(node.inputs))]
        w, r, b, lengths, peepholes = *operands[1:5], operands[7]
        steps = node.operand(0).type.shape[1 if node.op.layout else 0]
        if not isinstance(steps, int) or not all(isinstance(size, int) for value in node.outputs for size in value.type.shape):
            return self.decline(node, "sizes are open")
        if not 0 < steps <= self.max_steps:
            return self.decline(node, f"it has {steps} steps")
        if lengths is not None:
            return self.decline(node, "sequences have lengths of their own")
        if not is_constant(w) or not is_constant(r) or not (b is None or is_constant(b)):
            return self.decline(node, "weights are not constant, or multiplied already")
        if peepholes is not None:
            return self.decline(node, "gates read the cell")
        written = _Layer(graph, node, node.op).outputs(steps)
        for old, new in zip(node.outputs, written, strict=True):
            graph.replace_all_uses(old, new)
        graph.erase_dead([node, *(value.producer for value in written if value.producer is not None)])
        return True


class _Layer:
    """A layer that is being written out in front of its node. Inside of it a step's values are [batch, columns]."""

    def __init__(self, graph: Graph, node: Node, op: Recurrent) -> None:
        self.graph, self.node, self.op = graph, node, op
        x = node.operand(0)
        self.x = self.add(Transpose((1, 0, 2)), x) if op.layout else x
        self.batch = self.x.type.dims[1]

    def outputs(self, steps: int) -> list[Value]:
        """What the layer returns: all states, the last one, and for lstm the last cell."""
        op = self.op
        done = [self.direction(d, steps) for d in range(op.directions)]
        every = [self.stacked([self.add(Reshape((1, 1, self.batch, op.hidden_size)), h) for h in states], 0) for states, _ in done]
        lasts = [[self.add(Reshape((1, self.batch, op.hidden_size)), value) for value in last] for _, last in done]
        found = [self.stacked(every, 1), *(self.stacked(each, 0) for each in zip(*lasts, strict=True))]
        return [self.add(Transpose((2, 0, 1, 3) if value is found[0] else (1, 0, 2)), value) for value in found] if op.layout else found

    def direction(self, d: int, steps: int) -> tuple[list[Value], tuple[Value, ...]]:
        """The states of one direction in the order of the sequence, and the last state and cell."""
        op, hidden = self.op, self.op.hidden_size
        backwards = op.direction == "reverse" or d == 1
        w, r = (data(self.node.operand(i))[d] for i in (1, 2))
        of_input, of_state = self.biases(d)
        flat = self.add(Reshape((steps * self.batch, self.x.type.dims[2])), self.x)
        products = self.product(flat, self.constant(w), of_input)
        h, c = (self.state(5 + i, d) for i in range(2))
        weights = [self.constant(rows) for rows in ((r[:2 * hidden], r[2 * hidden:]) if op.kind == "gru" else (r,))]
        states: list[Value] = []
        for step in range(steps):
            at = steps - 1 - step if backwards else step
            p = self.add(Slice((at * self.batch, 0), (self.batch, GATES[op.kind] * hidden), (1, 1)), products)
            match op.kind:
                case "lstm":
                    h, c = self.lstm(d, p, h, c, weights[0])
                case "gru":
                    h = self.gru(d, p, h, weights, of_state)
                case _:
                    h = self.activated(d, 0, self.sum(p, None if h is None else self.product(h, weights[0])))
            states.append(h)
        last = (h, c) if op.kind == "lstm" else (h,)
        return states[::-1] if backwards else states, tuple(value for value in last if value is not None)

    def biases(self, d: int) -> tuple[Value | None, Value | None]:
        """What is added to the products of the input, and what the reset gate of a gru multiplies with the product of the state."""
        given = self.node.inputs[3] if len(self.node.inputs) > 3 else None
        if given is None:
            return None, None
        of_input, of_state = np.split(data(given)[d], 2)
        if self.op.kind != "gru" or not self.op.linear_before_reset:
            return self.constant(of_input + of_state), None
        gates = 2 * self.op.hidden_size
        return self.constant(np.concatenate([of_input[:gates] + of_state[:gates], of_input[gates:]])), self.constant(of_state[gates:])

    def lstm(self, d: int, p: Value, h: Value | None, c: Value | None, weights: Value) -> tuple[Value, Value]:
        """The next state and cell; p [batch, 4*hidden] is what the input gives."""
        gates = self.sum(p, None if h is None else self.product(h, weights))
        i, o, g = (self.activated(d, function, self.columns(gates, k)) for k, function in ((0, 0), (1, 0), (3, 1)))
        c_new = self.compute("Mul", i, g)
        if c is not None:
            f = self.compute("Sub", self.number(1), i) if self.op.input_forget else self.activated(d, 0, self.columns(gates, 2))
            c_new = self.compute("Add", self.compute("Mul", f, c), c_new)
        return self.compute("Mul", o, self.activated(d, 2, c_new)), c_new

    def gru(self, d: int, p: Value, h: Value | None, weights: Sequence[Value], bias: Value | None) -> Value:
        """The next state; p [batch, 3*hidden] is what the input gives, `bias` that of the product which the reset gate multiplies."""
        of_gates, of_candidate = weights
        gates = self.sum(self.columns(p, 0, 2), None if h is None else self.product(h, of_gates))
        update = self.activated(d, 0, self.columns(gates, 0))
        before = self.op.linear_before_reset
        multiplied = h if not before else bias if h is None else self.product(h, of_candidate, bias)
        inner = None if multiplied is None else self.compute("Mul", self.activated(d, 0, self.columns(gates, 1)), multiplied)
        if inner is not None and not before:
            inner = self.product(inner, of_candidate)
        candidate = self.activated(d, 1, self.sum(self.columns(p, 2), inner))
        if h is None:
            return self.compute("Sub", candidate, self.compute("Mul", update, candidate))
        return self.compute("Add", candidate, self.compute("Mul", update, self.compute("Sub", h, candidate)))

    # -- nodes --------------------------------------------------------------------------------

    def add(self, op: Op, *inputs: Value) -> Value:
        """A node with one result."""
        return self.graph.add(op, *inputs, before=self.node, loc=self.node.loc)

    def constant(self, array: Array) -> Value:
        """A constant of the layer's type."""
        return self.graph.constant(array.astype(self.x.type.dtype.numpy), "weights")

    def number(self, value: float) -> Value:
        """A constant of rank 0."""
        return self.graph.constant(self.x.type.dtype.numpy.type(value), "number")

    def compute(self, name: str, *operands: Value) -> Value:
        """Elementwise arithmetic."""
        arguments = [Arg(index, value.type.dtype) for index, value in enumerate(operands)]
        return self.add(Elementwise(ELEMENTWISE[name].build(arguments, {})), *operands)

    def activated(self, d: int, position: int, value: Value) -> Value:
        """An activation of the layer."""
        return self.add(Elementwise(self.op.activation(d, position, value.type.dtype)), value)

    def sum(self, value: Value, other: Value | None) -> Value:
        """The sum, or the first one where there is no other."""
        return value if other is None else self.compute("Add", value, other)

    def product(self, value: Value, weights: Value, bias: Value | None = None) -> Value:
        """[rows, inputs] by weights [outputs, inputs], and the bias [outputs]."""
        return self.add(MatMul(False, True), value, weights, *([] if bias is None else [bias]))

    def columns(self, value: Value, first: int, count: int = 1) -> Value:
        """Those of `count` gates."""
        hidden = self.op.hidden_size
        return self.add(Slice((0, first * hidden), (self.batch, count * hidden), (1, 1)), value)

    def stacked(self, values: Sequence[Value], axis: int) -> Value:
        """The values one after another."""
        return values[0] if len(values) == 1 else self.add(Concat(axis), *values)

    def state(self, operand: int, d: int) -> Value | None:
        """The initial state or cell of a direction, [batch, hidden]; None for zeros."""
        given = self.node.inputs[operand] if len(self.node.inputs) > operand else None
        if given is None or (given.constant is not None and not given.constant.any()):
            return None
        dims = (self.batch, 1, self.op.hidden_size) if self.op.layout else (1, self.batch, self.op.hidden_size)
        own = self.add(Slice((0, d, 0) if self.op.layout else (d, 0, 0), dims, (1, 1, 1)), given)
        return self.add(Reshape((self.batch, self.op.hidden_size)), own)
