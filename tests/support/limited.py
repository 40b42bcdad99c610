"""Runs the command line in processes with bounds on time and memory, quickly enough for hundreds of models.

    with Server() as server:
        outcome = server.run(["compile", "model.onnx", "-o", "out"], folder)

A server process imports edgecc once. Each command runs in a fork of it, with limits on the address space and the time of
the processor, in a folder of its own that is also where its temporary files go, so that whatever it leaves behind is seen.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 10
"""Seconds of processor time."""
MEMORY_BYTES = 1 << 30
"""Bytes of address space."""
PATIENCE_SECONDS = 120
"""Seconds on the clock, for those that wait instead of working; machines may be busy with other things."""

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit status (negative for a signal), what it printed, its highest resident bytes, its
    seconds of processor time."""

    status: int
    stdout: str
    stderr: str
    peak_bytes: int
    seconds: float = 0.0

    @property
    def killed(self) -> bool:
        """Whether a signal ended it: out of time, or a crash."""
        return self.status < 0


class Server:
    """The process that is forked for every command."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
                       "PYTHONHASHSEED": "0", "COLUMNS": "200"}
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=PATIENCE_SECONDS)

    def run(self, arguments: Sequence[str], folder: Path, *, seconds: int = SECONDS, memory: int = MEMORY_BYTES) -> Outcome:
        """Runs `edgecc ARGUMENTS` in `folder`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        order = {"arguments": list(arguments), "folder": str(folder), "seconds": seconds, "memory": memory}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        return Outcome(**json.loads(self.process.stdout.readline()))


def _serve() -> None:
    import onnx.reference  # noqa: F401  (heavy packages that commands import when they run)

    import edgecc.api
    import edgecc.cli
    import edgecc.cli.check
    import edgecc.cli.compile
    import edgecc.cli.inspect
    import edgecc.cli.run
    import edgecc.cli.verify

    edgecc.api.resolve_target("generic-c")
    with contextlib.redirect_stdout(io.StringIO()):
        edgecc.cli.main(["explain", "E110"])  # the first command imports what the command line needs
    gc.freeze()  # forks collect nothing of what they share with this process, so that its pages need not be copied
    for line in sys.stdin:
        print(json.dumps(_forked(json.loads(line))), flush=True)


def _forked(order: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _become(order, out.fileno(), err.fileno())
        _, status, usage = os.wait4(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "backslashreplace"))
    return {"status": os.waitstatus_to_exitcode(status), "stdout": texts[0], "stderr": texts[1],
            "peak_bytes": usage.ru_maxrss * 1024, "seconds": usage.ru_utime + usage.ru_stime}


def _become(order: dict[str, Any], out: int, err: int) -> None:
    """The command, in the child."""
    status = 125
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.chdir(order["folder"])
        os.environ["TMPDIR"] = order["folder"]
        tempfile.tempdir = order["folder"]
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (order["memory"], order["memory"]))
        resource.setrlimit(resource.RLIMIT_CPU, (order["seconds"], order["seconds"]))
        signal.alarm(PATIENCE_SECONDS)
        from edgecc.cli import main

        status = main(order["arguments"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
