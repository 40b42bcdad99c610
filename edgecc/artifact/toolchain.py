"""C compilers: finding one for a target, and building libraries and executables with it.

For the machine at hand: gcc, clang, cc, then zig. For another one: zig (which brings its own C library
for every target), then a cross gcc. Where both are installed zig compiles and gcc links: zig keeps the
accumulators of large tiles in registers where gcc 12 does not, and gcc has a C library ready that zig
would first have to build, which takes a minute of processor time. `--cc` or the environment variable
EDGECC_CC overrides the choice.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgecc.artifact import elf
from edgecc.errors import EdgeccError, printable
from edgecc.targets.schema import HOST, Emulator, Target, load_target

CC_VARIABLE = "EDGECC_CC"
TIMEOUT_SECONDS = 600.0
OUTPUT_LINES = 25
GLIBC_VERSION = "2.28"  # zig compiles against the headers of this version, so that any later library can be linked

BASE_FLAGS = (
    "-std=c11", "-O2",
    # Rounding is written in the code: a multiply and an add become one instruction only where it says fma.
    "-ffp-contract=off",
    # Nobody reads errno or the floating point flags: sqrtf becomes an instruction instead of a call.
    "-fno-math-errno", "-fno-trapping-math",
    "-fvisibility=hidden",
)
WARNING_FLAGS = ("-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True)
class Compiler:
    """A C compiler ready to build for one target.

    Attributes:
        kind: "gcc", "clang" or "zig".
        command: the program and the arguments every call starts with.
        version: its first line of --version.
        target: what it builds for.
        native: whether its results run on this machine.
        linker: the program that links, with its arguments; () for the compiler itself.
    """

    kind: str
    command: tuple[str, ...]
    version: str
    target: Target
    native: bool
    linker: tuple[str, ...] = ()

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of every compilation for the target."""
        isa = {"gcc": self.target.isa.gcc, "clang": self.target.isa.clang, "zig": self.target.isa.zig}[self.kind]
        # Without this zig checks for undefined behaviour at run time in some of its modes.
        extra = ("-fno-sanitize=undefined",) if self.kind == "zig" else ()
        return (*BASE_FLAGS, *extra, *isa, *self.target.toolchain.flags)


@dataclass(frozen=True)
class Build:
    """What a build measured. `code_bytes`: machine code of the model's own objects, None where that is not known."""

    output: Path
    code_bytes: int | None


@dataclass(frozen=True)
class BuildOptions:
    """Choices of a build.

    Attributes:
        flags: further ones of the compiler.
        threads: link the thread library.
        timeout: seconds until it is stopped.
        include: folders of headers.
        link: further arguments of the linker, such as shared libraries. A program that has some for another machine needs a C library there.
    """

    flags: tuple[str, ...] = ()
    threads: bool = False
    timeout: float = TIMEOUT_SECONDS
    include: tuple[Path, ...] = field(default=())
    link: tuple[str, ...] = ()


def runs_natively(target: Target) -> bool:
    """Whether this machine executes code for the target: same architecture, every feature present."""
    if target.architecture == "generic":
        return True
    host = load_target(HOST)
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    return machine == target.architecture and host.has(*target.isa.features)


def find_compiler(target: Target, override: str | None = None) -> Compiler:
    """The C compiler to build for `target` with.

    Args:
        target: what to build for.
        override: a command line such as "clang-19" or "aarch64-linux-gnu-gcc"; without it EDGECC_CC counts.
    Raises: EdgeccError E400 where there is none, with what to install.
    """
    native = runs_natively(target)
    wanted = override or os.environ.get(CC_VARIABLE)
    if wanted:
        return _overridden(wanted, target, native)
    for kind, command, linker in _candidates(target, native):
        version = _version(command)
        if version is not None:
            return Compiler(kind if kind == "zig" else _kind(version) or kind, command, version, target, native, linker)
    if native:
        raise EdgeccError("E400", "no C compiler was found", where=target.name,
                          hint="install gcc or clang, or `pip install 'edgecc[zig]'`; --cc names one that lies elsewhere")
    triple = target.toolchain.gcc_triple
    package = f", or `apt-get install gcc-{triple.replace('_', '-')}`" if triple else ""
    raise EdgeccError("E400", f"no C compiler for {target.architecture} was found", where=target.name,
                      hint=f"`pip install 'edgecc[zig]'`{package}")


def lacks_compiler(target: Target) -> bool:
    """Whether this machine runs code of the target but has no C compiler for it, and none was named either."""
    return (runs_natively(target) and not os.environ.get(CC_VARIABLE)
            and all(_version(command) is None for _, command, _ in _candidates(target, native=True)))


def zig_command() -> tuple[str, ...] | None:
    """The zig compiler: of the ziglang wheel, else on PATH, else None."""
    spec = importlib.util.find_spec("ziglang")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = shutil.which("zig", path=folder)
        if path is not None:
            return (path,)
    path = shutil.which("zig")
    return None if path is None else (path,)


