"""If, Loop and Scan: written out where they are known while importing and short, else as operators with regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.branch_sizes import with_counts, without_rest
from edgecc.frontend.call import Call
from edgecc.frontend.computed_sizes import first_of
from edgecc.frontend.converters.movement import stacked
from edgecc.frontend.counted_loops import iterations
from edgecc.frontend.growing_states import without_growing_states
from edgecc.frontend.intervals import interval_of
from edgecc.frontend.items import Item, Unknown
from edgecc.frontend.regions import NO_SHAPES, Region, converted, finish, inside, new_region
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.dims import Dim, Symbol, fixing_hint, upper_bound
from edgecc.ir.graph import Value, symbols_of_node
from edgecc.ir.instance import graph_symbols
from edgecc.ir.scalar import apply, literal
from edgecc.ir.types import DType, Shape, TensorType
from edgecc.ops.control import If, Loop
from edgecc.ops.indexing import Gather

UNROLLED_STEPS = 1024
"""Longest loop that is written out."""

UNROLLED_NODES = 2048
"""Most nodes of a loop that is written out although it can be run as a loop: iterations times nodes of the body."""

_FOREVER = 2**63 - 1
_COUNT = TensorType(DType.I64, ())
_SHAPES_HINT = "export the model so that all shapes in it are the same in each run"


@converter("If")
def _if(call: Call) -> list[Item | None]:
    """The branch that is chosen, where that is known; else both, as regions."""
    condition = call.input()
    if condition.constant is not None:
        chosen = call.graph("then_branch" if call.known_bool(0, "the condition") else "else_branch")
        return list(call.importer.run_body(chosen, call.scope))
    wanted = [index for index in range(len(call.node.output)) if call.wants(index)]
    regions: list[Region] = []
    results: list[list[Value]] = []
    complete, met = True, len(call.importer.failures)
    way_out = _deciding_bounds(call, condition)
    for name, attribute in zip(If.regions, ("then_branch", "else_branch"), strict=True):
        region, branch = new_region(call, name), call.graph(attribute)
        if len(branch.output) != len(call.node.output):
            raise EdgeccError("E102", f"a branch has {len(branch.output)} outputs, the node {len(call.node.output)}")
        values = _converted(call, region, branch, (), (condition,), open_results=True)
        complete &= values is not None
        regions.append(region)
        results.append([] if values is None else [values[index] for index in wanted])
    if not complete:
        call.importer.hint_at_failures(met, way_out)
        return [Unknown()] * len(call.node.output)
    for position, pair in enumerate(zip(*results, strict=True)):
        for region, values, value in zip(regions, results, _single_elements(pair), strict=True):
            if value is not None:
                with inside(call, region):
                    values[position] = region.emitter.local(call.reshape(values[position], value))
    found = with_counts(call, regions, results)
    for then, otherwise in zip(*results, strict=True):
        if then.type != otherwise.type:
            raise Unsupported(f"the branches return {then.type} and {otherwise.type}; at run time both must be of one type",
                              way_out or _SHAPES_HINT, needs=(condition,))
    graphs, captured = finish(regions, results)
    returned = call.importer.emitter.emit_regions(If(), [condition, *captured], graphs, call.loc)
    outputs = iter(without_rest(call, returned, [printable(call.node.output[index]) for index in wanted], found))
    return [next(outputs) if call.wants(index) else None for index in range(len(call.node.output))]


def _deciding_bounds(call: Call, condition: Value) -> str:
    """What to do so that it is known which branch is taken; "" where more than the sizes of inputs decide it."""
    sizes: set[Symbol] = set()
    left = [condition]
    while left:
        value = left.pop()
        if value.constant is not None:
            continue
        if value.producer is None or value.producer.regions:
            return ""
        sizes |= symbols_of_node(value.producer)
        left += [operand for operand in value.producer.inputs if operand is not None]
    if not sizes or not sizes <= set(graph_symbols(call.importer.graph)):
        return ""
    return f"the run decides which branch is taken: {fixing_hint(sorted(sizes, key=lambda size: size.name))}, or bounds that decide it"


def _single_elements(pair: Sequence[Value]) -> Sequence[Shape | None]:
    """Shapes for what two branches return where both are one number but of other ranks, as conditions often are: the larger rank for both."""
    types = [value.type for value in pair]
    if types[0] == types[1] or types[0].dtype is not types[1].dtype or any(t.shape != (1,) * t.rank for t in types):
        return [None] * len(pair)
    rank = max(t.rank for t in types)
    return [None if t.rank == rank else (1,) * rank for t in types]


@converter("Loop")
def _loop(call: Call) -> list[Item | None]:
    """As `_as_stated`, with stacked results instead of states that grow."""
    body = call.graph("body")
    _checked_body(body, len(call.inputs), len(call.inputs) - 1)
    stacking = without_growing_states(call, body)
    mark = call.importer.mark()
    try:
        return _as_stated(call) if stacking is None else stacking.results(_as_stated(stacking.call, stacking.rows))
    except Unsupported:
        stacking = without_growing_states(call, body, sequences=True)
        if stacking is None:
            raise
        call.importer.restore(mark)
        return stacking.results(_as_stated(stacking.call, stacking.rows))


def _as_stated(call: Call, shapes: Mapping[int, Sequence[Dim]] = NO_SHAPES) -> list[Item | None]:
    """Written out where the conditions are constant and the iterations few, else as a region, whose results have `shapes`."""
    body = call.graph("body")
    trips, condition = call.optional(0), call.optional(1)
    carried: list[Item | None] = list(call.inputs[2:])
    stacks = _checked_body(body, 2 + len(carried), 1 + len(carried))
    count = _iterations(call)

    def written_out() -> list[Item | None] | None:
        return _unrolled(call, body, carried, stacks, 0 if count is None else count)

    def region() -> list[Item | None] | None:
        return _looped(call, body, trips, condition, carried, stacks, shapes)

    if count is None or (stacks and count <= 0):
        ways: Sequence[Callable[[], list[Item | None] | None]] = (region,)
    elif count == _FOREVER:
        ways = (written_out, region)
    elif count > UNROLLED_STEPS:
        ways = (region,)
    elif count * len(body.node) > UNROLLED_NODES:
        ways = (region, written_out)
    else:
        ways = (written_out, region)
    return _first(call, ways, region)


def _iterations(call: Call) -> int | None:
    """The most iterations a Loop may run, without its body's conditions; None where that is known at run time only."""
    trips, condition = call.optional(0), call.optional(1)
    if any(value is not None and value.constant is None for value in (trips, condition)):
        return None
    if condition is not None and not call.known_bool(1, "the condition"):
        return 0
    return _FOREVER if trips is None else call.known_int(0, "the trip count")


