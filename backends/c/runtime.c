/* runtime.c: a small pool of POSIX threads.
 *
 * A loop is cut into one range for each thread, always in the same way. Each worker takes its own range
 * first, and whoever is free (the caller too) takes ranges that nobody has begun, so a thread that the
 * system does not schedule holds nobody up. Workers are started by the first parallel loop and then wait:
 * spinning for some hundred microseconds (the next loop of a network follows within microseconds, and a virtual
 * processor that sleeps takes tens of them to come back), then asleep. The caller waits for the last part
 * in the same way. The lock is taken only where somebody sleeps: whoever ends a loop and whoever begins
 * the next one would otherwise meet there every time. Nothing is allocated here. One loop runs at a time: a
 * second caller, and a child process after fork(), does its loop alone.
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
#define SPINS 8000 /* a pause takes about 50 cycles */
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define SPINS 50000
#define RELAX() __asm__ volatile("yield")
#else
#define SPINS 50000
#define RELAX() ((void)0)
#endif
#define LINE 64 /* a cache line: what threads wait for has one of its own */

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
static struct {
  _Alignas(LINE) _Atomic uint64_t unclaimed; /* upper half: number of the loop; lower half: one bit for each part nobody has taken */
  atomic_int stop;
  _Alignas(LINE) atomic_int to_do; /* parts not finished */
  /* Threads asleep or about to be. Each of these is written before its owner looks at what it waits for a last time, and
   * read by whoever has changed that; all four in one order, so that one of the two sees the other. */
  _Alignas(LINE) atomic_int idle_asleep;
  atomic_int caller_asleep;
} state;

static void run_part(int part) {
  const ptrdiff_t size = task.count / task.parts, more = task.count % task.parts;
  const ptrdiff_t begin = part * size + (part < more ? part : more);
  task.body(task.context, begin, begin + size + (part < more));
}

/* Takes and runs parts until none is open: number `first` if it is, then the others. */
static void run_parts(int first) {
  uint64_t seen = atomic_load_explicit(&state.unclaimed, memory_order_acquire);
  while ((uint32_t)seen != 0) {
    int part = first;
    if ((seen >> part & 1) == 0)
      for (part = 0; (seen >> part & 1) == 0;) ++part;
    if (!atomic_compare_exchange_weak_explicit(&state.unclaimed, &seen, seen & ~(UINT64_C(1) << part), memory_order_acq_rel,
                                               memory_order_acquire))
      continue;
    run_part(part);
    if (atomic_fetch_sub(&state.to_do, 1) == 1 && atomic_load(&state.caller_asleep)) {
      pthread_mutex_lock(&lock);
      pthread_cond_signal(&finished);
      pthread_mutex_unlock(&lock);
    }
    seen = atomic_load_explicit(&state.unclaimed, memory_order_acquire);
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
  return (uint32_t)atomic_load(&state.unclaimed) == 0 && !atomic_load(&state.stop);
}

static int is_unfinished(void) { return atomic_load(&state.to_do) != 0; }

/* Waits for a moment while `waiting()` holds; whether it still does. */
static int outlasts(int (*waiting)(void)) {
  for (int i = 0; i < SPINS; ++i) {
    if (!waiting()) return 0;
    RELAX();
  }
  return waiting();
}

/* Sleeps until `event` while `waiting()` holds; whoever ends that looks at `asleep`. */
static void sleep_while(int (*waiting)(void), atomic_int *asleep, pthread_cond_t *event) {
  pthread_mutex_lock(&lock);
  atomic_fetch_add(asleep, 1);
  while (waiting()) pthread_cond_wait(event, &lock);
  atomic_fetch_sub(asleep, 1);
  pthread_mutex_unlock(&lock);
}

static void *work(void *argument) {
  const int index = *(const int *)argument;
  while (!atomic_load(&state.stop)) {
    if (outlasts(is_idle)) {
      sleep_while(is_idle, &state.idle_asleep, &wake);
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
  atomic_store_explicit(&state.to_do, parts, memory_order_relaxed);
  const uint64_t number = (atomic_load_explicit(&state.unclaimed, memory_order_relaxed) >> 32) + 1;
  atomic_store(&state.unclaimed, number << 32 | ((UINT64_C(1) << parts) - 1));
  if (atomic_load(&state.idle_asleep)) wake_workers();
  run_parts(0);
  if (outlasts(is_unfinished)) sleep_while(is_unfinished, &state.caller_asleep, &finished);
  pthread_mutex_unlock(&in_use);
}

#if defined(__GNUC__)
/* The library may be unloaded: no thread may be left in its code. */
__attribute__((destructor)) static void join_workers(void) {
  if (n_workers == 0 || owner != getpid()) return;
  atomic_store(&state.stop, 1);
  wake_workers();
  for (int i = 0; i < n_workers; ++i) pthread_join(workers[i].thread, NULL);
}
#endif
