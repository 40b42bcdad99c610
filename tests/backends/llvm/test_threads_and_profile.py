"""Objects that divide their loops among threads, and objects that measure themselves."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from edgecc.artifact.build import BuildOptions, build_shared_library
from edgecc.artifact.load import load
from edgecc.artifact.profile import read_profile
from edgecc.artifact.runner import LibraryExecutor
from edgecc.artifact.toolchain import find_compiler
from edgecc.backends.base import EmitOptions
from edgecc.backends.llvm.backend import LlvmBackend
from edgecc.loop.module import Module
from edgecc.targets.schema import load_target
from tests.backends.c.conftest import expected, network

X = np.linspace(-3, 3, 60, dtype=np.float32).reshape(6, 10)
PLAIN = EmitOptions()

COUNTING = """
#include "runtime.h"
int edgecc_test_threads, edgecc_test_parts;
void edgecc_parallel_for(void (*body)(void *, ptrdiff_t, ptrdiff_t), void *context, ptrdiff_t count, int threads) {
  edgecc_test_threads = threads;
  for (ptrdiff_t i = count; i-- > 0; ++edgecc_test_parts) body(context, i, i + 1);
}
"""
"""A runtime of the user's: each iteration alone, the last one first."""


def library(module: Module, folder: Path, options: EmitOptions = PLAIN, runtime: str = "", sources: int = 2) -> LibraryExecutor:
    target = load_target("host")
    artifact = LlvmBackend().emit(module, target, options)
    path = artifact.write(folder / "artifact")
    if runtime:
        (path / "runtime.c").write_text(runtime + "\n__attribute__((visibility(\"default\"))) int *edgecc_test_counts(void) {\n"
                                        "  static int both[2];\n  both[0] = edgecc_test_threads, both[1] = edgecc_test_parts;\n  return both;\n}\n")
    return LibraryExecutor(build_shared_library(find_compiler(target), path, artifact.manifest.sources[:sources], folder / "model.so", BuildOptions()).output)


def check(executor: LibraryExecutor) -> None:
    results = [np.empty(X.shape, np.float32), np.empty(X.shape, np.bool_)]
    executor.run([X, np.array(0, np.int64)], results)
    for got, want in zip(results, expected(X), strict=True):
        np.testing.assert_array_equal(got, want)


def test_runtime_is_handed_out_with_the_object(tmp_path: Path):
    artifact = LlvmBackend().emit(network(threads=2, lanes=4), load_target("host"))
    assert artifact.manifest.sources == ("tiny.o", "runtime.c") and "runtime.h" in artifact.files
    assert b"Threads" in artifact.files["CMakeLists.txt"]
    result = load(artifact.write(tmp_path / "net")).run({"x": X, "k": np.int64(3)})
    np.testing.assert_array_equal(result["y"], expected(X)[0])
    with LlvmBackend().load(artifact) as model:  # no linker, and one thread
        np.testing.assert_array_equal(model.run({"x": X, "k": np.int64(3)})["y"], expected(X)[0])


def test_loops_are_divided_by_the_runtime_that_is_linked(tmp_path: Path):
    executor = library(network(threads=2, lanes=4), tmp_path, runtime=COUNTING)
    check(executor)
    counts = executor.library.edgecc_test_counts
    counts.restype = ctypes.POINTER(ctypes.c_int)
    assert counts()[:2] == [2, 6]


def test_object_alone_runs_on_one_thread(tmp_path: Path):
    check(library(network(threads=2, lanes=4), tmp_path, sources=1))


def test_modules_without_parallel_loops_need_no_runtime():
    assert LlvmBackend().emit(network(threads=1), load_target("host")).manifest.sources == ("tiny.o",)


def test_every_call_is_timed_in_every_run(tmp_path: Path):
    executor = library(network(lanes=4), tmp_path, EmitOptions(profile=True), sources=1)
    assert read_profile(executor.library, "tiny").runs == 0
    for runs in (1, 2, 3):
        check(executor)
        profile = read_profile(executor.library, "tiny")
        assert profile.runs == runs and len(profile.mean) == len(profile.least) == 3
        assert all(0 < least <= mean * (1 + 1e-9) < 10 for least, mean in zip(profile.least, profile.mean, strict=True))


@pytest.mark.parametrize("name", ["host", "cortex-a76"])
def test_other_objects_have_no_trace_of_it(name):
    plain, profiled = (LlvmBackend().emit(network(), load_target(name), EmitOptions(form="asm", profile=profile)).files["tiny.s"]
                       for profile in (False, True))
    assert b"profile" not in plain and b"clock" not in plain and b"tiny_get_profile" in profiled
