/* Runs a profiled network on made-up inputs and prints the quickest execution of each of its calls, in seconds, one a line.
 *
 *     PROGRAM SECONDS RUNS    repeat for about so many seconds, and at least so many runs
 *
 * Floats are between 0.5 and 1.5, so that nothing overflows or becomes denormal; integers are 0 or 1, which any index may be.
 */
#define _POSIX_C_SOURCE 200112L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tuning.h"

enum { FLOAT = 1, INT32 = 6, INT64 = 7, FLOAT16 = 10, DOUBLE = 11, BFLOAT16 = 16 }; /* ONNX TensorProto.DataType */

static void *aligned(size_t bytes) {
  void *memory = NULL;
  return posix_memalign(&memory, 64, bytes ? bytes : 1) == 0 ? memory : NULL;
}

static void fill(void *to, const edgecc_tensor *tensor) {
  unsigned state = 1;
  size_t count = 1;
  for (int32_t axis = 0; axis < tensor->rank; axis++) count *= (size_t)tensor->dims[axis];
  for (size_t i = 0; i < count; i++) {
    state = state * 1664525u + 1013904223u;
    const float value = 0.5f + (float)(state >> 8) / 16777216.0f;
    switch (tensor->dtype) {
      case FLOAT: ((float *)to)[i] = value; break;
      case DOUBLE: ((double *)to)[i] = (double)value; break;
      case FLOAT16: ((uint16_t *)to)[i] = (uint16_t)(0x3800u + (state >> 22)); break;
      case BFLOAT16: ((uint16_t *)to)[i] = (uint16_t)(0x3f00u + (state >> 25)); break;
      case INT64: ((int64_t *)to)[i] = (int64_t)(state >> 31); break;
      case INT32: ((int32_t *)to)[i] = (int32_t)(state >> 31); break;
      default: memset((char *)to + i * (tensor->bytes / count), 0, tensor->bytes / count);
    }
  }
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

int main(int count, char **arguments) {
  const edgecc_model *m = edgecc_get_model();
  const double seconds = count > 1 ? strtod(arguments[1], NULL) : 0.2;
  const long runs = count > 2 ? strtol(arguments[2], NULL, 10) : 5;
  void **inputs = calloc((size_t)m->n_inputs + 1, sizeof *inputs);
  unsigned char *arena = aligned(m->arena_bytes);
  if (inputs == NULL || arena == NULL) return 4;
  for (int32_t i = 0; i < m->n_inputs; i++) {
    inputs[i] = aligned(m->inputs[i].bytes);
    if (inputs[i] == NULL) return 4;
    fill(inputs[i], &m->inputs[i]);
  }
  memset(arena, 0, m->arena_bytes);
  const double begin = now();
  for (long run = 0; run < runs || now() - begin < seconds; run++) {
    const int status = m->run((const void *const *)inputs, NULL, arena);
    if (status != 0) {
      fprintf(stderr, "the run failed with status %d\n", status);
      return 1;
    }
  }
  const tuning_profile *profile = tuning_get_profile();
  for (uint64_t i = 0; i < profile->calls; i++) printf("%.4e\n", (double)profile->least[i] * profile->seconds_per_tick);
  return 0;
}
