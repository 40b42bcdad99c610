"""Lowering of a graph to a module: a kernel for every step, weights packed, memory planned, calls in order.

    graph -> places of all values (edgecc/memory/placement.py)
          -> a kernel for each step (edgecc/kernels), one for all steps that ask for the same
          -> chains that run stripe by stripe, with kernels for ranges of rows (edgecc/memory/depth_first.py)
          -> order, lifetimes and offsets (edgecc/memory/plan.py)
          -> scheduled functions, each once; the blob of weights; calls

Equal requests share a kernel, and kernels whose functions turn out equal share a function. Constants
of equal bytes are stored once. The regions of a node are lowered in the same way before the graph
around it; their addresses are then bound to those of the node (edgecc/lowering/control.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

import edgecc.kernels  # noqa: F401  (importing it registers all kernels)
from edgecc.errors import EdgeccError, Problem
from edgecc.frontend.limits import raised
from edgecc.ir.dims import Dim
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.instance import graph_symbols, sources
from edgecc.ir.op import RegionOp
from edgecc.ir.types import DType
from edgecc.kernels.items import lower_open
from edgecc.kernels.kernel import FromInput, FromOutput, Kernel, Packed, SameMemory, Workspace
from edgecc.kernels.registry import row_cycles
from edgecc.kernels.request import Request, signature, size_name
from edgecc.loop.module import (
    Argument,
    Call,
    IndexRange,
    Interface,
    Item,
    Module,
    SetSize,
    StringCall,
    Stripes,
    WeightBytes,
)
from edgecc.lowering.control import LoweredRegion, control_item, control_needs
from edgecc.lowering.functions import Functions, Weights
from edgecc.lowering.options import DEFAULT_LOWERING, MOST_STRING_BYTES, LoweringOptions
from edgecc.lowering.report import CallReport, report_call
from edgecc.lowering.request import has_gaps, open_sizes, request_of
from edgecc.memory.depth_first import DepthFirst, Effort, StepCost, plan_depth_first
from edgecc.memory.lifetime import Needs
from edgecc.memory.offsets import ALIGN
from edgecc.memory.order import candidate_orders
from edgecc.memory.placement import Placement, Step, place_values
from edgecc.memory.places import Place, own_view
from edgecc.memory.plan import MemoryPlan
from edgecc.memory.regions import plan_states
from edgecc.memory.row_gaps import gap_period
from edgecc.memory.storage import in_bytes
from edgecc.memory.strings import ConstantStrings, string_pool
from edgecc.memory.stripes import ringed
from edgecc.ops.control import Loop
from edgecc.ops.sizes import BindSize
from edgecc.ops.string_handles import StringStep
from edgecc.targets.precision import precision_type
from edgecc.targets.schema import Target


@dataclass(frozen=True)
class LoweredModel:
    """A module with the memory plan it uses and a report for each of its calls.

    `regions` are titles and plans of the graphs inside nodes; the arena of each is a piece of the one around it.
    """

    module: Module
    plan: MemoryPlan
    calls: tuple[CallReport, ...]
    regions: tuple[tuple[str, MemoryPlan], ...] = ()

    @property
    def requests(self) -> tuple[Request, ...]:
        """What each call's kernel was asked for."""
        return tuple(call.kernel.request for call in self.calls if call.kernel.request is not None)


