"""LSTM, GRU and the simple recurrent network.

    for direction, batch: for step: for panel of units: gates = bias + x@W + h@R; state = f(gates, state)

Lanes are hidden units. The accumulators of all gates of a panel stay in registers while the step's
input and the state pass by, and the gates' activations are applied to them there, so nothing but
the states is kept in memory. Weights are packed as [direction][vector of units][term][gate][lane].
A GRU that applies its reset gate before the product needs the gate of every unit first: it takes two
sweeps over the panels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels.base import Kernel, Request, kernel_for
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.register_tile import vector_lanes
from edgecc.kernels.scalar_lowering import compute_type, lower_scalar
from edgecc.loop.builder import add, cast, fma, mul, number, repeat, sub
from edgecc.loop.index import Index, as_index, const, from_expr, maximum, minimum
from edgecc.loop.ir import Buffer, Expr, Ref
from edgecc.ops.recurrent import GATES, Recurrent

UNROLL = 4
X, W, R, B, LENGTHS, H0, C0, P = range(8)
"""Operand numbers."""


@dataclass(frozen=True)
class Panel:
    """`vectors` vectors of units from vector `first` on, `count` times; `valid` units in the last vector (0: all)."""

    first: int
    vectors: int
    count: int
    valid: int


@kernel_for(Recurrent)
def lower_recurrent(request: Request) -> Kernel:
    """The kernel of a recurrent layer."""
    op = request.op
    if not isinstance(op, Recurrent):
        raise TypeError(op)
    return _Layer(request, op).lower()


class _Layer:
    """Builds the kernel of one request."""

    def __init__(self, request: Request, op: Recurrent) -> None:
        self.request, self.op = request, op
        self.x = request.operand(X).view
        self.dtype = compute_type(self.x.dtype)
        self.hidden, self.gates = op.hidden_size, GATES[op.kind]
        self.batch, self.steps = (self.x.dims[0], self.x.dims[1]) if op.layout else (self.x.dims[1], self.x.dims[0])
        self.depth = self.x.dims[2]
        self.lanes = vector_lanes(request.target, 4) if self.dtype is DType.F32 else 1
        self.vectors = -(-self.hidden // self.lanes)
        self.padded = self.vectors * self.lanes
        self.separate = op.kind == "gru" and op.linear_before_reset
        self.slots = self.gates + (1 if self.separate else 0)
        self.b = KernelBuilder(request, f"{op.kind}_{self.depth}_{self.hidden}",
                               f"{op.direction} {op.kind}, {self.steps} steps of {self.depth} to {self.hidden} units")

    # -- the kernel ---------------------------------------------------------------------------

    def lower(self) -> Kernel:
        b, request = self.b, self.request
        self.x_buffer = b.input(X, "x")
        packers: list[Callable[[], None]] = []
        terms = partial(_pack_terms, self.layout)
        self.w_buffer = self.weights("w", W, self.depth, self.gates, terms, partial(self.given_term, W), packers)
        self.r_buffer = self.weights("r", R, self.hidden, self.gates, terms, partial(self.given_term, R), packers)
        self.b_buffer = self.p_buffer = None
        if request.optional(B) is not None:
            pack_bias = partial(_pack_bias, self.layout, self.separate)
            self.b_buffer = self.weights("b", B, 1, self.slots, pack_bias, self.given_bias, packers)
        if request.optional(P) is not None:
            self.p_buffer = self.weights("p", P, 1, 3, partial(_pack_peephole, self.layout), self.given_peephole, packers)
        lengths = b.input(LENGTHS, "lengths") if request.optional(LENGTHS) is not None else None
        starts = {i: b.input(i, name) for i, name in ((H0, "h0"), (C0, "c0")) if request.optional(i) is not None}
        self.y_buffer = b.output(0, "y")
        finals = {H0: b.output(1, "yh")} | ({C0: b.output(2, "yc")} if self.op.kind == "lstm" else {})
        self.h, self.fresh = b.workspace("h", self.dtype, self.padded), b.workspace("fresh", self.dtype, self.padded)
        self.c = b.workspace("c", self.dtype, self.padded) if self.op.kind == "lstm" else None
        two_sweeps = self.op.kind == "gru" and not self.separate
        self.update = b.workspace("update", self.dtype, self.padded) if two_sweeps else None
        self.reset = b.workspace("reset", self.dtype, self.padded) if two_sweeps else None
        for pack in packers:
            pack()
        for direction in range(self.op.directions):
            backward = self.op.direction == "reverse" or direction == 1
            with b.loop("batch", self.batch) as batch:
                self.fill(self.h, starts.get(H0), H0, direction, batch)
                if self.c is not None:
                    self.fill(self.c, starts.get(C0), C0, direction, batch)
                length: Index = const(self.steps)
                if lengths is not None:
                    given = b.load(lengths, self.request.operand(LENGTHS).view.at([batch]))
                    length = minimum(maximum(from_expr(b.let("length", given)), 0), self.steps)
                with b.loop("step", length) as step:
                    time = length - step - 1 if backward else step
                    self.step(direction, batch, time)
                if lengths is not None:
                    with b.loop("rest", self.steps, start=length) as time, b.loop("unit", self.hidden) as unit:
                        b.store(self.y_buffer, self.y_at(direction, batch, time, unit), number(0, self.x.dtype))
                for operand, buffer in finals.items():
                    state = self.h if operand == H0 or self.c is None else self.c
                    view = self.request.outputs[1 if operand == H0 else 2]
                    with b.loop("unit", self.hidden) as unit:
                        value = cast(b.load(state, unit), self.x.dtype)
                        b.store(buffer, view.at(self.state_coordinates(direction, batch, unit)), value)
        schedule = ("broadcast-by-lane{lanes=4}",) if request.target.vector.fma_by_lane and self.lanes > 1 else ()
        return b.kernel(schedule=(*schedule, "reuse-loads"),
                        choice=f"{self.op.kind}: {self.panel_vectors()} vectors of {self.lanes} units x {self.gates} gates")

    def weights(self, name: str, operand: int, terms: int, slots: int, pack: Callable[[Array], Array],
                given: Callable[[Buffer, int, int, Index, Index], Expr], packers: list[Callable[[], None]]) -> Buffer:
        """A buffer [direction][vector][term][slot][lane]: packed now if the operand is constant, else when the kernel starts.

        `given(source, direction, slot, unit, term)` is an element of the operand as it lies in memory.
        """
        view = self.request.operand(operand).view
        elements = self.op.directions * self.padded * terms * slots
        if self.request.operand(operand).is_constant:
            return self.b.packed(name, view.dtype, elements, (operand,), pack)
        source = self.b.input(operand, f"{name}_given")
        buffer = self.b.workspace(name, view.dtype, elements)
        packers.append(partial(self.pack_at_run_time, buffer, terms, slots, partial(given, source)))
        return buffer

    def pack_at_run_time(self, buffer: Buffer, terms: int, slots: int, given: Callable[[int, int, Index, Index], Expr]) -> None:
        """Rearranges weights that are not constant."""
        b, lanes = self.b, self.lanes
        whole, rest = divmod(self.hidden, lanes)
        for direction in range(self.op.directions):
            for first, count, used in ((0, whole, lanes), (whole, 1 if rest else 0, rest)):
                with b.loop("vector", count) as number_of_vector, b.loop("term", terms) as term:
                    vector = number_of_vector + first
                    for slot in range(slots):
                        base = (((vector + direction * self.vectors) * terms + term) * slots + slot) * lanes
                        with b.loop("lane", used) as lane:
                            b.store(buffer, base + lane, given(direction, slot, vector * lanes + lane, term))
                        with b.loop("lane", lanes, start=used) as lane:
                            b.store(buffer, base + lane, number(0, buffer.dtype))

    def given_term(self, operand: int, source: Buffer, direction: int, gate: int, unit: Index, term: Index) -> Expr:
        """Weight of a term of a gate: operand [direction, gates*units, terms]."""
        view = self.request.operand(operand).view
        return self.b.load(source, view.at([direction, unit + gate * self.hidden, term]))

    def given_bias(self, source: Buffer, direction: int, slot: int, unit: Index, term: Index) -> Expr:
        """Bias of a slot: both halves of the operand summed, but see `separate`."""
        view = self.request.operand(B).view

        def half(number_of_half: int, gate: int) -> Expr:
            return self.b.load(source, view.at([direction, unit + (number_of_half * self.gates + gate) * self.hidden]))

        if self.separate and slot >= self.gates - 1:
            return half(slot - (self.gates - 1), self.gates - 1)
        return add(half(0, slot), half(1, slot))

    def given_peephole(self, source: Buffer, direction: int, slot: int, unit: Index, term: Index) -> Expr:
        """Peephole weight of gate i, o or f."""
        return self.b.load(source, self.request.operand(P).view.at([direction, unit + slot * self.hidden]))

    @property
    def layout(self) -> tuple[int, int, int]:
        """(gates, units, lanes): what packing needs to know."""
        return self.gates, self.hidden, self.lanes

    # -- one step -----------------------------------------------------------------------------

    def step(self, direction: int, batch: Index, time: Index) -> None:
        """All units at one time; `fresh` becomes the state."""
        if self.update is not None:
            self.sweep(direction, batch, time, (0, 1), self.h, self.store_gates)
            self.sweep(direction, batch, time, (2,), self.reset or self.h, self.finish)
        else:
            self.sweep(direction, batch, time, tuple(range(self.gates)), self.h, self.finish)
        b = self.b
        with b.loop("vector", self.vectors) as vector:
            b.store(self.h, vector * self.lanes, b.load(self.fresh, vector * self.lanes, self.lanes))

    def panel_vectors(self) -> int:
        """Vectors of units side by side: enough accumulators to hide the latency of a multiply-add, few enough to stay."""
        core = self.request.target.core
        enough = -(-int(core.fma_latency * core.fma_per_cycle) // self.gates)
        return max(1, min(enough, (self.request.target.vector.registers - 8) // (self.slots + 1), 4))

    def panels(self) -> tuple[Panel, ...]:
        """Cuts the units into panels; a vector that is not full is a panel of its own."""
        whole, rest = divmod(self.hidden, self.lanes)
        width = self.panel_vectors()
        out = []
        if whole // width:
            out.append(Panel(0, width, whole // width, 0))
        if whole % width:
            out.append(Panel(whole // width * width, whole % width, 1, 0))
        if rest:
            out.append(Panel(whole, 1, 1, rest))
        return tuple(out)

    def sweep(self, direction: int, batch: Index, time: Index, gates: Sequence[int], state: Buffer,
              finish: Callable[[int, Index, Index, Index, Sequence[Ref], int], None]) -> None:
        """Sums of some gates for all units; `finish` gets (direction, batch, time, first unit, sums, valid) of each vector."""
        b = self.b
        for panel in self.panels():
            with b.loop("panel", panel.count) as number_of_panel:
                first = number_of_panel * panel.vectors + panel.first
                sums: list[list[Ref]] = []
                for v in range(panel.vectors):
                    slots = [*gates, self.gates] if self.separate else list(gates)
                    sums.append([b.declare(f"sum{slot}", self.bias(direction, first + v, slot)) for slot in slots])
                own = [row[:len(gates)] for row in sums]
                self.accumulate(direction, first, gates, own, self.w_buffer, self.depth,
                                lambda k: b.load(self.x_buffer, self.x_at(batch, time, k)))
                behind = [[*row[:-2], row[-1]] for row in sums] if self.separate else own
                self.accumulate(direction, first, gates, behind, self.r_buffer, self.hidden, lambda k: b.load(state, k))
                for v in range(panel.vectors):
                    finish(direction, batch, time, (first + v) * self.lanes, sums[v], panel.valid)

    def accumulate(self, direction: int, first: Index, gates: Sequence[int], sums: Sequence[Sequence[Ref]], weights: Buffer,
                   terms: int, value: Callable[[Index], Expr]) -> None:
        """sums += weights @ values."""
        b, lanes = self.b, self.lanes

        def one(k: Index) -> None:
            x = cast(value(k), self.dtype)
            for v, row in enumerate(sums):
                base = ((first + (direction * self.vectors + v)) * terms + k) * (self.gates * lanes)
                for gate, total in zip(gates, row, strict=True):
                    w = cast(b.load(weights, base + gate * lanes, lanes), self.dtype)
                    b.assign(total, fma(repeat(x, lanes), w, total))

        blocks, rest = divmod(terms, UNROLL)
        with b.loop("k", blocks) as block:
            for i in range(UNROLL):
                one(block * UNROLL + i)
        for i in range(rest):
            one(const(blocks * UNROLL + i))

    def store_gates(self, direction: int, batch: Index, time: Index, unit: Index, sums: Sequence[Ref], valid: int) -> None:
        """First sweep of a GRU: keeps the update gate and the state as the reset gate lets it through."""
        if self.update is None or self.reset is None:
            return
        b = self.b
        b.store(self.update, unit, self.activate(direction, 0, sums[0]))
        b.store(self.reset, unit, mul(self.activate(direction, 0, sums[1]), b.load(self.h, unit, self.lanes)))

    def finish(self, direction: int, batch: Index, time: Index, unit: Index, sums: Sequence[Ref], valid: int) -> None:
        """Gates to the new state of a vector of units, and the result of this step."""
        b, lanes = self.b, self.lanes
        match self.op.kind:
            case "lstm":
                value = self.finish_lstm(direction, unit, sums)
            case "gru":
                state = b.let("state", b.load(self.h, unit, lanes))
                if self.update is not None:
                    update: Expr = b.let("update", b.load(self.update, unit, lanes))
                    candidate = self.activate(direction, 1, sums[0])
                else:
                    update = b.let("z", self.activate(direction, 0, sums[0]))
                    reset = self.activate(direction, 0, sums[1])
                    candidate = self.activate(direction, 1, b.let("mixed", fma(reset, sums[3], sums[2])))
                kept = b.let("candidate", candidate)
                value = b.let("value", fma(update, sub(state, kept), kept))
            case _:
                value = b.let("value", self.activate(direction, 0, sums[0]))
        b.store(self.fresh, unit, value)
        view = self.request.outputs[0]
        b.store(self.y_buffer, self.y_at(direction, batch, time, unit), cast(value, view.dtype), stride=view.strides[-1] or 1, valid=valid)

    def finish_lstm(self, direction: int, unit: Index, sums: Sequence[Ref]) -> Expr:
        """Gates i, o, f, c of an LSTM to its two states."""
        b, lanes, c_buffer = self.b, self.lanes, self.c
        if c_buffer is None:
            raise TypeError(self.op)
        c = b.let("c_old", b.load(c_buffer, unit, lanes))

        def gate(number_of_gate: int, cell: Expr) -> Expr:
            total: Expr = sums[number_of_gate]
            if self.p_buffer is not None:
                slot = {0: 0, 1: 1, 2: 2}[number_of_gate]
                base = (direction * self.vectors * 3) * lanes + slot * lanes
                weight = cast(b.load(self.p_buffer, unit * 3 + base, lanes), self.dtype)
                total = b.let("peeped", fma(weight, cell, total))
            return self.activate(direction, 0, total)

        i = b.let("i", gate(0, c))
        forget = sub(number(1, self.dtype, lanes), i) if self.op.input_forget else gate(2, c)
        cell = b.let("cell", fma(forget, c, mul(i, self.activate(direction, 1, sums[3]))))
        b.store(c_buffer, unit, cell)
        o = gate(1, cell)
        return b.let("value", mul(o, self.activate(direction, 2, cell)))

    def activate(self, direction: int, position: int, value: Expr) -> Expr:
        """Activation number `position` (0: f, 1: g, 2: h) of a direction."""
        return lower_scalar(self.op.activation(direction, position, self.dtype), [value], self.lanes, self.b)

    # -- addresses ----------------------------------------------------------------------------

    def bias(self, direction: int, vector: Index, slot: int) -> Expr:
        """Start of a sum."""
        if self.b_buffer is None:
            return number(0, self.dtype, self.lanes)
        index = (vector + direction * self.vectors) * (self.slots * self.lanes) + slot * self.lanes
        return cast(self.b.load(self.b_buffer, index, self.lanes), self.dtype)

    def x_at(self, batch: Index, time: Index, k: Index) -> Index:
        """Address of input k of a step."""
        return self.x.at([batch, time, k] if self.op.layout else [time, batch, k])

    def y_at(self, direction: int, batch: Index, time: Index, unit: Index) -> Index:
        """Address of a unit's result."""
        view = self.request.outputs[0]
        return view.at([batch, time, direction, unit] if self.op.layout else [time, direction, batch, unit])

    def state_coordinates(self, direction: int, batch: Index, unit: Index) -> list[Index]:
        """Coordinates in the tensors of first and last states."""
        return [batch, as_index(direction), unit] if self.op.layout else [as_index(direction), batch, unit]

    def fill(self, state: Buffer, source: Buffer | None, operand: int, direction: int, batch: Index) -> None:
        """The first state: given, or zero; lanes beyond the units are zero."""
        b = self.b
        if source is not None:
            view = self.request.operand(operand).view
            with b.loop("unit", self.hidden) as unit:
                b.store(state, unit, cast(b.load(source, view.at(self.state_coordinates(direction, batch, unit))), self.dtype))
        with b.loop("unit", self.padded, start=0 if source is None else self.hidden) as unit:
            b.store(state, unit, number(0, self.dtype))


