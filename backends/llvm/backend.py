"""The LLVM back end: a module of loop programs becomes an object file, assembly or LLVM IR, without a C compiler."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgecc.artifact import elf
from edgecc.artifact.folder import Artifact, make_artifact, weights_blob
from edgecc.backends.base import EmitOptions
from edgecc.backends.c.model import header, symbols_of
from edgecc.backends.llvm.engine import Code
from edgecc.backends.llvm.machine import Machine, machine_of
from edgecc.backends.llvm.model import WEIGHTS_FILE, WEIGHTS_SECTION, Weights, module_text, weights_symbol
from edgecc.errors import EdgeccError
from edgecc.loop.module import Module
from edgecc.targets.schema import Target

DEFAULT_OPTIONS = EmitOptions()
FORMS = {"obj": ".o", "asm": ".s", "llvm-ir": ".ll"}
"""What the back end leaves, and the ends of the names of those files."""


@dataclass(frozen=True)
class LlvmBackend:
    """Translates for x86-64 and AArch64, vectors included. Code runs on one thread.

    Attributes:
        form: "obj" for an object file with everything in it, "asm" for assembly, "llvm-ir" for the module before it is
            optimised; the latter two have the weights beside them.
    """

    name: str = "llvm"
    form: str = "obj"

    def supports(self, target: Target) -> str | None:
        """None, or why there is no code for the target."""
        if machine_of(target) is None:
            return f"code of LLVM is written for x86-64 and AArch64, not for {target.architecture}"
        return None

    def emit(self, module: Module, target: Target, options: EmitOptions = DEFAULT_OPTIONS) -> Artifact:
        """The artifact of a module: NAME.h and NAME.o, NAME.s or NAME.ll.

        Raises: EdgeccError E001 for what the back end has not (threads, profiling, other architectures); E900 where the
            module breaks a rule of the Loop IR.
        """
        machine = self._machine(module, target, options)
        given = options.weights == "file"
        blob = weights_blob(module)
        name = f"{module.name}{FORMS[self.form]}"
        content = self._content(module, target, machine, Weights.GIVEN if given else Weights.INCLUDED if self.form == "llvm-ir" else Weights.PLACE)
        if blob and not given and self.form == "obj":
            content = elf.with_section(content, WEIGHTS_SECTION, blob)
        files = {f"{module.name}.h": header(module, target, symbols_of(module), weights_from_file=given).encode("ascii"), name: content}
        weights_file = WEIGHTS_FILE if blob and (given or self.form != "obj") else ""
        if weights_file:
            files[weights_file] = blob
        return make_artifact(module, target, files, (name,), weights_file=weights_file, weights_linked=not given)

    def _machine(self, module: Module, target: Target, options: EmitOptions) -> Machine:
        machine = machine_of(target)
        if machine is None:
            raise EdgeccError("E001", f"--emit {self.form}: {self.supports(target)}", where=target.name, hint="--emit c writes portable C")
        if module.threads > 1:
            raise EdgeccError("E001", f"--emit {self.form} writes code for one thread, not for {module.threads}", where=target.name,
                              hint="--threads 1, or --emit c")
        if options.profile or options.self_test is not None:
            raise EdgeccError("E001", f"--emit {self.form} has neither self-test nor profile", hint="--emit c has both")
        return machine

    def _content(self, module: Module, target: Target, machine: Machine, weights: Weights) -> bytes:
        text = module_text(module, target, machine, weights)
        code = Code(text, machine.triple, machine.cpu, machine.features, optimize=self.form != "llvm-ir")
        match self.form:
            case "llvm-ir":
                return text.encode("ascii")  # as it was written, now that it has been checked
            case "asm":
                return _including(code.assembly(), weights_symbol(module)).encode("ascii")
        return code.object()


def _including(assembly: str, symbol: str) -> str:
    """Assembly in which the place for the weights is the content of a file."""
    return re.sub(rf"^({re.escape(symbol)}:\n)\s*\.zero\s.*$", rf'\1\t.incbin "{WEIGHTS_FILE}"', assembly, flags=re.MULTILINE)
