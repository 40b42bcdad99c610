"""Lowering of a graph to a module: a kernel for every step, weights packed, memory planned, calls in order.

    graph -> places of all values (edgecc/memory/placement.py)
          -> a kernel for each step (edgecc/kernels), one for all steps that ask for the same
          -> chains that run stripe by stripe, with kernels for ranges of rows (edgecc/memory/depth_first.py)
          -> order, lifetimes and offsets (edgecc/memory/plan.py)
          -> scheduled functions, each once; the blob of weights; calls

Equal requests share a kernel, and kernels whose functions turn out equal share a function. Constants
of equal bytes are stored once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

import edgecc.kernels  # noqa: F401  (importing it registers all kernels)
from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Value
from edgecc.ir.types import Array, DType
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
    row_cycles,
    signature,
)
from edgecc.loop.ir import Buffer, Function
from edgecc.loop.module import ArenaBytes, Argument, Call, Constant, Interface, Module, Stripes, WeightBytes
from edgecc.loop.verify import verify_function
from edgecc.memory.depth_first import DepthFirst, Limits, StepCost, plan_depth_first
from edgecc.memory.lifetime import Needs
from edgecc.memory.offsets import ALIGN
from edgecc.memory.order import candidate_orders
from edgecc.memory.placement import Place, Placement, Step, place_values
from edgecc.memory.plan import MemoryPlan, plan_memory
from edgecc.memory.stripes import ringed
from edgecc.ops.work import multiply_adds
from edgecc.passes.loop import apply_schedule
from edgecc.targets.schema import Target

NO_TUNING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class CallReport:
    """What one call of a module does.

    Attributes:
        name: the name of the first value it computes. loc: the user's nodes it stands for.
        op: the name of the operator; copies are a "reshape". function: the kernel.
        choice: why the kernel looks as it does.
        multiply_adds: of convolutions, matrix products and recurrent layers; else 0.
        bytes_read, bytes_written: of operands (weights included) and results, each element once.
        stripes: how often the kernel is called: more than once as a part of a depth-first block.
        kernel: the kernel, with what was asked for.
    """

    name: str
    loc: tuple[str, ...]
    op: str
    function: str
    choice: str
    multiply_adds: int
    bytes_read: int
    bytes_written: int
    stripes: int
    kernel: Kernel


@dataclass(frozen=True)
class LoweredModel:
    """A module with the memory plan it uses and a report for each of its calls."""

    module: Module
    plan: MemoryPlan
    calls: tuple[CallReport, ...]

    @property
    def requests(self) -> tuple[Request, ...]:
        """What each call's kernel was asked for."""
        return tuple(call.kernel.request for call in self.calls if call.kernel.request is not None)


