/* Prints the float32 multiply-add peak of one core in GFLOP/s (a multiply-add counts two).
 *
 * Chains of multiply-adds that do not wait for each other, all in registers, as many as the widest vectors of the
 * machine it is compiled for leave room for. The best of many short bursts counts, so that neither other processes nor
 * a clock that has yet to rise can lower it.
 */
#define _POSIX_C_SOURCE 200112L
#include <stdio.h>
#include <time.h>

#if defined(__AVX512F__)
#include <immintrin.h>
typedef __m512 vector;
#define LANES 16
#define FILL(x) _mm512_set1_ps(x)
#define FMA(a, b, c) _mm512_fmadd_ps(b, c, a)
#define STORE(p, a) _mm512_storeu_ps(p, a)
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
typedef __m256 vector;
#define LANES 8
#define FILL(x) _mm256_set1_ps(x)
#define FMA(a, b, c) _mm256_fmadd_ps(b, c, a)
#define STORE(p, a) _mm256_storeu_ps(p, a)
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
typedef float32x4_t vector;
#define LANES 4
#define FILL(x) vdupq_n_f32(x)
#define FMA(a, b, c) vfmaq_f32(a, b, c)
#define STORE(p, a) vst1q_f32(p, a)
#else
typedef float vector;
#define LANES 1
#define FILL(x) (x)
#define FMA(a, b, c) ((a) + (b) * (c))
#define STORE(p, a) (*(p) = (a))
#endif

/* 12 chains: two pipelines times a latency of up to 6 cycles, and they fit 16 registers with both factors. */
#define CHAINS 12
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define BURSTS 60
#define STEPS 200000L

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int main(int count, char **arguments) {
  (void)arguments;
  /* Not known to the compiler, so that no chain can be computed before. */
  const vector b = FILL(0.5f + 0.001f * (float)count), c = FILL(0.25f);
  float sink[LANES];
  volatile float result = 0.0f;
  double best = 0.0;
#define DECLARE(i) vector chain_##i = FILL(0.001f * i);
  EACH(DECLARE)
  for (int burst = 0; burst < BURSTS; burst++) {
    const double begin = seconds();
    for (long step = 0; step < STEPS; step++) {
#define ADVANCE(i) chain_##i = FMA(chain_##i, b, c);
      EACH(ADVANCE)
    }
#define USE(i) STORE(sink, chain_##i); result = result + sink[0];
    EACH(USE)
    const double rate = 2.0 * LANES * CHAINS * (double)STEPS / (seconds() - begin) * 1e-9;
    if (rate > best) best = rate;
  }
  printf("%.3f\n", best);
  return 0;
}
