"""Runs a TOSA file in the reference model, in a process of its own: what is wrong with a graph may end the process.

    python -m edgecc.backends.tosa.simulate network.tosa inputs.npz outputs.npz
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecc.backends.requirements import check_requirements
from edgecc.backends.tosa.writer import MODEL
from edgecc.errors import EdgeccError, printable
from edgecc.ir.types import Array

SECONDS = 600
"""How long it may take."""


def simulate(data: bytes, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a file, in order. Raises: EdgeccError E400, E401 with what the reference model says."""
    check_requirements([MODEL], "running TOSA files")
    with tempfile.TemporaryDirectory() as name:
        model, given, made = (Path(name) / file for file in ("network.tosa", "inputs.npz", "outputs.npz"))
        model.write_bytes(data)
        np.savez(given, *inputs, allow_pickle=False)
        command = [sys.executable, "-m", __name__, str(model), str(given), str(made)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise EdgeccError("E401", f"the TOSA reference model did not finish in {SECONDS} s") from None
        if done.returncode != 0 or not made.is_file():
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip() and not line.startswith("WARNING")]
            raise EdgeccError("E401", f"the TOSA reference model ended with {done.returncode}", details=[printable(line, 300) for line in said[-5:]])
        with np.load(made, allow_pickle=False) as stored:
            return [stored[key] for key in stored.files]


def main(model: str, given: str, made: str) -> None:
    """The other process."""
    reference: Any = importlib.import_module("tosa_reference_model")
    with np.load(given, allow_pickle=False) as stored:
        inputs = [stored[key] for key in stored.files]
    outputs, status = reference.run(Path(model).read_bytes(), inputs)
    if status != reference.GraphStatus.TOSA_VALID:
        sys.exit(f"the graph is {status}")
    np.savez(made, *outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
