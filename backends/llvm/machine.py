"""What a target is to LLVM: a triple, a processor, features."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass

from edgecc.backends.c.backend import target_isa
from edgecc.backends.c.isa import Isa
from edgecc.targets.schema import Target

_TRIPLES = {"aarch64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}

_MARCH_FEATURES = {"fp16": "fullfp16", "simd": "neon"}
"""Names of LLVM for extensions that -march calls otherwise."""

_MARCH_BASES = {"armv8-a": "v8a", "armv8.1-a": "v8.1a", "armv8.2-a": "v8.2a", "armv8.3-a": "v8.3a", "armv8.4-a": "v8.4a",
                "armv8.5-a": "v8.5a", "armv8.6-a": "v8.6a", "armv9-a": "v9a"}


@dataclass(frozen=True)
class Machine:
    """A target as LLVM sees it.

    Attributes:
        triple, cpu, features: as LLVM spells them.
        isa: the table of the C back end, which says which vectors and operations there are.
        architecture: "x86_64" or "aarch64": of the code, also where the target is generic.
    """

    triple: str
    cpu: str
    features: tuple[str, ...]
    isa: Isa
    architecture: str

    @property
    def has_vectors(self) -> bool:
        """Whether code may use vector instructions."""
        return self.isa.widest > 0

    @property
    def has_fma(self) -> bool:
        """Whether a multiply-add that rounds once is an instruction."""
        return self.has_vectors or self.architecture == "aarch64"

    @property
    def converts_halves(self) -> bool:
        """Whether f16 and f32 are converted by instructions: AArch64 always, x86-64 with F16C, which AVX2 comes with."""
        return self.has_vectors or self.architecture == "aarch64"


def machine_of(target: Target) -> Machine | None:
    """The machine of a target; None where LLVM code is not written for its architecture."""
    architecture = target.architecture if target.architecture != "generic" else host_architecture()
    triple = _TRIPLES.get(architecture)
    if triple is None:
        return None
    is_generic = target.architecture == "generic"
    cpu, features = ("x86-64" if architecture == "x86_64" else "generic", ()) if is_generic else _from_flags(target.isa.clang)
    return Machine(triple, cpu, features, target_isa(target), architecture)


def host_architecture() -> str:
    """The architecture of the machine at hand, as targets name it."""
    name = platform.machine().lower()
    return _MACHINES.get(name, name)


def _from_flags(flags: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """Processor and features out of the flags that clang takes."""
    cpu, features = "generic", []
    for flag in flags:
        name, _, value = flag.partition("=")
        if name in ("-march", "-mcpu", "-mtune"):
            base, *extensions = value.split("+")
            if base in _MARCH_BASES:
                features.append(f"+{_MARCH_BASES[base]}")
            elif name != "-mtune":
                cpu = base
            features += [f"+{_MARCH_FEATURES.get(extension, extension)}" for extension in extensions]
        elif name.startswith("-m"):
            features.append(f"+{name[2:]}")
    return cpu, tuple(features)

