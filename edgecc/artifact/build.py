"""Building what `--emit lib` and `--emit exe` leave in the artifact folder."""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path

from edgecc.artifact.folder import Artifact
from edgecc.artifact.runner import RUNNER_SOURCE
from edgecc.artifact.toolchain import BuildOptions, Compiler, build_executable, build_shared_library


def add_library(artifact: Artifact, compiler: Compiler) -> Artifact:
    """The artifact with `libNAME.so` (`.dylib` on macOS), a shared library with ABI 1.

    Raises: EdgeccError E401 where the compiler fails.
    """
    suffix = ".dylib" if compiler.native and _is_macos() else ".so"
    with tempfile.TemporaryDirectory(prefix="edgecc-build-") as scratch:
        folder = artifact.write(Path(scratch) / "artifact")
        built = build_shared_library(compiler, folder, artifact.manifest.sources, Path(scratch) / "library", _options(artifact))
        return artifact.with_library(f"lib{artifact.name}{suffix}", built.output.read_bytes())


def add_program(artifact: Artifact, compiler: Compiler) -> Artifact:
    """The artifact with an executable `NAME` that reads inputs from raw files and writes outputs to raw files.

    Raises: EdgeccError E401 where the compiler fails.
    """
    with tempfile.TemporaryDirectory(prefix="edgecc-build-") as scratch:
        folder = artifact.write(Path(scratch) / "artifact")
        built = build_executable(compiler, folder, artifact.manifest.sources, Path(scratch) / "program", _options(artifact),
                                 main=(RUNNER_SOURCE,))
        return artifact.with_program(artifact.name, built.output.read_bytes())


def _options(artifact: Artifact) -> BuildOptions:
    return BuildOptions(threads=artifact.manifest.threads > 1)


def _is_macos() -> bool:
    return platform.system() == "Darwin"
