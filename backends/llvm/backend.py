"""The LLVM back end: a module of loop programs becomes an object file, assembly or LLVM IR, without a C compiler."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from edgecc.artifact import elf
from edgecc.artifact.folder import Artifact, make_artifact, weights_blob
from edgecc.artifact.load import load
from edgecc.artifact.toolchain import runs_natively
from edgecc.backends.base import API, EmitOptions, Loaded, LoopBackend
from edgecc.backends.c.backend import RUNTIME
from edgecc.backends.c.build import CMAKE_FILE, cmake_text, public_headers
from edgecc.backends.c.model import header, symbols_of
from edgecc.backends.llvm.engine import Code
from edgecc.backends.llvm.jit import load_object
from edgecc.backends.llvm.machine import Machine, machine_of
from edgecc.backends.llvm.model import WEIGHTS_FILE, WEIGHTS_SECTION, Weights, module_text, weights_symbol
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Node
from edgecc.ir.types import DType
from edgecc.loop.ir import For
from edgecc.loop.module import Module
from edgecc.targets.schema import Target

DEFAULT_OPTIONS = EmitOptions()
SUFFIXES = {"obj": ".o", "asm": ".s", "llvm-ir": ".ll"}
"""Ends of the names of what each form leaves."""


@dataclass(frozen=True)
class LlvmBackend(LoopBackend):
    """Translates for x86-64 and AArch64, vectors included, without a C compiler."""

    api: ClassVar[int] = API
    name: ClassVar[str] = "llvm"
    summary: ClassVar[str] = "objects for CPUs by LLVM, without a C compiler"
    forms: ClassVar[Mapping[str, str]] = MappingProxyType({
        "obj": "an object file", "asm": "assembly", "llvm-ir": "LLVM IR before it is optimised"})

    def accepts(self, target: Target) -> str | None:
        """None, or why there is no code for the target."""
        if machine_of(target) is None:
            return f"code is written for x86-64 and AArch64, not for {printable(target.architecture)}"
        return None

    def supports(self, node: Node, target: Target) -> str | None:
        """None if some kernel covers the node, and it has nothing to do with strings."""
        if any(value is not None and value.type.dtype is DType.STRING for value in (*node.inputs, *node.outputs)):
            return "LLVM code has no strings"
        return super().supports(node, target)

    def emit(self, module: Module, target: Target, options: EmitOptions = DEFAULT_OPTIONS) -> Artifact:
        """The artifact of a module: NAME.h and NAME.o, NAME.s or NAME.ll.

        Where the network runs on threads, runtime.c is beside it: linked with it the object runs on them, without it on one.

        Raises: EdgeccError E001 and E115 for what the back end has not (self-tests, strings, other architectures);
            E900 where the module breaks a rule of the Loop IR.
        """
        form = options.form or "obj"
        machine = _machine(module, target, options)
        given = options.weights == "file"
        blob = weights_blob(module)
        name = f"{module.name}{SUFFIXES[form]}"
        weights = Weights.GIVEN if given else Weights.INCLUDED if form == "llvm-ir" else Weights.PLACE
        content = _content(form, module, target, machine, weights, options)
        if blob and not given and form == "obj":
            content = elf.with_section(content, WEIGHTS_SECTION, blob)
        files = {f"{module.name}.h": header(module, target, symbols_of(module), weights_from_file=given, profile=options.profile).encode("ascii"), name: content}
        weights_file = WEIGHTS_FILE if blob and (given or form != "obj") else ""
        if weights_file:
            files[weights_file] = blob
        has_threads = module.threads > 1 and any(isinstance(stmt, For) and stmt.kind == "parallel" for f in module.functions for stmt in f.body)
        sources = (name, "runtime.c") if has_threads else (name,)
        files |= RUNTIME if has_threads else {}
        if form != "llvm-ir":
            files[CMAKE_FILE] = cmake_text(module.name, sources, target, headers=public_headers(module), weights_file=weights_file if form == "asm" and not given else "",
                                           has_threads=has_threads, has_self_test=False).encode("ascii")
        return make_artifact(module, target, files, sources, weights_file=weights_file, weights_linked=not given)

    def load(self, artifact: Artifact, cc: str | None = None) -> Loaded:
        """An object runs in this process where the machine is this one; else a linker and an emulator are needed."""
        name = artifact.manifest.sources[0]
        if name.endswith(SUFFIXES["obj"]) and runs_natively(artifact.manifest.target) and cc is None:
            return load_object(artifact)
        return load(artifact, cc=cc, isolated=True)


def _machine(module: Module, target: Target, options: EmitOptions) -> Machine:
    machine = machine_of(target)
    if machine is None:
        raise EdgeccError("E115", f"there is no LLVM code for {printable(target.architecture)}", where=target.name, hint="--emit c writes portable C")
    if module.strings is not None:
        raise EdgeccError("E115", "LLVM code has no strings", hint="--emit c has them")
    if options.self_test is not None:
        raise EdgeccError("E001", "LLVM code has no self-test", hint="--emit c has one")
    return machine


def _content(form: str, module: Module, target: Target, machine: Machine, weights: Weights, options: EmitOptions) -> bytes:
    text = module_text(module, target, machine, weights, threads=module.threads, profile=options.profile)
    code = Code(text, machine.triple, machine.cpu, machine.features, optimize=form != "llvm-ir")
    match form:
        case "llvm-ir":
            return text.encode("ascii")  # as it was written, now that it has been checked
        case "asm":
            return _including(code.assembly(), weights_symbol(module)).encode("ascii")
    return code.object()


def _including(assembly: str, symbol: str) -> str:
    """Assembly in which the place for the weights is the content of a file."""
    return re.sub(rf"^({re.escape(symbol)}:\n)\s*\.zero\s.*$", rf'\1\t.incbin "{WEIGHTS_FILE}"', assembly, flags=re.MULTILINE)
