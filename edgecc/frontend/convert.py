"""Walks the nodes of a model and converts each; collects everything that cannot be compiled.

A node that cannot be converted gives results that are `Unknown`, and the walk goes on; of nodes that
read them it still looks up the operator. So all problems are reported in one E105.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from edgecc.errors import EdgeccError, printable
from edgecc.frontend import converters as _converters  # noqa: F401  (registers every converter)
from edgecc.frontend.call import Call
from edgecc.frontend.converters.older import FIRST_CONVERTED, modernized
from edgecc.frontend.emit import Emitter
from edgecc.frontend.items import Item, KeyedColumns, Missing, Refused, StackedSequence, TensorSequence, Unknown
from edgecc.frontend.limits import Limits, raised
from edgecc.frontend.matching_sizes import groups_of, with_equal_sizes
from edgecc.frontend.registry import CONVERTERS, Undecided, Unsupported, find
from edgecc.frontend.shapes import infer_node
from edgecc.frontend.signatures import check_signature
from edgecc.frontend.structure import Schema, check_node, check_strings, live_nodes, node_label, schema_of
from edgecc.frontend.tensors import sparse_array, tensor_array
from edgecc.ir.dims import Dim, SymbolicDim
from edgecc.ir.graph import Graph, Value
from edgecc.ir.instance import graph_symbols

MICROSOFT = "com.microsoft"
_LENIENT_DOMAINS = {MICROSOFT: 1}
"""Domains whose operators are understood without an opset import, as onnxruntime does."""

MAX_FAILURES = 100
"""Errors in nodes that are kept, beside what is unsupported."""

_HINTS = {
    "ai.onnx.ml": "export the network without this step, and do it in the program around it",
    "com.microsoft": "if onnxruntime's optimizer wrote it, save the model without its optimisations; else build it of ONNX operators",
}
_QUANTIZED = ("QLinear", "DynamicQuantize", "QAttention", "QGemm", "QMoE", "Quantize", "Dequantize",
              "QuickQuantize")


_NOT_CROSS_CHECKED = frozenset({"Constant", "STFT"})
"""Constant: nothing to infer. STFT: the onnx package (1.23) overlooks that onesided is 1 by default."""


class Scope:
    """Names of one graph or function body.

    Attributes:
        items: what each name stands for.
        weights: stored tensors by name, turned into constants when first read.
        opsets: versions of the operator domains the nodes use.
        attributes: what attribute references in a function body stand for.
        parent: the scope around a graph inside a node; None for the top and for function bodies.
        is_top: whether these are the names of the model's own graph.
        emitter: of the graph that the stored tensors belong to.
        types: what the model says of the types of values.
        within: in the body that ONNX defines for an operator, the label of its node and its name; elsewhere both are empty.
    """

    def __init__(self, opsets: Mapping[str, int], parent: Scope | None = None,
                 attributes: Mapping[str, onnx.AttributeProto] | None = None, *, is_top: bool = False,
                 within: tuple[tuple[str, ...], str] = ((), "")) -> None:
        self.items: dict[str, Item | None] = {}
        self.weights: dict[str, onnx.TensorProto | onnx.SparseTensorProto] = {}
        self.opsets = opsets
        self.parent = parent
        self.attributes = attributes if attributes is not None else {}
        self.is_top = is_top
        self.emitter: Emitter | None = None
        self.types: dict[str, onnx.TypeProto] = {}
        self.within = within


@dataclass(frozen=True)
class Mark:
    """Where a conversion stood: nodes of the graph, and what was noted by then."""

    emitter: Emitter
    nodes: int
    unsupported: dict[Refused, None]
    failures: tuple[EdgeccError, ...]
    needed: dict[Value, None]
    notes: int
    computed_sizes: dict[tuple[Emitter, tuple[Value, int]], Dim]


class Importer:
    """Converts one model into one graph.

    Attributes:
        graph: the model's graph.
        unsupported: what cannot be compiled, in order.
        failures: the errors met in nodes, in order.
        notes: sentences about results whose types are not those that the onnx package infers.
        needed: inputs of the graph that keep nodes from being converted because they are not constants.
        emitter: adds to the graph that is being converted, the model's or a region of one of its nodes.
        sources: what inputs of regions stand for in the graphs around them.
        iterations: inputs of regions that are numbers of iterations, 0 or more.
        computed_sizes: sizes that nodes of a graph bind, by the emitter of the graph, a tensor, and a position in it.
    """

    def __init__(self, graph: Graph, limits: Limits, ir_version: int) -> None:
        self.graph = graph
        self.emitter = Emitter(graph, limits)
        self.limits = limits
        self.ir_version = ir_version
        self.unsupported: dict[Refused, None] = {}
        self.failures: tuple[EdgeccError, ...] = ()
        self.notes: list[str] = []
        self.opened_batch: SymbolicDim | None = None
        self.binds_values = False  # whether inputs that would better be known become constants
        self.needed: dict[Value, None] = {}
        self.sources: dict[Value, Value] = {}
        self.iterations: set[Value] = set()
        self.computed_sizes: dict[tuple[Emitter, tuple[Value, int]], Dim] = {}
        self._size_names: set[str] = set()
        self._depth = 0
        self._visited = 0
        self._unrolled = 0

    # -- graphs -------------------------------------------------------------------------------

    def add_weights(self, scope: Scope, graph: onnx.GraphProto) -> None:
        """Makes the stored tensors of a graph known in its scope, and what it says of types.

        Raises: EdgeccError E102 where two have one name.
        """
        stored = [(t.name, t) for t in graph.initializer] + [(s.values.name, s) for s in graph.sparse_initializer]
        for name, tensor in stored:
            if name in scope.weights:
                raise EdgeccError("E102", f"two initializers are called '{printable(name)}'")
            scope.weights[name] = tensor
        scope.emitter = self.emitter
        scope.types.update((value.name, value.type) for value in (*graph.value_info, *graph.output))

    def run_nodes(self, nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], scope: Scope,
                  loc: tuple[str, ...] = ()) -> list[Item]:
        """Converts the nodes that `outputs` depend on and returns what the outputs stand for.

        Args:
            nodes: the nodes of a graph or function body.
            outputs: names to return.
            scope: the names known so far; results are added to it.
            loc: the node that the nodes stand for, where they are the body of a function.
        """
        self._depth += 1
        if self._depth > self.limits.nesting:
            raise EdgeccError("E101", f"graphs and functions are nested deeper than {self.limits.nesting}")
        try:
            self._visited += 1 + len(nodes)
            if self._visited > 4 * self.limits.nodes:
                raise EdgeccError("E101", f"functions expand to more than {4 * self.limits.nodes} nodes",
                                  hint=raised("nodes"))
            body = list(nodes)  # protobuf makes a new object at each access; these are the ones that are labelled
            labels = {id(node): node_label(node, index) for index, node in enumerate(body)}
            for node in live_nodes(body, outputs):
                self._run_node(node, scope, loc or (labels[id(node)],))
        finally:
            self._depth -= 1
        results: list[Item] = []
        for name in outputs:
            item = self._lookup(name, scope, "the outputs of the graph")
            results.append(self._use(item) if item is not None else Unknown())
        return results

    def run_body(self, graph: onnx.GraphProto, parent: Scope, inputs: Sequence[Item | None] = ()) -> list[Item]:
        """Converts a graph that an attribute holds, inside `parent`, with these items as its inputs."""
        self._unrolled += 1 + len(graph.node)
        if self._unrolled > self.limits.unrolled:
            raise EdgeccError("E101", f"loops and conditions written out have more than {self.limits.unrolled} nodes",
                              hint=raised("unrolled"))
        scope = Scope(parent.opsets, parent, parent.attributes, within=parent.within)
        self.add_weights(scope, graph)
        for value, item in zip(graph.input, inputs, strict=False):
            scope.items[value.name] = item
        return self.run_nodes(graph.node, [value.name for value in graph.output], scope, parent.within[0])

    def mark(self) -> Mark:
        """Where the conversion stands, for `restore`."""
        return Mark(self.emitter, len(self.emitter.graph), dict(self.unsupported), self.failures, dict(self.needed), len(self.notes),
                    dict(self.computed_sizes))

    def restore(self, mark: Mark) -> None:
        """Forgets the nodes and the problems met since `mark`, when the same emitter was at work."""
        graph = mark.emitter.graph
        for node in reversed(graph.nodes[mark.nodes:]):  # not what they alone read: later nodes may read it too
            graph.erase(node)
        self.unsupported, self.failures, self.needed = dict(mark.unsupported), mark.failures, dict(mark.needed)
        self.computed_sizes = dict(mark.computed_sizes)
        del self.notes[mark.notes:]

    def fresh_size(self, name: str) -> str:
        """A name for a size that is computed at run time, like `name` and that of no other size."""
        self._size_names.update(symbol.name for symbol in graph_symbols(self.graph))
        chosen, number = name, 2
        while chosen in self._size_names:
            chosen, number = f"{name}_{number}", number + 1
        self._size_names.add(chosen)
        return chosen

    def _lookup(self, name: str, scope: Scope, reader: str) -> Item | None:
        found: Scope | None = scope
        while found is not None:
            if name in found.items:
                return found.items[name]
            stored = found.weights.get(name)
            if stored is not None:
                found.items[name] = self._weight(name, stored, found.emitter or self.emitter)
                return found.items[name]
            found = found.parent
        raise EdgeccError("E102", f"nothing defines '{printable(name)}'", where=reader)

    @staticmethod
    def _weight(name: str, stored: onnx.TensorProto | onnx.SparseTensorProto, emitter: Emitter) -> Item:
        try:
            if isinstance(stored, onnx.SparseTensorProto):
                emitter.reserve(stored.dims, f"sparse tensor '{printable(name)}'")
                return emitter.constant(sparse_array(stored, tuple(stored.dims)), name)
            return emitter.constant(tensor_array(stored), name)
        except Unsupported as problem:
            return Refused((printable(name),), "initializer", problem.reason, problem.hint)

    def _use(self, item: Item) -> Item:
        """An item as an operand: reading a refused one reports it."""
        if isinstance(item, Refused):
            self.unsupported.setdefault(item)
            return Unknown()
        return item

    # -- nodes --------------------------------------------------------------------------------

    def _run_node(self, node: onnx.NodeProto, scope: Scope, loc: tuple[str, ...]) -> None:
        """Converts one node and names its results in the scope, whatever happens."""
        prefix = "" if node.domain in ("", "ai.onnx") else f"{printable(node.domain)}."
        operator = f"{scope.within[1] and scope.within[1] + ': '}{prefix}{printable(node.op_type)}"
        where = f"{'+'.join(loc)} ({operator})"
        inputs: list[Item | None] = []
        for name in node.input:
            item = self._lookup(name, scope, where) if name else None
            inputs.append(None if item is None else self._use(item))
        results: Sequence[Item | None] = ()
        try:
            results = self._convert_matching(node, scope, loc, inputs)
        except Undecided:
            pass
        except Unsupported as problem:
            self.need(problem.needs)
            self.unsupported.setdefault(Refused(loc, operator, problem.reason, problem.hint))
        except EdgeccError as error:
            located = _located(error, where)
            if located.code == "E101":
                raise located from located.__cause__
            self._fail(located)
        except (ValueError, TypeError, IndexError, KeyError, ArithmeticError) as error:
            failure = EdgeccError("E102", f"the node cannot be understood: {printable(str(error))}", where=where)
            failure.__cause__ = error
            self._fail(failure)
        for index, name in enumerate(node.output):
            if not name:
                continue
            if name in scope.items or name in scope.weights:
                self._fail(EdgeccError("E102", f"'{printable(name)}' is defined twice", where=where))
            item = results[index] if index < len(results) else None
            if isinstance(item, Value) and item.producer is not None and item.producer.loc == loc:
                item.name = printable(name)
            scope.items[name] = Unknown() if item is None else item

    def need(self, values: Iterable[Value]) -> None:
        """Notes the inputs of the graph that these values are computed from as ones that would have to be constants."""
        self.needed.update(dict.fromkeys(self._inputs_behind(values)))

    def _inputs_behind(self, values: Iterable[Value]) -> Iterator[Value]:
        """The inputs of the model's graph that values are computed from, and no constants."""
        pending, seen = list(values), set[Value]()
        while pending:
            value = pending.pop()
            if value in seen or value.constant is not None:
                continue
            seen.add(value)
            if value.producer is not None:
                pending += [operand for operand in value.producer.inputs if operand is not None]
            elif value in self.sources:
                pending.append(self.sources[value])
            elif value in self.graph.inputs:
                yield value

    def _fail(self, error: EdgeccError) -> None:
        """Keeps the error; the walk goes on, for what it finds unsupported is reported first."""
        self.failures = (*self.failures, error)[:MAX_FAILURES]

    def hint_at_failures(self, since: int, hint: str) -> None:
        """Adds a hint to the errors met after the first `since` ones, where they have none."""
        self.failures = (*self.failures[:since], *(
            error if error.hint or not hint else EdgeccError(error.code, error.message, where=error.where, hint=hint, details=error.details)
            for error in self.failures[since:]))

    def _cross_check(self, node: onnx.NodeProto, schema: Schema | None, inputs: Sequence[Item | None],
                     results: Sequence[Item | None], scope: Scope) -> None:
        """Notes results of a converted node whose types are not those that the onnx package infers."""
        inferred = infer_node(node, schema, inputs, scope.opsets, self.ir_version)
        for name, item in zip(node.output, results, strict=False):
            if isinstance(item, Value) and inferred.get(name, item.type) != item.type:
                self.notes.append(f"'{printable(name)}' is {item.type}; the onnx package infers {inferred[name]}")

    def _convert_matching(self, node: onnx.NodeProto, scope: Scope, loc: tuple[str, ...],
                          inputs: Sequence[Item | None]) -> Sequence[Item | None]:
        """`_convert`; where operands are refused whose sizes the run computes one by one, of operands whose sizes the run compares."""
        choices = groups_of(inputs, self.computed_sizes.values()) if self.computed_sizes else []
        if not choices:
            return self._convert(node, scope, loc, inputs)
        mark = self.mark()
        try:
            return self._convert(node, scope, loc, inputs)
        except EdgeccError as error:
            if error.code not in ("E104", "E110"):
                raise
            for groups in choices:
                self.restore(mark)
                matched = with_equal_sizes(Call(self, scope, node, 1, loc, inputs, {}), groups)
                if matched is None:
                    continue
                try:
                    return self._convert(node, scope, loc, matched)
                except EdgeccError:
                    continue
            self.restore(mark)
            raise

    def _convert(self, node: onnx.NodeProto, scope: Scope, loc: tuple[str, ...],
                 inputs: Sequence[Item | None]) -> Sequence[Item | None]:
        """The results of a node.

        Raises: Undecided where an operand is not known, Unsupported, EdgeccError.
        """
        domain, version = _domain_of(node, scope)
        older = domain == "" and version is not None and version < FIRST_CONVERTED
        convert = find(domain, node.op_type, FIRST_CONVERTED if older else version) if version is not None else None
        schema = schema_of(domain, node.op_type, version) if version is not None else None
        has_function = schema is not None and (schema.has_function or schema.has_context_dependent_function)
        if version is None or (convert is None and not has_function):
            raise self._no_converter(domain, node.op_type, version)
        attributes = self._attributes(node, scope)
        if schema is not None and not schema.deprecated:  # the checker refuses deprecated operators as such
            problem = check_node(_resolved(node, attributes), scope.opsets, self.ir_version)
            if problem is not None:
                raise EdgeccError("E102", problem)
        if any(isinstance(item, Unknown) for item in inputs):
            raise Undecided
        if domain == MICROSOFT:
            check_signature(node, inputs, attributes)
        elif schema is not None:
            check_strings(schema, inputs)
        if convert is None:
            return self._run_function(node, schema, version, attributes, inputs, loc, scope)
        call = Call(self, scope, node, version, loc, inputs, attributes)
        results = convert(modernized(call) if older else call)
        if results is None or isinstance(results, Value | TensorSequence | StackedSequence | KeyedColumns | Missing | Unknown | Refused):
            results = [results]
        if len(node.output) > len(results):
            raise EdgeccError("E102", f"the operator has {len(results)} results; {len(node.output)} are named")
        if scope.is_top and node.op_type not in _NOT_CROSS_CHECKED:
            self._cross_check(node, schema, inputs, results, scope)
        return results

    def _attributes(self, node: onnx.NodeProto, scope: Scope) -> dict[str, onnx.AttributeProto]:
        """The attributes of a node; references to those of the function around it are resolved."""
        out: dict[str, onnx.AttributeProto] = {}
        for attribute in node.attribute:
            if attribute.name in out:
                raise EdgeccError("E102", f"attribute {printable(attribute.name)} is given twice")
            if not attribute.ref_attr_name:
                out[attribute.name] = attribute
            elif attribute.ref_attr_name in scope.attributes:
                copy = onnx.AttributeProto()
                copy.CopyFrom(scope.attributes[attribute.ref_attr_name])
                copy.name = attribute.name
                out[attribute.name] = copy
        return out

    def _no_converter(self, domain: str, op_type: str, version: int | None) -> Unsupported:
        if any(op_type.startswith(prefix) for prefix in _QUANTIZED):
            return Unsupported("this quantized operator is not compiled",
                               "compile the float model, or one with QuantizeLinear and DequantizeLinear nodes")
        if domain not in ("", "com.microsoft", "ai.onnx.ml"):
            return Unsupported(f"domain '{printable(domain)}' is not known",
                               "give the model a function of this name, or replace the operator by ONNX ones")
        if version is None:
            return Unsupported(f"the model imports no version of the domain '{printable(domain or 'ai.onnx')}'")
        schema = schema_of(domain, op_type, version)
        if schema is not None and schema.deprecated:
            return Unsupported(f"opset {version} has it no longer", "export the model again, or with an older opset")
        if (domain, op_type) in CONVERTERS:
            return Unsupported(f"version {version} of the operator is not compiled", "convert the model to a newer opset")
        if domain == "" and not any(schema.name == op_type and schema.domain == "" for schema in onnx.defs.get_all_schemas()):
            return Unsupported("ONNX has no such operator")
        return Unsupported("the operator is not compiled", _HINTS.get(domain, ""))

    # -- functions ----------------------------------------------------------------------------

    def run_as_onnx(self, call: Call, version: int) -> list[Item | None]:
        """The results of a node of another domain, computed as ONNX's operator of the same name does.

        Args:
            version: the opset whose definition is meant; attributes and operands are the same.
        """
        schema = schema_of("", call.node.op_type, version)
        if schema is None:
            raise Unsupported("this version of the onnx package does not define the operator")
        return self._run_function(call.node, schema, version, call.attributes, call.inputs, call.loc, call.scope)

    def _run_function(self, node: onnx.NodeProto, schema: Schema, version: int,
                      attributes: Mapping[str, onnx.AttributeProto], inputs: Sequence[Item | None],
                      loc: tuple[str, ...], outer: Scope) -> list[Item | None]:
        """Converts the body that ONNX defines for an operator in place of the node."""
        function = _function_of(_resolved(node, attributes), schema, version, inputs)
        if function is None:
            raise Unsupported("ONNX defines the operator by others, but not for these operands")
        opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in function.opset_import}
        given = {name: attribute.default_value for name, attribute in schema.attributes.items()
                 if attribute.default_value.type != onnx.AttributeProto.UNDEFINED}
        given.update({attribute.name: attribute for attribute in function.attribute_proto})
        given.update(attributes)
        defaults = {"": outer.opsets.get("", onnx.defs.onnx_opset_version())}
        within = f"{outer.within[1] and outer.within[1] + ': '}{printable(node.op_type)}"
        scope = Scope({**defaults, **opsets}, attributes=given, within=(loc, within))
        for position, name in enumerate(function.input):
            scope.items[name] = inputs[position] if position < len(inputs) else None
        wanted = [name for name, used in zip(function.output, node.output, strict=False) if used]
        results = dict(zip(wanted, self.run_nodes(function.node, wanted, scope, loc), strict=True))
        return [results.get(name) for name in function.output][:len(node.output)]


