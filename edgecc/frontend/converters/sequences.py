"""Sequences and optionals, which exist only while importing."""

from __future__ import annotations

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.converters.loops import collect
from edgecc.frontend.converters.movement import concat, cut, stacked
from edgecc.frontend.growing_states import joined_rows
from edgecc.frontend.items import Item, Missing, StackedSequence, TensorSequence, Unknown
from edgecc.frontend.known import known_data
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.types import DType
from edgecc.ops.indexing import Gather


def _sequence(call: Call, index: int = 0) -> tuple[Value, ...]:
    item = call.inputs[index] if index < len(call.inputs) else None
    if not isinstance(item, TensorSequence):
        raise Unsupported("the length of a sequence is not known", "export the model without sequences")
    return item.items


def _stack(call: Call) -> Value | None:
    """The tensors of the sequence in operand 0, stacked, where the run decides how many there are."""
    item = call.inputs[0] if call.inputs else None
    return item.rows if isinstance(item, StackedSequence) else None


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
    """At a computed position a row of the stacked tensors, which all have one shape then."""
    position, stack = call.input(1), _stack(call)
    if stack is not None:
        return call.add(Gather(0), stack, call.reshape(position, ()))
    items = _sequence(call)
    if known_data(position) is None and items and all(item.type == items[0].type for item in items):
        return call.add(Gather(0), stacked(call, list(items), 0), call.reshape(position, ()))
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
    stack = _stack(call)
    if stack is not None:
        return call.reshape(call.sizes([stack.type.shape[0]]), ())
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
        collect(rounds, results)
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
    stack = _stack(call)
    if stack is not None and call.flag("new_axis"):
        axis = call.axis(call.integer("axis"), stack.type.rank)
        return call.transpose(stack, [*range(1, axis + 1), 0, *range(axis + 1, stack.type.rank)])
    if stack is not None:
        return joined_rows(call, stack, call.axis(call.integer("axis"), stack.type.rank - 1))
    items = _sequence(call)
    if not items:
        raise EdgeccError("E110", "an empty sequence cannot be joined")
    if call.flag("new_axis"):
        return stacked(call, list(items), call.integer("axis"))
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
