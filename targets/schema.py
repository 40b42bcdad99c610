"""Targets: what the compiler knows about a machine, read from TOML into frozen dataclasses.

One file a target, no code. The keys of a file are the fields of the classes below; a key too many, a
key too few or a value of the wrong type is an error that names file, table and key. A file may start
from another one:

    inherits = "cortex-a76"     # a built-in name, or a path relative to this file

in which case its tables are laid over the inherited ones key by key; arrays of tables ([[cache]],
[[memory]]) and lists replace the inherited ones whole.

An installed package brings targets with an entry point of the group "edgecc.targets" whose value is a module: the TOML files
beside it are targets of their own names.
"""

from __future__ import annotations

import dataclasses
import functools
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecc.errors import EdgeccError, printable
from edgecc.files import read_text
from edgecc.plugins import plugins
from edgecc.targets import detect
from edgecc.targets.tables import bad, build, did_you_mean, kind_of, overlay, plain

SCHEMA_VERSION = 1
HOST = "host"
PLUGINS = "edgecc.targets"
"""Group of entry points by which installed packages bring targets."""
ARCHITECTURES = ("aarch64", "x86_64", "generic")
FEATURES: Mapping[str, tuple[str, ...]] = types.MappingProxyType({
    "aarch64": ("neon", "fp16", "dotprod", "i8mm"),
    "x86_64": ("avx2", "fma", "avx512f", "avx512vl", "avx512bw", "avx512dq", "avx512bf16", "avx512vnni", "avx512vbmi"),
    "generic": ("dsp", "mve"),
})
"""Feature names a target of each architecture may list: they gate kernels, and the flags must enable them."""

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Isa:
    """Instruction set.

    Attributes:
        base: the architecture level, such as "armv8.2-a" or "x86-64-v3"; for people.
        features: names out of `FEATURES`; kernels that need one are used only where it is listed.
        gcc, clang, zig: flags that make each compiler use exactly these instructions.
    """

    base: str
    features: tuple[str, ...]
    gcc: tuple[str, ...] = ()
    clang: tuple[str, ...] = ()
    zig: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vector:
    """Vector unit.

    Attributes:
        bits: width kernels should use; 0 means scalar code only.
        registers: number of architectural vector registers (of scalar floating point ones if bits is 0).
        integer_registers: where bits is 0, how many registers integers may take; 0: as many as `registers`.
        fma_by_lane: whether a multiply-add can take one factor from a lane of a vector register.
        widths: every usable width in bits, ascending; empty if bits is 0.
    """

    bits: int
    registers: int
    fma_by_lane: bool
    widths: tuple[int, ...]
    integer_registers: int = 0

    def lanes(self, element_bytes: int) -> int:
        """Number of elements of `element_bytes` in one vector of the preferred width; 1 for scalar code."""
        return max(1, self.bits // (8 * element_bytes))


@dataclass(frozen=True)
class Core:
    """What the cost model knows of one core. All rates are instructions of full vector width a cycle.

    Attributes:
        in_order: whether instructions issue in program order.
        issue_width: most instructions started in one cycle.
        fma_latency: cycles from a multiply-add to one that accumulates onto its result.
        fma_per_cycle: float32 multiply-adds a cycle.
        load_latency: cycles from a vector load that hits the first cache to its use.
        loads_per_cycle, stores_per_cycle: vector loads and stores a cycle (0.5 means one every other cycle).
        half_loads: whether vectors, whose loads keep multiply-adds waiting, come better as a load of half and an insertion of the rest.
        paired_halves: whether, of these, loads of half and insertions start beside each other instead.
        row_gaps: whether loads of rows whose distance is a multiple of a high power of two hinder each other.
    """

    in_order: bool
    issue_width: int
    fma_latency: int
    fma_per_cycle: float
    load_latency: int
    loads_per_cycle: float
    stores_per_cycle: float
    half_loads: bool = False
    paired_halves: bool = False
    row_gaps: bool = False


@dataclass(frozen=True)
class Rates:
    """Vector instructions of full width that start in a cycle, by family; of scalars on a machine without vectors.

    Multiply-adds of floats, loads and stores are in `Core`.

    Attributes:
        arithmetic: additions, products of floats, comparisons, logic, limits.
        integer_products: products of lanes of 32 bits.
        dot_products: products of four bytes added to a lane of 32 bits; where that takes several instructions, all of them.
        conversions: between integers and floats of lanes of equal width.
        widenings: to lanes of another width, saturating ones included.
        roundings: to the nearest integer as a float.
        shuffles: permutations, interleavings and tables in registers.
        divisions: divisions and square roots.
    """

    arithmetic: float = 1.0
    integer_products: float = 0.5
    dot_products: float = 0.4
    conversions: float = 1.0
    widenings: float = 1.0
    roundings: float = 1.0
    shuffles: float = 1.0
    divisions: float = 0.1


@dataclass(frozen=True)
class Cache:
    """One level of data cache. `size` (bytes) is what one core has, or what all share if `shared`; `line` in bytes."""

    level: int
    size: int
    line: int
    ways: int
    shared: bool = False


@dataclass(frozen=True)
class Bandwidth:
    """What one core reads from each level, in bytes a cycle, sustained over long runs of neighbouring lines.

    `memory_shared` is what all cores together read from memory; 0 = as much as each of them alone would.
    """

    level1: float = 16.0
    level2: float = 8.0
    level3: float = 4.0
    memory: float = 2.0
    memory_shared: float = 0


@dataclass(frozen=True)
class Stream:
    """How weights that are read once, in one stream, are prefetched (edgecc/kernels/ahead.py).

    Attributes:
        ahead: bytes by which; more lies too long in the first-level cache, less comes too late from memory.
        page_lines: lines of each page that are asked for long before.
    """

    ahead: int = 5120
    page_lines: int = 2


@dataclass(frozen=True)
class Memory:
    """A memory region. `align`: buffers start on multiples of it, in bytes. `limit`: bytes, 0 = none."""

    name: str
    align: int
    limit: int = 0


@dataclass(frozen=True)
class Toolchain:
    """How to build for the target where the machine at hand cannot do it with its own compiler.

    Attributes:
        gcc_triple: prefix of a cross gcc (`<triple>-gcc`), or "" for the machine's own compiler.
        zig_target: value of `zig cc -target`, or "" for the machine at hand.
        flags: further flags for every compiler.
        libraries: linker flags, after the sources.
    """

    gcc_triple: str = ""
    zig_target: str = ""
    flags: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ("-lm",)


@dataclass(frozen=True)
class Emulator:
    """A program that runs executables of the target: `command args... EXECUTABLE`. `install` says how to get it."""

    command: str
    args: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True)
