"""Runs one Loop IR function as C: printed, compiled with a real compiler, executed (under qemu where needed).

    arrays = run_function(function, {"x": x, "w": w}, target)      # every output and workspace buffer

`target` is a `Target`, or a `Machine` of this module (PORTABLE, AVX2, AVX512, NEON). A test calls
`require(target)` first, or uses `run_function`, which skips the test when the compiler, the CPU or
the emulator is absent.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecc.artifact.toolchain import GLIBC_VERSION, zig_command
from edgecc.backends.c.backend import pipeline_features
from edgecc.backends.c.function import new_prelude, print_function
from edgecc.backends.c.includes import includes
from edgecc.backends.c.isa import isa_of
from edgecc.backends.c.table import STORAGE
from edgecc.loop.ir import Buffer, Function
from edgecc.targets.schema import load_target
from tests.support.parsed_headers import with_parsed_headers

WARNINGS = ("-Wall", "-Wextra", "-Werror")
FLAGS = ("-Og",)
"""For code that runs once: gcc compiles large kernels three times as fast as with -O1, and vectors stay in registers."""
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@dataclass(frozen=True)
class Machine:
    """What a test needs to know of a machine; `flags` are understood by gcc and clang, `zig_flags` by zig."""

    name: str
    architecture: str
    features: tuple[str, ...]
    vector_bits: int
    flags: tuple[str, ...]
    needs: tuple[str, ...] = ()
    """Flags of /proc/cpuinfo without which the host cannot run it."""
    zig_flags: tuple[str, ...] = ()


PORTABLE = Machine("portable", "generic", (), 0, ())
AVX2 = Machine("avx2", "x86_64", ("avx2", "fma"), 256, ("-march=x86-64-v3",), ("avx2", "fma", "f16c"),
               ("-mcpu=x86_64_v3",))
AVX512 = Machine("avx512", "x86_64", ("avx2", "fma", "avx512f", "avx512vl", "avx512bw", "avx512dq"), 512,
                 ("-march=x86-64-v4",), ("avx512f", "avx512vl", "avx512bw", "avx512dq"),
                 ("-mcpu=x86_64_v4",))
NEON = Machine("neon", "aarch64", ("neon",), 128, ("-march=armv8-a",), zig_flags=("-mcpu=generic",))
AVX512_BF16 = Machine("avx512-bf16", "x86_64", (*AVX512.features, "avx512bf16", "avx512vnni"), 512, (*AVX512.flags, "-mavx512bf16", "-mavx512vnni"),
                      (*AVX512.needs, "avx512_bf16", "avx512_vnni"), ("-mcpu=x86_64_v4+avx512bf16+avx512vnni",))
NEON_FP16 = Machine("neon-fp16", "aarch64", ("neon", "fp16"), 128, ("-march=armv8.2-a+fp16",), zig_flags=("-mcpu=cortex_a76",))
MACHINES = (PORTABLE, AVX2, AVX512, NEON)


def machine_of(target: Any) -> Machine:
    """A `Machine` of a `Target` (or the machine itself)."""
    if isinstance(target, Machine):
        return target
    needs = {"avx512bf16": AVX512_BF16.needs, "avx512f": AVX512.needs, "avx2": AVX2.needs}
    needed = next((needs[f] for f in ("avx512bf16", "avx512f", "avx2") if f in target.isa.features), ())
    if "avx512vbmi" in target.isa.features:
        needed = (*needed, "avx512vbmi")
    return Machine(target.name, target.architecture, (*target.isa.features, *pipeline_features(target)), target.vector.bits, tuple(target.isa.gcc), needed,
                   tuple(target.isa.zig))


@functools.cache
def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.split(":")[-1].split())


def command_of(machine: Machine, compiler: str) -> list[str] | None:
    """The compiler command for a machine ("gcc", "clang" or "zig"), or None where it is not installed."""
    cross = machine.architecture == "aarch64" and os.uname().machine != "aarch64"
    if compiler == "zig":
        zig = zig_command()
        architecture = os.uname().machine if machine.architecture == "generic" else machine.architecture
        return None if zig is None else [*zig, "cc", "-target", f"{architecture}-linux-{'musl' if linker_of_zig(machine) is None else f'gnu.{GLIBC_VERSION}'}"]
    if compiler == "clang":
        found = shutil.which("clang")
        if found is None or (cross and shutil.which("aarch64-linux-gnu-gcc") is None):
            return None
        return [found, *(["--target=aarch64-linux-gnu"] if cross else [])]
    name = "aarch64-linux-gnu-gcc" if cross else "gcc"
    return [name] if shutil.which(name) else None


def linker_of_zig(machine: Machine) -> list[str] | None:
    """What links objects that zig has made: gcc, where it is installed. zig would first build its C library, for each kind of processor
    anew, in a minute of processor time."""
    return command_of(machine, "gcc")


def require(target: Any, compiler: str = "gcc") -> None:
    """Skips the test where the machine at hand cannot compile for, or run, `target`."""
    machine = machine_of(target)
    if command_of(machine, compiler) is None:
        pytest.skip(f"no {compiler} for {machine.architecture}")
    host = os.uname().machine
    if machine.architecture == "aarch64" and host != "aarch64" and shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is not installed")
    if machine.architecture == "x86_64":
        missing = [flag for flag in machine.needs if flag not in _cpu_flags()]
        if host != "x86_64" or missing:
            pytest.skip(f"this CPU lacks {', '.join(missing) or 'x86-64'}")


def distinct(*names: str) -> tuple[str, ...]:
    """Names of targets, without x86-64-v3 beside a host that has its instructions and no more: both run the same code."""
    host, level = (load_target(name) for name in ("host", "x86-64-v3"))
    same = (host.isa.features, host.vector.bits) == (level.isa.features, level.vector.bits)
    return tuple(name for name in names if not (same and name == "x86-64-v3" and "host" in names))


def flags_of(machine: Machine, compiler: str) -> list[str]:
    """Flags that make a compiler use the instructions of a machine."""
    return list(machine.zig_flags if compiler == "zig" else machine.flags)


END = "  {NULL, 0},\n};"
MAIN = """\
int main(void) {
  for (const struct area *i = given; i->at != NULL; i++)
    if (fread(i->at, 1, i->bytes, stdin) != i->bytes) return 2;
CALLS
  for (const struct area *i = results; i->at != NULL; i++)
    if (fwrite(i->at, 1, i->bytes, stdout) != i->bytes) return 3;
  return 0;
}
"""


_WORK: list[tempfile.TemporaryDirectory[str]] = []


def build(files: Mapping[str, str | bytes], target: Any, *, compiler: str = "gcc", flags: Sequence[str] = FLAGS,
          libraries: Sequence[str] = ("-lm",)) -> Path:
    """Compiles sources to a static executable (dynamic with sanitizers); equal input is compiled once a session."""
    machine = machine_of(target)
    require(machine, compiler)
    if not _WORK:
        _WORK.append(tempfile.TemporaryDirectory(prefix="edgecc-test-"))
    command = command_of(machine, compiler)
    assert command is not None
    link = [*([] if any("sanitize" in flag for flag in flags) else ["-static"]), *libraries]
    linker = linker_of_zig(machine) if compiler == "zig" else None
    arguments = [*command, *flags_of(machine, compiler), "-std=c11", *WARNINGS, "-ffp-contract=off", *flags]
    digest = hashlib.sha256(repr((sorted(files.items()), arguments, link)).encode()).hexdigest()[:16]
    folder = Path(_WORK[0].name) / digest
    program = folder / "program"
    if program.exists():
        return program
    folder.mkdir(exist_ok=True)
    written = dict(files)
    if compiler == "gcc" and isinstance(kernel := files.get("kernel.c"), str):
        written["kernel.c"], found = with_parsed_headers(kernel, arguments, Path(_WORK[0].name))
        arguments += found
    for name, text in written.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    sources = [name for name in files if name.endswith((".c", ".S"))]
    if linker is None:
        _call([*arguments, *sources, "-o", "program", *link], folder)
    else:
        for name in sources:  # zig makes one object at a time
            _call([*arguments, "-c", name], folder)
        _call([*linker, *flags, *(f"{Path(name).stem}.o" for name in sources), "-o", "program", *link], folder)
    return program


def _call(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)} failed in {folder}:\n{done.stderr[:6000]}")


def run_program(program: Path, target: Any, data: bytes = b"", arguments: Sequence[str] = ()) -> bytes:
    """Runs an executable, under qemu-aarch64 where the host is another machine; returns what it prints."""
    machine = machine_of(target)
    emulator = ["qemu-aarch64"] if machine.architecture == "aarch64" and os.uname().machine != "aarch64" else []
    done = subprocess.run([*emulator, str(program), *arguments], input=data, capture_output=True, check=False, timeout=300)
    if done.returncode:
        raise AssertionError(f"{program} ended with {done.returncode}: {done.stderr.decode(errors='replace')[:4000]}")
    return done.stdout


def functions_source(functions: Sequence[Function], target: Any, *, main: bool = False,
                     calls_of: Sequence[Sequence[int]] = ((),)) -> str:
    """The C file of some functions; with `main`, a program that reads all buffers and writes back those that are no input.

    It calls each function once for each item of `calls_of`, the values of its parameters.
    """
    machine = machine_of(target)
    isa = isa_of(machine.architecture, machine.features, machine.vector_bits)
    prelude = new_prelude(isa)
    printed = [print_function(function, prelude, function.name, static=main) for function in functions]
    code = "\n".join([prelude.text, *(p.definition for p in printed)])
    text = f"{'#include <stdio.h>' if main else ''}\n{includes(isa, code)}\n{code}"
    if not main:
        return text
    memory, given, results, calls = [], [], [], []
    for number, function in enumerate(functions):
        names = [f"buffer{number}_{i}" for i in range(len(function.buffers))]
        for name, buffer in zip(names, function.buffers, strict=True):
            size = _bytes_of(buffer)
            memory.append(f"static _Alignas(64) unsigned char {name}[{size}];")
            given.append(f"  {{{name}, {size}}},")
            if buffer.role != "input":
                results.append(f"  {{{name}, {size}}},")
        arguments = ", ".join(f"({STORAGE[b.dtype]} *)(void *){name}" for name, b in zip(names, function.buffers, strict=True))
        for values in calls_of:
            calls.append(f"  {function.name}({', '.join([arguments, *map(str, values)])});")
    return "\n".join([text, *memory, "struct area { unsigned char *at; size_t bytes; };",
                      "static const struct area given[] = {", *given, END, "static const struct area results[] = {", *results, END,
                      MAIN.replace("CALLS", "\n".join(calls))])


def function_source(function: Function, target: Any, *, main: bool = False) -> str:
    """The C file of one function; see `functions_source`."""
    return functions_source([function], target, main=main)


def _bytes_of(buffer: Buffer) -> int:
    return max(1, buffer.elements) * buffer.dtype.size


def run_functions(cases: Sequence[tuple[Function, Mapping[str, np.ndarray[Any, Any]]]], target: Any, *, compiler: str = "gcc",
                  flags: Sequence[str] = FLAGS,
                  calls_of: Sequence[Sequence[int]] = ((),)) -> list[dict[str, np.ndarray[Any, Any]]]:
    """`run_function` for many functions (of different names) that are compiled as one file."""
    require(target, compiler)
    source = functions_source([function for function, _ in cases], target, main=True, calls_of=calls_of)
    program = build({"kernel.c": source}, target, compiler=compiler, flags=flags)
    data = bytearray()
    for function, arrays in cases:
        for buffer in function.buffers:
            given = arrays.get(buffer.name)
            if given is None:
                assert buffer.role != "input", f"no array for input {buffer.name}"
                data += b"\xa5" * _bytes_of(buffer)
                continue
            assert given.dtype == buffer.dtype.numpy, f"{buffer.name}: {given.dtype} given, {buffer.dtype.numpy} wanted"
            assert given.size == buffer.elements, f"{buffer.name}: {given.size} elements given, {buffer.elements} wanted"
            data += np.ascontiguousarray(given).tobytes() or b"\0" * buffer.dtype.size
    output = run_program(program, target, bytes(data))
    results = []
    offset = 0
    for function, _ in cases:
        found: dict[str, np.ndarray[Any, Any]] = {}
        for buffer in function.buffers:
            if buffer.role != "input":
                raw = np.frombuffer(output, np.uint8, _bytes_of(buffer), offset)
                found[buffer.name] = raw.view(buffer.dtype.numpy)[:buffer.elements].copy()
                offset += _bytes_of(buffer)
        results.append(found)
    return results


def run_function(function: Function, arrays: Mapping[str, np.ndarray[Any, Any]], target: Any, *, compiler: str = "gcc",
                 flags: Sequence[str] = FLAGS, calls_of: Sequence[Sequence[int]] = ((),)) -> dict[str, np.ndarray[Any, Any]]:
    """Compiles and runs one function and returns its output and workspace buffers as flat arrays.

    `arrays` gives the contents by buffer name: inputs must be there; other buffers start as given, or
    filled with bytes 0xA5. Shapes do not matter, the number of elements does. The function is called once for
    each item of `calls_of`, the values of its parameters.
    """
    return run_functions([(function, arrays)], target, compiler=compiler, flags=flags, calls_of=calls_of)[0]
