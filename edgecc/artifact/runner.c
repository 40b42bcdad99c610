/* Runs a compiled network as a program of its own.
 *
 * With arguments it reads one raw array from each input file and writes one to each output file:
 *     PROGRAM [--runs N] INPUT... OUTPUT...
 * Without arguments it serves edgecc.load, for machines that are emulated or must be kept apart. Then it
 * talks over standard input and output, in the byte order of the machine. On start it writes
 *     "EDGECC1\n"  u32 inputs  u32 outputs  u64 bytes of each input  u64 bytes of each output
 * and then answers commands, each one byte:
 *     'W' u64 size, bytes      pass the weights to init()            -> i32 status
 *     'R' bytes of all inputs  run once                              -> i32 status, bytes of all outputs
 *     'S' i64 dims, and u64 size and bytes, of each input
 *                              run once at these shapes (built with EDGECC_OPEN) -> i32 status, then i64 dims and the
 *                              bytes of the largest shape of each output
 *     'B' u32 count            run count times on the last inputs    -> i32 status, u64 nanoseconds each
 *     'Q' or end of input      leave
 * Tensors of strings are text (runner_strings.h), and count 8 bytes an element in the greeting.
 * The arena is filled with 0xFF (NaN as a float) before the first run, so that reading what was never
 * written shows.
 */
#define _POSIX_C_SOURCE 200112L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef EDGECC_OPEN
#include "edgecc_open.h"
#else
#include "edgecc_abi.h"
#endif
#include "runner_strings.h"

/* Allocated once and kept until the process ends. */
static void **in, **out, *weights;
static char **texts; /* the strings of the inputs */
static unsigned char *arena;

static int get(void *to, size_t bytes) { return bytes == 0 || fread(to, 1, bytes, stdin) == bytes; }

static int put(const void *from, size_t bytes) { return bytes == 0 || fwrite(from, 1, bytes, stdout) == bytes; }

static void *aligned(size_t bytes, size_t align) {
  void *memory = NULL;
  if (align < 64) align = 64;
  return posix_memalign(&memory, align, bytes ? bytes : 1) == 0 ? memory : NULL;
}

static void **arrays(const edgecc_tensor *tensors, int32_t count) {
  void **list = calloc((size_t)count + 1, sizeof *list);
  for (int32_t i = 0; list != NULL && i < count; i++) {
    list[i] = aligned(tensors[i].bytes, 64);
    if (list[i] == NULL) return NULL;
    memset(list[i], 0, tensors[i].bytes);
  }
  return list;
}

static int greet(const edgecc_model *m) {
  const uint32_t counts[2] = {(uint32_t)m->n_inputs, (uint32_t)m->n_outputs};
  if (!put("EDGECC1\n", 8) || !put(counts, sizeof counts)) return 0;
  for (int32_t i = 0; i < m->n_inputs + m->n_outputs; i++) {
    const edgecc_tensor *t = i < m->n_inputs ? &m->inputs[i] : &m->outputs[i - m->n_inputs];
    const uint64_t bytes = t->dtype == STRING_TYPE ? 8 * (uint64_t)string_count(t, NULL) : t->bytes;
    if (!put(&bytes, sizeof bytes)) return 0;
  }
  return fflush(stdout) == 0;
}

static int load_weights(const edgecc_model *m) {
  uint64_t size = 0;
  if (!get(&size, sizeof size) || size > SIZE_MAX) return 0;
  weights = aligned((size_t)size, m->arena_align);
  if (weights == NULL || !get(weights, (size_t)size)) return 0;
  const int32_t status = m->init == NULL ? 0 : m->init(weights, (size_t)size);
  return put(&status, sizeof status);
}

static int run_once(const edgecc_model *m) {
  for (int32_t i = 0; i < m->n_inputs; i++) {
    const edgecc_tensor *t = &m->inputs[i];
    if (t->dtype == STRING_TYPE ? !get_strings(string_count(t, NULL), in[i], &texts[i]) : !get(in[i], t->bytes)) return 0;
  }
  const int32_t status = m->run((const void *const *)in, out, arena);
  if (!put(&status, sizeof status)) return 0;
  for (int32_t i = 0; status == 0 && i < m->n_outputs; i++) {
    const edgecc_tensor *t = &m->outputs[i];
    if (t->dtype == STRING_TYPE ? !put_strings(string_count(t, NULL), out[i]) : !put(out[i], t->bytes)) return 0;
  }
  return 1;
}

#ifdef EDGECC_OPEN
static int64_t **shapes(const edgecc_tensor *tensors, int32_t count) {
  int64_t **list = calloc((size_t)count + 1, sizeof *list);
  for (int32_t i = 0; list != NULL && i < count; i++) {
    list[i] = calloc((size_t)tensors[i].rank + 1, sizeof **list);
    if (list[i] == NULL) return NULL;
  }
  return list;
}

