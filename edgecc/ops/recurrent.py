"""Recurrent layers: LSTM, GRU and the simple recurrent network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.op import Op, present, register, required
from edgecc.ir.scalar import Arg, ScalarExpr, apply, evaluate, literal
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops import rules
from edgecc.ops.elementwise_table import ELEMENTWISE

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
"""Rows of blocks in w and r. lstm: input, output, forget, cell; gru: update, reset, hidden."""

DEFAULT_ACTIVATIONS = {"lstm": ("Sigmoid", "Tanh", "Tanh"), "gru": ("Sigmoid", "Tanh"), "rnn": ("Tanh",)}

ACTIVATION_DEFAULTS: dict[str, tuple[float, float]] = {
    "Relu": (0.0, 0.0), "Tanh": (0.0, 0.0), "Sigmoid": (0.0, 0.0), "Softsign": (0.0, 0.0), "Softplus": (0.0, 0.0),
    "Affine": (1.0, 0.0), "LeakyRelu": (0.01, 0.0), "ThresholdedRelu": (1.0, 0.0), "ScaledTanh": (1.0, 1.0),
    "HardSigmoid": (0.2, 0.5), "Elu": (1.0, 0.0),
}
"""Activations by their ONNX names, with the alpha and beta they have where the model states none."""


@register
@dataclass(frozen=True)
class Recurrent(Op):
    """A layer that carries state along a sequence. For each step t (* is elementwise, @ a matrix product):

    lstm, activations f, g, h:  i = f(x@Wi' + H@Ri' + Wbi + Rbi + Pi*C)   o, fg (forget) and c~ (by g, no peephole) alike
        C' = fg*C + i*c~    o uses Po*C'    H' = o * h(C')    with input_forget: fg = 1 - i
    gru, activations f, g:      z = f(x@Wz' + H@Rz' + Wbz + Rbz)   r alike
        h = g(x@Wh' + (r*H)@Rh' + Rbh + Wbh), or with linear_before_reset g(x@Wh' + r*(H@Rh' + Rbh) + Wbh)
        H' = (1 - z)*h + z*H
    rnn, activation f:          H' = f(x@W' + H@R' + Wb + Rb)

    With clip > 0 the argument of every activation of a gate (f, g) is limited to -clip..clip first. The argument of
    h is not: ONNX's text ("the input of activations") may be read either way, and onnxruntime leaves it alone.

    Shapes: layout 0: x [S,B,I], initial_h, initial_c [D,B,H] -> y [S,D,B,H], y_h [D,B,H], for lstm also y_c [D,B,H];
        layout 1: x [B,S,I], initial_h, initial_c [B,D,H] -> y [B,S,D,H], y_h and y_c [B,D,H].
        D is 2 for "bidirectional", else 1. With G blocks of gates (`GATES`): w [D,G*H,I], r [D,G*H,H],
        absent w: x holds x@W' already, its last axis is D*G*H; there is no such form in ONNX,
        b [D,2*G*H] (all Wb, then all Rb), p [D,3*H] (i, o, f; lstm only), sequence_lens [B] integers.
    Attributes: kind "lstm", "gru" or "rnn"; hidden_size H; direction "forward", "reverse" or "bidirectional";
        activations, ONNX names, those of the first direction first; () for the defaults; activation_alpha and
        activation_beta, one for each activation, or () for the defaults; clip, 0 for none; linear_before_reset;
        input_forget; layout.
    Steps from sequence_lens[b] on leave the state as it is and give zeros in y; "reverse" begins at the last valid step.
    Raises: E110 for unknown attributes or wrong lengths, types that are not one float type, shapes that do not fit.
    Source: ONNX LSTM-22, GRU-22, RNN-22. In float64 over all steps, results rounded once.
    """

    name: ClassVar[str] = "recurrent"
    inputs: ClassVar[tuple[str, ...]] = ("x", "w?", "r", "b?", "sequence_lens?", "initial_h?", "initial_c?", "p?")

    kind: str
    hidden_size: int
    direction: str = "forward"
    activations: tuple[str, ...] = ()
    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    clip: float = 0.0
    linear_before_reset: bool = False
    input_forget: bool = False
    layout: int = 0

    @property
    def directions(self) -> int:
        """2 for a bidirectional layer, else 1."""
        return 2 if self.direction == "bidirectional" else 1

    def activation(self, direction: int, position: int, dtype: DType) -> ScalarExpr:
        """The activation at `position` (0: f, 1: g, 2: h) of a direction, over Arg(0) of type `dtype`; gates clip."""
        per_direction = len(DEFAULT_ACTIVATIONS[self.kind])
        index = direction * per_direction + position
        name = (self.activations or DEFAULT_ACTIVATIONS[self.kind] * self.directions)[index]
        alpha, beta = ACTIVATION_DEFAULTS[name]
        alpha = self.activation_alpha[index] if self.activation_alpha else alpha
        beta = self.activation_beta[index] if self.activation_beta else beta
        return activation_expression(name, alpha, beta, self.clip if position < 2 else 0.0, dtype)

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Types of y, y_h and for lstm y_c; see the class."""
        x, r = required((inputs[0], inputs[2]))
        self._check_attributes(inputs)
        rules.check_float(self, "x", x, inputs)
        if x.rank != 3 or r.rank != 3:
            raise self.fail(f"x has rank {x.rank} and r rank {r.rank}, wanted 3 each", inputs)
        batch, steps = (x.shape[0], x.shape[1]) if self.layout else (x.shape[1], x.shape[0])
        directions, hidden, rows = self.directions, self.hidden_size, GATES[self.kind] * self.hidden_size
        if inputs[1] is None and x.shape[2] != directions * rows:
            raise self.fail(f"without w, x has {x.shape[2]} columns, wanted {directions * rows}", inputs)
        state = (batch, directions, hidden) if self.layout else (directions, batch, hidden)
        wanted = {"w": (directions, rows, x.shape[2]), "r": (directions, rows, hidden), "b": (directions, 2 * rows),
                  "sequence_lens": (batch,), "initial_h": state, "initial_c": state, "p": (directions, 3 * hidden)}
        for what, operand in zip((n.rstrip("?") for n in self.inputs[1:]), inputs[1:], strict=False):
            if operand is None:
                continue
            if what in ("initial_c", "p") and self.kind != "lstm":
                raise self.fail(f"{what} is given, which only lstm has", inputs)
            rules.check_dims(self, what, operand, wanted[what], inputs)
            if what != "sequence_lens":
                rules.check_dtype(self, what, operand, x.dtype, inputs)
            elif not operand.dtype.is_integer:
                raise self.fail(f"sequence_lens has type {operand.dtype.value}, wanted an integer", inputs)
        y = (batch, steps, directions, hidden) if self.layout else (steps, directions, batch, hidden)
        results = [y, state, state] if self.kind == "lstm" else [y, state]
        return tuple(rules.result_type(self, x.dtype, dims, inputs) for dims in results)

    def _check_attributes(self, inputs: Sequence[TensorType | None]) -> None:
        if self.kind not in GATES:
            raise self.fail(f"kind is {self.kind!r}, wanted one of {', '.join(GATES)}", inputs)
        if self.direction not in ("forward", "reverse", "bidirectional"):
            raise self.fail(f"direction is {self.direction!r}, wanted forward, reverse or bidirectional", inputs)
        count = len(DEFAULT_ACTIVATIONS[self.kind]) * self.directions
        for what, entries in (("activations", self.activations), ("activation_alpha", self.activation_alpha),
                              ("activation_beta", self.activation_beta)):
            if len(entries) not in (0, count):
                raise self.fail(f"{what} has {len(entries)} entries, wanted {count} or none", inputs)
        unknown = [a for a in self.activations if a not in ACTIVATION_DEFAULTS]
        if unknown:
            raise self.fail(f"activation {unknown[0]!r} is not known, wanted {', '.join(ACTIVATION_DEFAULTS)}", inputs)
        if self.hidden_size < 1 or self.layout not in (0, 1) or not self.clip >= 0:
            raise self.fail(f"hidden_size is {self.hidden_size}, layout {self.layout} and clip {self.clip}, "
                            "wanted hidden_size >= 1, layout 0 or 1, clip >= 0", inputs)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Step by step in float64."""
        (x,) = present(inputs[:1])
        y, h, c, _ = self._run(inputs)
        results = [y, h, c] if self.kind == "lstm" else [y, h]
        return tuple(np.ascontiguousarray(out.astype(x.dtype)) for out in results)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """1 + the largest sum of |terms| that any activation argument of the unit has over all steps.

        Sigmoid and tanh have slopes of at most 1, so one rounding of such a sum moves the state by at most
        that; how errors add up along the sequence depends on the weights and is left to the tolerance.
        """
        y, h, c, terms = self._run(inputs)
        per_unit = 1.0 + terms.max(axis=(0, 2))  # [D, H]
        out = [np.broadcast_to(per_unit[:, None], h.shape) if not self.layout else np.broadcast_to(per_unit, h.shape)] * 2
        wide_y = np.broadcast_to(per_unit if self.layout else per_unit[:, None], y.shape)
        return tuple(np.array(a) for a in ([wide_y, out[0], out[1] + np.abs(c)] if self.kind == "lstm" else [wide_y, out[0]]))

    def _run(self, inputs: Sequence[Array | None]) -> tuple[Array, Array, Array, Array]:
        """y, y_h, y_c in the layout's order, and the magnitudes of activation arguments [S,D,B,H]."""
        operands = (*inputs, *[None] * (len(self.inputs) - len(inputs)))
        x, w, r, b, lens, h0, c0, p = (None if a is None else rules.wide(a) for a in operands)
        x, r = present([x, r])
        if self.layout:
            x = np.swapaxes(x, 0, 1)
            h0, c0 = (None if s is None else np.swapaxes(s, 0, 1) for s in (h0, c0))
        steps, batch, _ = x.shape
        hidden, rows = self.hidden_size, GATES[self.kind] * self.hidden_size
        zeros = np.zeros((self.directions, batch, hidden))
        b = np.zeros((self.directions, 2 * rows)) if b is None else b
        p = np.zeros((self.directions, 3 * hidden)) if p is None else p
        h_all, c_all = np.array(zeros if h0 is None else h0), np.array(zeros if c0 is None else c0)
        lens = np.full(batch, steps) if lens is None else np.clip(lens.astype(np.int64), 0, steps)
        y = np.zeros((steps, self.directions, batch, hidden))
        terms = np.zeros((max(steps, 1), self.directions, batch, hidden))
        for d in range(self.directions):
            own = x if w is not None else x[:, :, d * rows:(d + 1) * rows]
            backwards = self.direction == "reverse" or d == 1
            cell = _Cell(self, d, None if w is None else w[d], r[d], b[d], p[d])
            h, c = h_all[d], c_all[d]
            for step in range(steps):
                time = lens - 1 - step if backwards else np.full(batch, step)
                valid = (step < lens)[:, None]
                at = np.clip(time, 0, steps - 1)
                new_h, new_c, terms[step, d] = cell.step(own[at, np.arange(batch)], h, c)
                h, c = np.where(valid, new_h, h), np.where(valid, new_c, c)
                members = np.nonzero(valid[:, 0])[0]
                y[at[members], d, members] = h[members]
            h_all[d], c_all[d] = h, c
        if self.layout:
            return y.transpose(2, 0, 1, 3), np.swapaxes(h_all, 0, 1), np.swapaxes(c_all, 0, 1), terms
        return y, h_all, c_all, terms


