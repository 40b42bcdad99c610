"""LSTM, GRU and simple recurrent layers.

Lanes are hidden units. A block of units keeps the sums of all its gates in registers while the input
and the state are walked, and finishes the cell there (activations included), so nothing but the state
passes through memory between steps:

    for each batch member, step, direction:
        for each block of units:
            sums = biases; sums += x[k] * W[k]; sums += h[k] * R[k]; cell(sums) -> new h, c
            (without W: sums = biases + x[unit of each gate]; sums += h[k] * R[k])
        h = new h; y = h

Both directions of a bidirectional layer advance together: a step waits for the one before it, and two
that do not wait for each other fill the gaps.
A GRU that resets before its matrix product needs the reset state of all units first, which takes a
second sweep over the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.kernels.iteration import PARALLEL_WORK, Axis, Step, vector_lanes, vectors
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.recurrent_weights import Panel, UnitRows, Units
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.scalar_lowering import compute_type, lower_scalar
from edgecc.kernels.view import View
from edgecc.loop.builder import add, cast, fma, mul, number, operation, repeat, sub
from edgecc.loop.index import ZERO, Index, const, from_expr
from edgecc.loop.ir import Broadcast, Buffer, Expr, FromIndex, Lane, Ref
from edgecc.ops.recurrent import GATES, Recurrent

CHAINS = 8
"""Independent sums that hide the latency of multiply-adds: four cycles, two started in each."""

UNROLL = 4
"""Terms in one iteration of the inner loop; also the lanes that one load of the input brings for a multiply by lane."""

X, W, R, B, LENS, INITIAL_H, INITIAL_C, P = range(8)


@kernel_for(Recurrent, is_open=True)
def lower_recurrent(request: Request) -> Kernel:
    """The kernel of a recurrent layer; see the module."""
    if not isinstance(request.op, Recurrent):
        raise TypeError(request.op)
    layer = _Layer(request, request.op)
    layer.run()
    units = layer.units
    return layer.b.kernel(choice=f"blocks of {units.vectors} x {units.lanes} units, {layer.copies} sums for each gate")


MOST_UNROLLED = 64
"""Sums of so few multiply-adds in all are written out whole: a loop would cost more than they do."""


@dataclass(frozen=True)
class _Place:
    """Where one step of one batch member lies: addresses of x[t] and y[t], and the offset into the state buffers."""

    x: Index
    y: Index
    state: Index


class _Layer:
    """Builds the kernel of one request."""

    def __init__(self, request: Request, op: Recurrent) -> None:
        self.op = op
        self.x_view = request.operand(X).view
        if not self.x_view.size(2).is_const:
            raise EdgeccError("E112", f"{op.kind} has no kernel for inputs whose number is known only at run time",
                              hint="give the dimension one size with --shape")
        self.dtype = compute_type(self.x_view.dtype)
        time_axis, batch_axis = (1, 0) if op.layout else (0, 1)
        self.steps, self.batch, self.inputs = (self.x_view.dims[a] for a in (time_axis, batch_axis, 2))
        self.is_projected = request.optional(W) is None
        self.time_axis, self.batch_axis = time_axis, batch_axis
        hidden, gates = op.hidden_size, GATES[op.kind]
        lanes = vector_lanes(request.target, hidden) if self.dtype is DType.F32 else 1
        vectors_of_units = max(1, min(-(-CHAINS // gates), -(-hidden // lanes)))
        self.units = Units(hidden, lanes, vectors_of_units)
        self.copies = max(1, min(UNROLL, CHAINS // (gates * vectors_of_units)))
        self.by_lane = request.target.vector.fma_by_lane and lanes >= UNROLL
        work = self.steps * self.batch * gates * hidden * (self.inputs + hidden)
        self.parallel = request.threads > 1 and self.batch > 1 and work >= PARALLEL_WORK
        self.b = KernelBuilder(request, op.kind, f"{op.direction} {op.kind} of {hidden} units, {self.steps} steps of "
                                                 f"{self.inputs}, batch {self.batch}")
        self._add_buffers(request)

    # -- buffers ----------------------------------------------------------------------------------

    def _add_buffers(self, request: Request) -> None:
        b, op, units = self.b, self.op, self.units
        self.x = b.input(X, "x")
        phases = self._phases()
        self.panels = [(Panel(W, w, self.inputs, units, op.directions), Panel(R, r, units.hidden, units, op.directions))
                       for w, r in phases]
        self.weights = [(None if self.is_projected else w.add_to(b, f"w{n}", self.dtype), r.add_to(b, f"r{n}", self.dtype))
                        for n, (w, r) in enumerate(self.panels)]
        self.bias_rows, self.bias = self._rows(B, self._bias_sums(), "bias")
        self.peephole_rows, self.peepholes = self._rows(P, ((0,), (1,), (2,)), "peephole")
        self.initial = {index: b.input(index, name) for index, name in ((INITIAL_H, "initial_h"), (INITIAL_C, "initial_c"))
                        if request.optional(index) is not None}
        self.lens = b.input(LENS, "sequence_lens") if request.optional(LENS) is not None else None
        self.y, self.y_h = b.output(0, "y"), b.output(1, "y_h")
        states = units.padded * op.directions * (self.batch if self.parallel else 1)
        self.h, self.new_h = b.workspace("h", self.dtype, states), b.workspace("new_h", self.dtype, states)
        if op.kind == "lstm":
            self.y_c, self.c = b.output(2, "y_c"), b.workspace("c", self.dtype, states)
        if self._resets_first:
            self.update, self.reset_h = b.workspace("update", self.dtype, states), b.workspace("reset_h", self.dtype, states)

    def _rows(self, operand: int, sums: tuple[tuple[int, ...], ...], name: str) -> tuple[UnitRows, Buffer | None]:
        rows = UnitRows(operand, sums, self.units, self.op.directions)
        present = self.b.request.optional(operand) is not None
        return rows, rows.add_to(self.b, name, self.dtype) if present else None

    @property
    def _resets_first(self) -> bool:
        return self.op.kind == "gru" and not self.op.linear_before_reset

    def _phases(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Sweeps over the blocks, each with the gates it takes from w and from r."""
        if self._resets_first:
            return [((0, 1), (0, 1)), ((2,), (2,))]
        gates = tuple(range(GATES[self.op.kind]))
        return [(gates, gates)]

    def _bias_sums(self) -> tuple[tuple[int, ...], ...]:
        """The start of each sum: rows of b that are added. Gates come first, all of w's, then all of r's."""
        gates = GATES[self.op.kind]
        if self.op.kind == "gru" and self.op.linear_before_reset:
            return ((0, 3), (1, 4), (2,), (5,))
        return tuple((g, gates + g) for g in range(gates))

    # -- loops ------------------------------------------------------------------------------------

    def run(self) -> None:
        """Adds all statements."""
        if self.batch == 0:
            return
        with self.b.loop("batch", self.x_view.size(self.batch_axis), kind="parallel" if self.parallel else "serial") as member:
            self._sequence(member)

    def _sequence(self, member: Index) -> None:
        """All steps of one batch member, and what is left afterwards."""
        b, directions = self.b, range(self.op.directions)
        first = member * (self.units.padded * self.op.directions) if self.parallel else ZERO
        states = [first + d * self.units.padded for d in directions]
        kept = [(self.h, INITIAL_H, self.y_h, 1)]
        if self.op.kind == "lstm":
            kept.append((self.c, INITIAL_C, self.y_c, 2))
        for direction in directions:
            for buffer, operand, _, _ in kept:
                self._start_state(direction, member, states[direction], buffer, operand)
        steps = length = self.x_view.size(self.time_axis)
        if self.lens is not None:
            given = cast(b.load(self.lens, member * b.request.operand(LENS).view.strides[0]), DType.I64)
            most = steps.const if steps.is_const else FromIndex(steps, DType.I64)
            length = from_expr(b.let("length", operation("max", operation("min", given, most), 0)))
        y_view = b.request.outputs[0]
        x_start = member * self.x_view.strides[self.batch_axis]
        direction_axis, y_batch_axis, y_time_axis = (2, 0, 1) if self.op.layout else (1, 2, 0)
        y_starts = [member * y_view.strides[y_batch_axis] + d * y_view.strides[direction_axis] for d in directions]
        with b.loop("step", length) as step:
            for direction in directions:
                time = length - 1 - step if self.op.direction == "reverse" or direction == 1 else step
                self._step(direction, _Place(x_start + time * self.x_view.strides[self.time_axis],
                                             y_starts[direction] + time * y_view.strides[y_time_axis], states[direction]))
        if self.lens is not None:
            with b.loop("step", steps, start=length) as step:
                for start in y_starts:
                    self._each_unit((y_view.strides[3],), (start + step * y_view.strides[y_time_axis],), lambda s: s.store(
                        b, 0, self.y, number(0, self.y.dtype, s.lanes)))
        for direction in directions:
            for buffer, _, target, result in kept:
                self._leave_state(direction, member, states[direction], buffer, target, result)

    def _each_unit(self, strides: tuple[int, ...], offsets: Sequence[Index], visit: Callable[[Step], None]) -> None:
        """Visits the units in vectors, with a tail: what lies outside of the kernel's own buffers has no padding."""
        vectors(self.b, Axis(self.units.hidden, strides), offsets, self.units.lanes, lambda step, _: visit(step), name="unit")

    def _state_axes(self, view: View, direction: int, member: Index) -> Index:
        """The address of the state of one direction and batch member in initial_h, y_h and their like."""
        batch_axis, direction_axis = (0, 1) if self.op.layout else (1, 0)
        return member * view.strides[batch_axis] + direction * view.strides[direction_axis]

    def _start_state(self, direction: int, member: Index, state: Index, target: Buffer, operand: int) -> None:
        b, units = self.b, self.units
        padding_start = 0 if operand not in self.initial else units.hidden // units.lanes * units.lanes
        with b.loop("unit", units.padded, start=padding_start, step=units.lanes) as unit:
            b.store(target, state + unit, number(0, self.dtype, units.lanes))
        if operand in self.initial:
            view = b.request.operand(operand).view
            self._each_unit((1, view.strides[2]), (state, self._state_axes(view, direction, member)), lambda s: s.store(
                b, 0, target, cast(s.load(b, 1, self.initial[operand]), self.dtype)))

    def _leave_state(self, direction: int, member: Index, state: Index, source: Buffer, target: Buffer, result: int) -> None:
        b, view = self.b, self.b.request.outputs[result]
        self._each_unit((view.strides[2], 1), (self._state_axes(view, direction, member), state), lambda s: s.store(
            b, 0, target, cast(s.load(b, 1, source), target.dtype)))

    # -- one step ---------------------------------------------------------------------------------

    def _step(self, direction: int, place: _Place) -> None:
        cell = {"lstm": self._lstm, "gru": self._gru, "rnn": self._rnn}[self.op.kind]
        if self._resets_first:
            self._gru_resetting_first(direction, place)
        else:
            for unit, count in self.units.blocks(self.b):
                cell(direction, place, unit, count)
        y_stride = self.b.request.outputs[0].strides[3]

        def finish(step: Step) -> None:
            value = self.b.let("h", step.load(self.b, 0, self.new_h))
            step.store(self.b, 1, self.h, value)
            step.store(self.b, 2, self.y, cast(value, self.y.dtype))

        self._each_unit((1, 1, y_stride), (place.state, place.state, place.y), finish)

    def _sums(self, direction: int, place: _Place, phase: int, unit: Index, count: int, state: Buffer, *,
              bias_rows: Sequence[int], apart: int = 0) -> list[list[Expr]]:
        """The arguments of the gates of a block: for each gate one vector for each of `count` vectors of units.

        The last `apart` gates are returned twice: the part from x, and behind all gates the part from h.
        """
        w_panel, r_panel = self.panels[phase]
        gates = len(w_panel.gates)
        total = gates + apart
        projected = [self._projected(direction, place, gate, unit, count) for gate in w_panel.gates] if self.is_projected else []
        registers = [[self._start_sums(direction, row, unit, count, copy, projected[g] if g < len(projected) else None)
                      for g, row in enumerate(bias_rows[:total])] for copy in range(self.copies)]
        w, r = self.weights[phase]
        if w is not None:
            self._accumulate([c[:gates] for c in registers], self.x, place.x, self.x_view.strides[2], w_panel.depth, w,
                             w_panel.start(direction, unit), count)
        from_h = [[*c[:gates - apart], *c[gates:]] for c in registers]
        self._accumulate(from_h, state, place.state, 1, r_panel.depth, r, r_panel.start(direction, unit), count)
        return [[self._joined([registers[c][g][v] for c in range(self.copies)]) for v in range(count)] for g in range(total)]

    def _projected(self, direction: int, place: _Place, gate: int, unit: Index, count: int) -> list[Expr]:
        """The part of a gate's sums that comes from x, where x is multiplied by W already; nothing beyond the units."""
        b, lanes, hidden = self.b, self.units.lanes, self.units.hidden
        row = (direction * GATES[self.op.kind] + gate) * hidden
        stride = self.x_view.strides[2]
        values = []
        for v in range(count):
            valid = lanes if not unit.is_const else min(lanes, hidden - unit.const - v * lanes)
            values.append(cast(b.load(self.x, place.x + (unit + (row + v * lanes)) * stride, lanes, stride=stride, valid=valid),
                               self.dtype))
        return values

    def _start_sums(self, direction: int, row: int, unit: Index, count: int, copy: int,
                    from_x: Sequence[Expr] | None) -> list[Ref]:
        """Registers that hold the bias and what comes from x (the first copy), or zero."""
        b, lanes = self.b, self.units.lanes
        start: list[Expr] = [number(0, self.dtype, lanes)] * count
        if copy == 0:
            biases = None if self.bias is None else [
                b.load(self.bias, self.bias_rows.at(direction, row, unit + v * lanes), lanes) for v in range(count)]
            if biases is not None and from_x is not None:
                start = [add(bias, value) for bias, value in zip(biases, from_x, strict=True)]
            else:
                start = biases or list(from_x or start)
        return [b.declare("sum", value) for value in start]

    def _joined(self, parts: Sequence[Expr]) -> Expr:
        total = parts[0]
        for part in parts[1:]:
            total = add(total, part)
        return total if len(parts) == 1 else self.b.let("sum", total)

    def _accumulate(self, registers: Sequence[Sequence[Sequence[Ref]]], source: Buffer, start: Index, stride: int, depth: int,
                    weights: Buffer, weights_start: Index, count: int) -> None:
        """registers[copy][gate][vector] += source[k] * weights[k], k dealt out to the copies."""
        b, lanes = self.b, self.units.lanes
        row = len(registers[0]) * count * lanes

        def term(k: Index, position: int, factor: Expr) -> None:
            chosen = registers[position % len(registers)]
            for gate, vector_registers in enumerate(chosen):
                for vector, register in enumerate(vector_registers):
                    weight = b.load(weights, weights_start + k * row + (gate * count + vector) * lanes, lanes)
                    b.assign(register, fma(weight, factor, register))

        def several(k: Index) -> None:
            """UNROLL terms from the k-th on."""
            if self.by_lane:
                values = b.let("x", cast(b.load(source, start + k * stride, UNROLL, stride=stride), self.dtype))
            for position in range(UNROLL):
                factor: Expr = Broadcast(Lane(values, position), lanes) if self.by_lane else self._repeated(
                    source, start + (k + position) * stride)
                term(k + position, position, factor)

        whole = depth // UNROLL * UNROLL
        if depth * len(registers[0]) * count <= MOST_UNROLLED:
            for first in range(0, whole, UNROLL):
                several(const(first))
        elif whole:
            with b.loop("k", whole, step=UNROLL) as k:
                several(k)
        for position in range(whole, depth):
            term(const(position), position, self._repeated(source, start + position * stride))

    def _repeated(self, source: Buffer, at: Index) -> Expr:
        return self.b.let("x", repeat(cast(self.b.load(source, at), self.dtype), self.units.lanes))

    # -- cells ------------------------------------------------------------------------------------

    def _activate(self, direction: int, position: int, value: Expr) -> Ref:
        bound = value if isinstance(value, Ref) else self.b.let("a", value)
        result = lower_scalar(self.op.activation(direction, position, self.dtype), [bound], self.units.lanes, self.b)
        return self.b.let("gate", result)

    def _load(self, buffer: Buffer, at: Index) -> Ref:
        return self.b.let(buffer.name, self.b.load(buffer, at, self.units.lanes))

    def _with_peephole(self, argument: Expr, direction: int, row: int, unit: Index, state: Expr) -> Expr:
        if self.peepholes is None:
            return argument
        weight = self.b.load(self.peepholes, self.peephole_rows.at(direction, row, unit), self.units.lanes)
        return fma(weight, state, argument)

    def _lstm(self, direction: int, place: _Place, unit: Index, count: int) -> None:
        b, lanes = self.b, self.units.lanes
        sums = self._sums(direction, place, 0, unit, count, self.h, bias_rows=range(4))
        for vector in range(count):
            own = unit + vector * lanes
            into, out, forget, candidate = (gate[vector] for gate in sums)
            c = self._load(self.c, place.state + own)
            i = self._activate(direction, 0, self._with_peephole(into, direction, 0, own, c))
            if self.op.input_forget:
                f = b.let("gate", sub(1.0, i))
            else:
                f = self._activate(direction, 0, self._with_peephole(forget, direction, 2, own, c))
            g = self._activate(direction, 1, candidate)
            new_c = b.let("new_c", fma(f, c, mul(i, g)))
            o = self._activate(direction, 0, self._with_peephole(out, direction, 1, own, new_c))
            b.store(self.c, place.state + own, new_c)
            b.store(self.new_h, place.state + own, mul(o, self._activate(direction, 2, new_c)))

    def _gru(self, direction: int, place: _Place, unit: Index, count: int) -> None:
        """With linear_before_reset: the candidate's part from h is scaled by the reset gate."""
        b, lanes = self.b, self.units.lanes
        sums = self._sums(direction, place, 0, unit, count, self.h, bias_rows=range(4), apart=1)
        for vector in range(count):
            own = place.state + unit + vector * lanes
            z = self._activate(direction, 0, sums[0][vector])
            r = self._activate(direction, 0, sums[1][vector])
            candidate = self._activate(direction, 1, fma(r, sums[3][vector], sums[2][vector]))
            b.store(self.new_h, own, self._mixed(z, candidate, self._load(self.h, own)))

    @staticmethod
    def _mixed(z: Expr, candidate: Expr, h: Expr) -> Expr:
        """(1 - z) * candidate + z * h."""
        return fma(z, h, mul(sub(1.0, z), candidate))

    def _gru_resetting_first(self, direction: int, place: _Place) -> None:
        b, lanes = self.b, self.units.lanes
        for unit, count in self.units.blocks(b):
            sums = self._sums(direction, place, 0, unit, count, self.h, bias_rows=(0, 1))
            for vector in range(count):
                own = place.state + unit + vector * lanes
                b.store(self.update, own, self._activate(direction, 0, sums[0][vector]))
                r = self._activate(direction, 0, sums[1][vector])
                b.store(self.reset_h, own, mul(r, self._load(self.h, own)))
        for unit, count in self.units.blocks(b):
            (arguments,) = self._sums(direction, place, 1, unit, count, self.reset_h, bias_rows=(2,))
            for vector in range(count):
                own = place.state + unit + vector * lanes
                candidate = self._activate(direction, 1, arguments[vector])
                b.store(self.new_h, own, self._mixed(self._load(self.update, own), candidate, self._load(self.h, own)))

    def _rnn(self, direction: int, place: _Place, unit: Index, count: int) -> None:
        (sums,) = self._sums(direction, place, 0, unit, count, self.h, bias_rows=(0,))
        for vector in range(count):
            own = place.state + unit + vector * self.units.lanes
            self.b.store(self.new_h, own, self._activate(direction, 0, sums[vector]))
