"""The one file that knows llvmlite: checking, optimising and translating LLVM IR, and running it in this process."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from typing import Any

import llvmlite.binding as llvm

from edgecc.errors import EdgeccError, printable

OPTIMIZATION_LEVEL = 2
"""That of the C compilers (BASE_FLAGS in edgecc/artifact/toolchain.py)."""

_LOCK = threading.Lock()


@functools.cache
def _initialize() -> None:
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
        in_process: whether it will run in this process.
    Raises: EdgeccError E900 where the text is no valid module.
    """

    def __init__(self, text: str, triple: str, cpu: str, features: tuple[str, ...], *, in_process: bool = False,
                 optimize: bool = True) -> None:
        _initialize()
        with _LOCK:
            target = llvm.Target.from_triple(triple)
            self._machine: Any = target.create_target_machine(
                cpu=cpu, features=",".join(features), opt=OPTIMIZATION_LEVEL, reloc="pic",
                codemodel="small" if in_process else "default", jit=in_process)
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

    def run_here(self, symbols: Mapping[str, int] | None = None) -> Process:
        """Puts the code into the memory of this process; `symbols` are addresses of what it does not define."""
        return Process(self._module, self._machine, symbols or {})


class Process:
    """Code in the memory of this process.

    Attributes:
        object: it as an object file.
    """

    def __init__(self, module: Any, machine: Any, symbols: Mapping[str, int]) -> None:
        with _LOCK:
            for name, address in symbols.items():
                llvm.add_symbol(name, address)
            self._engine: Any = llvm.create_mcjit_compiler(module, machine)
            found: list[bytes] = []
            self._engine.set_object_cache(lambda _, content: found.append(bytes(content)))
            self._engine.finalize_object()
            self.object = b"".join(found)

    def address(self, name: str) -> int:
        """The address of a function."""
        found = int(self._engine.get_function_address(name))
        if not found:
            raise EdgeccError("E900", f"LLVM back end: the code has no function {name}")
        return found
