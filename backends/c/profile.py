"""What a profiled build has more: a counter read around each kernel call of the run, and the symbol that gives the times.

Nothing of this stands in other builds. The figures are kept in static memory, which is what makes a profiled build
not re-entrant. Ticks are what the machine counts most cheaply; how long one takes follows from reading the monotonic
clock at both ends of every run too, so nothing about the machine's frequency has to be known.
"""

from __future__ import annotations

from collections.abc import Sequence


def profile_interface(name: str) -> str:
    """The part of NAME.h that only a profiled build has."""
    return f"""
/* This build measures itself, and is for measuring only: each run adds the time of its kernel calls to figures in
 * static memory, so one run may go on at a time, whatever its arena. */
typedef struct {{
  uint64_t calls;         /* kernel calls of one run */
  uint64_t runs;          /* runs since the program started */
  const uint64_t *total;  /* ticks spent in each call over all runs, calls in the order of the run */
  const uint64_t *least;  /* ticks of the quickest execution of each call */
  double seconds_per_tick;
}} {name}_profile;

/* The figures so far, all 0 before the first run. The result stays valid; the next call of this function brings it up to date. */
EDGECC_EXPORT const {name}_profile *{name}_get_profile(void);
"""


FEATURE_MACROS = """/* clock_gettime, for the profile. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200112L
#endif
"""
"""What has to stand before the first #include of a profiled NAME.c."""


def profile_counters(name: str, calls: int) -> str:
    """The counters of a profiled NAME.c, and the functions that read and fill them."""
    note = "" if calls == 0 else f"""
/* A call that runs in stripes counts as one: its time in a run is summed up first. */
static uint64_t profile_now[{calls}];

static void note_call(int call, uint64_t begin) {{
  const uint64_t spent = read_ticks() - begin;
  profile_now[call] += spent;
}}
"""
    sums = "" if calls == 0 else f"""
  for (int call = 0; call < {calls}; ++call) {{
    profile_total[call] += profile_now[call];
    if (profile_now[call] < profile_least[call] || profile_runs == 0) profile_least[call] = profile_now[call];
    profile_now[call] = 0;
  }}"""
    return f"""#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

static uint64_t profile_total[{max(1, calls)}], profile_least[{max(1, calls)}];
static uint64_t profile_runs, profile_run_ticks, profile_run_nanoseconds;

static uint64_t read_nanoseconds(void) {{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}}

/* Barriers keep the work of a call on its side of the reading. */
static uint64_t read_ticks(void) {{
#if defined(__x86_64__)
  _mm_lfence();
  const uint64_t ticks = __rdtsc();
  _mm_lfence();
  return ticks;
#elif defined(__aarch64__)
  uint64_t ticks;
  __asm__ volatile("isb\\n\\tmrs %0, cntvct_el0\\n\\tisb" : "=r"(ticks) : : "memory");
  return ticks;
#else
  return read_nanoseconds();
#endif
}}
{note}
static void note_end(uint64_t begin, uint64_t begin_nanoseconds) {{
  profile_run_nanoseconds += read_nanoseconds() - begin_nanoseconds;
  profile_run_ticks += read_ticks() - begin;{sums}
  profile_runs++;
}}

const {name}_profile *{name}_get_profile(void) {{
  static {name}_profile profile;
  profile.calls = {calls};
  profile.runs = profile_runs;
  profile.total = profile_total;
  profile.least = profile_least;
  profile.seconds_per_tick = profile_run_ticks == 0 ? 0.0 : 1e-9 * (double)profile_run_nanoseconds / (double)profile_run_ticks;
  return &profile;
}}
"""


def profile_begin() -> list[str]:
    """Statements before the first kernel call of a run."""
    return ["  const uint64_t run_nanoseconds = read_nanoseconds(), run_begin = read_ticks();"]


def profile_call(statement: Sequence[str], call: int) -> list[str]:
    """The lines of a kernel call with the readings around it."""
    return [f"  const uint64_t begin_{call} = read_ticks();", *statement, f"  note_call({call}, begin_{call});"]


def profile_end() -> list[str]:
    """Statements after the last kernel call of a run."""
    return ["  note_end(run_begin, run_nanoseconds);"]
