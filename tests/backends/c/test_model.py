"""Whole artifacts of the C back end: they build without warnings, run everywhere, and compute the right thing."""

from __future__ import annotations

import ctypes
import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecc.artifact.load import load
from edgecc.backends.base import EmitOptions, SelfTest
from edgecc.backends.c import selftest
from edgecc.backends.c.backend import CBackend, target_isa
from edgecc.backends.c.includes import includes
from edgecc.backends.c.names import model_identifier, unique
from edgecc.errors import EdgeccError
from edgecc.ir.types import DType, TensorType
from edgecc.loop.builder import Builder
from edgecc.loop.module import Call, InputBytes, Interface, Module, OutputBytes
from edgecc.targets.schema import load_target
from tests.support.ccompile import SANITIZERS, WARNINGS, build, command_of, machine_of, require, run_program

TARGETS = ("generic-c", "x86-64-v3", "x86-64-v4", "cortex-a76")
LANES = {"generic-c": 1, "x86-64-v3": 8, "x86-64-v4": 16, "cortex-a76": 4}


def sources_of(artifact, *more: str) -> dict[str, bytes]:
    wanted = [*artifact.manifest.sources, *more]
    return {n: t for n, t in artifact.files.items() if n.endswith(".h") or n in wanted or n == "weights.bin"}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("threads", [1, 3])
def test_runs_like_numpy(make_network, network_expected, target, threads):
    require(load_target(target))
    module = make_network(threads=threads, lanes=LANES[target])
    artifact = CBackend().emit(module, load_target(target))
    assert ("runtime.c" in artifact.files) == (threads > 1)
    x = np.random.default_rng(1).standard_normal((6, 10)).astype(np.float32)
    with load(artifact) as model:
        for _ in range(20):
            result = model.run({"x": x, "k": np.int64(3)})
    y, flag = network_expected(x)
    np.testing.assert_allclose(result["y"], y, rtol=1e-6)
    np.testing.assert_array_equal(result["flag"], flag)


def test_macros_stay_where_code_or_another_macro_uses_them_and_pragmas_always():
    inner, outer, idle = ("#define EDGECC_A(x) (x)\n", "#define EDGECC_B(x) EDGECC_A(x)\n", "#define EDGECC_C(x) (x)\n")
    pragma = "#pragma GCC optimize\n#define EDGECC_D(x) (x)\n"
    isa = dataclasses.replace(target_isa(load_target("generic-c")), definitions=(inner, outer, idle, pragma))
    assert includes(isa, "y = EDGECC_B(x);").endswith(f"\n\n{inner}{outer}{pragma}")
    assert includes(isa, "y = EDGECC_BARRIER;").count("#define") == 3


def test_the_example_of_the_header_compiles(make_network, tmp_path):
    require(load_target("generic-c"), "gcc")
    module = make_network()
    files = CBackend().emit(module, load_target("generic-c")).files
    for name in (header := f"{module.name}.h", "edgecc_abi.h"):
        (tmp_path / name).write_bytes(files[name])
    example = "\n".join(re.findall(r"^ \*   (?!\d = )(.*)$", files[header].decode(), re.MULTILINE))
    assert f"{module.name}_run(&in, &out, arena)" in example
    parameters = "const void *x, const void *k, void *y, void *flag"
    (tmp_path / "use.c").write_text(f'#include "{header}"\n#define FAILED 1\nint use({parameters});\nint use({parameters}) {{\n{example}\nreturn 0;\n}}\n')
    subprocess.run(["gcc", "-std=c11", "-fsyntax-only", *WARNINGS, "use.c"], cwd=tmp_path, check=True)


@pytest.mark.parametrize("compiler", ["gcc", "clang", "zig"])
@pytest.mark.parametrize("target", TARGETS)
def test_self_test_builds_without_warnings_and_passes(make_network, network_expected, target, compiler):
    machine = load_target(target)
    require(machine, compiler)
    module = make_network(lanes=LANES[target], threads=2 if compiler == "clang" else 1,
                          weight_rows=2000 if compiler == "zig" else 6)
    inputs = selftest.inputs(module)
    y, flag = network_expected(inputs["x"])
    artifact = CBackend().emit(module, machine, EmitOptions(self_test=SelfTest({"y": y, "flag": flag})))
    program = build(sources_of(artifact, "selftest.c"), machine, compiler=compiler,
                    flags=("-O2", "-pthread") if compiler == "clang" else ("-O2",))
    assert run_program(program, machine).decode().endswith("ok\n")


