"""What a figure was measured on: processor, load, commit, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import edgecc

ROOT = Path(__file__).resolve().parents[1]


def headline() -> str:
    """One line that belongs above every table of figures."""
    return (f"{_processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start; "
            f"edgecc {edgecc.__version__} at {_commit()}, Python {platform.python_version()}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "an unknown commit"
