"""Kernels: how each operator becomes a loop program.

Importing this package imports every module beside it, so that a new kernel is one new file.
"""

import importlib
import pkgutil

for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
