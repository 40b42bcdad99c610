"""Detection of the host from the texts Linux gives, on machines other than this one."""

from __future__ import annotations

import dataclasses

import pytest

from edgecc.targets import schema
from edgecc.targets.detect import CacheFacts, HostFacts, host_table, read_caches
from edgecc.targets.schema import Target

V3 = "fpu sse2 avx avx2 fma bmi1 bmi2 f16c movbe abm"
V4 = V3 + " avx512f avx512bw avx512cd avx512dq avx512vl"


def cpuinfo_x86(flags: str, vendor: str = "GenuineIntel", family: int = 6) -> str:
    return (f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel name\t: A CPU\n"
            f"flags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: none\n")


def cpuinfo_arm(features: str, part: str) -> str:
    return f"processor\t: 0\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n"


def build(machine: str, cpuinfo: str, caches: tuple[CacheFacts, ...] = (), cores: int = 3) -> Target:
    table = host_table(HostFacts(machine, cpuinfo, caches, cores))
    return schema.parse_target(schema._inherit(table, schema._FOLDER, "host", ()), "host")


def test_x86_levels():
    assert build("x86_64", cpuinfo_x86(V4)).vector.bits == 512
    assert build("AMD64", cpuinfo_x86(V3)).isa.features == ("avx2", "fma")
    assert build("x86_64", cpuinfo_x86("fpu sse2")).architecture == "generic"
    # One missing flag of the level is enough to fall back.
    assert build("x86_64", cpuinfo_x86(V4.replace(" avx512vl", ""))).vector.bits == 256


def test_zen4_runs_512_bit_operations_in_two_halves():
    assert build("x86_64", cpuinfo_x86(V4, "AuthenticAMD", 25)).core.fma_per_cycle == 1
    assert build("x86_64", cpuinfo_x86(V4, "AuthenticAMD", 26)).core.fma_per_cycle == 2


def test_zen3_adds_to_a_sum_after_four_cycles():
    zen3, haswell = build("x86_64", cpuinfo_x86(V3, "AuthenticAMD", 25)), build("x86_64", cpuinfo_x86(V3))
    assert (zen3.core.fma_latency, zen3.core.fma_per_cycle, zen3.vector.bits) == (4, 2, 256)
    assert haswell.core.fma_latency == 5
    assert zen3.bandwidth.level1 == haswell.bandwidth.level1


@pytest.mark.parametrize(("part", "features", "expected", "latency"), [
    ("0xd0b", "fp asimd asimdhp asimddp", ("neon", "fp16", "dotprod"), 2),
    ("0xd08", "fp asimd", ("neon",), 3),
    ("0xfff", "fp asimd asimddp i8mm", ("neon", "dotprod", "i8mm"), 4),
    ("odd", "fp asimd", ("neon",), 4),
])
def test_arm_cores(part, features, expected, latency):
    target = build("aarch64", cpuinfo_arm(features, part))
    assert target.isa.features == expected
    assert target.core.fma_latency == latency
    assert all(feature == "neon" or feature in target.isa.gcc[0] for feature in expected)


def test_arm_without_cpuinfo_and_unknown_machines():
    assert build("arm64", "").has("neon", "fp16", "dotprod")
    assert build("riscv64", "").vector.bits == 0
    assert build("", "").architecture == "generic"


def test_cores_and_caches_are_taken_over():
    caches = (CacheFacts(1, 48 * 1024, 64, 12, False), CacheFacts(2, 1 << 20, 64, 16, True))
    target = build("x86_64", cpuinfo_x86(V3), caches, cores=5)
    assert target.cores == 5
    assert [dataclasses.astuple(c) for c in target.caches] == [dataclasses.astuple(c) for c in caches]
    assert target.toolchain.zig_target == ""


def test_sysfs_caches(tmp_path):
    def index(number: int, **texts: str) -> None:
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        for key, text in texts.items():
            (folder / key).write_text(text + "\n")

    common = {"coherency_line_size": "64", "ways_of_associativity": "8"}
    index(0, level="1", type="Data", size="48K", shared_cpu_list="0", **common)
    index(1, level="1", type="Instruction", size="32K", shared_cpu_list="0", **common)
    index(2, level="2", type="Unified", size="1024K", shared_cpu_list="0-1", **common)
    assert read_caches(tmp_path) == (CacheFacts(1, 49152, 64, 8, False), CacheFacts(2, 1048576, 64, 8, True))
    (tmp_path / "index2" / "size").write_text("big\n")
    assert read_caches(tmp_path) == ()
    assert read_caches(tmp_path / "absent") == ()


def test_caches_with_zero_ways_are_not_believed(tmp_path):
    folder = tmp_path / "index0"
    folder.mkdir()
    for key, text in {"level": "1", "type": "Data", "size": "32K", "coherency_line_size": "64",
                      "ways_of_associativity": "0", "shared_cpu_list": "0"}.items():
        (folder / key).write_text(text)
    assert read_caches(tmp_path) == ()