class _Cell:
    """One direction of a layer: the weights (w absent: x is multiplied already), and one step of its recurrence in float64."""

    def __init__(self, op: Recurrent, direction: int, w: Array | None, r: Array, b: Array, p: Array) -> None:
        self.op = op
        self.w, self.r = None if w is None else w.T, r.T
        self.wb, self.rb = np.split(b, 2)
        self.p = np.split(p, 3)
        count = len(DEFAULT_ACTIVATIONS[op.kind])
        self.functions = [op.activation(direction, k, DType.F64) for k in range(count)]

    def _activate(self, position: int, argument: Array) -> Array:
        return evaluate(self.functions[position], [argument])

    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
        """The next h and c, and the largest sum of |terms| among the gates of each unit."""
        op, hidden = self.op, self.op.hidden_size
        inner = (x if self.w is None else x @ self.w) + self.wb
        from_x = np.abs(x) if self.w is None else np.abs(x) @ np.abs(self.w)
        terms = from_x + np.abs(self.wb) + np.abs(h) @ np.abs(self.r) + np.abs(self.rb)
        largest = terms.reshape(*terms.shape[:-1], -1, hidden).max(axis=-2)
        match op.kind:
            case "lstm":
                i, o, f, g = np.split(inner + h @ self.r + self.rb, 4, axis=-1)
                pi, po, pf = self.p
                i = self._activate(0, i + pi * c)
                f = 1.0 - i if op.input_forget else self._activate(0, f + pf * c)
                new_c = f * c + i * self._activate(1, g)
                return self._activate(0, o + po * new_c) * self._activate(2, new_c), new_c, largest
            case "gru":
                split = 2 * hidden
                z, r = np.split(self._activate(0, inner[:, :split] + h @ self.r[:, :split] + self.rb[:split]), 2, axis=-1)
                if op.linear_before_reset:
                    candidate = r * (h @ self.r[:, split:] + self.rb[split:])
                else:
                    candidate = (r * h) @ self.r[:, split:] + self.rb[split:]
                new_h = (1.0 - z) * self._activate(1, inner[:, split:] + candidate) + z * h
                return new_h, c, largest
        return self._activate(0, inner + h @ self.r + self.rb), c, largest


def activation_expression(name: str, alpha: float, beta: float, clip: float, dtype: DType) -> ScalarExpr:
    """The activation called `name` of ONNX's recurrent operators, over Arg(0) limited to -clip..clip if clip > 0."""
    x: ScalarExpr = Arg(0, dtype)
    if clip > 0 and math.isfinite(clip):
        x = ELEMENTWISE["Clip"].build([x], {"min": -clip, "max": clip})
    if name == "Affine":
        return _scaled(x, alpha, beta)
    if name == "ScaledTanh":
        return _scaled(ELEMENTWISE["Tanh"].build([_scaled(x, beta, 0.0)], {}), alpha, 0.0)
    return ELEMENTWISE[name].build([x], {"alpha": alpha, "beta": beta})


def _scaled(x: ScalarExpr, factor: float, offset: float) -> ScalarExpr:
    return apply("add", apply("mul", x, literal(factor, x.dtype)), literal(offset, x.dtype))
