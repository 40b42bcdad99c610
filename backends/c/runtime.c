/* runtime.c: a small pool of POSIX threads with a static division of work.
 *
 * Workers are started by the first parallel loop and then wait, first spinning for a moment (the next
 * loop of a network follows within microseconds), then asleep. Nothing is allocated here. One loop runs
 * at a time: a second caller, and a child process after fork(), does its loop alone.
 */
#define _POSIX_C_SOURCE 200809L
#include "runtime.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define MAX_WORKERS 63
#define SPINS 20000

static pthread_mutex_t in_use = PTHREAD_MUTEX_INITIALIZER; /* held by the thread whose loop runs */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;   /* for sleeping and waking */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER, finished = PTHREAD_COND_INITIALIZER;

static struct {
  pthread_t thread;
  int index;
  unsigned seen; /* number of the last loop it took part in */
} workers[MAX_WORKERS];
static int n_workers;
static pid_t owner;

static struct {
  void (*body)(void *, ptrdiff_t, ptrdiff_t);
  void *context;
  ptrdiff_t count;
  int parts;
} task;                         /* written before `generation` changes, read after */
static atomic_uint generation;  /* number of loops started */
static atomic_int pending;      /* workers that have not finished with this generation */
static atomic_int stop;

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void run_part(int part) {
  const ptrdiff_t size = task.count / task.parts, more = task.count % task.parts;
  const ptrdiff_t begin = part * size + (part < more ? part : more);
  const ptrdiff_t end = begin + size + (part < more);
  if (begin < end) task.body(task.context, begin, end);
}

static unsigned started(void) {
  return atomic_load_explicit(&generation, memory_order_acquire);
}

static void *work(void *argument) {
  const int index = *(const int *)argument;
  unsigned seen = workers[index].seen;
  for (;; ++seen) {
    for (int i = 0; i < SPINS && started() == seen; ++i) relax();
    if (started() == seen) {
      pthread_mutex_lock(&lock);
      while (started() == seen) pthread_cond_wait(&wake, &lock);
      pthread_mutex_unlock(&lock);
    }
    if (atomic_load(&stop)) return NULL;
    if (index + 1 < task.parts) run_part(index + 1);
    if (atomic_fetch_sub_explicit(&pending, 1, memory_order_acq_rel) == 1) {
      pthread_mutex_lock(&lock);
      pthread_cond_signal(&finished);
      pthread_mutex_unlock(&lock);
    }
  }
}

static void start_workers(int wanted) {
  if (n_workers == 0) owner = getpid();
  for (; n_workers < wanted && n_workers < MAX_WORKERS; ++n_workers) {
    workers[n_workers].index = n_workers;
    workers[n_workers].seen = started();
    if (pthread_create(&workers[n_workers].thread, NULL, work, &workers[n_workers].index) != 0) return;
  }
}

static void publish(void) {
  pthread_mutex_lock(&lock);
  atomic_fetch_add_explicit(&generation, 1, memory_order_release);
  pthread_cond_broadcast(&wake);
  pthread_mutex_unlock(&lock);
}

void edgecc_parallel_for(void (*body)(void *context, ptrdiff_t begin, ptrdiff_t end), void *context,
                         ptrdiff_t count, int threads) {
  if (threads > count) threads = (int)count;
  if (threads < 2 || pthread_mutex_trylock(&in_use) != 0) {
    if (count > 0) body(context, 0, count);
    return;
  }
  if (n_workers < threads - 1) start_workers(threads - 1);
  if (n_workers == 0 || owner != getpid()) {
    body(context, 0, count);
    pthread_mutex_unlock(&in_use);
    return;
  }
  task.body = body;
  task.context = context;
  task.count = count;
  task.parts = n_workers + 1 < threads ? n_workers + 1 : threads;
  atomic_store_explicit(&pending, n_workers, memory_order_relaxed);
  publish();
  run_part(0);
  for (int i = 0; i < SPINS && atomic_load_explicit(&pending, memory_order_acquire) != 0; ++i) relax();
  if (atomic_load_explicit(&pending, memory_order_acquire) != 0) {
    pthread_mutex_lock(&lock);
    while (atomic_load_explicit(&pending, memory_order_acquire) != 0) pthread_cond_wait(&finished, &lock);
    pthread_mutex_unlock(&lock);
  }
  pthread_mutex_unlock(&in_use);
}

#if defined(__GNUC__)
/* The library may be unloaded: no thread may be left in its code. */
__attribute__((destructor)) static void join_workers(void) {
  if (n_workers == 0 || owner != getpid()) return;
  atomic_store(&stop, 1);
  publish();
  for (int i = 0; i < n_workers; ++i) pthread_join(workers[i].thread, NULL);
}
#endif
