/* Runs the networks of a batch (edgecc/backends/c/batch.py), as many times and in whatever order it is asked to.
 *
 * Reads requests from standard input, in the byte order of the machine:
 *     u32 number of the network, bytes of all its inputs   -> i32 status, and if that is 0 of each output
 *                                                             the dims, if shapes differ from run to run, and the bytes
 * until its input ends. Inputs have their largest shapes. Tensors of strings are text (runner_strings.h). Arena and outputs are filled with 0xFF (NaN as a float) before each run, so that reading or
 * returning what was never written shows, and bytes behind each array are checked afterwards: status -1 means that
 * a run wrote there.
 */
#define _POSIX_C_SOURCE 200112L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgecc_open.h"
#include "runner_strings.h"

enum { GUARD_BYTES = 64, GUARD = 0xA5 };

extern const unsigned edgecc_model_count;
extern const edgecc_model *(*const edgecc_models[])(void);
extern const edgecc_open_model *(*const edgecc_open_models[])(void); /* NULL where shapes are fixed */

static int get(void *to, size_t bytes) { return bytes == 0 || fread(to, 1, bytes, stdin) == bytes; }

static int put(const void *from, size_t bytes) { return bytes == 0 || fwrite(from, 1, bytes, stdout) == bytes; }

/* Memory with a guard behind its last byte; the program ends where there is none. */
static unsigned char *guarded(size_t bytes, size_t align) {
  void *memory = NULL;
  if (posix_memalign(&memory, align < 64 ? 64 : align, bytes + GUARD_BYTES) != 0) exit(4);
  memset(memory, 0xFF, bytes);
  memset((unsigned char *)memory + bytes, GUARD, GUARD_BYTES);
  return memory;
}

static int intact(const unsigned char *memory, size_t bytes) {
  for (int i = 0; i < GUARD_BYTES; i++)
    if (memory[bytes + (size_t)i] != GUARD) return 0;
  return 1;
}

static unsigned char **arrays(const edgecc_tensor *tensors, int32_t count) {
  unsigned char **list = calloc((size_t)count + 1, sizeof *list);
  if (list == NULL) exit(4);
  for (int32_t i = 0; i < count; i++) list[i] = guarded(tensors[i].bytes, 64);
  return list;
}

static int all_intact(unsigned char **list, const edgecc_tensor *tensors, int32_t count) {
  int ok = 1;
  for (int32_t i = 0; i < count; i++) ok = ok && intact(list[i], tensors[i].bytes);
  return ok;
}

static void release(unsigned char **list, int32_t count) {
  for (int32_t i = 0; i < count; i++) free(list[i]);
  free(list);
}

static int64_t **shapes(const edgecc_tensor *tensors, int32_t count) {
  int64_t **list = calloc((size_t)count + 1, sizeof *list);
  if (list == NULL) exit(4);
  for (int32_t i = 0; i < count; i++) {
    list[i] = calloc((size_t)tensors[i].rank + 1, sizeof **list);
    if (list[i] == NULL) exit(4);
    for (int32_t axis = 0; axis < tensors[i].rank; axis++) list[i][axis] = tensors[i].dims[axis];
  }
  return list;
}

static void release_shapes(int64_t **list, int32_t count) {
  for (int32_t i = 0; i < count; i++) free(list[i]);
  free(list);
}

static int serve(const edgecc_model *m, const edgecc_open_model *open) {
  unsigned char **in = arrays(m->inputs, m->n_inputs), **out = arrays(m->outputs, m->n_outputs);
  unsigned char *arena = guarded(m->arena_bytes, m->arena_align);
  char **texts = calloc((size_t)m->n_inputs + 1, sizeof *texts);
  int ok = texts != NULL;
  for (int32_t i = 0; ok && i < m->n_inputs; i++) {
    const edgecc_tensor *t = &m->inputs[i];
    ok = t->dtype == STRING_TYPE ? get_strings(string_count(t, NULL), (const char **)(void *)in[i], &texts[i]) : get(in[i], t->bytes);
  }
  if (ok) {
    int64_t **in_dims = shapes(m->inputs, m->n_inputs), **out_dims = shapes(m->outputs, m->n_outputs);
    int32_t status = open == NULL ? m->run((const void *const *)in, (void *const *)out, arena)
                                  : open->run((const void *const *)in, (const int64_t *const *)in_dims, (void *const *)out,
                                              out_dims, arena);
    if (!intact(arena, m->arena_bytes) || !all_intact(in, m->inputs, m->n_inputs) ||
        !all_intact(out, m->outputs, m->n_outputs))
      status = -1;
    ok = put(&status, sizeof status);
    for (int32_t i = 0; ok && status == 0 && i < m->n_outputs; i++) {
      const edgecc_tensor *t = &m->outputs[i];
      if (open != NULL) ok = put(out_dims[i], (size_t)t->rank * sizeof **out_dims);
      ok = ok && (t->dtype == STRING_TYPE ? put_strings(string_count(t, out_dims[i]), (const char *const *)(void *)out[i]) : put(out[i], t->bytes));
    }
    release_shapes(in_dims, m->n_inputs);
    release_shapes(out_dims, m->n_outputs);
  }
  for (int32_t i = 0; texts != NULL && i < m->n_inputs; i++) free(texts[i]);
  free(texts);
  release(in, m->n_inputs);
  release(out, m->n_outputs);
  free(arena);
  return ok && fflush(stdout) == 0;
}

int main(void) {
  uint32_t number;
  while (get(&number, sizeof number))
    if (number >= edgecc_model_count ||
        !serve(edgecc_models[number](), edgecc_open_models[number] == NULL ? NULL : edgecc_open_models[number]()))
      return 7;
  return 0;
}