def _units(values: Array, hidden: int, lanes: int) -> Array:
    """[..., units] as [..., vectors, lanes], zeros beyond the units."""
    vectors = -(-hidden // lanes)
    out = np.zeros((*values.shape[:-1], vectors * lanes), values.dtype)
    out[..., :hidden] = values
    return out.reshape(*values.shape[:-1], vectors, lanes)


def _pack_terms(layout: tuple[int, int, int], weights: Array) -> Array:
    """[direction, gates*units, terms] as [direction][vector][term][gate][lane]."""
    gates, hidden, lanes = layout
    split = weights.reshape(weights.shape[0], gates, hidden, weights.shape[2])
    return np.ascontiguousarray(_units(np.moveaxis(split, 2, 3), hidden, lanes).transpose(0, 3, 2, 1, 4)).reshape(-1)


def _pack_bias(layout: tuple[int, int, int], separate: bool, bias: Array) -> Array:
    """[direction, 2*gates*units] as [direction][vector][gate][lane]; the two halves summed.

    With `separate` the recurrent half of the last gate stands apart, in a slot of its own.
    """
    gates, hidden, lanes = layout
    halves = bias.reshape(bias.shape[0], 2, gates, hidden)
    total = halves[:, 0] + halves[:, 1]
    if separate:
        total = np.concatenate([total[:, :-1], halves[:, 0, -1:], halves[:, 1, -1:]], axis=1)
    return np.ascontiguousarray(_units(total, hidden, lanes).transpose(0, 2, 1, 3)).reshape(-1)


def _pack_peephole(layout: tuple[int, int, int], weights: Array) -> Array:
    """[direction, 3*units] as [direction][vector][gate][lane]."""
    _, hidden, lanes = layout
    split = weights.reshape(weights.shape[0], 3, hidden)
    return np.ascontiguousarray(_units(split, hidden, lanes).transpose(0, 2, 1, 3)).reshape(-1)

