"""Finding compilers and reporting what they say."""

from __future__ import annotations

import dataclasses
import os
import struct
import subprocess
from pathlib import Path

import pytest

from edgecc.artifact import elf, toolchain
from edgecc.artifact.toolchain import (
    BuildOptions,
    build_executable,
    build_shared_library,
    find_compiler,
    find_emulator,
    runs_natively,
    trimmed,
    zig_command,
)
from edgecc.errors import EdgeccError
from edgecc.targets.schema import load_target

HOST = load_target("host")
A76 = load_target("cortex-a76")


@pytest.fixture(autouse=True)
def no_override(monkeypatch):
    monkeypatch.delenv("EDGECC_CC", raising=False)


def fake_tool(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_native_targets():
    assert runs_natively(HOST) and runs_natively(load_target("generic-c"))
    assert not (runs_natively(A76) and runs_natively(load_target("x86-64-v3")))
    assert find_emulator(HOST) == ()
    # Code for a host that had more than this one does not run here.
    more = dataclasses.replace(HOST, architecture="aarch64" if HOST.architecture == "x86_64" else "x86_64")
    assert not runs_natively(more)


def test_order_of_preference(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain, "zig_command", lambda: (str(tmp_path / "zig"),))
    monkeypatch.setattr(toolchain, "runs_natively", lambda target: target is HOST)
    fake_tool(tmp_path, "zig", 'echo "clang version 22"')
    assert find_compiler(HOST).kind == "zig"
    fake_tool(tmp_path, "cc", 'echo "Apple clang version 15"')
    assert (find_compiler(HOST).kind, find_compiler(HOST).native) == ("clang", True)
    fake_tool(tmp_path, "clang", 'echo "clang version 19"')
    assert Path(find_compiler(HOST).command[0]).name == "clang"
    fake_tool(tmp_path, "gcc", "exit 1")  # a broken tool is passed over
    assert Path(find_compiler(HOST).command[0]).name == "clang"
    gcc = fake_tool(tmp_path, "aarch64-linux-gnu-gcc", 'if [ "$1" = --version ]; then echo "gcc 12"; else echo libc.a; fi')
    cross = find_compiler(A76)
    assert cross.kind == "zig" and cross.command[1:] == ("cc", "-target", "aarch64-linux-musl") and cross.linker == ()
    assert "-mcpu=cortex_a76" in cross.flags and "-fno-sanitize=undefined" in cross.flags
    # A gcc that has a C library links, so that zig need not build one.
    toolchain._has_static_library.cache_clear()
    fake_tool(tmp_path, "aarch64-linux-gnu-gcc", 'if [ "$1" = --version ]; then echo "gcc 12"; else echo /lib/libc.a; fi')
    cross = find_compiler(A76)
    assert cross.kind == "zig" and cross.linker == (str(gcc),)
    assert cross.command[1:] == ("cc", "-target", "aarch64-linux-gnu.2.28")
    monkeypatch.setattr(toolchain, "zig_command", lambda: None)
    assert find_compiler(A76).kind == "gcc" and "-mcpu=cortex-a76" in find_compiler(A76).flags


def test_overrides(tmp_path, monkeypatch):
    tool = fake_tool(tmp_path, "my-clang", 'echo "clang version 19"')
    assert find_compiler(HOST, f"{tool} -v").command == (str(tool), "-v")
    monkeypatch.setenv("EDGECC_CC", str(tool))
    assert find_compiler(A76).command == (str(tool),) and find_compiler(A76).kind == "clang"
    zig = fake_tool(tmp_path, "zig", 'echo "clang version 22"')
    compiler = find_compiler(A76, str(zig))
    assert compiler.kind == "zig" and compiler.command == (str(zig), "cc", "-target", "aarch64-linux-musl")


@pytest.mark.parametrize(("wanted", "code", "words"), [
    ("no-such-compiler", "E400", "was not found"), ("'unclosed", "E001", "no command line"), ("  ", "E400", "was not found"),
    ("false", "E401", "--version"),
])
def test_bad_overrides(wanted, code, words):
    with pytest.raises(EdgeccError, match=words) as caught:
        find_compiler(HOST, wanted)
    assert caught.value.code == code


def test_zig_of_the_wheel_is_found_without_path(monkeypatch):
    pytest.importorskip("ziglang")
    monkeypatch.setenv("PATH", "")
    found = zig_command()
    assert found is not None and Path(found[0]).name.startswith("zig")


def write_source(folder: Path, text: str) -> list[str]:
    (folder / "a.c").write_text(text)
    return ["a.c"]


def test_an_executable_and_a_library(tmp_path):
    sources = write_source(tmp_path, "int twice(int x) { return 2 * x; }\n")
    (tmp_path / "main.c").write_text("int twice(int);\nint main(void) { return twice(21); }\n")
    compiler = find_compiler(HOST)
    built = build_executable(compiler, tmp_path, sources, tmp_path / "program", main=(tmp_path / "main.c",))
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 42
    library = build_shared_library(compiler, tmp_path, sources, tmp_path / "a.so")
    # Only the model's own code counts, not the program around it.
    assert built.code_bytes is not None and 0 < built.code_bytes < 64
    assert library.code_bytes is not None and 0 < library.code_bytes < 64
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.c", "a.so", "main.c", "program"]


def test_libraries_do_not_depend_on_the_folder(tmp_path):
    compiler = find_compiler(HOST)
    results = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        sources = write_source(tmp_path / name, "const char *f(void);\nconst char *f(void) { return __FILE__; }\n")
        build_shared_library(compiler, tmp_path / name, sources, tmp_path / name / "a.so")
        results.append((tmp_path / name / "a.so").read_bytes())
    assert results[0] == results[1]


def test_what_the_compiler_says_is_shown_but_trimmed(tmp_path):
    sources = write_source(tmp_path, "int f(void) { return undeclared; }\n" * 40)
    with pytest.raises(EdgeccError) as caught:
        build_shared_library(find_compiler(HOST), tmp_path, sources, tmp_path / "a.so")
    error = caught.value
    assert error.code == "E401" and error.exit_status == 4
    assert "compiling a.c" in error.message and "undeclared" in "\n".join(error.details)
    assert len(error.details) == 26 and error.details[-1].endswith("more lines")
    assert not (tmp_path / "a.so").exists()


def test_a_link_error(tmp_path):
    sources = write_source(tmp_path, "int missing(void);\nint main(void) { return missing(); }\n")
    with pytest.raises(EdgeccError, match="linking") as caught:
        build_executable(find_compiler(HOST), tmp_path, sources, tmp_path / "a")
    assert "missing" in "\n".join(caught.value.details)


def test_warnings_are_errors_where_asked(tmp_path):
    sources = write_source(tmp_path, "static int unused(void) { return 1; }\n")
    build_shared_library(find_compiler(HOST), tmp_path, sources, tmp_path / "a.so")
    with pytest.raises(EdgeccError, match="compiling"):
        build_shared_library(find_compiler(HOST), tmp_path, sources, tmp_path / "a.so",
                             BuildOptions(flags=toolchain.WARNING_FLAGS))


def test_a_compiler_that_hangs_or_crashes(tmp_path):
    sources = write_source(tmp_path, "")
    slow = fake_tool(tmp_path, "slow-gcc", 'if [ "$1" = --version ]; then echo gcc; else exec sleep 60; fi')
    with pytest.raises(EdgeccError, match=r"did not finish compiling a\.c within 0\.2 s"):
        build_shared_library(find_compiler(HOST, str(slow)), tmp_path, sources, tmp_path / "a.so", BuildOptions(timeout=0.2))
    dead = fake_tool(tmp_path, "dead-gcc", 'if [ "$1" = --version ]; then echo gcc; else kill -9 $$; fi')
    with pytest.raises(EdgeccError, match="ended by signal 9"):
        build_shared_library(find_compiler(HOST, str(dead)), tmp_path, sources, tmp_path / "a.so")


def test_a_compiler_that_does_nothing(tmp_path):
    idle = fake_tool(tmp_path, "idle-gcc", 'if [ "$1" = --version ]; then echo gcc; fi')
    with pytest.raises(EdgeccError, match=r"compiling a\.c, but wrote no file") as caught:
        build_shared_library(find_compiler(HOST, str(idle)), tmp_path, write_source(tmp_path, ""), tmp_path / "a.so")
    assert caught.value.code == "E401"


def test_a_compiler_named_from_here_is_found_from_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "sources").mkdir()
    fake_tool(tmp_path, "my-gcc", 'exec gcc "$@"')
    monkeypatch.chdir(tmp_path)
    sources = write_source(tmp_path / "sources", "")
    assert build_shared_library(find_compiler(HOST, "./my-gcc"), tmp_path / "sources", sources, tmp_path / "a.so").output.exists()


