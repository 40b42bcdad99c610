/* edgecc_abi.h, ABI 1: the generic interface of every compiled network.
 *
 * One call of run() computes one inference. It allocates nothing and keeps nothing: all scratch memory
 * is the arena, which the caller owns. Runs on different arenas may go on at the same time.
 */
#ifndef EDGECC_ABI_H
#define EDGECC_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EDGECC_ABI 1u

#if defined(_WIN32)
#define EDGECC_EXPORT __declspec(dllexport)
#else
#define EDGECC_EXPORT __attribute__((visibility("default")))
#endif

/* One input or output: a dense array, last axis contiguous. Strings are an array of const char *, each pointing to UTF-8
 * that a NUL ends. Those of outputs may lie in the arena or be those of inputs: they last as long as these do. */
typedef struct {
  const char *name;    /* as in the ONNX model, UTF-8 */
  int32_t dtype;       /* ONNX TensorProto.DataType: 1 float, 6 int32, 7 int64, 8 string, 9 bool, ... */
  int32_t rank;
  const int64_t *dims; /* rank numbers; NULL if rank is 0 */
  size_t bytes;        /* size of the array */
} edgecc_tensor;

typedef struct {
  uint32_t abi;        /* EDGECC_ABI */
  const char *name;
  const char *target;
  int32_t n_inputs, n_outputs;
  const edgecc_tensor *inputs, *outputs;
  size_t arena_bytes;  /* memory the caller provides to run() */
  size_t arena_align;  /* its address must be a multiple of this */
  size_t weights_bytes;
  /* NULL: the weights are linked in. Otherwise called once before the first run() with the content of
   * weights.bin, which must stay where it is, aligned to arena_align. 0 = ok; otherwise the weights do
   * not belong to this code. */
  int (*init)(const void *weights, size_t bytes);
  /* inputs[i] and outputs[i] point to arrays of inputs[i].bytes and outputs[i].bytes, aligned to their
   * element type. 0 = ok; the model's own header says what other values mean. */
  int (*run)(const void *const *inputs, void *const *outputs, void *arena);
} edgecc_model;

/* Exported by the shared library; defined once in every artifact. */
EDGECC_EXPORT const edgecc_model *edgecc_get_model(void);

#ifdef __cplusplus
}
#endif
#endif
