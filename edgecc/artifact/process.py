"""Processes that are driven through pipes: a compiled model as a program of its own, workers that measure."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgecc.artifact.toolchain import trimmed
from edgecc.errors import EdgeccError, printable

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


class DrivenProcess:
    """A program that takes commands from its standard input and answers on its standard output.

    Args:
        command: an emulator with its arguments, if any, and the program.
        timeout: seconds after which a silent process is stopped.

    Attributes:
        name: what to call the program in messages.

    Raises: EdgeccError E400 where the command cannot be started.
    """

    def __init__(self, command: Sequence[str], timeout: float) -> None:
        self.name = Path(command[0]).name if len(command) > 1 else "the compiled model"
        self._timeout = timeout
        self._expired = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close())
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        except OSError as error:
            self._log.close()
            raise EdgeccError("E400", f"{printable(str(command[0]))} cannot be started: {error.strerror or error}") from None

    def write(self, data: bytes | memoryview) -> None:
        """Sends bytes."""
        pipe = self._process.stdin
        if pipe is None or pipe.closed:
            raise EdgeccError("E401", f"{self.name} has been closed")
        pipe.write(data)
        pipe.flush()

    def read(self, size: int) -> bytes:
        """Receives exactly `size` bytes. Raises: EOFError where the process ends before that."""
        pipe = self._process.stdout
        data = b"" if pipe is None else pipe.read(size)
        if len(data) < size:
            raise EOFError
        return data

    @contextlib.contextmanager
    def watch(self, doing: str) -> Iterator[None]:
        """Stops the process when the time is over, and turns its end into an EdgeccError E401."""
        timer = threading.Timer(self._timeout, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError, ValueError):
            raise self._died(doing) from None
        finally:
            timer.cancel()

    def close(self) -> None:
        """Ends the process."""
        end_process(self._process)
        self._log.close()

    def _expire(self) -> None:
        self._expired = True
        self._process.kill()

    def _died(self, doing: str) -> EdgeccError:
        """Why the process is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        if self._expired:
            return EdgeccError("E401", f"{self.name} was silent for {self._timeout:g} s while {doing} and was stopped")
        code = self._process.returncode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return EdgeccError("E401", f"{self.name} was ended by {signal.Signals(-code).name} while {doing}",
                                   details=self._output())
        return EdgeccError("E401", f"{self.name} ended (exit status {code}) while {doing}", details=self._output())

    def _output(self) -> list[str]:
        self._log.seek(0)
        return trimmed(self._log.read().decode("utf-8", "replace"))
