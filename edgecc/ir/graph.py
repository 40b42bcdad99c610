"""The Graph IR: values, nodes and graphs in SSA form. These are the only mutable objects of the IR.

A value is produced by one node, or is a graph input, or is a constant. Identity is the object; a
name is only a hint, made unique when printed. Constants are read-only arrays owned by the graph.
All changes go through methods that keep the use lists true.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.dims import Symbol, symbols_within
from edgecc.ir.op import Op, RegionOp, Signature
from edgecc.ir.strings import array_bytes, is_string_array
from edgecc.ir.types import Array, Layout, TensorType


@dataclass(frozen=True)
class Use:
    """One place where a value is read: operand `index` of `node`. Compared by identity of the node."""

    node: Node
    index: int


class Value:
    """A tensor that flows along the edges of a graph.

    Attributes:
        name: a hint for printing, not an identity.
        producer: the node it is a result of, or None for graph inputs and constants.
        result_index: which result of the producer it is.
        constant: the data of a constant (a read-only array), else None.
        layout: the order of its axes in memory.
    """

    __slots__ = ("_digest", "_uses", "constant", "layout", "name", "producer", "result_index", "type")

    def __init__(self, tensor_type: TensorType, name: str, *, producer: Node | None = None,
                 result_index: int = 0, constant: Array | None = None) -> None:
        self.type = tensor_type
        self.name = name
        self.producer = producer
        self.result_index = result_index
        self.constant = constant
        self.layout = Layout.row_major(tensor_type.rank)
        self._uses: dict[tuple[int, int], Use] = {}
        self._digest: bytes | None = None

    @property
    def digest(self) -> bytes:
        """A 16-byte BLAKE2b digest of a constant's type and bytes, computed once; empty for other values."""
        if self.constant is None:
            return b""
        if self._digest is None:
            state = hashlib.blake2b(str(self.type).encode(), digest_size=16)
            state.update(array_bytes(self.constant) if is_string_array(self.constant)
                         else np.ascontiguousarray(self.constant).reshape(-1).view(np.uint8).data)
            self._digest = state.digest()
        return self._digest

    @property
    def uses(self) -> tuple[Use, ...]:
        """Every operand position that reads this value; graph outputs are not among them."""
        return tuple(self._uses.values())

    @property
    def users(self) -> tuple[Node, ...]:
        """The nodes that read this value, each once, in order of first use."""
        return tuple(dict.fromkeys(use.node for use in self._uses.values()))

    @property
    def use_count(self) -> int:
        """The number of operand positions that read this value."""
        return len(self._uses)

    @property
    def sole_user(self) -> Node | None:
        """The node that reads this value, at one or more positions, if no other one does; else None."""
        first = next((use.node for use in self._uses.values()), None)
        return first if all(use.node is first for use in self._uses.values()) else None

    def __repr__(self) -> str:
        return f"<Value %{self.name}: {self.type}>"


class Node:
    """An operator applied to values. Operands may be None where the operator allows it.

    Attributes:
        op: the operator with its attributes (frozen; replaced, never edited).
        inputs: the operands.
        outputs: the results, one value each.
        loc: names of the nodes of the user's model this node stands for.
        regions: the graphs a `RegionOp` runs, closed: all they read from outside are their inputs, bound to operands.
    """

    __slots__ = ("_graph", "_next", "_previous", "inputs", "loc", "op", "outputs", "regions")

    def __init__(self, op: Op, inputs: tuple[Value | None, ...], loc: tuple[str, ...], regions: tuple[Graph, ...] = ()) -> None:
        self.op = op
        self.inputs = inputs
        self.regions = regions
        self.outputs: tuple[Value, ...] = ()
        self.loc = loc
        # The graph keeps its nodes as a doubly linked list through these; only Graph writes them.
        self._graph: Graph | None = None
        self._previous: Node | None = None
        self._next: Node | None = None

    @property
    def output(self) -> Value:
        """The result of a node that has exactly one."""
        if len(self.outputs) != 1:
            raise EdgeccError("E900", f"{self.op.name} has {len(self.outputs)} results, one was expected")
        return self.outputs[0]

    def operand(self, index: int) -> Value:
        """Operand `index`, which must be present."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise EdgeccError("E900", f"operand {index} of {self.op.name} is absent")
        return value

    @property
    def input_types(self) -> tuple[TensorType | None, ...]:
        """Types of the operands; None where one is absent."""
        return tuple([None if v is None else v.type for v in self.inputs])

    def result_types(self) -> tuple[TensorType, ...]:
        """What the operator's shape rule says of the operands and regions as they are now. Raises: EdgeccError E110."""
        if isinstance(self.op, RegionOp) and self.regions:
            if len(self.regions) != len(self.op.regions):
                raise self.op.fail(f"has {len(self.regions)} regions, wanted {', '.join(self.op.regions)}")
            return self.op.infer_regions(self.input_types, [region.signature for region in self.regions])
        if self.regions:
            raise self.op.fail("owns graphs, which the operator has no use for")
        return self.op.infer(self.input_types)

    def __repr__(self) -> str:
        return f"<Node {self.op.name} -> {', '.join('%' + v.name for v in self.outputs)}>"


