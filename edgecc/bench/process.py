"""A worker process from the outside (see edgecc/bench/worker.py)."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Self

from edgecc.artifact.process import end_process
from edgecc.artifact.toolchain import trimmed
from edgecc.errors import EdgeccError, printable

WORKER = Path(__file__).parent / "worker.py"
ENGINES = Path(__file__).parent / "engines"
TIMEOUT_SECONDS = 600.0

PACKAGES = {
    "onnxruntime": ("onnxruntime",), "openvino": ("openvino",), "ncnn": ("ncnn", "pnnx"), "mnn": ("MNN",),
    "tvm": ("apache-tvm", "onnx"), "iree": ("iree-base-compiler", "iree-base-runtime", "onnx"),
}
"""What pip installs for each engine."""

PEERS = tuple(PACKAGES)
"""Engines to compare with, by their names on the command line."""


class EngineError(Exception):
    """An engine cannot run a model; the message says why."""


class Worker:
    """One engine in a process of its own.

    Args:
        engine: "edgecc" or one of `PEERS`.
        python: the interpreter that has the engine's package; None for this one.
        timeout: seconds after which a silent process is stopped.
    Raises: EdgeccError E400 where the interpreter or the package is missing.
    """

    def __init__(self, engine: str, python: str | None = None, timeout: float = TIMEOUT_SECONDS) -> None:
        self.engine = engine
        self._timeout = timeout
        environment = dict(os.environ)
        own = python is None or engine == "edgecc"
        if own:
            # edgecc's own engine imports edgecc, from wherever this process has it.
            environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close())
        try:
            # -P: files beside the worker are called like the packages they import.
            self._process = subprocess.Popen([sys.executable if own else str(python), "-P", str(WORKER)], stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE, stderr=self._log, env=environment)
        except OSError as error:
            self._log.close()
            raise EdgeccError("E400", f"{printable(str(python))} cannot be started: {error.strerror or error}") from None
        try:
            answer = self.ask({"engine": str(ENGINES / f"{engine}.py")}, package_missing=True)
        except EngineError as error:
            self.close()
            raise EdgeccError("E400", f"{engine} cannot be used: {error}") from None
        except BaseException:
            self.close()
            raise
        self.version: str = answer["version"]

    def ask(self, request: dict[str, Any], *, package_missing: bool = False) -> dict[str, Any]:
        """One request and its answer.

        Raises: EngineError where the engine reports an error, or dies; EdgeccError E400 with `package_missing` where its
        package is not installed.
        """
        timer = threading.Timer(self._timeout, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            answer = self._exchange(json.dumps(request))
        finally:
            timer.cancel()
        if "error" in answer:
            if package_missing and answer["missing"] is not None:
                raise EdgeccError("E400", f"{self.engine} is not installed: {printable(answer['error'])}",
                                  hint=f"pip install {' '.join(PACKAGES.get(self.engine, (self.engine,)))}; --python names "
                                       "another interpreter that has it")
            raise EngineError(printable(answer["error"], 400))
        return answer

    def _exchange(self, line: str) -> dict[str, Any]:
        sink, source = self._process.stdin, self._process.stdout
        if sink is None or source is None:
            raise EngineError("the process has no pipes")
        try:
            sink.write(line.encode() + b"\n")
            sink.flush()
            answer = source.readline()
            return dict(json.loads(answer))
        except (OSError, ValueError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._log.seek(0)
            said = trimmed(self._log.read().decode("utf-8", "replace"))[-3:]
            raise EngineError(f"its process ended (status {self._process.returncode}) {' '.join(said)}".strip()) from None

    def close(self) -> None:
        """Ends the process."""
        end_process(self._process)
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

