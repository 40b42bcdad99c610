"""Compiled networks in the memory of this process, without any compiler or linker."""

from __future__ import annotations

import ctypes

from edgecc.artifact import elf
from edgecc.artifact.abi import ModelStruct, OpenModelStruct
from edgecc.artifact.folder import Artifact, weights_blob
from edgecc.artifact.load import Model, ports_of
from edgecc.artifact.runner import CodeExecutor
from edgecc.artifact.toolchain import runs_natively
from edgecc.backends.llvm.engine import Code, LoadedObject
from edgecc.backends.llvm.machine import Machine, machine_of
from edgecc.backends.llvm.model import Weights, module_text
from edgecc.errors import EdgeccError
from edgecc.loop.module import Module
from edgecc.targets.schema import Target


def load_here(module: Module, target: Target) -> Model:
    """A network as a Python callable, compiled into this process.

    Raises: EdgeccError E400 where this machine cannot run code of the target.
    """
    machine = native_machine(target)
    code = Code(module_text(module, target, machine, Weights.GIVEN), machine.triple, machine.cpu, machine.features)
    executor, code_bytes = _executor(code.object(), is_open=module.is_open)
    executor.load_weights(weights_blob(module))
    return Model(executor, ports_of(module.inputs), ports_of(module.outputs), arena_bytes=module.arena_bytes,
                 weights_bytes=module.weights_bytes, code_bytes=code_bytes, manifest=None)


def load_object(artifact: Artifact) -> Model:
    """The object of an artifact as a Python callable in this process."""
    manifest = artifact.manifest
    native_machine(manifest.target)
    inputs, outputs = ports_of(manifest.inputs), ports_of(manifest.outputs)
    executor, code_bytes = _executor(artifact.files[manifest.sources[0]], is_open=any(port.is_open for port in (*inputs, *outputs)))
    if not manifest.weights.linked:
        executor.load_weights(artifact.files[manifest.weights.file])
    return Model(executor, inputs, outputs, arena_bytes=manifest.arena_bytes, weights_bytes=manifest.weights.size_bytes,
                 code_bytes=code_bytes, manifest=manifest)


def _executor(content: bytes, *, is_open: bool) -> tuple[CodeExecutor, int | None]:
    """An object file in the memory of this process, and the bytes of its code."""
    code = LoadedObject(content)
    model = ctypes.CFUNCTYPE(ctypes.POINTER(ModelStruct))(code.address("edgecc_get_model"))().contents
    open_model = None
    if is_open:
        open_model = ctypes.CFUNCTYPE(ctypes.POINTER(OpenModelStruct))(code.address("edgecc_get_open_model"))().contents
    return CodeExecutor(model, open_model, code), elf.code_bytes(content)


def native_machine(target: Target) -> Machine:
    """The machine of a target that is the one at hand.

    Raises: EdgeccError E400 where it is not.
    """
    machine = machine_of(target)
    if machine is None or not runs_natively(target):
        raise EdgeccError("E400", "code in this process has to be code of this machine", where=target.name,
                          hint="choose --target host, or --backend c with a C compiler and an emulator")
    return machine