def find_emulator(target: Target) -> tuple[str, ...]:
    """The command that runs an executable of `target` on this machine; () where none is needed.

    Raises: EdgeccError E400 where the target needs one and there is none.
    """
    if runs_natively(target):
        return ()
    emulator: Emulator | None = target.emulator
    if emulator is None:
        raise EdgeccError("E400", "this machine cannot run code of the target, and the target names no emulator",
                          where=target.name, hint=f"it needs {', '.join(target.isa.features) or target.architecture}")
    # Distributions call the statically linked build of QEMU NAME-static.
    path = shutil.which(emulator.command) or shutil.which(f"{emulator.command}-static")
    if path is None:
        raise EdgeccError("E400", f"the emulator {emulator.command} was not found", where=target.name, hint=emulator.install)
    return (path, *emulator.args)


def build_shared_library(compiler: Compiler, folder: Path, sources: Sequence[str], output: Path,
                         options: BuildOptions = BuildOptions()) -> Build:
    """Compiles `sources` of `folder` and links them into a shared library at `output`.

    Raises: EdgeccError E401 with what the compiler said.
    """
    return _build(compiler, folder, sources, (), output, ("-shared",), ("-fPIC",), options)


def build_executable(compiler: Compiler, folder: Path, sources: Sequence[str], output: Path,
                     options: BuildOptions = BuildOptions(), main: Sequence[Path] = ()) -> Build:
    """Compiles `sources` of `folder` and the files `main` and links them into an executable at `output`.

    Executables for other machines are linked statically, so they need no C library there. The files of
    `main` include nothing of `folder` and do not count into `code_bytes`.
    Raises: EdgeccError E401 with what the compiler said.
    """
    link = () if compiler.native or options.link else ("-static",)
    return _build(compiler, folder, sources, main, output, link, (), options)


def build_object(compiler: Compiler, folder: Path, sources: Sequence[str], output: Path, options: BuildOptions = BuildOptions()) -> Build:
    """Compiles `sources` of `folder` and joins them into one object file at `output`, fit for shared libraries.

    Raises: EdgeccError E401 with what the compiler said.
    """
    joining = replace(compiler, target=replace(compiler.target, toolchain=replace(compiler.target.toolchain, libraries=())))
    return _build(joining, folder, sources, (), output, ("-r", "-nostdlib"), ("-fPIC",), options)


# -- building ---------------------------------------------------------------------------------------


def _build(compiler: Compiler, folder: Path, sources: Sequence[str], main: Sequence[Path], output: Path,
           link_flags: Sequence[str], code_flags: Sequence[str], options: BuildOptions) -> Build:
    """Compiles each source to an object, several at a time, and links all of them."""
    # -g0: zig writes debug information, and with it the folder's path, unless it is told not to.
    thread_flags = ["-pthread"] if options.threads else []
    command = (*compiler.command, "-g0", *compiler.flags, *code_flags, *options.flags, *thread_flags)
    include = [f"-I{path.resolve()}" for path in options.include]
    with tempfile.TemporaryDirectory(prefix="edgecc-build-") as scratch:
        paths = [folder.resolve() / name for name in sources] + [path.resolve() for path in main]
        objects = [Path(scratch) / f"{index}.o" for index in range(len(paths))]

        def compile_one(index: int) -> None:
            path = paths[index]
            if path.suffix == ".o":  # what LLVM has translated
                objects[index].write_bytes(path.read_bytes())
            elif index < len(sources):
                _compile((*command, f"-I{folder.resolve()}", *include), path, objects[index], scratch, options.timeout)
            else:
                objects[index].write_bytes(_compiled_main((*command, *include), path, path.stat().st_mtime_ns, options.timeout))

        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            for _ in pool.map(compile_one, range(len(paths))):
                pass
        sizes = [elf.code_bytes(path.read_bytes()) for path in objects[:len(sources)]]
        # No flags of the processor: objects need none to be linked, and zig would build its C library for each one anew.
        _call([*(compiler.linker or compiler.command), *options.flags, *link_flags, *thread_flags, *map(str, objects), "-o", str(output.resolve()),
               *options.link, *compiler.target.toolchain.libraries], Path(scratch), scratch, options.timeout, "linking", output.resolve())
    known = [size for size in sizes if size is not None]
    return Build(output, sum(known) if len(known) == len(sizes) else None)


def _compile(command: Sequence[str], source: Path, made: Path, scratch: str, timeout: float) -> None:
    # The source is named relative to its folder, so no path of this machine enters the object.
    _call([*command, "-c", source.name, "-o", str(made)], source.parent, scratch, timeout, f"compiling {source.name}", made)


@functools.lru_cache(maxsize=16)
def _compiled_main(command: tuple[str, ...], source: Path, modified_ns: int, timeout: float) -> bytes:
    """The object of a file that is part of many programs; a process compiles it once for each way to compile it."""
    with tempfile.TemporaryDirectory(prefix="edgecc-build-") as scratch:
        made = Path(scratch) / "main.o"
        _compile(command, source, made, scratch, timeout)
        return made.read_bytes()


