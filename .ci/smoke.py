"""Uses an installed edgecc from outside of its repository: every module imports and data files are there."""

import importlib
import pkgutil
from pathlib import Path

import edgecc
from edgecc.targets.schema import load_target

assert Path(edgecc.__file__).is_relative_to(Path(__file__).parent / "venv"), edgecc.__file__
names = [module.name for module in pkgutil.walk_packages(edgecc.__path__, "edgecc.") if module.name != "edgecc.__main__"]
for name in names:
    importlib.import_module(name)
load_target("cortex-a76")
print(f"edgecc from {edgecc.__file__}: {len(names)} modules import")