@pytest.mark.parametrize("threads", [1, 4])
def test_sanitizers_find_nothing(make_network, threads):
    machine = load_target("generic-c")
    artifact = CBackend().emit(make_network(threads=threads), machine)
    program = build(sources_of(artifact, "selftest.c"), machine, flags=("-O1", "-g", "-pthread", *SANITIZERS))
    assert run_program(program, machine).decode().endswith("ok\n")


def test_threads_have_no_races(make_network):
    machine = load_target("generic-c")
    artifact = CBackend().emit(make_network(threads=4), machine)
    files = sources_of(artifact)
    files["main.c"] = b"""
#include <pthread.h>
#include <string.h>
#include "tiny.h"
static float x[60], y[2][60];
static uint8_t flag[2][60];
static int64_t k;
static _Alignas(64) unsigned char arena[2][(TINY_ARENA_BYTES + 63) & ~63];
static void *loop(void *argument) {
  const int n = *(int *)argument;
  const tiny_inputs in = {x, &k};
  const tiny_outputs out = {y[n], flag[n]};
  for (int i = 0; i < 300; ++i)
    if (tiny_run(&in, &out, arena[n]) != 0) return argument;
  return NULL;
}
int main(void) {
  for (int i = 0; i < 60; ++i) x[i] = (float)i;
  int zero = 0, one = 1;
  pthread_t other;
  pthread_create(&other, NULL, loop, &one);
  void *failed = loop(&zero), *other_failed = NULL;
  pthread_join(other, &other_failed);
  return failed != NULL || other_failed != NULL || memcmp(y[0], y[1], sizeof y[0]) != 0 || y[0][59] != 59 * 59 / 8.0f + 1;
}
"""
    program = build(files, machine, flags=("-O1", "-g", "-pthread", "-fsanitize=thread"))
    run_program(program, machine)


@pytest.mark.skipif(sys.platform != "linux", reason="affinities are those of Linux")
@pytest.mark.parametrize("pinned", [0, 1])
def test_threads_keep_the_processors_they_may_run_on(make_network, pinned):
    """Woken threads leave the processor of their caller; where there is no other one they share it."""
    machine = load_target("generic-c")
    artifact = CBackend().emit(make_network(threads=4), machine)
    files = sources_of(artifact)
    files["main.c"] = b"""
#define _GNU_SOURCE
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "tiny.h"
static float x[60], y[60], first[60];
static uint8_t flag[60];
static int64_t k;
static _Alignas(64) unsigned char arena[(TINY_ARENA_BYTES + 63) & ~63];
static int threads_with(const char *allowed) {
  int found = 0;
  DIR *tasks = opendir("/proc/self/task");
  for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
    char name[300], line[300];
    snprintf(name, sizeof name, "/proc/self/task/%s/status", task->d_name);
    FILE *status = task->d_name[0] == '.' ? NULL : fopen(name, "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
      if (strncmp(line, "Cpus_allowed:", 13) == 0) found += strcmp(line, allowed) == 0 ? 1 : 1000;
    if (status != NULL) fclose(status);
  }
  closedir(tasks);
  return found;
}
int main(int argc, char **argv) {
  if (argc > 1 && argv[1][0] == '1') {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) return 1;
  }
  char allowed[300] = "";
  FILE *status = fopen("/proc/self/status", "r");
  while (fgets(allowed, sizeof allowed, status) != NULL && strncmp(allowed, "Cpus_allowed:", 13) != 0) {}
  fclose(status);
  for (int i = 0; i < 60; ++i) x[i] = (float)i;
  const tiny_inputs in = {x, &k};
  const tiny_outputs out = {y, flag};
  for (int i = 0; i < 60; ++i) {
    if (tiny_run(&in, &out, arena) != 0) return 2;
    if (i == 0) memcpy(first, y, sizeof y);
    if (memcmp(first, y, sizeof y) != 0) return 3;
    usleep(1000);  /* long enough for the others to fall asleep */
  }
  return threads_with(allowed) == 4 ? 0 : 4;
}
"""
    program = build(files, machine, flags=("-O1", "-pthread"))
    run_program(program, machine, arguments=[str(pinned)])


@pytest.mark.parametrize("weight_rows", [6, 2000])
def test_weights_as_text_only_when_small(make_network, weight_rows):
    artifact = CBackend().emit(make_network(weight_rows=weight_rows), load_target("generic-c"))
    small = weight_rows == 6
    assert ("weights.c" in artifact.files, "weights.S" in artifact.files) == (small, not small)
    assert all(len(text) < 200_000 for name, text in artifact.files.items() if name != "weights.bin")


