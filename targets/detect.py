"""Detection of the machine at hand, as a target table that inherits from the nearest built-in target.

Linux tells instruction sets in /proc/cpuinfo and caches in /sys/devices/system/cpu/cpu0/cache. Where
neither exists the architecture's name decides, and a machine nobody knows is compiled for in portable C.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SSE_TO_V3 = ("avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm")
V3_TO_V4 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
"""Flags of /proc/cpuinfo that each level adds. Source: x86-64 psABI, table of micro-architecture levels
("abm" is what Linux calls LZCNT)."""

ARM_PARTS: Mapping[int, str] = {
    # Main ID register, PartNum field, implementer 0x41: Technical Reference Manual of each core, MIDR_EL1.
    0xD03: "cortex-a53", 0xD05: "cortex-a55", 0xD08: "cortex-a72", 0xD0B: "cortex-a76",
    0xD41: "cortex-a78", 0xD42: "cortex-a78", 0xD0C: "neoverse-n1",
}
ARM_FLAGS: Mapping[str, str] = {"asimd": "neon", "asimdhp": "fp16", "asimddp": "dotprod", "i8mm": "i8mm"}
"""Hardware capability names of Linux (Documentation/arch/arm64/elf_hwcaps.rst) and our feature names."""

AMD_ZEN4_FAMILY, AMD_ZEN5_FAMILY = 25, 26
"""Zen 3 is of the family of Zen 4, without AVX-512."""


@dataclass(frozen=True)
class CacheFacts:
    """One data or unified cache of core 0. `size` and `line` in bytes."""

    level: int
    size: int
    line: int
    ways: int
    shared: bool


@dataclass(frozen=True)
class HostFacts:
    """What was found out about the machine: `machine` as uname says, `cpuinfo` the text of /proc/cpuinfo or ""."""

    machine: str
    cpuinfo: str
    caches: tuple[CacheFacts, ...]
    cores: int


def read_host_facts() -> HostFacts:
    """Facts about the machine this runs on."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        cpuinfo = ""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)
    return HostFacts(platform.machine(), cpuinfo, read_caches(Path("/sys/devices/system/cpu/cpu0/cache")), cores)


def read_caches(folder: Path) -> tuple[CacheFacts, ...]:
    """Data caches described by a sysfs cache folder, innermost first; () where anything is missing or odd."""
    found: dict[int, CacheFacts] = {}
    try:
        for index in sorted(folder.glob("index*")):
            text = {key: (index / key).read_text(encoding="ascii").strip()
                    for key in ("level", "type", "size", "coherency_line_size", "ways_of_associativity",
                                "shared_cpu_list")}
            if text["type"] == "Instruction":
                continue
            size = int(text["size"].removesuffix("K")) * 1024
            level = int(text["level"])
            found[level] = CacheFacts(level, size, int(text["coherency_line_size"]),
                                      int(text["ways_of_associativity"]), text["shared_cpu_list"] != "0")
    except (OSError, ValueError):
        return ()
    caches = tuple(found[level] for level in sorted(found))
    whole = all(min(c.size, c.line, c.ways) > 0 for c in caches) and [c.level for c in caches] == [*range(1, len(caches) + 1)]
    return caches if whole else ()


def host_table(facts: HostFacts) -> dict[str, Any]:
    """The host as the content of a target file (see schema.py)."""
    machine = facts.machine.lower()
    if machine in ("x86_64", "amd64"):
        table = _x86(facts)
    elif machine in ("aarch64", "arm64"):
        table = _arm(facts)
    else:
        table = {"inherits": "generic-c"}
    table |= {"name": "host", "description": f"this machine, detected ({_model_name(facts) or facts.machine or 'unknown'})",
              "cores": max(1, facts.cores)}
    # The machine's own compiler builds for it, and nothing needs to be emulated.
    table["toolchain"] = {"gcc_triple": "", "zig_target": ""}
    if facts.caches:
        table["cache"] = [{"level": c.level, "size": c.size, "line": c.line, "ways": c.ways, "shared": c.shared}
                          for c in facts.caches]
    return table


