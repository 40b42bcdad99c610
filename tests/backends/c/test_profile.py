"""Profiled builds: same results, a time for every call, and no trace in other builds."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import edgecc
from edgecc.artifact.profile import read_profile
from edgecc.artifact.runner import LibraryExecutor
from edgecc.artifact.toolchain import WARNING_FLAGS, BuildOptions, build_shared_library, find_compiler
from edgecc.backends.base import EmitOptions
from edgecc.backends.c.backend import CBackend
from edgecc.errors import EdgeccError
from edgecc.loop.module import Module
from edgecc.targets.schema import load_target

PROFILE = EmitOptions(profile=True)


def library(module: Module, folder: Path, options: EmitOptions) -> LibraryExecutor:
    target = load_target("host")
    artifact = CBackend().emit(module, target, options)
    path = artifact.write(folder / "artifact")
    built = build_shared_library(find_compiler(target), path, artifact.manifest.sources, folder / "model.so",
                                 BuildOptions(flags=WARNING_FLAGS))
    return LibraryExecutor(built.output)


def run(executor: LibraryExecutor, x: np.ndarray) -> list[np.ndarray]:
    results = [np.empty(x.shape, np.float32), np.empty(x.shape, np.bool_)]
    executor.run([x, np.array(0, np.int64)], results)
    return results


def test_every_call_is_timed_in_every_run(make_network, network_expected, tmp_path: Path):
    executor = library(make_network(), tmp_path, PROFILE)
    assert read_profile(executor.library, "tiny").runs == 0
    x = np.random.default_rng(0).standard_normal((6, 10)).astype(np.float32)
    for runs in (1, 2, 3):
        for got, want in zip(run(executor, x), network_expected(x), strict=True):
            np.testing.assert_array_equal(got, want)
        profile = read_profile(executor.library, "tiny")
        assert profile.runs == runs and len(profile.mean) == len(profile.least) == 3
        assert all(0 < least <= mean * (1 + 1e-9) < 10 for least, mean in zip(profile.least, profile.mean, strict=True))


def test_other_builds_have_no_trace_of_it(make_network, tmp_path: Path):
    plain = CBackend().emit(make_network(), load_target("host"), EmitOptions())
    assert not any(b"profile" in content or b"clock" in content or b"time.h" in content for content in plain.files.values())
    with pytest.raises(EdgeccError, match="E007"):
        read_profile(library(make_network(), tmp_path, EmitOptions()).library, "tiny")


def test_header_says_that_it_is_not_reentrant(make_network):
    target = load_target("host")
    profiled, plain = (CBackend().emit(make_network(), target, options).files["tiny.h"].decode() for options in (PROFILE, EmitOptions()))
    assert "tiny_get_profile(void);" in profiled and "one run may go on at a time" in profiled
    assert "runs on different arenas may go on" in plain and "runs on different arenas" not in profiled


@pytest.mark.parametrize("name", ["cortex-a76", "generic-c"])
def test_other_machines_compute_the_same(name: str, make_network, network_expected):
    if name == "cortex-a76" and shutil.which("qemu-aarch64") is None:
        pytest.skip("no emulator")
    artifact = CBackend().emit(make_network(), load_target(name), PROFILE)
    x = np.random.default_rng(0).standard_normal((6, 10)).astype(np.float32)
    with edgecc.load(artifact, flags=WARNING_FLAGS, isolated=True) as model:
        results = model.run({"x": x, "k": np.array(0, np.int64)})
    np.testing.assert_array_equal(results["y"], network_expected(x)[0])


def test_header_is_cpp(make_network, tmp_path: Path):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = CBackend().emit(make_network(), load_target("host"), PROFILE).write(tmp_path / "artifact")
    (tmp_path / "use.cpp").write_text('#include "tiny.h"\ndouble f() { return tiny_get_profile()->seconds_per_tick; }\n')
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", f"-I{folder}", "-c", "use.cpp", "-o", "use.o"], cwd=tmp_path, check=True)
