"""The run path allocates nothing: every allocator of the C library traps while a model runs."""

import shutil
import subprocess

import pytest

import edgecc
from tests.support.assets import fixture

TRAP = r"""
#include <stdio.h>
#include <stdlib.h>
#include "edgecc_abi.h"

static int armed;
static void check(void) { if (armed) { fputs("allocation while running\n", stderr); _Exit(9); } }
void *__real_malloc(size_t n); void *__real_calloc(size_t n, size_t m); void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n) { check(); return __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t m) { check(); return __real_calloc(n, m); }
void *__wrap_realloc(void *p, size_t n) { check(); return __real_realloc(p, n); }
void __wrap_free(void *p) { check(); __real_free(p); }
void *__wrap_aligned_alloc(size_t a, size_t n) { check(); (void)a; return __real_malloc(n); }

int main(int count, char **arguments) {
  const edgecc_model *m = edgecc_get_model();
  const void **inputs = calloc((size_t)m->n_inputs, sizeof *inputs);
  void **outputs = calloc((size_t)m->n_outputs, sizeof *outputs);
  for (int i = 0; i < m->n_inputs; i++) inputs[i] = calloc(1, m->inputs[i].bytes + 1);
  for (int i = 0; i < m->n_outputs; i++) outputs[i] = calloc(1, m->outputs[i].bytes + 1);
  char *arena = malloc(m->arena_bytes + m->arena_align);
  arena += m->arena_align - (size_t)arena % m->arena_align;
  (void)arguments;
  armed = 1;
  void *volatile kept = count > 1 ? malloc(1) : NULL; /* volatile: or the compiler leaves the call out */
  int result = m->run(inputs, outputs, arena);
  armed = 0;
  free(kept);
  puts("ran");
  return result;
}
"""


def build(folder):
    """A program that runs the artifact once with trapped allocators."""
    (folder / "trap.c").write_text(TRAP)
    sources = sorted(str(p) for p in [*folder.glob("*.c"), *folder.glob("*.S")] if p.name not in ("selftest.c",))
    wraps = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "realloc", "free", "aligned_alloc")]
    subprocess.run(["gcc", "-O1", "-march=native", "-Wall", "-Wextra", *sources, *wraps, "-lm", "-lpthread", "-o", str(folder / "trap")],
                   check=True, cwd=folder, timeout=300)
    return folder / "trap"


@pytest.mark.parametrize("name", ["kws_dscnn_fp32", "silero_vad_16k", "gtcrn_stream_simple", "stories260k_static"])
def test_a_run_allocates_nothing(name, tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    model, inputs, _ = fixture(name)
    edgecc.compile(model, target="host", output=tmp_path / "out", inputs=inputs)
    program = build(tmp_path / "out")
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "ran"), done.stderr
    trapped = subprocess.run([program, "allocate"], capture_output=True, text=True, timeout=60, check=False)
    assert trapped.returncode == 9, "the trap does not work"
