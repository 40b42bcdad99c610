"""What a back end needs besides edgecc itself, and the one error that says how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edgecc.errors import EdgeccError


@dataclass(frozen=True)
class Requirement:
    """A Python package or a program.

    Attributes:
        name: the module that is imported, or the program that is called.
        purpose: what for, in a few words.
        install: the command that installs it.
        kind: which of the two it is.
    """

    name: str
    purpose: str
    install: str
    kind: Literal["package", "program"] = "package"

    @property
    def is_installed(self) -> bool:
        """Whether it is there. Imports nothing of the package."""
        if self.kind == "program":
            return shutil.which(self.name) is not None
        return importlib.util.find_spec(self.name.partition(".")[0]) is not None

    def found(self) -> str:
        """The version of the package, or the path of the program; "" where it is missing. Reads the records of all packages."""
        if self.kind == "program":
            return shutil.which(self.name) or ""
        if not self.is_installed:
            return ""
        top = self.name.partition(".")[0]
        distributions = importlib.metadata.packages_distributions().get(top, ())
        return importlib.metadata.version(distributions[0]) if distributions else "installed"


def check_requirements(requirements: Iterable[Requirement], what: str) -> None:
    """Raises E400, naming everything that is missing with the commands that install it; `what` needs it."""
    missing = [requirement for requirement in requirements if not requirement.is_installed]
    if missing:
        commands = tuple(dict.fromkeys(requirement.install for requirement in missing))
        raise EdgeccError("E400", f"{what} needs {', '.join(r.name for r in missing)}, which {'are' if len(missing) > 1 else 'is'} not installed",
                          hint="; ".join(commands), details=[f"{r.name}: {r.purpose}" for r in missing])