def lower_graph(graph: Graph, target: Target, *, name: str, options: LoweringOptions = DEFAULT_LOWERING) -> LoweredModel:
    """Lowers a graph; where dimensions are open, for all sizes within their bounds. `name` is the module's, a C identifier.

    Raises: EdgeccError E112 listing every node no kernel covers; E001 where the target lacks the precision; E101 where the
        room does not suffice; E904 where a function does not verify.
    """
    symbols = graph_symbols(graph)
    precision = precision_type(options.precision, target)
    lowering = _Lowering(target, options, precision, options.depth_first and options.threads == 1 and not symbols,
                         Functions(options.verified, options.room))
    constants = ConstantStrings()
    bytewise = in_bytes(graph, constants)
    lowered = lowering.graph(bytewise, 0, is_region=False)
    strings = string_pool(bytewise, constants, lowered.plan.arena_bytes, min(options.string_bytes, MOST_STRING_BYTES))
    arena_bytes = lowered.plan.arena_bytes if strings is None else strings.offset + strings.size_bytes
    module = Module(
        name=name,
        inputs=tuple(Interface(n, v.type) for n, v in zip(graph.input_names, graph.inputs, strict=True)),
        outputs=tuple(Interface(n, v.type) for n, v in zip(graph.output_names, graph.outputs, strict=True)),
        functions=lowering.functions.finished(), calls=lowered.items, constants=tuple(lowering.weights.constants),
        weights_bytes=lowering.weights.size_bytes, arena_bytes=arena_bytes,
        arena_lower_bound=lowered.plan.lower_bound + (strings.size_bytes if strings else 0), arena_align=ALIGN, threads=options.threads, precision=precision,
        sources=sources([v.type for v in graph.inputs]) if symbols else (), strings=strings)
    return LoweredModel(module, lowered.plan, lowered.reports, lowered.inner)


NESTS_OF_A_KERNEL = 8
"""Loop nests that take as long as a kernel: a transposed convolution has one for each phase."""

Work = Kernel | tuple[LoweredRegion, ...] | StringStep
"""What runs at a step: a kernel, the regions of an operator that has some, or an operator on strings."""


