"""Runs calibration data through a network and shows chosen values to observers.

The network is compiled, with the values as further outputs, and run on this machine; without a C compiler the
reference executes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import onnx
from onnx import helper

from edgecc.api import Options, compile_model, resolve_target
from edgecc.artifact.load import load
from edgecc.errors import EdgeccError
from edgecc.frontend.importing import import_model_with_report
from edgecc.ir.types import Array
from edgecc.quantization.network import Network
from edgecc.reference.executor import execute

Sample = Mapping[str, Array]
Runner = Callable[[Sample], Mapping[str, Array]]


class Samples(Protocol):
    """Samples that can be gone through several times."""

    def __len__(self) -> int:
        """How many there are."""

    def __iter__(self) -> Iterator[Sample]:
        """Each of them."""


class Observer(Protocol):
    """Looks at the arrays of one value, sample by sample."""

    def add(self, values: Array, /) -> None:
        """One sample."""


def with_outputs(network: Network, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of the model that returns the values called `names` as well."""
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    returned = set(network.outputs)
    for name in names:
        if name not in returned:
            returned.add(name)
            code, dims = network.types[name]
            model.graph.output.append(helper.make_tensor_value_info(name, code, dims))
    return model


@contextmanager
def runner(model: onnx.ModelProto) -> Iterator[Runner]:
    """A function from inputs to outputs by name."""
    try:
        done = compile_model(model, resolve_target("host"), Options(name="calibration", winograd="off"))
        loaded = load(done.artifact)
    except EdgeccError as error:
        if error.code != "E400":
            raise
        graph, _ = import_model_with_report(model)
        yield lambda sample: execute(graph, sample)
        return
    with loaded:
        yield loaded.run


def observe(network: Network, samples: Samples, observers: Mapping[str, Sequence[Observer]],
            progress: Callable[[], None]) -> None:
    """Shows the values called like the keys of `observers`, of every sample, to the observers of each.

    `progress` is called after each sample.
    """
    names = [name for name in observers if name not in network.constants]
    inputs = set(network.inputs)
    with runner(with_outputs(network, [name for name in names if name not in inputs])) as run:
        for sample in samples:
            results = run(sample)
            for name in names:
                array = sample[name] if name in inputs else results[name]
                for observer in observers[name]:
                    observer.add(array)
            progress()
    for name in observers:
        if name in network.constants:
            for observer in observers[name]:
                observer.add(network.constants[name])