def symbols_of_node(node: Node) -> frozenset[Symbol]:
    """The sizes that a node's attributes and the types of its results depend on, but for the one it binds."""
    shapes = tuple(value.type.shape for value in node.outputs)
    attributes = () if node.op.binds is not None else tuple(getattr(node.op, field.name) for field in dataclasses.fields(node.op))
    return symbols_within((*shapes, *attributes))


def sizes_needed(node: Node) -> frozenset[Symbol]:
    """The sizes that must be known before a node runs: those it depends on, and those its regions do."""
    return symbols_of_node(node).union(*(region.symbols_used() for region in node.regions))


class Graph:
    """A network: inputs, nodes in a topological order, outputs.

    `input_names` and `output_names` are the names of the user's model, kept exactly; they belong to
    the interface and are never used as identities inside.
    """

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.input_names: list[str] = []
        self.outputs: list[Value] = []
        self._returned: set[int] = set()  # ids of the outputs
        self.output_names: list[str] = []
        self._first: Node | None = None
        self._last: Node | None = None
        self._count = 0

    # -- reading ------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes in order: a snapshot, safe to keep while the graph is edited."""
        return tuple(self._walk())

    @property
    def signature(self) -> Signature:
        """Types of the inputs and outputs."""
        return Signature(tuple(v.type for v in self.inputs), tuple(v.type for v in self.outputs))

    def all_graphs(self) -> Iterator[Graph]:
        """This graph, then the regions of its nodes and theirs, in order."""
        yield self
        for node in self._walk():
            for region in node.regions:
                yield from region.all_graphs()

    def _walk(self) -> Iterator[Node]:
        node = self._first
        while node is not None:
            yield node
            node = node._next

    def nodes_before(self, node: Node) -> Iterator[Node]:
        """The nodes in front of `node`, the nearest first. The graph may not be edited meanwhile."""
        previous = node._previous
        while previous is not None:
            yield previous
            previous = previous._previous

    def __contains__(self, node: Node) -> bool:
        return node._graph is self

    def __len__(self) -> int:
        return self._count

    def is_output(self, value: Value) -> bool:
        """Whether the graph returns this value."""
        return id(value) in self._returned

    def has_single_use(self, value: Value) -> bool:
        """Whether exactly one operand reads the value and the graph does not return it."""
        return value.use_count == 1 and not self.is_output(value)

    def values(self) -> Iterator[Value]:
        """Every value once: inputs, then constants and results in order of appearance, then constant outputs."""
        seen: dict[int, Value] = {id(v): v for v in self.inputs}
        yield from self.inputs
        for node in self._walk():
            for value in (*(v for v in node.inputs if v is not None), *node.outputs):
                if id(value) not in seen:
                    seen[id(value)] = value
                    yield value
        for value in self.outputs:
            if id(value) not in seen:
                seen[id(value)] = value
                yield value

    def constants(self) -> Iterator[Value]:
        """Every constant that is used, once, in order of appearance."""
        return (value for value in self.values() if value.constant is not None)

    def to_networkx(self) -> nx.DiGraph[Node]:
        """The nodes as a networkx digraph with an edge for each producer-to-user relation, of values and of sizes."""
        digraph: nx.DiGraph[Node] = nx.DiGraph()
        digraph.add_nodes_from(self._walk())
        for node in self._walk():
            for value in node.inputs:
                if value is not None and value.producer is not None:
                    digraph.add_edge(value.producer, node)
        binding = {node.op.binds: node for node in self._walk() if node.op.binds is not None}
        if binding:
            digraph.add_edges_from((binding[s], node) for node in self._walk() for s in sorted(sizes_needed(node), key=str)
                                   if s in binding and binding[s] is not node)
        return digraph

    # -- building -----------------------------------------------------------------------------

    def add_input(self, tensor_type: TensorType, name: str) -> Value:
        """Adds a graph input called `name` in the interface."""
        value = Value(tensor_type, name)
        self.inputs.append(value)
        self.input_names.append(name)
        return value

    def set_outputs(self, values: Sequence[Value], names: Sequence[str]) -> None:
        """Sets what the graph returns, with the names of the interface."""
        if len(values) != len(names):
            raise EdgeccError("E900", f"{len(values)} outputs with {len(names)} names")
        self.outputs = list(values)
        self._returned = {id(value) for value in values}
        self.output_names = list(names)

    def constant(self, array: Array, name: str = "c") -> Value:
        """A new constant. The array is copied and made read-only."""
        data = np.array(array, copy=True, order="C")
        data.setflags(write=False)
        return Value(TensorType.of(data), name, constant=data)

    def own_constant(self, other: Value) -> Value:
        """A constant of this graph that shares the (read-only) array of one of another graph."""
        value = Value(other.type, other.name, constant=other.constant)
        value._digest = other._digest
        return value

    def add(self, op: Op, *inputs: Value | None, before: Node | None = None, loc: Iterable[str] = (),
            name: str | None = None) -> Value:
        """Adds a node with one result and returns that result. See `add_node`."""
        return self.add_node(op, inputs, before=before, loc=loc, names=None if name is None else (name,)).output

    def add_node(self, op: Op, inputs: Sequence[Value | None], *, before: Node | None = None,
                 loc: Iterable[str] = (), names: Sequence[str] | None = None, regions: Sequence[Graph] = ()) -> Node:
        """Adds a node; the types of its results come from the operator's shape rule.

        Args:
            op: the operator.
            inputs: the operands; trailing absent ones may be left out.
            before: the node to insert in front of (in constant time); at the end without it.
            loc: names of the nodes of the user's model that this node stands for.
            names: name hints of the results.
            regions: the graphs of a `RegionOp`, which the node owns from now on.
        Raises: EdgeccError E110 where the operands do not fit the operator, E900 where `before` is not in the graph.
        """
        operands = tuple(inputs)
        while operands and operands[-1] is None:
            operands = operands[:-1]
        problem = op.arity_error(len(operands))
        if problem is not None:
            raise op.fail(problem)
        if before is not None and before not in self:
            raise EdgeccError("E900", f"cannot insert before {before!r}: it is not in the graph")
        node = Node(op, operands, tuple(dict.fromkeys(loc)), tuple(regions))
        types = node.result_types()
        hints = list(names) if names is not None else [op.name] * len(types)
        node.outputs = tuple(Value(t, n, producer=node, result_index=i)
                             for i, (t, n) in enumerate(zip(types, hints, strict=True)))
        for index, value in enumerate(operands):
            if value is not None:
                value._uses[(id(node), index)] = Use(node, index)
        self._link(node, before)
        return node

    def _link(self, node: Node, before: Node | None) -> None:
        """Puts a node in front of `before`, at the end without it. Takes constant time."""
        previous = self._last if before is None else before._previous
        node._graph, node._previous, node._next = self, previous, before
        if previous is None:
            self._first = node
        else:
            previous._next = node
        if before is None:
            self._last = node
        else:
            before._previous = node
        self._count += 1

    def _unlink(self, node: Node) -> None:
        """Takes a node out of the list. Takes constant time."""
        previous, following = node._previous, node._next
        if previous is None:
            self._first = following
        else:
            previous._next = following
        if following is None:
            self._last = previous
        else:
            following._previous = previous
        node._graph = node._previous = node._next = None
        self._count -= 1

    # -- editing ------------------------------------------------------------------------------

    def replace_all_uses(self, old: Value, new: Value) -> None:
        """Makes every user of `old`, and the graph's outputs, read `new` instead.

        Raises: EdgeccError E900 if the types differ.
        """
        if old is new:
            return
        if old.type != new.type:
            raise EdgeccError("E900", f"replacing %{old.name}: {old.type} by %{new.name}: {new.type}")
        for use in old.uses:
            self.set_operand(use.node, use.index, new)
        if self.is_output(old):
            self.outputs = [new if value is old else value for value in self.outputs]
            self._returned.discard(id(old))
            self._returned.add(id(new))

    def set_operand(self, node: Node, index: int, value: Value | None) -> None:
        """Replaces one operand. The node's results keep their types; the verifier checks them."""
        old = node.inputs[index]
        if old is not None:
            del old._uses[(id(node), index)]
        node.inputs = (*node.inputs[:index], value, *node.inputs[index + 1:])
        if value is not None:
            value._uses[(id(node), index)] = Use(node, index)

    def erase(self, node: Node) -> None:
        """Removes a node none of whose results is used or returned.

        Raises: EdgeccError E900 while a use remains.
        """
        if node not in self:
            raise EdgeccError("E900", f"erasing {node!r}, which is not in the graph")
        for value in node.outputs:
            if value.use_count or self.is_output(value):
                raise EdgeccError("E900", f"erasing {node!r} while %{value.name} is still used")
        for index, operand in enumerate(node.inputs):
            if operand is not None:
                del operand._uses[(id(node), index)]
        self._unlink(node)

    def erase_dead(self, roots: Iterable[Node]) -> None:
        """Erases each of `roots` that has no use left, and then what only it kept alive.

        A node that binds a size is used as long as another node or its regions depend on the size.
        """
        pending = list(roots)
        while pending:
            binding: list[Node] = []
            while pending:
                node = pending.pop()
                if node in self and not any(v.use_count or self.is_output(v) for v in node.outputs):
                    if node.op.binds is not None:
                        binding.append(node)
                        continue
                    operands = [v.producer for v in node.inputs if v is not None and v.producer is not None]
                    self.erase(node)
                    pending.extend(operands)
            if binding:
                used = self.symbols_used()
                for node in dict.fromkeys(binding):
                    if node.op.binds not in used:
                        pending += [v.producer for v in node.inputs if v is not None and v.producer is not None]
                        self.erase(node)

    def symbols_used(self) -> frozenset[Symbol]:
        """The sizes that attributes and types in this graph and in the regions of its nodes depend on."""
        found: set[Symbol] = set()
        for graph in self.all_graphs():
            for value in graph.inputs:
                found |= symbols_within(value.type.shape)
            for node in graph._walk():
                found |= symbols_of_node(node)
        return frozenset(found)

    def reorder(self, order: Sequence[Node]) -> None:
        """Sets the order of the nodes; `order` must be a permutation of them (the verifier checks that it is topological)."""
        if len(order) != len(self) or len(set(order)) != len(order) or any(node not in self for node in order):
            raise EdgeccError("E900", "the new order is not a permutation of the nodes")
        for node in order:
            self._unlink(node)
            self._link(node, None)

    def sort(self) -> None:
        """Restores a topological order, changing as little as possible of the present one."""
        position = {node: index for index, node in enumerate(self._walk())}
        try:
            order = list(nx.lexicographical_topological_sort(self.to_networkx(), key=position.__getitem__))
        except nx.NetworkXUnfeasible:
            raise EdgeccError("E900", "the graph has a cycle") from None
        self.reorder(order)

    def copy(self) -> Graph:
        """A deep copy, regions included, that shares the (read-only) constant arrays."""
        out = Graph(self.name)
        mapping: dict[int, Value] = {}

        def mapped(value: Value) -> Value:
            found = mapping.get(id(value))
            if found is None:
                found = Value(value.type, value.name, constant=value.constant)
                found.layout, found._digest = value.layout, value._digest
                mapping[id(value)] = found
            return found

        for value, name in zip(self.inputs, self.input_names, strict=True):
            mapping[id(value)] = out.add_input(value.type, name)
            mapping[id(value)].name, mapping[id(value)].layout = value.name, value.layout
        for node in self._walk():
            clone = Node(node.op, tuple(None if v is None else mapped(v) for v in node.inputs), node.loc,
                         tuple(region.copy() for region in node.regions))
            for index, operand in enumerate(clone.inputs):
                if operand is not None:
                    operand._uses[(id(clone), index)] = Use(clone, index)
            clone.outputs = tuple(Value(v.type, v.name, producer=clone, result_index=v.result_index) for v in node.outputs)
            for old, new in zip(node.outputs, clone.outputs, strict=True):
                new.layout = old.layout
                mapping[id(old)] = new
            out._link(clone, None)
        out.set_outputs([mapped(v) for v in self.outputs], self.output_names)
        return out