@dataclass
class _Lowering:
    """One lowering: what all graphs of a network share, the regions of nodes included."""

    target: Target
    options: LoweringOptions
    precision: DType
    depth_first: bool
    functions: Functions
    weights: Weights = field(default_factory=Weights)
    kernels: dict[Request, Kernel] = field(default_factory=dict)
    effort: Effort = field(default_factory=Effort)
    chosen: int = 0
    """Kernels chosen among several ways to compute something, those of many loop nests counted more than once."""

    def graph(self, graph: Graph, depth: int, loop: Loop | None = None, *, is_region: bool = True) -> LoweredRegion:
        """Lowers a graph, or a region `depth` loops deep; `loop` is the operator whose body it is.

        Its own addresses: `InputBytes` and `OutputBytes` of the graph, `ArenaBytes` of its own arena.
        Raises: EdgeccError E112.
        """
        # A condition that is known needs no memory.
        unwritten = (0,) if loop is not None and graph.outputs[0].constant is not None else ()
        placement, work = self._place_and_lower(graph, depth, unwritten, is_region)
        choice = None
        if self.depth_first and len(work) > 1:
            placement, work, choice = self._in_stripes(placement, work)
        needs = _needs(placement, work)
        states = [] if loop is None else [v.type for v in graph.outputs[1:1 + loop.states]]
        plan, in_place, overwriting = plan_states(placement, needs, choice, states)
        return self._calls(graph, plan, work, depth, in_place, overwriting)

    def _calls(self, graph: Graph, plan: MemoryPlan, work: Sequence[Work], depth: int, in_place: Mapping[int, None],
               overwriting: frozenset[int]) -> LoweredRegion:
        """The items of a planned graph, in order, and the reports of its calls."""
        blocks = {block.chain.numbers[0]: block for block in plan.blocks}
        reports: list[CallReport] = []
        items: list[Item] = []
        plans: list[tuple[str, MemoryPlan]] = []
        inner = {number for block in plan.blocks for number in block.chain.numbers[1:]}
        for number in plan.live.order:
            block = blocks.get(number)
            regions = work[number]
            if block is not None:
                calls = [self._call(plan, n, work[n], n in overwriting, block.stripes) for n in block.chain.numbers]
                items.append(Stripes(tuple(call for call, _ in calls), block.ends))
                reports += [report for _, report in calls]
            elif number in inner:
                continue
            elif isinstance(plan.placement.steps[number].op, BindSize):
                items.append(self._set_size(plan, plan.placement.steps[number]))
            elif isinstance(regions, tuple):
                items.append(self._control(plan, number, regions, depth))
                reports += [report for region in regions for report in region.reports]
                plans += _titled(plan.placement.steps[number], regions)
            elif isinstance(regions, StringStep):
                items.append(self._string_call(plan, number, regions))
            else:
                call, report = self._call(plan, number, regions, number in overwriting)
                items.append(call)
                reports.append(report)
        return LoweredRegion(graph, plan, tuple(items), tuple(reports), in_place, tuple(plans))

    def _call(self, plan: MemoryPlan, number: int, kernel: Work, overwriting: bool, stripes: int = 1) -> tuple[Call, CallReport]:
        """The call for a step. `overwriting`: a result replaces an operand because they are one state of a loop."""
        if not isinstance(kernel, Kernel):
            raise EdgeccError("E900", f"step {plan.placement.steps[number].name} has regions, or works on strings, and no kernel")
        step = plan.placement.steps[number]
        arguments = self._arguments(plan, number, kernel)
        function = self.functions.add(kernel)
        replacing = plan.live.replacing.get(number, frozenset())
        pairs = {slot for result, operand in kernel.in_place if overwriting for slot in (FromOutput(result), FromInput(operand))}
        overwritten = {arguments[i] for i, a in enumerate(kernel.arguments)
                       if (isinstance(a, FromOutput) and a.index in replacing) or a in pairs}
        self.functions.use(function, arguments, overwritten)
        sizes = open_sizes(step)
        return Call(function, arguments, step.loc, self._checks(plan, step, kernel),
                    tuple(sizes[n] for n in kernel.sizes)), report_call(step, kernel, function, stripes)

    def _string_call(self, plan: MemoryPlan, number: int, op: StringStep) -> StringCall:
        """The item for a step on strings."""
        step = plan.placement.steps[number]
        operands = tuple(self._operand(plan, place) for place in step.inputs if place is not None)
        place = next(place for place in step.inputs if place is not None)
        count = math.prod(place.shape or place.view.dims, start=cast("Dim", 1))
        return StringCall(op, count, (*operands, *map(plan.argument, step.outputs)), step.loc)

    def _checks(self, plan: MemoryPlan, step: Step, kernel: Kernel) -> tuple[tuple[Argument, IndexRange], ...]:
        """The indices the run looks at before a call."""
        found = ((step.inputs[operand], indices) for operand, indices in kernel.checks)
        sizes = {size_name(number): size for number, size in enumerate(open_sizes(step))}
        return tuple((self._operand(plan, place), indices.at(sizes)) for place, indices in found if place is not None)

    def _set_size(self, plan: MemoryPlan, step: Step) -> SetSize:
        """The item for a step that binds a size."""
        place, symbol = step.inputs[0], step.op.binds
        if place is None or symbol is None:
            raise EdgeccError("E900", f"step {step.name} binds no size")
        return SetSize(symbol, self._operand(plan, place), self.options.checks == "clamp", step.loc)

    def _control(self, plan: MemoryPlan, number: int, regions: Sequence[LoweredRegion], depth: int) -> Item:
        """The item for a step that runs regions."""
        step = plan.placement.steps[number]
        def operand(index: int) -> Argument:
            place = step.inputs[index]
            if place is None:
                raise EdgeccError("E900", f"operand {index} of {step.op.name} is absent")
            return self._operand(plan, place)

        results = [plan.argument(place) for place in step.outputs]
        return control_item(step, regions, operand, results, plan.workspace(number, 0), depth)

    # -- kernels ------------------------------------------------------------------------------

    def _place_and_lower(self, graph: Graph, depth: int, unwritten: tuple[int, ...],
                         is_region: bool) -> tuple[Placement, list[Work]]:
        """Places all values and lowers all steps, those of regions first.

        Where a kernel does not take the views it was given, the values concerned get memory of their own,
        in their own layout, and everything is placed again; that ends, since each round adds such values.
        """
        nodes = graph.nodes
        regions: dict[int, tuple[LoweredRegion, ...]] = {}
        dense: dict[Value, None] = {}
        while True:
            placement = place_values(graph, dense=dense, unwritten=unwritten, is_region=is_region, gap_period=gap_period(self.target))
            work: list[Work] = []
            problems: list[tuple[Step, EdgeccError]] = []
            for step in placement.steps:
                try:
                    if isinstance(step.op, StringStep) and has_gaps(step):
                        raise EdgeccError("E112", f"{step.op.name} has no form for sizes known only at run time",
                                          hint="give the dimension one size with --shape")
                    if isinstance(step.op, BindSize):
                        work.append(())
                    elif isinstance(step.op, RegionOp):
                        if step.node not in regions:
                            regions[step.node] = self._regions(nodes[step.node], depth)
                        work.append(regions[step.node])
                    elif isinstance(step.op, StringStep):
                        work.append(step.op)
                    else:
                        work.append(self._kernel(self._request(step)))
                except EdgeccError as error:
                    if error.code != "E112":
                        raise
                    problems.append((step, error))
            if not problems:
                return placement, work
            strided = [v for step, _ in problems for v in _strided_values(nodes, placement, step) if v not in dense]
            if not strided:
                raise _unsupported(problems)
            dense.update(dict.fromkeys(strided))

    def _regions(self, node: Node, depth: int) -> tuple[LoweredRegion, ...]:
        """The regions of a node, which is `depth` loops deep."""
        if isinstance(node.op, Loop):
            return tuple(self.graph(region, depth + 1, node.op) for region in node.regions)
        return tuple(self.graph(region, depth) for region in node.regions)

    def _kernel(self, request: Request) -> Kernel:
        if request not in self.kernels:
            kernel = lower_open(request, self.options.tuning.get(signature(request)) if self.options.tuning else None)
            self.chosen += (kernel.candidate != "") + len(kernel.function.body) // NESTS_OF_A_KERNEL
            if self.chosen > self.options.room.kernels:
                raise EdgeccError("E101", f"the network needs more than {self.options.room.kernels} unlike kernels for convolutions, products and "
                                          "the like", hint=raised("kernels"))
            self.kernels[request] = kernel
        return self.kernels[request]

    def _request(self, step: Step, *, rows: bool = False) -> Request:
        """What the kernel of a step is asked for; `rows`: as a part of a block that runs stripe by stripe."""
        return request_of(step, self.target, self.options, self.precision, rows=rows)

    def _in_stripes(self, placement: Placement, work: Sequence[Work]) -> tuple[Placement, list[Work], DepthFirst]:
        """Chooses depth-first blocks and lowers their steps for ranges of rows, values within the blocks in rings.

        Steps whose kernels do not take the rings are left out of blocks, and the choice is made again.
        """
        needs = _needs(placement, work)
        orders = candidate_orders(placement, needs)
        known: dict[Request, float | None] = {}
        costs = []
        for step, kernel in zip(placement.steps, work, strict=True):
            if not isinstance(kernel, Kernel):
                costs.append(StepCost(sum(region.cycles for region in kernel) if isinstance(kernel, tuple) else 0.0, None))
                continue
            request = replace(self._request(step, rows=True), rows=False)
            if request not in known:
                known[request] = row_cycles(request)
            costs.append(StepCost(kernel.cycles, known[request]))
        while True:
            choice = plan_depth_first(placement, needs, costs, orders, self.target, self.options.limits, self.effort)
            changed, own = ringed(placement, choice.blocks), list(work)
            refused = []
            for number in (n for block in choice.blocks for n in block.chain.numbers):
                try:
                    own[number] = self._kernel(self._request(changed.steps[number], rows=True))
                except EdgeccError as error:
                    if error.code != "E112":
                        raise
                    refused.append(number)
            if not refused:
                return changed, own, choice
            costs = [replace(cost, row_cycles=None) if number in refused else cost for number, cost in enumerate(costs)]

    # -- addresses ----------------------------------------------------------------------------

    def _arguments(self, plan: MemoryPlan, number: int, kernel: Kernel) -> tuple[Argument, ...]:
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
                    out.append(self._operand(plan, place))
                case FromOutput(index=index):
                    out.append(plan.argument(step.outputs[index]))
                case Packed(inputs=inputs, pack=pack):
                    arrays = [v if v is None else v.constant for v in
                              (step.constants[i] if i < len(step.constants) else None for i in inputs)]
                    packed = np.ascontiguousarray(pack(*arrays))
                    if packed.dtype != buffer.dtype.numpy or packed.ndim != 1 or packed.size < buffer.elements:
                        raise EdgeccError("E900", f"kernel {kernel.function.name} packs {packed.dtype}{list(packed.shape)} for "
                                                  f"{buffer.name}: {buffer.dtype.value}[{buffer.elements}]")
                    out.append(self.weights.add(packed))
                case Workspace():
                    out.append(plan.workspace(number, next(slots)))
                case SameMemory(position=position):
                    out.append(out[position])
        return tuple(out)

    def _operand(self, plan: MemoryPlan, place: Place) -> Argument:
        root = plan.placement.roots[place.root]
        if root.kind != "constant":
            return plan.argument(place)
        data = plan.placement.constants[root.index].constant
        if data is None:
            raise EdgeccError("E900", f"{root.name} is no constant")
        return WeightBytes(self.weights.add(data.reshape(-1)).offset + place.byte_offset)


