"""Loop passes, one file each. Imported as edgecc.passes.loop, never by its top-level path.

Importing this package loads every module in the folder, so a new pass is one new file.
"""

import importlib
import pkgutil

if __name__ != "edgecc.passes.loop":
    raise ImportError("import edgecc.passes.loop; the folder at the root of the repository is not a package of its own")

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

from edgecc.passes.loop.base import LOOP_PASSES, LoopPass, apply_schedule, parse_loop_pass  # noqa: E402

__all__ = ["LOOP_PASSES", "LoopPass", "apply_schedule", "parse_loop_pass"]
