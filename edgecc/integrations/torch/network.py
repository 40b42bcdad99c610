"""A graph of PyTorch as a callable that runs in code of edgecc, compiled for the shapes and weights that it meets."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import torch

from edgecc import api
from edgecc.artifact.load import Model
from edgecc.errors import EdgeccError
from edgecc.integrations.torch.dividing import Run, divide
from edgecc.integrations.torch.exporting import specialize, to_onnx, unsupported
from edgecc.integrations.torch.results import Computed, Handed, Results, results_of
from edgecc.integrations.torch.settings import Settings
from edgecc.integrations.torch.tensors import in_order, to_array, to_tensor
from edgecc.targets.schema import HOST, load_target
from edgecc.version import VERSION

NAME = "network"


@dataclass(frozen=True)
class _Compiled:
    """A network for certain shapes and weights.

    Attributes:
        shapes: what it was compiled for, as `_shapes` gives it.
        weights, versions: the tensors that became constants, and how often they had been written to.
        inputs: which arguments it reads.
        run: the network; its inputs and outputs are in the order of `inputs` and of `Results.names`.
        left: the operators that PyTorch runs, and why.
    """

    shapes: tuple[Any, ...]
    weights: tuple[torch.Tensor, ...]
    versions: tuple[int, ...]
    inputs: tuple[int, ...]
    run: Run
    left: Mapping[str, str]


class Network:
    """The callable.

    The tensors that PyTorch marks as parameters and buffers become constants. Each call checks that they are those of the compilation
    and have not been written to since; others are another compilation, and so are other shapes.

    Args:
        graph: of dynamo; its arguments are tensors and numbers.
        settings: see there.
    """

    def __init__(self, graph: torch.fx.GraphModule, settings: Settings) -> None:
        self._graph, self._settings = graph, settings
        placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
        self._names = [node.name for node in placeholders]
        self._constants = [i for i, node in enumerate(placeholders) if (node.meta.get("tensor_dict") or {}).get("_dynamo_static_input_type")]
        self._varying = [i for i in range(len(placeholders)) if i not in self._constants]
        self._compiled: list[_Compiled] = []
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._results = Results((), ())
        try:
            self._results = results_of(graph)
        except EdgeccError as error:
            self._give_up(error)

    @property
    def compilations(self) -> int:
        """How many networks were compiled."""
        return len(self._compiled)

    @property
    def left(self) -> Mapping[str, str]:
        """The operators that PyTorch runs between networks, and why."""
        return {name: why for each in self._compiled for name, why in each.left.items()}

    @property
    def reason(self) -> str | None:
        """Why PyTorch runs the graph; None where edgecc does."""
        return self._reason

    def __call__(self, *arguments: Any) -> Sequence[Any]:
        """The results of the graph, in new tensors but for those that are arguments."""
        with self._lock:
            found = self._fitting(arguments) if self._reason is None and self._results.names else None
            if found is not None:
                tensors = found.run([arguments[i] for i in found.inputs])
        if found is None:
            return tuple(self._graph(*arguments))
        return tuple(arguments[item.index] if isinstance(item, Handed) else in_order(tensors[item.index], item.order)
                     if isinstance(item, Computed) else item for item in self._results.items)

    def _fitting(self, arguments: Sequence[Any]) -> _Compiled | None:
        """The network for these arguments, compiled if there is none yet; None where PyTorch is to run the graph."""
        weights, shapes = tuple(arguments[i] for i in self._constants), _shapes([arguments[i] for i in self._varying])
        for each in self._compiled:
            if each.shapes == shapes and all(map(_is, each.weights, weights)) and _versions(weights) == each.versions:
                return each
        try:
            if len(self._compiled) >= self._settings.limit:
                raise unsupported(f"the graph was compiled {len(self._compiled)} times, for different shapes or weights, and {self._settings.limit} is the limit")
            self._compiled.append(self._compile(arguments, shapes, weights))
        except EdgeccError as error:
            self._give_up(error)
            return None
        return self._compiled[-1]

    def _compile(self, arguments: Sequence[Any], shapes: tuple[Any, ...], weights: tuple[torch.Tensor, ...]) -> _Compiled:
        for argument in arguments:
            if isinstance(argument, torch.Tensor) and (argument.device.type != "cpu" or argument.layout is not torch.strided):
                raise unsupported(f"a tensor on {argument.device} with layout {argument.layout} is none that edgecc can read")
        constants = {name: value for i, (name, value) in enumerate(zip(self._names, arguments, strict=True))
                     if i in self._constants or not isinstance(value, torch.Tensor)}
        graph = specialize(self._graph, constants, self._results.names)
        left = {node.name for node in graph.graph.nodes if node.op == "placeholder"}
        inputs = tuple(i for i, name in enumerate(self._names) if name in left)
        run, refused = self._run_of(graph, [arguments[i] for i in inputs])
        return _Compiled(shapes, weights, _versions(weights), inputs, run, refused)

    def _run_of(self, graph: torch.fx.GraphModule, tensors: Sequence[torch.Tensor]) -> tuple[Run, Mapping[str, str]]:
        """A graph of tensors as one network, or as several with what edgecc refuses between them, which is returned."""
        try:
            return _network(to_onnx(graph, tensors), self._settings), {}
        except EdgeccError as error:
            if not self._settings.fallback:
                raise
            try:
                divided = divide(graph, tensors, lambda model: _network(model, self._settings))
            except EdgeccError:
                raise error from None
        refused = "; ".join(f"{name}: {why}" for name, why in divided.left.items())
        warnings.warn(f"edgecc leaves operators of a graph to PyTorch, and computes the rest in networks ({divided.networks}): {refused}", stacklevel=2)
        return divided.run, divided.left

    def _give_up(self, error: EdgeccError) -> None:
        """Has PyTorch run the graph from now on, or raises the error."""
        self._reason = error.message
        if not self._settings.fallback:
            raise error
        warnings.warn(f"edgecc leaves a graph of {len(self._graph.graph.nodes)} nodes to PyTorch: {error}", stacklevel=2)


def _is(a: object, b: object) -> bool:
    return a is b


def _shapes(values: Sequence[Any]) -> tuple[Any, ...]:
    """What of the arguments a compilation depends on: shapes and types of tensors, and numbers."""
    return tuple((value.shape, value.dtype) if isinstance(value, torch.Tensor) else value for value in values)


def _versions(tensors: Sequence[torch.Tensor]) -> tuple[int, ...]:
    """How often each tensor was written to; 0 for tensors of inference mode, which do not count."""
    return tuple(0 if tensor.is_inference() else tensor._version for tensor in tensors)


def _network(model: onnx.ModelProto, settings: Settings) -> Run:
    """An ONNX model as a function of tensors. Raises: EdgeccError."""
    loaded = _loaded(model, settings)

    def run(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        outputs = loaded.run({port.name: to_array(tensor) for port, tensor in zip(loaded.inputs, tensors, strict=True)})
        return [to_tensor(outputs[port.name]) for port in loaded.outputs]

    return run


def _loaded(model: onnx.ModelProto, settings: Settings) -> Model:
    """An ONNX model compiled for this machine, or taken from the cache. Raises: EdgeccError."""
    with tempfile.TemporaryDirectory(prefix="edgecc-torch-") as scratch:
        folder = Path(scratch) / NAME
        if settings.cache is not None:
            folder = Path(settings.cache) / _digest(model, settings)
        if not folder.exists():
            api.compile(model, output=folder, emit=settings.form, cc=settings.cc, threads=settings.threads,
                        precision=settings.precision, name=NAME)
        return api.load_or_compile(folder, None)


def _digest(model: onnx.ModelProto, settings: Settings) -> str:
    """A name for a compilation: equal for equal models, settings, versions and machines."""
    about = repr((VERSION, replace(settings, cache=None, fallback=True, limit=0), load_target(HOST)))
    return hashlib.sha256(about.encode() + model.SerializeToString(deterministic=True)).hexdigest()[:32]