def lower_graph(graph: Graph, target: Target, *, name: str, threads: int = 1, check: bool = False,
                tuning: Mapping[str, str] = NO_TUNING, depth_first: bool = True, limits: Limits | None = None,
                winograd: bool = True, precision: DType = DType.F32) -> LoweredModel:
    """Lowers a graph with static shapes.

    Args:
        name: the module's name, a C identifier.
        threads: how many threads parallel loops are divided among.
        check: verify every function before and after its schedule.
        tuning: names of candidates by signature of the request (edgecc/kernels/base.py); others are chosen by the model.
        depth_first: whether chains may run stripe by stripe. With several threads none does: they divide whole maps.
        limits: of depth-first blocks, instead of the target's.
        winograd: whether convolutions may be computed by Winograd's algorithm, with larger rounding errors.
        precision: the shortest float type arithmetic may be done in.
    Raises: EdgeccError E112 listing every node no kernel covers; E904 with `check`.
    """
    placement, kernels = _place_and_lower(graph, target, threads, tuning, winograd, precision)
    choice = None
    if depth_first and threads == 1:
        placement, kernels, choice = _in_stripes(placement, kernels, target, tuning, limits, precision)
    plan = plan_memory(placement, [_needs(kernel) for kernel in kernels], choice)
    placement = plan.placement
    blocks = {block.chain.numbers[0]: block for block in plan.blocks}
    functions = _Functions(check)
    weights = _Weights()
    calls: list[Call | Stripes] = []
    reports: list[CallReport] = []
    replacing: dict[int, list[int]] = {}
    for number, result, _ in plan.live.replaced:
        replacing.setdefault(number, []).append(result)

    def call(number: int, stripes: int = 1) -> Call:
        step, kernel = placement.steps[number], kernels[number]
        arguments = _arguments(plan, number, kernel, weights)
        function = functions.add(kernel)
        overwritten = {arguments[i] for i, a in enumerate(kernel.arguments)
                       if isinstance(a, FromOutput) and a.index in replacing.get(number, ())}
        functions.use(function, arguments, overwritten)
        reports.append(_report(step, kernel, function, stripes))
        return Call(function, arguments, step.loc)

    inner = {number for block in plan.blocks for number in block.chain.numbers[1:]}
    for number in plan.live.order:
        block = blocks.get(number)
        if block is not None:
            calls.append(Stripes(tuple(call(n, block.stripes) for n in block.chain.numbers), block.ends))
        elif number not in inner:
            calls.append(call(number))
    module = Module(
        name=name,
        inputs=tuple(Interface(n, v.type) for n, v in zip(graph.input_names, graph.inputs, strict=True)),
        outputs=tuple(Interface(n, v.type) for n, v in zip(graph.output_names, graph.outputs, strict=True)),
        functions=functions.finished(), calls=tuple(calls), constants=tuple(weights.constants),
        weights_bytes=weights.size_bytes, arena_bytes=plan.arena_bytes, arena_lower_bound=plan.lower_bound,
        arena_align=ALIGN, threads=threads, precision=precision)
    return LoweredModel(module, plan, tuple(reports))


# -- kernels ----------------------------------------------------------------------------------


def _place_and_lower(graph: Graph, target: Target, threads: int, tuning: Mapping[str, str],
                     winograd: bool, precision: DType) -> tuple[Placement, list[Kernel]]:
    """Places all values and lowers all steps.

    Where a kernel does not take the views it was given, the values concerned get memory of their own,
    in their own layout, and everything is placed again; that ends, since each round adds such values.
    """
    cache: dict[Request, Kernel] = {}
    dense: dict[Value, None] = {}
    while True:
        placement = place_values(graph, dense=dense)
        kernels: list[Kernel] = []
        problems: list[tuple[Step, EdgeccError]] = []
        for step in placement.steps:
            request = _request(step, target, threads, winograd, precision)
            try:
                if request not in cache:
                    cache[request] = lower(request, tuning.get(signature(request)) if tuning else None)
                kernels.append(cache[request])
            except EdgeccError as error:
                if error.code != "E112":
                    raise
                problems.append((step, error))
        if not problems:
            return placement, kernels
        strided = [v for step, _ in problems for v in _strided_values(graph, placement, step) if v not in dense]
        if not strided:
            raise _unsupported(problems)
        dense.update(dict.fromkeys(strided))


def _in_stripes(placement: Placement, kernels: Sequence[Kernel], target: Target, tuning: Mapping[str, str],
                limits: Limits | None, precision: DType) -> tuple[Placement, list[Kernel], DepthFirst]:
    """Chooses depth-first blocks and lowers their steps for ranges of rows, values within the blocks in rings.

    Steps whose kernels do not take the rings are left out of blocks, and the choice is made again.
    """
    needs = [_needs(kernel) for kernel in kernels]
    orders = candidate_orders(placement, needs)
    known: dict[Request, float | None] = {}
    costs = []
    for step, kernel in zip(placement.steps, kernels, strict=True):
        request = _request(step, target, 1, False, precision)
        if request not in known:
            known[request] = row_cycles(request)
        costs.append(StepCost(kernel.cycles, known[request]))
    cache: dict[Request, Kernel] = {}
    while True:
        choice = plan_depth_first(placement, needs, costs, orders, target, limits)
        changed, own = ringed(placement, choice.blocks), list(kernels)
        refused = []
        for number in (n for block in choice.blocks for n in block.chain.numbers):
            request = replace(_request(changed.steps[number], target, 1, False, precision), rows=True)
            try:
                if request not in cache:
                    cache[request] = lower(request, tuning.get(signature(request)) if tuning else None)
                own[number] = cache[request]
            except EdgeccError as error:
                if error.code != "E112":
                    raise
                refused.append(number)
        if not refused:
            return changed, own, choice
        costs = [replace(cost, row_cycles=None) if number in refused else cost for number, cost in enumerate(costs)]


