/* Classifies images with the compiled network: how a C program uses what edgecc writes.
 *
 *   edgecc compile examples/digits/digits.onnx --shape batch=1 --target generic-c -o digits
 *   cc -std=c11 -O2 -Idigits examples/digits/main.c digits/digits.c digits/kernels*.c digits/weights.c -lm -o classify
 *
 * Reads images from standard input, each 64 numbers 0..16 row by row, and prints the digit and its probability. */
#include <stdio.h>

#include "digits.h"

/* The one piece of memory a run needs; it can be shared by everything that does not run at the same time. */
static _Alignas(DIGITS_ARENA_ALIGN) unsigned char arena[DIGITS_ARENA_BYTES];

static int read_image(float *image) {
  for (int i = 0; i < 64; ++i) {
    if (scanf("%f", &image[i]) != 1) return 0;
    image[i] /= 16.0f;
  }
  return 1;
}

int main(void) {
  float image[64], probabilities[10];
  const digits_inputs in = {.image = image};
  const digits_outputs out = {.probabilities = probabilities};
  while (read_image(image)) {
    if (digits_run(&in, &out, arena) != 0) return 1;
    int best = 0;
    for (int i = 1; i < 10; ++i) {
      if (probabilities[i] > probabilities[best]) best = i;
    }
    printf("%d (%.2f)\n", best, (double)probabilities[best]);
  }
  return 0;
}