def _first(call: Call, ways: Sequence[Callable[[], list[Item | None] | None]], told: Callable[[], list[Item | None] | None]) -> list[Item | None]:
    """The results of the first way that works; where none does, the problems are those of the way `told`."""
    for way in ways[:-1] if ways[-1] is told else ways:
        mark = call.importer.mark()
        try:
            results = way()
        except Unsupported:
            results = None
        if results is not None:
            return results
        call.importer.restore(mark)
    results = told()
    return [Unknown()] * len(call.node.output) if results is None else results


def _unrolled(call: Call, body: onnx.GraphProto, carried: list[Item | None], stacks: int, trips: int) -> list[Item | None] | None:
    """One copy of the body for each iteration; None where a part of it cannot be converted.

    Raises: Unsupported where the number of iterations is not known or too large.
    """
    rounds: list[list[Value]] = [[] for _ in range(stacks)]
    step, going = 0, True
    while going and step < trips:
        if step >= UNROLLED_STEPS:
            raise Unsupported(f"a loop of more than {UNROLLED_STEPS} iterations whose body cannot be run as a loop",
                              "export the model without loops")
        given = [call.scalar(step, DType.I64), call.scalar(True, DType.BOOL), *carried]
        condition, *results = call.importer.run_body(body, call.scope, given)
        if any(isinstance(item, Unknown) for item in (condition, *results)):
            return None
        if not isinstance(condition, Value) or condition.constant is None:
            raise Unsupported("the condition to go on is computed at run time", "export the model without loops",
                              needs=(condition,) if isinstance(condition, Value) else ())
        going = bool(condition.constant.reshape(-1)[0])
        carried = list(results[:len(carried)])
        collect(rounds, results[len(carried):])
        step += 1
    return [*carried, *(stacked(call, values, 0) for values in rounds)]


