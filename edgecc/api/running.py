"""Compilations, artifacts and models as something that runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self, cast

import numpy.typing as npt

from edgecc.api.compilation import Compilation, Division, Export, compile_for, resolve_target
from edgecc.api.options import DEFAULT_OPTIONS, Options
from edgecc.artifact.folder import Artifact, Manifest, read_manifest
from edgecc.artifact.load import Model, check_inputs, load, ports_of
from edgecc.artifact.toolchain import lacks_compiler, runs_natively
from edgecc.backends.base import AnyBackend, EmitOptions, Loaded, LoopBackend
from edgecc.backends.discovery import create_backend
from edgecc.backends.exported import exported_model
from edgecc.errors import EdgeccError, printable
from edgecc.ir.types import Array
from edgecc.partition.run import PartitionedModel


def loaded(done: Compilation | Export | Division, cc: str | None) -> Loaded:
    """A compilation as something that can be run."""
    match done:
        case Compilation():
            return load_compilation(done, cc)
        case Division(partitioned=made):
            return PartitionedModel(made.artifact, made.npu, made.cpu, cc)
    return _Runs(done)


def load_compilation(done: Compilation, cc: str | None = None) -> Loaded:
    """A compilation as something that can be run, in a process of its own.

    C for a machine that has no C compiler is not built: LLVM compiles the same loop programs into this process.
    Raises: EdgeccError E400, E401.
    """
    target = done.compiled.target
    if done.backend.name != "c" or cc is not None or not lacks_compiler(target):
        return done.backend.load(done.artifact, cc)
    return _through_llvm().load(_through_llvm().emit(replace(done.compiled.module, threads=1), target, EmitOptions()))


def is_compiled(source: Path) -> bool:
    """Whether a path is that of an artifact folder or of a shared library, rather than of a model."""
    return source.is_dir() or source.suffix in (".so", ".dylib")


def load_or_compile(source: Path, target: str | None, *, cc: str | None = None, isolated: bool = False, backend: str | None = None,
                    options: Options = DEFAULT_OPTIONS) -> Model:
    """A runnable model from an artifact folder, a shared library, or an ONNX model (compiled on the way, by `backend`).

    What a back end wrote for other tools runs in these (`GraphBackend.run`).

    Raises: EdgeccError E001 for a back end whose artifacts do not run as a model does.
    """
    if is_compiled(source):
        if target is not None or backend is not None:
            raise EdgeccError("E001", f"--target and --backend are for models; {printable(str(source))} is compiled already")
        if source.is_dir() and (main := read_manifest(source)).main:
            return _exported(create_backend(main.backend), Artifact.read(source))
        if source.is_dir() and cc is None and _is_object(read_manifest(source)):
            return _as_model(_through_llvm().load(Artifact.read(source)))
        return load(source, cc=cc, isolated=isolated)
    done = compile_for(source, resolve_target(target or "host"), options, backend)
    if isinstance(done, Division):
        raise EdgeccError("E001", f"the model is divided between the sides of {done.artifact.manifest.target.name}; `edgecc verify` runs both",
                          hint="--backend c is for the CPU alone")
    if not isinstance(done, Compilation):
        return exported_model(done.backend, done.artifact)
    return _as_model(load_compilation(done, cc))


class _Runs:
    """An export as something that can be run."""

    code_bytes: int | None = None

    def __init__(self, done: Export) -> None:
        self._done = done

    def run(self, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
        """The outputs by name. Raises: EdgeccError E005, and what the back end raises."""
        manifest = self._done.artifact.manifest
        arrays = check_inputs(ports_of(manifest.inputs), inputs)
        named = {port.name: array for port, array in zip(manifest.inputs, arrays, strict=True)}
        return self._done.backend.run(self._done.artifact, named)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None


def _through_llvm() -> LoopBackend:
    return cast(LoopBackend, create_backend("llvm"))


def _is_object(manifest: Manifest) -> bool:
    """Whether an artifact is an object file for this machine."""
    return manifest.sources[:1] != () and manifest.sources[0].endswith(".o") and runs_natively(manifest.target)


def _exported(backend: AnyBackend, artifact: Artifact) -> Model:
    if backend.takes != "graph":
        raise EdgeccError("E007", f"back end {backend.name} does not write {printable(artifact.manifest.main)}")
    return exported_model(backend, artifact)


def _as_model(loaded: Loaded) -> Model:
    if not isinstance(loaded, Model):
        raise EdgeccError("E001", "the back end's artifacts can be verified, but not run by themselves")
    return loaded
