"""Runs calibration data through a network and shows chosen values to observers.

The network is compiled, with the values as further outputs, and run on this machine; without a C compiler the
reference executes it. Building takes most of the time, so a network is built once and run for all that is asked of it, with what
makes a build quick and changes no number: no search among forms of a layer that compute the same, and little optimisation by the C
compiler, since kernels say themselves how they are to be vectorized.
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
from edgecc.quantization.floors import Floors
from edgecc.quantization.network import Network
from edgecc.quantization.rest import Rest
from edgecc.reference.executor import execute

Sample = Mapping[str, Array]
Runner = Callable[[Sample], Mapping[str, Array]]
Progress = Callable[[str, int], Callable[[], None]]
"""Called with what begins and how many steps it has; returns what to call after each step."""

BUILD = Options(name="calibration", winograd="off", depth_first="off", integers="always")
BUILD_FLAGS = ("-O1",)


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
        done = compile_model(model, resolve_target("host"), BUILD)
        loaded = load(done.artifact, flags=BUILD_FLAGS)
    except EdgeccError as error:
        if error.code != "E400":
            raise
        graph, _ = import_model_with_report(model)
        yield lambda sample: execute(graph, sample)
        return
    with loaded:
        yield loaded.run


@contextmanager
def finisher(rest: Rest, network: Network) -> Iterator[Callable[[Sample, Sample], Sample]]:
    """A function from the inputs and outputs of a network to the outputs of the model that it is the first part of."""
    own = rest.alone(network.model)
    wanted = [value.name for value in own.graph.input]
    returned = [value.name for value in rest.model.graph.output]
    with runner(own) as run:
        def finish(sample: Sample, results: Sample) -> Sample:
            known = {**sample, **results}
            known |= run({name: known[name] for name in wanted})
            return {name: known[name] for name in returned}
        yield finish


@contextmanager
def watched(network: Network, names: Sequence[str], progress: Progress, what: str) -> Iterator[Runner]:
    """A function from inputs to the outputs and to the values called `names`, as far as they are computed.

    `progress` is told that `what` is being built.
    """
    built = progress(f"building {what}", 1)
    with runner(with_outputs(network, [name for name in names if name in network.producers])) as run:
        built()
        yield run


def observe(network: Network, run: Runner, samples: Samples, observers: Mapping[str, Sequence[Observer]],
            progress: Callable[[], None]) -> None:
    """Shows the values called like the keys of `observers`, of every sample, to the observers of each, as far down as they count (floors.py).

    `run` returns those that are computed (`watched`). `progress` is called after each sample.
    """
    floors = Floors(network)
    for sample in samples:
        seen = {**sample, **run(sample)}
        for name, own in observers.items():
            array = floors.raised(name, seen)
            for observer in own:
                observer.add(array)
        progress()