def _fields(cpuinfo: str) -> dict[str, str]:
    """Keys and values of the first processor in /proc/cpuinfo."""
    first = cpuinfo.strip().split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _model_name(facts: HostFacts) -> str:
    return _fields(facts.cpuinfo).get("model name", "")


def _x86(facts: HostFacts) -> dict[str, Any]:
    fields = _fields(facts.cpuinfo)
    flags = set(fields.get("flags", "").split())
    if not flags.issuperset(SSE_TO_V3):
        return {"inherits": "generic-c"}
    zen3_or_4 = fields.get("vendor_id") == "AuthenticAMD" and fields.get("cpu family") == str(AMD_ZEN4_FAMILY)
    if not flags.issuperset(V3_TO_V4):
        # Source: AMD Software Optimization Guide for the AMD Zen 3 Microarchitecture (56665). Bandwidth measured: 102 GB/s from the
        # second cache and 76 from the third at 3.23 GHz.
        core = {"core": {"fma_latency": 4, "issue_width": 6}, "bandwidth": {"level2": 28, "level3": 22}}
        return {"inherits": "x86-64-v3", **(core if zen3_or_4 else {})}
    table: dict[str, Any] = {"inherits": "x86-64-v4-bf16" if {"avx512_bf16", "avx512_vnni", "avx512vbmi"} <= flags else "x86-64-v4"}
    if zen3_or_4:
        # Zen 4 has 256-bit units: a 512-bit operation takes two of them.
        # Source: AMD Software Optimization Guide for the Zen4 Microarchitecture (57647).
        table["core"] = {"fma_per_cycle": 1, "loads_per_cycle": 1, "stores_per_cycle": 0.5}
        table["rates"] = {"arithmetic": 2, "dot_products": 1, "conversions": 1}
    if fields.get("vendor_id") == "AuthenticAMD" and fields.get("cpu family") == str(AMD_ZEN5_FAMILY):
        # Four pipes of 512 bits: two multiply, two add; integers run on all of them, shuffles and conversions on two.
        # Source: AMD Software Optimization Guide for the Zen5 Microarchitecture (58455).
        table["rates"] = {"arithmetic": 3, "integer_products": 2, "conversions": 2, "widenings": 2, "roundings": 2, "shuffles": 2}
    return table


def _arm(facts: HostFacts) -> dict[str, Any]:
    fields = _fields(facts.cpuinfo)
    flags = set(fields.get("Features", "").split())
    if not flags:  # not Linux; the only such AArch64 machines in use have at least Armv8.4
        flags = {"asimd", "asimdhp", "asimddp"}
    features = [ours for theirs, ours in ARM_FLAGS.items() if theirs in flags]
    try:
        implementer, part = int(fields.get("CPU implementer", "0"), 16), int(fields.get("CPU part", "0"), 16)
    except ValueError:
        implementer, part = 0, 0
    base = ARM_PARTS.get(part, "generic-aarch64") if implementer == 0x41 else "generic-aarch64"
    march = "+".join(["armv8-a", *(flag for ours, flag in _ARM_MARCH.items() if ours in features)])
    isa = {"features": features, "gcc": [f"-march={march}"], "clang": [f"-march={march}"], "zig": ["-mcpu=native"]}
    table: dict[str, Any] = {"inherits": base, "isa": isa}
    if base == "generic-aarch64" and "dotprod" in features:  # as fast as multiply-adds; matrices of bytes as in cortex-a710.toml
        table["rates"] = {"dot_products": 1.5 if "i8mm" in features else 1}
    return table


_ARM_MARCH = {"fp16": "fp16", "dotprod": "dotprod", "i8mm": "i8mm"}
"""-march extensions of gcc and clang by our feature names (GCC manual, AArch64 options)."""
