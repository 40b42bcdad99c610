"""Modelled share of peak of the inner loops on Cortex-A76, without the hardware.

    python -m benches.inner_loops

Compiles kernels with zig, takes the block with the most multiply-adds, and lets llvm-mca (Debian
package llvm-19 or later) model it as an endless loop on Neoverse N1, the server twin of the A76
(llvm-mca has no model of the A76 itself). Peak is two 128-bit multiply-adds a cycle. The cost of
memory, of the start and end of loops and of remainders is not in these figures.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

from rich.console import Console
from rich.table import Table

from tests.support.assembly import A76_FLAGS, CASES, convolution, main_block

MCA = ("llvm-mca-21", "llvm-mca-20", "llvm-mca-19")
MORE = {
    "first layer 3 to 32, 3x3 stride 2, planes": convolution(3, 32, 112, 3, 1, stride=2),
    "depthwise 3x3, 96 channels, 28x28": convolution(96, 96, 28, 3, 1, 96),
}


def cycles(block: list[str], tool: str) -> float:
    """Modelled cycles of one iteration: the slope between two numbers of iterations."""

    def total(iterations: int) -> int:
        result = subprocess.run([tool, "-mtriple=aarch64", "-mcpu=neoverse-n1", f"-iterations={iterations}",
                                 "-instruction-info=false", "-resource-pressure=false"],
                                input="\n".join(block), capture_output=True, text=True, check=True)
        return int(re.search(r"Total Cycles:\s+(\d+)", result.stdout)[1])  # type: ignore[index]

    return (total(50) - total(10)) / 40


def main() -> int:
    """Prints the table."""
    tool = next((name for name in MCA if shutil.which(name)), None)
    if tool is None:
        print("llvm-mca 19 or later is not installed: apt-get install llvm-19", file=sys.stderr)
        return 4
    table = Table("kernel", "instructions", "multiply-adds", "cycles (modelled)", "share of peak", title="cortex-a76, modelled as neoverse-n1")
    for name, case in (CASES | MORE).items():
        block = [line for line in main_block(case, "cortex-a76", A76_FLAGS, "fmla") if not line.startswith((".", "ret"))]
        multiply_adds = sum(line.startswith("fmla") for line in block)
        taken = cycles(block, tool)
        table.add_row(name, str(len(block)), str(multiply_adds), f"{taken:.1f}", f"{multiply_adds / 2 / taken:.1%}")
    Console(width=120).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