class Npu:
    """An accelerator beside the cores, which runs what its back end supports. Cycles are those of a core.

    Attributes:
        backend: the back end that writes for it, with options in braces.
        macs_per_cycle: multiply-adds of 8-bit integers a cycle, as layers of usual networks reach them.
        bytes_per_cycle: bytes a cycle between its memory and that of the cores.
        start_cycles: from the call of the accelerator to its first result, whatever it computes.
    """

    backend: str
    macs_per_cycle: float
    bytes_per_cycle: float
    start_cycles: int = 0


@dataclass(frozen=True)
class Target:
    """A machine to compile for. See the classes of the fields; `cores` counts the cores worth using together."""

    name: str
    description: str
    architecture: str
    cores: int
    isa: Isa
    vector: Vector
    core: Core
    caches: tuple[Cache, ...] = field(metadata={"key": "cache"})
    memories: tuple[Memory, ...] = field(metadata={"key": "memory"})
    bandwidth: Bandwidth = Bandwidth()
    rates: Rates = Rates()
    stream: Stream = Stream()
    toolchain: Toolchain = Toolchain()
    emulator: Emulator | None = None
    npu: Npu | None = None

    def has(self, *features: str) -> bool:
        """Whether every one of `features` is available."""
        return all(feature in self.isa.features for feature in features)

    @property
    def alignment(self) -> int:
        """Bytes on a multiple of which buffers start in the first memory."""
        return self.memories[0].align

    def cache(self, level: int) -> Cache | None:
        """The data cache of this level, or None."""
        return next((cache for cache in self.caches if cache.level == level), None)


def list_targets() -> tuple[str, ...]:
    """Names of the targets: "host", then the files beside this module, sorted, then those of installed packages."""
    return (HOST, *_built_in(), *sorted(_from_packages()[0]))


def target_problems() -> tuple[EdgeccError, ...]:
    """What is wrong with targets that installed packages bring; the others can be used all the same."""
    return _from_packages()[1]


