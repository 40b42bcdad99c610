"""Products of one row with weights of few bits, beside the time this machine takes to read the same bytes.

    python -m benches.weight_products --depth 2048 --channels 2048 --form 4:32:quantized --form 8:128:float

The bound adds up the bytes that the product reads, weights and scales, in a loop of plain vector loads that follow each other, once
without prefetches and once for each of some distances; the quickest of them is the bound. They take turns with the product run by run,
in one process. Cold, as in a network whose weights do not fit a cache: each run has another one of copies that fill more memory than
caches hold. Warm: the same weights again, which every run finds where the one before it left them.

Memory that others use as well has quick and slow moments, and the quickest run of each may come from different ones; so the lower
quartiles are compared, and the least times stand beside them.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benches.machine import headline
from edgecc.artifact.toolchain import BuildOptions, build_executable, find_compiler
from edgecc.backends.c.function import new_prelude, print_function
from edgecc.backends.c.includes import includes
from edgecc.backends.c.isa import isa_of
from edgecc.ir.types import DType, Layout, TensorType
from edgecc.kernels.kernel import FromInput, FromOutput, Packed, SameMemory, Workspace
from edgecc.kernels.registry import lower
from edgecc.kernels.request import Operand, Request
from edgecc.kernels.view import View
from edgecc.ops.block_quantized import MatMulNBits
from edgecc.passes.loop import apply_schedule
from edgecc.targets.schema import Target, load_target

COLD_MEGABYTES = 100
"""Of all copies of the weights together: more than any cache of the machines this is for."""

GAP = 1 << 16
"""Bytes between copies: what is prefetched behind the end of one is no part of the next."""


@dataclass(frozen=True)
class Form:
    """Bits of a weight, terms that share a scale, and whether the other factor is quantized."""

    bits: int
    block: int
    quantized: bool

    @classmethod
    def parse(cls, text: str) -> Form:
        """Such as 4:32:quantized or 8:64:float."""
        bits, block, operand = text.split(":")
        return cls(int(bits), int(block), operand == "quantized")


@dataclass(frozen=True)
class Times:
    """Seconds of the product and of the bound, lower quartiles and least ones, and the bytes that both read."""

    product: float
    bound: float
    least_product: float
    least_bound: float
    size_bytes: int

    @property
    def cell(self) -> str:
        """For a table: what the product takes and reads a second, and how many times as long as the bound, by quartiles and by least times."""
        return (f"{1e6 * self.product:.1f}, {self.size_bytes / self.product / 1e9:.0f}, "
                f"{self.product / self.bound:.3f} ({self.least_product / self.least_bound:.3f})")


def program(form: Form, depth: int, channels: int, target: Target, copies: int, rounds: int) -> str:
    """C that times `rounds` runs of the product and of each bound in turns, each on the next one of `copies` of the weights."""
    types = [TensorType(DType.F32, (1, depth)), TensorType(DType.U8, (channels, depth)), TensorType(DType.F16, (channels, -(-depth // form.block)))]
    op = MatMulNBits(form.block, form.bits, form.quantized)
    (result,) = op.infer(types)
    views = [View(own.dtype, own.dims, Layout.row_major(own.rank).strides(own.dims)) for own in (*types, result)]
    operands = tuple(Operand(view, is_constant=place > 0) for place, view in enumerate(views[:3]))
    kernel = lower(Request(op, operands, (views[3],), target))
    function = apply_schedule(kernel.function, kernel.schedule)
    isa = isa_of(target.architecture, target.isa.features, target.vector.bits)
    prelude = new_prelude(isa)
    printed = print_function(function, prelude, "product", static=True)
    arguments, offset = [], 0
    for buffer, argument in zip(function.buffers, kernel.arguments, strict=True):
        match argument:
            case Packed():
                arguments.append(f"(const void *)(weights + {offset})")
                offset += -(-buffer.elements * buffer.dtype.size // 64) * 64
            case FromInput():
                arguments.append("(const void *)x")
            case FromOutput():
                arguments.append("(void *)y")
            case SameMemory(position=position):
                arguments.append(arguments[position])
            case Workspace():
                arguments.append(f"(void *)(scratch + {(len(arguments) << 16)})")
    code = f"{prelude.text}\n{printed.definition}"
    return "\n".join(["#define _POSIX_C_SOURCE 199309L", "#include <stdio.h>", "#include <stdlib.h>", "#include <time.h>", includes(isa, code), code,
                      f"enum {{ SIZE = {offset}, SLOT = {-(-offset // 4096) * 4096 + GAP}, COPIES = {copies}, ROUNDS = {rounds}, X = {depth}, Y = {channels} }};",
                      f"static void run(const unsigned char *weights, const float *x, float *y, unsigned char *scratch) {{ product({', '.join(arguments)}); }}",
                      MAIN])


MAIN = r"""
typedef int word __attribute__((vector_size(VECTOR_BYTES)));

