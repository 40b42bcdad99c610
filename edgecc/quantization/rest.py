"""What of a model stays as it is behind the part that is quantized.

    x -> Conv -> .. -> boxes -> NonMaxSuppression -> Gather -> y      model
    x -> Conv -> .. -> boxes                                          head: quantized, written anew by operators of fixed shapes
                       boxes -> NonMaxSuppression -> Gather -> y      rest: the nodes of the model, word for word

Results of the nodes of the rest have as many rows as the data says, are sequences, or are computed by operators that this
package cannot write. None of them gains from integers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx
import onnx.version_converter
from onnx import helper, numpy_helper

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.limits import Limits, subgraphs
from edgecc.frontend.load import LoadedModel
from edgecc.frontend.structure import inline_functions, live_nodes, node_label, read_names
from edgecc.ir.names import UniqueNames
from edgecc.ir.types import Array


@dataclass(frozen=True)
class Rest:
    """The nodes that stay, and what they need of the model.

    Attributes:
        model: the whole model, of which `nodes` stay.
        constants: what it reads that is the same in every run: values of inputs that are no inputs any more, and of nodes in front of it.
    """

    model: onnx.ModelProto
    nodes: tuple[onnx.NodeProto, ...]
    constants: Mapping[str, Array]

    @property
    def note(self) -> str:
        """What the user should know."""
        kinds = list(dict.fromkeys(node.op_type for node in self.nodes))
        shown = ", ".join(map(printable, kinds[:6])) + (", ..." if len(kinds) > 6 else "")
        return f"{len(self.nodes)} node{'s' if len(self.nodes) != 1 else ''} at the end of the model stay as they are: {shown}"

    def alone(self, head: onnx.ModelProto) -> onnx.ModelProto:
        """The nodes as a model of their own, which reads inputs and outputs of the head."""
        graph, whole = onnx.GraphProto(name="rest"), self.model.graph
        read = {name for node in self.nodes for name in read_names(node)}
        graph.node.extend(self.nodes)
        graph.initializer.extend(tensor for tensor in whole.initializer if tensor.name in read)
        graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in self.constants.items() if name in read)
        graph.sparse_initializer.extend(sparse for sparse in whole.sparse_initializer if sparse.values.name in read)
        stored = {tensor.name for tensor in graph.initializer}
        graph.input.extend(value for value in (*head.graph.input, *head.graph.output) if value.name in read - stored)
        made = _produced(self.nodes)
        graph.output.extend(value for value in whole.output if value.name in made)
        return helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=max(self.model.ir_version, head.ir_version))

    def attached(self, head: onnx.ModelProto) -> onnx.ModelProto:
        """The whole model with `head` in place of the nodes that do not stay.

        Raises: EdgeccError E114 where a node of the rest has no form in the head's opset.
        """
        own = self._converted(head)
        model = onnx.ModelProto()
        model.CopyFrom(head)
        mine, kept = {name for name in _defined(own.graph) if name}, {value.name for value in own.graph.input}
        outputs = {value.name for value in self.model.graph.output}
        theirs = {name for name in _defined(head.graph) if name}
        names = UniqueNames(mine | theirs | outputs)
        _rename(model.graph, {name: names.fresh(name) for name in sorted((theirs & mine & outputs) - kept)})
        _rename(own.graph, {name: names.fresh(name) for name in sorted((theirs & mine) - outputs - kept)})
        model.graph.node.extend(own.graph.node)
        model.graph.initializer.extend(own.graph.initializer)
        model.graph.sparse_initializer.extend(own.graph.sparse_initializer)
        types = {value.name: value for value in (*head.graph.output, *own.graph.output)}
        del model.graph.output[:]
        model.graph.output.extend(types[value.name] for value in self.model.graph.output)
        known = {domain.domain for domain in model.opset_import} | {"ai.onnx"}
        model.opset_import.extend(domain for domain in own.opset_import if domain.domain not in known)
        return model

    def _converted(self, head: onnx.ModelProto) -> onnx.ModelProto:
        own = self.alone(head)
        version = _opset(head)
        if _opset(own) == version:
            return own
        try:
            return onnx.version_converter.convert_version(own, version)
        except Exception as error:  # the converter raises whatever its C++ side throws
            raise EdgeccError("E114", f"nodes at the end of the model cannot be written in opset {version}", details=[printable(str(error).strip(), 400)],
                              hint=f"--opset {_opset(own)} leaves them as they are, where the quantized part has a form in it") from None


class Divisible:
    """A model whose nodes have a name each, so that it can be told which of them an operator comes from."""

    def __init__(self, loaded: LoadedModel, limits: Limits, constants: Mapping[str, Array]) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(loaded.proto)
        if self.model.functions:
            self.model = inline_functions(loaded, self.model, limits)
        self.constants = constants
        self._owners: dict[str, int] = {}
        self._nodes = list(self.model.graph.node)
        names = UniqueNames()
        for index, node in enumerate(self._nodes):
            for inner in _with_inner(node):
                inner.name = names.fresh(node_label(inner, index))
                self._owners[inner.name] = index

    def divided(self, stuck: Collection[str]) -> tuple[onnx.ModelProto, Rest]:
        """The model without the nodes called `stuck` and what follows from them, and these."""
        left = {self._owners[name] for name in stuck if name in self._owners}
        whole = self.model.graph
        order = live_nodes(self._nodes, [value.name for value in whole.output])
        where = {id(node): index for index, node in enumerate(self._nodes)}
        made: set[str] = set()
        head: list[onnx.NodeProto] = []
        rest: list[onnx.NodeProto] = []
        for node in order:
            if where[id(node)] in left or made.intersection(read_names(node)):
                rest.append(node)
                made.update(name for name in node.output if name)
            else:
                head.append(node)
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.node[:], model.graph.output[:]
        model.graph.node.extend(head)
        returned = [value for value in whole.output if value.name not in made]
        read = dict.fromkeys(name for node in rest for name in read_names(node))
        crossing = [name for name in read if name in _produced(head) and name not in {value.name for value in returned}]
        types = {value.name: value for value in whole.value_info}
        model.graph.output.extend([*returned, *(types.get(name, onnx.ValueInfoProto(name=name)) for name in crossing)])
        return model, Rest(self.model, tuple(rest), self.constants)

    def producer(self, name: str) -> str | None:
        """The name of the node that produces a value."""
        return next((node.name for node in self._nodes if name in node.output), None)


def _opset(model: onnx.ModelProto) -> int:
    return int(next(domain.version for domain in model.opset_import if domain.domain in ("", "ai.onnx")))


def _produced(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    return {name for node in nodes for name in node.output if name}


def _with_inner(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """A node and those of the graphs inside it."""
    yield node
    for graph in subgraphs(node):
        for inner in graph.node:
            yield from _with_inner(inner)


def _defined(graph: onnx.GraphProto) -> Iterator[str]:
    """Every name that a graph, or one inside its nodes, gives to something."""
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (sparse.values.name for sparse in graph.sparse_initializer)
    for node in graph.node:
        yield from node.output
        for inner in subgraphs(node):
            yield from _defined(inner)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Changes names of values, in the graphs inside the nodes too."""
    for tensor in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer), *graph.input, *graph.output, *graph.value_info):
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        for field in (node.input, node.output):
            for position, name in enumerate(field):
                field[position] = names.get(name, name)
        for inner in subgraphs(node):
            _rename(inner, names)