def _call(command: Sequence[str], cwd: Path, scratch: str, timeout: float, doing: str, made: Path) -> None:
    """Runs a tool that is to write the file `made`."""
    tool = Path(command[0]).name
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, errors="replace", timeout=timeout,
                              env={**_environment(), "ZIG_LOCAL_CACHE_DIR": scratch}, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        raise EdgeccError("E401", f"{tool} did not finish {doing} within {timeout:g} s and was stopped") from None
    except OSError as error:
        raise EdgeccError("E400", f"{tool} cannot be started: {error.strerror or error}") from None
    if done.returncode != 0:
        what = f"was ended by signal {-done.returncode}" if done.returncode < 0 else f"failed (exit status {done.returncode})"
        raise EdgeccError("E401", f"{tool} {what} {doing}", details=trimmed(done.stderr or done.stdout))
    if not made.exists():
        raise EdgeccError("E401", f"{tool} said nothing {doing}, but wrote no file", hint="is it a C compiler?")


def _environment() -> dict[str, str]:
    """The environment of compilers: messages in English, and for zig a place to keep what it builds.

    Zig wants a cache in the home folder; where there is none that can be written it gets one among the
    temporary files.
    """
    environment = {**os.environ, "LC_ALL": "C"}
    if "ZIG_GLOBAL_CACHE_DIR" not in environment:
        home = environment.get("HOME")
        cache = Path(environment.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else ""))
        existing = next((folder for folder in (cache, *cache.parents) if folder.exists()), cache)
        if not cache.is_absolute() or not os.access(existing, os.W_OK):
            user = os.getuid() if hasattr(os, "getuid") else 0
            environment["ZIG_GLOBAL_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"edgecc-zig-{user}")
    return environment


def trimmed(output: str, limit: int = OUTPUT_LINES) -> list[str]:
    """The first `limit` lines of a tool's output, made safe for terminals, with a note of how many more there were."""
    lines = [printable(line) for line in output.splitlines() if line.strip()]
    return lines if len(lines) <= limit else [*lines[:limit], f"... {len(lines) - limit} more lines"]


# -- finding ----------------------------------------------------------------------------------------


def _candidates(target: Target, native: bool) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Kind, command and linker of each compiler that may be there, the best first."""
    zig = zig_command()
    candidates: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
    if native:
        for kind, name in (("gcc", "gcc"), ("clang", "clang"), ("gcc", "cc")):
            path = shutil.which(name)
            if path is not None:
                candidates.append((kind, (path,), ()))
        return candidates if zig is None else [*candidates, ("zig", (*zig, "cc"), ())]
    triple = target.toolchain.gcc_triple
    gcc = shutil.which(f"{triple}-gcc") if triple else None
    if zig is not None and gcc is not None and triple.endswith("-gnu") and _has_static_library((gcc,)):
        candidates.append(("zig", (*zig, "cc", "-target", f"{triple}.{GLIBC_VERSION}"), (gcc,)))
    if zig is not None and target.toolchain.zig_target:
        candidates.append(("zig", (*zig, "cc", "-target", target.toolchain.zig_target), ()))
    if gcc is not None:
        candidates.append(("gcc", (gcc,), ()))
    return candidates


@functools.cache
def _has_static_library(gcc: tuple[str, ...]) -> bool:
    """Whether a gcc finds a static C library; without one it answers with the bare name."""
    try:
        done = subprocess.run([*gcc, "-print-file-name=libc.a"], capture_output=True, text=True, errors="replace", timeout=60,
                              stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and "/" in done.stdout


def _overridden(wanted: str, target: Target, native: bool) -> Compiler:
    try:
        command = tuple(shlex.split(wanted))
    except ValueError as error:
        raise EdgeccError("E001", f"the compiler {printable(wanted)!r} is no command line: {error}") from None
    path = shutil.which(command[0]) if command else None
    if path is None:
        raise EdgeccError("E400", f"the compiler {printable(wanted)!r} was not found",
                          hint=f"--cc and {CC_VARIABLE} take a program on PATH or its full path")
    command = (os.path.abspath(path), *command[1:])  # it is called from other folders
    if Path(path).name.startswith("zig") and "cc" not in command[1:]:
        command = (command[0], "cc", *command[1:])
    if Path(path).name.startswith("zig") and not native and "-target" not in command:
        command = (*command, "-target", target.toolchain.zig_target)
    version = _version(command)
    if version is None:
        raise EdgeccError("E401", f"`{printable(shlex.join(command))} --version` failed", hint="is it a C compiler?")
    kind = "zig" if Path(path).name.startswith("zig") else _kind(version) or "gcc"
    return Compiler(kind, command, version, target, native)


@functools.cache
def _version(command: tuple[str, ...]) -> str | None:
    """The first line of --version, or None where the command does not work."""
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, errors="replace", timeout=60,
                              env=_environment(), stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines()
    return printable(lines[0]) if done.returncode == 0 and lines else None


def _kind(version: str) -> str | None:
    lower = version.lower()
    if "clang" in lower:
        return "clang"
    return "gcc" if "gcc" in lower or "free software foundation" in lower else None