def _looped(call: Call, body: onnx.GraphProto, trips: Value | None, condition: Value | None, carried: Sequence[Item | None],
            stacks: int, shapes: Mapping[int, Sequence[Dim]]) -> list[Item | None] | None:
    """The loop as a region; None where a part of its body cannot be converted."""
    needs = [value for value in (trips, condition) if value is not None]
    states = _tensors(carried, needs)
    region = new_region(call, "body", [("iteration", _COUNT, trips), *((f"state_{i}", v.type, v) for i, v in enumerate(states)),
                                       *([("count", _COUNT, None)] if stacks else [])])
    call.importer.iterations.add(region.inputs[0])
    with inside(call, region):
        rank = len(body.input[0].type.tensor_type.shape.dim)
        given: list[Item | None] = [call.reshape(region.inputs[0], (1,) * rank) if rank <= 1 else region.inputs[0],
                                    call.scalar(True, DType.BOOL), *region.inputs[1:1 + len(states)]]
    results = _converted(call, region, body, given, needs, shapes=shapes)
    if results is None:
        return None
    final = [value.type.shape for value in results[1:1 + len(states)]]
    if _runs_once(trips, condition):
        region, states = _with_unread_states(call, region, states, results[1:1 + len(states)])
        results[1:1 + len(states)] = _with_the_rank_before(call, region, states, results[1:1 + len(states)])
    _check_states(states, results[1:1 + len(states)], needs)
    counted_in = (trips, condition, region.inputs[0], states, region.inputs[1:1 + len(states)], results, region.emitter.captures)
    count_of_run = iterations(*counted_in)
    if stacks and count_of_run is not None:
        rows, padded = upper_bound(count_of_run), not isinstance(count_of_run, int)
    else:
        rows, padded = _rows(call, body, len(states), trips, condition, results, needs, iterations(*counted_in, at_most=True)) if stacks else (0, False)
    if stacks and (not padded or count_of_run is not None):
        region = replace(region, inputs=region.inputs[:-1])
    elif stacks:  # the number of iterations is one more state
        with inside(call, region):
            counted = call.map(lambda i: apply("add", i, literal(1, DType.I64)), region.inputs[0])
        results.insert(1 + len(states), region.emitter.local(counted))
        states.append(call.scalar(0, DType.I64))
    (graph,), captured = finish([region], [results])
    op = Loop(len(states), max(call.importer.limits.trip_count, rows), stacked=(False,) * stacks, rows=rows, padded=padded)
    count = call.scalar(_FOREVER, DType.I64) if trips is None else trips
    go_on = call.scalar(True, DType.BOOL) if condition is None else condition
    values = list(call.importer.emitter.emit_regions(op, [count, go_on, *states, *captured], [graph], call.loc))
    values[:len(final)] = [call.reshape(value, shape) for value, shape in zip(values, final, strict=False)]
    if not padded:
        return list(values)
    if count_of_run is not None:
        return [*values[:len(states)], *(call.slice(value, 0, 0, count_of_run) for value in values[len(states):])]
    number, what = values[len(states) - 1], "the number of iterations"
    return [*values[:len(states) - 1], *(first_of(call, value, 0, number, what, name=call.node.output[len(carried)]) for value in values[len(states):])]


def _runs_once(trips: Value | None, condition: Value | None) -> bool:
    """Whether the first iteration is sure to run."""
    return all(value is None or (value.constant is not None and value.constant.reshape(-1)[0] > 0) for value in (trips, condition))


def _with_unread_states(call: Call, region: Region, states: Sequence[Value], results: Sequence[Value]) -> tuple[Region, list[Value]]:
    """States that are only written begin as zeros of the type that they get: exporters put any number there for a name without a value yet."""
    inputs, initial = list(region.inputs), list(states)
    for position, (state, result) in enumerate(zip(states, results, strict=True)):
        inner = inputs[1 + position]
        if state.type != result.type and result.type.is_static and not inner.users and inner not in results:
            inputs[1 + position] = region.emitter.input(result.type, f"state_{position}")
            initial[position] = call.expand(call.scalar(0, result.type.dtype), result.type.dims)
    return replace(region, inputs=tuple(inputs)), initial


