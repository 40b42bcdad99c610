"""Calls a worker in a tool's environment: a request and files in, an answer and files out.

The worker runs in a folder of its own that is gone afterwards, and sees two modules of edgecc: itself and the protocol.
Its environment variables are fixed ones, so that equal requests give equal files.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecc.backends.requirements import check_requirements
from edgecc.backends.tools import protocol
from edgecc.backends.tools.environment import ToolEnvironment
from edgecc.errors import EdgeccError, printable
from edgecc.ir.types import Array

SECONDS = 1800
"""How long a worker may take."""


@dataclass(frozen=True)
class Answer:
    """What a worker leaves: the fields of its answer, files by name, and everything it printed."""

    fields: Mapping[str, Any]
    files: Mapping[str, bytes]
    log: str


def call_worker(environment: ToolEnvironment, worker: Path, request: Mapping[str, Any], files: Mapping[str, bytes],
                arrays: Mapping[str, Array] | None = None) -> Answer:
    """Runs a worker once.

    Args:
        worker: the file of its module, below edgecc.backends.
        files: by name, which the request mentions. arrays: become inputs.npz, by name.
    Raises: EdgeccError E400 where the environment is missing, E401 with what the worker printed where it fails.
    """
    check_requirements([environment], f"{environment.purpose}: the tool")
    with tempfile.TemporaryDirectory(prefix="edgecc-") as name:
        folder = Path(name)
        for module in (worker, Path(protocol.__file__)):
            copy = folder / "edgecc" / "backends" / module.parent.name / module.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(module.read_bytes())
        for file, content in files.items():
            (folder / file).write_bytes(content)
        if arrays is not None:
            np.savez(folder / "inputs.npz", allow_pickle=False, **arrays)
        (folder / protocol.REQUEST).write_text(json.dumps(dict(request)), encoding="utf-8")
        status, log = _run([environment.found(), "-m", f"edgecc.backends.{worker.parent.name}.{worker.stem}"], folder)
        answer = folder / protocol.ANSWER
        if status != 0 or not answer.is_file():
            lines = [line for line in log.splitlines() if line.strip()]
            # What tools say of their progress is marked so: "D RKNN: ...", "I ...".
            telling = [line for line in lines if not line.lstrip().startswith(("D ", "I "))] or lines
            ended = "did not finish" if status is None else "failed" if status >= 0 else f"crashed (signal {-status})"
            raise EdgeccError("E401", f"{environment.name} {ended}", details=[printable(line, 300) for line in telling[-8:]])
        results = {path.name: path.read_bytes() for path in sorted((folder / protocol.RESULTS).iterdir())}
        return Answer(json.loads(answer.read_text(encoding="utf-8")), results, log)


def _run(command: list[str], folder: Path) -> tuple[int | None, str]:
    """The exit status, None where it was stopped, and what it printed; progress bars leave their last state."""
    log = folder / "log"
    variables = {"PATH": os.defpath, "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8", "PYTHONHASHSEED": "0",
                 "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        try:
            status: int | None = subprocess.run(command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=output,
                                                stderr=subprocess.STDOUT, timeout=SECONDS, check=False).returncode
        except subprocess.TimeoutExpired:
            status = None
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8", errors="replace"))
    return status, re.sub(r"[^\n]*\r", "", text)
