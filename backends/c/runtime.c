/* runtime.c: a small pool of POSIX threads.
 *
 * A loop is cut into one range for each thread, always in the same way. Each worker takes its own range
 * first, and whoever is free (the caller too) takes ranges that nobody has begun, so a thread that the
 * system does not schedule holds nobody up. Workers are started by the first parallel loop and then wait,
 * spinning for a moment (the next loop of a network follows within microseconds), then asleep. Nothing
 * is allocated here. One loop runs at a time: a second caller, and a child process after fork(), does
 * its loop alone.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "runtime.h"

#include <pthread.h>
#if defined(__linux__)
#include <sched.h>
#endif
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#define MAX_PARTS 32
#if defined(__x86_64__) || defined(__i386__)
#define SPINS 2000 /* a pause takes about 50 cycles */
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define SPINS 20000
#define RELAX() __asm__ volatile("yield")
#else
#define SPINS 20000
#define RELAX() ((void)0)
#endif

static pthread_mutex_t in_use = PTHREAD_MUTEX_INITIALIZER; /* held by the thread whose loop runs */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;   /* for sleeping and waking */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER, finished = PTHREAD_COND_INITIALIZER;

static struct {
  pthread_t thread;
  int index;
} workers[MAX_PARTS - 1];
static int n_workers;
static pid_t owner;

/* The loop. Written before `unclaimed` announces it; read only by threads that have taken a part, and it
 * stays until all parts are done. */
static struct {
  void (*body)(void *, ptrdiff_t, ptrdiff_t);
  void *context;
  ptrdiff_t count;
  int parts;
} task;
static _Atomic uint64_t unclaimed; /* upper half: number of the loop; lower half: one bit for each part nobody has taken */
static atomic_int to_do;      /* parts not finished */
static atomic_int stop;

static void run_part(int part) {
  const ptrdiff_t size = task.count / task.parts, more = task.count % task.parts;
  const ptrdiff_t begin = part * size + (part < more ? part : more);
  task.body(task.context, begin, begin + size + (part < more));
}

/* Takes and runs parts until none is open: number `first` if it is, then the others. */
static void run_parts(int first) {
  uint64_t seen = atomic_load_explicit(&unclaimed, memory_order_acquire);
  while ((uint32_t)seen != 0) {
    int part = first;
    if ((seen >> part & 1) == 0)
      for (part = 0; (seen >> part & 1) == 0;) ++part;
    if (!atomic_compare_exchange_weak_explicit(&unclaimed, &seen, seen & ~(UINT64_C(1) << part), memory_order_acq_rel,
                                               memory_order_acquire))
      continue;
    run_part(part);
    if (atomic_fetch_sub_explicit(&to_do, 1, memory_order_acq_rel) == 1) {
      pthread_mutex_lock(&lock);
      pthread_cond_signal(&finished);
      pthread_mutex_unlock(&lock);
    }
    seen = atomic_load_explicit(&unclaimed, memory_order_acquire);
  }
}

#if defined(__linux__)
static atomic_int caller_cpu; /* where the thread whose loop runs was when it began */
/* Some systems wake a thread on the processor of the one that wakes it, busy as that is, while others are idle. */
static void leave_processor_of_caller(void) {
  const int cpu = sched_getcpu();
  cpu_set_t all, others;
  if (cpu < 0 || cpu != atomic_load_explicit(&caller_cpu, memory_order_relaxed)) return;
  if (sched_getaffinity(0, sizeof all, &all) != 0) return;
  others = all;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) == 0) return;
  if (sched_setaffinity(0, sizeof others, &others) == 0) sched_setaffinity(0, sizeof all, &all);
}
#endif

static int is_idle(void) {
  return (uint32_t)atomic_load_explicit(&unclaimed, memory_order_acquire) == 0 && !atomic_load(&stop);
}

static void *work(void *argument) {
  const int index = *(const int *)argument;
  while (!atomic_load(&stop)) {
    for (int i = 0; i < SPINS && is_idle(); ++i) RELAX();
    if (is_idle()) {
      pthread_mutex_lock(&lock);
      while (is_idle()) pthread_cond_wait(&wake, &lock);
      pthread_mutex_unlock(&lock);
#if defined(__linux__)
      leave_processor_of_caller();
#endif
    }
    run_parts(index + 1);
  }
  return NULL;
}

static void start_workers(int wanted) {
  if (n_workers == 0) owner = getpid();
  for (; n_workers < wanted; ++n_workers) {
    workers[n_workers].index = n_workers;
    if (pthread_create(&workers[n_workers].thread, NULL, work, &workers[n_workers].index) != 0) return;
  }
}

static void wake_workers(void) {
  pthread_mutex_lock(&lock);
  pthread_cond_broadcast(&wake);
  pthread_mutex_unlock(&lock);
}

void edgecc_parallel_for(void (*body)(void *context, ptrdiff_t begin, ptrdiff_t end), void *context,
                         ptrdiff_t count, int threads) {
  const int limit = threads < MAX_PARTS ? threads : MAX_PARTS;
  const int parts = count < limit ? (int)count : limit;
  if (parts < 2 || pthread_mutex_trylock(&in_use) != 0) {
    if (count > 0) body(context, 0, count);
    return;
  }
  if (n_workers < parts - 1) start_workers(parts - 1);
  if (n_workers == 0 || owner != getpid()) {
    body(context, 0, count);
    pthread_mutex_unlock(&in_use);
    return;
  }
#if defined(__linux__)
  atomic_store_explicit(&caller_cpu, sched_getcpu(), memory_order_relaxed);
#endif
  task.body = body;
  task.context = context;
  task.count = count;
  task.parts = parts;
  atomic_store_explicit(&to_do, parts, memory_order_relaxed);
  const uint64_t number = (atomic_load_explicit(&unclaimed, memory_order_relaxed) >> 32) + 1;
  atomic_store_explicit(&unclaimed, number << 32 | ((UINT64_C(1) << parts) - 1), memory_order_release);
  wake_workers();
  run_parts(0);
  for (int i = 0; i < SPINS && atomic_load_explicit(&to_do, memory_order_acquire) != 0; ++i) RELAX();
  if (atomic_load_explicit(&to_do, memory_order_acquire) != 0) {
    pthread_mutex_lock(&lock);
    while (atomic_load_explicit(&to_do, memory_order_acquire) != 0) pthread_cond_wait(&finished, &lock);
    pthread_mutex_unlock(&lock);
  }
  pthread_mutex_unlock(&in_use);
}

#if defined(__GNUC__)
/* The library may be unloaded: no thread may be left in its code. */
__attribute__((destructor)) static void join_workers(void) {
  if (n_workers == 0 || owner != getpid()) return;
  atomic_store(&stop, 1);
  wake_workers();
  for (int i = 0; i < n_workers; ++i) pthread_join(workers[i].thread, NULL);
}
#endif
