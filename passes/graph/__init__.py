"""Imported as edgecc.passes.graph, never by its top-level path."""

if __name__ != "edgecc.passes.graph":
    raise ImportError("import edgecc.passes.graph; the folder at the root of the repository is not a package of its own")

import importlib
import pkgutil

for _module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
    importlib.import_module(f"{__name__}.{_module.name}")
