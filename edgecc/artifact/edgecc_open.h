/* edgecc_open.h, ABI 1: networks whose shapes differ from run to run.
 *
 * The dims of `model` are the largest; so is the arena, and its run() computes at these shapes. Arrays are
 * dense in the shape of the run, whatever the largest shape is.
 */
#ifndef EDGECC_OPEN_H
#define EDGECC_OPEN_H

#include "edgecc_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  const edgecc_model *model;
  const int64_t *const *least; /* the smallest dims of each input; NULL where the rank is 0 */
  /* dims[i] is the shape of input i in this run. The shape of output i is written to out_dims[i] unless that is
   * NULL; outputs[i] must hold the largest shape, or the one that belongs to these inputs. Where it depends on what the
   * inputs hold, that is known when the run has ended. 0 = ok, 6 = the shapes are not among those the network was compiled
   * for; others as for run(). */
  int (*run)(const void *const *inputs, const int64_t *const *dims, void *const *outputs, int64_t *const *out_dims,
             void *arena);
} edgecc_open_model;

/* Exported by the shared library beside edgecc_get_model(). */
EDGECC_EXPORT const edgecc_open_model *edgecc_get_open_model(void);

#ifdef __cplusplus
}
#endif
#endif