def _built_in() -> dict[str, Path]:
    return {path.stem: path for path in sorted(_FOLDER.glob("*.toml"), key=lambda path: path.stem)}


def _from_packages() -> tuple[dict[str, Path], tuple[EdgeccError, ...]]:
    """The files of targets that packages bring, by name, and what is wrong with others."""
    found: dict[str, Path] = {}
    problems = []
    taken = {HOST, *_built_in()}
    for plugin in plugins(PLUGINS):
        try:
            file = getattr(plugin.load(), "__file__", None)
        except EdgeccError as error:
            problems.append(error)
            continue
        paths = sorted(Path(file).parent.glob("*.toml")) if isinstance(file, str) else []
        if not paths:
            problems.append(plugin.problem("is no module with TOML files beside it"))
        for path in paths:
            if path.stem in taken:
                problems.append(plugin.problem(f"brings a target {printable(path.stem)}, a name that is taken"))
            else:
                found[path.stem] = path
                taken.add(path.stem)
    return found, tuple(problems)


def load_target(name_or_path: str | Path) -> Target:
    """The target of this name, built in or of an installed package, or the one described by a TOML file.

    Anything that ends in ".toml" or holds a path separator is a path.
    Raises: EdgeccError E002 where there is no such target; E003 where the file is wrong.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or "\\" in text:
        return parse_target(_read_merged(Path(text), ()), text)
    return _load_builtin(text)


@functools.cache
def _load_builtin(name: str) -> Target:
    if name == HOST:
        table = detect.host_table(detect.read_host_facts())
        return dataclasses.replace(parse_target(_inherit(table, _FOLDER, HOST, ()), HOST), emulator=None)
    path = _path_of(name)
    if path is None:
        raise EdgeccError("E002", f"unknown target {printable(name)!r}", hint=did_you_mean(name, list_targets())
                          or "`edgecc targets` lists those there are; a path to a TOML file works as well",
                          details=[str(problem) for problem in target_problems()])
    return parse_target(_read_merged(path, ()), path.name)


def _path_of(name: str) -> Path | None:
    """The file of a target by name; packages are asked only where the name is not built in."""
    return _built_in().get(name) or _from_packages()[0].get(name)


def parse_target(table: Mapping[str, Any], file: str) -> Target:
    """Builds a target from parsed TOML without `inherits`. `file` is the name used in errors.

    Raises: EdgeccError E003.
    """
    content = dict(table)
    version = content.pop("schema", None)
    if version is None:
        raise bad(file, "", "missing key 'schema'", f"write schema = {SCHEMA_VERSION} at the top")
    if version != SCHEMA_VERSION:
        raise bad(file, "", f"schema {version!r} is not supported", f"this version reads schema {SCHEMA_VERSION}")
    target: Target = build(Target, content, file, "")
    _check(target, file)
    return target


def target_table(target: Target) -> dict[str, Any]:
    """The content of a target file that describes `target`: what `parse_target` turns back into it."""
    table: dict[str, Any] = plain(target)
    return {"schema": SCHEMA_VERSION, **table}


# -- reading ----------------------------------------------------------------------------------------


def _read_merged(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The content of a file laid over what it inherits from."""
    try:
        table = tomllib.loads(read_text(path))
    except OSError as error:
        raise EdgeccError("E002", f"cannot read the target file: {error.strerror or error}", where=printable(str(path)),
                          hint="`edgecc targets` lists those there are") from None
    except (ValueError, RecursionError) as error:
        raise EdgeccError("E003", f"not a TOML file: {printable(str(error), 200)}", where=printable(str(path))) from None
    resolved = path.resolve()
    if resolved in seen:
        raise bad(str(path), "", "the chain of 'inherits' comes back to this file")
    return _inherit(table, path.parent, str(path), (*seen, resolved))


def _inherit(table: dict[str, Any], folder: Path, file: str, seen: tuple[Path, ...]) -> dict[str, Any]:
    parent = table.pop("inherits", None)
    if parent is None:
        return table
    if not isinstance(parent, str):
        raise bad(file, "", f"'inherits' wants a string, got {kind_of(parent)}")
    if parent.endswith(".toml"):
        base = _read_merged(folder / parent, seen)
    elif (path := _path_of(parent)) is not None:
        base = _read_merged(path, seen)
    else:
        raise bad(file, "", f"inherits from unknown target {printable(parent)!r}", did_you_mean(parent, list_targets()))
    return overlay(base, table)


