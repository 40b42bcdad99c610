"""The Python verbs: compile, load, verify.

    artifact = edgecc.compile("model.onnx", target="cortex-a76", output="out/model")
    model = edgecc.load("out/model")
    outputs = model.run({"input": array})
    assert edgecc.verify("model.onnx", target="cortex-a76").ok

The command line and the other surfaces take the steps that these are made of: `options` says how to compile, `compilation` does it and
keeps every stage, `running` makes something of it that runs, `verification` compares what that computes with the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecc.api.compilation import (
    Compilation,
    Division,
    Export,
    compile_for,
    compile_model,
    export_model,
    finish,
    imported,
    resolve_target,
)
from edgecc.api.options import DEFAULT_OPTIONS, ModelSource, Options
from edgecc.api.running import is_compiled, load_compilation, load_or_compile
from edgecc.api.verification import Verification, require_ok, verify_compilation
from edgecc.artifact.folder import Artifact
from edgecc.artifact.load import Model, load
from edgecc.backends.discovery import select_backend
from edgecc.targets.schema import Target

__all__ = [
    "DEFAULT_OPTIONS", "Artifact", "Compilation", "Division", "Export", "Model", "ModelSource", "Options", "Verification",
    "compile", "compile_for", "compile_model", "export_model", "finish", "imported", "is_compiled", "load", "load_compilation",
    "load_or_compile", "require_ok", "resolve_target", "verify", "verify_compilation",
]


def compile(model: ModelSource, target: str | Path | Target = "host", output: str | Path | None = None, *,
            emit: str | None = None, backend: str | None = None, verify: bool = False, cc: str | None = None,
            **options: Any) -> Artifact:
    """Compiles an ONNX model, to C if nothing else is said.

    Args:
        model: path, bytes or ModelProto.
        target: name of a target, path of a TOML file, or a Target.
        output: the folder to write, whole or not at all; without it nothing is written.
        emit: a form of some back end: "c" for sources, "lib" or "exe" to build a shared library or a program into the
            folder as well, "onnx" for an ONNX model. `edgecc doctor` lists them.
        backend: a back end by name, with options in braces; by default the one that has the form.
        verify: compare with the reference on random inputs before anything is written.
        cc: the C compiler for `emit` and `verify`.
        options: the fields of `Options`.
    Returns: the artifact: the manifest and the content of every file.
    Raises: EdgeccError; E300 where `verify` finds a difference. See the catalogue in edgecc/errors.py.
    """
    done = compile_for(model, resolve_target(target), Options(**options), backend, emit)
    artifact = finish(done, select_backend(backend, emit)[1], cc)
    if verify:
        require_ok(verify_compilation(done, cc=cc, inputs=None, expected=None))
    if output is not None:
        artifact.write(output)
    return artifact


def verify(model: ModelSource, target: str | Path | Target = "host", *, inputs: Mapping[str, npt.ArrayLike] | None = None,
           expected: Mapping[str, npt.ArrayLike] | None = None, cc: str | None = None, seed: int = 0,
           emit: str | None = None, backend: str | None = None, **options: Any) -> Verification:
    """Compiles a model, runs it (under an emulator or in a simulator for other machines) and compares the outputs.

    Args:
        model, target: as for `compile`.
        inputs: arrays by input name, which bind dynamic dimensions too; random ones of `seed` by default.
        expected: arrays by output name; by default the reference execution of the imported graph.
        cc: the C compiler.
        emit, backend: as for `compile`.
        options: the fields of `Options`.
    Raises: EdgeccError, but not where outputs differ: then the result's `ok` is false.
    """
    arrays = None if inputs is None else {name: np.asarray(array) for name, array in inputs.items()}
    done = compile_for(model, resolve_target(target), Options(**{**options, "inputs": arrays}), backend, emit)
    wanted = None if expected is None else {name: np.asarray(array) for name, array in expected.items()}
    return verify_compilation(done, inputs=arrays, expected=wanted, cc=cc, seed=seed)