static int reading(const unsigned char *weights, ptrdiff_t ahead) {
  word a = {0}, b = {0}, c = {0}, d = {0};
  const word *at = (const word *)(const void *)weights;
  ptrdiff_t i = 0;
  for (; i + 4 <= SIZE / VECTOR_BYTES; i += 4) {
    if (ahead) {
      for (int line = 0; line < 4 * VECTOR_BYTES; line += 64)
        __builtin_prefetch(weights + i * VECTOR_BYTES + line + ahead);
    }
    a += at[i], b += at[i + 1], c += at[i + 2], d += at[i + 3];
  }
  for (; i < SIZE / VECTOR_BYTES; ++i)
    a += at[i];
  a += b + c + d;
  int sum = 0;
  for (int lane = 0; lane < VECTOR_BYTES / 4; ++lane)
    sum += a[lane];
  return sum;
}

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

enum { KINDS = 7 };
static const ptrdiff_t ahead[KINDS] = {0, 0, 1024, 2048, 4096, 6144, 8192};
static double times[KINDS][ROUNDS];

int main(void) {
  unsigned char *weights = aligned_alloc(4096, (size_t)SLOT * COPIES), *scratch = aligned_alloc(4096, 1 << 20);
  float *x = aligned_alloc(64, (X + 16) * sizeof *x), *y = aligned_alloc(64, (Y + 16) * sizeof *y);
  if (!weights || !scratch || !x || !y)
    return 1;
  for (size_t i = 0; i < (size_t)SLOT * COPIES; ++i)
    weights[i] = (unsigned char)(i * 2654435761u >> 27);
  for (int i = 0; i < X; ++i)
    x[i] = (float)(i * 37 % 101 - 50);
  volatile int sink = 0;
  size_t next = 0;
  for (int round = 0; round < ROUNDS; ++round) {
    for (int turn = 0; turn < KINDS; ++turn) {
      int kind = (turn + round) % KINDS;
      for (int again = COPIES == 1; again >= 0; --again) {
        const unsigned char *own = weights + next++ % COPIES * SLOT;
        double start = now();
        if (kind == 0) {
          run(own, x, y, scratch);
          __asm__ volatile("" : : "r"(y) : "memory"); /* clang leaves out what nothing reads */
        } else {
          sink += reading(own, ahead[kind]);
        }
        times[kind][round] = now() - start;
      }
    }
  }
  double quarter = 1, least = 1;
  for (int kind = 0; kind < KINDS; ++kind) {
    qsort(times[kind], ROUNDS, sizeof **times, ascending);
    if (kind > 0 && times[kind][ROUNDS / 4] < quarter)
      quarter = times[kind][ROUNDS / 4];
    if (kind > 0 && times[kind][0] < least)
      least = times[kind][0];
  }
  printf("%.9g %.9g %.9g %.9g %d\n", times[0][ROUNDS / 4], quarter, times[0][0], least, (int)SIZE);
  return 0;
}
"""


def measure(form: Form, depth: int, channels: int, *, cold_bytes: int, rounds: int, target_name: str = "host") -> Times:
    """Times of a product of one row on this machine, of copies of the weights that fill `cold_bytes` (0: of the same ones).

    Raises: EdgeccError where no C compiler is found or it fails.
    """
    target = load_target(target_name)
    copies = 1 + cold_bytes // max(1, depth * channels * form.bits // 8)
    with tempfile.TemporaryDirectory(prefix="edgecc-weights-") as scratch:
        folder = Path(scratch)
        (folder / "main.c").write_text(program(form, depth, channels, target, copies, rounds), encoding="utf-8")
        width = f"-DVECTOR_BYTES={max(16, target.vector.bits // 8)}"
        built = build_executable(find_compiler(target), folder, ["main.c"], folder / "main", BuildOptions(flags=(width,)))
        done = subprocess.run([str(built.output)], capture_output=True, text=True, check=True)
    *seconds, total = map(float, done.stdout.split())
    return Times(*seconds, int(total))


def main() -> None:
    """Prints a row for each form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", type=Form.parse, action="append", metavar="BITS:BLOCK:quantized|float")
    parser.add_argument("--depth", type=int, default=2048)
    parser.add_argument("--channels", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--cold-megabytes", type=int, default=COLD_MEGABYTES, help="of all copies together")
    parser.add_argument("--target", default="host", help="a target whose code this machine runs, such as x86-64-v3")
    options = parser.parse_args()
    forms = options.form or [Form(bits, block, True) for bits in (4, 8) for block in (32, 64, 128)] + [Form(4, 32, False)]
    head = "us, GB/s, of the bound (by least times)"
    print(f"{headline()}\n\n| weights, block, operand | MB | cold: {head} | warm: {head} |\n|---|---|---|---|", flush=True)
    for form in forms:
        cold, warm = (measure(form, options.depth, options.channels, cold_bytes=size, rounds=options.rounds, target_name=options.target)
                      for size in (options.cold_megabytes << 20, 0))
        print(f"| int{form.bits}, {form.block}, {'quantized' if form.quantized else 'float'} | {warm.size_bytes / 1e6:.2f} | {cold.cell} | {warm.cell} |",
              flush=True)


if __name__ == "__main__":
    main()
