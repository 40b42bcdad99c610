"""The one file that knows llvmlite: checking, optimising and translating LLVM IR, and running it in this process."""

from __future__ import annotations

import functools
import threading
from typing import Any

import llvmlite.binding as llvm

from edgecc.errors import EdgeccError, printable

OPTIMIZATION_LEVEL = 2
"""That of the C compilers (BASE_FLAGS in edgecc/artifact/toolchain.py)."""

OPTIONS = ("-enable-misched=false", "-enable-post-misched=false")
"""Instructions stay in the order of the loop programs, whose tiles take all registers and whose multiply-adds stand where
cores without reordering want them: a scheduler would load early and spill. LLVM keeps these for the whole process."""

_LOCK = threading.Lock()


@functools.cache
def _initialize() -> None:
    for option in OPTIONS:
        llvm.set_option("edgecc", option)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def version() -> str:
    """The version of LLVM."""
    return ".".join(map(str, llvm.llvm_version_info))


class Code:
    """A module of LLVM IR that was checked and optimised for one processor.

    Args:
        text: the module, without a triple.
        triple, cpu, features: the processor, as LLVM spells them.
        optimize: whether to optimise it; instructions are chosen with care all the same.
    Raises: EdgeccError E900 where the text is no valid module.
    """

    def __init__(self, text: str, triple: str, cpu: str, features: tuple[str, ...], *, optimize: bool = True) -> None:
        _initialize()
        with _LOCK:
            target = llvm.Target.from_triple(triple)
            self._machine: Any = target.create_target_machine(
                cpu=cpu, features=",".join(features), opt=OPTIMIZATION_LEVEL, reloc="pic", codemodel="default")
            context = llvm.create_context()
            try:
                self._module: Any = llvm.parse_assembly(text, context)
                self._module.triple = triple
                self._module.data_layout = str(self._machine.target_data)
                self._module.verify()
            except RuntimeError as error:
                raise EdgeccError("E900", f"LLVM back end: the module is not valid: {printable(str(error).strip(), 400)}") from None
            if optimize:
                self._optimize()

    def _optimize(self) -> None:
        options = llvm.create_pipeline_tuning_options(speed_level=OPTIMIZATION_LEVEL)
        options.loop_vectorization = True
        options.slp_vectorization = True
        builder = llvm.create_pass_builder(self._machine, options)
        builder.getModulePassManager().run(self._module, builder)

    def ir(self) -> str:
        """The module as text."""
        return str(self._module)

    def assembly(self) -> str:
        """The module as assembly of the target."""
        return str(self._machine.emit_assembly(self._module))

    def object(self) -> bytes:
        """The module as an object file of the target."""
        return bytes(self._machine.emit_object(self._module))


class LoadedObject:
    """An object file for this machine in the memory of this process, linked with what the process has."""

    def __init__(self, content: bytes) -> None:
        _initialize()
        with _LOCK:
            machine = llvm.Target.from_default_triple().create_target_machine()
            empty = llvm.parse_assembly("", llvm.create_context())
            self._engine: Any = llvm.create_mcjit_compiler(empty, machine)
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(content))
            self._engine.finalize_object()

    def address(self, name: str) -> int:
        """The address of a function that is visible outside of the object."""
        found = int(self._engine.get_function_address(name))
        if not found:
            raise EdgeccError("E900", f"LLVM back end: the code has no function {name}")
        return found
