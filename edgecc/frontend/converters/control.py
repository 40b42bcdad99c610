"""If, Loop and Scan as far as they are known while importing, sequences and optionals."""

from __future__ import annotations

import onnx

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.converters.movement import concat, cut
from edgecc.frontend.items import Item, Missing, TensorSequence, Unknown
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.types import DType

_UNROLLED_STEPS = 1024
"""Longest loop that is written out; longer ones are not compiled."""


@converter("If")
def _if(call: Call) -> list[Item | None]:
    condition = call.input().constant
    if condition is None:
        raise Unsupported("the condition is computed at run time",
                          "export the model for one fixed case, so that the condition is a constant", needs=(call.input(),))
    chosen = call.graph("then_branch" if call.known_bool(0, "the condition") else "else_branch")
    return list(call.importer.run_body(chosen, call.scope))


@converter("Loop")
def _loop(call: Call) -> list[Item | None]:
    """Written out, where the number of rounds is known: a constant trip count, and conditions that are constant."""
    body = call.graph("body")
    trips = None if call.optional(0) is None else call.known_int(0, "the trip count")
    going = True if call.optional(1) is None else call.known_bool(1, "the condition")
    carried: list[Item | None] = list(call.inputs[2:])
    stacks = _checked_body(body, 2 + len(carried), 1 + len(carried))
    rounds: list[list[Value]] = [[] for _ in range(stacks)]
    step = 0
    while going and (trips is None or step < trips):
        if (step == 0 and trips is not None and trips > _UNROLLED_STEPS) or step >= _UNROLLED_STEPS:
            raise Unsupported(f"a loop of more than {_UNROLLED_STEPS} rounds", "export the model without loops")
        given = [call.scalar(step, DType.I64), call.scalar(True, DType.BOOL), *carried]
        condition, *results = call.importer.run_body(body, call.scope, given)
        if any(isinstance(item, Unknown) for item in (condition, *results)):
            return [Unknown()] * len(call.node.output)
        if not isinstance(condition, Value) or condition.constant is None:
            raise Unsupported("the condition to go on is computed at run time", "export the model without loops",
                              needs=(condition,) if isinstance(condition, Value) else ())
        going = bool(condition.constant.reshape(-1)[0])
        carried = list(results[:len(carried)])
        _collect(rounds, results[len(carried):])
        step += 1
    return [*carried, *(_stacked(call, values, 0, backwards=False) for values in rounds)]


@converter("Scan", since=9)
def _scan(call: Call) -> list[Item | None]:
    """Written out: one copy of the body for each element along the scanned axes."""
    body, count = call.graph("body"), call.integer("num_scan_inputs")
    states: list[Item | None] = list(call.inputs[:len(call.inputs) - count])
    scanned = [call.input(index) for index in range(len(states), len(call.inputs))]
    stacks = _checked_body(body, len(call.inputs), len(states))
    if count < 1 or len(scanned) != count:
        raise EdgeccError("E102", f"num_scan_inputs is {count}; there are {len(call.inputs)} operands")
    axes = [call.axis(axis, x.type.rank) for axis, x in zip(_listed(call, "scan_input_axes", count), scanned, strict=True)]
    backwards = _listed(call, "scan_input_directions", count)
    lengths = {x.type.dims[axis] for axis, x in zip(axes, scanned, strict=True)}
    if len(lengths) != 1:
        raise EdgeccError("E110", f"the scanned axes have different sizes: {sorted(lengths)}")
    (steps,) = lengths
    if steps > _UNROLLED_STEPS:
        raise Unsupported(f"a scan of more than {_UNROLLED_STEPS} steps", "export the model without scans")
    rounds: list[list[Value]] = [[] for _ in range(stacks)]
    for step in range(steps):
        given = [_element(call, x, axis, steps - 1 - step if back else step)
                 for x, axis, back in zip(scanned, axes, backwards, strict=True)]
        results = call.importer.run_body(body, call.scope, [*states, *given])
        if any(isinstance(item, Unknown) for item in results):
            return [Unknown()] * len(call.node.output)
        states = list(results[:len(states)])
        _collect(rounds, results[len(states):])
    out_axes, out_back = _listed(call, "scan_output_axes", stacks), _listed(call, "scan_output_directions", stacks)
    return [*states, *(_stacked(call, values, axis, backwards=bool(back))
                       for values, axis, back in zip(rounds, out_axes, out_back, strict=True))]


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


def _element(call: Call, x: Value, axis: int, position: int) -> Value:
    part = call.slice(x, axis, position, 1)
    return call.reshape(part, [size for a, size in enumerate(x.type.dims) if a != axis])


def _collect(rounds: list[list[Value]], results: list[Item]) -> None:
    for values, item in zip(rounds, results, strict=True):
        if not isinstance(item, Value):
            raise Unsupported("a result that is no tensor is collected over the rounds")
        values.append(item)


def _stacked(call: Call, values: list[Value], axis: int, *, backwards: bool) -> Value:
    """The values along a new axis."""
    if not values:
        raise Unsupported("results are collected over no rounds at all, so that their shape is unknown")
    rank = values[0].type.rank + 1
    at = call.axis(axis, rank)
    ordered = values[::-1] if backwards else values
    widened = [call.reshape(v, (*v.type.dims[:at], 1, *v.type.dims[at:])) for v in ordered]
    return concat(call, widened, at)