def _strided_values(graph: Graph, placement: Placement, step: Step) -> Iterable[Value]:
    """The values a step reads or writes that do not lie as their own layout says."""
    if step.node >= len(graph):
        return
    node = graph.nodes[step.node]
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.producer is not None:
            own = value.layout.strides(value.type.dims)
            if placement.places[value].view.strides != own:
                yield value


def _unsupported(problems: Sequence[tuple[Step, EdgeccError]]) -> EdgeccError:
    details = [f"{', '.join(step.loc) or step.name} ({step.op.name}): {error.message}" for step, error in problems]
    hint = next((error.hint for _, error in problems if error.hint), "")
    count = len(problems)
    return EdgeccError("E112", f"{count} node{'s have' if count > 1 else ' has'} no kernel", details=tuple(dict.fromkeys(details)),
                       hint=hint)


def _request(step: Step, target: Target, threads: int, winograd: bool, precision: DType) -> Request:
    inputs: list[Operand | None] = []
    for place, constant in zip(step.inputs, step.constants, strict=True):
        if place is None:
            inputs.append(None)
        elif constant is None or constant.constant is None:
            inputs.append(Operand(place.view))
        else:
            data = constant.constant
            values = tuple(data.reshape(-1).tolist()) if data.size <= SMALL_CONSTANT_ELEMENTS else None
            inputs.append(Operand(place.view, True, values))
    return Request(step.op, tuple(inputs), tuple(place.view for place in step.outputs), target, threads, precision,
                   winograd=winograd)


def _needs(kernel: Kernel) -> Needs:
    return Needs(kernel.in_place, tuple(a.size_bytes for a in kernel.arguments if isinstance(a, Workspace)))


# -- functions --------------------------------------------------------------------------------


class _Functions:
    """The functions of a module: scheduled once for each kernel, stored once for each structure.

    What is promised of a buffer follows from the calls: it is aligned as all arguments are, and it may
    share memory with another buffer if some call overwrites an operand with a result.
    """

    def __init__(self, check: bool) -> None:
        self.check = check
        self.by_kernel: dict[int, str] = {}
        self.by_structure: dict[Function, str] = {}
        self.functions: dict[str, Function] = {}
        self.align: dict[str, list[int]] = {}
        self.aliased: dict[str, list[bool]] = {}

    def add(self, kernel: Kernel) -> str:
        """The name of the function of a kernel; the kernel must stay alive."""
        known = self.by_kernel.get(id(kernel))
        if known is not None:
            return known
        function = self._scheduled(kernel)
        structure = replace(function, name="", doc="")
        name = self.by_structure.get(structure)
        if name is None:
            name = self._fresh(function.name)
            self.by_structure[structure] = name
            self.functions[name] = replace(function, name=name)
            self.align[name] = [ALIGN] * len(function.buffers)
            self.aliased[name] = [False] * len(function.buffers)
        self.by_kernel[id(kernel)] = name
        return name

    def _scheduled(self, kernel: Kernel) -> Function:
        function = kernel.function
        pairs = {FromOutput(r) for r, _ in kernel.in_place} | {FromInput(o) for _, o in kernel.in_place}
        buffers = tuple(replace(b, aliased=b.aliased or a in pairs)
                        for b, a in zip(function.buffers, kernel.arguments, strict=True))
        function = replace(function, buffers=buffers)
        if self.check:
            verify_function(function)
        function = apply_schedule(function, kernel.schedule)
        if self.check:
            verify_function(function)
        return function

    def _fresh(self, base: str) -> str:
        name, number = base, 2
        while name in self.functions:
            name, number = f"{base}_{number}", number + 1
        return name

    def use(self, name: str, arguments: Sequence[Argument], overwritten: set[Argument]) -> None:
        """Notes a call. `overwritten` are the addresses of results that replace an operand."""
        for position, (buffer, argument) in enumerate(zip(self.functions[name].buffers, arguments, strict=True)):
            self.align[name][position] = min(self.align[name][position], _alignment(argument, buffer))
            self.aliased[name][position] |= argument in overwritten

    def finished(self) -> tuple[Function, ...]:
        """All functions, in order of first use."""
        return tuple(replace(f, buffers=tuple(replace(b, align=align, aliased=aliased) for b, align, aliased in
                                              zip(f.buffers, self.align[name], self.aliased[name], strict=True)))
                     for name, f in self.functions.items())