def _with_the_rank_before(call: Call, region: Region, states: Sequence[Value], results: Sequence[Value]) -> list[Value]:
    """The states after an iteration; single numbers get the rank that they had before it."""
    with inside(call, region):
        return [region.emitter.local(call.reshape(result, state.type.dims))
                if state.type.dtype is result.type.dtype and state.type.is_static and result.type.is_static
                and state.type.elements == result.type.elements == 1 else result for state, result in zip(states, results, strict=True)]


def _rows(call: Call, body: onnx.GraphProto, carried: int, trips: Value | None, condition: Value | None, results: Sequence[Value],
          needs: Sequence[Value], bound: Dim | None) -> tuple[int, bool]:
    """How many rows stacked results have at most, and whether there may be fewer, one for each iteration there is.

    `bound`: what the iterations do not exceed by what the body says, where it says something.
    Raises: Unsupported where nothing says it.
    """
    count = None if trips is None or trips.constant is None else max(0, int(trips.constant.reshape(-1)[0]))
    first = np.array(True) if condition is None else condition.constant
    if first is not None and not first.reshape(-1)[0]:
        return 0, False
    again = results[0].constant
    if count is not None and first is not None and again is not None and again.reshape(-1)[0]:
        return count, False
    for name in call.node.output[carried:]:
        declared = call.scope.types.get(name)
        if declared is not None and declared.tensor_type.shape.dim and declared.tensor_type.shape.dim[0].HasField("dim_value"):
            return max(0, int(declared.tensor_type.shape.dim[0].dim_value)), False
    limits = call.importer.limits
    most = max(0, min(interval_of(trips).high if trips is not None else _FOREVER, _FOREVER if bound is None else upper_bound(bound)))
    if limits.collected_rows:
        return min(most, limits.collected_rows), True
    if most <= limits.trip_count:
        return most, True
    raise Unsupported("the number of rows that the results are collected in is known only at run time",
                      "state the shapes of the results in the model, or give --limits collected_rows=NUMBER", needs=needs)


@converter("Scan", since=9)
def _scan(call: Call) -> list[Item | None]:
    """Written out, one copy of the body for each element along the scanned axes, or as a region where these are many."""
    body, count = call.graph("body"), call.integer("num_scan_inputs")
    states: list[Item | None] = list(call.inputs[:len(call.inputs) - count])
    scanned = [call.input(index) for index in range(len(states), len(call.inputs))]
    stacks = _checked_body(body, len(call.inputs), len(states))
    if count < 1 or len(scanned) != count:
        raise EdgeccError("E102", f"num_scan_inputs is {count}; there are {len(call.inputs)} operands")
    axes = [call.axis(axis, x.type.rank) for axis, x in zip(_listed(call, "scan_input_axes", count), scanned, strict=True)]
    backwards = _directions(call, "scan_input_directions", count)
    out_axes = _listed(call, "scan_output_axes", stacks)
    out_back = _directions(call, "scan_output_directions", stacks)
    return _scanned(call, body, states, scanned, axes, backwards, out_axes, out_back)


@converter("Scan", since=8, until=8)
def _scan_of_batch(call: Call) -> list[Item | None]:
    """The scan of opset 8: one for each member of a batch, along the second axis of all operands."""
    body, count = call.graph("body"), call.integer("num_scan_inputs")
    operands = [call.input(index) for index in range(1, len(call.inputs))]
    stacks = _checked_body(body, len(operands), len(operands) - count)
    if not 1 <= count <= len(operands) or min(x.type.rank for x in operands[-count:]) < 2 or len({x.type.dims[:1] for x in operands}) != 1:
        raise EdgeccError("E110", f"num_scan_inputs is {count}; the operands are {', '.join(str(x.type) for x in operands)}")
    batch, steps = operands[-1].type.dims[:2]
    if call.optional(0) is not None and call.known_ints(0, "sequence_lens") != (steps,) * batch:
        raise Unsupported("members of the batch have different lengths", "convert the model to opset 9")
    if not 1 <= batch <= UNROLLED_STEPS:
        raise Unsupported(f"a batch of {batch}", "convert the model to opset 9")
    backwards = _directions(call, "directions", count)
    members: list[list[Value]] = [[] for _ in call.node.output]
    for member in range(batch):
        own = [_element(call, x, 0, member) for x in operands]
        results = _scanned(call, body, list(own[:-count]), own[-count:], [0] * count, backwards, (0,) * stacks, [False] * stacks)
        if any(isinstance(item, Unknown) for item in results):
            return [Unknown()] * len(members)
        collect(members, [item for item in results if item is not None])
    return [stacked(call, values, 0) for values in members]


