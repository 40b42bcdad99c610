"""Graphs of PyTorch as ONNX models: weights become constants, sizes numbers."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import onnx
import torch

from edgecc.errors import EdgeccError, printable
from edgecc.integrations.torch.decompositions import decompositions

Ranges = Sequence[Mapping[int, tuple[int, int]]]
"""Of each input, the axes whose sizes are left open, with their bounds, both inclusive."""

EXPORTER_LOGGERS = ("torch.onnx", "onnxscript", "torch.export")


def unsupported(why: str) -> EdgeccError:
    """The error for what only PyTorch can compute."""
    return EdgeccError("E105", why, where="torch.compile")


def specialize(graph: torch.fx.GraphModule, constants: Mapping[str, Any], results: Sequence[str],
               sizes: Mapping[str, tuple[str, int]] = MappingProxyType({})) -> torch.fx.GraphModule:
    """A copy of a graph in which some of its inputs, by name, are constants, and which returns the nodes of these names.

    Tensors become attributes, and anything else is written in place of its uses. Inputs of `sizes` become the size of an axis of
    another input. Inputs that nothing uses are left out.
    """
    nodes, attributes = copy.deepcopy(graph.graph), dict(graph.named_parameters()) | dict(graph.named_buffers())
    named = {node.name: node for node in nodes.nodes}
    output = next(node for node in nodes.nodes if node.op == "output")
    output.args = (tuple(named[name] for name in results),)
    placeholders = [node for node in nodes.nodes if node.op == "placeholder"]
    for node in placeholders:
        if node.name in sizes:
            name, axis = sizes[node.name]
            with nodes.inserting_after(placeholders[-1]):
                node.replace_all_uses_with(nodes.call_method("size", (named[name], axis)))
        elif isinstance(value := constants.get(node.name), torch.Tensor):
            name = f"constant_{node.name}"
            attributes[name] = value.detach()
            with nodes.inserting_before(node):
                node.replace_all_uses_with(nodes.get_attr(name))
        elif value is not None:
            for source in [user for user in node.users if _reads_number(user)] or [node]:
                for user in list(source.users):
                    user.args, user.kwargs = (torch.fx.node.map_arg(part, lambda arg, old=source, new=value: new if arg is old else arg)
                                              for part in (user.args, user.kwargs))
                if source is not node:
                    nodes.erase_node(source)
    for node in placeholders:
        if not node.users:
            nodes.erase_node(node)
    root = torch.nn.Module()
    for name, module in graph.named_children():
        root.add_module(name, module)
    for name, tensor in attributes.items():
        if "." not in name:
            root.register_buffer(name, tensor.detach())
    return torch.fx.GraphModule(root, nodes)


def is_number(node: torch.fx.Node) -> bool:
    """Whether an argument is a tensor only because dynamo makes numbers of Python ones, and the graph needs the number itself:
    it does more with it than arithmetic, such as the epsilon of a normalization."""
    value = node.meta.get("example_value")
    return bool(isinstance(value, torch.Tensor) and value.dim() == 0 and node.users and all(map(_reads_number, node.users)) and any(
        getattr(user.target, "__module__", "") != "_operator" for read in node.users for user in read.users))


def _reads_number(node: torch.fx.Node) -> bool:
    return bool(node.op == "call_method" and node.target == "item")


def to_onnx(graph: torch.fx.GraphModule, tensors: Sequence[torch.Tensor], ranges: Ranges | None = None, *, decompose: bool = True) -> onnx.ModelProto:
    """A graph whose inputs are tensors like these and whose results are tensors, as an ONNX model, of fixed shapes but for axes with `ranges`.

    Inputs are called in0, in1, ..., results out0, out1, ... `decompose`: whether operators that the exporter does not know are
    tried in parts, which takes as long again.
    Raises: EdgeccError E105 where it draws random numbers, writes into what it is given, or has no form in ONNX.
    """
    with _quietly():
        exported = _exported(graph, tensors, ranges)
        _check_effects(exported)
        _check_draws(exported)
        try:
            return _converted(exported, len(tensors))
        except torch.onnx.OnnxExporterError as unknown:
            if not decompose:
                raise unsupported(f"the graph has no form in ONNX: {_first_line(unknown)}") from unknown
            # Some operators are known to the exporter only in parts, such as attention on tensors of rank 3.
            try:
                return _converted(exported.run_decompositions(), len(tensors))
            except Exception as error:
                raise unsupported(f"the graph has no form in ONNX: {_first_line(error.__cause__ or error)}") from error
        except Exception as error:
            raise unsupported(f"the graph has no form in ONNX: {_first_line(error)}") from error


def exported_graph(graph: torch.fx.GraphModule, tensors: Sequence[torch.Tensor]) -> torch.fx.GraphModule:
    """A graph whose inputs are tensors like these as one of ATen operators, in which nothing is written in place.

    Raises: EdgeccError E105 where it cannot be exported, or writes into what it is given.
    """
    with _quietly():
        exported = _exported(graph, tensors)
        _check_effects(exported)
        found: torch.fx.GraphModule = exported.module(check_guards=False)
        return found


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the messages of PyTorch's exporters."""
    loggers = [logging.getLogger(name) for name in EXPORTER_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _exported(graph: torch.fx.GraphModule, tensors: Sequence[torch.Tensor], ranges: Ranges | None = None) -> Any:
    dims = None if ranges is None else tuple({axis: torch.export.Dim.AUTO(min=low, max=high) for axis, (low, high) in each.items()} for each in ranges)
    try:
        return torch.export.export(graph, tuple(tensors), dynamic_shapes=dims).run_decompositions(dict(decompositions()))
    except Exception as error:
        raise unsupported(f"PyTorch cannot export the graph: {_first_line(error)}") from error


def _converted(exported: Any, inputs: int) -> onnx.ModelProto:
    outputs = len(exported.graph_signature.output_specs)
    program = torch.onnx.export(exported, dynamo=True, verbose=False, input_names=[f"in{index}" for index in range(inputs)],
                                output_names=[f"out{index}" for index in range(outputs)])
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    return _without_notes(program.model_proto)


def _without_notes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model without what it says of the Python code it comes from."""
    del model.metadata_props[:]
    for function in (model.graph, *model.functions):
        for part in (function, *function.node, *function.value_info, *getattr(function, "input", ()), *getattr(function, "initializer", ())):
            if hasattr(part, "metadata_props"):
                del part.metadata_props[:]
    return model


def _check_effects(exported: Any) -> None:
    """Raises E105 for effects besides the results."""
    for spec in exported.graph_signature.output_specs:
        if spec.kind != torch.export.graph_signature.OutputKind.USER_OUTPUT:
            raise unsupported(f"the graph writes into {printable(str(spec.target or 'one of its inputs'))}")


def _check_draws(exported: Any) -> None:
    """Raises E105 for random numbers."""
    for node in exported.graph.nodes:
        if draws(node):
            raise unsupported(f"{printable(str(node.target))} draws random numbers")


def draws(node: Any) -> bool:
    """Whether a node gives other results each time: those with dropout only where its probability is not 0."""
    if node.op != "call_function" or torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    arguments = {a.name: node.args[place] if place < len(node.args) else node.kwargs.get(a.name, a.default_value)
                 for place, a in enumerate(node.target._schema.arguments)}
    return not any(arguments.get(name, True) in (False, 0.0) for name in ("train", "dropout_p", "dropout"))


def _first_line(error: BaseException) -> str:
    """What an exception says, without the advice that PyTorch adds."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    plain = [line for line in lines if not line.startswith(("<class", "Failed", "Next", "-", "#", "⬆"))]
    return printable((plain or lines or [type(error).__name__])[0])
