"""A graph of PyTorch as a callable that runs in code of edgecc, compiled for the shapes and weights that it meets."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import torch

from edgecc import api
from edgecc.artifact.load import Model, Port
from edgecc.errors import EdgeccError, printable
from edgecc.frontend.bind import Range
from edgecc.integrations.torch.calling import Run, caller
from edgecc.integrations.torch.dividing import divide
from edgecc.integrations.torch.exporting import Ranges, is_number, specialize, to_onnx, unsupported
from edgecc.integrations.torch.results import Computed, Handed, Results, View, results_of
from edgecc.integrations.torch.settings import Settings
from edgecc.integrations.torch.sizes import open_sizes
from edgecc.integrations.torch.tensors import in_order
from edgecc.targets.schema import HOST, load_target
from edgecc.version import VERSION

NAME = "network"


@dataclass(frozen=True)
class _Compiled:
    """A network for certain shapes and weights.

    Attributes:
        shapes: what it was compiled for, as `_shapes` gives it; None where sizes are open.
        takes: where they are open, whether it takes these values in place of `shapes`.
        weights, versions: the tensors that became constants, and how often they had been written to.
        inputs: which arguments it reads.
        run: the network; its inputs and outputs are in the order of `inputs` and of `Results.names`.
        left: the operators that PyTorch runs, and why.
    """

    shapes: tuple[Any, ...] | None
    takes: Callable[[Sequence[Any]], bool]
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
        self._numbers = [i for i in self._varying if is_number(placeholders[i])]
        self._sizes = open_sizes([placeholders[i] for i in self._varying])
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
        return tuple(in_order(tensors[item.index], item.order) if isinstance(item, Computed) else
                     arguments[item.index] if isinstance(item, Handed) else
                     item.of(arguments[item.index]) if isinstance(item, View) else item for item in self._results.items)

    def _fitting(self, arguments: Sequence[Any]) -> _Compiled | None:
        """The network for these arguments, compiled if there is none yet; None where PyTorch is to run the graph."""
        if self._numbers:
            arguments = list(arguments)
            for i in self._numbers:
                arguments[i] = arguments[i].item()
        weights, varying = tuple(arguments[i] for i in self._constants), [arguments[i] for i in self._varying]
        shapes, versions = _shapes(varying), _versions(weights)
        for each in self._compiled:
            if (each.shapes == shapes or (each.shapes is None and each.takes(varying))) and versions == each.versions and all(map(_is, each.weights, weights)):
                return each
        try:
            if len(self._compiled) >= self._settings.limit:
                raise unsupported(f"the graph was compiled {len(self._compiled)} times, for different shapes or weights, and {self._settings.limit} is the limit")
            self._compiled.append(self._compile_open(arguments, weights) or self._compile(arguments, shapes, weights))
        except EdgeccError as error:
            self._give_up(error)
            return None
        return self._compiled[-1]

    def _compile_open(self, arguments: Sequence[Any], weights: tuple[torch.Tensor, ...]) -> _Compiled | None:
        """A network for all sizes between bounds; None where the sizes of the graph are fixed, or edgecc does not compute it with open ones."""
        if self._sizes is None:
            return None
        numbers = self._sizes.numbers
        constants = {name: value for i, (name, value) in enumerate(zip(self._names, arguments, strict=True))
                     if i in self._constants or not (isinstance(value, torch.Tensor) or name in numbers)}
        try:
            _check_tensors(arguments)
            graph = specialize(self._graph, constants, self._results.names, numbers)
            left = {node.name for node in graph.graph.nodes if node.op == "placeholder"}
            inputs = tuple(i for i, name in enumerate(self._names) if name in left)
            ranges = self._sizes.ranges({self._names[i]: arguments[i] for i in inputs})
            model = to_onnx(graph, [arguments[i] for i in inputs], ranges)
            loaded = _loaded(model, self._settings, _open_dims(model, ranges))
        except EdgeccError:
            self._sizes = None
            return None
        ports = dict(zip(inputs, loaded.inputs, strict=True))
        wanted = [_Wanted(self._names[i] in numbers, arguments[i], ports.get(i)) for i in self._varying]
        return _Compiled(None, lambda values: all(each.takes(value) for each, value in zip(wanted, values, strict=True)), weights, _versions(weights),
                         inputs, caller(loaded), {})

    def _compile(self, arguments: Sequence[Any], shapes: tuple[Any, ...], weights: tuple[torch.Tensor, ...]) -> _Compiled:
        _check_tensors(arguments)
        constants = {name: value for i, (name, value) in enumerate(zip(self._names, arguments, strict=True))
                     if i in self._constants or not isinstance(value, torch.Tensor)}
        graph = specialize(self._graph, constants, self._results.names)
        left = {node.name for node in graph.graph.nodes if node.op == "placeholder"}
        inputs = tuple(i for i, name in enumerate(self._names) if name in left)
        run, refused = self._run_of(graph, [arguments[i] for i in inputs])
        return _Compiled(shapes, _nothing, weights, _versions(weights), inputs, run, refused)

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


@dataclass(frozen=True)
class _Wanted:
    """What stands for an argument of a network with open sizes.

    Attributes:
        is_size: whether it is a size of another argument, which that one is checked for.
        given: what it was when the network was compiled.
        port: the input that reads it; None where nothing does.
    """

    is_size: bool
    given: Any
    port: Port | None

    def takes(self, value: Any) -> bool:
        """Whether the network is for this value."""
        if not isinstance(self.given, torch.Tensor):
            return self.is_size or bool(value == self.given)
        return self.port is None or (value.dtype is self.given.dtype and self.port.takes(tuple(value.shape)))


def _check_tensors(arguments: Sequence[Any]) -> None:
    """Raises E105 for a tensor that is not in the memory of the CPU."""
    for argument in arguments:
        if isinstance(argument, torch.Tensor) and (argument.device.type != "cpu" or argument.layout is not torch.strided):
            raise unsupported(f"a tensor on {argument.device} with layout {argument.layout} is none that edgecc can read")


def _open_dims(model: onnx.ModelProto, ranges: Ranges) -> dict[str, list[Range]]:
    """The bounds of the named dimensions of a model's inputs. Raises: EdgeccError E105 where one is computed from others."""
    found: dict[str, list[Range]] = {}
    for value, open_axes in zip(model.graph.input, ranges, strict=True):
        for axis, (low, high) in open_axes.items():
            name = value.type.tensor_type.shape.dim[axis].dim_param
            if name and not name.isidentifier():
                raise unsupported(f"the size {printable(name)} of an argument is computed from others")
            if name:
                found[name] = [Range(low, high)]
    return found


def _nothing(values: Sequence[Any]) -> bool:
    return False


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
    return caller(_loaded(model, settings, {}))


def _loaded(model: onnx.ModelProto, settings: Settings, shapes: Mapping[str, list[Range]]) -> Model:
    """An ONNX model compiled for this machine, with named dimensions between bounds, or taken from the cache. Raises: EdgeccError."""
    with tempfile.TemporaryDirectory(prefix="edgecc-torch-") as scratch:
        folder = Path(scratch) / NAME
        if settings.cache is not None:
            folder = Path(settings.cache) / _digest(model, settings, shapes)
        if not folder.exists():
            api.compile(model, output=folder, emit=settings.form, cc=settings.cc, threads=settings.threads,
                        precision=settings.precision, name=NAME, shapes=shapes or None)
        return api.load_or_compile(folder, None)


def _digest(model: onnx.ModelProto, settings: Settings, shapes: Mapping[str, list[Range]]) -> str:
    """A name for a compilation: equal for equal models, settings, versions and machines."""
    about = repr((VERSION, replace(settings, cache=None, fallback=True, limit=0), load_target(HOST), sorted(shapes.items())))
    return hashlib.sha256(about.encode() + model.SerializeToString(deterministic=True)).hexdigest()[:32]