# -- sequences and optionals, which exist only while importing ----------------------------------


def _sequence(call: Call, index: int = 0) -> tuple[Value, ...]:
    item = call.inputs[index] if index < len(call.inputs) else None
    if not isinstance(item, TensorSequence):
        raise Unsupported("the length of a sequence is not known", "export the model without sequences")
    return item.items


def _position(call: Call, index: int, count: int, *, end_allowed: bool = False) -> int:
    position = call.known_int(index, "the position")
    if not -count <= position < count + end_allowed:
        raise EdgeccError("E110", f"position {position} is outside a sequence of {count}")
    return position + count if position < 0 else position


@converter("SequenceConstruct")
def _sequence_construct(call: Call) -> TensorSequence:
    return TensorSequence(call.values())


@converter("SequenceEmpty")
def _sequence_empty(call: Call) -> TensorSequence:
    return TensorSequence(())


@converter("SequenceAt")
def _sequence_at(call: Call) -> Value:
    items = _sequence(call)
    return items[_position(call, 1, len(items))]


@converter("SequenceInsert")
def _sequence_insert(call: Call) -> TensorSequence:
    items = _sequence(call)
    at = len(items) if call.optional(2) is None else _position(call, 2, len(items), end_allowed=True)
    return TensorSequence((*items[:at], call.input(1), *items[at:]))


@converter("SequenceErase")
def _sequence_erase(call: Call) -> TensorSequence:
    items = _sequence(call)
    at = len(items) - 1 if call.optional(1) is None else _position(call, 1, len(items))
    return TensorSequence((*items[:at], *items[at + 1:]))


@converter("SequenceLength")
def _sequence_length(call: Call) -> Value:
    return call.scalar(len(_sequence(call)), DType.I64)


@converter("SequenceMap")
def _sequence_map(call: Call) -> list[Item | None]:
    """One copy of the body for each element of the first sequence; tensors go to each of them whole."""
    body, count = call.graph("body"), len(_sequence(call))
    if len(body.input) != len(call.inputs):
        raise EdgeccError("E102", f"the body '{printable(body.name)}' has {len(body.input)} inputs; there are {len(call.inputs)} "
                                  "operands")
    if any(isinstance(item, TensorSequence) and len(item.items) != count for item in call.inputs):
        raise EdgeccError("E110", f"sequences differ in length; the first one has {count}")
    rounds: list[list[Value]] = [[] for _ in body.output]
    for index in range(count):
        given = [item.items[index] if isinstance(item, TensorSequence) else item for item in call.inputs]
        results = call.importer.run_body(body, call.scope, given)
        if any(isinstance(item, Unknown) for item in results):
            return [Unknown()] * len(call.node.output)
        _collect(rounds, results)
    return [TensorSequence(tuple(values)) for values in rounds]


@converter("SplitToSequence")
def _split_to_sequence(call: Call) -> TensorSequence:
    x = call.input()
    axis = call.axis(call.integer("axis", 0), x.type.rank)
    size = x.type.dims[axis]
    equal = 1 if call.optional(1) is None else call.known_int(1, "the size of the parts") if call.input(1).type.rank == 0 else 0
    if equal:
        if equal < 1 or size == 0 or -(-size // equal) > call.importer.limits.nodes:
            raise EdgeccError("E110", f"axis {axis} of {x.type} cannot be cut into parts of {equal}")
        sizes = tuple(min(equal, size - start) for start in range(0, size, equal))
    else:
        sizes = call.known_ints(1, "the sizes of the parts")
    if not sizes or sum(sizes) != size or min(sizes) < 0:
        raise EdgeccError("E110", f"axis {axis} of {x.type} cannot be cut into parts of sizes {list(sizes)}")
    parts = cut(call, x, axis, sizes)
    if call.optional(1) is None and not call.flag("keepdims", True):
        parts = [call.reshape(p, [d for a, d in enumerate(p.type.dims) if a != axis]) for p in parts]
    return TensorSequence(tuple(parts))


@converter("ConcatFromSequence")
def _concat_from_sequence(call: Call) -> Value:
    items = _sequence(call)
    if not items:
        raise EdgeccError("E110", "an empty sequence cannot be joined")
    if call.flag("new_axis"):
        return _stacked(call, list(items), call.integer("axis"), backwards=False)
    return concat(call, items, call.axis(call.integer("axis"), items[0].type.rank))


@converter("Optional")
def _optional(call: Call) -> Item:
    item = call.inputs[0] if call.inputs else None
    return Missing() if item is None else item


@converter("OptionalHasElement")
def _optional_has_element(call: Call) -> Value:
    item = call.inputs[0] if call.inputs else None
    return call.scalar(item is not None and not isinstance(item, Missing), DType.BOOL)


@converter("OptionalGetElement")
def _optional_get_element(call: Call) -> Item:
    item = call.inputs[0] if call.inputs else None
    if item is None or isinstance(item, Missing):
        raise EdgeccError("E110", "the optional holds nothing")
    return item
