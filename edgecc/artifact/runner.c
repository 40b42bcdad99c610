/* Runs a compiled network as a process of its own, for machines that are emulated or must be kept apart.
 *
 * Talks over standard input and output, in the byte order of the machine. On start it writes
 *     "EDGECC1\n"  u32 inputs  u32 outputs  u64 bytes of each input  u64 bytes of each output
 * and then answers commands, each one byte:
 *     'W' u64 size, bytes      pass the weights to init()            -> i32 status
 *     'R' bytes of all inputs  run once                              -> i32 status, bytes of all outputs
 *     'B' u32 count            run count times on the last inputs    -> i32 status, u64 nanoseconds each
 *     'Q' or end of input      leave
 * The arena is filled with 0xFF (NaN as a float) before the first run, so that reading what was never
 * written shows.
 */
#define _POSIX_C_SOURCE 200112L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "edgecc_abi.h"

static int get(void *to, size_t bytes) { return bytes == 0 || fread(to, 1, bytes, stdin) == bytes; }

static int put(const void *from, size_t bytes) { return bytes == 0 || fwrite(from, 1, bytes, stdout) == bytes; }

static void *aligned(size_t bytes, size_t align) {
  void *out = NULL;
  if (align < 64) align = 64;
  return posix_memalign(&out, align, bytes ? bytes : 1) == 0 ? out : NULL;
}

static void **arrays(const edgecc_tensor *tensors, int32_t count) {
  void **out = calloc((size_t)count + 1, sizeof *out);
  for (int32_t i = 0; out != NULL && i < count; i++) {
    out[i] = aligned(tensors[i].bytes, 64);
    if (out[i] == NULL) return NULL;
    memset(out[i], 0, tensors[i].bytes);
  }
  return out;
}

static int greet(const edgecc_model *m) {
  const uint32_t counts[2] = {(uint32_t)m->n_inputs, (uint32_t)m->n_outputs};
  if (!put("EDGECC1\n", 8) || !put(counts, sizeof counts)) return 0;
  for (int32_t i = 0; i < m->n_inputs + m->n_outputs; i++) {
    const uint64_t bytes = i < m->n_inputs ? m->inputs[i].bytes : m->outputs[i - m->n_inputs].bytes;
    if (!put(&bytes, sizeof bytes)) return 0;
  }
  return fflush(stdout) == 0;
}

static int load_weights(const edgecc_model *m) {
  uint64_t size = 0;
  if (!get(&size, sizeof size) || size > SIZE_MAX) return 0;
  void *weights = aligned((size_t)size, m->arena_align); /* kept until the process ends */
  if (weights == NULL || !get(weights, (size_t)size)) return 0;
  const int32_t status = m->init == NULL ? 0 : m->init(weights, (size_t)size);
  return put(&status, sizeof status);
}

static int run_once(const edgecc_model *m, void **in, void **out, void *arena) {
  for (int32_t i = 0; i < m->n_inputs; i++)
    if (!get(in[i], m->inputs[i].bytes)) return 0;
  const int32_t status = m->run((const void *const *)in, out, arena);
  if (!put(&status, sizeof status)) return 0;
  for (int32_t i = 0; i < m->n_outputs; i++)
    if (!put(out[i], m->outputs[i].bytes)) return 0;
  return 1;
}

static int benchmark(const edgecc_model *m, void **in, void **out, void *arena) {
  uint32_t count = 0;
  if (!get(&count, sizeof count)) return 0;
  uint64_t *times = calloc((size_t)count + 1, sizeof *times);
  if (times == NULL) return 0;
  int32_t status = 0;
  for (uint32_t i = 0; i < count && status == 0; i++) {
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    status = m->run((const void *const *)in, out, arena);
    clock_gettime(CLOCK_MONOTONIC, &after);
    times[i] = (uint64_t)((after.tv_sec - before.tv_sec) * 1000000000LL + (after.tv_nsec - before.tv_nsec));
  }
  const int ok = put(&status, sizeof status) && put(times, count * sizeof *times);
  free(times);
  return ok;
}

int main(void) {
  const edgecc_model *m = edgecc_get_model();
  if (m->abi != EDGECC_ABI) return 3;
  void **in = arrays(m->inputs, m->n_inputs), **out = arrays(m->outputs, m->n_outputs);
  unsigned char *arena = aligned(m->arena_bytes, m->arena_align);
  if (in == NULL || out == NULL || arena == NULL) {
    fprintf(stderr, "not enough memory\n");
    return 4;
  }
  memset(arena, 0xFF, m->arena_bytes);
  if (!greet(m)) return 5;
  for (;;) {
    const int command = getchar();
    int ok = 0;
    switch (command) {
      case 'W': ok = load_weights(m); break;
      case 'R': ok = run_once(m, in, out, arena); break;
      case 'B': ok = benchmark(m, in, out, arena); break;
      case 'Q': case EOF: return 0;
      default: fprintf(stderr, "unknown command %d\n", command); return 6;
    }
    if (!ok || fflush(stdout) != 0) {
      fprintf(stderr, "command '%c' was cut short\n", command);
      return 7;
    }
  }
}
