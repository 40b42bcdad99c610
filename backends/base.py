"""What a back end is: it turns a compiled network into the files of an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from edgecc.artifact.folder import Artifact
from edgecc.ir.types import Array
from edgecc.loop.module import Module
from edgecc.targets.schema import Target

WEIGHTS_TEXT_LIMIT = 64 * 1024
"""Weights of more bytes never become C text: compilers take seconds for each megabyte of it."""


@dataclass(frozen=True)
class SelfTest:
    """Reference results for the self-test of an artifact.

    Attributes:
        expected: output arrays by name, for the inputs that `edgecc.backends.c.selftest.inputs` gives.
        absolute, relative: |got - want| <= absolute + relative * |want| is accepted.
    """

    expected: Mapping[str, Array]
    absolute: float = 1e-4
    relative: float = 1e-3


@dataclass(frozen=True)
class EmitOptions:
    """Choices of a back end.

    Attributes:
        weights: "linked" puts the weights into the program; "file" leaves them in weights.bin, whose
            content is passed to init().
        self_test: reference results, if the self-test shall compare with some.
        profile: time every kernel call; the header then has a function that gives the times. One run at a time, and
            only where there is a POSIX clock.
    """

    weights: str = "linked"
    self_test: SelfTest | None = field(default=None)
    profile: bool = False


class Backend(Protocol):
    """A back end for CPUs, which receives loop programs."""

    @property
    def name(self) -> str:
        """The name used on the command line."""

    def supports(self, target: Target) -> str | None:
        """None if the back end can emit code for the target, else the reason why not."""

    def emit(self, module: Module, target: Target, options: EmitOptions) -> Artifact:
        """The artifact of a network; equal arguments give equal bytes.

        Raises: EdgeccError E900 where the module breaks a rule of the Loop IR.
        """


