"""The machine that figures are taken on: processor, measured peak, and how busy others keep it."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgecc.artifact.toolchain import Compiler, build_executable, trimmed
from edgecc.errors import EdgeccError

PEAK_SOURCE = Path(__file__).parent / "peak.c"
PEAK_TRIES = 3


@dataclass(frozen=True)
class Machine:
    """What figures were taken on.

    Attributes:
        processor: the model's name.
        cores: how many this process may use.
        peak_flops: measured float32 operations a second of one core, a multiply-add counting two.
    """

    processor: str
    cores: int
    peak_flops: float

    def __str__(self) -> str:
        return f"{self.processor}, {self.cores} cores, multiply-add peak of one core {self.peak_flops * 1e-9:.1f} GFLOP/s"


def measure_machine(compiler: Compiler) -> Machine:
    """The machine at hand; compiles and runs a small program.

    Raises: EdgeccError E401 where that fails.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)
    return Machine(processor_name(), cores, measure_peak(compiler))


def measure_peak(compiler: Compiler) -> float:
    """Float32 operations a second of one core, in vectors of the compiler's target.

    Raises: EdgeccError E401.
    """
    with tempfile.TemporaryDirectory(prefix="edgecc-peak-") as scratch:
        program = build_executable(compiler, PEAK_SOURCE.parent, (PEAK_SOURCE.name,), Path(scratch) / "peak").output
        best = 0.0
        for _ in range(PEAK_TRIES):
            done = subprocess.run([program], capture_output=True, text=True, errors="replace", timeout=60, check=False)
            try:
                best = max(best, float(done.stdout))
            except ValueError:
                raise EdgeccError("E401", f"the measurement of the peak failed (exit status {done.returncode})",
                                  details=trimmed(done.stderr or done.stdout)) from None
    return best * 1e9


def processor_name() -> str:
    """The processor's name from /proc/cpuinfo, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def busy_seconds() -> float | None:
    """Processor time used since the start on the whole machine, by all processes and by other guests of its host.

    None where there is no /proc/stat. Steps are a hundredth of a second. Source: man 5 proc: user, nice, system, idle,
    iowait, irq, softirq, steal; time of guests is part of user and nice.
    """
    try:
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    user, nice, system, _, _, irq, soft_irq, steal = fields
    return (user + nice + system + irq + soft_irq + steal) / os.sysconf("SC_CLK_TCK")
