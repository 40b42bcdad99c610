"""What a back end is: it turns a compiled network into the files of an artifact.

There are two kinds. A `LoopBackend` receives the loop programs of a network and prints them for a CPU. A `GraphBackend`
receives the graph itself and writes what other tools or accelerators take. Both are classes, found by name
(edgecc/backends/discovery.py); the fields of a class that is a dataclass are its options. docs/adding-a-backend.md walks
through one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import ClassVar, Literal, Protocol, Self

import numpy.typing as npt

from edgecc.artifact.folder import Artifact
from edgecc.artifact.load import load
from edgecc.backends.requirements import Requirement
from edgecc.errors import EdgeccError
from edgecc.ir.extract import extract
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.types import Array
from edgecc.loop.module import Module
from edgecc.lowering import lower_graph
from edgecc.lowering.options import LoweringOptions
from edgecc.targets.schema import Target

API = 1
"""Version of this interface. A back end states the one it was written for; others are refused by name."""

WEIGHTS_TEXT_LIMIT = 64 * 1024
"""Weights of more bytes never become C text: compilers take seconds for each megabyte of it."""


@dataclass(frozen=True)
class SelfTest:
    """Reference results for the self-test of an artifact.

    Attributes:
        expected: output arrays by name, for the inputs that `edgecc.backends.c.selftest.inputs` gives.
        absolute, relative: |got - want| <= absolute + relative * |want| is accepted.
        errors: by name of an output, |got - want| that is accepted in place of that; broadcasts to the output.
    """

    expected: Mapping[str, Array]
    absolute: float = 1e-4
    relative: float = 1e-3
    errors: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class EmitOptions:
    """Choices of a back end.

    Attributes:
        weights: "linked" puts the weights into the program; "file" leaves them in weights.bin, whose
            content is passed to init().
        self_test: reference results, if the self-test shall compare with some.
        profile: time every kernel call; the header then has a function that gives the times. One run at a time, and
            only where there is a POSIX clock.
        form: one of the back end's `forms`, or "" for its first one.
    """

    weights: str = "linked"
    self_test: SelfTest | None = field(default=None)
    profile: bool = False
    form: str = ""


class Loaded(Protocol):
    """An artifact that can be run, as a context. `edgecc.load` makes such objects of C artifacts."""

    @property
    def code_bytes(self) -> int | None:
        """Bytes of machine code, or None where that is not known."""

    def run(self, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
        """The outputs of one inference by name. Raises: EdgeccError E005 for inputs that do not fit."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None: ...


class Backend(Protocol):
    """What both kinds have in common.

    Class variables:
        api: `API` of the interface it was written for.
        name: by which it is chosen; that of its entry point.
        summary: what it writes, in a few words.
        forms: what `--emit` may name, with a few words each; the first one is the default. No two back ends should share one.
    """

    api: ClassVar[int]
    name: ClassVar[str]
    summary: ClassVar[str]
    forms: ClassVar[Mapping[str, str]]

    def requirements(self) -> tuple[Requirement, ...]:
        """Packages and programs it calls. Where one is missing, compiling ends with exit status 4 and how to install it."""
        return ()

    def accepts(self, target: Target) -> str | None:
        """None if it can write for the target, else the reason why not."""
        return None

    def supports(self, node: Node, target: Target) -> str | None:
        """None if it can write this node, else the reason why not, for people. Asked after its passes have run."""

    def passes(self, default: tuple[str, ...], target: Target) -> tuple[str, ...]:
        """The graph passes to run, by name with options, in order; its own ones are called NAME.PASS.

        Args:
            default: what the compiler would run: for loop programs the whole pipeline, for a graph the part that cleans up
                and recognizes operators, before those that make pieces of work for CPU kernels.
        """
        return default


class LoopBackend(Backend, Protocol):
    """A back end for CPUs, which receives loop programs."""

    takes: ClassVar[Literal["loops"]] = "loops"

    def supports(self, node: Node, target: Target) -> str | None:
        """None if some kernel covers the node."""
        try:
            lower_graph(extract([node], node.outputs)[0], target, name="net", options=LoweringOptions(depth_first=False))
        except EdgeccError as error:
            if error.code != "E112":
                raise
            return error.problems[0].why if error.problems else error.message
        return None

    def emit(self, module: Module, target: Target, options: EmitOptions) -> Artifact:
        """The artifact of a network; equal arguments give equal bytes.

        Raises: EdgeccError E900 where the module breaks a rule of the Loop IR.
        """

    def finish(self, artifact: Artifact, form: str, cc: str | None) -> Artifact:
        """Adds what only tools can make, such as a library that a compiler builds; `cc` is the C compiler that was asked for.

        Raises: EdgeccError E400, E401.
        """
        return artifact

    def load(self, artifact: Artifact, cc: str | None = None) -> Loaded:
        """The artifact as something that can be run, in a process of its own. Raises: EdgeccError E400, E401."""
        return load(artifact, cc=cc, isolated=True)


@dataclass(frozen=True)
class Trace:
    """What a run of an artifact computed inside of the network.

    Attributes:
        integers: arrays of those quantized values of the graph that the run had.
        beyond: by how many steps more than one such a value may be off from what the graph says of the same operands, where the format
            cannot say it exactly.
    """

    integers: Mapping[Value, Array]
    beyond: Mapping[Value, int]


class GraphBackend(Backend, Protocol):
    """A back end that receives the graph. Every node is supported, and dimensions are numbers.

    Class variables:
        steps: by how many steps of its quantization a quantized output may differ from the reference, where the tool that runs
            artifacts rounds by rules of its own.
        unit_roundoff: of the narrowest type that floats are computed in, where that is narrower than theirs.
    """

    takes: ClassVar[Literal["graph"]] = "graph"
    steps: ClassVar[int] = 0
    unit_roundoff: ClassVar[float] = 0.0

    def emit(self, graph: Graph, name: str, target: Target, form: str) -> Artifact:
        """The artifact of a network (`edgecc.artifact.folder.make_export`); equal arguments give equal bytes.

        Args:
            graph: after the back end's passes; not to be changed.
            name: a C identifier, for names of files.
            form: one of `forms`.
        Raises: EdgeccError E114 for what the format cannot say after all, E401 where a tool fails.
        """

    def run(self, artifact: Artifact, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one inference of an artifact in a simulator or another tool; returns the outputs by name.

        Raises: EdgeccError E405 where there is none, E400 where it is not installed, E401 where it fails.
        """
        raise EdgeccError("E405", f"back end {self.name} comes with nothing that runs its artifacts")

    def trace(self, graph: Graph, artifact: Artifact, inputs: Mapping[str, Array]) -> Trace | None:
        """As `run`, but returns the integers inside of the network, for a comparison layer by layer; None where they are not to be had.

        Args:
            graph: the one that `emit` made the artifact of.
        """
        return None

    def left(self, graph: Graph, artifact: Artifact) -> Mapping[Node, str]:
        """The nodes that the tool behind the back end left for a CPU, and why. Where a network is divided they go to its CPU.

        Args:
            graph: the one that `emit` made the artifact of.
        """
        return {}


AnyBackend = LoopBackend | GraphBackend