def test_weights_from_a_file(make_network, network_expected):
    artifact = CBackend().emit(make_network(), load_target("generic-c"), EmitOptions(weights="file"))
    assert "weights.bin" in artifact.files and "weights.c" not in artifact.files
    x = np.ones((6, 10), np.float32)
    with load(artifact) as model:
        np.testing.assert_allclose(model.run({"x": x, "k": np.int64(0)})["y"], network_expected(x)[0])
    program = build(sources_of(artifact, "selftest.c"), load_target("generic-c"))
    with pytest.raises(AssertionError, match="ended with 2"):
        run_program(program, load_target("generic-c"))  # no weights.bin in the working directory


@pytest.mark.parametrize("case, status", [("arena null", 1), ("arena misaligned", 1), ("input null", 2), ("output null", 2)])
def test_bad_arguments_are_answered_by_a_status(make_network, tmp_path, case, status):
    require(load_target("generic-c"))
    artifact = CBackend().emit(make_network(), load_target("generic-c"))
    folder = artifact.write(tmp_path / "tiny")
    library = tmp_path / "tiny.so"
    command = command_of(machine_of(load_target("generic-c")), "gcc")
    assert command is not None
    subprocess.run([*command, "-shared", "-fPIC", "-o", str(library), *artifact.manifest.sources, "-lm"], cwd=folder, check=True)
    handle = ctypes.CDLL(str(library))
    memory = (ctypes.c_char * 4096)()
    base = (ctypes.addressof(memory) + 63) // 64 * 64
    x, y = (ctypes.c_char * 240)(), (ctypes.c_char * 240)()
    address = ctypes.addressof
    ins = [0 if case == "input null" else address(x), address((ctypes.c_int64 * 1)())]
    outs = [address(y), 0 if case == "output null" else address((ctypes.c_char * 60)())]
    arena = {"arena null": 0, "arena misaligned": base + 4}.get(case, base)
    result = handle.tiny_run((ctypes.c_void_p * 2)(*ins), (ctypes.c_void_p * 2)(*outs), ctypes.c_void_p(arena))
    assert result == status


HOSTILE = [
    '"); system("touch pwned"); ("', "*/ int x; /*", "a\nb\r\\", "??/", "\\", "%s%n", "é\u202e\x00", "int", "", "a/b:0",
    "x" * 5000, "//\\\nint y;", "#include </etc/passwd>",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_reach_c_as_data_only(make_network, name, tmp_path):
    module = make_network(input_name=name, output_name=name + "!", loc=name)
    artifact = CBackend().emit(module, load_target("generic-c"))
    files = sources_of(artifact, "selftest.c")
    for text in (t for n, t in artifact.files.items() if n != "weights.bin"):
        assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in text)
    files["print.c"] = b"""
#include <stdio.h>
#include "tiny.h"
int main(void) { return puts(edgecc_get_model()->inputs[0].name) < 0; }
"""
    del files["selftest.c"]
    program = build(files, load_target("generic-c"), flags=("-O0", "-trigraphs"))
    printed = run_program(program, load_target("generic-c"))
    assert printed == name.encode("utf-8", "surrogatepass").split(b"\0")[0] + b"\n"
    assert not (program.parent / "pwned").exists()


def test_the_self_test_makes_and_reads_every_type(tmp_path):
    """Copies of inputs of all types but strings; the references are what Python makes of the documented generator."""
    types = [dtype for dtype in DType if dtype is not DType.STRING]
    ports = [Interface(f"{dtype.value} in", TensorType(dtype, (7, 3))) for dtype in types]
    functions, calls = [], []
    for position, dtype in enumerate(types):
        b = Builder(f"copy_{dtype.value}")
        held, count = (DType.U8, ports[position].type.packed_bytes) if dtype.is_stored_only else (dtype, 21)
        x, y = b.buffer("x", held, count, "input"), b.buffer("y", held, count, "output")
        with b.loop("i", count) as i:
            b.store(y, i, b.load(x, i))
        functions.append(b.function())
        calls.append(Call(f"copy_{dtype.value}", (InputBytes(position), OutputBytes(position)), ()))
    module = Module(name="types", inputs=tuple(ports), outputs=tuple(Interface(f"{p.name} out", p.type) for p in ports),
                    functions=tuple(functions), calls=tuple(calls), constants=(), weights_bytes=0, arena_bytes=0,
                    arena_lower_bound=0)
    target = load_target("generic-c")
    wanted = {f"{name} out": array for name, array in selftest.inputs(module).items()}
    for wrong in ("", "f16", "i4", "f8e5m2"):
        if wrong:
            name = f"{wrong} in out"
            wanted[name] = (wanted[name].astype(np.float32) + 1).astype(wanted[name].dtype)
        artifact = CBackend().emit(module, target, EmitOptions(self_test=SelfTest(wanted, 0.0, 0.0)))
        program = build(sources_of(artifact, "selftest.c"), target, flags=("-O1", *SANITIZERS))
        if wrong:
            with pytest.raises(AssertionError, match="ended with 1"):
                run_program(program, target)
        else:
            run_program(program, target)


