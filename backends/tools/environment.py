"""Python environments of vendors' tools, whose packages want other versions than edgecc or are too large for everybody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgecc.backends.requirements import Requirement
from edgecc.errors import EdgeccError, printable

FOLDER_VARIABLE = "EDGECC_TOOLS"
COMPLETE = "edgecc-complete"
"""The file that marks an environment whose creation came to its end."""


@dataclass(frozen=True)
class ToolEnvironment(Requirement):
    """An environment with one tool in it.

    Attributes:
        folder: what it is called: by `edgecc install`, and below the folder of all environments.
        variable: of the process's environment, which may name another folder with an environment.
        packages: arguments of each call of `pip install` that makes it, in order.
        size: what it takes on the disk, for people.
    """

    folder: str = ""
    variable: str = ""
    packages: tuple[tuple[str, ...], ...] = ()
    size: str = ""

    def interpreter(self) -> Path | None:
        """Its Python; None where there is no such environment, or only a part of one."""
        given = os.environ.get(self.variable)
        folder = Path(given) if given else default_folder(self.folder)
        found = folder / "bin" / "python"
        return found if found.is_file() and (given or (folder / COMPLETE).is_file()) else None

    @property
    def is_installed(self) -> bool:
        """Whether there is such an environment, whole."""
        return self.interpreter() is not None

    def found(self) -> str:
        """The path of its Python, or ""."""
        return str(self.interpreter() or "")

    def create(self, tell: Callable[[str], None]) -> Path:
        """Makes the environment anew and returns its folder; `tell` hears of each step.

        Raises: EdgeccError E401 with what pip says.
        """
        folder = default_folder(self.folder)
        if folder.exists() and not (folder / "pyvenv.cfg").is_file():
            raise EdgeccError("E401", "the folder is not one of an environment, and is left alone", where=printable(str(folder)))
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        tell(f"environment {folder}, about {self.size}")
        _call([sys.executable, "-m", "venv", str(folder)])
        for arguments in self.packages:
            tell(f"pip install {' '.join(arguments)}")
            _call([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments])
        (folder / COMPLETE).write_text("".join(f"{' '.join(each)}\n" for each in self.packages), encoding="utf-8")
        return folder


def default_folder(name: str) -> Path:
    """Where an environment lies if nothing else is said: below EDGECC_TOOLS, or the user's folder for data."""
    root = os.environ.get(FOLDER_VARIABLE)
    if root:
        return Path(root) / name
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "edgecc" / name


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise EdgeccError("E401", f"{printable(' '.join(command[1:4]))} failed", where=printable(command[0]),
                          details=[printable(line, 300) for line in said[-5:]])
