"""Ending a process that is driven through pipes."""

from __future__ import annotations

import contextlib
import subprocess

GRACE_SECONDS = 1.0


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Closes the pipes, which tells the process to end, and kills it where it does not within `GRACE_SECONDS`."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
