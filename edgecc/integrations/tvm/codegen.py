"""`relax.ext.edgecc`: what TVM calls with the regions that it hands over; each becomes an object file with kernels and weights."""

from __future__ import annotations

import hashlib
import importlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecc.artifact.folder import Artifact
from edgecc.artifact.toolchain import BuildOptions, build_object, find_compiler
from edgecc.integrations.tvm.glue import FILE, entry
from edgecc.integrations.tvm.importing import import_function
from edgecc.pipeline import compile_graph, emit_c
from edgecc.targets.schema import Target, load_target

EXTERNAL = "edgecc"
"""The name of the code generator in TVM: attribute `Codegen` of functions, prefix of patterns."""


def compile_region(function: Any, symbol: str, target: Target) -> Artifact:
    """The C artifact of a function of Relax that TVM calls by `symbol`, the file for that included. Raises: EdgeccError."""
    name = f"region_{hashlib.sha256(symbol.encode()).hexdigest()[:12]}"
    artifact = emit_c(compile_graph(import_function(function, name), target, name=name))
    sources = (*artifact.manifest.sources, FILE)
    return replace(artifact, manifest=replace(artifact.manifest, sources=sources), files={**artifact.files, FILE: entry(artifact, symbol)})


def generate(functions: Sequence[Any], options: Mapping[str, Any] | None, names: Any) -> list[Any]:
    """The code generator: a static library, as TVM calls object files, for each function.

    Args:
        functions: of Relax, with an attribute `global_symbol`.
        options: "target", a target of edgecc by name; the machine at hand without it.
        names: of constants; unused, because weights are compiled in.
    Raises: EdgeccError, which TVM passes on.
    """
    runtime = importlib.import_module("tvm.runtime")
    target = load_target(str((options or {}).get("target", "host")))
    compiler, libraries = find_compiler(target), []
    for function in functions:
        symbol = str(function.attrs["global_symbol"])
        artifact = compile_region(function, symbol, target)
        with tempfile.TemporaryDirectory(prefix="edgecc-tvm-") as folder:
            for name, content in artifact.files.items():
                (Path(folder) / name).write_bytes(content)
            # Every artifact has the entry of the generic ABI; one library holds several of them.
            renamed = BuildOptions(flags=(f"-Dedgecc_get_model={artifact.name}_generic",))
            built = build_object(compiler, Path(folder), artifact.manifest.sources, Path(folder) / "region.o", renamed)
            libraries.append(runtime.load_static_library(str(built.output), [symbol]))
    return libraries


def register() -> None:
    """Makes TVM know the code generator. Calling it again changes nothing."""
    ffi = importlib.import_module("tvm_ffi")
    ffi.register_global_func(f"relax.ext.{EXTERNAL}", generate, override=True)
