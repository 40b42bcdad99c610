"""Modelled share of peak of the inner loops, on cores that need not be at hand.

    python -m benches.inner_loops [--targets cortex-a76,cortex-a72] [--compilers gcc,clang,zig] [--kernels TEXT]

Compiles kernels with each compiler that is installed, takes the innermost loop with the most
multiply-adds, and lets llvm-mca (Debian package llvm-19 or later) model it as an endless loop. Peak is
the rate of multiply-adds that the target file states. llvm-mca has no model of the Cortex-A76, for
which its server twin Neoverse N1 stands in (given cortex-a76 it silently takes Cortex-A57), and none of
the x86-64 levels, for which Haswell and Skylake server stand in. Its models of the cores that issue in
order are off in both directions (Cortex-A53: whatever follows a multiply-add waits for it; Cortex-A55: two
128-bit multiply-adds and a 128-bit load start in one cycle), so that their tables have a second share, by
the issue rules of benches/in_order.py. The cost of memory, of the start and end of loops and of remainders
is not in these figures.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys

from rich.console import Console
from rich.table import Table

from benches import in_order
from edgecc.targets.schema import load_target
from tests.support.assembly import CASES, COMPILERS, HALF_CASES, SIGNED_CASES, Loop, main_loop, scheduled

MCA = ("llvm-mca-21", "llvm-mca-20", "llvm-mca-19")
MODELS = {
    "cortex-a76": "neoverse-n1", "cortex-a72": "cortex-a72", "cortex-a55": "cortex-a55", "cortex-a53": "cortex-a53",
    "x86-64-v3": "haswell", "x86-64-v4": "skylake-avx512",
}


def cycles(loop: Loop, target: str, tool: str) -> float:
    """Modelled cycles of one iteration: the slope between two numbers of iterations."""

    def total(iterations: int) -> int:
        result = subprocess.run([tool, f"-mtriple={load_target(target).architecture}", f"-mcpu={MODELS[target]}", f"-iterations={iterations}",
                                 "-instruction-info=false", "-resource-pressure=false"],
                                input="\n".join(loop.lines), capture_output=True, text=True, check=True)
        return int(re.search(r"Total Cycles:\s+(\d+)", result.stdout)[1])  # type: ignore[index]

    return (total(50) - total(10)) / 40


def main() -> int:
    """Prints a table for each target."""
    parser = argparse.ArgumentParser(description="modelled share of peak of inner loops")
    parser.add_argument("--targets", default=",".join(MODELS))
    parser.add_argument("--compilers", default=",".join(COMPILERS))
    parser.add_argument("--kernels", default="", help="only kernels whose name holds this text")
    arguments = parser.parse_args()
    tool = next((name for name in MCA if shutil.which(name)), None)
    if tool is None:
        print("llvm-mca 19 or later is not installed: apt-get install llvm-19", file=sys.stderr)
        return 4
    for target in arguments.targets.split(","):
        columns = ("kernel", "compiler", "instructions", "multiply-adds", "a multiply-add", "stack", "cycles (modelled)", "share of peak")
        core = load_target(target).core
        table = Table(*columns, *(["share by issue rules"] if core.in_order else []), title=f"{target}, modelled as {MODELS[target]}")
        for name, case in {**CASES, **(HALF_CASES if load_target(target).has("fp16") else {}),
                           **(SIGNED_CASES if load_target(target).has("dotprod") else {})}.items():
            if arguments.kernels not in name:
                continue
            function = scheduled(case, target)
            for compiler in arguments.compilers.split(","):
                try:
                    loop = main_loop(function, target, compiler)
                except LookupError:
                    continue
                taken = cycles(loop, target, tool)
                needed = loop.multiply_adds / core.fma_per_cycle
                rules = [f"{needed / in_order.cycles(loop.lines, target=target):.1%}"] if core.in_order else []
                table.add_row(name, compiler, str(len(loop.lines)), str(loop.multiply_adds), f"{len(loop.lines) / loop.multiply_adds:.2f}",
                              str(loop.stack_accesses), f"{taken:.1f}", f"{needed / taken:.1%}", *rules)
        Console(width=150).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