# -- helpers ------------------------------------------------------------------------------------


def _strided_values(nodes: Sequence[Node], placement: Placement, step: Step) -> Iterable[Value]:
    """The values a step reads or writes that do not lie as their own layout says."""
    if step.node >= len(nodes):
        return
    node = nodes[step.node]
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.constant is None and placement.places[value].view.strides != own_view(value).strides:
            yield value


def _unsupported(problems: Sequence[tuple[Step, EdgeccError]]) -> EdgeccError:
    # Of a node with regions the details name the nodes inside.
    details = [detail for step, error in problems for detail in error.details or (f"{_place_of(step)}: {error.message}",)]
    every = [problem for step, error in problems
             for problem in error.problems or (Problem("E112", _place_of(step), error.message, error.hint),)]
    hint = next((error.hint for _, error in problems if error.hint), "")
    count = len(details)
    return EdgeccError("E112", f"{count} node{'s have' if count > 1 else ' has'} no kernel", details=tuple(dict.fromkeys(details)),
                       hint=hint, problems=tuple(dict.fromkeys(every)))


def _place_of(step: Step) -> str:
    return f"{', '.join(step.loc) or step.name} ({step.op.name})"


def _titled(step: Step, regions: Sequence[LoweredRegion]) -> Iterator[tuple[str, MemoryPlan]]:
    """The plans of a step's regions and of those inside them, with a title each."""
    names = step.op.regions if isinstance(step.op, RegionOp) else ()
    for name, region in zip(names, regions, strict=True):
        yield f"{name} of {', '.join(step.loc) or step.name}", region.plan
        yield from region.inner


def _needs(placement: Placement, work: Sequence[Work]) -> list[Needs]:
    return [control_needs(step.op, regions) if isinstance(regions, tuple) else Needs() if isinstance(regions, StringStep) else
            _kernel_needs(regions) for step, regions in zip(placement.steps, work, strict=True)]


def _kernel_needs(kernel: Kernel) -> Needs:
    workspaces = [a for a in kernel.arguments if isinstance(a, Workspace)]
    return Needs(kernel.in_place, tuple(w.size_bytes for w in workspaces), tuple(i for i, w in enumerate(workspaces) if w.by_thread))
