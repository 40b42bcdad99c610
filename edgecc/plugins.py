"""What installed packages add to edgecc: entry points of a group, by which back ends, passes and targets are found.

    [project.entry-points."edgecc.backends"]
    acme-npu = "acme_edgecc.backend:AcmeNpu"

Listing them imports nothing; `load` imports one.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import sys
from dataclasses import dataclass

from edgecc.errors import EdgeccError, printable


@dataclass(frozen=True)
class Plugin:
    """One entry point.

    Attributes:
        group: "edgecc.backends", "edgecc.passes" or "edgecc.targets".
        name: its name in the group; value: what it refers to, as "module" or "module:attribute".
        package: the installed package it comes from.
    """

    group: str
    name: str
    value: str
    package: str

    def load(self) -> object:
        """Imports the module and returns what the entry point refers to.

        Raises: EdgeccError E404 with the reason, whatever the import raises.
        """
        module, _, attributes = self.value.partition(":")
        try:
            found: object = importlib.import_module(module)
            for attribute in filter(None, attributes.split(".")):
                found = getattr(found, attribute)
        except (Exception, SystemExit) as error:  # somebody else's code; what it does must not end ours
            raise self.problem(f"cannot be imported: {type(error).__name__}: {printable(str(error))}") from error
        return found

    def problem(self, message: str) -> EdgeccError:
        """The error that says what is wrong with it."""
        return EdgeccError("E404", f"{printable(self.name)} ({printable(self.value)}) of the package {printable(self.package)} {message}",
                           where=self.group, hint=f"repair it, or remove it: pip uninstall {printable(self.package)}")


def plugins(group: str) -> tuple[Plugin, ...]:
    """The entry points of a group, sorted, each once."""
    return _plugins(group, tuple((folder, _changed(folder)) for folder in sys.path))


@functools.lru_cache(maxsize=8)
def _plugins(group: str, folders: tuple[tuple[str, int], ...]) -> tuple[Plugin, ...]:
    """Those of the packages in the folders of sys.path, of which each was changed at a time: reading all records takes milliseconds."""
    found = {Plugin(group, entry.name, entry.value, entry.dist.name if entry.dist is not None else entry.module)
             for entry in importlib.metadata.entry_points(group=group)}
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.value, plugin.package)))


def _changed(folder: str) -> int:
    """When something was added to a folder, or 0 where there is none."""
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0
