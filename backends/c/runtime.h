/* runtime.h: how kernels run loops on several threads.
 *
 * edgecc_parallel_for calls body(context, begin, end) on ranges that together cover [0, count), and
 * returns when all calls have returned. The ranges depend on count and threads alone, and no result
 * depends on which thread computes it. runtime.c implements it on POSIX threads; on a system without
 * them (an RTOS), or to use a pool you have, leave runtime.c out and define this function yourself.
 * Calling body(context, 0, count) is a correct definition.
 */
#ifndef EDGECC_RUNTIME_H
#define EDGECC_RUNTIME_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

void edgecc_parallel_for(void (*body)(void *context, ptrdiff_t begin, ptrdiff_t end), void *context,
                         ptrdiff_t count, int threads);

#ifdef __cplusplus
}
#endif
#endif