static int run_open(const edgecc_model *m) {
  static int64_t **in_dims, **out_dims;
  if (in_dims == NULL) in_dims = shapes(m->inputs, m->n_inputs);
  if (out_dims == NULL) out_dims = shapes(m->outputs, m->n_outputs);
  if (in_dims == NULL || out_dims == NULL) return 0;
  for (int32_t i = 0; i < m->n_inputs; i++) {
    const edgecc_tensor *t = &m->inputs[i];
    uint64_t size = 0;
    if (!get(in_dims[i], (size_t)t->rank * sizeof **in_dims)) return 0;
    if (t->dtype == STRING_TYPE) {
      const size_t count = string_count(t, in_dims[i]);
      if (count > t->bytes / sizeof(const char *) || !get_strings(count, in[i], &texts[i])) return 0;
    } else if (!get(&size, sizeof size) || size > t->bytes || !get(in[i], (size_t)size)) {
      return 0;
    }
  }
  const int32_t status = edgecc_get_open_model()->run((const void *const *)in, (const int64_t *const *)in_dims, out, out_dims, arena);
  if (!put(&status, sizeof status)) return 0;
  for (int32_t i = 0; status == 0 && i < m->n_outputs; i++) {
    const edgecc_tensor *t = &m->outputs[i];
    if (!put(out_dims[i], (size_t)t->rank * sizeof **out_dims)) return 0;
    if (t->dtype == STRING_TYPE ? !put_strings(string_count(t, out_dims[i]), out[i]) : !put(out[i], t->bytes)) return 0;
  }
  return 1;
}
#endif

static int benchmark(const edgecc_model *m) {
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

static int usage(const edgecc_model *m, const char *program) {
  fprintf(stderr, "usage: %s [--runs N] INPUT... OUTPUT...\nraw arrays, in this order:\n", program);
  for (int32_t i = 0; i < m->n_inputs + m->n_outputs; i++) {
    const edgecc_tensor *t = i < m->n_inputs ? &m->inputs[i] : &m->outputs[i - m->n_inputs];
    fprintf(stderr, "  %s %s: ONNX type %d, shape [", i < m->n_inputs ? "input" : "output", t->name, (int)t->dtype);
    for (int32_t d = 0; d < t->rank; d++) fprintf(stderr, d ? ",%lld" : "%lld", (long long)t->dims[d]);
    fprintf(stderr, "], %lu bytes\n", (unsigned long)t->bytes);
  }
  return 2;
}

static int read_file(const char *path, void *to, size_t bytes) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return 0;
  const int ok = fread(to, 1, bytes, file) == bytes && fgetc(file) == EOF;
  fclose(file);
  return ok;
}

static int write_file(const char *path, const void *from, size_t bytes) {
  FILE *file = fopen(path, "wb");
  if (file == NULL) return 0;
  const int ok = fwrite(from, 1, bytes, file) == bytes;
  return fclose(file) == 0 && ok;
}

static int run_files(const edgecc_model *m, int count, char **args) {
  long runs = 1;
  int next = 1;
  if (m->init != NULL) {
    fprintf(stderr, "the weights of this model are not linked in\n");
    return 2;
  }
  if (count > 2 && strcmp(args[1], "--runs") == 0) {
    runs = strtol(args[2], NULL, 10);
    next = 3;
  }
  for (int32_t i = 0; i < m->n_inputs + m->n_outputs; i++)
    if ((i < m->n_inputs ? m->inputs[i] : m->outputs[i - m->n_inputs]).dtype == STRING_TYPE) {
      fprintf(stderr, "strings are not read from files\n");
      return 2;
    }
  if (runs < 1 || count - next != m->n_inputs + m->n_outputs) return usage(m, args[0]);
  for (int32_t i = 0; i < m->n_inputs; i++, next++)
    if (!read_file(args[next], in[i], m->inputs[i].bytes)) {
      fprintf(stderr, "%s: not a readable file of %lu bytes\n", args[next], (unsigned long)m->inputs[i].bytes);
      return 2;
    }
  for (long i = 0; i < runs; i++) {
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    const int status = m->run((const void *const *)in, out, arena);
    clock_gettime(CLOCK_MONOTONIC, &after);
    if (status != 0) {
      fprintf(stderr, "the model reported failure (status %d)\n", status);
      return 1;
    }
    if (runs > 1) {
      const double ns = (double)(after.tv_sec - before.tv_sec) * 1e9 + (double)(after.tv_nsec - before.tv_nsec);
      printf("%.3f ms\n", ns / 1e6);
    }
  }
  for (int32_t i = 0; i < m->n_outputs; i++, next++)
    if (!write_file(args[next], out[i], m->outputs[i].bytes)) {
      fprintf(stderr, "%s: cannot be written\n", args[next]);
      return 2;
    }
  return 0;
}

int main(int count, char **args) {
  const edgecc_model *m = edgecc_get_model();
  if (m->abi != EDGECC_ABI) return 3;
  in = arrays(m->inputs, m->n_inputs);
  out = arrays(m->outputs, m->n_outputs);
  arena = aligned(m->arena_bytes, m->arena_align);
  texts = calloc((size_t)m->n_inputs + 1, sizeof *texts);
  if (in == NULL || out == NULL || arena == NULL || texts == NULL) {
    fprintf(stderr, "not enough memory\n");
    return 4;
  }
  memset(arena, 0xFF, m->arena_bytes);
  if (count > 1) return run_files(m, count, args);
  if (!greet(m)) return 5;
  for (;;) {
    const int command = getchar();
    int ok = 0;
    switch (command) {
      case 'W': ok = load_weights(m); break;
      case 'R': ok = run_once(m); break;
#ifdef EDGECC_OPEN
      case 'S': ok = run_open(m); break;
#endif
      case 'B': ok = benchmark(m); break;
      case 'Q': case EOF: return 0;
      default: fprintf(stderr, "unknown command %d\n", command); return 6;
    }
    if (!ok || fflush(stdout) != 0) {
      fprintf(stderr, "command '%c' was cut short\n", command);
      return 7;
    }
  }
}