def test_equal_names_get_different_members(make_network):
    module = make_network(input_name="a:0", output_name="a:0")
    artifact = CBackend().emit(module, load_target("generic-c"))
    assert b"float *a_0;" in artifact.files["tiny.h"]


def test_a_dimension_called_t_hides_no_type():
    assert unique(["size_t", "size_t_", "size_n"]) == ["size_t_", "size_t__2", "size_n"]


@pytest.mark.parametrize("name", ["kernels", "Weights", "selftest", "runtime", "kernels_1", "int", "2x", "", "exp"])
def test_any_model_name_will_do(make_network, name):
    artifact = CBackend().emit(make_network(name=model_identifier(name), threads=2), load_target("generic-c"))
    program = build(sources_of(artifact, "selftest.c"), load_target("generic-c"), flags=("-O0", "-pthread"))
    assert run_program(program, load_target("generic-c")).decode().endswith("ok\n")


def test_a_name_that_is_a_file_of_every_artifact_is_refused(make_network):
    with pytest.raises(EdgeccError, match="kernels"):
        CBackend().emit(make_network(name="kernels"), load_target("generic-c"))


def test_bytes_are_deterministic(make_network):
    first, second = (CBackend().emit(make_network(threads=2, lanes=16), load_target("x86-64-v4")) for _ in range(2))
    assert first.files == second.files


def test_the_header_serves_cpp(make_network, tmp_path):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    folder = CBackend().emit(make_network(input_name="class"), load_target("generic-c")).write(tmp_path / "tiny")
    (folder / "main.cpp").write_text('#include "tiny.h"\nint main() { return tiny_get_model() == nullptr; }\n')
    subprocess.run([compiler, *WARNINGS, "-fsyntax-only", "main.cpp"], cwd=folder, check=True)


def test_the_run_path_never_allocates(make_network):
    artifact = CBackend().emit(make_network(), load_target("generic-c"))
    files = sources_of(artifact)
    files["main.c"] = b"""
#include <stdlib.h>
#include "tiny.h"
static int armed;
void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n) { if (armed) abort(); return __real_malloc(n); }
static float x[60], y[60];
static uint8_t flag[60];
static int64_t k;
static _Alignas(64) unsigned char arena[TINY_ARENA_BYTES];
int main(void) {
  const tiny_inputs in = {x, &k};
  const tiny_outputs out = {y, flag};
  armed = 1;
  return tiny_run(&in, &out, arena);
}
"""
    program = build(files, load_target("generic-c"), flags=("-O1", "-Wl,--wrap=malloc"))
    run_program(program, load_target("generic-c"))


def test_cmake_builds_libraries_and_the_self_test(make_network, tmp_path):
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    artifact = CBackend().emit(make_network(threads=2, weight_rows=2000), load_target("generic-c"))
    folder = artifact.write(tmp_path / "tiny")
    build_folder: Path = tmp_path / "build"
    subprocess.run(["cmake", "-S", str(folder), "-B", str(build_folder)], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", str(build_folder)], check=True, capture_output=True)
    subprocess.run(["ctest", "--output-on-failure"], cwd=build_folder, check=True, capture_output=True)
    subprocess.run(["cmake", "--install", str(build_folder), "--prefix", str(tmp_path / "installed")], check=True, capture_output=True)
    program = tmp_path / "program"
    program.mkdir()
    # As another network in the same program has it.
    other = "const edgecc_model *edgecc_get_model(void) { return NULL; }\n"
    (program / "main.c").write_text(f'#include "tiny.h"\n{other}int main(void) {{ return tiny_get_model()->abi == 1 ? 0 : 1; }}\n')
    for number, found in enumerate((f'add_subdirectory("{folder}" net)', "find_package(tiny REQUIRED)")):
        (program / "CMakeLists.txt").write_text(
            f"cmake_minimum_required(VERSION 3.15)\nproject(program C)\n{found}\nadd_executable(program main.c)\n"
            "target_link_libraries(program PRIVATE tiny::tiny)\n")
        here = tmp_path / f"program{number}"
        subprocess.run(["cmake", "-S", str(program), "-B", str(here), f"-DCMAKE_PREFIX_PATH={tmp_path / 'installed'}"], check=True, capture_output=True)
        subprocess.run(["cmake", "--build", str(here)], check=True, capture_output=True)
        subprocess.run([str(here / "program")], check=True)
        assert not list(here.rglob("*selftest")) and not list(here.rglob("*.so"))