def _domain_of(node: onnx.NodeProto, scope: Scope) -> tuple[str, int | None]:
    """The operator domain of a node, and the version of it that the model imports."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    return domain, scope.opsets.get(domain, _LENIENT_DOMAINS.get(domain))


def _function_of(node: onnx.NodeProto, schema: Schema, version: int,
                 inputs: Sequence[Item | None]) -> onnx.FunctionProto | None:
    """The function body of an operator for operands of these types, or None."""
    function = onnx.FunctionProto()
    try:
        if schema.has_function:
            data = schema.get_function_with_opset_version(version)
        else:
            types = [_type_proto(item).SerializeToString() for item in inputs]
            # Bodies are kept for the opsets in which they changed; the builder answers for these alone.
            body = max((v for v in schema.context_dependent_function_opset_versions if v <= version), default=version)
            data = schema.get_context_dependent_function_with_opset_version(body, node.SerializeToString(), types)
        function.ParseFromString(data)
    except Exception as error:  # the builders of function bodies raise whatever their C++ side throws
        raise EdgeccError("E102", f"ONNX cannot expand the operator: {printable(str(error))}") from error
    return function if function.node else None


def _type_proto(item: Item | None) -> onnx.TypeProto:
    if isinstance(item, Value):
        return onnx.helper.make_tensor_type_proto(item.type.dtype.code, [d if isinstance(d, int) else str(d) for d in item.type.shape])
    return onnx.TypeProto()


def _resolved(node: onnx.NodeProto, attributes: Mapping[str, onnx.AttributeProto]) -> onnx.NodeProto:
    """The node with attribute references replaced; the node itself where it has none."""
    if not any(attribute.ref_attr_name for attribute in node.attribute):
        return node
    out = onnx.NodeProto()
    out.CopyFrom(node)
    del out.attribute[:]
    out.attribute.extend(attributes.values())
    return out


def _located(error: EdgeccError, where: str) -> EdgeccError:
    """The error with the node's place, unless it names one already."""
    if error.where:
        return error
    out = EdgeccError(error.code, error.message, where=where, hint=error.hint, details=error.details)
    out.__cause__ = error
    return out

