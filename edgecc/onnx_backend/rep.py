"""A model that is compiled when the shapes of its inputs are known, once for each set of shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import BackendRep, namedtupledict

from edgecc.api import Compilation, Options, compile_model, load_compilation, resolve_target
from edgecc.artifact.load import Model, load
from edgecc.errors import EdgeccError, printable
from edgecc.frontend.interface import Given, Port, flattened, port_of_input
from edgecc.ir.strings import array_bytes
from edgecc.ir.types import Array
from edgecc.onnx_backend.given import given_array
from edgecc.targets.schema import Target


@dataclass(frozen=True)
class Build:
    """How a compiled model is built and run: the arguments of `edgecc.compile` and `edgecc.load`."""

    target: str | Path | Target = "host"
    cc: str | None = None
    isolated: bool = False
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """The model compiled for one set of shapes.

    Attributes:
        model: the loaded library.
        outputs: what the results consist of.
        bound: inputs that are compiled in, with their values.
        is_folded: whether nothing is computed at run time, since all results are constants.
    """

    model: Model
    outputs: tuple[Port, ...]
    bound: Mapping[str, Array]
    is_folded: bool

    def fits(self, arrays: Mapping[str, Array]) -> bool:
        """Whether the inputs that are compiled in have the values in `arrays`."""
        return all(same_value(value, arrays[name]) for name, value in self.bound.items())


class EdgeccRep(BackendRep):
    """A prepared model. Libraries stay loaded as long as it lives.

    Attributes:
        input_names, output_names: of the model, without inputs that have a value in it.
    """

    def __init__(self, model: onnx.ModelProto, build: Build, options: Mapping[str, Any]) -> None:
        self._model = model
        self._build = build
        self._options = dict(options)
        self._stored = {tensor.name for tensor in model.graph.initializer}
        self._stored |= {sparse.values.name for sparse in model.graph.sparse_initializer}
        self._all_inputs = tuple(value.name for value in model.graph.input)
        self.input_names = tuple(name for name in self._all_inputs if name not in self._stored)
        self.output_names = tuple(value.name for value in model.graph.output)
        self._variants: dict[object, list[Variant]] = {}
        self._ahead: Variant | None = None
        self._last: Variant | None = None
        self._results = namedtupledict("Outputs", list(self.output_names))

    @property
    def bound_inputs(self) -> tuple[str, ...]:
        """The inputs whose values the last run's library has compiled in, since they had to be known for compiling.

        Another value of one of them is another compilation. Empty before the first run.
        """
        return () if self._last is None else tuple(self._last.bound)

    @property
    def is_folded(self) -> bool:
        """Whether the last run's library computes nothing: every result was known when it was compiled."""
        return self._last is not None and self._last.is_folded

    def compile_ahead(self) -> None:
        """Compiles the model now, if that can be done without its inputs."""
        if not all(_has_fixed_shape(value) for value in self._model.graph.input if value.name in self.input_names):
            return
        try:
            done = compile_model(self._model, resolve_target(self._build.target), Options(**self._options))
        except EdgeccError as error:
            if error.code not in ("E104", "E105"):  # those may be settled by the values of the inputs
                raise
            return
        self._ahead = self._loaded(done, {})

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Runs the model, compiling it first if it was not for inputs like these.

        Args:
            inputs: arrays in the order of `input_names` (or of all inputs of the model), or a mapping by name. Lists
                of arrays stand for sequences, None for an optional that holds nothing.
            kwargs: ignored.
        Returns: a named tuple with the results in the model's order, of the same kinds.
        Raises: EdgeccError E005 where the inputs do not fit, else what `edgecc.compile` and `edgecc.load` raise.
        """
        given = self._by_name(inputs)
        arrays = flattened(given)
        variant = self._variant(given, arrays)
        self._last = variant
        results = variant.model.run({name: array for name, array in arrays.items()
                                     if name not in variant.bound and name not in self._stored})
        values: list[Any] = [port.gather(results) for port in variant.outputs]
        return self._results(*values)

    def _by_name(self, inputs: Any) -> dict[str, Given]:
        if isinstance(inputs, Mapping):
            given = dict(inputs)
        else:
            listed: Sequence[Any] = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
            names = self.input_names if len(listed) <= len(self.input_names) else self._all_inputs
            if len(listed) > len(names):
                raise EdgeccError("E005", f"the model has {len(names)} inputs; {len(listed)} are given")
            given = dict(zip(names, listed, strict=False))
        unknown = [name for name in given if name not in self._all_inputs]
        if unknown:
            raise EdgeccError("E005", f"the model has no input '{printable(str(unknown[0]))}'")
        missing = [name for name in self.input_names if name not in given]
        if missing:
            raise EdgeccError("E005", f"no array is given for input '{printable(missing[0])}'")
        return {name: value if value is None else [given_array(item) for item in value] if isinstance(value, list | tuple)
                and self._is_sequence(name) else given_array(value) for name, value in given.items()}

    def _is_sequence(self, name: str) -> bool:
        """Whether an input is declared as a sequence, or as an optional one."""
        (declared,) = (value.type for value in self._model.graph.input if value.name == name)
        if declared.HasField("optional_type"):
            declared = declared.optional_type.elem_type
        return bool(declared.HasField("sequence_type"))

    def _variant(self, given: Mapping[str, Given], arrays: Mapping[str, Array]) -> Variant:
        if self._ahead is not None:
            return self._ahead
        kinds = tuple((name, port_of_input(name, value).kind) for name, value in given.items())
        key = (kinds, *((name, array.dtype.name, array.shape) for name, array in arrays.items()))
        known = self._variants.setdefault(key, [])
        for variant in known:
            if variant.fits(arrays):
                return variant
        done = compile_model(self._model, resolve_target(self._build.target),
                             Options(**{**self._options, "inputs": given, "bind_values": True}))
        known.append(self._loaded(done, {name: arrays[name].copy() for name in done.report.bound}))
        return known[-1]

    def _loaded(self, done: Compilation, bound: Mapping[str, Array]) -> Variant:
        build = self._build
        is_plain = not (build.isolated or build.flags)  # LLVM stands in for a compiler that is not there
        model = load_compilation(done, build.cc) if is_plain else load(done.artifact, cc=build.cc, isolated=build.isolated, flags=build.flags)
        if not isinstance(model, Model):
            raise EdgeccError("E900", "a compilation for the CPU is none that runs as a model")
        return Variant(model, done.report.outputs, bound,
                       all(value.constant is not None for value in done.graph.outputs))


def same_value(a: Array, b: Array) -> bool:
    """Whether two arrays have one type, shape and content, bit by bit."""
    return a.dtype == b.dtype and a.shape == b.shape and array_bytes(a) == array_bytes(b)


def _has_fixed_shape(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return value.type.HasField("tensor_type") and tensor.HasField("shape") and all(
        dim.HasField("dim_value") for dim in tensor.shape.dim)
