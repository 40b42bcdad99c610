"""Runs Loop IR functions as LLVM code: in this process, or as an object linked into a program for another machine."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecc.backends.llvm.engine import Code, LoadedObject
from edgecc.backends.llvm.kernel import KERNEL_ATTRIBUTES, function_text
from edgecc.backends.llvm.machine import Machine, machine_of
from edgecc.backends.llvm.writer import Shared
from edgecc.loop.ir import Buffer, Function
from edgecc.targets.schema import Target, load_target
from tests.support import ccompile

Arrays = Mapping[str, np.ndarray[Any, Any]]


def machine_for(target: Target) -> Machine:
    """What the target is to LLVM; skips the test where it cannot be run here."""
    machine = machine_of(target)
    if machine is None:
        pytest.skip(f"no code for {target.architecture}")
    if target.architecture == "aarch64" and os.uname().machine != "aarch64":
        for tool in ("aarch64-linux-gnu-gcc", "qemu-aarch64"):
            if shutil.which(tool) is None:
                pytest.skip(f"{tool} is not installed")
    else:
        ccompile.require(target)
    return machine


def functions_text(functions: Sequence[Function], machine: Machine) -> str:
    """The LLVM module of some functions, which are visible outside."""
    shared = Shared(machine)
    texts = [function_text(function, shared, function.name, linkage="dso_local") for function in functions]
    return "\n".join([*texts, shared.text, KERNEL_ATTRIBUTES])


def run_functions(cases: Sequence[tuple[Function, Arrays]], target: str | Target,
                  calls_of: Sequence[Sequence[int]] = ((),), *, optimize: bool = True) -> list[dict[str, np.ndarray[Any, Any]]]:
    """Every output and workspace buffer of each function on its arrays; see `ccompile.run_functions`."""
    chosen = load_target(target) if isinstance(target, str) else target
    machine = machine_for(chosen)
    text = functions_text([function for function, _ in cases], machine)
    if machine.architecture != os.uname().machine:
        return _emulated(cases, text, machine, calls_of, optimize)
    process = LoadedObject(Code(text, machine.triple, machine.cpu, machine.features, optimize=optimize).object())
    results = []
    for function, arrays in cases:
        memory = {buffer.name: _memory(buffer, arrays) for buffer in function.buffers}
        signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(function.buffers), *[ctypes.c_int64] * len(function.parameters))
        run = signature(process.address(function.name))
        for values in calls_of:
            run(*(m.ctypes.data for m in memory.values()), *values)
        results.append({b.name: _array(memory[b.name], b) for b in function.buffers if b.role != "input"})
    return results


def run_function(function: Function, arrays: Arrays, target: str | Target, *, flags: Sequence[str] = (),
                 calls_of: Sequence[Sequence[int]] = ((),)) -> dict[str, np.ndarray[Any, Any]]:
    """`run_functions` for one function; `flags` are those of C compilers, which there are none of."""
    del flags
    return run_functions([(function, arrays)], target, calls_of)[0]


def _memory(buffer: Buffer, arrays: Arrays) -> np.ndarray[Any, Any]:
    """A buffer with its contents, or bytes 0xA5."""
    given = arrays.get(buffer.name)
    size = max(1, buffer.elements) * buffer.dtype.size
    memory = np.full(size + 64, 0xA5, np.uint8)
    memory = memory[-memory.ctypes.data % 64:][:size]
    if given is not None:
        raw = np.ascontiguousarray(given).reshape(-1).view(np.uint8)
        memory[:raw.size] = raw
    return memory


def _array(memory: np.ndarray[Any, Any], buffer: Buffer) -> np.ndarray[Any, Any]:
    return memory.view(buffer.dtype.numpy)[:buffer.elements].copy()


def _emulated(cases: Sequence[tuple[Function, Arrays]], text: str, machine: Machine,
              calls_of: Sequence[Sequence[int]], optimize: bool) -> list[dict[str, np.ndarray[Any, Any]]]:
    """A program of the object and a main in C that reads all buffers and writes back those that are no input."""
    sizes = [[max(1, b.elements) * b.dtype.size for b in function.buffers] for function, _ in cases]
    lines, calls = ["#include <stdio.h>", "#include <stdint.h>"], []
    for number, (function, _) in enumerate(cases):
        types = ", ".join(["void *"] * len(function.buffers) + ["int64_t"] * len(function.parameters))
        lines.append(f"void {function.name}({types});")
        names = [f"b{number}_{i}" for i in range(len(function.buffers))]
        lines += [f"static _Alignas(64) unsigned char {name}[{size}];" for name, size in zip(names, sizes[number], strict=True)]
        calls += [f"if (fread({name}, 1, sizeof {name}, stdin) != sizeof {name}) return 2;" for name in names]
        calls += [f"{function.name}({', '.join([*names, *map(str, values)])});" for values in calls_of]
        calls += [f"fwrite({name}, 1, sizeof {name}, stdout);"
                  for name, buffer in zip(names, function.buffers, strict=True) if buffer.role != "input"]
    data = b"".join(_memory(b, arrays).tobytes() for function, arrays in cases for b in function.buffers)
    with tempfile.TemporaryDirectory(prefix="edgecc-test-") as scratch:
        folder = Path(scratch)
        (folder / "main.c").write_text("\n".join([*lines, "int main(void) {", *calls, "return 0; }", ""]))
        (folder / "kernels.o").write_bytes(Code(text, machine.triple, machine.cpu, machine.features, optimize=optimize).object())
        subprocess.run(["aarch64-linux-gnu-gcc", "-O0", "-static", "main.c", "kernels.o", "-o", "program", "-lm"], cwd=folder, check=True)
        output = subprocess.run(["qemu-aarch64", str(folder / "program")], input=data, capture_output=True, check=True, timeout=300).stdout
    results, offset = [], 0
    for (function, _), own in zip(cases, sizes, strict=True):
        found = {}
        for buffer, size in zip(function.buffers, own, strict=True):
            if buffer.role != "input":
                found[buffer.name] = _array(np.frombuffer(output, np.uint8, size, offset), buffer)
                offset += size
        results.append(found)
    return results


__all__ = ["functions_text", "machine_for", "run_function", "run_functions"]