def test_threads_are_linked_where_asked(tmp_path):
    sources = write_source(tmp_path, "#include <pthread.h>\nvoid *id(void *x);\nvoid *id(void *x) { return x; }\n"
                           "int main(void) { pthread_t t; return pthread_create(&t, 0, id, 0) || pthread_join(t, 0); }\n")
    build_executable(find_compiler(HOST), tmp_path, sources, tmp_path / "a", BuildOptions(threads=True))
    assert subprocess.run([tmp_path / "a"], check=False).returncode == 0


def test_zig_gets_a_cache_where_home_has_none(monkeypatch, tmp_path):
    def cache() -> str | None:
        return toolchain._environment().get("ZIG_GLOBAL_CACHE_DIR")

    for name in ("ZIG_GLOBAL_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert "edgecc-zig-" in str(cache())
    monkeypatch.setenv("HOME", str(tmp_path / "not" / "yet"))
    assert cache() is None
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "edgecc-zig-" in str(cache())
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", "mine")
    assert cache() == "mine"


def test_tool_output_cannot_drive_the_terminal():
    assert trimmed("\x1b[31mred\n\n  plain\n") == ["\\x1b[31mred", "  plain"]


def test_elf_sizes():
    assert elf.code_bytes(b"MZ" + bytes(100)) is None
    assert elf.code_bytes(b"") is None
    section = struct.pack("<IIQQQQIIQQ", 0, 1, 6, 0, 0, 123, 0, 0, 0, 0)
    data = struct.pack("<IIQQQQIIQQ", 0, 1, 2, 0, 0, 50, 0, 0, 0, 0)
    header = b"\x7fELF\x02\x01\x01" + bytes(33) + struct.pack("<Q", 64) + bytes(10) + struct.pack("<HH", 64, 3) + bytes(2)
    assert elf.code_bytes(header + section + data + section) == 246
    assert elf.code_bytes(header + section) is None  # cut short
    small = struct.pack(">IIIIII", 0, 1, 6, 0, 0, 7) + bytes(16)
    header = b"\x7fELF\x01\x02\x01" + bytes(25) + struct.pack(">I", 52) + bytes(10) + struct.pack(">HH", 40, 1) + bytes(2)
    assert elf.code_bytes(header + small) == 7


def test_emulators(monkeypatch):
    if runs_natively(A76):
        pytest.skip("this machine runs AArch64 code itself")
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(EdgeccError, match="qemu-aarch64") as caught:
        find_emulator(A76)
    assert caught.value.code == "E400"


def test_what_many_programs_have_is_compiled_once(tmp_path):
    (tmp_path / "main.c").write_text("int twice(int);\nint main(void) { return twice(VALUE); }\n")
    fake_tool(tmp_path, "noting-gcc", f'echo "$@" >> {tmp_path}/calls; exec gcc "$@"')
    compiler = find_compiler(HOST, str(tmp_path / "noting-gcc"))

    def status(folder: str, value: int) -> int:
        (tmp_path / folder).mkdir(exist_ok=True)
        sources = write_source(tmp_path / folder, "int twice(int x) { return 2 * x; }\n")
        built = build_executable(compiler, tmp_path / folder, sources, tmp_path / folder / "program",
                                 BuildOptions(flags=(f"-DVALUE={value}",)), main=(tmp_path / "main.c",))
        return subprocess.run([built.output], check=False).returncode

    def compilations() -> int:
        return sum("-c main.c" in line for line in (tmp_path / "calls").read_text().splitlines())

    assert (status("a", 3), status("b", 3), compilations()) == (6, 6, 1)
    assert (status("b", 4), compilations()) == (8, 2)
    (tmp_path / "main.c").write_text("int main(void) { return VALUE; }\n")
    os.utime(tmp_path / "main.c", ns=(1, 1))
    assert (status("a", 3), compilations()) == (3, 3)
