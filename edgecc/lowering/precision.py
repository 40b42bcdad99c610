"""Which convolutions and matrix products of integers are summed in float: those the cost model expects to be faster so.

Both forms of a layer give the same numbers (edgecc/passes/graph/float_sums.py), so that what is chosen for one machine is no
business of another. A layer costs the modelled cycles of its kernel, its requantization included. In float it reads floats: a
value that some layer reads so costs its conversion, once, whoever else reads it. The cheapest choice for all layers together
is a minimum cut: project selection (J.-C. Picard, "Maximal closure of a graph and applications to combinatorial problems",
Management Science 22(11), 1976), where layers are the projects and converted values the tools that they need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import networkx as nx

from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Apply, Arg, Convert, ScalarExpr, convert
from edgecc.ir.types import DType
from edgecc.kernels.registry import candidates, lower
from edgecc.kernels.request import Operand, Request
from edgecc.kernels.shifted_sums import with_known_sums
from edgecc.kernels.view import View
from edgecc.lowering.cycles import kernel_cycles
from edgecc.memory.strides import row_major_strides
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.work import multiply_adds
from edgecc.passes.graph.float_sums import as_float, is_integer_contraction, of_floats, reading_floats, sums_are_exact
from edgecc.targets.schema import Target

MARGIN = 1.4
"""How many times as fast float must be expected to be. Layer by layer the model is off by about as much, and floats take four times the memory."""

CLEARLY = 2.0
"""Where plans of both kernels differ by so much on a machine with products of bytes, their instructions are not counted."""

FEW_CHANNELS = 4
INTEGERS, FLOATS = "int8", "float"


@dataclass(frozen=True)
class LayerPrecision:
    """How a convolution or matrix product of integers is computed, and why.

    Attributes:
        nodes: the user's nodes. op: the operator. precision: `INTEGERS` or `FLOATS`.
        integer_cycles, float_cycles: modelled, in both forms; `float_cycles` is 0 where there is no such form.
        conversion: modelled cycles of converting its operands, which the layers that read one share. reason: in words.
    """

    nodes: tuple[str, ...]
    op: str
    precision: str
    integer_cycles: float
    float_cycles: float
    conversion: float
    reason: str


def choose_precisions(graph: Graph, target: Target, threads: int = 1) -> tuple[LayerPrecision, ...]:
    """A line for each convolution and product of integers in `graph` that computes anything, in order.

    Args: graph: after the passes that compute on integers, before epilogues are fused.
    """
    costs = _Costs(target, threads)
    layers = [node for node in graph.nodes if is_integer_contraction(node) and node.output.type.capacity]
    pairs = [costs.layer(node) for node in layers]
    free = [number for number, (node, pair) in enumerate(zip(layers, pairs, strict=True)) if pair.real > 0 and node.loc]
    reads = [[v for v in node.inputs[:2] if v is not None and v.constant is None] for node in layers]
    values = list(dict.fromkeys(value for number in free for value in reads[number]))
    conversions = {value: costs.conversion(value) for value in values}
    chosen = cheapest_floats([(pairs[n].integer, MARGIN * pairs[n].real) for n in free], [[values.index(v) for v in reads[n]] for n in free],
                             [conversions[value] for value in values])
    in_float = {free[position] for position in chosen}
    found = []
    for number, (node, pair) in enumerate(zip(layers, pairs, strict=True)):
        conversion = sum(conversions.get(value, 0.0) for value in reads[number])
        found.append(LayerPrecision(node.loc or (node.output.name,), node.op.name, FLOATS if number in in_float else INTEGERS, pair.integer,
                                    pair.real, conversion, _reason(pair, conversion, in_float=number in in_float)))
    return tuple(found)


def cheapest_floats(costs: Sequence[tuple[float, float]], reads: Sequence[Sequence[int]], conversions: Sequence[float]) -> frozenset[int]:
    """Numbers of the layers to compute in float so that all together cost least.

    Args:
        costs: of each layer, on integers and in float. reads: numbers of the values that each layer reads.
        conversions: what it costs to have a value in float, once, however many layers read it so.
    """
    cut: nx.DiGraph[str | tuple[str, int]] = nx.DiGraph()
    cut.add_nodes_from([INTEGERS, FLOATS])
    for number, (on_integers, in_float) in enumerate(costs):
        cut.add_edge(INTEGERS, ("layer", number), capacity=round(in_float))
        cut.add_edge(("layer", number), FLOATS, capacity=round(on_integers))
        for value in reads[number]:
            cut.add_edge(("value", value), ("layer", number))  # without a capacity: it is never cut
    for number, cycles in enumerate(conversions):
        cut.add_edge(INTEGERS, ("value", number), capacity=round(cycles))
    _, (kept, _) = nx.minimum_cut(cut, INTEGERS, FLOATS)
    return frozenset(number for number in range(len(costs)) if ("layer", number) not in kept)


def _reason(pair: _Pair, conversion: float, *, in_float: bool) -> str:
    if pair.real == 0:
        return pair.why
    if in_float:
        return "sums of integers below 2^24 in f32, the same numbers, are modelled to be faster"
    if MARGIN * pair.real >= pair.integer:
        return "modelled to be faster" if pair.real > pair.integer else f"modelled to be less than {MARGIN} times as fast in float"
    return "modelled to be faster, with the conversions that float needs" if pair.real + conversion > pair.integer else (
        f"modelled to be less than {MARGIN} times as fast in float, with conversions")


# -- costs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """Modelled cycles on integers and in float; 0 in float where there is no such form, and `why`."""

    integer: float
    real: float
    why: str = ""


@dataclass
class _Costs:
    """Modelled cycles of layers; equal requests are lowered once."""

    target: Target
    threads: int
    known: dict[Request, float] = field(default_factory=dict)

    def layer(self, node: Node) -> _Pair:
        """The cycles of a layer with what requantizes its sums."""
        if not all(value is None or value.type.is_static for value in (*node.inputs, node.output)):
            return _Pair(0.0, 0.0, "its sizes are those of the run")
        on_integers = self._request(node, in_float=False)
        if isinstance(node.op, Conv) and on_integers.operand(0).view.dims[1] < FEW_CHANNELS:
            return _Pair(self._counted(on_integers), 0.0, "layers of few channels read planes in forms that only integers have")
        if not sums_are_exact(node):
            return _Pair(self._counted(on_integers), 0.0, "in float sums would not be exact")
        in_float = self._request(node, in_float=True)
        plans = [candidates(request) for request in (on_integers, in_float)]
        if all(plans) and self.target.rates.dot_products >= self.target.core.fma_per_cycle:
            first, second = (own[0].cycles for own in plans)
            if CLEARLY * first <= second:
                return _Pair(first, second)
        integer = self._counted(on_integers)
        if not math.isfinite(integer):
            return _Pair(0.0, 0.0, "there is no kernel to compare")
        least = self._least(node)
        if integer <= least:
            return _Pair(integer, max(least, plans[1][0].cycles if plans[1] else least))
        real = self._counted(in_float)
        return _Pair(integer, real) if math.isfinite(real) else _Pair(integer, 0.0, "there is no kernel in float")

    def conversion(self, value: Value) -> float:
        """Cycles of having a value in float as well: where nobody else reads it, what makes it writes floats at once."""
        dims = _dims(value)
        if len(value.users) == 1 and value.producer is not None:
            vectors = math.prod(dims) / self.target.vector.lanes(4)
            return vectors * (1 / self.target.rates.arithmetic + 1 / self.target.core.stores_per_cycle)
        narrow, wide = (View(dtype, dims, row_major_strides(dims)) for dtype in (value.type.dtype, DType.F32))
        return self._counted(Request(Elementwise(as_float(value.type.dtype, 1)), (Operand(narrow),), (wide,), self.target, self.threads))

    def _counted(self, request: Request) -> float:
        if request not in self.known:
            try:
                self.known[request] = kernel_cycles(lower(request))
            except EdgeccError as error:
                if error.code != "E112":
                    raise
                self.known[request] = math.inf
        return self.known[request]

    def _least(self, node: Node) -> float:
        """The fewest cycles that the multiply-adds take in float."""
        dims = [None if value is None else _dims(value) for value in node.inputs]
        lanes = self.target.vector.lanes(4)
        return multiply_adds(node.op, dims, [_dims(node.output)]) / (lanes * self.target.core.fma_per_cycle)

    def _request(self, node: Node, *, in_float: bool) -> Request:
        expr, result, extras = _epilogue(node, in_float=in_float)
        op = node.op
        if not isinstance(op, Conv | MatMul):
            raise TypeError(op)
        own = of_floats(op, expr) if in_float else replace(op, epilogue=expr)
        last = isinstance(op, Conv)
        operands = [None if value is None else _operand(value, DType.F32 if in_float else None, result, last) for value in (*node.inputs, None)[:3]]
        further = [_operand(value, None, result, last) for value in extras]
        request = Request(own, (*operands, *further), (_view(_dims(node.output), result, last),), self.target, self.threads)
        arrays = [None if value is None else value.constant for value in (*(*node.inputs, None)[:3], *extras)]
        return with_known_sums(request, arrays)


def _epilogue(node: Node, *, in_float: bool) -> tuple[ScalarExpr, DType, list[Value]]:
    """What becomes of the sums: an expression of Arg(0) and of further operands, its type, and these operands."""
    sums = node.output
    user = sums.sole_user
    start = Arg(0, DType.F32 if in_float else DType.I32)
    if user is None or not isinstance(user.op, Elementwise) or user.output.type.shape != sums.type.shape:
        return convert(start, DType.F32), DType.F32, []
    expr = reading_floats(user, sums) if in_float else user.op.expr
    if expr is None:
        return convert(start, DType.F32), DType.F32, []
    extras = list(dict.fromkeys(value for value in user.inputs if value is not None and value is not sums))
    places = [0 if value is sums else 0 if value is None else 1 + extras.index(value) for value in user.inputs]
    return _renumbered(expr, places), user.output.type.dtype, extras


def _renumbered(expr: ScalarExpr, places: Sequence[int]) -> ScalarExpr:
    match expr:
        case Arg(index, dtype):
            return Arg(places[index], dtype)
        case Convert(arg, dtype):
            return convert(_renumbered(arg, places), dtype)
        case Apply(op, args, dtype):
            return Apply(op, tuple(_renumbered(arg, places) for arg in args), dtype)
    return expr


def _operand(value: Value, dtype: DType | None, result: DType, channels_last: bool) -> Operand:
    own = dtype or value.type.dtype
    if value.constant is None:
        return Operand(_view(_dims(value), own, channels_last))
    dims = _dims(value)
    return Operand.of_constant(View(own, dims, row_major_strides(dims)), value.constant.astype(own.numpy), result)


def _view(dims: tuple[int, ...], dtype: DType, channels_last: bool) -> View:
    """Activations as they lie inside a network; few channels, as of pictures that come in, are planes."""
    if not channels_last or len(dims) < 3 or dims[1] < FEW_CHANNELS:
        return View(dtype, dims, row_major_strides(dims))
    moved = (dims[0], *dims[2:], dims[1])
    batch, *spatial, channel = row_major_strides(moved)
    return View(dtype, dims, (batch, channel, *spatial))


def _dims(value: Value) -> tuple[int, ...]:
    return tuple(int(dim) for dim in value.type.dims)
