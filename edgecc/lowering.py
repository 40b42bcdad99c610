"""From a graph to loop programs: places values, lowers and schedules kernels, packs weights, plans memory.

Kernels are cached by `Request`, so equal layers share one function; functions that come out equal are
shared too. The module that results has final sizes and offsets: nothing is decided after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

import edgecc.kernels  # noqa: F401  (registers every kernel)
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph, Value
from edgecc.ir.types import Array, TensorType
from edgecc.kernels.base import (
    SMALL_CONSTANT_ELEMENTS,
    FromInput,
    FromOutput,
    Kernel,
    Operand,
    Packed,
    Request,
    Workspace,
    lower,
)
from edgecc.loop.ir import Function
from edgecc.loop.module import Argument, Call, Constant, Interface, Module, WeightBytes
from edgecc.loop.verify import verify_function
from edgecc.memory.lifetime import Needs
from edgecc.memory.placement import Place, Step, place_values
from edgecc.memory.plan import MemoryPlan, plan_memory
from edgecc.passes.loop import apply_schedule
from edgecc.targets.schema import Target

WEIGHT_ALIGN = 64
"""Constants start on multiples of this many bytes of the weights."""


@dataclass(frozen=True)
class StepReport:
    """What one call of the run is.

    Attributes:
        function: the kernel.
        op: the operator.
        loc: names of the user's nodes.
        choice: why the kernel looks as it does.
        schedule: the loop passes that made it.
    """

    function: str
    op: str
    loc: tuple[str, ...]
    choice: str
    schedule: tuple[str, ...]


@dataclass(frozen=True)
class LoweredModel:
    """A module with the reasons for it."""

    module: Module
    steps: tuple[StepReport, ...]
    memory: MemoryPlan


def lower_graph(graph: Graph, target: Target, *, name: str, threads: int = 1) -> LoweredModel:
    """Lowers a graph with static shapes for a CPU.

    Args:
        graph: after the graph passes; layouts decide how values lie in memory.
        name: a C identifier, the prefix of every symbol.
        threads: threads the run may use; parallel loops are made for more than one.
    Raises: EdgeccError E112 listing every node without a kernel.
    """
    placement = place_values(graph)
    requests = [_request(step, target, threads) for step in placement.steps]
    kernels = _lower_all(requests, placement.steps)
    chosen = [kernels[request] for request in requests]
    needs = [Needs(kernel.in_place, tuple(a.size_bytes for a in kernel.arguments if isinstance(a, Workspace))) for kernel in chosen]
    plan = plan_memory(placement, needs)
    functions, function_of = _schedule_all(kernels)
    weights = _Weights()
    calls: list[Call] = []
    reports: list[StepReport] = []
    for number in plan.live.order:
        step, kernel, request = placement.steps[number], chosen[number], requests[number]
        if not any(view.elements for view in request.outputs):
            continue
        function = function_of[request]
        arguments = _arguments(number, step, kernel, plan, weights, placement.constants)
        calls.append(Call(function, arguments, step.loc))
        reports.append(StepReport(function, step.op.name, step.loc, kernel.choice, kernel.schedule))
    used = dict.fromkeys(call.function for call in calls)
    module = Module(
        name=name,
        inputs=_interfaces(graph.input_names, graph.inputs),
        outputs=_interfaces(graph.output_names, graph.outputs),
        functions=tuple(functions[key] for key in used),
        calls=tuple(calls),
        constants=tuple(weights.constants),
        weights_bytes=weights.size,
        arena_bytes=plan.arena_bytes,
        arena_lower_bound=plan.lower_bound,
        threads=threads,
    )
    return LoweredModel(module, tuple(reports), plan)


def _interfaces(names: Sequence[str], values: Sequence[Value]) -> tuple[Interface, ...]:
    return tuple(Interface(n, TensorType(v.type.dtype, v.type.dims)) for n, v in zip(names, values, strict=True))


def _request(step: Step, target: Target, threads: int) -> Request:
    operands: list[Operand | None] = []
    for place, constant in zip(step.inputs, step.constants, strict=True):
        if place is None:
            operands.append(None)
        elif constant is None or constant.constant is None:
            operands.append(Operand(place.view))
        else:
            data = constant.constant
            small = tuple(data.reshape(-1).tolist()) if data.size <= SMALL_CONSTANT_ELEMENTS and data.dtype.kind in "biuf" else None
            operands.append(Operand(place.view, True, small))
    return Request(step.op, tuple(operands), tuple(place.view for place in step.outputs), target, threads)


def _lower_all(requests: Sequence[Request], steps: Sequence[Step]) -> dict[Request, Kernel]:
    kernels: dict[Request, Kernel] = {}
    problems: list[str] = []
    for request, step in zip(requests, steps, strict=True):
        if request in kernels:
            continue
        try:
            kernels[request] = lower(request)
        except EdgeccError as error:
            if error.code != "E112":
                raise
            where = printable(", ".join(step.loc)) or step.name
            problems.append(f"{where}: {error.message}" + (f" ({error.hint})" if error.hint else ""))
    if problems:
        raise EdgeccError("E112", f"{len(problems)} operators have no kernel for {requests[0].target.name}", details=problems)
    return kernels


def _schedule_all(kernels: Mapping[Request, Kernel]) -> tuple[dict[str, Function], dict[Request, str]]:
    """Scheduled functions by name, and the function of each request; equal functions are one."""
    by_content: dict[Function, str] = {}
    functions: dict[str, Function] = {}
    function_of: dict[Request, str] = {}
    for request, kernel in kernels.items():
        scheduled = apply_schedule(kernel.function, kernel.schedule)
        verify_function(scheduled)
        name = by_content.get(scheduled)
        if name is None:
            name, number = scheduled.name, 1
            while name in functions:
                number += 1
                name = f"{scheduled.name}_v{number}"
            by_content[scheduled] = name
            functions[name] = replace(scheduled, name=name)
        function_of[request] = name
    return functions, function_of


class _Weights:
    """The weights of a module while they are collected; equal bytes are stored once."""

    def __init__(self) -> None:
        self.constants: list[Constant] = []
        self.size = 0
        self._known: dict[bytes, int] = {}

    def add(self, array: Array) -> int:
        """Stores an array and returns its byte offset."""
        data = np.ascontiguousarray(array)
        key = data.tobytes()
        offset = self._known.get(key)
        if offset is None:
            offset = -(-self.size // WEIGHT_ALIGN) * WEIGHT_ALIGN
            self._known[key] = offset
            self.constants.append(Constant(offset, data))
            self.size = offset + data.nbytes
        return offset


def _arguments(number: int, step: Step, kernel: Kernel, plan: MemoryPlan, weights: _Weights,
               constants: Sequence[Value]) -> tuple[Argument, ...]:
    out: list[Argument] = []
    slot = 0
    for buffer, argument in zip(kernel.function.buffers, kernel.arguments, strict=True):
        match argument:
            case FromInput(index=index):
                out.append(_source(step.inputs[index], plan, weights, constants))
            case FromOutput(index=index):
                out.append(plan.argument(step.outputs[index]))
            case Packed(inputs=inputs, pack=pack):
                arrays = [None if (value := step.constants[i]) is None else value.constant for i in inputs]
                packed = np.asarray(pack(*arrays))
                if packed.size != buffer.elements or packed.dtype != buffer.dtype.numpy:
                    raise EdgeccError("E900", f"{kernel.function.name}: packed {buffer.name} is {packed.dtype}[{packed.size}], "
                                              f"the kernel reads {buffer.dtype.value}[{buffer.elements}]")
                out.append(WeightBytes(weights.add(packed)))
            case Workspace():
                out.append(plan.workspace(number, slot))
                slot += 1
    return tuple(out)


def _source(place: Place | None, plan: MemoryPlan, weights: _Weights, constants: Sequence[Value]) -> Argument:
    if place is None:
        raise EdgeccError("E900", "a kernel reads an operand that is absent")
    root = plan.placement.roots[place.root]
    if root.kind != "constant":
        return plan.argument(place)
    data = constants[root.index].constant
    if data is None:
        raise EdgeccError("E900", f"constant {root.name} has no data")
    return WeightBytes(weights.add(data) + place.byte_offset)

