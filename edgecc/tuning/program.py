"""The program that measures all candidates of one kernel: a network whose run is each of them once, on the same operands.

Before each candidate comes one kernel that writes to as much memory as the user's network has (so that weights come from
where they come from there), and one that reads the operands (which the layer before has just written). Runs repeat, so the candidates take turns, and the quickest execution of each counts. The times are those
of a profiled build.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgecc.ir.types import Array, DType, TensorType
from edgecc.kernels.kernel import Candidate, FromInput, FromOutput, Kernel, Packed, SameMemory
from edgecc.kernels.request import Request
from edgecc.kernels.view import ROW_AXIS, View
from edgecc.loop.builder import Builder, add
from edgecc.loop.ir import Function
from edgecc.loop.module import ArenaBytes, Argument, Call, Constant, InputBytes, Interface, Module, Stripes, WeightBytes
from edgecc.passes.loop import apply_schedule

ALIGN = 64
NAME = "tuning"
SWEEP_STEP = 16
"""Elements of float32 between two that the sweep touches: one for each cache line."""


@dataclass(frozen=True)
class Program:
    """A module that measures candidates.

    Attributes:
        module: its run has the candidates among its calls.
        positions: the number of each candidate's call in the order of the run, by name.
    """

    module: Module
    positions: Mapping[str, int]


def measuring_program(request: Request, candidates: Sequence[Candidate], sweep_bytes: int) -> Program:
    """The program for the candidates of a request.

    Args:
        sweep_bytes: how much memory is written to between two candidates.
    """
    kernels = {candidate.name: candidate.build() for candidate in candidates}
    memory = _Memory(request)
    functions: list[Function] = []
    calls: list[Call | Stripes] = []
    positions: dict[str, int] = {}
    sweep = _sweep(sweep_bytes) if sweep_bytes >= ALIGN else None
    if sweep is not None:
        functions.append(sweep)
        swept: Argument = ArenaBytes(memory.reserve(sweep.buffers[0].elements * 4))
    touch = _touch(memory)
    if touch is not None:
        functions.append(touch)
    for number, (name, kernel) in enumerate(kernels.items()):
        function = _finished(kernel, f"candidate_{number}")
        functions.append(function)
        if sweep is not None:
            calls.append(Call(sweep.name, (swept,), ()))
        if touch is not None:
            calls.append(Call(touch.name, (*memory.touched, memory.sink), ()))
        positions[name] = len(calls)
        call = Call(function.name, memory.arguments(kernel), (name,))
        rows = request.outputs[0].dims[ROW_AXIS] if function.parameters else 0
        calls.append(Stripes((call,), ((rows,),)) if function.parameters else call)
    module = Module(
        name=NAME, inputs=memory.inputs, outputs=(), functions=tuple(functions), calls=tuple(calls), constants=tuple(memory.constants),
        weights_bytes=memory.weights_bytes, arena_bytes=memory.arena_bytes, arena_lower_bound=memory.arena_bytes, arena_align=ALIGN,
        threads=request.threads)
    return Program(module, positions)


class _Memory:
    """Where the buffers of the candidates lie. Operands are inputs of the network, results and scratch memory its arena."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.generator = np.random.default_rng(0)
        self.constants: list[Constant] = []
        self.weights_bytes = 0
        self.arena_bytes = 0
        self.sink: Argument = ArenaBytes(self.reserve(4 * SWEEP_STEP))
        self.results = [ArenaBytes(self.reserve(_bytes(view))) for view in request.outputs]
        variable = [i for i, operand in enumerate(request.inputs) if operand is not None and not operand.is_constant]
        self.operands: dict[int, Argument] = {operand: InputBytes(position) for position, operand in enumerate(variable)}
        views = [request.operand(i).view for i in variable]
        self.inputs = tuple(Interface(f"x{i}", TensorType(view.dtype, (max(1, view.span),))) for i, view in zip(variable, views, strict=True))
        self.data = [_random(operand.view, operand.values, self.generator, powers=request.fused_scale)
                     if operand is not None and operand.is_constant else None for operand in request.inputs]

    @property
    def touched(self) -> list[Argument]:
        """The float operands that are read before each candidate."""
        return [InputBytes(i) for i, port in enumerate(self.inputs) if port.type.dtype is DType.F32]

    def reserve(self, size: int) -> int:
        """Offset of `size` bytes of the arena."""
        offset = self.arena_bytes
        self.arena_bytes = -(-(offset + size) // ALIGN) * ALIGN
        return offset

    def store(self, data: Array) -> Argument:
        """Where a flat array lies among the weights. Nothing is shared: each candidate has weights of its own."""
        offset = -(-self.weights_bytes // ALIGN) * ALIGN
        self.constants.append(Constant(offset, data))
        self.weights_bytes = offset + data.nbytes
        return WeightBytes(offset)

    def arguments(self, kernel: Kernel) -> tuple[Argument, ...]:
        """The arguments of a kernel's call."""
        found: list[Argument] = []
        for buffer, argument in zip(kernel.function.buffers, kernel.arguments, strict=True):
            match argument:
                case FromInput(index=index):
                    data = self.data[index]
                    found.append(self.operands[index] if data is None else self.store(np.ascontiguousarray(data.reshape(-1))))
                case FromOutput(index=index):
                    found.append(self.results[index])
                case Packed(inputs=inputs, pack=pack):
                    found.append(self.store(np.ascontiguousarray(pack(*(self.data[i] if i < len(self.data) else None for i in inputs)))))
                case SameMemory(position=position):
                    found.append(found[position])
                case _:
                    found.append(ArenaBytes(self.reserve(buffer.elements * buffer.dtype.size)))
        return tuple(found)


def _random(view: View, values: Sequence[float | int | bool] | None, generator: np.random.Generator, *, powers: bool = False) -> Array:
    """A constant: what is known of it, else numbers that make no arithmetic slow or invalid.

    `powers`: floats are powers of two, which `edgecc.kernels.fused_scale` takes as scales of any sums.
    """
    if values is not None:
        return np.array(values).astype(view.dtype.numpy).reshape(view.dims)
    if view.dtype.is_float and powers:
        return np.full(view.dims, 0.5, view.dtype.numpy)
    if view.dtype.is_float:
        return generator.uniform(0.5, 1.5, view.dims).astype(view.dtype.numpy)
    return generator.integers(0, 2, view.dims).astype(view.dtype.numpy)


def _bytes(view: View) -> int:
    return max(1, view.span) * view.dtype.size


def _finished(kernel: Kernel, name: str) -> Function:
    """The scheduled function. All its buffers are aligned, as nearly all are in a network."""
    function = apply_schedule(kernel.function, kernel.schedule)
    return replace(function, name=name, buffers=tuple(replace(buffer, align=ALIGN) for buffer in function.buffers))


def _sweep(size: int) -> Function:
    """Writes a word of every cache line of `size` bytes."""
    b = Builder("sweep", doc="touches what the rest of the network would")
    steps = max(1, size // (4 * SWEEP_STEP))
    x = b.buffer("x", DType.F32, steps * SWEEP_STEP, "output")
    with b.loop("step", steps) as step:
        b.store(x, step * SWEEP_STEP, 1.0)
    return b.function()


def _touch(memory: _Memory) -> Function | None:
    """Reads a word of every cache line of the operands; None where there are none."""
    sizes = [math.prod(port.type.dims) for port in memory.inputs if port.type.dtype is DType.F32]
    if not sizes:
        return None
    b = Builder("touch", doc="reads the operands")
    buffers = [b.buffer(f"x{i}", DType.F32, size, "input") for i, size in enumerate(sizes)]
    sink = b.buffer("sink", DType.F32, SWEEP_STEP, "output")
    b.store(sink, 0, 0.0)
    for i, (buffer, size) in enumerate(zip(buffers, sizes, strict=True)):
        with b.loop(f"step{i}", -(-size // SWEEP_STEP)) as step:
            b.store(sink, 0, add(b.load(sink, 0), b.load(buffer, step * SWEEP_STEP)))
    return b.function()
