"""The C back end: a module of loop programs becomes C11 sources that need nothing but a C compiler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from edgecc.artifact.build import add_library, add_program
from edgecc.artifact.folder import Artifact, make_artifact, weights_blob
from edgecc.artifact.toolchain import find_compiler
from edgecc.backends.base import API, WEIGHTS_TEXT_LIMIT, EmitOptions, LoopBackend
from edgecc.backends.c.build import CMAKE_FILE, cmake_text, public_headers
from edgecc.backends.c.function import PrintedFunction, new_prelude, print_function
from edgecc.backends.c.half_loads import HALVES, PAIRED
from edgecc.backends.c.includes import includes
from edgecc.backends.c.isa import Isa, isa_of
from edgecc.backends.c.model import banner, header, source, symbols_of
from edgecc.backends.c.names import is_identifier, names_a_file
from edgecc.backends.c.selftest import selftest
from edgecc.backends.c.table import IN_ORDER
from edgecc.backends.c.weights import fits_text, weights_assembly, weights_text
from edgecc.errors import EdgeccError
from edgecc.loop.module import Module
from edgecc.targets.schema import Target

DEFAULT_OPTIONS = EmitOptions()

KERNEL_FILE_BYTES = 48 * 1024
"""A file of kernels is closed when it reaches this size, so that compilers can work on several at once."""

RUNTIME = {name: (Path(__file__).parent / name).read_bytes() for name in ("runtime.c", "runtime.h")}
"""What runs parallel loops on threads, in every artifact that has some."""


@dataclass(frozen=True)
class CBackend(LoopBackend):
    """Prints C11 for any target: NEON, AVX2 or AVX-512 where the target has them, else portable C."""

    api: ClassVar[int] = API
    name: ClassVar[str] = "c"
    summary: ClassVar[str] = "C11 for CPUs"
    forms: ClassVar[Mapping[str, str]] = MappingProxyType({
        "c": "C sources", "lib": "C sources and a shared library", "exe": "C sources and a program"})

    def emit(self, module: Module, target: Target, options: EmitOptions = DEFAULT_OPTIONS) -> Artifact:
        """The artifact of a module: NAME.h, NAME.c, kernels, weights, CMakeLists.txt, selftest.c.

        Raises: EdgeccError E900 where the module breaks a rule of the Loop IR.
        """
        for name in (module.name, *(function.name for function in module.functions)):
            if not is_identifier(name):
                raise EdgeccError("E900", f"C back end: {name!r} is no C identifier")
        if names_a_file(module.name):
            raise EdgeccError("E900", f"C back end: {module.name!r} is the name of a file of every artifact")
        weights_from_file = options.weights == "file"
        in_text = not weights_from_file and module.weights_bytes > 0 and fits_text(module, WEIGHTS_TEXT_LIMIT)
        symbols = symbols_of(module)
        files = {
            f"{module.name}.h": header(module, target, symbols, weights_from_file=weights_from_file, profile=options.profile),
            f"{module.name}.c": source(module, target, symbols, weights_from_file=weights_from_file,
                                       weights_in_text=in_text, profile=options.profile),
            "selftest.c": selftest(module, target, symbols, options.self_test, weights_from_file=weights_from_file),
        }
        printed, kernel_files = _kernels(module, target, symbols.functions)
        files["kernels.h"] = _kernels_header(module, target, printed)
        files |= kernel_files
        sources = [f"{module.name}.c", *kernel_files]
        blob = weights_blob(module)
        weights_file = ""
        if weights_from_file:
            weights_file = "weights.bin"
        elif in_text:
            files["weights.c"] = weights_text(module)
            sources.append("weights.c")
        elif blob:
            weights_file = "weights.bin"
            files["weights.S"] = weights_assembly(module.name, module.arena_align)
            sources.append("weights.S")
        has_threads = any(p.uses_threads for p in printed)
        if has_threads:
            sources.append("runtime.c")
        files[CMAKE_FILE] = cmake_text(module.name, sources, target, headers=public_headers(module), weights_file=weights_file if "weights.S" in files else "",
                                       has_threads=has_threads)
        content = {name: text.encode("ascii") for name, text in files.items()}
        if weights_file:
            content[weights_file] = blob
        if has_threads:
            content |= RUNTIME
        return make_artifact(module, target, content, sources, weights_file=weights_file,
                             weights_linked=not weights_from_file)

    def finish(self, artifact: Artifact, form: str, cc: str | None) -> Artifact:
        """Builds the library or the program that the form has. Raises: EdgeccError E400, E401."""
        if form not in ("lib", "exe"):
            return artifact
        compiler = find_compiler(artifact.manifest.target, cc)
        return add_library(artifact, compiler) if form == "lib" else add_program(artifact, compiler)


def target_isa(target: Target) -> Isa:
    """The instruction table of a target."""
    return isa_of(target.architecture, (*target.isa.features, *pipeline_features(target)), target.vector.bits)


def pipeline_features(target: Target) -> tuple[str, ...]:
    """What stands beside the features of a target's instruction set because of how its core issues instructions."""
    if not target.core.in_order:
        return ()
    halves = (HALVES,) if target.core.half_loads else ()
    return (IN_ORDER, *halves, PAIRED) if target.core.paired_halves else (IN_ORDER, *halves)


class _KernelFile:
    """Kernels that share a file, and the helpers they use."""

    def __init__(self, isa: Isa) -> None:
        self.isa = isa
        self.prelude = new_prelude(isa)
        self.printed: list[PrintedFunction] = []

    @property
    def size(self) -> int:
        return sum(len(p.definition) for p in self.printed)

    def text(self, module: Module, target: Target) -> str:
        """The file."""
        has_threads = any(p.uses_threads for p in self.printed)
        own = '#include "kernels.h"\n' + ('#include "runtime.h"\n' if has_threads else "")
        code = "\n".join(filter(None, (self.prelude.text, *(p.definition for p in self.printed))))
        parts = [banner(module, target, "Kernels"), own + includes(self.isa, code), code]
        return "\n".join(part for part in parts if part)


def _kernels(module: Module, target: Target, symbols: Mapping[str, str]) -> tuple[list[PrintedFunction], dict[str, str]]:
    """Every kernel printed, and the files they stand in."""
    isa = target_isa(target)
    locs: dict[str, list[str]] = {}
    for call in module.all_calls:
        locs.setdefault(call.function, []).extend(call.loc)
    closed: list[_KernelFile] = []
    current = _KernelFile(isa)
    for function in module.functions:
        current.printed.append(print_function(function, current.prelude, symbols[function.name], threads=module.threads,
                                              locs=locs.get(function.name, ())))
        if current.size >= KERNEL_FILE_BYTES:
            closed.append(current)
            current = _KernelFile(isa)
    if current.printed:
        closed.append(current)
    names = ["kernels.c"] if len(closed) == 1 else [f"kernels_{number}.c" for number in range(1, len(closed) + 1)]
    files = {name: file.text(module, target) for name, file in zip(names, closed, strict=True)}
    return [p for file in closed for p in file.printed], files


def _kernels_header(module: Module, target: Target, printed: list[PrintedFunction]) -> str:
    guard = f"EDGECC_{module.name.upper()}_KERNELS_H"
    prototypes = "".join(f"{p.prototype};\n" for p in printed)
    return (f"{banner(module, target, 'Kernels')}\n#ifndef {guard}\n#define {guard}\n\n#include <stddef.h>\n#include <stdint.h>\n\n"
            f"{prototypes}\n#endif\n")