def _scanned(call: Call, body: onnx.GraphProto, states: list[Item | None], scanned: Sequence[Value], axes: Sequence[int],
             backwards: Sequence[bool], out_axes: Sequence[int], out_back: Sequence[bool]) -> list[Item | None]:
    """The final states and the stacked results of a scan."""
    lengths = tuple(dict.fromkeys(x.type.shape[axis] for axis, x in zip(axes, scanned, strict=True)))
    if len(lengths) != 1:
        raise EdgeccError("E110", f"the scanned axes have different sizes: {', '.join(map(str, lengths))}")
    (steps,), stacks = lengths, len(out_axes)

    def written_out() -> list[Item | None] | None:
        return _unrolled_scan(call, body, states, scanned, axes, backwards, out_axes, out_back)

    def region() -> list[Item | None] | None:
        return _looped_scan(call, body, states, scanned, axes, backwards, out_axes, out_back)

    if not isinstance(steps, int) or steps > UNROLLED_STEPS or (stacks and steps == 0):
        return _first(call, (region,), region)
    ways = (region, written_out) if steps * len(body.node) > UNROLLED_NODES else (written_out,)
    return _first(call, ways, written_out)


def _unrolled_scan(call: Call, body: onnx.GraphProto, states: list[Item | None], scanned: Sequence[Value], axes: Sequence[int],
                   backwards: Sequence[bool], out_axes: Sequence[int], out_back: Sequence[bool]) -> list[Item | None] | None:
    steps = int(scanned[0].type.shape[axes[0]])
    rounds: list[list[Value]] = [[] for _ in out_axes]
    for step in range(steps):
        given = [_element(call, x, axis, steps - 1 - step if back else step)
                 for x, axis, back in zip(scanned, axes, backwards, strict=True)]
        results = call.importer.run_body(body, call.scope, [*states, *given])
        if any(isinstance(item, Unknown) for item in results):
            return None
        states = list(results[:len(states)])
        collect(rounds, results[len(states):])
    return [*states, *(stacked(call, values[::-1] if back else values, axis)
                       for values, axis, back in zip(rounds, out_axes, out_back, strict=True))]


def _looped_scan(call: Call, body: onnx.GraphProto, states: list[Item | None], scanned: Sequence[Value], axes: Sequence[int],
                 backwards: Sequence[bool], out_axes: Sequence[int], out_back: Sequence[bool]) -> list[Item | None] | None:
    """The scan as a loop over the rows of operands whose scanned axis was brought to the front."""
    steps, initial = scanned[0].type.shape[axes[0]], _tensors(states, ())
    fronted = [call.transpose(x, (axis, *(a for a in range(x.type.rank) if a != axis))) for x, axis in zip(scanned, axes, strict=True)]
    is_open = not isinstance(steps, int)
    if is_open:  # loops count rows from the front only
        fronted = [_reversed(call, x, steps) if back else x for x, back in zip(fronted, backwards, strict=True)]
        backwards = [False] * len(backwards)
    region = new_region(call, "body", [
        ("iteration", _COUNT, None), *((f"state_{i}", v.type, v) for i, v in enumerate(initial)),
        *((f"row_{i}", TensorType(x.type.dtype, x.type.shape[1:]), x) for i, x in enumerate(fronted))])
    results = _converted(call, region, body, region.inputs[1:], ())
    if results is None:
        return None
    _check_states(initial, results[:len(initial)], ())
    with inside(call, region):
        again = call.scalar(True, DType.BOOL)
    (graph,), captured = finish([region], [[again, *results]])
    rows = upper_bound(steps)
    op = Loop(len(initial), rows, tuple(backwards), tuple(back and not is_open for back in out_back), rows, is_open)
    operands = [call.reshape(call.sizes([steps]), ()), call.scalar(True, DType.BOOL), *initial, *fronted, *captured]
    values = call.importer.emitter.emit_regions(op, operands, [graph], call.loc)
    moved = []
    for value, axis, back in zip(values[len(initial):], out_axes, out_back, strict=True):
        if is_open:
            value = call.slice(value, 0, 0, steps)  # noqa: PLW2901
            value = _reversed(call, value, steps) if back else value  # noqa: PLW2901
        rest = list(range(1, value.type.rank))
        rest.insert(call.axis(axis, value.type.rank), 0)
        moved.append(call.transpose(value, rest))
    return [*values[:len(initial)], *moved]