def _alignment(argument: Argument, buffer: Buffer) -> int:
    """What the address of an argument certainly is a multiple of; the caller's arrays are aligned as C aligns them."""
    if isinstance(argument, ArenaBytes | WeightBytes):
        return math.gcd(argument.offset, ALIGN)
    return buffer.dtype.size


# -- weights ----------------------------------------------------------------------------------


class _Weights:
    """The blob of weights: every constant once, aligned."""

    def __init__(self) -> None:
        self.constants: list[Constant] = []
        self.size_bytes = 0
        self.offsets: dict[tuple[DType, bytes], int] = {}
        """Offset of each constant by type and SHA-256 of its bytes."""

    def add(self, data: Array) -> WeightBytes:
        """Where a flat array is stored."""
        key = (DType.from_numpy(data.dtype), hashlib.sha256(data.tobytes()).digest())
        if key not in self.offsets:
            offset = -(-self.size_bytes // ALIGN) * ALIGN
            self.offsets[key] = offset
            self.constants.append(Constant(offset, data))
            self.size_bytes = offset + data.nbytes
        return WeightBytes(self.offsets[key])


def _arguments(plan: MemoryPlan, number: int, kernel: Kernel, weights: _Weights) -> tuple[Argument, ...]:
    """The addresses of a call's buffers."""
    placement = plan.placement
    step = placement.steps[number]
    slots = iter(range(len(kernel.arguments)))
    out: list[Argument] = []
    for buffer, argument in zip(kernel.function.buffers, kernel.arguments, strict=True):
        match argument:
            case FromInput(index=index):
                place = step.inputs[index]
                if place is None:
                    raise EdgeccError("E900", f"kernel {kernel.function.name} reads operand {index}, which is absent")
                out.append(_operand(plan, place, weights))
            case FromOutput(index=index):
                out.append(plan.argument(step.outputs[index]))
            case Packed(inputs=inputs, pack=pack):
                arrays = [v if v is None else v.constant for v in
                          (step.constants[i] if i < len(step.constants) else None for i in inputs)]
                packed = np.ascontiguousarray(pack(*arrays))
                if packed.dtype != buffer.dtype.numpy or packed.ndim != 1 or packed.size < buffer.elements:
                    raise EdgeccError("E900", f"kernel {kernel.function.name} packs {packed.dtype}{list(packed.shape)} for "
                                              f"{buffer.name}: {buffer.dtype.value}[{buffer.elements}]")
                out.append(weights.add(packed))
            case Workspace():
                out.append(plan.workspace(number, next(slots)))
    return tuple(out)


def _operand(plan: MemoryPlan, place: Place, weights: _Weights) -> Argument:
    root = plan.placement.roots[place.root]
    if root.kind != "constant":
        return plan.argument(place)
    data = plan.placement.constants[root.index].constant
    if data is None:
        raise EdgeccError("E900", f"{root.name} is no constant")
    return WeightBytes(weights.add(data.reshape(-1)).offset + place.byte_offset)


# -- reports ----------------------------------------------------------------------------------


def _report(step: Step, kernel: Kernel, function: str, stripes: int) -> CallReport:
    dims = [None if p is None else p.view.dims for p in step.inputs]
    results = [p.view.dims for p in step.outputs]
    choice = kernel.choice if stripes == 1 else f"{kernel.choice}; in {stripes} stripes"
    return CallReport(step.name, step.loc, step.op.name, function, choice, multiply_adds(step.op, dims, results),
                      _bytes(step.inputs), _bytes(step.outputs), stripes, kernel)


def _bytes(places: Sequence[Place | None]) -> int:
    return sum(p.view.elements * p.view.dtype.size for p in places if p is not None)
