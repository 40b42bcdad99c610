"""Runs a batch of networks, which share one program, in a process of their own."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgecc.artifact.process import DrivenProcess
from edgecc.artifact.runner import failed_status
from edgecc.artifact.strings import piped, read_piped
from edgecc.artifact.toolchain import BuildOptions, Compiler, build_executable
from edgecc.errors import EdgeccError
from edgecc.ir.types import Array

BATCH_RUNNER = Path(__file__).parent / "batch_runner.c"
RUN_TIMEOUT_SECONDS = 60.0


def build_batch(compiler: Compiler, files: Mapping[str, bytes], sources: Sequence[str], folder: Path,
                flags: Sequence[str] = ("-O1",)) -> Path:
    """Writes the files of a batch to a folder and builds its program there.

    Raises: EdgeccError E401 where the compiler fails.
    """
    for name, content in files.items():
        (folder / name).write_bytes(content)
    program = folder / "program"
    build_executable(compiler, folder, sources, program, BuildOptions(flags=(*flags, "-DEDGECC_NO_GET_MODEL")),
                     main=(BATCH_RUNNER,))
    return program


class BatchExecutor:
    """The program of a batch; one that died is started again by the next run.

    Args:
        command: the emulator with its arguments, if any, and the program.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._process: DrivenProcess | None = None

    def run(self, number: int, inputs: Sequence[Array], outputs: Sequence[Array],
            open_ranks: Sequence[int] = ()) -> list[tuple[int, ...]]:
        """One inference of network `number`: reads `inputs` and fills `outputs`, all dense.

        `open_ranks` are the ranks of the outputs of a network whose shapes differ from run to run. Inputs and outputs then are
        as large as they can be, and what is returned are the shapes of the outputs; else that is empty.
        Raises: EdgeccError E401 where the run crashes, hangs, fails, or writes outside of its memory.
        """
        if self._process is None:
            self._process = DrivenProcess(self._command, RUN_TIMEOUT_SECONDS)
        process = self._process
        try:
            with process.watch("running"):
                process.write(b"".join([struct.pack("=I", number), *(piped(array) for array in inputs)]))
                (status,) = struct.unpack("=i", process.read(4))
                shapes: list[tuple[int, ...]] = []
                if status == 0:
                    for position, array in enumerate(outputs):
                        if open_ranks:
                            rank = open_ranks[position]
                            shapes.append(struct.unpack(f"={rank}q", process.read(8 * rank)))
                        read_piped(array, process.read, shapes[-1] if open_ranks else None)
        except EdgeccError:
            self.close()
            raise
        if status:
            raise failed_status(status)
        return shapes

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.close()
            self._process = None