_MOST_OF_ANYTHING = 2.0**44
"""Bytes, cycles, rates: what is larger, or as much smaller than 1, would overflow somewhere."""
_MOST: Mapping[str, float] = {"cores": 4096, "registers": 1024, "level": 8}
_MOST_BITS: Mapping[str, int] = {"aarch64": 128, "x86_64": 512, "generic": 0}


def _check(target: Target, file: str) -> None:
    """What types cannot say: known names, positive numbers, powers of two."""
    if not target.name.isprintable() or not target.name:
        raise bad(file, "", f"key 'name' is {printable(target.name)!r}, wanted printable text")
    if target.architecture not in ARCHITECTURES:
        raise bad(file, "", f"architecture {printable(target.architecture)!r} is not one of {', '.join(ARCHITECTURES)}",
                   did_you_mean(target.architecture, ARCHITECTURES))
    known = FEATURES[target.architecture]
    for feature in target.isa.features:
        if feature not in known:
            raise bad(file, "[isa]", f"key 'features': {printable(feature)!r} is no feature of {target.architecture}",
                       did_you_mean(feature, known) or f"known: {', '.join(known) or 'none'}")
    vector = target.vector
    if vector.bits != (vector.widths[-1] if vector.widths else 0) or list(vector.widths) != sorted(set(vector.widths)):
        raise bad(file, "[vector]", "key 'widths' must ascend and end with 'bits' (and be empty where bits = 0)")
    if vector.bits and not target.isa.features:
        raise bad(file, "[vector]", f"there are vectors of {vector.bits} bits, and no feature in [isa] that has them")
    if any(width < 32 or width & (width - 1) for width in vector.widths):
        raise bad(file, "[vector]", "key 'widths' wants powers of two, from 32 on")
    if vector.bits > (widest := _MOST_BITS[target.architecture]):
        raise bad(file, "[vector]", f"key 'bits' is {printable(str(vector.bits), 40)}; at most is {widest}, for which there is code")
    if vector.integer_registers < 0:
        raise bad(file, "[vector]", f"key 'integer_registers' must not be negative, got {vector.integer_registers}")
    core, positive = target.core, [("", "cores", target.cores), ("[vector]", "registers", vector.registers)]
    positive += [("[core]", spec.name, getattr(core, spec.name)) for spec in dataclasses.fields(core)
                 if spec.type != "bool"]
    for key, table in (("[bandwidth]", target.bandwidth), ("[rates]", target.rates), ("[stream]", target.stream)):
        positive += [(key, spec.name, value) for spec in dataclasses.fields(table)
                     if (value := getattr(table, spec.name)) or spec.name != "memory_shared"]
    if target.npu is not None:
        positive += [("[npu]", key, getattr(target.npu, key)) for key in ("macs_per_cycle", "bytes_per_cycle")]
        if target.npu.start_cycles < 0:
            raise bad(file, "[npu]", f"key 'start_cycles' must not be negative, got {target.npu.start_cycles}")
    for index, cache in enumerate(target.caches):
        positive += [(f"[[cache]] #{index}", key, getattr(cache, key)) for key in ("level", "size", "line", "ways")]
    for where, key, value in positive:
        if value <= 0:
            raise bad(file, where, f"key {key!r} must be positive, got {value}")
        most = _MOST.get(key, _MOST_OF_ANYTHING)
        if not 1 / _MOST_OF_ANYTHING <= value <= most:
            raise bad(file, where, f"key {key!r} is {printable(str(value), 40)}, which no machine has; at most is {most}")
    if [cache.level for cache in target.caches] != list(range(1, len(target.caches) + 1)):
        raise bad(file, "[[cache]]", "key 'level' must count 1, 2, ... from the innermost cache outwards")
    if not target.memories:
        raise bad(file, "[[memory]]", "at least one memory is needed")
    for index, memory in enumerate(target.memories):
        if memory.align <= 0 or memory.align & (memory.align - 1):
            raise bad(file, f"[[memory]] #{index}", f"key 'align' must be a power of two, got {memory.align}")
        if memory.limit < 0:
            raise bad(file, f"[[memory]] #{index}", f"key 'limit' must not be negative, got {memory.limit}")