def _reversed(call: Call, x: Value, steps: Dim) -> Value:
    """The `steps` rows of `x` from the last to the first."""
    indices = call.map(lambda i, n: apply("sub", apply("sub", n, literal(1, DType.I64)), i), call.positions(steps),
                       call.reshape(call.sizes([steps]), ()))
    return call.add(Gather(0), x, indices)


# -- what they share ----------------------------------------------------------------------------


def _converted(call: Call, region: Region, body: onnx.GraphProto, given: Sequence[Item | None],
               needs: Sequence[Value], *, open_results: bool = False, shapes: Mapping[int, Sequence[Dim]] = NO_SHAPES) -> list[Value] | None:
    """The results of a region, or None; were `needs` constants, what is wrong in it might not matter."""
    try:
        values = converted(call, region, body, given, open_results=open_results, shapes=shapes)
    except Unsupported as problem:
        raise Unsupported(problem.reason, problem.hint, needs=(*problem.needs, *needs)) from None
    if values is None:
        call.importer.need(needs)
    return values


def _tensors(items: Sequence[Item | None], needs: Sequence[Value]) -> list[Value]:
    """The initial states of a loop that is run as one."""
    states = []
    for item in items:
        if not isinstance(item, Value):
            raise Unsupported("what is carried from iteration to iteration is no tensor, which it would have to be at run time",
                              "export the model without sequences and optionals in loops", needs=needs)
        states.append(item)
    return states


def _check_states(states: Sequence[Value], results: Sequence[Value], needs: Sequence[Value]) -> None:
    for number, (state, result) in enumerate(zip(states, results, strict=True)):
        if state.type != result.type:
            raise Unsupported(f"value {number} that is carried from iteration to iteration changes from {state.type} to "
                              f"{result.type}; at run time it must keep its type", _SHAPES_HINT, needs=needs)


def _checked_body(body: onnx.GraphProto, inputs: int, carried: int) -> int:
    """The number of results of a loop body that are collected; checks that the body fits the node."""
    if len(body.input) != inputs or len(body.output) < carried:
        raise EdgeccError("E102", f"the body '{printable(body.name)}' has {len(body.input)} inputs and {len(body.output)} "
                                  f"outputs; wanted {inputs} and at least {carried}")
    return len(body.output) - carried


def _listed(call: Call, name: str, count: int) -> tuple[int, ...]:
    entries = call.ints(name)
    if entries is None:
        return (0,) * count
    if len(entries) != count:
        raise EdgeccError("E102", f"{name} has {len(entries)} entries, wanted {count}")
    return entries


def _directions(call: Call, name: str, count: int) -> list[bool]:
    """Whether each axis is taken from its end."""
    entries = _listed(call, name, count)
    if not set(entries) <= {0, 1}:
        raise EdgeccError("E102", f"{name} is {list(entries)}, wanted 0 or 1 for each")
    return [entry == 1 for entry in entries]


def _element(call: Call, x: Value, axis: int, position: int) -> Value:
    part = call.slice(x, axis, position, 1)
    return call.reshape(part, [size for a, size in enumerate(x.type.shape) if a != axis])


def collect(rounds: list[list[Value]], results: list[Item]) -> None:
    """Adds the results of one iteration to those of the iterations before it."""
    for values, item in zip(rounds, results, strict=True):
        if not isinstance(item, Value):
            raise Unsupported("a result that is no tensor is collected over the iterations")
        values.append(item)
